"""Rows and notes of the tables of `optrial timing`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from optrial.timing.results import (
    ENGINE,
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
    "timing_expendable",
    "timing_notes",
    "timing_records",
    "timing_rows",
]

_ENGINES = {
    "reference": "reference engine",
    "stacked": "stacked engine",
    "compiled": "stacked engine, compiled",
    "stacked+onednn": "stacked engine, oneDNN",
    "compiled+onednn": "stacked engine, compiled, oneDNN",
    "numpy": "NumPy engine",
}
_OURS = "optrial.rules."
_LARGE = 1000  # from here on, three digits would be printed with an exponent


def timing_rows(timing: StudyTiming) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows with step time, ratios, run time and memory of each setting."""
    first, fastest = f"× {timing.first}", "× fastest"
    engine = f"× engine {timing.settings[0].conditions.get(ENGINE, '')}"
    rows = [
        {
            "optimizer": entry.optimizer,
            "setting": _setting(timing, entry),
            "batch size": entry.conditions["batch_size"],
            "step (ms)": _spread(entry.step.times(1e3), ".3g"),
            first: (to_first := timing.to_first(entry)) and _spread(to_first, ".2f"),
            fastest: f"{timing.to_fastest(entry).median:.2f}",
            engine: (ratio := timing.to_first_engine(entry)) and _spread(ratio, ".2f"),
            "steps": entry.steps,
            "epoch (s)": (epoch := entry.epoch) and _rounded(epoch.median),
            "run (s)": _rounded(entry.run.median),
            "memory (MB)": entry.memory_bytes and _rounded(entry.memory_bytes / 1e6),
        }
        for entry in timing.settings
    ]
    optional = ("setting", "memory (MB)", "epoch (s)", engine)
    unused = {name for name in optional if not any(row[name] for row in rows)}
    if all(timing.to_first(entry) == timing.to_fastest(entry) for entry in timing.settings):
        unused.add(fastest)
    columns = [name for name in rows[0] if name not in unused]
    return columns, [[row[name] for name in columns] for row in rows]


def timing_expendable(timing: StudyTiming) -> list[str]:
    """Return the columns that a narrow table lacks first, those that others imply before them."""
    return ["steps", "× fastest", "run (s)", f"× {timing.first}", "epoch (s)"]


def timing_notes(timing: StudyTiming) -> list[str]:
    """Return the notes below the table: how to read it, and remarks about the measurement."""
    threads = sorted({entry.threads for entry in timing.settings})
    counted = f"{' or '.join(map(str, threads))} thread{'s' if threads[-1] > 1 else ''}"
    lines = [
        f"{engines_text(timing)}, {timing.device}, {timing.precision}, {counted}. "
        f"Medians of {timing.rounds} turns of each run alone; middle half in brackets.",
        f"× {timing.first}: step time relative to {timing.first}, round by round, at the same "
        "batch size and model. Ratios carry over to other machines better than seconds do.",
        "epoch (s), run (s): steps × median step time, without evaluation and the first step.",
        *_implementation_notes(timing),
    ]
    if timing.memory:
        lines.append(f"memory: {timing.memory}.")
    return [*lines, *timing.notes, *timing.failures]


def engines_text(timing: StudyTiming) -> str:
    """Return the engines that trained, as text: ``"stacked engine and reference engine"``."""
    return " and ".join(dict.fromkeys(_ENGINES[entry.engine] for entry in timing.settings))


def _implementation_notes(timing: StudyTiming) -> list[str]:
    """Return a note on times that depend on optrial's implementation of a rule."""
    timed = [entry for entry in timing.settings if entry.engine == "reference"]
    ours = dict.fromkeys(
        entry.optimizer for entry in timed if entry.implementation.startswith(_OURS)
    )
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
            entry.name,
            f"{entry.reported:.2f}",
            entry.measured and _spread(entry.measured, ".2f"),
            entry.quotient and f"{entry.quotient.median:.2f}",
        ]
        for entry in times
    ]
    shown = len(columns) if any(entry.measured for entry in times) else 2
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
    timed = {id(entry.timing): entry.timing for entry in times if entry.timing}
    for timing in timed.values():
        names = [entry.name for entry in times if entry.timing is timing]
        if len(names) > 1:
            lines.append(
                f"{', '.join(names)}: timed as one, because they differ only in values that do not "
                "change the time of a step."
            )
    if unknown := [entry.name for entry in times if not entry.timing]:
        lines.append(
            f"{', '.join(unknown)}: the name matches no timed setting, or several; "
            "to time the current study: optrial timing STUDY."
        )
    return lines


def timing_records(timing: StudyTiming) -> Iterator[dict[str, Any]]:
    """Yield one flat row per setting, in seconds and bytes, without rounding.

    If times were published, a setting has one row for each of its published names.
    """
    names = dict.fromkeys(name for entry in timing.settings for name in entry.conditions)
    times = reported_times(timing.reported_seconds, timing)
    for entry in timing.settings:
        row = {
            "optimizer": entry.optimizer,
            "setting": entry.setting,
            **{name: entry.conditions.get(name) for name in names},
            "steps": entry.steps,
            "engine": entry.engine,
            "implementation": entry.implementation,
            "threads": entry.threads,
            **_columns("step_seconds", entry.step),
            **_columns("epoch_seconds", entry.epoch),
            **_columns("run_seconds", entry.run),
            **_columns("to_first", timing.to_first(entry)),
            **_columns("to_fastest", timing.to_fastest(entry)),
            **_columns("to_first_engine", timing.to_first_engine(entry)),
            "first_step_seconds": entry.first_step_seconds,
            "memory_bytes": entry.memory_bytes,
        }
        matches: list[ReportedTime | None] = [time for time in times if time.timing is entry]
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


def _setting(timing: StudyTiming, entry: SettingTiming) -> str:
    """Return everything that varies except the batch size, which has its own column."""
    conditions = condition_text(timing, entry).split()
    others = [text for text in conditions if not text.startswith("batch_size=")]
    return " ".join([*others, entry.setting]).strip()


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
