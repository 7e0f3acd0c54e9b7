from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from optrial import load
from optrial.analysis.statistics import Interval, RateRange, best_sentence, compare_all, sentence
from optrial.analysis.statistics.wording import short_difference
from optrial.analysis.summary import Spread
from optrial.records import Record
from optrial.report.ranking import ranking
from optrial.report.study_page import study_page
from optrial.report.study_rows import range_text
from optrial.report.tables import spread_text
from optrial.spec import RunFacts, Seconds, Status
from tests.report.pages import Element, parse_page
from tests.report.studies import made_up_records, made_up_view, store_made_up
from tests.timing.timings import made_up_timing

NASTY = "</script><img src=x onerror=alert(1)> & $x^$ _a_ \"'🚀"
SECTIONS = ["answer", "curves", "rates", "differences", "summary", "probes", "tuning", "reported"]
SECTIONS += ["time", "failures", "runs", "provenance"]
ALWAYS = ["answer", "curves", "differences", "summary", "time", "runs", "provenance"]


def page_of(records: Sequence[Record]) -> Element:
    return parse_page(study_page(made_up_view(records)))


def section(page: Element, name: str) -> Element:
    (element,) = page.all("section", id=name)
    return element


def cells(table: Element) -> list[list[str]]:
    """The text of every cell of a table's body."""
    rows = table.all("tbody")[0].all("tr")
    return [[" ".join(cell.text.split()) for cell in row.children] for row in rows]


@pytest.mark.parametrize("full", [True, False])
def test_every_section_is_there_and_in_the_navigation(full: bool) -> None:
    rates, lost = ((0.01, 0.1), [0]) if full else ((0.1,), [])
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": 0.9}} if full else {}}
    records = made_up_records(rates=rates, probes=full, diverged=lost)
    page = parse_page(study_page(made_up_view(records, study)))
    wanted = SECTIONS if full else ALWAYS
    assert [element.attributes["id"] for element in page.all("section")] == wanted
    links = [link.attributes["href"][1:] for link in page.all("nav")[0].all("a")]
    assert links == wanted[1:]  # the answer stands before it


def test_the_answer_is_first_and_is_that_of_the_statistics() -> None:
    view = made_up_view(made_up_records(seeds=12))
    (problem,) = view.problems
    assert problem.comparisons is not None
    answer = section(parse_page(study_page(view)), "answer")
    sentences = [p.text for p in answer.all("p")]
    assert sentences[0] == f"{best_sentence(problem.comparisons)}."
    assert re.match(r"adam is best of 2: [\d.]+ % test accuracy", sentences[0])
    assert sentences[1].startswith("Use adam at lr 0.1; any learning rate from ")
    (code,) = answer.all("pre")
    assert code.text.startswith("optimizer = torch.optim.Adam(model.parameters(), lr=0.1, ")
    (table,) = answer.all("table", class_="ranking")
    rows = [[cell.text.strip() for cell in row.children] for row in table.all("tr")[1:]]
    assert [row[0] for row in rows] == ["adam lr=0.1", "sgd lr=0.1"]
    assert rows[0][-1] == "leads"
    assert rows[1][-1].startswith("worse by ")
    (link,) = table.all("a")
    assert link.attributes["title"] == f"{sentence(problem.pairs[0])}."


def test_the_leading_group_is_shaded_and_its_intervals_reach_the_leader() -> None:
    view = made_up_view(made_up_records(["a", "b", "c"], (0.01, 0.1), 8))
    table = ranking(view.problems[0], {r.setting_id: 0 for r in view.records})
    assert table is not None
    for row in table.rows[1:]:
        low, high = row.strip.low, row.strip.high
        assert low is not None
        assert high is not None
        assert (low <= table.leader <= high) == row.leading
        assert row.standing.startswith("undecided" if row.leading else "worse by")
    assert {row.leading for row in table.rows[1:]} == {True, False}


@pytest.mark.parametrize(("count", "further"), [(14, 0), (20, 8)])
def test_long_rankings_begin_with_the_best_twelve(count: int, further: int) -> None:
    page = page_of(made_up_records([f"mine {i}" for i in range(count)], (0.1,), 12))
    (table,) = section(page, "answer").all("table", class_="ranking")
    rows = table.all("tr")[1:]
    folded = ["further" in (row.attributes.get("class") or "").split() for row in rows]
    assert folded == [False] * (count - further) + [True] * further
    assert len(section(page, "answer").all("button")) == (further > 0)


def test_too_few_seeds_have_no_intervals_and_a_setting_for_now() -> None:
    answer = section(page_of(made_up_records(seeds=2)), "answer")
    assert "For now, use adam at lr 0.1" in answer.text
    assert "No intervals: too few seeds" in answer.text
    assert answer.text.count("No clear winner yet") == 1


@pytest.mark.parametrize(
    ("difference", "shown"), [(0.003296, "0.33 points"), (0.4567, "46 points"), (0.01, "1 point")]
)
def test_the_ranking_has_two_digits(difference: float, shown: str) -> None:
    values = {"a": dict.fromkeys(range(12), 0.9), "b": dict.fromkeys(range(12), 0.9 - difference)}
    values["b"][0] += 1e-6  # an interval that is narrow, not empty
    (pair,) = compare_all(values, metric="test_accuracy", higher_is_better=True, percent=True).pairs
    assert short_difference(pair) == shown


def test_an_optimizer_far_behind_does_not_squeeze_the_others() -> None:
    records = made_up_records(["a", "b", "c", "d"], (0.1,), 8)
    far = [
        replace(r, metrics=r.metrics | {"test_accuracy": 0.1}) if r.optimizer == "a" else r
        for r in records
    ]
    view = made_up_view(far)
    table = ranking(view.problems[0], {r.setting_id: 0 for r in view.records})
    assert table is not None
    assert table.scale.span.low > 50
    (last,) = (row for row in table.rows if row.name == "a")
    assert (last.strip.at, last.strip.others, last.value) == (None, [], "10.00")


def test_numbers_are_those_of_the_summary_to_the_last_printed_digit(tmp_path: Path) -> None:
    records = made_up_records(["sgd", "adam", "lion"], (0.001, 0.01, 0.1), 3, diverged=(4, 9, 10))
    store_made_up(tmp_path, records)
    with load(tmp_path) as results:
        frame = results.summary()
        results.report(tmp_path / "report.html")
    page = parse_page((tmp_path / "report.html").read_text("utf-8"))
    (table,) = section(page, "summary").all("table")
    heads = [head.attributes.get("title", head.text) for head in table.all("th", scope="col")]
    metrics = ["train_loss", "validation_accuracy", "test_accuracy"]
    assert heads == ["optimizer", "test_accuracy", "setting", "runs", *metrics[:2]]
    shown = [dict(zip(heads, row, strict=True)) for row in cells(table)]
    rows = {(row["optimizer"], row["setting"].removesuffix(" ★ best")): row for row in shown}
    assert len(rows) == len(frame) == 9
    for expected in frame.to_dict("records"):
        row = rows[expected["optimizer"], expected["setting"]]
        assert row["setting"].endswith("best") == expected["best"]
        assert str(expected["runs"]) in row["runs"]
        for metric in metrics:
            mean, deviation = expected[f"{metric}_mean"], expected[f"{metric}_std"]
            # Of a single run no deviation is known.
            known = not math.isnan(deviation)
            spread = Spread(mean, deviation, 1 + known)
            assert row[metric] == spread_text(spread, percent="accuracy" in metric)


def test_every_run_is_listed_with_its_hyperparameters() -> None:
    records = made_up_records(diverged=(2,))
    (table,) = section(page_of(records), "runs").all("table")
    heads = [h.attributes.get("title", h.text) for h in table.all("th", scope="col")]
    assert heads[-2:] == ["lr", "beta1"]
    for row, record in zip(cells(table), records, strict=True):
        shown = dict(zip(heads, row, strict=True))
        assert shown["run"] == record.run_id
        assert (shown["status"], shown["seed"]) == (str(record.status), str(record.seed))
        assert float(shown["lr"]) == record.hyperparameters["lr"]
        value = record.metrics["test_accuracy"]
        assert shown["test_accuracy"] == ("" if value is None else f"{value:.6g}")


def test_numbers_link_to_their_runs() -> None:
    records = made_up_records(diverged=(2,))
    page = page_of(records)
    group = {
        (r.optimizer, r.setting): page.all("tr", id=f"run-{r.run_id}")[0].attributes["data-group"]
        for r in records
    }
    assert len(set(group.values())) == 4
    links = section(page, "summary").all("a")
    numbers = [link.attributes["data-groups"] for link in links]
    assert numbers[0] == group["adam", "lr=0.1"]
    assert numbers[-1] == group["sgd", "lr=0.01"]  # one of its runs diverged
    assert set(numbers) == set(group.values())
    (pair,) = section(page, "differences").all("a")
    assert set(pair.attributes["data-groups"].split()) == {group["sgd", "lr=0.1"], group["adam", "lr=0.1"]}  # fmt: skip  # noqa: E501
    (lost,) = section(page, "failures").all("a")
    assert lost.attributes["href"] == f"#run-{records[2].run_id}"


def test_failures_are_told_with_step_and_reason() -> None:
    records = made_up_records(diverged=range(60), seeds=20)
    page = page_of(records)
    (table,) = section(page, "failures").all("table")
    rows = cells(table)
    assert rows[0][3:] == ["0", "diverged", "90", "the loss is not finite"]
    assert len(rows) == 50
    assert "And 10 more" in section(page, "failures").text
    assert "60 of 80 runs" in section(page, "answer").text


def test_what_is_not_finished_is_said_first() -> None:
    records = made_up_records()
    records[0] = replace(records[0], status=Status.INTERRUPTED, metrics={})
    assert "1 of 12 runs has not ended" in section(page_of(records), "answer").text


@pytest.mark.parametrize(
    "records",
    [
        [],
        made_up_records(["adam"], (0.1,), 1),
        made_up_records(diverged=range(12)),
        made_up_records(status=Status.PLANNED, metrics={}, facts=RunFacts(), step=0),
        made_up_records(
            status=Status.ERROR, metrics={}, facts=RunFacts(), step=0, reason="no memory"
        ),
    ],
    ids=["empty", "one-run", "all-diverged", "planned", "errors"],
)
def test_poor_studies_render(records: list[Record]) -> None:
    page = page_of(records)
    shown = [element.attributes["id"] for element in page.all("section")]
    assert [name for name in shown if name != "failures"] == [n for n in ALWAYS if n in shown]
    assert set(ALWAYS) - set(shown) <= {"time", "curves", "differences"}
    assert "nan" not in re.findall(r"\w+", page.all("main")[0].text.split("{")[0].lower())


def test_a_study_that_tunes_shows_the_funnel() -> None:
    trials = made_up_records(seeds=2, phase="tune", diverged=(0,))
    results = [replace(r, run_id=f"r{r.run_id}") for r in made_up_records(rates=(0.1,))]
    page = page_of([*trials, *results])
    funnel, trials_table = section(page, "tuning").all("table")
    assert cells(funnel)[0] == ["sgd", "2", "4 → 4 → 3", "lr=0.1", "3 → 3 → 3", "lr"]
    assert len(trials_table.all("circle", class_="other")) == 4
    assert len(trials_table.all("circle", class_="dot")) == 2
    heads = [head.text for head in section(page, "runs").all("th", scope="col")]
    assert "phase" in heads


def test_rows_of_several_problems_fill_their_columns_and_name_the_problem() -> None:
    records = [r for d in "ab" for r in made_up_records(dataset=d, diverged=(0, 1))]
    page = page_of(records)
    for name, count in (("runs", len(records)), ("failures", 4)):
        (table,) = section(page, name).all("table")
        (head,) = table.all("thead")
        columns = [cell.text for cell in head.all("th")]
        rows = cells(table)
        assert len(rows) == count
        assert {len(row) for row in rows} == {len(columns)}
        assert {row[columns.index("problem")] for row in rows} == {"a", "b"}


def test_ranks_are_drawn_for_several_problems_only() -> None:
    assert "ranks" not in section(page_of(made_up_records()), "differences").text.lower()
    names = ["sgd", "adam", "lion"]
    records = [r for d in "abcde" for r in made_up_records(names, (0.1,), dataset=d)]
    page = page_of(records)
    table = section(page, "differences").all("table")[-1]
    assert [[row[0], row[2]] for row in cells(table)] == [
        ["lion", "1.00"],
        ["adam", "2.00"],
        ["sgd", "3.00"],
    ]


def test_names_are_text_everywhere() -> None:
    records = made_up_records([NASTY, "adam"], (0.1,), diverged=(0,))
    records = [replace(r, setting=f"{r.setting} {NASTY}", reason=NASTY) for r in records]
    view = made_up_view(records, {"name": NASTY, "notes": NASTY})
    page = parse_page(study_page(view))
    assert page.all("h1")[0].text == NASTY
    assert not page.all("img")
    rows = cells(section(page, "summary").all("table")[0])
    assert {row[0] for row in rows} == {NASTY, "adam"}
    assert NASTY in section(page, "failures").text
    data = json.loads(page.all("script", type="application/json")[0].text)
    assert data["optimizers"][0]["name"] == NASTY


def test_charts_hold_what_the_curves_do() -> None:
    records = made_up_records(diverged=(5,))
    view = made_up_view(records)
    data = json.loads(parse_page(study_page(view)).all("script", id="data")[0].text)
    (problem,) = data["problems"]
    assert [line["chosen"] for line in problem["lines"]] == [True, False, False, True]
    assert set(problem["curves"]) == {"train_loss", "validation_accuracy", "test_accuracy"}
    curve = problem["curves"]["test_accuracy"][0]
    finals = [r.metrics["test_accuracy"] for r in records[:3]]
    for values, final in zip(curve["values"], finals, strict=True):
        assert values[-1] == float(f"{final:.4g}")
    lost = problem["curves"]["test_accuracy"][1]
    assert lost["mean"][-1] is None
    assert lost["mean"][0] is not None
    assert problem["lines"][0]["perStep"] is None  # four runs were trained together


def test_seconds_are_shown_only_of_runs_trained_alone() -> None:
    alone = RunFacts(stack_width=1, seconds=Seconds(8.0, 0.5))
    page = page_of(made_up_records(facts=alone))
    data = json.loads(page.all("script", id="data")[0].text)
    assert data["problems"][0]["lines"][0]["perStep"] == 8.0 / 200
    assert "trained together" not in section(page, "time").text
    assert "trained together" in section(page_of(made_up_records()), "time").text


def test_the_study_file_is_shown_and_reads_back() -> None:
    study = {
        "name": NASTY,
        "seeds": [0, 1],
        "optimizers": [{"rule": "adam", "lr": 0.1, "name": None}],
    }
    page = parse_page(study_page(made_up_view(made_up_records(), study)))
    text = section(page, "provenance").all("pre")[0].text
    assert YAML(typ="safe").load(text) == {
        "name": NASTY,
        "seeds": [0, 1],
        "optimizers": [{"rule": "adam", "lr": 0.1}],
    }


def test_tables_and_pictures_are_readable_without_eyes() -> None:
    page = page_of(made_up_records(diverged=(1,)))
    for table in page.all("table"):
        heads = table.all("th")
        assert heads
        assert all(head.attributes.get("scope") in ("col", "row") for head in heads)
    for svg in page.all("svg"):
        assert "aria-label" in svg.attributes or svg.attributes.get("aria-hidden") == "true"
    labelled = [
        e for label in page.all("label") for e in (*label.all("select"), *label.all("input"))
    ]
    assert len(labelled) == len([*page.all("select"), *page.all("input")])
    levels = [int(e.name[1]) for e in page.all() if re.fullmatch("h[1-6]", e.name)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_two_hundred_runs_are_small_and_a_thousand_fast() -> None:
    names = [f"optimizer {i}" for i in range(10)]
    two_hundred = made_up_view(made_up_records(names, (0.001, 0.01, 0.1, 1.0), 5))
    assert len(study_page(two_hundred)) < 6_000_000
    thousand = made_up_view(made_up_records(names, (0.001, 0.003, 0.01, 0.1, 1.0), 20))
    started = time.process_time()
    assert len(study_page(thousand)) < 6_000_000
    assert time.process_time() - started < 15


def test_the_same_study_makes_the_same_page() -> None:
    first, second = (study_page(made_up_view(made_up_records())) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("changes", "name"),
    [({}, "one setting of each"), ({"metrics": {"test_accuracy": 0.5}}, "compared settings")],
)
def test_the_curves_at_first_have_their_name(changes: dict[str, Any], name: str) -> None:
    """Without a validation split, none of several settings is chosen."""
    page = parse_page(study_page(made_up_view(made_up_records(**changes))))
    assert name in [option.text for option in page.all("option")]


def data_of(page: Element) -> dict[str, Any]:
    (script,) = page.all("script", id="data")
    data: dict[str, Any] = json.loads(script.text)
    return data


def test_probes_have_drawings_of_their_own_and_no_columns() -> None:
    page = page_of(made_up_records(probes=True))
    drawn = [figure.attributes["data-probe"] for figure in section(page, "probes").all("figure")]
    assert drawn == data_of(page)["probes"] == ["gradient_norm", "dead_relu_fraction"]
    assert {"gradient_norm", "gradient_norm/hidden.0"} <= set(
        data_of(page)["problems"][0]["curves"]
    )
    assert "gradient_norm" not in data_of(page)["problems"][0]["rates"]
    heads = [head.text for head in section(page, "runs").all("th", scope="col")]
    assert not {"gradient_norm", "gradient_norm/hidden.0"} & set(heads)


def test_published_values_stand_beside_measured_ones() -> None:
    records = made_up_records(rates=(0.1,), seeds=3)
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": 0.5, "sgd lr=0.1": 0.9}}}
    page = parse_page(study_page(made_up_view(records, study)))
    (table,) = section(page, "reported").all("table")
    for row, optimizer, published in zip(cells(table), ("adam", "sgd"), (0.5, 0.9), strict=True):
        values = [r.metrics["test_accuracy"] for r in records if r.optimizer == optimizer]
        mean = statistics.fmean(values)
        # The prediction interval: t(0.975, 2) is 4.303.
        margin = 4.303 * statistics.stdev(values) * math.sqrt(1 + 1 / 3)
        assert row[2] == f"{published:g}"
        assert row[3].startswith(f"{mean:.4f}")
        assert row[4] == "3"
        assert row[5] == f"{mean - published:+.2g}".replace("-", "−")
        assert row[6] == f"± {margin:.2g}"
        assert row[7] == ("yes" if abs(mean - published) <= margin else "no")


def test_what_was_timed_alone_is_shown() -> None:
    view = made_up_view(made_up_records())
    time_section = section(parse_page(study_page(view, timing=made_up_timing())), "time")
    timed, took = time_section.all("table")
    assert [row[0] for row in cells(timed)] == ["sgd", "adam", "sgd", "adam"]
    assert "1.01 (1–1.02)" in cells(timed)[0]
    assert len(cells(took)) == 2
    assert len(section(parse_page(study_page(view)), "time").all("table")) == 1


def test_rates_that_do_as_well_are_listed() -> None:
    records = made_up_records(["adam"], (0.001, 0.01, 0.1), 2)
    # By hand: 0.9 at the best rate; 0.895 beside it; 0.8 at the lowest.
    means = {0.001: 0.8, 0.01: 0.895, 0.1: 0.9}
    records = [
        replace(r, metrics={**r.metrics, "validation_accuracy": means[r.hyperparameters["lr"]]})
        for r in records
    ]
    (table,) = section(page_of(records), "rates").all("table")
    ((_, best, as_good, _, decades),) = cells(table)
    # 0.89 lies at (0.895 - 0.89) / (0.895 - 0.8) of the way from 0.01 to 0.001, in logarithms.
    lowest = 10 ** (-2 - 0.005 / 0.095)
    assert (best, as_good) == ("0.1", f"{lowest:.2g} to ≥ 0.1")
    assert decades == "{0:.2f} ({0:.2f} to {0:.2f})".format(-1 - math.log10(lowest))
    assert "within 1 point of the optimizer's best" in section(page_of(records), "rates").text
    narrow = RateRange(
        0.1, 0.1, 0.1, Interval(0.0, 0.0, 0.0, 0.95), open_low=False, open_high=False
    )
    assert range_text(narrow) == "only 0.1"
    assert range_text(replace(narrow, open_low=True)) == "≤ 0.1"
    assert range_text(replace(narrow, open_high=True)) == "≥ 0.1"


def test_the_summary_says_that_settings_with_failed_runs_come_last() -> None:
    said = "Settings with failed runs come last."
    records = made_up_records(["adam"], (0.01, 0.1), 2, diverged=(3,))
    assert said in section(page_of(records), "summary").text
    assert said not in section(page_of(made_up_records(["adam"], (0.01, 0.1), 2)), "summary").text


def test_the_best_of_several_trials_is_drawn() -> None:
    records = made_up_records(["adam"], (0.01, 0.1, 1.0), 2, diverged=(5,))
    values = [0.7, 0.7, 0.9, 0.9, 0.1, None]
    records = [
        replace(r, metrics={**r.metrics, "validation_accuracy": value})
        for r, value in zip(records, values, strict=True)
    ]
    (line,) = data_of(page_of(records))["problems"][0]["trials"]["validation_accuracy"]
    # Of three settings one failed: of k drawn, the best is 0.9 in 1 - (2/3)^k of all cases, and
    # none finished in (1/3)^k.
    for k, mean in zip(line["trials"], line["mean"], strict=True):
        best, none = 1 - (2 / 3) ** k, (1 / 3) ** k
        expected = (0.9 * best + 0.7 * (1 - best - none)) / (1 - none)
        assert mean == float(f"{expected:.4g}")
    assert line["groups"] == [0, 1, 2]
