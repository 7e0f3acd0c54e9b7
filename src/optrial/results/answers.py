"""Answers: which optimizer is best, and whether a difference is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optrial.analysis.searches import best_of_trials_frame
from optrial.analysis.statistics import Comparison, best_sentence, p_text, sentence
from optrial.analysis.statistics.wording import difference_text
from optrial.analysis.view import ProblemView
from optrial.code import Trust
from optrial.errors import StoreError
from optrial.markup import html_block, html_table
from optrial.results.reading import check_contender, check_different, one_problem
from optrial.results.weights import SavedWeights
from optrial.spec import Direction, metric_title

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from optrial.analysis.claims import ClaimResult
    from optrial.analysis.recommendation import Best, Recommendation

__all__ = ["Answers"]


@dataclass(frozen=True, kw_only=True, repr=False)
class _Answer(Comparison):
    """A comparison that shows its result in words."""

    def __str__(self) -> str:
        return sentence(self)

    def __repr__(self) -> str:
        return f"<Comparison: {self}>"

    def _repr_html_(self) -> str:
        amount, interval = difference_text(self)
        level, _, limits = interval.rpartition(" interval ")
        columns = ["", "difference", f"{level} interval".strip(), "p", f"{self.unit}s"]
        pair = f"{self.first} − {self.second}"
        p_value = p_text(self.adjusted_p_value).removeprefix("p ").removeprefix("= ")
        row = [pair, amount, limits, p_value, str(self.pairs)]
        notes = [metric_title(self.metric) + "; lower is better" * (not self.higher_is_better)]
        if self.comparisons > 1:
            notes.append(f"interval and p are adjusted for {self.comparisons} comparisons")
        return html_block(str(self), html_table(columns, [row]), notes=["; ".join(notes)])


class Answers(SavedWeights):
    """The best optimizer, comparisons of optimizers, and claims."""

    def best(
        self,
        problem: str | None = None,
        metric: str | None = None,
        better: Direction | None = None,
    ) -> Best:
        """Return the leading optimizer at its best setting, and its best run.

        The attribute `statement` of the result says whether the others are undecided against it.

        Args:
            problem: name of the problem; needed if the study has several.
            metric: see `compare`.
            better: see `compare`.

        Raises:
            StoreError: no run leads, or there is no such problem or metric.
        """
        from optrial.analysis.recommendation import best_of  # loads the rules  # noqa: PLC0415

        one = one_problem(self.ordered_view(metric, better), problem)
        best = best_of(one)
        if best is None:
            raise StoreError(f"no optimizer is best. {_why_none(one)}")
        return best

    def best_model(
        self, problem: str | None = None, trust: Iterable[str | Path] | Trust = ()
    ) -> nn.Module:
        """Return the trained module of the best run; see `best` and `model`.

        Raises:
            StoreError: no run leads, or its weights were not saved; see the key `save` of a study.
        """
        return self.model(self.best(problem).run_id, trust)

    def recommendation(self, problem: str | None = None) -> Recommendation:
        """Return the setting to use, or what may be used while there is no clear winner.

        The attribute `code` is a statement that builds the leader for a PyTorch `model`;
        `settings` holds the leader and what is undecided against it, each with the learning rates
        that do about as well.

        Args:
            problem: name of the problem; needed if the study has several.

        Raises:
            StoreError: no setting can be recommended, or there is no such problem.
        """
        from optrial.analysis.recommendation import recommend  # loads the rules  # noqa: PLC0415

        one = one_problem(self.ordered_view(None, None), problem)
        recommendation = recommend(one)
        if recommendation is None:
            raise StoreError(f"no setting can be recommended. {_why_none(one)}")
        return recommendation

    def claims(self) -> tuple[ClaimResult, ...]:
        """Return the verdict on every claim of the study, on each problem that it is about."""
        from optrial.analysis.audit.context import Context  # loads every rule  # noqa: PLC0415

        return Context.of(self.view()).results

    def best_of_trials(self) -> pd.DataFrame:
        """Return the expected best value of k tried settings, one row per optimizer and k.

        The columns are ``problem``, ``optimizer``, ``trials`` (k), ``expected``, its interval
        ``low`` to ``high``, and ``all_diverged``, the chance that none of k trials finishes. The
        value of a setting is its mean over seeds on the metric that selects. Empty where nothing
        selects.

        Source: Dodge et al. 2019.
        """
        return best_of_trials_frame(self.view())

    def compare(
        self,
        first: str,
        second: str,
        metric: str | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> Comparison:
        """Compare two optimizers by their chosen settings, over the seeds that both have.

        The comparison is one of all pairs of the study, and corrected for their number, as in the
        report. A question asked before the runs belongs in `claims`, which are corrected for the
        number of claims only.

        `optrial.analysis.statistics.sentence` puts the result into words.

        Args:
            first: name of an optimizer; with its setting, as in ``adam lr=0.01``, if the study has
                no validation split that could choose one.
            second: name of another optimizer.
            metric: by default the metric that the study reports, on the test split if there is one.
            better: "lower" or "higher", for a metric whose direction the study does not declare.
            problem: name of the problem; needed if the study has several.

        Raises:
            StoreError: there is no such optimizer, problem or metric, both optimizers are the
                same, the direction of the metric is unknown, or nothing was trained.
        """
        view = self.ordered_view(metric, better)
        one = one_problem(view, problem)
        check_different(first, second)
        pair = one.pair(check_contender(one, first).name, check_contender(one, second).name)
        if one.untrained:
            raise StoreError(one.not_compared)
        return _Answer(**vars(pair))

    def comparisons(
        self,
        metric: str | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> list[str]:
        """Return which optimizer is best, and every pair, one sentence each.

        Args:
            metric: see `compare`.
            better: see `compare`.
            problem: see `compare`.

        Raises:
            StoreError: as `compare`.
        """
        one = one_problem(self.ordered_view(metric, better), problem)
        if one.comparisons is None:
            return [one.not_compared]
        return [best_sentence(one.comparisons, one.contestants), *map(sentence, one.pairs)]


def _why_none(problem: ProblemView) -> str:
    """Return why no optimizer leads, or why no setting is chosen."""
    if problem.comparisons is None:
        return problem.not_compared
    if not problem.comparisons.groups:
        return f"{best_sentence(problem.comparisons, problem.contestants)}."
    return (
        "Several settings of an optimizer contend, because the study does not evaluate on a "
        "validation split, which would choose among them; add validation to evaluate.on."
    )
