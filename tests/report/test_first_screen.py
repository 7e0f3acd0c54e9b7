"""What a reader sees first at every width; no text is cut; many optimizers are readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optrial.analysis.view import StudyView
from optrial.report.study_page import study_page
from optrial.style import COLOURED
from tests.report import screens
from tests.report.browser import Keys, find, show, visit

WIDTHS = (400, 1280)

CUT = """
const page = document.documentElement.clientWidth;
const hidden = (box) => !box.getClientRects().length || box.closest('.hidden');
const scrolled = (box) => box.parentElement.closest('.wide, pre') !== null;
const own = (box) =>
  [...box.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
const boxes = [...document.querySelectorAll('main *')].filter((box) => own(box) && !hidden(box));
return boxes.filter((box) => {
  if (box.closest('svg')) {
    const { left, right } = box.getBoundingClientRect();
    return !scrolled(box) && (left < -0.5 || right > page + 0.5);
  }
  const style = getComputedStyle(box);
  if (style.display === 'inline' || style.overflowX === 'auto') return false;
  return box.scrollWidth > box.clientWidth + 1;
}).map((box) => `${box.tagName} ${box.className} ${box.textContent.trim().slice(0, 60)}`);
"""
"""Texts that are wider than their box, or beyond the edge of the page."""

OVERLAPS = """
return [...document.querySelectorAll('.plot svg')].flatMap((svg) => {
  const names = [...svg.querySelectorAll('.name')].map((text) => text.getBoundingClientRect());
  return names.filter((a) => names.some((b) => a !== b && a.top < b.top && a.bottom > b.top + 4));
}).length;
"""


@pytest.fixture(scope="module")
def views() -> dict[str, StudyView]:
    return {name: made_up() for name, made_up in screens.STUDIES.items()}


@pytest.fixture(scope="module")
def addresses(
    views: dict[str, StudyView], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for name, view in views.items():
        (folder / f"{name}.html").write_text(study_page(view), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in views}


def open_page(chrome: Any, address: str, width: int = 1280) -> None:
    show(chrome, width, "light")
    visit(chrome, address)


def test_a_page_is_open_once_its_first_frame_is_drawn(chrome: Any, tmp_path: Path) -> None:
    slow = "requestAnimationFrame = (draw) => setTimeout(draw, 400)"
    drawing = "onload = () => requestAnimationFrame(() => { document.title = 'drawn' })"
    file = tmp_path / "slow.html"
    file.write_text(f"<script>{slow}; {drawing}</script>", encoding="utf-8")
    open_page(chrome, file.as_uri())
    assert chrome.title == "drawn"


def top(page: Any, selector: str) -> float:
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    return float(page.execute_script(script, selector))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["6-classification", "30-regression", "no-winner"])
def test_the_answer_is_on_the_first_screen(
    chrome: Any, addresses: dict[str, str], name: str, width: int
) -> None:
    open_page(chrome, addresses[name], width)
    order = [".answer .first", ".answer .use", ".ranking .dots svg circle", "#curves", "#rates"]
    order += ["#differences", "#summary", "#failures", "#runs", "#provenance"]
    places = [top(chrome, selector) for selector in order]
    assert places == sorted(places)
    assert places[2] < 900  # the leader's dots


@pytest.mark.one_in(11)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", screens.STUDIES)
def test_no_text_is_cut_and_no_names_overlap(
    chrome: Any, addresses: dict[str, str], name: str, width: int
) -> None:
    open_page(chrome, addresses[name], width)
    assert chrome.execute_script(CUT) == []
    assert chrome.execute_script(OVERLAPS) == 0
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["2-regression", "30-classification"])
def test_results_need_no_scrolling_on_a_phone(
    chrome: Any, addresses: dict[str, str], name: str
) -> None:
    open_page(chrome, addresses[name], 400)
    for table, column in ((".ranking tbody", 1), ("#summary tbody", 1)):
        script = "return document.querySelector(arguments[0]).rows[0].cells[arguments[1]].getBoundingClientRect().right"  # noqa: E501
        assert chrome.execute_script(script, table, column) <= 400


def test_a_wide_screen_is_used(chrome: Any, addresses: dict[str, str]) -> None:
    open_page(chrome, addresses["6-classification"], 1600)
    for part in (".ranking", "#curves .panels", "#rates .beside"):
        script = "return document.querySelector(arguments[0]).getBoundingClientRect().width"
        assert chrome.execute_script(script, part) > 1400


def test_of_thirty_the_best_six_are_in_colour(
    chrome: Any, views: dict[str, StudyView], addresses: dict[str, str]
) -> None:
    view = views["30-classification"]
    assert len(view.records) > 1000
    open_page(chrome, addresses["30-classification"])
    lines = find(chrome, "figure[data-kind=evaluation] path.mean")
    colours = [line.get_attribute("style").split(";")[0] for line in lines]
    assert sum("--line" in colour for colour in colours) == COLOURED
    assert sum("--grey" in colour for colour in colours) == 30 - COLOURED
    names = [text.text for text in find(chrome, "figure[data-kind=evaluation] .name")]
    assert set(names) == set(view.ranked_optimizers[:COLOURED])
    legend = [label.text for label in find(chrome, ".legend label")]
    assert legend == list(view.ranked_optimizers)


def test_one_optimizer_is_drawn_alone(chrome: Any, addresses: dict[str, str]) -> None:
    open_page(chrome, addresses["30-classification"])
    drawn = "figure[data-kind=evaluation] path.mean"
    chrome.execute_script("document.querySelectorAll('[data-only]')[12].click()")
    assert len(find(chrome, drawn)) == 1
    chrome.execute_script("document.querySelector('[data-show=all]').click()")
    assert len(find(chrome, drawn)) == 30
    chrome.execute_script("document.querySelector('[data-show=none]').click()")
    assert len(find(chrome, drawn)) == 0
    label = find(chrome, ".legend label")[3]
    event = "arguments[0].dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))"
    chrome.execute_script(event, label)
    assert len(find(chrome, drawn)) == 1


def test_the_matrix_holds_every_pair(
    chrome: Any, views: dict[str, StudyView], addresses: dict[str, str]
) -> None:
    view = views["30-classification"]
    open_page(chrome, addresses["30-classification"])
    table = "[...document.querySelectorAll('.matrix tbody tr')]"
    names = chrome.execute_script(f"return {table}.map((row) => row.cells[0].textContent)")
    script = f"return {table}.map((row) => [...row.cells].slice(1).map((c) => c.ariaLabel))"
    cells = chrome.execute_script(script)
    (problem,) = view.problems
    assert problem.comparisons is not None
    assert tuple(names) == problem.comparisons.order
    for row, first in zip(cells, names, strict=True):
        for cell, second in zip(row, names, strict=True):
            verdict = None if first == second else problem.pair(first, second).verdict
            assert cell == (verdict and str(verdict).partition(",")[0])


def test_a_rate_far_from_the_best_is_marked_with_its_value(
    chrome: Any, addresses: dict[str, str]
) -> None:
    open_page(chrome, addresses["6-classification"])
    figure = find(chrome, "figure[data-chart=rates]")[0]
    assert "10" in [text.text for text in find(figure, ".value")]
    lowest = min(float(text.text) for text in find(figure, "text[text-anchor=end]:not(.value)"))
    assert lowest > 50
    find(figure, "[data-control=whole]")[0].click()
    assert not find(figure, ".value")


def test_the_cross_hair_lists_all_values_sorted(chrome: Any, addresses: dict[str, str]) -> None:
    for name, sign in (("6-classification", -1), ("6-regression", 1)):
        open_page(chrome, addresses[name])
        svg = find(chrome, "figure[data-kind=evaluation] .plot svg")[0]
        svg.send_keys(Keys.ARROW_RIGHT)
        assert find(chrome, "figure[data-kind=evaluation] .tip b")[0].text == "epoch 1"
        rows = [row.text for row in find(chrome, "figure[data-kind=evaluation] .tip li")]
        values = [sign * float(row.split(": ")[1].split(" ")[0]) for row in rows]
        assert len(values) == 6
        assert values == sorted(values)
        assert find(chrome, "figure[data-kind=evaluation] .cursor")
        assert len(find(chrome, "figure[data-kind=evaluation] .ring.chosen")) == 1


def test_logarithmic_axes_have_plain_labels(chrome: Any, addresses: dict[str, str]) -> None:
    open_page(chrome, addresses["6-regression"])
    for chart, anchor in (("kind=evaluation", "end"), ("chart=rates", "middle")):
        labels = [
            text.text
            for text in find(chrome, f"figure[data-{chart}] text.axis[text-anchor={anchor}]")
            if text.text.replace(".", "").isdigit() and "value" not in text.get_attribute("class")
        ]
        assert len(labels) >= 3


def test_the_table_of_rates_fits_a_phone(chrome: Any, addresses: dict[str, str]) -> None:
    open_page(chrome, addresses["6-classification"], 390)
    script = "const e = document.querySelector('.ranges'); return [e.scrollWidth, e.clientWidth]"
    needed, there = chrome.execute_script(script)
    assert needed <= there


def test_rows_are_sorted_by_result_and_only_leaders_are_bold(
    chrome: Any, views: dict[str, StudyView], addresses: dict[str, str]
) -> None:
    view = views["30-classification"]
    open_page(chrome, addresses["30-classification"])
    script = "return [...document.querySelectorAll('#summary tbody tr')].map((r) => [r.className, parseFloat(r.cells[1].textContent), r.cells[3].textContent])"  # noqa: E501
    rows = chrome.execute_script(script)
    values = [value for _, value, runs in rows if "diverged" not in runs]
    assert values == sorted(values, reverse=True)
    (problem,) = view.problems
    assert problem.comparisons is not None
    assert sum(name == "best" for name, *_ in rows) == len(problem.comparisons.groups[0]) < 30
