"""A, first third: whether every optimizer was given the same chance by tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import equal_search
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.learning_rates import SELF_SCALED, update_scale, within_sensible

__all__ = ["TUNING_BUDGET_RULES"]

UNEQUAL = 1.1  # trials or steps whose ratio is above it are not equal
WIDTHS = 2.0  # so many times wider, in decades, is another prior
POINTS = 5  # trials a tuned hyperparameter, up to two of them


@audit_rule("A02", Severity.ERROR, "optimizers were tuned with unequal budgets")
def unequal_budget(context: Context) -> Iterator[Observation]:
    """The best of more trials is better by chance alone, and a longer search finds more. Trials
    and training steps are counted with those that failed.

    Source: Sivaprasad et al. 2020; Dahl et al. 2023 (AlgoPerf).
    Example: adam had 15 trials and sgd 3: its lead may be that of the larger search.
    Fix: give every optimizer a grid of the same size, or `tune: {sampler: random, trials: N}`.
    """
    for problem in context.problems:
        settings = {o.name: len(o.tried) for o in problem.optimizers}
        steps = {o.name: sum(r.steps for r in o.trials) for o in problem.optimizers}
        if max(settings.values()) == 1:
            continue
        worst = max(max(n.values()) / max(1, min(n.values())) for n in (settings, steps))
        if worst > UNEQUAL:
            most = max(settings, key=settings.__getitem__)
            least = min(steps, key=steps.__getitem__)
            yield Observation(
                f"trials range from {settings[least]} ({least}, {steps[least]} steps) to "
                f"{settings[most]} ({most}, {steps[most]} steps)",
                {"trials": settings, "steps": steps},
                problem.trials,
                _equal_trials(context, problem.optimizers),
            )


def _equal_trials(context: Context, optimizers: Sequence[OptimizerRuns]) -> Remedy:
    """Return the remedy of as many trials for each as the largest search has."""
    most = max(len(o.tried) for o in optimizers)
    return equal_search(context, optimizers, most, f"give each of them {most} trials")


@audit_rule("A03", Severity.ERROR, "some optimizers were tuned while others kept their defaults")
def tuned_against_default(context: Context) -> Iterator[Observation]:
    """A default learning rate is a guess for other problems. Comparing it with a tuned one measures
    the tuning. Rules that scale themselves, as adadelta and prodigy, may keep theirs.

    Source: Schmidt et al. 2021; Wen et al. 2025.
    Example: the learning rate of adam is the best of 5, that of sgd the default.
    Fix: give the others a grid of the same size.
    """
    for problem in context.problems:
        tuned = [o for o in problem.optimizers if "lr" in o.tuned]
        default = [
            o
            for o in problem.optimizers
            if "lr" not in context.entry(o.name)[1]
            and o.rule not in SELF_SCALED
            and "lr" not in o.tuned
        ]
        if tuned and default and context.study.get("optimizers"):
            yield Observation(
                f"the learning rate of {names(o.name for o in tuned)} is the best of "
                f"{max(len(o.tuned['lr']) for o in tuned)}, that of "
                f"{names(o.name for o in default)} is the default",
                {
                    "tuned": {o.name: o.tuned["lr"] for o in tuned},
                    "default": [o.name for o in default],
                },
                [r for o in default for r in o.reported],
                _equal_trials(context, problem.optimizers),
            )


@audit_rule("A04", Severity.ERROR, "optimizers of different scale share one learning rate")
def one_rate_for_all(context: Context) -> Iterator[Observation]:
    """SGD moves by learning rate times gradient, Adam by about the learning rate whatever the
    gradient: the same number means another length of step. One rate for all favours the rule for
    which it happens to be right.

    Source: Wen et al. 2025 (blind transfer of hyperparameters); Choi et al. 2019.
    Example: sgd and adam both have lr 0.001, and no other value was tried for either.
    Fix: tune the learning rate of each optimizer on its own range.
    """
    for problem in context.problems:
        scales = {o.name: update_scale(o.rule) for o in problem.optimizers}
        if rates := _shared_rates(problem.optimizers):
            (rate,) = rates
            followed = " and those of others ".join(sorted(set(scales.values()) - {""}))
            yield Observation(
                f"every optimizer has lr {rate}, though the steps of some follow {followed}",
                {"lr": rate, "scales": scales},
                problem.compared,
                equal_search(
                    context,
                    problem.optimizers,
                    POINTS,
                    "tune the learning rate of each optimizer on a range of its own",
                ),
            )


def _shared_rates(optimizers: Sequence[OptimizerRuns]) -> set[Any]:
    """Return the one learning rate of optimizers whose steps have different scales, or nothing."""
    scales = {update_scale(o.rule) for o in optimizers} - {""}
    rates = {hyperparameters(r).get("lr") for o in optimizers for r in o.trials}
    return rates if len(rates) == 1 and len(scales) > 1 and rates != {None} else set()


@audit_rule("A05", Severity.WARNING, "too few trials for what was tuned")
def few_trials(context: Context) -> Iterator[Observation]:
    """With fewer than five values of one hyperparameter, or 25 settings of two or more, the best
    trial may be far from the best setting, and by how far differs between optimizers.

    Source: Godbole et al. 2023, Deep Learning Tuning Playbook; Sivaprasad et al. 2020.
    Example: sgd has 3 trials for 1 tuned hyperparameter, 5 are needed.
    Fix: use a finer or wider grid, or tune with `sampler: sobol`.
    """
    for problem in context.problems:
        if all(not o.tuned for o in problem.optimizers):
            yield from _untuned(context, list(problem.optimizers))
            continue
        few = {
            o.name: (len(o.tried), POINTS ** min(len(o.tuned), 2))
            for o in problem.optimizers
            if o.tuned and len(o.tried) < POINTS ** min(len(o.tuned), 2)
        }
        if few:
            chosen = [o for o in problem.optimizers if o.name in few]
            shown = names(f"{name} has {had} of {needed}" for name, (had, needed) in few.items())
            yield Observation(
                f"trials that were run, of those needed: {shown}",
                {"trials": {name: list(counts) for name, counts in few.items()}},
                [r for o in chosen for r in o.trials],
                equal_search(
                    context,
                    problem.optimizers,
                    max(needed for _, needed in few.values()),
                    "search with more trials, of which each optimizer has as many",
                ),
            )


def _untuned(context: Context, optimizers: list[OptimizerRuns]) -> Iterator[Observation]:
    """Say that nothing was tuned, unless A04 says worse."""
    if len(optimizers) > 1 and not _shared_rates(optimizers):
        yield Observation(
            "one setting was tried for each optimizer, so that the comparison is of settings",
            {"trials": {o.name: [1, POINTS] for o in optimizers}},
            [r for o in optimizers for r in o.reported],
            equal_search(context, optimizers, POINTS, "tune the learning rate of each optimizer"),
        )


@audit_rule("A07", Severity.WARNING, "search spaces that cannot be compared")
def search_spaces(context: Context) -> Iterator[Observation]:
    """A wider range of learning rates is harder to search, and equal distances instead of equal
    ratios spend nearly all trials on the largest rates.

    Source: Choi et al. 2019; Sivaprasad et al. 2020.
    Example: the learning rates of adam span 4 decades and those of sgd 1.
    Fix: give all optimizers ranges of equally many decades, `{log: [low, high], points: n}`.
    """
    for problem in context.problems:
        spans = {o.name: _rates(context, o) for o in problem.optimizers if "lr" in o.tuned}
        decades = {n: math.log10(r[-1] / r[0]) for n, r in spans.items() if r[0] > 0}
        linear = [name for name, rates in spans.items() if _is_linear(rates)]
        wide = decades and max(decades.values()) > WIDTHS * min(decades.values())
        if wide or linear:
            most = max(decades.values(), default=1.0)
            moved = [
                o
                for o in problem.optimizers
                if o.name in linear or WIDTHS * decades.get(o.name, most) < most
            ]
            points = max(map(len, spans.values()))
            settings = {
                f"{context.entry(o.name)[0]}.lr": {
                    "log": _widened(spans[o.name], most, o.rule),
                    "points": points,
                }
                for o in moved
            }
            if any(len(o.tuned) > 1 for o in problem.optimizers):
                settings = {}  # what else is tuned decides how many points each may have
            said = names(f"{name} {width:.2g}" for name, width in decades.items())
            spaced = f"; {names(linear)} in equal distances" if linear else ""
            yield Observation(
                f"decades of learning rates: {said}{spaced}",
                {"decades": decades, "linear": linear},
                problem.trials,
                context.remedy(
                    f"give each {most:.2g} decades in equal ratios",
                    settings,
                    sum(len(o.trials) for o in moved),
                ),
            )


def _rates(context: Context, optimizer: OptimizerRuns) -> list[float]:
    """Return the learning rates tried, without those by which a grid grew, and the written ends."""
    given, tried = context.entry(optimizer.name)[1].get("lr"), optimizer.tuned["lr"]
    if isinstance(given, Mapping):
        given = given.get("log") or given.get("lin")
    elif not context.study.get("tune"):
        given = None
    ends = list(map(float, given)) if isinstance(given, list | tuple) else tried
    return sorted({*ends, *(rate for rate in tried if min(ends) <= rate <= max(ends))})


def _is_linear(rates: list[float]) -> bool:
    """Whether rates over more than half a decade lie at equal distances."""
    gaps = [high - low for low, high in pairwise(rates)]
    wide = rates[0] <= 0 or rates[-1] / rates[0] > math.sqrt(10)
    return len(rates) > 3 and wide and max(gaps) - min(gaps) < 0.01 * max(gaps)


def _widened(rates: list[float], decades: float, rule: str) -> list[float]:
    """Return ends around the middle of the rates, so many decades apart."""
    low = rates[0] if rates[0] > 0 else rates[1]
    middle = math.sqrt(low * rates[-1])
    ends = within_sensible(middle * 10 ** (-decades / 2), middle * 10 ** (decades / 2), rule)
    return [float(f"{end:.3g}") for end in ends]


@audit_rule("A09", Severity.WARNING, "schedules differ between optimizers")
def schedules_differ(context: Context) -> Iterator[Observation]:
    """A learning-rate schedule is worth as much as many differences between optimizers: it has to
    be the same for all, or tuned for each.

    Source: Schmidt et al. 2021; Semenov et al. 2025.
    Example: adam has cosine, sgd a constant learning rate.
    Fix: give all the same schedule, or a list of schedules to each as a grid axis.
    """
    for problem in context.problems:
        kinds = {o.name: {_schedule(r.spec.schedule) for r in o.trials} for o in problem.optimizers}
        if len({frozenset(found) for found in kinds.values()}) > 1:
            said = names(f"{name}: {' or '.join(sorted(k))}" for name, k in kinds.items())
            every = sorted(set().union(*kinds.values()))
            given = {
                context.entry(o.name)[0]: context.entry(o.name)[1].get("schedule")
                for o in problem.optimizers
            }
            common = next((each for each in given.values() if each), "constant")
            settings = {f"{path}.schedule": common for path, own in given.items() if not own}
            changed = [o for o in problem.optimizers if not o.spec.schedule]
            yield Observation(
                said,
                {"schedules": {name: sorted(found) for name, found in kinds.items()}},
                problem.compared,
                context.remedy(
                    f"give all the same of {names(every)}",
                    {path: value for path, value in settings.items() if path != ".schedule"},
                    sum(len(o.trials) for o in changed),
                ),
            )


def _schedule(schedule: Mapping[str, Any] | None) -> str:
    return str(schedule["kind"]) if schedule else "constant"


@audit_rule("A10", Severity.WARNING, "two kinds of weight decay in one comparison")
def decay_kinds(context: Context) -> Iterator[Observation]:
    """The coefficient of l2 decay is added to the gradient, that of decoupled decay shrinks the
    weights: the same number is another regulariser.

    Source: Loshchilov & Hutter 2019 (AdamW); Semenov et al. 2025.
    Example: sgd has l2 weight decay 0.01, adamw decoupled 0.01.
    Fix: give all optimizers one kind, `decay: decoupled`, or tune the coefficient of each.
    """
    for problem in context.problems:
        fixed = [o for o in problem.optimizers if "weight_decay" not in o.tuned]
        kinds = {o.name: (o.spec.decay, o.spec.weight_decay) for o in fixed if o.spec.weight_decay}
        if len({kind for kind, _ in kinds.values()}) > 1:
            said = names(f"{name} {kind} {value:g}" for name, (kind, value) in kinds.items())
            coupled = [o for o in fixed if kinds.get(o.name, ("",))[0] == "l2"]
            paths = [context.entry(o.name)[0] for o in coupled]
            yield Observation(
                said,
                {"decay": {name: list(values) for name, values in kinds.items()}},
                problem.compared,
                context.remedy(
                    "give all the same kind",
                    {f"{path}.decay": "decoupled" for path in paths if path},
                    sum(len(o.trials) for o in coupled),
                ),
            )


@audit_rule("A13", Severity.WARNING, "settings were chosen on one seed")
def tuned_on_one_seed(context: Context) -> Iterator[Observation]:
    """The best trial of one seed is partly the luckiest. With several seeds a trial, less so.

    Source: Schneider et al. 2019 (DeepOBS); Bouthillier et al. 2021.
    Example: adam chose among 9 settings with 1 seed each.
    Fix: set `tune.seeds` to 3.
    """
    lone = [
        o
        for o in context.optimizers
        if len(o.tried) > 1 and all(len(runs) == 1 for runs in o.tried.values())
    ]
    if lone:
        trials = sum(len(o.tried) for o in lone)
        yield Observation(
            f"{names(o.name for o in lone)} chose among {max(len(o.tried) for o in lone)} "
            "settings with 1 seed each",
            {"settings": {o.name: len(o.tried) for o in lone}},
            [r for o in lone for r in o.trials],
            context.remedy("train 3 seeds a trial", {"tune.seeds": 3}, 2 * trials)
            if context.study.get("tune")
            else context.more_seeds(3, "train 3 seeds a trial"),
        )


TUNING_BUDGET_RULES = (
    unequal_budget,
    tuned_against_default,
    one_rate_for_all,
    few_trials,
    search_spaces,
    schedules_differ,
    decay_kinds,
    tuned_on_one_seed,
)
