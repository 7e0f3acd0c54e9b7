"""Comparisons in words, with the digits that their intervals support."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from optrial.analysis.statistics.comparison import Comparison, Comparisons, Statistic, Verdict
from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.paired import minimum_pairs
from optrial.analysis.statistics.ranks import RankComparison
from optrial.analysis.statistics.targets import Arrival, TargetComparison
from optrial.errors import counted

__all__ = [
    "best_sentence",
    "number_text",
    "ranks_sentence",
    "sentence",
    "target_sentence",
    "time_text",
    "without_value",
]

_LARGE = 1e6  # written with an exponent from here on


def sentence(comparison: Comparison, effect: float | None = None, power: float = 0.8) -> str:
    """Return the result of a comparison as one sentence without a full stop.

    Fractions such as accuracies (`Comparison.percent`) are shown in percentage points.

    Args:
        comparison: the comparison.
        effect: difference of interest in the unit of the metric. For a tie, the sentence says how
            many more seeds would detect it; without it, which difference these seeds can detect.
        power: chance to detect it.
    """
    match comparison.verdict:
        case Verdict.BETTER | Verdict.WORSE:
            return _difference_sentence(comparison)
        case Verdict.TIED:
            relation = "cannot be told apart on"
            outlook = _outlook(comparison, effect, power)
        case Verdict.UNDECIDED_DIVERGED:
            return _diverged(comparison)
        case Verdict.UNDECIDED_TOO_FEW:
            relation = "cannot be compared yet on"
            fewest = minimum_pairs(comparison.alpha, comparison.comparisons)
            family = f" for {comparison.comparisons} comparisons" * (comparison.comparisons > 1)
            outlook = f"; at least {fewest} seeds are needed{family}"
    names = f"{comparison.first} and {comparison.second}"
    return f"{names} {relation} {comparison.metric} ({_evidence(comparison)}){outlook}"


def best_sentence(comparisons: Comparisons, compared: str = "optimizers") -> str:
    """Return which optimizer is best and which cannot be told apart from it, as one sentence.

    Args:
        comparisons: the family; a lone optimizer is named as the best of one.
        compared: plural noun for the members of the family.
    """
    metric = f" on {comparisons.pairs[0].metric}" if comparisons.pairs else ""
    if not comparisons.groups:
        diverged = comparisons.all_diverged == comparisons.order
        why = "every run diverged" if diverged else "no run has a value"
        return f"No best {compared.removesuffix('s')}{metric}: {why}"
    behind = "".join(f"; {part}" for part in (*_left_out(comparisons), *_losses(comparisons)))
    (best, *ties), lost = comparisons.groups[0], comparisons.not_compared
    count = len(comparisons.order) - len(lost)
    finished = set(lost) <= set(comparisons.all_diverged)
    if lost and count == 1:
        only = f"only {best} {'finished' if finished else 'has a value'}"
        return f"No best {compared.removesuffix('s')}{metric}: {only}{behind}"
    among = f"{count} {compared}"
    if lost:
        among = f"the {among} {'that finished' if finished else 'with a value'}"
    if ties and len(ties) + 1 == count:
        return f"None of {among} can be called the best{metric}{behind}"
    if ties:
        return f"{best} leads{metric}, but {_listed(ties)} cannot be told apart from it{behind}"
    standing = f"the best{metric} of {among}" if lost else f"the best of {count}{metric}"
    return f"{best} is {standing}{behind}"


def target_sentence(comparison: TargetComparison) -> str:
    """Return which optimizer reaches a target first, as one sentence without a full stop."""
    faster, slower = comparison.first, comparison.second
    evidence = _target_evidence(comparison)
    match comparison.verdict:
        case Verdict.WORSE:
            return target_sentence(comparison.swapped())
        case Verdict.BETTER:
            amount = "less time" if comparison.unit == "seconds" else "fewer steps"
            return f"{faster} reaches {comparison.target} in {amount} than {slower} ({evidence})"
        case Verdict.UNDECIDED_DIVERGED:
            lost = comparison.all_diverged
            whose = "both" if len(lost) > 1 else lost[0]
            return (
                f"{faster} and {slower} cannot be compared on {comparison.unit} to "
                f"{comparison.target}: every run of {whose} diverged"
            )
        case Verdict.TIED:
            relation, outlook = "cannot be told apart", ""
        case Verdict.UNDECIDED_TOO_FEW:
            fewest = minimum_pairs(comparison.alpha, comparison.comparisons)
            relation, outlook = "cannot be compared yet", f"; at least {fewest} seeds are needed"
    on = f"on {comparison.unit} to {comparison.target}"
    return f"{faster} and {slower} {relation} {on} ({evidence}){outlook}"


def _target_evidence(comparison: TargetComparison) -> str:
    """Return the numbers in brackets: wins, losses, arrivals, medians and p-value."""
    if not comparison.pairs:
        return "they have no seed in common"
    names, pairs = (comparison.first, comparison.second), comparison.pairs
    first, second = (
        time_text(median, max(_observed(arrivals), default=0.0), comparison.unit)
        for median, arrivals in zip(comparison.medians, comparison.arrivals, strict=True)
    )
    diverged = zip(names, comparison.diverged, strict=True)
    return ", ".join(
        [
            f"first on {comparison.wins} and second on {comparison.losses} of {_seeds(pairs)}",
            *_unpaired(comparison),
            f"reached by {' and '.join(map(str, comparison.reached))} of {counted(pairs, 'run')}",
            f"median {first} and {second} {comparison.unit}",
            *(
                f"{count} of {counted(pairs, 'run')} of {name} diverged"
                for name, count in diverged
                if count
            ),
            f"sign test, {_probability(comparison)}",
        ]
    )


def _observed(arrivals: Sequence[Arrival]) -> Iterator[float]:
    return (arrival.time for arrival in arrivals if not arrival.diverged)


def time_text(median: Interval, observed: float, unit: str) -> str:
    """Return a median time without its unit; ``over 1,000`` if fewer than half of the runs arrived.

    Args:
        median: as `median_time` returns it.
        observed: the longest time that a run was observed.
        unit: "steps" or "seconds".
    """
    known = math.isfinite(median.estimate)
    time = median.estimate if known else observed
    text = f"{time:,.0f}" if unit == "steps" else f"{time:.3g}"
    return text if known else f"over {text}"


def _left_out(comparisons: Comparisons) -> Iterator[str]:
    """Yield clauses that name the optimizers without a value, with the reason."""
    diverged = [name for name in comparisons.not_compared if name in comparisons.all_diverged]
    others = [name for name in comparisons.not_compared if name not in diverged]
    for names, why in (
        (diverged, "every run of {} diverged"),
        (others, "no run of {} has a value"),
    ):
        if names:
            yield why.format(_listed(names))


def _losses(comparisons: Comparisons) -> Iterator[str]:
    """Yield clauses that name the other optimizers with runs that diverged."""
    for name, (lost, runs) in comparisons.diverged.items():
        if name not in comparisons.all_diverged:
            yield f"{lost} of {counted(runs, 'run')} of {name} diverged"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return ", ".join(others) + " and " * bool(others) + last


def number_text(value: float, half_width: float) -> str:
    """Format a value with as many decimals as an interval of this half-width supports.

    Two significant digits of the half-width if it starts with 1 or 2, else one: 0.5 ± 0.3, but
    0.52 ± 0.12, so that rounding moves a limit by less than a sixth of the half-width. Values from
    a million on get four significant digits, 1.017e+16.
    """
    if abs(value) >= _LARGE:
        return f"{value:.4g}"
    if not (math.isfinite(half_width) and half_width > 0):
        return f"{value:z.4f}"
    leading, exponent = f"{half_width:.2e}".split("e")
    return f"{value:z.{max(0, (float(leading) < 3) - int(exponent))}f}"


def _difference_sentence(comparison: Comparison) -> str:
    if comparison.verdict == Verdict.WORSE:
        comparison = comparison.swapped()
    beats = f"{comparison.first} beats {comparison.second} on {comparison.metric}"
    if comparison.statistic == Statistic.SIGN:
        return f"{beats} ({_evidence(comparison)})"
    larger = comparison if comparison.higher_is_better else comparison.swapped()
    amount, interval = _difference(larger)
    return f"{beats} by {amount} ({interval}, {_basis(comparison)})"


def _evidence(comparison: Comparison) -> str:
    """Return the numbers in brackets for a sentence that states no difference before them."""
    if not comparison.pairs:
        return ", ".join(["they have no seed in common", *without_value(comparison)])
    if comparison.statistic == Statistic.SIGN:
        won = f"better on {comparison.finished_wins}, worse on {comparison.finished_losses}"
        finished = f"{won} of {counted(comparison.finished, 'seed')} on which both finished"
        return f"{finished}, {_lost(comparison)}, sign test, {_basis(comparison)}"
    if not any(comparison.differences):
        return f"equal on every seed, {_basis(comparison)}"
    amount, interval = _difference(comparison)
    return f"difference {amount}, {interval}, {_basis(comparison)}"


def _diverged(comparison: Comparison) -> str:
    """Return the sentence for a pair with too many runs that diverged."""
    first, second = comparison.first, comparison.second
    match comparison.all_diverged:
        case ():
            fewest = minimum_pairs(comparison.alpha, comparison.comparisons)
            names = f"{first} and {second} cannot be compared on {comparison.metric}"
            wanted = f"at least {fewest} seeds are needed on which both finish"
            return f"{names} ({_evidence(comparison)}); {wanted}"
        case lost:
            whose = "both" if len(lost) > 1 else lost[0]
            names = f"{first} and {second} cannot be compared on {comparison.metric}"
            return f"{names}: every run of {whose} diverged"


def _lost(comparison: Comparison) -> str:
    """Return the number of runs that diverged, by optimizer."""
    sides = zip((comparison.first, comparison.second), comparison.diverged, strict=True)
    lost = [f"{n} of {counted(comparison.pairs, 'run')} of {name}" for name, n in sides if n]
    return f"{' and '.join(lost)} diverged"


def _difference(comparison: Comparison) -> tuple[str, str]:
    """Return the difference with its unit, and its interval."""
    scale, unit = (100, " points") if comparison.percent else (1, "")
    interval = comparison.difference
    if not interval.known:
        return f"{scale * interval.estimate:.3g}{unit}", "no interval"
    half_width = scale * (interval.high - interval.low) / 2
    shown, low, high = (
        number_text(scale * value, half_width)
        for value in (interval.estimate, interval.low, interval.high)
    )
    return f"{shown}{unit}", f"{100 * interval.level:g} % interval {low} to {high}"


def _basis(comparison: Comparison) -> str:
    """Return the number of seeds, the p-value, and the correction if any."""
    seeds = [_seeds(comparison.pairs), *_unpaired(comparison), *without_value(comparison)]
    return ", ".join([*seeds, _probability(comparison)])


def _seeds(pairs: int) -> str:
    return f"{pairs} paired seed{'s' * (pairs != 1)}"


def _unpaired(comparison: Comparison | TargetComparison) -> list[str]:
    return [f"{comparison.unpaired} without a partner"] if comparison.unpaired else []


def _probability(comparison: Comparison | TargetComparison) -> str:
    p_value = comparison.adjusted_p_value
    probability = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    return probability + ", Holm" * (comparison.comparisons > 1)


def ranks_sentence(ranks: RankComparison, alpha: float = 0.05) -> str:
    """Return the average ranks over problems in one line, and whether they differ."""
    pairs = zip(ranks.order, ranks.average_ranks, strict=True)
    averages = ", ".join(f"{name} {rank:.2f}" for name, rank in pairs)
    p_value = ranks.friedman.permutation_p_value
    different = "differ" if p_value <= alpha else "cannot be told apart"
    shown = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    return f"Average ranks over {ranks.problems} problems: {averages}; they {different} ({shown})"


def without_value(comparison: Comparison) -> list[str]:
    """Return clauses that name optimizers with finished runs without a value of the metric."""
    names = (comparison.first, comparison.second)
    return [
        f"{count} of {counted(total, 'run')} of {name} {'has' if count == 1 else 'have'} no value "
        f"of {comparison.metric}"
        for name, (count, total) in zip(names, comparison.without_value, strict=True)
        if count
    ]


def _outlook(comparison: Comparison, effect: float | None, power: float) -> str:
    """Return what more seeds would detect, or these could; empty if all differences are 0."""
    if not any(comparison.differences):
        return ""
    scale, unit = (100, " points") if comparison.percent else (1, "")
    if effect is None:
        detectable = comparison.detectable_effect(power)
        if detectable is None:
            return ""
        shown = f"{scale * detectable:.2g}{unit}"
        return f"; a difference of {shown} would have been found with {100 * power:g} % power"
    needed, wanted = comparison.seeds_needed(effect, power), f"{scale * effect:.3g}{unit}"
    if needed is None:
        return ""
    more = needed - comparison.pairs
    if more <= 0:
        return f"; these seeds suffice to detect {wanted}"
    return f"; about {counted(_rounded(more), 'more seed')} would be needed to detect {wanted}"


def _rounded(count: int) -> int:
    """Round to two significant digits, as estimates of a number of seeds support no more."""
    return int(float(f"{count:.2g}"))
