"""Successive halving: many trials on a small part of the budget, the best of them on more.

Jamieson & Talwalkar 2016, with the numbers of `sklearn.model_selection.HalvingRandomSearchCV`: of
the trials of a rung, one in eta, rounded up, goes on to the next, whose budget is eta times that.
Each rung trains from the start, because a schedule that has come to its end cannot be continued.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RungPlan", "most_rungs", "rungs_of", "usual_rungs"]


class RungPlan(NamedTuple):
    """One rung of a search.

    Attributes:
        place: place among all rungs, from 0.
        total: number of rungs.
        trials: number of trials of each optimizer.
        divisor: whole budget divided by that of this rung; 1 for the last.
    """

    place: int
    total: int
    trials: int
    divisor: int

    @property
    def is_last(self) -> bool:
        """True if the trials have the whole budget."""
        return self.divisor == 1

    @property
    def share(self) -> str:
        """The budget of the rung in words: ``1/9 of the budget``."""
        return "the whole budget" if self.is_last else f"1/{self.divisor} of the budget"


def most_rungs(trials: int, eta: int) -> int:
    """Return the most rungs in which there are enough trials to divide."""
    count = 1
    while eta**count <= trials:
        count += 1
    return count


def usual_rungs(trials: int, eta: int) -> int:
    """Return the most rungs, at least 2, that leave two trials to compare in the last."""
    return max(2, most_rungs(trials - 1, eta))


def rungs_of(trials: int, eta: int, total: int) -> tuple[RungPlan, ...]:
    """Return the rungs of a search.

    Args:
        trials: number of trials of the first rung.
        eta: factor from rung to rung, from 2.
        total: number of rungs, from 1.
    """
    rungs = []
    for place in range(total):
        rungs.append(RungPlan(place, total, trials, eta ** (total - 1 - place)))
        trials = -(-trials // eta)
    return tuple(rungs)
