"""Data of the interactive charts of a study's page, as plain values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from optrial.analysis.searches import best_of_trials
from optrial.analysis.target_results import TargetResult, profiles, target_results
from optrial.analysis.view import ProblemView, StudyView
from optrial.records import Record
from optrial.report.cuts import single_runs, thinned
from optrial.report.drawing import MARKER_SIZE
from optrial.spec import MetricName, setting_text
from optrial.style import COLOURED, LineStyle, marker_outline, variant_styles

__all__ = ["chart_data", "probes_of"]

Groups = Mapping[str, int]
"""Number of each setting, by its id."""


def chart_data(
    view: StudyView,
    styles: Mapping[str, LineStyle],
    groups: Groups,
    shown: Mapping[str, Collection[str]],
) -> dict[str, Any]:
    """Return the data of the charts of a page, which study.js reads from JSON.

    Args:
        view: the study.
        styles: of the optimizers, in their order.
        groups: number of each setting, by which the page filters its runs.
        shown: ids of the settings whose curves are drawn, by name of the problem.
    """
    places = {name: index for index, name in enumerate(view.optimizer_names)}
    return {
        "optimizers": [{"name": name, **_style_data(style)} for name, style in styles.items()],
        "probes": probes_of(view),
        "better": {name: view.directions.better(name) for name in view.metrics},
        "titles": {name: view.directions.heading(name) for name in view.metrics},
        "percent": [name for name in view.metrics if view.directions.percent(name)],
        "leading": [places[name] for name in view.ranked_optimizers[:COLOURED]],
        "by": view.budget_unit,
        "problems": [
            _problem_data(view, problem, styles, groups, shown[problem.name])
            for problem in view.problems
        ],
        "profiles": _profile_data(view, places),
    }


def probes_of(view: StudyView) -> list[str]:
    """Return the names of the recorded probes, without layers."""
    probes = (MetricName.parse(metric).probe for metric in view.metrics)
    return list(dict.fromkeys(probe for probe in probes if probe))


def _problem_data(
    view: StudyView,
    problem: ProblemView,
    styles: Mapping[str, LineStyle],
    groups: Groups,
    shown: Collection[str],
) -> dict[str, Any]:
    places = {name: index for index, name in enumerate(view.optimizer_names)}
    contenders = problem.contenders
    chosen = dict(
        zip(
            (contender.setting_id for contender in contenders),
            variant_styles([contender.optimizer for contender in contenders], styles),
            strict=True,
        )
    )
    members = {key: runs for key, runs in problem.reported_settings.items() if key in shown}
    lines = {key: index for index, key in enumerate(members)}
    return {
        "metric": problem.metric,
        "pairing": problem.pairing,
        "select": problem.select or problem.metric,
        "lines": [
            {
                "optimizer": places[runs[0].optimizer],
                "setting": setting_text(runs[0].setting),
                "group": groups[key],
                "chosen": key in chosen,
                "style": _style_data(chosen.get(key, styles[runs[0].optimizer])),
                "perEpoch": runs[0].steps_per_epoch,
                "perStep": _seconds_per_step(runs),
            }
            for key, runs in members.items()
        ],
        "curves": {
            metric: curves
            for metric in view.metrics
            if (curves := _curve_data(view, problem, metric, lines))
        },
        "rates": {
            metric: rates
            for metric in view.metrics
            if not MetricName.parse(metric).probe
            and (rates := _rate_data(problem, metric, places, groups))
        },
        "targets": {
            str(result.target): _target_data(result, places, groups, shown)
            for result in target_results(view, problem)
        },
        "trials": {
            metric: trials
            for metric in [problem.select]
            if metric and (trials := _trial_data(problem, places, groups))
        },
    }


def _curve_data(
    view: StudyView, problem: ProblemView, metric: str, lines: Groups
) -> list[dict[str, Any]]:
    runs_of = problem.reported_settings
    published: dict[str, list[tuple[int, float]]] = {}
    for value in view.published(problem):
        if value.metric == metric and value.setting_id in runs_of:
            last = runs_of[value.setting_id][-1].steps
            step = last if value.step is None else value.step
            if step <= last:
                published.setdefault(value.setting_id, []).append((step, value.reported))
    singles = single_runs(len(lines), len(view.metrics), view.points)
    return [
        {
            "line": lines[key],
            "window": band.window,
            "steps": band.steps.tolist(),
            "mean": _rounded(band.mean),
            "low": _rounded(band.low),
            "high": _rounded(band.high),
            "seeds": _pairs(runs_of[key], band.runs[:singles]),
            "values": [_rounded(row) for row in band.values[:singles]],
            "published": published.get(key, []),
        }
        for key, band in problem.bands(metric, view.curves(metric), view.points, lines).items()
    ]


def _pairs(records: Iterable[Record], run_ids: Sequence[str]) -> list[int]:
    """Return the seeds, or folds, of runs."""
    pairs = {record.run_id: record.pair for record in records} if run_ids else {}
    return [pairs[run_id] for run_id in run_ids]


def _style_data(style: LineStyle) -> dict[str, Any]:
    """Return a style as study.js draws it."""
    return {
        "colour": style.colour,
        "dashes": style.dashes,
        "marker": marker_outline(style.marker, MARKER_SIZE),
        "shade": style.shade,
    }


def _rate_data(
    problem: ProblemView,
    metric: str,
    places: Mapping[str, int],
    groups: Groups,
) -> list[dict[str, Any]]:
    return [
        {
            "optimizer": places[line.optimizer],
            "rates": [point.rate for point in points],
            "settings": [setting_text(point.setting) for point in points],
            "groups": [groups[point.setting_id] for point in points],
            "mean": _rounded(point.interval.estimate for point in points),
            "low": _rounded(point.interval.low for point in points),
            "high": _rounded(point.interval.high for point in points),
            "done": [point.done for point in points],
            "runs": [point.runs for point in points],
        }
        for line in problem.sensitivity(metric)
        for points in [thinned(line.points)]
    ]


def _trial_data(
    problem: ProblemView, places: Mapping[str, int], groups: Groups
) -> list[dict[str, Any]]:
    tried = {optimizer.name: optimizer.tried for optimizer in problem.optimizers}
    return [
        {
            "optimizer": places[optimizer],
            "trials": best.trials.tolist(),
            "groups": thinned([groups[setting_id] for setting_id in tried[optimizer]]),
            "mean": _rounded(best.expected),
            "low": _rounded(best.low),
            "high": _rounded(best.high),
        }
        for optimizer, best in best_of_trials(problem).items()
    ]


def _target_data(
    result: TargetResult, places: Mapping[str, int], groups: Groups, shown: Collection[str]
) -> list[dict[str, Any]]:
    return [
        {
            "optimizer": places[times.contender.optimizer],
            "name": times.contender.name,
            "group": groups[times.contender.setting_id],
            "steps": thinned(times.survival.times.tolist()),
            "reached": thinned(_rounded(100 * (1 - times.survival.share))),
            "end": result.drawn_until(times),
            "censored": times.censored > 0,
        }
        for times in result.steps
        if times.contender.setting_id in shown
    ]


def _profile_data(view: StudyView, places: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    return {
        profile.label: [
            {
                "optimizer": places[optimizer],
                "name": name,
                "factors": _rounded(profile.factors),
                "share": _rounded(100 * shares),
            }
            for name, optimizer, shares in zip(
                profile.names, profile.optimizers, profile.shares, strict=True
            )
        ]
        for profile in profiles(view)
    }


def _seconds_per_step(records: Sequence[Record]) -> float | None:
    """Return training seconds per step; None if runs were trained together.

    The seconds of a stack are not those of one run in it.
    """
    seconds_per_step = [
        seconds.training / record.step
        for record in records
        if (seconds := record.facts.seconds)
        and seconds.training
        and record.facts.stack_width == 1
        and record.step
    ]
    return float(f"{median(seconds_per_step):.4g}") if seconds_per_step else None


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Round to four significant digits, more than a screen shows; None if not finite."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]
