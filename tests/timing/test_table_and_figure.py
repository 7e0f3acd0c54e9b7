from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from optrial.report import fit_columns, plain_table
from optrial.style import LIGHT, THEMES, Theme, line_styles, save_figure
from optrial.timing.figure import timing_figure
from optrial.timing.markdown import timing_markdown
from optrial.timing.results import ENGINE
from optrial.timing.table import timing_expendable, timing_notes, timing_records, timing_rows
from tests.timing.timings import made_up_timing

NASTY = "$x_1$ & <b> | % \\frac 🚀"


def test_a_panel_for_every_batch_size_with_medians_ratios_and_the_colours_of_optimizers() -> None:
    timing = made_up_timing()
    figure = timing_figure(timing)
    first, second = figure.axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == (
        "batch_size=32",
        "batch_size=128",
    )
    assert [label.get_text() for label in first.get_yticklabels()] == ["sgd", "adam"]
    sgd, adam = first.lines
    assert adam.get_xdata()[0] == 1e3 * timing.settings[1].step.median
    styles = line_styles(["sgd", "adam"])
    assert sgd.get_color() == LIGHT.lines[styles["sgd"].colour]
    ratios = [text.get_text() for text in first.texts]
    assert ratios == ["1.00 ×", f"{timing.to_first(timing.settings[1]).median:.2f} ×"]
    for axes in figure.axes:  # nothing is cut off, and lengths can be compared
        left, right = axes.get_xlim()
        assert left == 0
        assert right > max(1e3 * setting.step.high for setting in timing.settings)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_it_is_readable_and_one_column_wide_with_few_panels(theme: Theme) -> None:
    figure = timing_figure(made_up_timing(), theme)
    assert figure.get_figwidth() == 3.4
    texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 7


def test_many_batch_sizes_fill_a_page() -> None:
    timing = made_up_timing()
    sizes = (8, 16, 32)
    settings = [
        replace(setting, conditions={"batch_size": size})
        for size in sizes
        for setting in timing.settings
    ]
    figure = timing_figure(replace(timing, settings=tuple(settings)))
    assert figure.get_figwidth() == 7.0
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_names_come_out_as_text_and_nothing_warns(suffix: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(timing_figure(made_up_timing((NASTY, "adam"))), tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_the_table_has_step_ratio_run_and_memory() -> None:
    timing = made_up_timing()
    columns, rows = timing_rows(timing)
    wanted = ["optimizer", "batch size", "step (ms)", "× sgd", "× fastest"]
    assert columns == [*wanted, "steps", "run (s)", "memory (MB)"]
    row = dict(zip(columns, rows[1], strict=True))
    assert row["step (ms)"].startswith(f"{1e3 * timing.settings[1].step.median:.3g} (")
    assert row["run (s)"] == float(f"{3000 * timing.settings[1].step.median:.3g}")
    assert row["memory (MB)"] == 5.0
    without, _ = timing_rows(made_up_timing(memory=None))
    assert "memory (MB)" not in without


def test_a_narrow_table_keeps_the_ratio_of_engines() -> None:
    timing = made_up_timing()
    settings = [
        replace(setting, conditions={ENGINE: engine, "batch_size": 128})
        for engine in ("numpy", "reference")
        for setting in timing.settings[:2]
    ]
    timing = replace(timing, settings=tuple(settings))
    table = plain_table(*timing_rows(timing))
    fit_columns(table, 80, timing_expendable(timing))
    headers = [" ".join(str(column.header).split()) for column in table.columns]
    assert {"step (ms)", "× engine numpy"} <= set(headers)


def test_notes_say_engine_rounds_and_what_memory_is() -> None:
    text = "\n".join(timing_notes(made_up_timing()))
    for words in ("reference engine", "5 turns", "1 thread.", "made-up memory", "was busy"):
        assert words in text


def test_markdown_keeps_names_as_text() -> None:
    lines = timing_markdown(made_up_timing((NASTY, "adam"))).splitlines()
    assert lines[2].count(" | ") == lines[3].count(" | ") == lines[4].count(" | ")
    assert "&lt;b&gt;" in lines[4]


def test_records_are_flat_and_in_full() -> None:
    timing = made_up_timing()
    rows = list(timing_records(timing))
    assert len(rows) == 4
    assert rows[0]["step_seconds_median"] == timing.settings[0].step.median
    assert rows[0]["batch_size"] == 32
    assert rows[0]["memory_bytes"] == 5_000_000
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_large_numbers_are_written_without_exponents() -> None:
    columns, rows = timing_rows(made_up_timing(busy=(2000.0,) * 5, memory=1_884_000_000))
    row = dict(zip(columns, rows[0], strict=True))
    assert row["step (ms)"] == "2020 (2000–2040)"
    assert (str(row["run (s)"]), str(row["memory (MB)"])) == ("6060", "1880")
