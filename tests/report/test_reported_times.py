"""Published and measured times in the tables of `optrial timing` and in the page of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from optrial.report.study_page import study_page
from optrial.timing import StudyTiming, reported_times
from optrial.timing.markdown import timing_markdown
from optrial.timing.table import (
    reported_time_notes,
    reported_time_rows,
    timing_records,
)
from tests.report.pages import Element, parse_page
from tests.report.studies import made_up_records, made_up_view
from tests.timing.timings import made_up_timing

SECONDS = {"sgd lr=0.1": 20.0, "adam lr=0.1": 26.0, "adam lr=0.01": 25.0, "sdg": 30.0}


def timed(names: tuple[str, str] = ("sgd", "adam")) -> StudyTiming:
    """Two optimizers at one batch size: adam's step takes half as long again as sgd's."""
    timing = made_up_timing(names)
    settings = [
        replace(timing_, stands_for=("lr=0.1", "lr=0.01")) for timing_ in timing.settings[:2]
    ]
    return replace(timing, settings=tuple(settings), reported_seconds=SECONDS)


def ratio(timing: StudyTiming) -> str:
    """What the table says of the second optimizer."""
    quartiles = timing.to_first(timing.settings[1])  # both at one batch size: runs and steps alike
    return f"{quartiles.median:.2f} ({quartiles.low:.2f}–{quartiles.high:.2f})"


def wanted(timing: StudyTiming) -> list[list[str | None]]:
    median = timing.to_first(timing.settings[1]).median
    return [
        ["sgd lr=0.1", "1.00", "1.00 (1.00–1.00)", "1.00"],
        ["adam lr=0.1", "1.30", ratio(timing), f"{median / 1.3:.2f}"],
        ["adam lr=0.01", "1.25", ratio(timing), f"{median / 1.25:.2f}"],
        ["sdg", "1.50", None, None],
    ]


def test_the_table_shows_ratios_and_no_seconds() -> None:
    timing = timed()
    columns, rows = reported_time_rows(reported_times(SECONDS, timing))
    assert columns == ["time × sgd lr=0.1", "published", "measured", "measured / published"]
    assert rows == wanted(timing)


def test_notes_say_what_was_timed_as_one_and_what_was_not() -> None:
    notes = "\n".join(reported_time_notes(reported_times(SECONDS, timed())))
    assert "adam lr=0.1, adam lr=0.01: timed as one" in notes
    assert "sdg: the name matches no timed setting" in notes
    lines = reported_time_notes(reported_times({"sgd": 1, "adam": 2}, timed()))
    assert len(lines) == 2


def test_markdown_has_both_tables_and_keeps_names_as_text() -> None:
    nasty = "<b> | %"
    timing = replace(timed((nasty, "adam")), reported_seconds={nasty: 4.0, "adam": 5.0})
    tables = timing_markdown(timing).split("\n\n")[1:]
    assert len(tables) == 2
    head, rule, *rows = tables[1].splitlines()
    assert rule == "| --- | ---: | ---: | ---: |"
    assert len(rows) == 2
    assert "&lt;b&gt; \\| %" in rows[0] or "&lt;b&gt; &#124; %" in rows[0]
    assert head.count(" | ") == rows[1].count(" | ") == 3
    without = replace(timing, reported_seconds={})
    assert timing_markdown(without) == f"{timing_markdown(timing).partition(tables[1])[0][:-1]}"


def test_records_have_a_row_for_each_published_name() -> None:
    timing = timed()
    rows = list(timing_records(timing))
    assert [row["reported_name"] for row in rows] == ["sgd lr=0.1", "adam lr=0.1", "adam lr=0.01"]
    assert [row["reported"] for row in rows] == [1, 1.3, 1.25]
    assert rows[1]["measured_median"] == rows[2]["measured_median"] == rows[1]["to_first_median"]
    assert all(row.keys() == rows[0].keys() for row in rows)
    some = list(timing_records(replace(timing, reported_seconds={"adam": 3.0})))
    assert [row["reported_name"] for row in some] == [None, "adam"]
    none = list(timing_records(replace(timing, reported_seconds={})))
    assert len(none) == 2
    assert "reported_name" not in none[0]


def page(reported: Mapping[str, Any], timing: StudyTiming | None) -> Element:
    """The section of published values."""
    view = made_up_view(made_up_records(), {"name": "made up", "reported": reported})
    (section,) = parse_page(study_page(view, timing=timing)).all("section", id="reported")
    return section


def cells(table: Element) -> list[list[str]]:
    """Texts of the body, without those of the drawings."""
    return [
        [cell.text for cell in row.children if cell.attributes.get("class") != "strip"]
        for row in table.all("tbody")[0].all("tr")
    ]


def test_the_page_shows_what_the_command_prints() -> None:
    timing = timed()
    (table,) = page({"seconds": SECONDS}, timing).all("table")
    shown = [[cell or "—" for cell in row] for row in wanted(timing)]
    assert cells(table) == shown
    assert [len(row.all("circle", class_="dot")) for row in table.all("tr")[1:]] == [1, 1, 1, 0]
    assert [len(row.all("circle", class_="other")) for row in table.all("tr")[1:]] == [1] * 4


def test_the_page_stands_beside_the_published_metrics() -> None:
    section = page({"test_accuracy": {"adam lr=0.1": 0.9}, "seconds": SECONDS}, timed())
    assert [len(table.all("tbody")[0].all("tr")) for table in section.all("table")] == [1, 4]
    assert "prediction interval" in section.text
    assert "prediction interval" not in page({"seconds": SECONDS}, timed()).text


@pytest.mark.parametrize("reported", [{"seconds": SECONDS}, {"seconds": {"adam": 3.0}}])
def test_where_nothing_was_timed_the_page_says_what_measures_it(
    reported: Mapping[str, Any],
) -> None:
    section = page(reported, None)
    (table,) = section.all("table")
    first = next(iter(reported["seconds"].values()))
    wanted = [[n, f"{value / first:.2f}"] for n, value in reported["seconds"].items()]
    assert cells(table) == wanted
    assert "Nothing has been timed here yet" in section.text
    assert [code.text for code in section.all("code")] == ["optrial timing STUDY"]


def test_without_published_times_nothing_is_said_of_them() -> None:
    assert "times" not in page({"test_accuracy": {"adam lr=0.1": 0.9}}, timed()).text
