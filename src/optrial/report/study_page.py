"""One self-contained HTML page about a study: the answer first, then everything behind it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from optrial.analysis import missing_values
from optrial.analysis.audit import AuditReport, summary_line
from optrial.analysis.audit.report import LABELS
from optrial.analysis.funnel import funnel
from optrial.analysis.reported import SECONDS
from optrial.analysis.searches import best_of_trials, rate_ranges, tolerance_text, tried_rates
from optrial.analysis.statistics import (
    Comparison,
    best_sentence,
    sentence,
    time_text,
    without_value,
)
from optrial.analysis.target_results import profiles, target_results
from optrial.analysis.view import ProblemView, StudyView
from optrial.records import Record
from optrial.report.chart_data import chart_data, probes_of
from optrial.report.drawing import Track, track
from optrial.report.pages import embedded_json, render_page
from optrial.report.study_rows import (
    cost_rows,
    differences,
    flow_rows,
    rank_table,
    rate_rows,
    reported_tables,
    reported_time_table,
    search_rows,
    target_rows,
    timing_table,
)
from optrial.report.style import LineStyle, line_styles
from optrial.report.tables import (
    interval_text,
    reached_text,
    runs_text,
    shown_metrics,
    spread_text,
    summary_note,
    targets_note,
)
from optrial.spec import PROBES, Status, probe_of
from optrial.timing import StudyTiming
from optrial.timing.table import timing_notes

__all__ = ["study_page"]

SAID = 3
SHOWN_FAILURES = 50
SHOWN_VALUES = 6


def study_page(
    view: StudyView, audit: AuditReport | None = None, timing: StudyTiming | None = None
) -> str:
    """Return the page.

    Args:
        view: what is shown.
        audit: what the audit found; None to leave it out.
        timing: what was timed alone; None where nothing was.
    """
    styles = line_styles(view.optimizer_names)
    groups = _number_groups(view.records)
    reported = view.study.get("reported") or {}
    targets = [target_results(view, problem) for problem in view.problems]
    problems = [
        {
            "view": problem,
            "id": f"p{index}",
            "differences": differences(problem, groups),
            "answer": _answer(problem),
            "said": _said(problem.pairs),
            "costs": cost_rows(problem.costs),
            "searches": search_rows(problem.searches),
            "note": summary_note(problem.summaries, funnel(problem.records), problem.select),
            "missing": missing_values(problem.reported),
            "metrics": shown_metrics(
                dict.fromkeys(name for s in problem.summaries for name in s.metrics),
                view.directions,
            ),
            "has_rates": any(problem.sensitivity(metric) for metric in view.metrics),
            "ranges": _ranges(problem, problem.select or problem.metric),
            "range_metric": problem.select or problem.metric,
            "best_of_trials": best_of_trials(problem),
            "targets": [(result, *target_rows(result)) for result in targets[index]],
            "targets_note": targets_note(targets[index]),
            "reported": reported_tables(reported, problem.summaries),
        }
        for index, problem in enumerate(view.problems)
    ]
    flows = [flow for flow in funnel(view.records) if _tunes(view)]
    return render_page(
        "study.html",
        view=view,
        about=_about(view),
        unfinished=sum(
            count
            for status, count in view.statuses.items()
            if status in (Status.PLANNED, Status.INTERRUPTED)
        ),
        audit=audit,
        audit_line=_capital(summary_line(audit)) if audit else "",
        severities=LABELS,
        problems=problems,
        ranks=rank_table(view.ranks),
        ranked_metrics=", ".join(dict.fromkeys(problem.metric for problem in view.problems)),
        flows=flow_rows(flows),
        targets=any(targets),
        profiles=profiles(view),
        reached_text=reached_text,
        interval_text=interval_text,
        time_text=time_text,
        searched=bool(flows) or any(problem["best_of_trials"] for problem in problems),
        timing=timing,
        timed=timing and timing_table(timing),
        timing_notes=timing and timing_notes(timing),
        probes={name: PROBES[name].about for name in probes_of(view)},
        metrics=[metric for metric in view.metrics if not probe_of(metric)],
        reported=any(problem["reported"] for problem in problems),
        reported_times=reported_time_table(reported.get(SECONDS) or {}, timing),
        tolerance_text=tolerance_text,
        swatches={name: _swatch(name, style) for name, style in styles.items()},
        groups=groups,
        group=groups.__getitem__,
        groups_of=partial(_groups_of, view.records, groups),
        spread_text=spread_text,
        runs_text=runs_text,
        number=_number,
        failures=view.failures[:SHOWN_FAILURES],
        hyperparameters=_names(record.hyperparameters for record in view.records),
        phases=_tunes(view),
        facts=_shown_facts(view.facts),
        study_text=_yaml(view.study),
        data=embedded_json(chart_data(view, styles, groups)),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tunes(view: StudyView) -> bool:
    return any(record.phase == "tune" for record in view.records)


def _number_groups(records: Iterable[Record]) -> dict[str, int]:
    """Number the settings, so that links can name them whatever they are called."""
    ids = dict.fromkeys(record.setting_id for record in records)
    return {setting_id: number for number, setting_id in enumerate(ids)}


def _groups_of(
    records: Iterable[Record],
    groups: Mapping[str, int],
    runs: Mapping[str, Sequence[str]],
) -> str:
    """The numbers of the settings of the runs that a finding is about."""
    wanted = {run_id for ids in runs.values() for run_id in ids}
    found = (groups[r.setting_id] for r in records if r.run_id in wanted)
    return " ".join(map(str, sorted(set(found))))


def _names(values: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in values for name in each))


def _about(view: StudyView) -> dict[str, str]:
    """What was trained, in a few words each."""
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
    about["runs"] = ", ".join(f"{count:,} {status}" for status, count in view.statuses.items())
    return {label: value for label, value in about.items() if value}


def _answer(problem: ProblemView) -> str:
    """Which optimizer is best; names keep the case that they have."""
    if problem.comparisons is None:
        return problem.not_compared
    said = best_sentence(problem.comparisons, problem.contestants)
    missing = dict.fromkeys(n for pair in problem.comparisons.pairs for n in without_value(pair))
    return ". ".join([said.replace("none of", "None of", 1), *missing]) + "."


def _said(pairs: Sequence[Comparison]) -> list[str]:
    """What was found of the leader and each other optimizer, three sentences at most.

    Optimizers of which every run diverged are named before.
    """
    leading = [pair for pair in pairs if pair.first == pairs[0].first and not pair.all_diverged]
    return [sentence(pair) for pair in leading[:SAID]]


def _ranges(problem: ProblemView, metric: str) -> Any:
    return rate_rows(rate_ranges(problem, metric), tried_rates(problem, metric))


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
    """Each fact's values, with the number of runs where they differ."""
    shown = {}
    for name, counts in facts.items():
        values = list(counts.items())[:SHOWN_VALUES]
        texts = [f"{v} ({n:,} runs)" if len(counts) > 1 else v for v, n in values]
        more = len(counts) - len(texts)
        shown[name] = texts + [f"and {more:,} more"] * bool(more)
    return shown


def _yaml(study: Mapping[str, Any]) -> str:
    """Return the study as a study file, without the keys that say nothing."""
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = None
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 90
    writer.dump(_without_none(json.loads(json.dumps(study))), stream)
    return stream.getvalue()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value
