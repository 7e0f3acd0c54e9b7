"""Reading many runs: what they share is read and decoded once."""

from __future__ import annotations

import copy
import json
import pickle
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from optrial.errors import StoreError
from optrial.records import PlannedRun, Record, Store, texts, verify
from optrial.records.texts import FactsWriter, TextReader, spec_text
from optrial.spec import RunFacts, RunSpec, Seconds, Status
from tests.records.connections import edit
from tests.records.samples import curve, segment
from tests.specs import SPEC, STACK

VERSIONS = {"python": "3.11", "torch": "2"}


def facts_of(seed: int) -> RunFacts:
    return RunFacts(
        versions=VERSIONS,
        seconds=Seconds(1.0, 0.5),
        first_batches_sha256=f"batches {seed}",
        parameters_sha256=f"weights {seed}",
    )


def store_with(folder: Path, settings: int, seeds: int) -> Store:
    """A store of finished runs."""
    store = Store.open(folder, create=True)
    specs = [
        replace(SPEC, hyperparameters={"lr": 0.1 * (n + 1)}).with_seed(seed)
        for n in range(settings)
        for seed in range(seeds)
    ]
    runs = [
        PlannedRun(run_id=s.run_id, problem="moons", spec=s, setting="", stack=STACK) for s in specs
    ]
    store.save_plan("plan", {"name": "many"}, runs)
    done = [segment(s.run_id, 100, Status.DONE, facts=facts_of(s.seed)) for s in specs]
    store.commit(done, STACK, None)
    return store


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The SQL statements that are executed."""
    texts: list[str] = []

    def note(_: Any, __: Any, text: str, *___: Any) -> None:
        texts.append(text)

    sql.event.listen(sql.Engine, "before_cursor_execute", note)
    yield texts
    sql.event.remove(sql.Engine, "before_cursor_execute", note)


def read(folder: Path, settings: int, seeds: int) -> list[Record]:
    with store_with(folder, settings, seeds) as store:
        return store.runs()


def test_statements_do_not_grow_with_the_number_of_runs(
    tmp_path: Path, statements: list[str]
) -> None:
    counts = []
    for seeds in (2, 60):
        with store_with(tmp_path / str(seeds), 2, seeds) as store:
            statements.clear()
            store.runs()
            counts.append(len(statements))
    assert counts[0] == counts[1]


def test_a_spec_is_decoded_once_per_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    original = RunSpec.from_dict.__func__  # type: ignore[attr-defined]

    def count(cls: type[RunSpec], values: dict[str, Any]) -> RunSpec:
        decoded.append(values)
        return original(cls, values)  # type: ignore[no-any-return]

    monkeypatch.setattr(RunSpec, "from_dict", classmethod(count))
    records = read(tmp_path, 3, 20)
    assert len(decoded) == 3
    assert [record.spec.run_id for record in records] == [record.run_id for record in records]
    assert [record.facts for record in records] == [facts_of(record.seed) for record in records]


def test_runs_share_what_they_have_in_common(tmp_path: Path) -> None:
    records = read(tmp_path, 2, 10)
    assert len({id(record.facts.versions) for record in records}) == 1
    assert len({id(record.spec.dataset_arguments) for record in records}) == 2
    assert len({id(record.stack) for record in records}) == 1


@pytest.mark.parametrize("seed", [0, 3, 2**40])
def test_specs_survive_whatever_their_values_are_called(seed: int) -> None:
    strange = replace(SPEC, hyperparameters={"seed": 5, 'a",\n"seed": 7': 1.0}, code={"m:f": "}"})
    text = spec_text(strange.with_seed(seed))
    assert json.loads(text)["seed"] == seed
    reader = TextReader()
    assert reader.spec(spec_text(strange.with_seed(1))) == strange.with_seed(1)
    assert reader.spec(text) == strange.with_seed(seed)


@pytest.mark.parametrize(
    "facts",
    [RunFacts(), RunFacts(versions=VERSIONS), RunFacts(saved_step=3), facts_of(0), facts_of(1)],
)
def test_facts_survive(facts: RunFacts) -> None:
    text = FactsWriter().text(facts)
    reader = TextReader()
    assert reader.facts("a", text) == facts
    assert reader.facts("b", json.dumps(json.loads(text))) == facts


def test_facts_are_decoded_when_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = read(tmp_path, 1, 2)
    copied = pickle.loads(pickle.dumps(second.facts))
    assert copied == second.facts == copy.deepcopy(second.facts) == facts_of(1)
    with monkeypatch.context() as patch:
        patch.setattr(texts, "from_json", None)
        assert second.facts.parameters_sha256 == "weights 1"
        with pytest.raises(AttributeError, match="mass"):
            first.facts.mass  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(StoreError):
            first.facts.engine  # noqa: B018
    assert first.facts | RunFacts(engine="stacked") == replace(facts_of(0), engine="stacked")


def test_facts_that_are_no_json_are_damage(tmp_path: Path) -> None:
    store_with(tmp_path, 1, 1).close()
    edit(tmp_path, "outcomes", seal=True, facts="{\n1,\n2\n}")
    with Store.open(tmp_path) as store:
        (run,) = store.runs()
    with pytest.raises(StoreError, match=f"run {run.run_id} cannot be decoded .* --repair"):
        run.facts.engine  # noqa: B018
    assert not verify(tmp_path).intact


def test_progress_and_some_runs_are_those_of_all(tmp_path: Path) -> None:
    with store_with(tmp_path, 2, 3) as store:
        runs = store.runs()
        assert [(p.run_id, p.stack, p.status, p.step) for p in store.progress().values()] == [
            (run.run_id, run.stack, run.status, run.step) for run in runs
        ]
        assert store.runs_of([runs[4].run_id, runs[1].run_id]) == [runs[1], runs[4]]
        assert store.runs_of([]) == []
    with Store.open(tmp_path / "empty", create=True) as empty:
        assert empty.progress() == {}


def test_curves_with_equal_steps_share_them(tmp_path: Path) -> None:
    with store_with(tmp_path, 1, 3) as store:
        run_ids = [run.run_id for run in store.runs()]
        more = [
            segment(i, 101, Status.DONE, curves={"loss": curve(1, [0.5, n])})
            for n, i in enumerate(run_ids)
        ]
        store.commit(more, STACK, None)
        steps = {id(c.steps) for c in store.curves("loss").values()}
        assert len(steps) == 1
        assert [c.values[1] for c in store.curves("loss").values()] == [0, 1, 2]


def test_run_without_an_outcome_is_damage(tmp_path: Path) -> None:
    with store_with(tmp_path, 1, 2) as store, sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("DELETE FROM outcomes WHERE rowid = 1")
        database.commit()
        with pytest.raises(StoreError, match="the outcome of a run cannot be decoded"):
            store.progress()
        with pytest.raises(StoreError, match="its outcome is missing"):
            store.runs()
    database.close()


def test_records_come_in_the_order_of_the_plan(tmp_path: Path) -> None:
    with store_with(tmp_path, 2, 3) as store:
        runs = store.runs()
        again = [
            PlannedRun(run_id=r.run_id, problem=r.problem, spec=r.spec, setting="", stack=r.stack)
            for r in runs
        ]
        store.save_plan("other", {"name": "many"}, again[4:0:-1])
        assert [run.run_id for run in store.runs()] == [run.run_id for run in runs[4:0:-1]]
        everything = [run.run_id for run in store.runs(everything=True)]
        assert everything == [run.run_id for run in (*runs[4:0:-1], runs[0], runs[5])]


def test_digest_changes_with_any_commit_and_plan(tmp_path: Path) -> None:
    with store_with(tmp_path, 1, 2) as store:
        digests = [store.digest(), store.digest()]
        assert len(set(digests)) == 1
        run = store.runs()[0]
        store.commit([segment(run.run_id, 100, Status.DONE, curves={})], STACK, None)
        digests.append(store.digest())
        again = PlannedRun(
            run_id=run.run_id, problem="moons", spec=run.spec, setting="", stack=STACK
        )
        store.save_plan("other", {"name": "many"}, [again])
        digests.append(store.digest())
        with store.lock():
            assert store.digest() == digests[-1]
    assert len(set(digests)) == 3
