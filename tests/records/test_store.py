from __future__ import annotations

from dataclasses import fields
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optrial.errors import StoreError
from optrial.records import Curve, PlannedRun, Store
from optrial.spec import RunFacts, StackId, Status
from tests.records.connections import edit, transaction
from tests.records.samples import curve, planned, same_bits, segment
from tests.specs import STACK

WIDE, OTHER, ONE, TWO, FIRST, SECOND = (
    StackId("stacked", name) for name in ("wide", "other", "one", "two", "first", "second")
)


def names(store: Store, **options) -> list[str]:
    return [record.run_id for record in store.runs(**options)]


def test_a_new_store_is_empty(store: Store) -> None:
    assert (store.runs(), store.metrics(), store.curves()) == ([], [], {})
    assert (store.study(), store.plan_hash(), store.checkpoint(STACK)) == ({}, "", None)


def test_a_planned_run_comes_back_as_it_was(store: Store, location: str) -> None:
    run = planned("a", setting="lr=0.1, π", seed=2**40, hyperparameters={"b": [0.9, 1e-300]})
    store.save_plan("hash", {"name": "study", "seeds": [1, 2]}, [run])
    with Store.open(location) as again:
        (record,) = again.runs()
        assert (again.plan_hash(), again.study()) == ("hash", {"name": "study", "seeds": [1, 2]})
    for field in fields(PlannedRun):
        assert getattr(record, field.name) == getattr(run, field.name)
    assert (record.status, record.step, record.reason) == (Status.PLANNED, 0, "")
    assert (record.facts, record.metrics) == (RunFacts(), {})


def test_runs_are_listed_in_the_order_of_the_current_plan(store: Store) -> None:
    store.save_plan("one", {}, [planned("c"), planned("a"), planned("b")])
    assert names(store) == ["c", "a", "b"]
    store.save_plan("two", {"notes": "wider"}, [planned("d"), planned("b"), planned("a")])
    assert names(store) == ["d", "b", "a"]
    assert names(store, everything=True) == ["d", "b", "a", "c"]
    assert (store.plan_hash(), store.study()) == ("two", {"notes": "wider"})
    store.save_plan("one", {}, [planned("c"), planned("a"), planned("b")])
    assert names(store, everything=True) == ["c", "a", "b", "d"]


def test_saving_the_current_plan_again_changes_nothing(store: Store, location: str) -> None:
    for _ in range(3):
        store.save_plan("one", {"betas": (0.9, 0.999)}, [planned("a"), planned("b")])
    assert names(store, everything=True) == ["a", "b"]
    assert count_rows(location, "plans") == 1
    assert count_rows(location, "plan_runs") == 2


def count_rows(location: str, table: str) -> int:
    with transaction(location) as connection:
        return connection.scalar(sql.text(f"select count(*) from {table}"))


def test_a_known_run_keeps_its_stack_and_results_in_a_new_plan(store: Store) -> None:
    store.save_plan("one", {}, [planned("a", stack=FIRST)])
    store.commit([segment("a", 1, curves={"loss": curve(1, [2.0])})], FIRST, {})
    store.save_plan("two", {}, [planned("b", stack=SECOND), planned("a", stack=SECOND)])
    b, a = store.runs()
    assert (a.stack, a.status, a.step) == (FIRST, Status.INTERRUPTED, 1)
    assert (b.stack, b.status) == (SECOND, Status.PLANNED)


def test_what_a_run_is_called_and_for_is_up_to_the_plan(store: Store) -> None:
    store.save_plan("one", {}, [planned("a", phase="tune"), planned("b")])
    assert [(r.setting, r.phase) for r in store.runs()] == [
        ("lr=0.1", "tune"),
        ("lr=0.1", "report"),
    ]
    store.save_plan("two", {}, [planned("a", setting="lr=0.1 momentum=0.9")])
    called = [(r.run_id, r.setting, r.phase) for r in store.runs(everything=True)]
    assert called == [("a", "lr=0.1 momentum=0.9", "report"), ("b", "lr=0.1", "report")]


def test_a_run_goes_on_over_commits_and_processes(store: Store, location: str) -> None:
    store.save_plan("one", {}, [planned("a")])
    part = {"loss": curve(1, [3.0, 2.0]), "accuracy": curve(2, [0.5])}
    store.commit([segment("a", 2, curves=part)], STACK, {"weight": np.arange(3.0)})
    with Store.open(location, create=True) as again:
        (record,) = again.runs()
        assert (record.status, record.step) == (Status.INTERRUPTED, 2)
        assert record.metrics == {"loss": None, "accuracy": None}
        np.testing.assert_array_equal(again.checkpoint(STACK)["weight"], np.arange(3.0))
        last = segment("a", 4, Status.DONE, curves={"loss": curve(3, [1.5, 1.0])})
        again.commit([last], STACK, None)
    (record,) = store.runs()
    assert (record.status, record.step) == (Status.DONE, 4)
    assert record.metrics == {"loss": 1.0, "accuracy": 0.5}
    assert store.checkpoint(STACK) is None
    assert store.metrics() == ["accuracy", "loss"]
    assert store.curve("a", "loss").steps.tolist() == [1, 2, 3, 4]
    assert store.curve("a", "loss").values.tolist() == [3.0, 2.0, 1.5, 1.0]


@pytest.mark.parametrize("status", [Status.DIVERGED, Status.ERROR, Status.INTERRUPTED])
def test_a_run_that_is_not_done_has_no_number(store: Store, status: Status) -> None:
    store.save_plan("one", {}, [planned("a"), planned("b"), planned("c")])
    part = {"loss": curve(1, [2.0])}
    failed = segment("a", 1, status, curves=part, reason="loss is NaN\nat step 1")
    store.commit([failed, segment("b", 1, Status.DONE, curves=part)], STACK, None)
    a, b, c = store.runs()
    assert [run.metrics for run in (a, b, c)] == [{"loss": None}, {"loss": 2.0}, {"loss": None}]
    assert (a.status, a.reason) == (status, "loss is NaN at step 1")


def test_a_final_value_that_is_not_finite_is_no_number(store: Store) -> None:
    store.save_plan("one", {}, [planned("a")])
    part = {"loss": curve(1, [2.0, np.nan]), "norm": curve(1, [np.inf])}
    store.commit([segment("a", 2, Status.DONE, curves=part)], STACK, None)
    assert store.runs()[0].metrics == {"loss": None, "norm": None}
    assert np.isnan(store.curve("a", "loss").values[-1])
    assert store.curve("a", "norm").values.tolist() == [np.inf]


def test_the_latest_outcome_is_the_record(store: Store, location: str) -> None:
    store.save_plan("one", {}, [planned("a")])
    for step in range(1, 4):
        facts = RunFacts(threads=step, versions={"torch": "2"}, warm_up_seconds=float("nan"))
        store.commit([segment("a", step, facts=facts)], STACK, None)
    (record,) = store.runs()
    assert (record.step, record.facts) == (3, RunFacts(threads=3, versions={"torch": "2"}))
    assert count_rows(location, "outcomes") == 1


def test_any_text_is_a_reason(store: Store) -> None:
    store.save_plan("one", {}, [planned("a")])
    reason = "nul \0, surrogate \udc80, quote ' and π"
    store.commit([segment("a", 1, Status.ERROR, reason=reason)], STACK, None)
    assert store.runs()[0].reason == "nul , surrogate ?, quote ' and π"


def test_a_checkpoint_is_replaced_and_deleted(store: Store, monkeypatch) -> None:
    monkeypatch.setattr("optrial.records.encoding.PART_BYTES", 300)
    for size in (100, 3):
        store.commit([], ONE, {"weight": np.full(size, 0.1), "step": np.array(size)})
        store.commit([], TWO, {})
        back = store.checkpoint(ONE)
        np.testing.assert_array_equal(back["weight"], np.full(size, 0.1))
        assert (back["step"].shape, int(back["step"])) == ((), size)
    store.commit([], ONE, None)
    assert (store.checkpoint(ONE), store.checkpoint(TWO)) == (None, {})


def test_the_room_of_a_checkpoint_is_returned_when_training_ends(tmp_path: Path) -> None:
    large = {"weights": np.random.default_rng(0).normal(size=1_000_000)}
    with Store.open(tmp_path, create=True) as store:
        with store.lock():
            store.save_plan("plan", {}, [planned("a")])
            store.commit([segment("a", 1)], STACK, large)
            store.commit([segment("a", 2, Status.DONE)], STACK, None)
        assert store.checkpoint(STACK) is None
        assert (tmp_path / "study.db").stat().st_size < 1_000_000


def test_steps_that_are_stored_are_not_stored_again(store: Store) -> None:
    store.save_plan("one", {}, [planned("a")])
    store.commit([segment("a", 2, curves={"loss": curve(1, [3.0, 2.0])})], STACK, None)
    for first in (1, 2):
        with pytest.raises(StoreError, match=f"step {first} of 'loss' of run 'a' is already"):
            store.commit([segment("a", 3, curves={"loss": curve(first, [9.0] * 3)})], STACK, None)
    twice = [segment("a", 3, curves={"loss": curve(3, [1.0])})] * 2
    with pytest.raises(StoreError, match="already stored"):
        store.commit(twice, STACK, None)
    assert store.curve("a", "loss").values.tolist() == [3.0, 2.0]
    assert store.runs()[0].step == 2


def test_the_database_itself_refuses_a_second_chunk(store: Store, location: str) -> None:
    store.save_plan("one", {}, [planned("a")])
    store.commit([segment("a", 1, curves={"loss": curve(1, [3.0])})], STACK, None)
    edit(location, "outcomes", seal=True, latest="{}")  # as if another writer had come between
    with pytest.raises(StoreError, match="another process stored these steps first"):
        store.commit([segment("a", 1, curves={"loss": curve(1, [9.0])})], STACK, None)
    assert count_rows(location, "curves") == 1


def test_a_run_of_no_plan_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="run 'a' is not part of any plan"):
        store.commit([segment("a", 1)], STACK, None)


@pytest.mark.parametrize(
    "at", ["UPDATE outcomes", "INTO curves", "FROM checkpoints", "INTO checkp"]
)
def test_a_commit_that_fails_midway_leaves_nothing(store: Store, at: str) -> None:
    store.save_plan("one", {}, [planned("a"), planned("b")])

    def commit(step: int, value: float) -> None:
        part = {"loss": curve(step, [value])}
        segments = [segment(name, step, curves=part) for name in "ab"]
        store.commit(segments, STACK, {"step": np.array(step)})

    def fail(connection, cursor, statement: str, *rest) -> None:
        if at in statement:
            raise KeyboardInterrupt

    commit(1, 3.0)
    sql.event.listen(sql.Engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            commit(2, 2.0)
    finally:
        sql.event.remove(sql.Engine, "before_cursor_execute", fail)
    assert [record.step for record in store.runs()] == [1, 1]
    assert [len(values) for values in store.curves("loss").values()] == [1, 1]
    assert store.checkpoint(STACK)["step"] == 1
    commit(2, 2.0)
    assert [record.step for record in store.runs()] == [2, 2]


def test_curves_are_chosen_by_metric_and_run(store: Store) -> None:
    store.save_plan("old", {}, [planned("z")])
    store.commit([segment("z", 1, curves={"loss": curve(1, [9.0])})], STACK, None)
    store.save_plan("new", {}, [planned("b"), planned("a")])
    for first in (1, 3):
        part = {"loss": curve(first, [3.0, 2.0]), "accuracy": curve(first, [0.5])}
        store.commit([segment(name, first, curves=part) for name in "ab"], STACK, None)
    assert list(store.curves("loss")) == [("b", "loss"), ("a", "loss")]
    assert set(store.curves()) == {(run, name) for run in "ab" for name in ("loss", "accuracy")}
    assert list(store.curves("loss", ["a", "z"])) == [("a", "loss"), ("z", "loss")]
    assert store.curves("loss", []) == {}
    assert store.curves("loss")["b", "loss"].steps.tolist() == [1, 2, 3, 4]


def test_runs_that_only_earlier_plans_contain(store: Store) -> None:
    assert not store.has_former_runs()
    store.save_plan("one", {}, [planned("a"), planned("b")])
    assert not store.has_former_runs()
    store.save_plan("two", {}, [planned("b")])
    assert store.has_former_runs()
    store.save_plan("three", {}, [planned("b"), planned("a"), planned("c")])
    assert not store.has_former_runs()


def test_curves_of_more_runs_than_one_query_takes(store: Store, monkeypatch) -> None:
    monkeypatch.setattr("optrial.records.queries.MOST_LOOKUPS", 3)
    ids = [f"run{number}" for number in range(10)]
    store.save_plan("before", {}, [planned("former")])
    store.commit([segment("former", 1, curves={"loss": curve(1, [2.0])})], STACK, None)
    store.save_plan("one", {}, [planned(run_id) for run_id in ids])
    part = {"loss": curve(1, [1.0])}
    store.commit([segment(run_id, 1, curves=part) for run_id in ids], STACK, None)
    assert [run_id for run_id, _ in store.curves("loss")] == ids
    assert [run_id for run_id, _ in store.curves("loss", ids[::-2])] == ids[::-2]


def test_a_curve_that_does_not_exist(store: Store) -> None:
    store.save_plan("one", {}, [planned("a"), planned("b")])
    store.commit([segment("a", 1, curves={"train_loss": curve(1, [9.0])})], STACK, None)
    assert len(store.curve("b", "train_loss")) == 0
    with pytest.raises(StoreError, match=r"no metric 'train_los'\. Did you mean 'train_loss'"):
        store.curve("a", "train_los")
    with pytest.raises(StoreError, match="no run 'nobody'"):
        store.curve("nobody", "train_loss")


FRESH = count()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hnp.arrays(np.uint64, st.integers(2, 30)), st.data())
def test_any_values_survive_the_database(store: Store, bits: np.ndarray, data) -> None:
    run_id = f"run{next(FRESH)}"
    store.save_plan(run_id, {}, [planned(run_id)])
    whole = Curve(np.arange(len(bits)) * 7, bits.view(np.float64))
    cut = data.draw(st.integers(0, len(bits)))
    for part in (slice(0, cut), slice(cut, None)):
        piece = Curve(whole.steps[part], whole.values[part])
        store.commit([segment(run_id, cut, curves={"loss": piece})], STACK, None)
    back = store.curve(run_id, "loss")
    assert same_bits(back.steps, whole.steps)
    assert same_bits(back.values, whole.values)


def test_runs_that_move_to_another_stack_start_again(store: Store) -> None:
    runs = [planned(name, stack=WIDE) for name in "abc"] + [planned("d", stack=OTHER)]
    store.save_plan("plan", {}, runs)
    ended = segment("c", 2, Status.DIVERGED, curves={"loss": curve(1, [2.0, 1e9])})
    going = [segment(name, 2, curves={"loss": curve(1, [2.0, 1.0])}) for name in "ab"]
    store.commit([*going, ended], WIDE, {"x": np.zeros(1)})
    store.commit([segment("d", 1, curves={"loss": curve(1, [2.0])})], OTHER, {"x": np.ones(1)})
    store.restack({ONE: ["a"], TWO: ["b", "c"]})
    a, b, c, d = store.runs()
    assert [(r.stack, r.status, r.step) for r in (a, b, c)] == [
        (ONE, Status.PLANNED, 0),
        (TWO, Status.PLANNED, 0),
        (TWO, Status.PLANNED, 0),
    ]
    assert (d.stack, d.step) == (OTHER, 1)
    assert {run_id for run_id, _ in store.curves()} == {"d"}
    assert store.checkpoint(WIDE) is None
    assert store.checkpoint(OTHER) is not None
    store.commit([segment("a", 1, curves={"loss": curve(1, [2.0])})], ONE, {})


def test_a_run_that_is_done_stays_in_its_stack(store: Store) -> None:
    store.save_plan("plan", {}, [planned("a", stack=WIDE), planned("b", stack=WIDE)])
    store.commit([segment("a", 1, Status.DONE)], WIDE, {"x": np.zeros(1)})
    with pytest.raises(StoreError, match="run a is done"):
        store.restack({ONE: ["a"], TWO: ["b"]})
    assert [run.stack for run in store.runs()] == [WIDE, WIDE]
    assert store.checkpoint(WIDE) is not None


def test_what_ended_before_a_plan_does_not_depend_on_the_clock(store: Store, monkeypatch) -> None:
    years = iter(["2030", "2029", "2028", "1999", "1998", "1970"] * 3)
    for module in ("rows", "store"):
        monkeypatch.setattr(f"optrial.records.{module}.now", lambda: next(years))
    store.save_plan("one", {"seeds": 1}, [planned("a")])
    store.commit([segment("a", 1, Status.DONE)], STACK, None)
    store.save_plan("two", {"seeds": 2}, [planned("a"), planned("b")])
    store.commit([segment("b", 1, Status.ERROR)], STACK, None)
    store.save_plan("three", {"seeds": 3}, [planned("a"), planned("b"), planned("c")])
    assert store.plans() == [({"seeds": 1}, 0), ({"seeds": 2}, 1), ({"seeds": 3}, 2)]
