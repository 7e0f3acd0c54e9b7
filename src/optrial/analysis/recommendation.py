"""The best setting and run, and the settings to use with the learning rates that do as well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optrial.analysis.contenders import Contender, hyperparameters
from optrial.analysis.searches import rate_ranges
from optrial.analysis.statistics import RateRange, Verdict, best_sentence, known_values, value_text
from optrial.analysis.torch_code import torch_code
from optrial.analysis.view import ProblemView
from optrial.markup import html_block, html_pairs
from optrial.records import Record
from optrial.spec import Status, metric_title, setting_text

__all__ = ["Best", "Recommendation", "Setting", "best_of", "recommend"]

_LISTED = 4
"""Most settings that the text names."""


@dataclass(frozen=True, repr=False)
class Best:
    """The leading optimizer of a problem at its best setting, and its best run.

    Attributes:
        optimizer: name of the leading optimizer.
        setting: the values that vary; empty if none does.
        hyperparameters: all hyperparameters of the setting.
        metric: the metric that optimizers are compared on.
        value: its mean over the finished runs of the setting.
        shown: the same with its unit, in the digits that the seeds support: ``83.0 %``.
        percent: whether tables show the metric in percent.
        run_id: id of the best run: by the metric that selects settings on the validation split, or
            the first finished one if the study has no validation split.
        seed: seed of that run.
        statement: what the comparison shows, in one sentence without a full stop.
        pairing: what the mean is over.
    """

    optimizer: str
    setting: str
    hyperparameters: Mapping[str, Any]
    metric: str
    value: float
    shown: str
    percent: bool
    run_id: str
    seed: int
    statement: str
    pairing: Literal["seed", "fold"] = "seed"

    def __str__(self) -> str:
        return self.statement

    def __repr__(self) -> str:
        return f"<Best: {self.statement}; run {self.run_id}, seed {self.seed}>"

    @property
    def pairs(self) -> dict[str, str]:
        """The attributes as pairs of a name and a text."""
        values = ", ".join(f"{name} {value}" for name, value in self.hyperparameters.items())
        return {
            "best": f"{self.optimizer} {setting_text(self.setting)}".strip(),
            "settings": values or "none",
            metric_title(self.metric): f"{self.shown}, mean over {self.pairing}s",
            "best run": f"{self.run_id}, seed {self.seed}",
        }

    def _repr_html_(self) -> str:
        return html_block(self.statement, html_pairs(self.pairs))


@dataclass(frozen=True)
class Setting:
    """The chosen setting of one optimizer.

    Attributes:
        optimizer: name of the optimizer.
        setting: the values that vary; empty if none does.
        rates: learning rates that are about as good; None if fewer than two were tried.
        code: statements that build the optimizer for a PyTorch `model`; empty for a rule without
            counterpart.
        besides: keys of the study that the statement leaves out, such as schedule and clipping.
    """

    optimizer: str
    setting: str
    rates: RateRange | None
    code: str
    besides: tuple[str, ...]

    def __str__(self) -> str:
        values = setting_text(self.setting).replace("=", " ") or "its setting in this study"
        return f"{self.optimizer} at {values}"

    @property
    def range_text(self) -> str:
        """The learning rates that do as well, ``0.0007 to 0.01``; empty if no other is known."""
        rates = self.rates
        if rates is None or f"{rates.low:.2g}" == f"{rates.high:.2g}":
            return ""
        low = f"{rates.low:.2g}" + " or below" * rates.open_low
        return f"{low} to {rates.high:.2g}" + " or above" * rates.open_high


@dataclass(frozen=True, repr=False)
class Recommendation:
    """Recommendation of a study for one problem.

    Attributes:
        settings: the setting of the leader, then those that are undecided against it.
        early: whether there are too few seeds to separate the optimizers; then only the leader has
            a setting.
    """

    settings: tuple[Setting, ...]
    early: bool = False

    @property
    def leader(self) -> Setting:
        """The setting of the leader."""
        return self.settings[0]

    @property
    def code(self) -> str:
        """Statements that build the leader in PyTorch; empty for a rule without counterpart."""
        return self.leader.code

    @property
    def is_clear(self) -> bool:
        """True if the leader is shown to be better than every other optimizer."""
        return len(self.settings) == 1 and not self.early

    def __str__(self) -> str:
        if self.is_clear:
            return self.text
        text = f"for now, use {self.choice}" if self.early else self.text
        return f"No clear winner yet: {text}"

    def __repr__(self) -> str:
        return f"<Recommendation: {self}>"

    def _repr_html_(self) -> str:
        lines = {setting.optimizer: setting.code for setting in self.settings if setting.code}
        return html_block(str(self), html_pairs(lines) if lines else "")

    @property
    def text(self) -> str:
        """The setting to use, or the settings that may be used while there is no clear winner."""
        if len(self.settings) == 1:
            return f"For now, use {self.choice}" if self.early else f"Use {self.choice}"
        return f"{self.choice} may be used"

    @property
    def choice(self) -> str:
        """The setting with the learning rates that do as well, or the settings that may be used."""
        if len(self.settings) == 1:
            as_good = f"; any learning rate from {self.leader.range_text} does about as well"
            return f"{self.leader}" + as_good * bool(self.leader.range_text)
        texts = [_with_range(setting) for setting in self.settings[:_LISTED]]
        if more := len(self.settings) - len(texts):
            texts.append(f"{more} more")
        *others, last = texts
        return f"{', '.join(others)} or {last}"


def _with_range(setting: Setting) -> str:
    return f"{setting}" + f" ({setting.range_text})" * bool(setting.range_text)


def best_of(problem: ProblemView) -> Best | None:
    """Return the leading setting and its best run; None if no run leads.

    A lone optimizer leads without a comparison.
    """
    leader = _leader(problem)
    if leader is None:
        return None
    values = _finite(leader, problem.metric)
    run = _best_run(problem, leader.records)
    percent = problem.directions.percent(problem.metric)
    shown = value_text(values, percent=percent)
    if problem.comparisons is not None:
        statement = best_sentence(problem.comparisons, problem.contestants)
    else:
        statement = f"{leader.name}: {shown} {metric_title(problem.metric)}; nothing to compare"
    return Best(
        optimizer=leader.optimizer,
        setting=leader.setting,
        hyperparameters=hyperparameters(run),
        metric=problem.metric,
        value=math.fsum(values) / len(values),
        shown=shown,
        percent=percent,
        run_id=run.run_id,
        seed=run.seed,
        pairing=problem.pairing,
        statement=statement,
    )


def recommend(problem: ProblemView) -> Recommendation | None:
    """Return the recommendation of a study; None if no run leads or no setting is chosen."""
    leader = _leader(problem)
    if leader is None or not problem.chooses:
        return None
    contenders = {contender.name: contender for contender in problem.contenders}
    group = problem.comparisons.groups[0] if problem.comparisons else [leader.name]
    against = [problem.pair(leader.name, name) for name in group[1:]]
    early = any(pair.verdict is Verdict.UNDECIDED_TOO_FEW for pair in against)
    ranges = rate_ranges(problem, problem.select or problem.metric)
    names = group[:1] if early else group
    settings = [_setting(contenders[n], ranges.get(contenders[n].optimizer)) for n in names]
    return Recommendation(tuple(settings), early)


def _leader(problem: ProblemView) -> Contender | None:
    """Return the leading contender; a lone one if it was trained and has a finite value."""
    if problem.untrained:
        return None
    comparisons = problem.comparisons
    if comparisons is None:
        with_values = [c for c in problem.contenders if _finite(c, problem.metric)]
        alone = len(problem.contenders) == len(with_values) == 1
        return with_values[0] if alone else None
    if not comparisons.groups:
        return None
    (leader,) = (c for c in problem.contenders if c.name == comparisons.groups[0][0])
    return leader


def _finite(contender: Contender, metric: str) -> list[float]:
    values = known_values(contender.values(metric)).values() if metric else ()
    return [value for value in values if math.isfinite(value)]


def _best_run(problem: ProblemView, records: Sequence[Record]) -> Record:
    """Return the best finished run by the metric that selects; the first one without it."""
    done = [record for record in records if record.status is Status.DONE]
    selection = problem.selection
    if selection is None:
        return done[0]
    scores = [selection.score(record.final(selection.metric)) for record in done]
    known = [-math.inf if score is None else score for score in scores]
    return done[known.index(max(known))]


def _setting(contender: Contender, rates: RateRange | None) -> Setting:
    spec = contender.spec
    known = rates if rates is not None and rates.best == rates.best else None
    extras = {
        "schedule": any((spec.schedule, *(group.schedule for group in spec.groups))),
        "clip": spec.clip_norm is not None or spec.clip_value is not None,
        "sam": spec.sam_rho is not None and not spec.sam_adaptive,
        "adaptive_sam": spec.sam_rho is not None and spec.sam_adaptive,
        "average": spec.average is not None,
        "accumulate": spec.accumulate > 1,
        "early_stopping": spec.early_stopping is not None,
    }
    besides = tuple(key for key, is_set in extras.items() if is_set)
    return Setting(contender.name, contender.setting, known, torch_code(spec), besides)
