"""Rows and notes of the tables of `optrial timing`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from optrial.timing.results import (
    Quartiles,
    ReportedTime,
    SettingTiming,
    StudyTiming,
    reported_times,
)

__all__ = [
    "condition_text",
    "reported_time_notes",
    "reported_time_rows",
    "timing_notes",
    "timing_records",
    "timing_rows",
]

_ENGINES = {
    "reference": "reference engine",
    "stacked": "stacked engine",
    "compiled": "stacked engine, compiled",
    "numpy": "NumPy engine",
}
_OURS = "optrial.rules."
_LARGE = 1000  # from here on, three digits would be printed with an exponent


def timing_rows(timing: StudyTiming) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows with step time, ratios, run time and memory of each setting."""
    first, fastest = f"× {timing.first}", "× fastest"
    rows = [
        {
            "optimizer": each.optimizer,
            "setting": _setting(timing, each),
            "batch size": each.conditions["batch_size"],
            "step (ms)": _spread(each.step.times(1e3), ".3g"),
            first: (to_first := timing.to_first(each)) and _spread(to_first, ".2f"),
            fastest: _rounded(timing.to_fastest(each).median),
            "steps": each.steps,
            "run (s)": _rounded(each.run.median),
            "memory (MB)": each.memory_bytes and _rounded(each.memory_bytes / 1e6),
        }
        for each in timing.settings
    ]
    unused = {name for name in ("setting", "memory (MB)") if not any(row[name] for row in rows)}
    if all(timing.to_first(each) == timing.to_fastest(each) for each in timing.settings):
        unused.add(fastest)
    columns = [name for name in rows[0] if name not in unused]
    return columns, [[row[name] for name in columns] for row in rows]


def timing_notes(timing: StudyTiming) -> list[str]:
    """Return the notes below the table: how to read it, and remarks about the measurement."""
    threads = sorted({each.threads for each in timing.settings})
    counted = f"{' or '.join(map(str, threads))} thread{'s' if threads[-1] > 1 else ''}"
    engines = dict.fromkeys(_ENGINES[each.engine] for each in timing.settings)
    lines = [
        f"{' and '.join(engines)}, {timing.device}, {timing.precision}, {counted}. "
        f"Medians of {timing.rounds} turns of each run alone; middle half in brackets.",
        f"× {timing.first}: step time relative to {timing.first}, round by round, at the same "
        "batch size and model. Ratios carry over to other machines better than seconds do.",
        "run (s): steps × median step time, without evaluation and the first step.",
        *_implementation_notes(timing),
    ]
    if timing.memory:
        lines.append(f"memory: {timing.memory}.")
    return [*lines, *timing.notes, *timing.failures]


def _implementation_notes(timing: StudyTiming) -> list[str]:
    """Return a note on times that depend on optrial's implementation of a rule."""
    timed = [each for each in timing.settings if each.engine == "reference"]
    ours = dict.fromkeys(each.optimizer for each in timed if each.implementation.startswith(_OURS))
    if not ours:
        return []
    return [
        f"{', '.join(ours)}: optrial's own rules, written to be read and stacked. PyTorch's "
        "classes are faster on large models; --set rng=script times those instead."
    ]


def reported_time_rows(times: Sequence[ReportedTime]) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows with the published and the measured ratio of each named setting.

    Without any measured ratio, only the first two columns remain.
    """
    columns = [f"time × {times[0].name}", "published", "measured", "measured / published"]
    rows: list[list[object]] = [
        [
            each.name,
            f"{each.reported:.2f}",
            each.measured and _spread(each.measured, ".2f"),
            each.quotient and f"{each.quotient.median:.2f}",
        ]
        for each in times
    ]
    shown = len(columns) if any(each.measured for each in times) else 2
    return columns[:shown], [row[:shown] for row in rows]


def reported_time_notes(times: Sequence[ReportedTime]) -> list[str]:
    """Return the notes below the table of published and measured times."""
    first = times[0].name
    lines = [
        f"time × {first}: relative to {first}. Published: of a run or an epoch. "
        "Measured: steps × step time, round by round; middle half in brackets.",
        "Published times often include evaluation and data loading, which take the same time for "
        "all optimizers and bring ratios closer to 1.",
    ]
    timed = {id(each.timing): each.timing for each in times if each.timing}
    for timing in timed.values():
        names = [each.name for each in times if each.timing is timing]
        if len(names) > 1:
            lines.append(
                f"{', '.join(names)}: timed as one, because they differ only in values that do not "
                "change the time of a step."
            )
    if unknown := [each.name for each in times if not each.timing]:
        lines.append(
            f"{', '.join(unknown)}: the name matches no timed setting, or several; "
            "to time the current study: optrial timing STUDY."
        )
    return lines


def timing_records(timing: StudyTiming) -> Iterator[dict[str, Any]]:
    """Yield one flat row per setting, in seconds and bytes, without rounding.

    If times were published, a setting has one row for each of its published names.
    """
    names = dict.fromkeys(name for each in timing.settings for name in each.conditions)
    times = reported_times(timing.reported_seconds, timing)
    for each in timing.settings:
        row = {
            "optimizer": each.optimizer,
            "setting": each.setting,
            **{name: each.conditions.get(name) for name in names},
            "steps": each.steps,
            "engine": each.engine,
            "implementation": each.implementation,
            "threads": each.threads,
            **_columns("step_seconds", each.step),
            **_columns("run_seconds", each.run),
            **_columns("to_first", timing.to_first(each)),
            **_columns("to_fastest", timing.to_fastest(each)),
            "first_step_seconds": each.first_step_seconds,
            "memory_bytes": each.memory_bytes,
        }
        matches: list[ReportedTime | None] = [time for time in times if time.timing is each]
        yield from (row | _reported_columns(time) for time in matches or [None]) if times else [row]


def _reported_columns(time: ReportedTime | None) -> dict[str, Any]:
    return {
        "reported_name": time.name if time else None,
        "reported": time.reported if time else None,
        **_columns("measured", time.measured if time else None),
        **_columns("measured_to_reported", time.quotient if time else None),
    }


def condition_text(timing: StudyTiming, setting: SettingTiming) -> str:
    """Return the conditions of a setting that vary in the study, such as ``batch_size=32``."""
    shown = timing.shown_conditions(setting)
    return " ".join(f"{name}={str(value).replace(' ', '')}" for name, value in shown.items())


def _setting(timing: StudyTiming, each: SettingTiming) -> str:
    """Return everything that varies except the batch size, which has its own column."""
    conditions = condition_text(timing, each).split()
    others = [text for text in conditions if not text.startswith("batch_size=")]
    return " ".join([*others, each.setting]).strip()


def _spread(values: Quartiles, digits: str) -> str:
    median, low, high = (
        f"{_rounded(value)}" if value >= _LARGE else f"{value:{digits}}"
        for value in (values.median, values.low, values.high)
    )
    return f"{median} ({low}–{high})"


def _rounded(value: float) -> float:
    """Round to three digits; large numbers become integers, which are shown without decimals."""
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded >= _LARGE else rounded


def _columns(name: str, values: Quartiles | None) -> dict[str, float | None]:
    parts = asdict(values) if values else {"median": None, "low": None, "high": None}
    return {f"{name}_{part}": value for part, value in parts.items()}
