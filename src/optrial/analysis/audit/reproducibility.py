"""E, second half: whether runs differ by their optimizers alone, and can be repeated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.errors import counted
from optrial.records import Record
from optrial.spec import HASHED_STEPS, Certificate, RunFacts, RunSpec


def _stacked(context: Context) -> bool:
    return any(record.width > 1 for record in context.ended)


def _has_dropout(context: Context) -> bool:
    return any(
        arguments.get("dropout") or arguments.get("input_dropout")
        for optimizer in context.optimizers
        for arguments in (record.spec.model_arguments for record in optimizer.one_of_each)
    )


def mixed_values(
    records: Iterable[Record], conditions: Callable[[Record], Mapping[str, object]]
) -> dict[str, list[str]]:
    """Return the conditions that differ between runs, with their values as sorted text.

    Args:
        records: the runs.
        conditions: named values of a run; None where a value is not known.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in conditions(record).items():
            if value is not None:
                values.setdefault(name, set()).add(str(value))
    return {name: sorted(texts) for name, texts in values.items() if len(texts) > 1}


def mixed_values_text(mixed: Mapping[str, Sequence[str]]) -> str:
    """Return the conditions that differ, with their values, as evidence."""
    return names(f"{name} is {' or '.join(values)}" for name, values in mixed.items())


@audit_rule("E05", Severity.WARNING, "runs come from different software versions")
def version_drift(context: Context) -> Iterator[Observation]:
    """Defaults and rounding change between versions of a library, so a difference between
    optimizers may be one between versions.

    Source: HeavyBall #58 (results changed with the version).
    Example: torch is 2.7.1 or 2.8.0.
    Fix: train all runs with one version; `--restart` trains everything again.
    """
    drifted = mixed_values(context.ended, lambda record: record.facts.versions or {})
    if drifted:
        newest = {package: versions[-1] for package, versions in drifted.items()}
        old = context.where(
            lambda r: any((r.facts.versions or {}).get(p) != v for p, v in newest.items())
        )
        yield Observation(
            mixed_values_text(drifted),
            {"versions": drifted},
            old,
            context.rerun("train all runs with one version", old),
        )


@audit_rule(
    "E06",
    Severity.ERROR,
    "initial weights differ for the same seed",
    facts=("initial_parameters_sha256",),
)
def unequal_starts(context: Context) -> Iterator[Observation]:
    """Pairing by seed removes the luck of the initial weights from the comparison, but only if
    equal seeds mean equal weights. Otherwise the paired tests are wrong.

    Source: common random numbers; Bouthillier et al. 2021.
    Example: with seed 0, runs of sgd, adam start from different weights.
    Fix: build the model under the run's seed, before anything else draws random numbers.
    """
    groups = _differing(lambda f: f.initial_parameters_sha256, _start, context.ended)
    yield from _unpaired(context, groups, "start from different weights")


@audit_rule(
    "E07",
    Severity.WARNING,
    "data order differs for the same seed",
    facts=("first_batches_sha256",),
)
def unequal_orders(context: Context) -> Iterator[Observation]:
    """Runs with the same seed that see different batches are paired in name only; their differences
    are noisier than necessary.

    Source: common random numbers; Bouthillier et al. 2021.
    Example: with seed 0, runs of sgd, adam see different batches.
    Fix: draw batches from a separate generator that is keyed by the seed.
    """
    long = [r for r in context.ended if r.step >= min(HASHED_STEPS, r.steps)]
    groups = _differing(lambda f: f.first_batches_sha256, _order, long)
    yield from _unpaired(context, groups, "see different batches")


def _differing(
    fact: Callable[[RunFacts], str | None],
    causes: Callable[[RunSpec], Sequence[object]],
    records: Iterable[Record],
) -> list[list[Record]]:
    """Return groups of runs with the same causes of a fact but different values of it.

    Args:
        fact: the fact.
        causes: everything beside the seed that determines it, equal for all runs of a setting with
            one length.
        records: the runs.
    """
    groups: dict[tuple[int, int | None, str], list[Record]] = {}
    of_setting: dict[tuple[str, int], str] = {}
    for record in records:
        if fact(record.facts):
            setting = record.setting_id, record.steps
            if setting not in of_setting:
                of_setting[setting] = json.dumps(causes(record.spec), default=str)
            key = record.seed, record.fold, of_setting[setting]
            groups.setdefault(key, []).append(record)
    return [group for group in groups.values() if len({fact(r.facts) for r in group}) > 1]


def _start(spec: RunSpec) -> list[object]:
    """Return what determines the initial weights of a run, beside its seed."""
    return [spec.model, spec.model_arguments, spec.dataset, spec.rng, spec.precision]


def _order(spec: RunSpec) -> list[object]:
    """Return what determines the data order of a run, beside its seed."""
    hashed = min(HASHED_STEPS, spec.steps)
    batches = [spec.batch_size, spec.sampling, spec.shuffle, spec.drop_last, hashed]
    arguments = spec.model_arguments if spec.rng == "script" else None
    return [spec.dataset_sha256, spec.rng, spec.model, arguments, *batches]


def _unpaired(
    context: Context, groups: Sequence[Sequence[Record]], difference: str
) -> Iterator[Observation]:
    """Report groups of runs that should be paired by their seed but differ."""
    if groups:
        runs = [record for group in groups for record in group]
        first = groups[0]
        optimizers = names(r.optimizer for r in first)
        more = f" (and {counted(len(groups) - 1, 'more group')} of runs)" * (len(groups) > 1)
        yield Observation(
            f"with seed {first[0].seed}, runs of {optimizers} {difference}{more}",
            {"groups": len(groups)},
            runs,
            context.rerun("train these runs again with one version", runs),
        )


@audit_rule(
    "E13",
    Severity.ERROR,
    "a stacked run differs from the same run alone",
    facts=("stack_certificate",),
    concerns=_stacked,
)
def stack_differs(context: Context) -> Iterator[Observation]:
    """Training many runs as one program must not change any of them. The certificate repeats the
    first steps of one run of each rule alone and compares relative losses. Stacks that train for
    less than five seconds or 300 steps are not certified, because it would take too much of their
    time.

    Source: Wang et al. 2021 (HFTA), equivalence tests.
    Example: stacked runs differ from single runs by 0.003; the tolerance is 0.0001.
    Fix: `engine: reference`.
    """
    certificates = {r.run_id: r.facts.stack_certificate for r in context.ended}
    yield from _failing(context, certificates, "stacked runs differ from single runs")


@audit_rule(
    "E14",
    Severity.ERROR,
    "different seeds share dropout masks",
    facts=("first_masks_sha256",),
    concerns=_has_dropout,
)
def shared_masks(context: Context) -> Iterator[Observation]:
    """Seeds stand for independent repetitions. If they share dropout masks, their results move
    together and every interval is too short.

    Source: torch.func documentation, `randomness="same"`.
    Example: seeds 0, 1 of adam drop the same units at step 1 (2 runs).
    Fix: key masks by seed, step and layer.
    """
    by_mask: dict[str, list[Record]] = {}
    for record in context.ended:
        if mask := record.facts.first_masks_sha256:
            by_mask.setdefault(f"{mask} {record.setting_id}", []).append(record)
    shared = [group for group in by_mask.values() if len({r.seed for r in group}) > 1]
    if shared:
        runs = [record for group in shared for record in group]
        seeds = sorted({record.seed for record in shared[0]})
        yield Observation(
            f"seeds {names(map(str, seeds))} of {shared[0][0].optimizer} drop the same units at "
            f"step 1 ({len(runs)} runs)",
            {"seeds": seeds, "runs": len(runs)},
            runs,
            context.remedy("train with the reference engine", {"engine": "reference"}, len(runs)),
        )


@audit_rule(
    "E15",
    Severity.ERROR,
    "a diverged run changed other runs of its stack",
    facts=("stack_neighbour",),
    concerns=_stacked,
)
def neighbour_contaminates(context: Context) -> Iterator[Observation]:
    """If a norm, loss scale or batch statistic is taken over all runs of a stack, one diverging run
    spoils the others. The certificate makes a neighbour diverge and compares.

    Source: Wang et al. 2021 (HFTA).
    Example: if a neighbour diverges, runs change by 0.02; the tolerance is 0.
    Fix: `engine: reference`.
    """
    certificates = {r.run_id: r.facts.stack_neighbour for r in context.ended}
    yield from _failing(context, certificates, "if a neighbour diverges, runs change")


def _failing(
    context: Context, certificates: Mapping[str, Certificate | None], change: str
) -> Iterator[Observation]:
    """Report the runs whose certificate fails."""
    failing = {run_id: c for run_id, c in certificates.items() if c and c.fails}
    bad = context.where(lambda r: r.run_id in failing)
    if bad:
        largest = max(c.difference or math.inf for c in failing.values())
        tolerance = failing[bad[0].run_id].tolerance
        yield Observation(
            f"{change} by {largest:.2g}; the tolerance is {tolerance:.2g}",
            {"difference": largest, "tolerance": tolerance},
            bad,
            context.remedy(
                "train with the reference engine", {"engine": "reference"}, len(bad), bad
            ),
        )


@audit_rule("E16", Severity.WARNING, "precision or device differ between runs")
def flags_differ(context: Context) -> Iterator[Observation]:
    """Products in TF32 or bfloat16 are at least a thousand times less precise than in float32, and
    devices round differently. Small gaps between optimizers may be gaps between number formats.

    Source: Dahl et al. 2023 (AlgoPerf, one environment); PyTorch notes on numerical accuracy.
    Example: float32_products is high or highest.
    Fix: train all runs with one precision on one kind of device.
    """
    mixed = mixed_values(
        context.ended,
        lambda r: {
            "float32_products": r.facts.float32_products,
            "deterministic_algorithms": r.facts.deterministic_algorithms,
            "cudnn_benchmark": r.facts.cudnn_benchmark,
            "precision": r.spec.precision,
            "device": r.facts.gpu or (r.facts.device and r.facts.device.partition(":")[0]),
        },
    )
    if mixed:
        yield Observation(
            mixed_values_text(mixed),
            {"flags": mixed},
            context.ended,
            context.rerun("train all runs in one environment", context.ended),
        )


@audit_rule(
    "E17",
    Severity.ADVICE,
    "repeating a step gives different numbers",
    facts=("replicate_difference",),
)
def not_deterministic(context: Context) -> Iterator[Observation]:
    """Some operations add numbers in an order that varies. The resulting drift is part of the noise
    between runs, and explains why a number cannot be reproduced exactly.

    Source: PyTorch notes on reproducibility.
    Example: repeating two steps changed their loss by up to 0.0004.
    Fix: train on the CPU, or with deterministic algorithms.
    """
    moved = context.where(lambda record: record.facts.replicate_difference)
    if moved:
        drift = max(abs(record.facts.replicate_difference or 0.0) for record in moved)
        yield Observation(
            f"repeating two steps changed their loss by up to {drift:.2g}",
            {"drift": drift},
            moved,
            context.remedy("report the size of the drift"),
        )
