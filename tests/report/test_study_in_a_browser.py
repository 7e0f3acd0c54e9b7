"""The page in a real browser: its script, its themes, its width, and that it fetches nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from optrial.report.study_page import study_page
from optrial.style import DARK, LIGHT
from tests.report.browser import Keys, find, show, visit
from tests.report.studies import made_up_records, made_up_view
from tests.timing.timings import made_up_timing

NASTY = "mine </script><script>document.title='hacked'</script>"
RECORDS = [
    *made_up_records(["sgd", "adam"], (0.01, 0.1), 3, diverged=(4,)),
    *(
        replace(record, run_id=f"n{record.run_id}")
        for record in made_up_records([NASTY], (0.01, 0.1), 3)
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(study_page(made_up_view(RECORDS, {"name": NASTY})), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(chrome: Any, address: str) -> Any:
    """The page afresh, 1200 pixels wide; afterwards nothing was logged and nothing was fetched."""
    for log in ("browser", "performance"):
        chrome.get_log(log)
    show(chrome, 1200, "light")
    visit(chrome, address)
    yield chrome
    assert chrome.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    requested = {
        message["params"]["request"]["url"].partition("#")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert requested <= {address}


@pytest.fixture(scope="module")
def full_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with every section that there is."""
    names = ["sgd", NASTY]
    trials = made_up_records(names, (0.01, 0.1, 1.0), 1, phase="tune", diverged=(2,), probes=True)
    results = made_up_records(names, (0.1,), 2, probes=True)
    results = [replace(record, run_id=f"r{record.run_id}") for record in results]
    study = {"name": "full", "reported": {"test_accuracy": {"sgd": 0.9}}}
    study["targets"] = {"test_accuracy": 0.9, "train_loss": 0.5}
    view = made_up_view([*trials, *results], study)
    file = tmp_path_factory.mktemp("page") / "full.html"
    file.write_text(study_page(view, timing=made_up_timing()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def full_page(chrome: Any, full_address: str) -> Any:
    show(chrome, 1200, "light")
    visit(chrome, full_address)
    yield chrome
    assert chrome.get_log("browser") == []


def choose(page: Any, selector: str, value: str) -> None:
    page.execute_script(
        "const [selector, value] = arguments, select = document.querySelector(selector);"
        "select.value = value; select.dispatchEvent(new Event('change', {bubbles: true}))",
        selector,
        value,
    )


def click(page: Any, selector: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def shown_runs(page: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#runs-table tbody tr')].filter((r) => !r.hidden).map((r) => r.id)"  # noqa: E501
    return list(page.execute_script(script))


def column(page: Any, table: str, place: int) -> list[str]:
    script = "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)].map((r) => r.cells[arguments[1]].textContent.trim())"  # noqa: E501
    return list(page.execute_script(script, table, place))


def test_the_charts_are_drawn_and_names_run_nothing(page: Any) -> None:
    assert page.title == f"{NASTY}: which optimizer?"
    assert len(find(page, "figure[data-chart=curves] .plot svg")) == 2
    assert len(find(page, "figure[data-chart=rates] .plot svg")) == 1
    assert len(find(page, "figure[data-kind=evaluation] path.mean")) == 3
    assert len(find(page, "figure[data-kind=evaluation] path.band")) == 3
    assert all(svg.get_attribute("aria-label") for svg in find(page, ".plot svg"))


def test_toggles_change_the_curves(page: Any) -> None:
    means = "figure[data-kind=evaluation] path.mean"
    before = find(page, means)[0].get_attribute("d")
    choose(page, "[data-control=lines]", "all")
    assert len(find(page, means)) == 6
    choose(page, "[data-control=lines]", "chosen")
    click(page, "[data-control=single]")
    assert len(find(page, "figure[data-kind=evaluation] path.single")) == 9
    click(page, "[data-control=single]")
    click(page, "[data-optimizer='0']")
    assert len(find(page, means)) == 2
    click(page, "[data-optimizer='0']")
    choose(page, "[data-control=by]", "epoch")
    labels = [text.text for text in find(page, "figure[data-kind=evaluation] text")]
    assert "epoch" in labels
    assert "10" in labels
    for change in ("[data-control=logX]", "figure[data-kind=evaluation] [data-control=logY]"):
        click(page, change)
        after = find(page, means)[0].get_attribute("d")
        assert after != before
        before = after
    choose(page, "[data-control=smoothing]", "5")
    assert find(page, means)[0].get_attribute("d") != before
    assert "last 5 points" in find(page, "figure[data-kind=evaluation] [data-caption]")[0].text


def test_seconds_are_off_for_runs_of_a_stack(page: Any) -> None:
    (option,) = find(page, "[data-control=by] option[value=second]")
    assert option.get_attribute("disabled")
    assert "trained together" in find(page, "[data-note]")[0].text


def test_the_keyboard_reads_points_and_leads_to_runs(page: Any) -> None:
    svg = find(page, "figure[data-chart=rates] .plot svg")[0]
    svg.send_keys(Keys.ARROW_RIGHT)
    (tip,) = find(page, "figure[data-chart=rates] .tip")
    assert tip.text.startswith("learning rate 0.01\n")
    assert len(find(tip, "li")) == 3
    svg.send_keys(Keys.ARROW_RIGHT)
    assert tip.text.startswith("learning rate 0.1\n")
    assert "sgd lr=0.1, 2 of 3 runs: " in tip.text
    rows = [row.text for row in find(tip, "li")]
    place = [row.startswith("adam lr=0.1, 3 of 3 runs: ") for row in rows].index(True)
    chosen = [row.get_attribute("class") for row in find(tip, "li")].index("chosen")
    for _ in range((place - chosen) % 3):
        svg.send_keys(Keys.ARROW_DOWN)
    assert find(tip, "li.chosen")[0].text == rows[place]
    svg.send_keys(Keys.ENTER)
    assert shown_runs(page) == [f"run-{r.run_id}" for r in RECORDS[9:12]]


def test_tables_sort_by_their_heads(page: Any) -> None:
    heads = column_heads(page)
    place = heads.index("test accuracy")
    button = f"#runs-table th:nth-child({place + 1}) button"
    click(page, button)
    values = [float(text) for text in column(page, "#runs-table", place) if text]
    assert values == sorted(values)
    assert column(page, "#runs-table", place)[-1] == ""  # the run that diverged has none
    click(page, button)
    values = [float(text) for text in column(page, "#runs-table", place) if text]
    assert values == sorted(values, reverse=True)
    assert column(page, "#runs-table", place)[-1] == ""
    head = find(page, f"#runs-table th:nth-child({place + 1})")[0]
    assert head.get_attribute("aria-sort") == "descending"


def column_heads(page: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#runs-table thead th')].map((h) => h.textContent.trim())"  # noqa: E501
    return list(page.execute_script(script))


def test_runs_are_filtered_by_words_status_and_links(page: Any) -> None:
    assert len(shown_runs(page)) == len(RECORDS)
    find(page, "#filter")[0].send_keys("adam lr=0.1")
    assert shown_runs(page) == [f"run-{r.run_id}" for r in RECORDS[9:12]]
    assert find(page, "#shown")[0].text == "3 of 18 runs"
    click(page, "#clear")
    choose(page, "#status", "diverged")
    assert shown_runs(page) == [f"run-{RECORDS[4].run_id}"]
    click(page, "#summary tbody tr a[aria-label$='runs of sgd lr=0.01']")
    assert shown_runs(page) == [f"run-{r.run_id}" for r in RECORDS[:3]]
    click(page, "#failures tbody a")
    assert len(shown_runs(page)) == len(RECORDS)
    assert page.execute_script("return location.hash") == f"#run-{RECORDS[4].run_id}"


def background(page: Any) -> str:
    rgb = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    return "#" + "".join(f"{int(part):02x}" for part in rgb[4:-1].split(","))


def test_the_theme_is_the_readers_or_chosen(page: Any) -> None:
    assert background(page) == LIGHT.background
    show(page, 1200, "dark")
    assert background(page) == DARK.background
    click(page, "#theme")
    assert background(page) == LIGHT.background
    click(page, "#theme")
    show(page, 1200, "light")
    assert background(page) == DARK.background
    assert find(page, "#theme")[0].text == "Theme: dark"
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert background(page) == LIGHT.background
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert background(page) == DARK.background


@pytest.mark.slow
def test_long_tables_fade_where_they_go_on_and_are_printed_whole(page: Any) -> None:
    style = "return getComputedStyle(document.querySelector('.tall'))"
    assert page.execute_script(f"{style}.backgroundAttachment") == "local, scroll"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.execute_script(f"{style}.maxHeight") == "none"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.one_in(3)
@pytest.mark.parametrize("width", [390, 768, 1200])
def test_the_page_fits_its_width(page: Any, address: str, width: int) -> None:
    show(page, width, "light")
    visit(page, address)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    script = "return [...document.querySelectorAll('.plot .axis')].map((t) => parseFloat(getComputedStyle(t).fontSize) * t.closest('svg').clientWidth / t.closest('svg').viewBox.baseVal.width)"  # noqa: E501
    assert min(page.execute_script(script)) >= 10


def test_probes_and_trials_are_drawn(full_page: Any) -> None:
    assert len(find(full_page, "figure[data-kind=probe] path.mean")) == 4
    options = find(full_page, "figure[data-probe=gradient_norm] option")
    assert [option.text for option in options] == ["gradient norm", "gradient norm (hidden.0)"]
    svg = find(full_page, "figure[data-chart=trials] .plot svg")[0]
    assert len(find(svg, "path.mean")) == 2
    assert not find(svg, "path.band")
    ticks = [text.text for text in find(svg, "text[text-anchor=middle]")]
    assert ticks == ["1", "2", "3", "trials"]
    svg.send_keys(Keys.ARROW_RIGHT)
    (row,) = find(full_page, "figure[data-chart=trials] .tip li.chosen")
    assert row.text.startswith("sgd: ")
    svg.send_keys(Keys.ENTER)
    assert len(shown_runs(full_page)) == 3 + 2  # sgd's trials, and the results of the chosen one


def test_shares_of_runs_at_a_target_are_drawn_in_steps(full_page: Any) -> None:
    figure = find(full_page, "figure[data-chart=targets]")[0]
    options = [option.text for option in find(figure, "option")]
    assert options == ["90 % test accuracy", "training loss (per batch) 0.5"]
    ticks = [text.text for text in find(figure, "text[text-anchor=end]")]
    assert ticks == ["0", "20", "40", "60", "80", "100"]
    find(figure, "option")[1].click()
    lines = [path.get_attribute("d") for path in find(figure, "path.mean")]
    assert len(lines) == 2
    corners = [re.findall(r"[\d.]+", line) for line in lines]
    for x, y in ((values[::2], values[1::2]) for values in corners):
        pairs = zip(pairwise(x), pairwise(y), strict=True)
        assert all(one == other or low == high for (one, other), (low, high) in pairs)


def barriers(page: Any, **options: Any) -> list[str]:
    """What axe-core holds against the page, all of it unfolded."""
    axe = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    page.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
    # Cells that are scrolled out of sight have no contrast.
    page.execute_script("document.getElementById('runs-table').style = 'max-height: none'")
    page.execute_script(Path(axe.__path__[0], "axe.min.js").read_text(encoding="utf-8"))
    answer = page.execute_async_script("axe.run(arguments[0]).then(arguments[1])", options)
    assert answer["passes"]
    return [
        f"{violation['id']} ({violation['impact']}): {node['target']} {node['failureSummary']}"
        for violation in answer["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_readers_with_disabilities(
    full_page: Any, full_address: str, scheme: str
) -> None:
    show(full_page, 1800, scheme)
    visit(full_page, full_address)
    assert barriers(full_page) == []


def test_a_barrier_would_be_found(full_page: Any) -> None:
    full_page.execute_script("document.querySelector('p').style = 'color: #ccc'")
    (barrier,) = barriers(full_page, runOnly=["color-contrast"])
    assert "insufficient color contrast" in barrier


def test_poor_studies_raise_no_errors(chrome: Any, tmp_path: Path) -> None:
    studies = {
        "empty": [],
        "one": made_up_records(["adam"], (0.1,), 1),
        "diverged": made_up_records(diverged=range(12)),
    }
    chrome.get_log("browser")
    for name, records in studies.items():
        (tmp_path / f"{name}.html").write_text(study_page(made_up_view(records)), encoding="utf-8")
        visit(chrome, (tmp_path / f"{name}.html").as_uri())
        assert find(chrome, "#shown")[0].text == f"{len(records)} of {len(records)} runs"
        assert chrome.get_log("browser") == []
