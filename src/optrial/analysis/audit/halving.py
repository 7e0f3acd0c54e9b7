"""A, third part: whether trials that were left out early might have become the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import OptimizerRuns
from optrial.records import Record
from optrial.spec import FINAL, Selection

STABLE_TAU = 0.7
"""Kendall's tau between two rungs from which on their orders count as the same."""
FEWEST_PAIRS = 6


class _Order(NamedTuple):
    """Pairs of settings of one optimizer that all seeds order alike, in each of two rungs."""

    pairs: int
    turned: int

    @property
    def tau(self) -> float:
        """Kendall's tau over these pairs."""
        return 1 - 2 * self.turned / self.pairs


@audit_rule("A14", Severity.WARNING, "short and long training rank the settings differently")
def fast_starters(context: Context) -> Iterator[Observation]:
    """Successive halving drops settings after part of the budget, which favours those that start
    fast. If the remaining settings change their order with longer training, a dropped one might
    have become the best. Only pairs of settings that every tuning seed orders in the same way are
    counted.

    Source: Jamieson & Talwalkar 2016; Li et al. 2018 (Hyperband); Wen et al. 2025 (rank flips).
    Example: longer training reversed 9 of 20 clear pairs of settings of sgd (Kendall's tau 0.10).
    Fix: use fewer rungs, or train all trials with the whole budget by `sampler: random`.
    """
    selection = context.ranked_by
    if selection is None:
        return
    for problem in context.problems:
        orders = {o.name: _order(o, selection) for o in problem.optimizers}
        unstable = {
            name: order
            for name, order in orders.items()
            if order.pairs >= FEWEST_PAIRS and order.tau < STABLE_TAU
        }
        if unstable:
            yield Observation(
                names(
                    f"longer training reversed {order.turned} of {order.pairs} clear pairs of "
                    f"settings of {name} (Kendall's tau {order.tau:.2f})"
                    for name, order in unstable.items()
                ),
                {name: order._asdict() | {"tau": order.tau} for name, order in unstable.items()},
                [r for o in problem.optimizers if o.name in unstable for r in o.trials],
                _whole_budget(context, problem.optimizers),
            )


def _order(optimizer: OptimizerRuns, selection: Selection) -> _Order:
    """Count the pairs of settings that went on, and those whose order changed, over all rungs."""
    pairs = turned = 0
    for before, after in pairwise(optimizer.rungs):
        common = [name for name in before if name in after]
        for first, second in combinations(common, 2):
            signs = [_sign(rung[first], rung[second], selection) for rung in (before, after)]
            if all(signs):
                pairs += 1
                turned += signs[0] != signs[1]
    return _Order(pairs, turned)


def _sign(first: Sequence[Record], second: Sequence[Record], selection: Selection) -> int:
    """Return 1 if every seed has a better value with the first setting, -1 if with the second."""
    one, other = _by_seed(first, selection), _by_seed(second, selection)
    signs = {
        (one[seed] > other[seed]) - (one[seed] < other[seed]) for seed in one.keys() & other.keys()
    }
    return signs.pop() if len(signs) == 1 else 0


def _by_seed(runs: Sequence[Record], selection: Selection) -> Mapping[int, float]:
    """Return scores by seed; that of a failed run is below all others."""
    scores = {
        run.seed: selection.score(run.final(selection.metric))
        for run in runs
        if run.status in FINAL
    }
    return {seed: float("-inf") if s is None else s for seed, s in scores.items()}


def _whole_budget(context: Context, optimizers: Sequence[OptimizerRuns]) -> Remedy:
    """Return the remedy of training the same settings with the whole budget."""
    tune = context.study.get("tune") or {}
    unused = {f"tune.{name}": None for name in ("eta", "rungs") if tune.get(name) is not None}
    left_out = (
        len(runs)
        for optimizer in optimizers
        for setting_id, runs in optimizer.tried.items()
        if setting_id not in optimizer.finalists
    )
    like = [r for o in optimizers for runs in o.finalists.values() for r in runs]
    action = "train all trials with the whole budget"
    return context.remedy(action, {"tune.sampler": "random", **unused}, sum(left_out), like)
