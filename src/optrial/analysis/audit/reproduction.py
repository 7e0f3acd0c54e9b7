"""E, last third: whether runs differ by their optimizers alone, and not by each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record
from optrial.spec import Certificate, RunFacts

__all__ = ["REPRODUCTION_RULES"]

HASHED_STEPS = 10  # whose batches are hashed; a shorter run has another hash


def _stacked(context: Context) -> bool:
    return any(record.width > 1 for record in context.ended)


def _has_dropout(context: Context) -> bool:
    arguments = (record.spec.model_arguments for record in context.records)
    return any(given.get("dropout") or given.get("input_dropout") for given in arguments)


@audit_rule("E05", Severity.WARNING, "runs of one table come from different versions")
def version_drift(context: Context) -> Iterator[Observation]:
    """Defaults and rounding change between versions of a library: a difference between optimizers
    may be one between versions.

    Source: HeavyBall #58 (other results with another version).
    Example: torch 2.7.1 trained 12 runs and 2.8.0 trained 6.
    Fix: train all with one version; `--restart` begins anew.
    """
    seen: dict[str, set[str]] = {}
    for record in context.ended:
        for package, version in (record.facts.versions or {}).items():
            seen.setdefault(package, set()).add(str(version))
    drifted = {package: sorted(found) for package, found in seen.items() if len(found) > 1}
    if drifted:
        newest = {package: found[-1] for package, found in drifted.items()}
        old = [
            r
            for r in context.ended
            if any((r.facts.versions or {}).get(p) != v for p, v in newest.items())
        ]
        yield Observation(
            names(f"{package} {' and '.join(found)}" for package, found in drifted.items()),
            {"versions": drifted},
            old,
            context.rerun("train all runs with one version", old),
        )


def _differing(
    fact: Callable[[RunFacts], str | None], key: Callable[[Record], Any], records: Iterable[Record]
) -> list[list[Record]]:
    """Return the groups of runs that share a key but not the fact that should follow from it."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if fact(record.facts):
            groups.setdefault(json.dumps(key(record), default=str), []).append(record)
    return [group for group in groups.values() if len({fact(r.facts) for r in group}) > 1]


def _start(record: Record) -> list[Any]:
    """What the initial weights of a run follow from."""
    spec = record.spec
    return [spec.seed, spec.model, spec.model_arguments, spec.dataset, spec.rng, spec.precision]


def _order(record: Record) -> list[Any]:
    """What the order of a run's data follows from."""
    spec = record.spec
    batches = [spec.batch_size, spec.sampling, spec.shuffle, spec.drop_last]
    arguments = spec.model_arguments if spec.rng == "script" else None
    return [spec.seed, spec.dataset_sha256, spec.rng, spec.model, arguments, *batches]


@audit_rule(
    "E06",
    Severity.ERROR,
    "initial weights differ for the same seed",
    facts=("initial_parameters_sha256",),
)
def unequal_starts(context: Context) -> Iterator[Observation]:
    """Pairing by seed takes the luck of the initial weights out of the comparison, but only if
    equal seeds mean equal weights. Otherwise the paired tests are wrong.

    Source: common random numbers; Bouthillier et al. 2021.
    Example: with seed 0, sgd and adam start from different weights.
    Fix: build the model under the run's seed, before anything else draws random numbers.
    """
    groups = _differing(lambda f: f.initial_parameters_sha256, _start, context.ended)
    yield from _unpaired(context, groups, "start from different weights")


@audit_rule(
    "E07",
    Severity.WARNING,
    "the order of the data differs for the same seed",
    facts=("first_batches_sha256",),
)
def unequal_orders(context: Context) -> Iterator[Observation]:
    """Runs of one seed that see other batches are paired in name only: their differences have more
    noise than they need.

    Source: common random numbers; Bouthillier et al. 2021.
    Example: with seed 0, sgd and adam see different batches.
    Fix: deal batches by a generator of their own, keyed by the seed.
    """
    long = [r for r in context.ended if r.step >= min(HASHED_STEPS, r.steps)]
    groups = _differing(lambda f: f.first_batches_sha256, _order, long)
    yield from _unpaired(context, groups, "see different batches")


def _unpaired(
    context: Context, groups: Sequence[Sequence[Record]], how: str
) -> Iterator[Observation]:
    """Say how runs that one seed should have paired differ, if there are any."""
    if groups:
        runs = [record for group in groups for record in group]
        yield Observation(
            f"with seed {groups[0][0].seed}, {names(r.optimizer for r in groups[0])} {how} "
            f"({len(groups)} groups of runs)",
            {"groups": len(groups)},
            runs,
            context.rerun("train these runs again, with one version", runs),
        )


@audit_rule(
    "E13",
    Severity.ERROR,
    "a run in a stack is not the run by itself",
    facts=("stack_certificate",),
    concerns=_stacked,
)
def stack_differs(context: Context) -> Iterator[Observation]:
    """Training many runs as one program must not change any of them. The certificate takes the
    first steps of one run of each rule by itself and compares losses, relatively. Stacks that train
    for less than five seconds or 300 steps have none: it would cost too much of their time.

    Source: Wang et al. 2021 (HFTA), equivalence tests.
    Example: stacked runs differ from single ones by 0.003, the tolerance is 0.0001.
    Fix: `engine: reference`.
    """
    certificates = {r.run_id: r.facts.stack_certificate for r in context.ended}
    yield from _failing(context, certificates, "stacked runs differ from single ones")


@audit_rule(
    "E14",
    Severity.ERROR,
    "runs with different seeds share their dropout masks",
    facts=("first_masks_sha256",),
    concerns=_has_dropout,
)
def shared_masks(context: Context) -> Iterator[Observation]:
    """Seeds stand for independent repetitions. If they share dropout noise their results move
    together, and every interval is too short.

    Source: torch.func documentation, `randomness="same"`.
    Example: seeds 0 and 1 of adam drop the same units at step 1.
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
    "a diverged run changed its neighbours in the stack",
    facts=("stack_neighbour",),
    concerns=_stacked,
)
def neighbour_contaminates(context: Context) -> Iterator[Observation]:
    """A norm, a loss scale or a batch statistic taken over all runs of a stack lets one run that
    diverges spoil the others. The certificate lets a neighbour diverge and compares.

    Source: Wang et al. 2021 (HFTA).
    Example: runs change by 0.02 if their neighbour diverges.
    Fix: `engine: reference`.
    """
    certificates = {r.run_id: r.facts.stack_neighbour for r in context.ended}
    yield from _failing(context, certificates, "runs change if their neighbour diverges")


def _failing(
    context: Context, certificates: Mapping[str, Certificate | None], said: str
) -> Iterator[Observation]:
    """Report the runs whose certificate fails."""
    failing = {run_id: c for run_id, c in certificates.items() if c and c.fails}
    bad = context.where(lambda r: r.run_id in failing)
    if bad:
        worst = max(c.difference or math.inf for c in failing.values())
        tolerance = failing[bad[0].run_id].tolerance
        yield Observation(
            f"{said} by {worst:.2g}, the tolerance is {tolerance:.2g}",
            {"difference": worst, "tolerance": tolerance},
            bad,
            context.remedy(
                "train with the reference engine", {"engine": "reference"}, len(bad), bad
            ),
        )


@audit_rule("E16", Severity.WARNING, "precision or device differ between runs")
def flags_differ(context: Context) -> Iterator[Observation]:
    """Products in TF32 or bfloat16 have a thousandth of the precision of float32, and devices round
    differently: small gaps between optimizers may be gaps between number formats.

    Source: Dahl et al. 2023 (AlgoPerf, one environment); PyTorch notes on numerical accuracy.
    Example: float32_products is highest for 12 runs and high for 6.
    Fix: train all with one precision on one kind of device.
    """
    seen: dict[str, set[str]] = {}
    for record in context.ended:
        facts = record.facts
        flags = {
            "float32_products": facts.float32_products,
            "deterministic_algorithms": facts.deterministic_algorithms,
            "cudnn_benchmark": facts.cudnn_benchmark,
            "precision": record.spec.precision,
            "device": facts.device and facts.device.partition(":")[0],
        }
        for name, value in flags.items():
            if value is not None:
                seen.setdefault(name, set()).add(str(value))
    mixed = {name: sorted(values) for name, values in seen.items() if len(values) > 1}
    if mixed:
        yield Observation(
            names(f"{name} is {' and '.join(values)}" for name, values in mixed.items()),
            {"flags": mixed},
            context.ended,
            context.rerun("train all in one environment", context.ended),
        )


@audit_rule(
    "E17",
    Severity.ADVICE,
    "repeating a step gives other numbers",
    facts=("replicate_difference",),
)
def not_deterministic(context: Context) -> Iterator[Observation]:
    """Some operations add numbers in an order that changes from time to time. The drift is part of
    the noise between runs, and worth knowing when a number cannot be reproduced.

    Source: PyTorch notes on reproducibility.
    Example: taking two steps again changed their loss by 0.0004.
    Fix: train on the CPU, or with deterministic algorithms.
    """
    drift = {r.run_id: r.facts.replicate_difference or 0.0 for r in context.ended}
    moved = [r for r in context.ended if drift[r.run_id]]
    if moved:
        most = max(abs(drift[r.run_id]) for r in moved)
        yield Observation(
            f"taking two steps again changed their loss by up to {most:.2g}",
            {"drift": most},
            moved,
            context.remedy("say how large the drift is"),
        )


REPRODUCTION_RULES = (
    version_drift,
    unequal_starts,
    unequal_orders,
    stack_differs,
    shared_masks,
    neighbour_contaminates,
    flags_differ,
    not_deterministic,
)
