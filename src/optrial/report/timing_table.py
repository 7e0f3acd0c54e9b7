"""The tables of `optrial timing`, for the terminal, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from optrial.analysis.timing import (
    Quartiles,
    ReportedTime,
    SettingTiming,
    StudyTiming,
    reported_times,
)
from optrial.report.texts import markdown_text

__all__ = [
    "condition_text",
    "reported_time_notes",
    "reported_time_rows",
    "timing_markdown",
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
_LARGE = 1000  # from here on three digits would be written with an exponent


def timing_rows(timing: StudyTiming) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows: step time, ratios, the whole run and memory of each setting."""
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
    """Say how to read the table, and what else the reader should know, a line each."""
    threads = sorted({each.threads for each in timing.settings})
    counted = f"{' or '.join(map(str, threads))} thread{'s' if threads[-1] > 1 else ''}"
    engines = dict.fromkeys(_ENGINES[each.engine] for each in timing.settings)
    lines = [
        f"{' and '.join(engines)}, {timing.device}, {timing.precision}, {counted}. "
        f"Medians of {timing.rounds} turns, each run alone; in brackets their middle half.",
        f"× {timing.first}: how many times as long as a step of {timing.first}, round by round, at "
        "the same batch size and model. Ratios hold on other machines better than seconds do.",
        "run (s): steps × median, without evaluation and the first step.",
        *_implementation_notes(timing),
    ]
    if timing.memory:
        lines.append(f"memory: {timing.memory}.")
    return [*lines, *timing.notes, *timing.failures]


def _implementation_notes(timing: StudyTiming) -> list[str]:
    """Say where a time is that of optrial's code rather than of the optimizer's."""
    timed = [each for each in timing.settings if each.engine == "reference"]
    ours = dict.fromkeys(each.optimizer for each in timed if each.implementation.startswith(_OURS))
    if not ours:
        return []
    return [
        f"{', '.join(ours)}: optrial's own rules, written to be read and stacked. The classes of "
        "PyTorch are faster on large models; they are timed with --set rng=script."
    ]


def reported_time_rows(times: Sequence[ReportedTime]) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows: the published ratio of each named setting, and the measured one.

    Only the published one where nothing is measured.
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
    """Say how to read the table of published and measured times, a line each."""
    first = times[0].name
    lines = [
        f"time × {first}: how many times as long as {first}. Published: of a run or of an epoch. "
        "Measured: steps × time of a step, round by round; in brackets the middle half.",
        "Published times often hold evaluation and the loading of data too. What takes as long for "
        "all brings ratios closer to 1.",
    ]
    timed = {id(each.timing): each.timing for each in times if each.timing}
    for timing in timed.values():
        names = [each.name for each in times if each.timing is timing]
        if len(names) > 1:
            lines.append(
                f"{', '.join(names)}: timed as one, for what tells them apart does not change how "
                "long a step takes."
            )
    if unknown := [each.name for each in times if not each.timing]:
        lines.append(
            f"{', '.join(unknown)}: the name fits nothing that was timed, or more than one thing; "
            "to time the study as it is now: optrial timing STUDY."
        )
    return lines


def timing_markdown(timing: StudyTiming) -> str:
    """Return the tables in Markdown, as GitHub and pandoc read it."""
    table = _markdown_table(*timing_rows(timing), {"optimizer", "setting"})
    if times := reported_times(timing.reported_seconds, timing):
        columns, rows = reported_time_rows(times)
        table += f"\n\n{_markdown_table(columns, rows, set(columns[:1]))}"
    return f"**{markdown_text(timing.study)}**\n\n{table}\n"


def _markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], text_columns: set[str]
) -> str:
    texts = [["—" if cell is None else str(cell) for cell in row] for row in rows]
    rule = ["---" if column in text_columns else "---:" for column in columns]
    lines = [list(map(markdown_text, columns)), rule]
    lines += [list(map(markdown_text, row)) for row in texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def timing_records(timing: StudyTiming) -> Iterator[dict[str, Any]]:
    """Yield one flat row a setting, numbers in full, seconds and bytes.

    Where times were published, one for each name that a setting has there.
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
        own: list[ReportedTime | None] = [time for time in times if time.timing is each]
        yield from (row | _reported_columns(time) for time in own or [None]) if times else [row]


def _reported_columns(time: ReportedTime | None) -> dict[str, Any]:
    return {
        "reported_name": time.name if time else None,
        "reported": time.reported if time else None,
        **_columns("measured", time.measured if time else None),
        **_columns("measured_to_reported", time.quotient if time else None),
    }


def condition_text(timing: StudyTiming, setting: SettingTiming) -> str:
    """Return those of a setting's conditions that vary in the study: ``batch_size=32``."""
    shown = timing.shown_conditions(setting)
    return " ".join(f"{name}={str(value).replace(' ', '')}" for name, value in shown.items())


def _setting(timing: StudyTiming, each: SettingTiming) -> str:
    """Everything that varies but the batch size, which has a column of its own."""
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
    """Round to three digits; what is large becomes an int, which is shown without decimals."""
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded >= _LARGE else rounded


def _columns(name: str, values: Quartiles | None) -> dict[str, float | None]:
    found = asdict(values) if values else {"median": None, "low": None, "high": None}
    return {f"{name}_{part}": value for part, value in found.items()}
