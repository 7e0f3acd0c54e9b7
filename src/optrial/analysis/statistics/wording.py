"""Comparisons in words, with the digits that their intervals support."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from optrial.analysis.statistics.comparison import Comparison, Comparisons, Statistic, Verdict
from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.paired import minimum_pairs
from optrial.analysis.statistics.ranks import RankComparison
from optrial.analysis.statistics.targets import Arrival, TargetComparison
from optrial.errors import all_listed, counted
from optrial.spec import metric_title

__all__ = [
    "best_sentence",
    "difference_numbers",
    "difference_text",
    "number_text",
    "p_text",
    "ranks_sentence",
    "seeds_text",
    "sentence",
    "short_difference",
    "target_sentence",
    "time_text",
    "value_text",
    "without_value",
]

_LARGE = 1e6  # written with an exponent from here on
_NAMED = 4  # most undecided optimizers that the verdict names


def sentence(comparison: Comparison, effect: float | None = None, power: float = 0.8) -> str:
    """Return the result of a comparison as one sentence without a full stop.

    The interval and the p-value are those of the corrected test. Fractions such as accuracies
    (`Comparison.percent`) are shown in percentage points.

    Args:
        comparison: the comparison.
        effect: difference of interest in the unit of the metric. If undecided, the sentence says
            how many more seeds would detect it; without it, which difference these seeds can
            detect.
        power: chance to detect it.
    """
    match comparison.verdict:
        case Verdict.WORSE:
            return sentence(comparison.swapped())
        case Verdict.BETTER:
            return _beats(comparison)
        case Verdict.UNDECIDED:
            outlook = _outlook(comparison, effect, power)
        case Verdict.UNDECIDED_DIVERGED:
            return _diverged(comparison)
        case Verdict.UNDECIDED_TOO_FEW:
            fewest = comparison.fewest_pairs
            family = f" for {comparison.comparisons} comparisons" * (comparison.comparisons > 1)
            outlook = f"; at least {fewest} {comparison.unit}s are needed{family}"
    names = f"{comparison.first} and {comparison.second}"
    return f"{names} are undecided on {_metric(comparison)}{_standing(comparison)}{outlook}"


def best_sentence(comparisons: Comparisons, compared: str = "optimizers") -> str:
    """Return which optimizer is best, and which are undecided against it, as one sentence.

    Args:
        comparisons: the family; a lone optimizer is named as the best of one.
        compared: plural noun for the members of the family.
    """
    if not comparisons.groups:
        why = _every_run(comparisons)
        on = f" on {metric_title(comparisons.pairs[0].metric)}" if comparisons.pairs else ""
        return f"No best {compared.removesuffix('s')}{on}: {why}"
    behind = "".join(f"; {part}" for part in (*_left_out(comparisons), *_losses(comparisons)))
    (best, *undecided), lost = comparisons.groups[0], comparisons.not_compared
    count = len(comparisons.order) - len(lost)
    value = _best_value(comparisons, best)
    ahead = _ahead(comparisons, best)
    if lost and count == 1:
        finished = set(lost) <= set(comparisons.all_diverged)
        only = f"only {best} {'finished' if finished else 'has a value'}"
        return f"No best {compared.removesuffix('s')}: {only}, with {value}{behind}"
    if not undecided:
        return f"{best} is best of {count}: {value}{behind}"
    if too_few := _too_few(comparisons, best, undecided):
        start = f"No clear winner yet: {ahead} {value}, but {too_few}"
        return f"{start} {count} {compared}{_needed(comparisons)}{behind}"
    if len(undecided) + 1 == count:
        others = "both others" if count == 3 else f"all {count - 1} others"
        against = undecided[0] if count == 2 else others
        clause = f", undecided against {against}" * ahead.startswith(f"{best} is")
        return f"No clear winner: {ahead} {value}{clause}{behind}"
    are = "are" if len(undecided) > 1 else "is"
    return f"{best} leads: {value}; {_some(undecided)} {are} undecided against it{behind}"


def _every_run(comparisons: Comparisons) -> str:
    if comparisons.all_diverged != comparisons.order:
        return "no run has a value"
    lost, runs = (sum(counts) for counts in zip(*comparisons.diverged.values(), strict=True))
    return f"{lost} of {counted(runs, 'run')} diverged"


def _best_value(comparisons: Comparisons, best: str) -> str:
    """Return the mean of an optimizer with its metric: ``96.8 % test accuracy``."""
    values = comparisons.finished(best)
    if not comparisons.pairs:
        return value_text(values)
    pair = comparisons.pairs[0]
    value = value_text(values, percent=pair.percent)
    return f"{value} {_metric(pair)}"


def _ahead(comparisons: Comparisons, best: str) -> str:
    """Return the start of a sentence that goes on with the value of the best."""
    mean = np.mean(comparisons.finished(best))
    others = [name for name in comparisons.order if name not in comparisons.not_compared]
    level = [name for name in others if np.mean(comparisons.finished(name)) == mean]
    return f"{_some(level)} are level at" if len(level) > 1 else f"{best} is ahead with"


def _too_few(comparisons: Comparisons, best: str, undecided: Sequence[str]) -> str:
    """Return the start of a clause that the seeds are too few; empty if they are enough."""
    pairs = [
        pair
        for pair in comparisons.pairs
        if {best} < {pair.first, pair.second} <= {best, *undecided}
        and pair.verdict == Verdict.UNDECIDED_TOO_FEW
    ]
    if not pairs:
        return ""
    most = max(pair.pairs for pair in pairs)
    return f"{counted(most, pairs[0].unit)} cannot separate"


def _needed(comparisons: Comparisons) -> str:
    pair = comparisons.pairs[0]
    return f"; {pair.fewest_pairs} can"


def _some(names: Sequence[str]) -> str:
    """List names, the first few of many."""
    if len(names) <= _NAMED + 1:
        return all_listed(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


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
            return (
                f"{faster} and {slower} cannot be compared on {comparison.unit} to "
                f"{comparison.target}: {_all_lost(comparison)}"
            )
        case Verdict.UNDECIDED:
            outlook = ""
        case Verdict.UNDECIDED_TOO_FEW:
            fewest = minimum_pairs(comparison.alpha, comparison.comparisons)
            outlook = f"; at least {fewest} seeds are needed"
    on = f"on {comparison.unit} to {comparison.target}"
    return f"{faster} and {slower} are undecided {on} ({evidence}){outlook}"


def _all_lost(comparison: Comparison | TargetComparison) -> str:
    """Return which optimizers of a pair never finished: ``8 of 8 runs of sgd diverged``."""
    pairs = comparison.pairs
    lost = [f"{pairs} of {counted(pairs, 'run')} of {name}" for name in comparison.all_diverged]
    return f"{' and '.join(lost)} diverged"


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
            f"first on {comparison.wins} and second on {comparison.losses} of {seeds_text(pairs)}",
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
    counts = [(name, *comparisons.diverged[name]) for name in diverged]
    if counts:
        runs = [f"{lost} of {counted(runs, 'run')} of {name}" for name, lost, runs in counts]
        yield f"{all_listed(runs)} diverged"
    if others:
        yield f"no run of {all_listed(others)} has a value"


def _losses(comparisons: Comparisons) -> Iterator[str]:
    """Yield clauses that name the other optimizers with runs that diverged."""
    for name, (lost, runs) in comparisons.diverged.items():
        if name not in comparisons.all_diverged:
            yield f"{lost} of {counted(runs, 'run')} of {name} diverged"


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


def value_text(values: Sequence[float] | np.ndarray, *, percent: bool = False) -> str:
    """Return the mean over seeds, with the digits that its standard error supports."""
    scale = 100 if percent else 1
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    mean = scale * float(np.mean(values))
    if error > 0:
        return number_text(mean, 2 * scale * error) + " %" * percent
    return f"{mean:z.3g} %" if percent else f"{mean:z.4g}"


def p_text(p_value: float) -> str:
    """Return a p-value with two significant digits; below 0.001 and above 0.99 as a bound."""
    if p_value < 0.001:
        return "p < 0.001"
    return "p > 0.99" if p_value > 0.99 else f"p = {p_value:#.2g}"


def seeds_text(pairs: int, unit: str = "seed") -> str:
    """Return a number of common seeds or folds: ``8 paired seeds``."""
    return counted(pairs, f"paired {unit}")


def _metric(comparison: Comparison) -> str:
    """Return the title of the metric, and that lower is better where it is."""
    return metric_title(comparison.metric) + " (lower is better)" * (
        not comparison.higher_is_better
    )


def _beats(comparison: Comparison) -> str:
    """Return the sentence for a first optimizer that is better."""
    beats = f"{comparison.first} beats {comparison.second} on {_metric(comparison)}"
    if comparison.statistic == Statistic.SIGN:
        return f"{beats} ({_signs(comparison)})"
    return f"{beats} by {_lead(comparison)}"


def _standing(comparison: Comparison) -> str:
    """Return the numbers of an undecided pair."""
    if not comparison.pairs:
        none = f"they have no {comparison.unit} in common"
        return f": {', '.join([none, *without_value(comparison)])}"
    if comparison.statistic == Statistic.SIGN:
        return f" ({_signs(comparison)})"
    if not any(comparison.differences):
        return f": equal on every {comparison.unit} ({_basis(comparison)})"
    mean = comparison.improvements.mean()
    if mean == 0:
        return f": equal on average ({difference_text(comparison)[1]}, {_basis(comparison)})"
    behind = mean < 0
    leader = comparison.swapped() if behind else comparison
    return f": {leader.first} is ahead by {_lead(leader)}"


def _signs(comparison: Comparison) -> str:
    """Return the numbers of a pair with runs that diverged."""
    won = f"better on {comparison.finished_wins}, worse on {comparison.finished_losses}"
    both = counted(comparison.finished, comparison.unit)
    test = "no test" if comparison.test_ratio is not None else "sign test"
    return (
        f"{won} of {both} on which both finished, {_lost(comparison)}, {test}, {_basis(comparison)}"
    )


def _lead(comparison: Comparison) -> str:
    """Return how far the first optimizer is ahead, with the evidence in brackets."""
    larger = comparison if comparison.higher_is_better else comparison.swapped()
    amount, interval = difference_text(larger)
    return f"{amount} ({interval}, {_basis(comparison)})"


def _diverged(comparison: Comparison) -> str:
    """Return the sentence for a pair with too many runs that diverged."""
    names = f"{comparison.first} and {comparison.second}"
    start = f"{names} cannot be compared on {metric_title(comparison.metric)}"
    if comparison.all_diverged:
        return f"{start}: {_all_lost(comparison)}"
    wanted = f"at least {comparison.fewest_pairs} seeds are needed on which both finish"
    if comparison.test_ratio is not None:
        wanted = "both must finish on every fold"
    return f"{start} ({_signs(comparison)}); {wanted}"


def _lost(comparison: Comparison) -> str:
    """Return the number of runs that diverged, by optimizer."""
    sides = zip((comparison.first, comparison.second), comparison.diverged, strict=True)
    lost = [f"{n} of {counted(comparison.pairs, 'run')} of {name}" for name, n in sides if n]
    return f"{' and '.join(lost)} diverged"


def difference_text(comparison: Comparison) -> tuple[str, str]:
    """Return the difference with its unit, and the interval of the corrected test."""
    shown, low, high = difference_numbers(comparison)
    level = f"{100 * comparison.difference.level:g} % interval"
    return _amount(shown, comparison), f"{level} {low} to {high}" if low else "no interval"


def short_difference(comparison: Comparison) -> str:
    """Return the difference with its unit, in at most two significant digits."""
    shown, _, _ = difference_numbers(comparison)
    return _amount(two_digits(float(shown)), comparison)


def two_digits(value: float) -> str:
    """Round to two significant digits, without an exponent up to a million."""
    return f"{float(f'{value:.2g}'):zg}"


def difference_numbers(comparison: Comparison) -> tuple[str, str, str]:
    """Return the difference and the ends of its interval, in points where it is of fractions.

    Both ends are empty if no interval is known.
    """
    scale = 100 if comparison.percent else 1
    interval = comparison.difference
    if not interval.known:
        return two_digits(scale * interval.estimate), "", ""
    half_width = scale * (interval.high - interval.low) / 2
    if interval.estimate:  # the estimate keeps a digit that is not rounded: 0.6, not 1
        half_width = min(half_width, max(scale * abs(interval.estimate), half_width / 100))
    if interval.low > 0 or interval.high < 0:  # no limit is rounded to 0
        nearest = scale * min(abs(interval.low), abs(interval.high))
        if not float(number_text(nearest, half_width)):
            half_width = max(nearest, half_width / 100)
    shown, low, high = (
        number_text(scale * value, half_width)
        for value in (interval.estimate, interval.low, interval.high)
    )
    return shown, low, high


def _amount(number: str, comparison: Comparison) -> str:
    if not comparison.percent:
        return number
    return f"{number} point{'s' * (abs(float(number)) != 1)}"


def _basis(comparison: Comparison) -> str:
    """Return the p-value, its correction if any, and the number of seeds."""
    pairs = seeds_text(comparison.pairs, comparison.unit)
    seeds = [pairs, *_unpaired(comparison), *without_value(comparison)]
    return f"{_probability(comparison)}; {', '.join(seeds)}"


def _unpaired(comparison: Comparison | TargetComparison) -> list[str]:
    return [f"{comparison.unpaired} without a partner"] if comparison.unpaired else []


def _probability(comparison: Comparison | TargetComparison) -> str:
    family = comparison.comparisons
    adjusted = f", adjusted for {family} comparisons" if family > 1 else ""
    return p_text(comparison.adjusted_p_value) + adjusted


def ranks_sentence(ranks: RankComparison, alpha: float = 0.05) -> str:
    """Return the average ranks over problems in one line, and whether they differ."""
    pairs = zip(ranks.order, ranks.average_ranks, strict=True)
    averages = ", ".join(f"{name} {rank:.2f}" for name, rank in pairs)
    p_value = ranks.friedman.permutation_p_value
    different = "they differ" if p_value <= alpha else "no difference is shown"
    return (
        f"Average ranks over {ranks.problems} problems: {averages}; {different} ({p_text(p_value)})"
    )


def without_value(comparison: Comparison) -> list[str]:
    """Return clauses that name optimizers with finished runs without a value of the metric."""
    names = (comparison.first, comparison.second)
    return [
        f"{count} of {counted(total, 'run')} of {name} {'has' if count == 1 else 'have'} no value "
        f"of {metric_title(comparison.metric)}"
        for name, (count, total) in zip(names, comparison.without_value, strict=True)
        if count
    ]


def _outlook(comparison: Comparison, effect: float | None, power: float) -> str:
    """Return what more seeds would detect, or these could; empty if all differences are 0."""
    if not any(comparison.differences):
        return ""
    scale = 100 if comparison.percent else 1
    if effect is None:
        detectable = comparison.detectable_effect(power)
        if detectable is None:
            return ""
        amount = _amount(two_digits(scale * detectable), comparison)
        return f"; a difference of {amount} would have been found with {100 * power:g} % power"
    needed = comparison.seeds_needed(effect, power)
    if needed is None:
        return ""
    more, wanted = needed - comparison.pairs, _amount(f"{scale * effect:.3g}", comparison)
    if more <= 0:
        return f"; these seeds suffice to detect {wanted}"
    return f"; about {counted(_rounded(more), 'more seed')} would be needed to detect {wanted}"


def _rounded(count: int) -> int:
    """Round to two significant digits, as estimates of a number of seeds support no more."""
    return int(float(f"{count:.2g}"))
