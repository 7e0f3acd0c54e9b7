"""A, first half: whether every optimizer was tuned alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.grids import MOST_WIDER, decades, grid_values, spaced, unequal_widths
from optrial.analysis.audit.remedies import (
    POINTS,
    TUNING_SEEDS,
    added_runs,
    equal_search,
    searched,
    trials_needed,
)
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import OptimizerRuns
from optrial.records import Record
from optrial.rules.learning_rates import needs_tuning, update_scale, within_sensible
from optrial.spec import Part

MOST_UNEQUAL = 1.1  # ratio of trials or steps that still counts as equal


@audit_rule("A02", Severity.ERROR, "tuning budgets are unequal")
def unequal_budget(context: Context) -> Iterator[Observation]:
    """The best of more trials is better by chance alone, and a longer search finds better settings.
    Trials and training steps include those of failed runs.

    Source: Sivaprasad et al. 2020; Dahl et al. 2023 (AlgoPerf).
    Example: the number of trials ranges from 3 (sgd, 900 steps) to 15 (adam, 4500 steps).
    Fix: use grids of the same size for all optimizers, or `tune: {sampler: random, trials: N}`.
    """
    for problem in context.problems:
        trials = {o.name: len(o.tried) for o in problem.optimizers}
        steps = {o.name: sum(r.steps for r in o.trials) for o in problem.optimizers}
        if max(trials.values()) == 1:
            continue
        ratio = max(max(n.values()) / max(1, min(n.values())) for n in (trials, steps))
        if ratio > MOST_UNEQUAL:
            most = max(trials, key=trials.__getitem__)
            least = min(steps, key=steps.__getitem__)
            yield Observation(
                f"the number of trials ranges from {trials[least]} ({least}, {steps[least]} steps) "
                f"to {trials[most]} ({most}, {steps[most]} steps)",
                {"trials": trials, "steps": steps},
                problem.trials,
                _equal_trials(context, problem.optimizers),
            )


def _equal_trials(context: Context, optimizers: Sequence[OptimizerRuns]) -> Remedy:
    """Return the remedy of giving every optimizer as many trials as the largest search."""
    most = max(POINTS, *(len(o.tried) for o in searched(context, optimizers)))
    return equal_search(context, optimizers, most, f"tune every optimizer with {most} trials")


@audit_rule("A03", Severity.ERROR, "tuned optimizers are compared with untuned ones")
def tuned_against_default(context: Context) -> Iterator[Observation]:
    """A default learning rate is a guess made for other problems. Comparing it with a tuned one
    measures the tuning. Rules that set their own scale, such as adadelta and prodigy, may keep
    their defaults.

    Source: Schmidt et al. 2021; Wen et al. 2025.
    Example: the learning rate of adam is the best of 5; that of sgd is the default.
    Fix: give the untuned optimizers a grid of the same size.
    """
    for problem in context.problems:
        tuned = {
            _of_group(o, name): values
            for o in problem.optimizers
            for name, values in o.tuned_rates.items()
        }
        default = {name: o for o in problem.optimizers for name in _default_rates(context, o)}
        if tuned and default and context.study.get("optimizers"):
            yield Observation(
                f"the learning rate of {names(tuned)} is the best of "
                f"{max(map(len, tuned.values()))}; that of {names(default)} is the default",
                {"tuned": tuned, "default": list(default)},
                [r for o in {o.name: o for o in default.values()}.values() for r in o.reported],
                _equal_trials(context, problem.optimizers),
            )


def _of_group(optimizer: OptimizerRuns, name: str) -> str:
    """Return the name of an optimizer, with the group whose learning rate is meant."""
    group = name.removesuffix(".times").removesuffix("lr").removesuffix(".")
    return f"{optimizer.name} ({group})" if group else optimizer.name


def _default_rates(context: Context, optimizer: OptimizerRuns) -> Iterator[str]:
    """Yield the optimizer and each group with another rule that has the default rate."""
    entry = context.entry(optimizer)
    if "lr" not in entry and not optimizer.tuned_rates and needs_tuning(optimizer.rule):
        yield optimizer.name
    for group in optimizer.spec.groups:
        rate = f"{group.name}.lr"
        written = context.written(optimizer, rate)
        if group.rule and written is None and needs_tuning(group.rule):
            yield _of_group(optimizer, rate)


@audit_rule("A04", Severity.ERROR, "optimizers of different scale share one learning rate")
def one_rate_for_all(context: Context) -> Iterator[Observation]:
    """SGD moves by the learning rate times the gradient; Adam moves by about the learning rate
    whatever the gradient. The same value therefore means different step lengths, and favours the
    rule that it happens to suit.

    Source: Wen et al. 2025 (blind transfer of hyperparameters); Choi et al. 2019.
    Example: every optimizer has lr 0.001, but their step sizes depend on different quantities: the
    gradient, the learning rate alone.
    Fix: tune the learning rate of each optimizer on its own range.
    """
    for problem in context.problems:
        scales = {
            name: update_scale(rule)
            for o in problem.optimizers
            for name, rule in {
                o.name: o.rule,
                **{_of_group(o, f"{g.name}.lr"): g.rule for g in o.spec.groups if g.rule},
            }.items()
        }
        if rates := _shared_rates(problem.optimizers):
            (rate,) = rates
            quantities = ", ".join(sorted(set(scales.values()) - {""}))
            yield Observation(
                f"every optimizer has lr {rate}, but their step sizes depend on different "
                f"quantities: {quantities}",
                {"lr": rate, "scales": scales},
                problem.compared,
                equal_search(
                    context,
                    problem.optimizers,
                    POINTS,
                    "tune the learning rate of each optimizer on its own range",
                ),
            )


def _shared_rates(optimizers: Sequence[OptimizerRuns]) -> set[Any]:
    """Return the one learning rate of optimizers whose steps have different scales, or nothing."""
    parts = [part for o in optimizers for r in o.one_of_each for part in _parts(r)]
    scales = {update_scale(part.rule) for part in parts} - {""}
    rates = {part.hyperparameters.get("lr") for part in parts}
    return rates if len(rates) == 1 and len(scales) > 1 and rates != {None} else set()


def _parts(record: Record) -> Sequence[Part]:
    """Return the rules of a run: its own, and those of its groups."""
    grouped = (name for group in record.spec.groups for name in group.parameters)
    return record.spec.parts(("", *grouped))


@audit_rule("A05", Severity.WARNING, "too few trials to tune")
def few_trials(context: Context) -> Iterator[Observation]:
    """With fewer than five values of one hyperparameter, or 25 settings of two or more, the best
    trial may be far from the best setting, and farther for one optimizer than for another.

    Source: Godbole et al. 2023, Deep Learning Tuning Playbook; Sivaprasad et al. 2020.
    Example: sgd has 3 of the 5 trials needed.
    Fix: use a finer or wider grid, or tune with `sampler: sobol`.
    """
    for problem in context.problems:
        if all(not o.tuned for o in problem.optimizers):
            yield from _untuned(context, problem.optimizers)
            continue
        needed = {o.name: trials_needed(o.tuned) for o in problem.optimizers if o.tuned}
        lacking = [o for o in problem.optimizers if len(o.tried) < needed.get(o.name, 0)]
        if lacking:
            counts = {o.name: (len(o.tried), needed[o.name]) for o in lacking}
            alike = {count: [n for n in counts if counts[n] == count] for count in counts.values()}
            yield Observation(
                names(
                    f"{names(optimizers)} {'have' if len(optimizers) > 1 else 'has'} "
                    f"{count[0]} of the {count[1]} trials needed" + " each" * (len(optimizers) > 1)
                    for count, optimizers in alike.items()
                ),
                {"trials": {name: list(count) for name, count in counts.items()}},
                [r for o in lacking for r in o.trials],
                equal_search(
                    context,
                    problem.optimizers,
                    max(trials_needed({*o.tuned, "lr"}) for o in problem.optimizers),
                    "use more trials, the same number for every optimizer",
                ),
            )


def _untuned(context: Context, optimizers: Sequence[OptimizerRuns]) -> Iterator[Observation]:
    """Report that no optimizer was tuned, unless A04 reports something worse."""
    if len(optimizers) > 1 and not _shared_rates(optimizers):
        yield Observation(
            "each optimizer was tried with one setting only, so the study compares settings, not "
            "optimizers",
            {"trials": {o.name: [1, POINTS] for o in optimizers}},
            [r for o in optimizers for r in o.reported],
            equal_search(context, optimizers, POINTS, "tune the learning rate of each optimizer"),
        )


@audit_rule("A07", Severity.WARNING, "search spaces are not comparable")
def search_spaces(context: Context) -> Iterator[Observation]:
    """A wider range of learning rates is harder to search, and a linear grid spends nearly all of
    its trials on the largest rates.

    Source: Choi et al. 2019; Sivaprasad et al. 2020.
    Example: the learning rates span, in decades: 4 (adam), 1 (sgd).
    Fix: give all optimizers ranges of equal width in decades, `{log: [low, high], points: n}`.
    """
    for problem in context.problems:
        own = {o.name: context.rates(o) for o in problem.optimizers if "lr" in o.tuned}
        rates = own | {
            _of_group(o, name): context.rates(o, name)
            for o in problem.optimizers
            for name in o.tuned_rates
            if name.endswith(".lr")
        }
        widths = {name: decades(values) for name, values in rates.items() if values[0] > 0}
        linear = [name for name, values in rates.items() if _is_linear(values)]
        if linear or unequal_widths(widths.values()):
            shown = names(f"{width:.2g} ({name})" for name, width in widths.items())
            spacing = f"; the grid of {names(linear)} is linear" if linear else ""
            yield Observation(
                f"the learning rates span, in decades: {shown}{spacing}",
                {"decades": widths, "linear": linear},
                problem.trials,
                _equal_ranges(context, problem.optimizers, own, widths, linear),
            )


def _equal_ranges(
    context: Context,
    optimizers: Sequence[OptimizerRuns],
    rates: Mapping[str, list[float]],
    widths: Mapping[str, float],
    linear: Sequence[str],
) -> Remedy:
    """Return the remedy of logarithmic ranges that are all as wide as the widest."""
    most = max(widths.values(), default=1.0)
    moved = [
        o
        for o in optimizers
        if o.name in rates and (o.name in linear or MOST_WIDER * widths.get(o.name, most) < most)
    ]
    drawn = {o.name for o in moved if context.drawn_from(o, "lr")}
    written = [grid_values(context.written(o, "lr")) for o in optimizers if o.name in rates]
    points = max(map(len, written), default=0)
    settings: dict[str, Any] = {}
    runs = 0
    for optimizer in moved:
        ends = _widened(rates[optimizer.name], most, optimizer.rule)
        wide: dict[str, Any] = {"log": ends}
        if optimizer.name in drawn:
            runs += len(optimizer.trials)
        else:
            wide["points"] = points
            runs += added_runs(optimizer, "lr", spaced(ends, points))
        settings[f"{context.path(optimizer.name)}.lr"] = wide
    grids = len(drawn) < len(moved)
    if (grids and any(len(o.tuned) > 1 for o in optimizers)) or len(rates) < len(widths):
        settings = {}  # the other tuned hyperparameters decide how many points are possible
    action = f"search {most:.2g} decades of learning rates for every optimizer, on a log scale"
    return context.remedy(action, settings, runs)


def _is_linear(rates: Sequence[float]) -> bool:
    """Return True if rates over more than half a decade are equally spaced."""
    gaps = [high - low for low, high in pairwise(rates)]
    wide = rates[0] <= 0 or rates[-1] / rates[0] > math.sqrt(10)
    return len(rates) > 3 and wide and max(gaps) - min(gaps) < 0.01 * max(gaps)


def _widened(rates: Sequence[float], decades: float, rule: str) -> list[float]:
    """Return the ends of a range of this many decades around the middle of the rates."""
    low = rates[0] if rates[0] > 0 else rates[1]
    middle = math.sqrt(low * rates[-1])
    ends = within_sensible(middle * 10 ** (-decades / 2), middle * 10 ** (decades / 2), rule)
    return [float(f"{end:.3g}") for end in ends]


@audit_rule("A09", Severity.WARNING, "schedules differ between optimizers")
def schedules_differ(context: Context) -> Iterator[Observation]:
    """A learning-rate schedule can matter as much as the optimizer. It must be the same for all
    optimizers, or tuned for each.

    Source: Schmidt et al. 2021; Semenov et al. 2025.
    Example: the schedule of adam is cosine, the schedule of sgd is constant.
    Fix: use the same schedule for all, or list schedules as a grid axis of each optimizer.
    """
    for problem in context.problems:
        kinds = {
            o.name: sorted(
                {_schedule_kind(part.schedule) for r in o.one_of_each for part in _parts(r)}
            )
            for o in problem.optimizers
        }
        if len({tuple(schedules) for schedules in kinds.values()}) > 1:
            yield Observation(
                names(f"the schedule of {name} is {' or '.join(k)}" for name, k in kinds.items()),
                {"schedules": kinds},
                problem.compared,
                _common_schedule(context, problem.optimizers, sorted(set().union(*kinds.values()))),
            )


def _common_schedule(
    context: Context, optimizers: Sequence[OptimizerRuns], kinds: Sequence[str]
) -> Remedy:
    """Return the remedy of giving all optimizers the schedule of the first that has one."""
    entries = {context.path(o.name): context.entry(o).get("schedule") for o in optimizers}
    common = next(filter(None, entries.values()), "constant")
    settings = {
        f"{path}.schedule": common
        for path, schedule in entries.items()
        if path and schedule != common
    }
    if any(group.schedule for o in optimizers for group in o.spec.groups):
        settings = {}  # their entries do not decide
    action = f"use one schedule for all: {' or '.join(kinds)}"
    return context.remedy(action, settings, len(context.records))


def _schedule_kind(schedule: Mapping[str, Any] | None) -> str:
    return str(schedule["kind"]) if schedule else "constant"


@audit_rule("A10", Severity.WARNING, "optimizers use different kinds of weight decay")
def decay_kinds(context: Context) -> Iterator[Observation]:
    """L2 decay adds to the gradient; decoupled decay shrinks the weights directly. The same
    coefficient is a different regularizer in each.

    Source: Loshchilov & Hutter 2019 (AdamW); Semenov et al. 2025.
    Example: sgd has l2 weight decay 0.01, adamw has decoupled weight decay 0.01.
    Fix: use one kind for all, `decay: decoupled`, or tune the coefficient of each.
    """
    for problem in context.problems:
        parts = {o.name: _decayed_parts(o) for o in problem.optimizers}
        decays = {name: decayed for name, decayed in parts.items() if decayed}
        if len({frozenset(part.decay for part in decayed) for decayed in decays.values()}) > 1:
            coupled = [
                o
                for o in problem.optimizers
                if any(part.decay == "l2" for part in decays.get(o.name, ()))
            ]
            paths = [context.path(o.name) for o in coupled]
            settings = {f"{path}.decay": "decoupled" for path in paths if path}
            if any(part.name for o in coupled for part in decays[o.name]):
                settings = {}  # their entries do not decide
            yield Observation(
                names(
                    f"{name}{f' ({part.name})' * bool(part.name)} has {part.decay} weight decay "
                    f"{part.weight_decay:g}"
                    for name, decayed in decays.items()
                    for part in decayed
                ),
                {
                    "decay": {
                        f"{name}.{part.name}" if part.name else name: [
                            part.decay,
                            part.weight_decay,
                        ]
                        for name, decayed in decays.items()
                        for part in decayed
                    }
                },
                problem.compared,
                context.remedy(
                    "use one kind of weight decay for all",
                    settings,
                    sum(len(o.trials) for o in coupled),
                ),
            )


def _decayed_parts(optimizer: OptimizerRuns) -> list[Part]:
    """Return the parts of an optimizer with a weight decay that was not tuned."""
    return [
        part
        for part in optimizer.spec.known_parts
        if part.weight_decay
        and f"{part.name}.weight_decay".removeprefix(".") not in optimizer.tuned
    ]


@audit_rule("A13", Severity.WARNING, "settings were chosen on a single seed")
def tuned_on_one_seed(context: Context) -> Iterator[Observation]:
    """The best trial on one seed is partly the luckiest. Several seeds per trial reduce this.

    Source: Schneider et al. 2019 (DeepOBS); Bouthillier et al. 2021.
    Example: the best of 9 settings of adam was chosen with 1 seed each.
    Fix: set `tune.seeds` to 3.
    """
    lone = [
        o
        for o in context.optimizers
        if len(o.tried) > 1 and all(len(runs) == 1 for runs in o.tried.values())
    ]
    if lone:
        count = TUNING_SEEDS
        if not context.study.get("tune"):
            count = max(count, *map(context.seeds_needed, context.problems))
        action = f"train every trial with {count} seeds"
        yield Observation(
            f"the best of {max(len(o.tried) for o in lone)} settings of "
            f"{names(o.name for o in lone)} was chosen with 1 seed each",
            {"settings": {o.name: len(o.tried) for o in lone}},
            [r for o in lone for r in o.trials],
            context.remedy(
                action, {"tune.seeds": count}, (count - 1) * sum(len(o.tried) for o in lone)
            )
            if context.study.get("tune")
            else context.more_seeds(count, action),
        )
