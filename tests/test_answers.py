"""Answers of results: the best run, its model, a recommendation, and tables to paste."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import optrial
from optrial import Results, StoreError, Study
from optrial.records import Store
from tests.conftest import Command
from tests.small import small_keys

EVALUATE = {"every": {"steps": 10}, "on": ["validation", "test"]}
OPTIMIZERS = [{"rule": "sgd", "lr": [0.001, 0.1]}, {"rule": "adam", "lr": [0.001, 0.01]}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("answers")
    keys = small_keys(
        name="<b>&small", optimizers=OPTIMIZERS, seeds=2, save="final", evaluate=EVALUATE
    )
    Study(**keys).run(place / "studies" / "small").close()
    return place / "studies" / "small"


@pytest.fixture
def results(folder: Path) -> Any:
    with optrial.load(folder) as loaded:
        yield loaded


def test_best_is_the_leader_with_its_best_run(results: Results) -> None:
    best = results.best()
    runs = results.runs()
    means = runs.groupby(["optimizer", "setting"])["validation_accuracy"].mean()
    own = runs[(runs["optimizer"] == best.optimizer) & (runs["setting"] == best.setting)]
    assert means[best.optimizer].idxmax() == best.setting
    assert best.run_id == own.loc[own["validation_accuracy"].idxmax(), "run_id"]
    assert best.value == pytest.approx(own[best.metric].mean())
    assert best.hyperparameters["lr"] == own["lr"].iloc[0]
    assert best.statement == results.comparisons()[0]
    assert f"{best.shown} " in best.statement
    assert best.pairs["settings"].startswith("lr ")


def test_best_model_has_the_weights_of_the_best_run(results: Results) -> None:
    model, same = results.best_model(), results.model(results.best().run_id)
    assert not model.training
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other)


def test_recommendation_builds_the_optimizer(results: Results) -> None:
    recommendation = results.recommendation()
    assert recommendation.leader.optimizer == results.best().optimizer
    names = {"torch": torch, "model": results.best_model()}
    exec(recommendation.code, names)
    assert names["optimizer"].param_groups[0]["lr"] == results.best().hyperparameters["lr"]


def test_a_lone_optimizer_is_the_best(tmp_path: Path) -> None:
    optimizers = [{"rule": "adam", "lr": [0.001, 0.01]}]
    keys = small_keys(optimizers=optimizers, seeds=2, evaluate=EVALUATE)
    with Study(**keys).run(tmp_path) as results:
        assert results.best().optimizer == "adam"
        assert "nothing to compare" in results.best().statement
        assert results.recommendation().leader.setting == results.best().setting
        with pytest.raises(StoreError, match="save"):
            results.best_model()


def test_without_a_validation_split_nothing_is_recommended(tmp_path: Path) -> None:
    keys = small_keys(optimizers=OPTIMIZERS, seeds=2)
    with Study(**keys).run(tmp_path) as results:
        assert results.best().setting
        with pytest.raises(StoreError, match=r"add validation to evaluate\.on"):
            results.recommendation()


def test_where_every_run_diverged_the_validation_split_is_still_known(tmp_path: Path) -> None:
    keys = small_keys(optimizers=[{"rule": "sgd", "lr": [1e30, 1e31]}], evaluate=EVALUATE)
    with Study(**keys).run(tmp_path) as results:
        assert results.view().select == "validation_accuracy"
        assert "B01" not in {finding.rule for finding in results.audit().findings}


def test_nothing_is_best_where_every_run_diverged(tmp_path: Path) -> None:
    keys = small_keys(optimizers=[{"rule": "sgd", "lr": 1e30}], seeds=2)
    with Study(**keys).run(tmp_path) as results:
        with pytest.raises(StoreError, match=r"no optimizer is best\. Every run diverged"):
            results.best()
        assert "diverged" in shown(results)


def test_a_study_is_loaded_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parents[1])
    with optrial.load("small") as results:
        assert len(results.records) == 8
    with pytest.raises(StoreError, match="Did you mean 'small'"):
        optrial.load("smal")


def test_tables_to_paste_are_those_of_the_command(
    results: Results, folder: Path, optrial: Command
) -> None:
    assert optrial("show", folder, "--format", "latex").out == results.to_latex()
    assert optrial("show", folder, "--format", "markdown").out == results.to_markdown()
    assert r"\toprule" in results.to_latex()
    with pytest.raises(StoreError, match="problem: no 'moon'"):
        results.to_latex("moon")


def test_a_study_that_is_named_twice_is_drawn_once(folder: Path, optrial: Command) -> None:
    assert optrial("plot", folder, "--out", "once.svg").status == 0
    assert optrial("plot", folder, folder, "--out", "twice.svg").status == 0
    once, twice = (Path(name).read_text("utf-8") for name in ("once.svg", "twice.svg"))
    assert once.count("adam") == twice.count("adam") > 0


def test_a_study_without_a_plan_is_no_result(
    folder: Path, tmp_path: Path, optrial: Command
) -> None:
    """It was interrupted, or is read, while its runs are being planned."""
    Store.open(tmp_path / "begun", create=True).close()
    for places in ["begun"], [str(folder), "begun"]:
        for command in "show", "best", "audit", "plot":
            told = optrial(command, *places)
            assert told.status == 2
            assert "begun has no runs yet" in told.err
            assert "optrial run STUDY --out begun" in told.err


def shown(thing: object) -> str:
    """Return what a notebook shows of an object."""
    formatters = pytest.importorskip("IPython.core.formatters")
    return str(formatters.HTMLFormatter()(thing))


class Balanced(HTMLParser):
    """Collects the open elements of a page, which must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_objects_show_themselves_in_a_notebook(results: Results) -> None:
    study = Study(**small_keys(name="<b>&small", optimizers=OPTIMIZERS))
    things = [
        results,
        results.best(),
        results.recommendation(),
        results.compare("adam", "sgd"),
        results.audit(),
        study,
        study.plan(),
    ]
    for thing in things:
        assert re.fullmatch(r"<\w+.*>", repr(thing))
        parser = Balanced()
        parser.feed(shown(thing))
        assert parser.open == []
        assert not re.search(r"color: *#|background: *#", shown(thing))
    assert html.escape("<b>&small") in shown(results)
    assert html.escape("<b>&small") in shown(study.plan())


def test_the_answer_comes_first_in_a_notebook(results: Results) -> None:
    parser = Balanced()
    parser.feed(shown(results))
    best = results.best()
    assert parser.text.index(best.statement) < parser.text.index("optimizer")
    assert f"{results.recommendation().text}." in parser.text
    assert parser.text.count("No clear winner yet") == 1


def test_a_comparison_reads_as_its_sentence(results: Results) -> None:
    pair = results.compare("adam", "sgd")
    assert str(pair) in results.comparisons()
    assert f"<Comparison: {pair}>" == repr(pair)


def test_best_of_a_study(results: Results, folder: Path, optrial: Command) -> None:
    answer = optrial("best", folder)
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[0] == results.best().statement
    assert results.recommendation().code in answer.out
    assert results.best().run_id in answer.out


def test_results_of_a_store_that_is_gone_still_have_a_repr(tmp_path: Path) -> None:
    results = Study(**small_keys()).run(tmp_path / "s")
    results.close()
    (tmp_path / "s" / "study.db").unlink()
    assert repr(results).startswith("<Results: ")
