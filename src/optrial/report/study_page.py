"""One self-contained HTML page about a study: conclusions first, then the evidence."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from optrial.analysis import missing_values
from optrial.analysis.audit import AuditReport, summary_line
from optrial.analysis.audit.report import LABELS, cost_text, without_none
from optrial.analysis.costs import Cost
from optrial.analysis.funnel import funnel
from optrial.analysis.recommendation import Recommendation, recommend
from optrial.analysis.reported import ReportedValue, agreement, published, published_seconds
from optrial.analysis.searches import best_of_trials, rate_ranges, tolerance_text, tried_rates
from optrial.analysis.statistics import (
    BestOfK,
    RateRange,
    best_sentence,
    time_text,
    without_value,
)
from optrial.analysis.summary import SettingSummary
from optrial.analysis.target_results import TargetResult, profiles, target_results
from optrial.analysis.view import ProblemView, Search, StudyView
from optrial.errors import counted
from optrial.records import Record
from optrial.report.axes import optimizer_styles
from optrial.report.chart_data import chart_data, probes_of
from optrial.report.cuts import shown_runs, shown_settings
from optrial.report.drawing import Track, track
from optrial.report.pages import embedded_json, render_page
from optrial.report.ranking import Differences, Matrix, Ranking, differences, matrix, ranking
from optrial.report.strips import Scale, Strip
from optrial.report.study_rows import (
    Rows,
    TargetRow,
    cost_rows,
    flow_rows,
    range_text,
    rank_table,
    rate_rows,
    reported_tables,
    reported_time_table,
    search_rows,
    target_rows,
    timing_table,
)
from optrial.report.tables import (
    interval_text,
    reached_text,
    runs_text,
    shown_metrics,
    spread_cell,
    spread_text,
    summary_note,
    targets_note,
)
from optrial.spec import FAILED, PROBES, MetricName, Status, setting_text
from optrial.style import COLOURED, MANY, LineStyle
from optrial.timing import StudyTiming
from optrial.timing.table import timing_notes

__all__ = ["study_page"]

SHOWN_FAILURES = 50
SHOWN_VALUES = 6


@dataclass(frozen=True, eq=False)
class ProblemSection:
    """Texts and tables of one problem, as the template shows them.

    Attributes:
        study: the study.
        view: the problem.
        groups: number of each setting by its id.
    """

    study: StudyView
    view: ProblemView
    groups: Mapping[str, int]

    @property
    def answer(self) -> str:
        """The best optimizer, or the reason why nothing is compared."""
        comparisons = self.view.comparisons
        if comparisons is None:
            return self.view.not_compared
        best = best_sentence(comparisons, self.view.contestants)
        missing = dict.fromkeys(note for pair in comparisons.pairs for note in without_value(pair))
        return ". ".join([best, *missing]) + "."

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """The settings to use."""
        return recommend(self.view)

    @cached_property
    def ranking(self) -> Ranking | None:
        """The contenders, best first."""
        return ranking(self.view, self.groups)

    @cached_property
    def differences(self) -> Differences | None:
        """The table of paired differences."""
        return differences(self.view, self.groups)

    @cached_property
    def matrix(self) -> Matrix | None:
        """The verdicts on all pairs."""
        if self.ranking is None or self.differences is None:
            return None
        names = [row.name for row in self.ranking.rows]
        return matrix(names, [*self.differences.first, *self.differences.others])

    @cached_property
    def shown(self) -> frozenset[str]:
        """Ids of the settings that tables and curves show."""
        return shown_settings(self.view)

    @property
    def cut(self) -> str:
        """Note on the settings of a large study that are left out; empty if none is."""
        count, total = len(self.shown), len(self.view.summaries)
        if count == total:
            return ""
        return (
            f"Tables and curves show {count:,} of {total:,} settings, the best of each optimizer; "
            "optrial show lists all of them"
        )

    @cached_property
    def leading(self) -> frozenset[int]:
        """Numbers of the settings of the leading group; empty if nothing is shown to be worse."""
        rows = self.ranking.rows if self.ranking and self.ranking.decided else ()
        return frozenset(row.group for row in rows if row.leading)

    @property
    def summaries(self) -> list[SettingSummary]:
        """The rows of the summary table, best first; those with failed runs follow."""
        view = self.view
        sign = -1 if view.directions.better(view.metric) == "higher" else 1

        def place(summary: SettingSummary) -> tuple[float, float]:
            spread = summary.metrics.get(view.metric)
            if spread is None:
                return 2.0, 0.0
            return 1 - spread.count / summary.runs, sign * spread.mean

        return sorted((s for s in view.summaries if s.setting_id in self.shown), key=place)

    @property
    def failed_last(self) -> bool:
        """True if settings with failed runs follow others in the summary table."""
        failed = {any(status in FAILED for status in s.statuses) for s in self.summaries}
        return bool(self.metrics) and len(failed) > 1

    @property
    def costs(self) -> Rows[Cost]:
        """The table of training times."""
        shown = {c.name for c in self.view.contenders if c.setting_id in self.shown}
        return cost_rows([cost for cost in self.view.costs if cost.name in shown])

    @property
    def searches(self) -> Rows[Search]:
        """The table of tuning trials."""
        percent = self.view.directions.percent(self.view.select or "")
        return search_rows(self.view.searches, 100 if percent else 1)

    @property
    def note(self) -> str:
        """Note on the summary table."""
        view = self.view
        flows = funnel(view.records)
        return summary_note(
            view.summaries, flows, view.select, view.pairing, untrained=view.untrained
        )

    @property
    def missing(self) -> list[str]:
        """Reasons why finished runs have no value of a metric."""
        return missing_values(self.view.reported)

    @cached_property
    def metrics(self) -> list[str]:
        """Metrics of the summary table, first the one that optimizers are compared on."""
        recorded = dict.fromkeys(name for s in self.view.summaries for name in s.metrics)
        shown = shown_metrics(recorded, self.view.directions)
        return list(dict.fromkeys([*filter(recorded.__contains__, [self.view.metric]), *shown]))

    @property
    def has_rates(self) -> bool:
        """True if an optimizer was tried with several learning rates."""
        return any(self.view.sensitivity(metric) for metric in self.study.metrics)

    @property
    def has_curves(self) -> bool:
        """True if a run has recorded anything."""
        return any(record.step for record in self.view.reported)

    @property
    def range_metric(self) -> str:
        """The metric of the table of learning rates."""
        return self.view.select or self.view.metric

    @property
    def ranges(self) -> tuple[Scale, list[tuple[str, RateRange, Strip]]]:
        """The table of learning rates that are about as good as the best."""
        metric = self.range_metric
        ranges = rate_ranges(self.view, metric)
        ranked = [name for name in self.study.ranked_optimizers if name in ranges]
        return rate_rows({name: ranges[name] for name in ranked}, tried_rates(self.view, metric))

    @cached_property
    def best_of_trials(self) -> dict[str, BestOfK]:
        """Expected best of k trials by optimizer."""
        return best_of_trials(self.view)

    @cached_property
    def target_results(self) -> tuple[TargetResult, ...]:
        """Times to the targets of the problem."""
        return target_results(self.study, self.view)

    @property
    def targets(self) -> list[tuple[TargetResult, Scale, list[TargetRow]]]:
        """The tables of times to targets."""
        return [(result, *target_rows(result, self.shown)) for result in self.target_results]

    @property
    def targets_note(self) -> str:
        """Note on the tables of targets."""
        return targets_note(self.target_results)

    @cached_property
    def reported(self) -> dict[str, Rows[ReportedValue]]:
        """Published values beside measured ones, by metric."""
        return reported_tables(self.study.published(self.view))

    @cached_property
    def agreement(self) -> list[str]:
        """Number of published values that agree, and a line for each that does not."""
        return agreement(self.study.published(self.view))


def study_page(
    view: StudyView, audit: AuditReport | None = None, timing: StudyTiming | None = None
) -> str:
    """Return the page of a study.

    Args:
        view: the study.
        audit: its audit; None leaves the section out.
        timing: step times of each optimizer alone; None if none were measured.
    """
    styles = optimizer_styles(view)
    groups = _number_groups(view.records)
    problems = [ProblemSection(view, problem, groups) for problem in view.problems]
    first = view.problems[0].name if view.problems else ""
    flows = funnel(view.records) if view.has_tuning else []
    failures = view.failures[:SHOWN_FAILURES]
    shown = {problem.view.name: problem.shown for problem in problems}
    return render_page(
        "study.html",
        view=view,
        about=_about(view),
        tuning=any({record.phase for record in p.records} == {"tune"} for p in view.problems),
        unfinished=sum(
            count
            for status, count in view.statuses.items()
            if status in (Status.PLANNED, Status.INTERRUPTED)
        ),
        audit=audit,
        audit_line=_capital(summary_line(audit)) if audit else "",
        severities=LABELS,
        cost_text=cost_text,
        problems=problems,
        ranks=rank_table(view.ranks),
        ranked_metrics=", ".join(
            dict.fromkeys(view.directions.title(problem.metric) for problem in view.problems)
        ),
        flows=flow_rows(flows),
        rates=any(problem.has_rates for problem in problems),
        costs=any(problem.view.costs for problem in problems),
        targets=any(problem.target_results for problem in problems),
        profiles=profiles(view),
        reached_text=reached_text,
        interval_text=interval_text,
        time_text=time_text,
        searched=bool(flows) or any(problem.best_of_trials for problem in problems),
        timing=timing,
        timed=timing and timing_table(timing),
        timing_notes=timing and timing_notes(timing),
        probes={name: PROBES[name].about for name in probes_of(view)},
        metrics=[metric for metric in view.metrics if not MetricName.parse(metric).probe],
        reported=any(problem.reported for problem in problems),
        reported_times=reported_time_table(published_seconds(published(view.study, first)), timing),
        range_text=range_text,
        tolerance_text=tolerance_text,
        swatches={name: _swatch(name, style) for name, style in styles.items()},
        coloured=view.ranked_optimizers[: COLOURED if len(styles) > MANY else None],
        places={name: view.optimizer_names.index(name) for name in view.ranked_optimizers},
        curves=any(problem.has_curves for problem in problems),
        differences=any(problem.differences for problem in problems),
        groups=groups,
        group=groups.__getitem__,
        groups_of=partial(_groups_of, view.records, groups),
        setting_text=setting_text,
        spread_cell=spread_cell,
        spread_text=spread_text,
        runs_text=runs_text,
        number=_number,
        failures=failures,
        runs=shown_runs(view, failures, (key for settings in shown.values() for key in settings)),
        hyperparameters=list(dict.fromkeys(n for r in view.records for n in r.hyperparameters)),
        phases=view.has_tuning,
        folds=any(record.spec.fold for record in view.records),
        facts=_shown_facts(view.facts),
        study_text=_yaml(view.study),
        data=embedded_json(chart_data(view, styles, groups, shown)),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number_groups(records: Iterable[Record]) -> dict[str, int]:
    """Number the settings, so that links can name them whatever characters their names have."""
    ids = dict.fromkeys(record.setting_id for record in records)
    return {setting_id: number for number, setting_id in enumerate(ids)}


def _groups_of(
    records: Iterable[Record],
    groups: Mapping[str, int],
    runs: Mapping[str, Sequence[str]],
) -> str:
    """Return the numbers of the settings with one of the runs of a finding."""
    ids = {run_id for run_ids in runs.values() for run_id in run_ids}
    numbers = {groups[record.setting_id] for record in records if record.run_id in ids}
    return " ".join(map(str, sorted(numbers)))


def _about(view: StudyView) -> dict[str, str]:
    """Return labels and short texts that describe the study."""
    if not view.records:
        return {}
    specs = [record.spec for record in view.records]
    values: dict[str, list[str]] = {
        "dataset": [spec.dataset for spec in specs],
        "model": [spec.model for spec in specs],
        "loss": [spec.loss for spec in specs],
        "batch size": [str(spec.batch_size) for spec in specs],
        "precision": [spec.precision for spec in specs],
    }
    about = {label: ", ".join(dict.fromkeys(shown)) for label, shown in values.items()}
    about["steps"] = ", ".join(dict.fromkeys(f"{record.steps:,}" for record in view.records))
    seeds = {record.seed for problem in view.problems for record in problem.reported}
    about["seeds"] = str(len(seeds))
    folds = {record.fold for record in view.records if record.fold is not None}
    about["folds"] = str(len(folds)) if folds else ""
    about["runs"] = ", ".join(f"{count:,} {status}" for status, count in view.statuses.items())
    return {label: value for label, value in about.items() if value}


def _swatch(name: str, style: LineStyle) -> Track:
    return track(name, "", np.empty(0), style, "")


def _number(value: Any) -> str:
    """Return a hyperparameter or a metric as text that can be sorted."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _shown_facts(facts: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Return the values of each fact, with numbers of runs if they differ."""
    shown = {}
    for name, counts in facts.items():
        values = list(counts.items())[:SHOWN_VALUES]
        texts = [f"{v} ({counted(n, 'run')})" if len(counts) > 1 else v for v, n in values]
        more = len(counts) - len(texts)
        shown[name] = texts + [f"and {more:,} more"] * bool(more)
    return shown


def _yaml(study: Mapping[str, Any]) -> str:
    """Return the study as a study file, without keys that are not set."""
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = None
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 90
    writer.dump(without_none(json.loads(json.dumps(study))), stream)
    return stream.getvalue()
