"""A page stays small however many runs a study has, and says what it leaves out."""

from __future__ import annotations

import re

import pytest

from optrial.report.study_page import study_page
from optrial.spec import setting_text
from tests.report.pages import Element, parse_page
from tests.report.studies import made_up_records, made_up_view


def section(page: Element, name: str) -> Element:
    (part,) = page.all("section", id=name)
    return part


def rates(count: int) -> list[float]:
    return [1e-4 * 1.01**n for n in range(count)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("settings", "seeds"), [(5, 500), (550, 2), pytest.param(1_250, 2, marks=pytest.mark.slow)]
)
def test_the_page_of_many_runs_is_small(settings: int, seeds: int) -> None:
    view = made_up_view(made_up_records(rates=rates(settings), seeds=seeds))
    text = study_page(view)
    assert len(text) < 3_000_000
    page = parse_page(text)
    listed = re.findall(r'<tr id="run-', text)
    assert 1_000 < len(listed) <= 2_000
    assert f"of {len(view.records):,} runs are listed" in section(page, "runs").text


@pytest.mark.slow
def test_a_setting_that_is_left_out_is_counted() -> None:
    view = made_up_view(made_up_records(rates=rates(200), seeds=2, diverged=[0]))
    page = parse_page(study_page(view))
    summary = section(page, "summary")
    assert "100 of 400 settings" in summary.text
    assert len(summary.all("tr")) == 101
    best = max(view.problems[0].summaries, key=lambda s: s.metrics["test_accuracy"].mean)
    assert setting_text(best.setting) in summary.text


@pytest.mark.slow
def test_runs_that_failed_are_listed() -> None:
    view = made_up_view(made_up_records(rates=rates(1_050), seeds=1, diverged=[2_099]))
    assert f'<tr id="run-{view.failures[0].run_id}"' in study_page(view)


def test_the_page_of_a_small_study_lists_every_run() -> None:
    view = made_up_view(made_up_records(rates=rates(3), seeds=4))
    text = study_page(view)
    assert text.count('<tr id="run-') == len(view.records)
    assert "are listed" not in text
    assert "the best of each optimizer" not in text
