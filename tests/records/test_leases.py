"""Several processes share a store on a server: each stack belongs to one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql

from optrial.errors import LeaseLostError, StoreBusyError, StoreUnreachableError
from optrial.records import PlannedRun, Store, verify
from optrial.records.schema import leases
from optrial.spec import StackId, Status
from tests.records.connections import transaction
from tests.records.proxy import Proxy
from tests.records.samples import curve, hashed, segment

LEFT = (Status.PLANNED, Status.INTERRUPTED)


def plan_of(stacks: int, width: int = 2) -> list[PlannedRun]:
    runs = []
    for number in range(stacks):
        specs = [hashed(number * width + seed) for seed in range(width)]
        stack = StackId.of("stacked", [run.spec for run in specs])
        runs += [replace(run, stack=stack) for run in specs]
    return runs


RUNS = plan_of(3)
STACKS = list(dict.fromkeys(run.stack for run in RUNS))


def members(stack: StackId) -> list[str]:
    return [run.run_id for run in RUNS if run.stack == stack]


def train(store: Store, stack: StackId, step: int, status: Status = Status.INTERRUPTED) -> None:
    """Commit a step of every run of a stack."""
    segments = [
        segment(run_id, step, status, curves={"loss": curve(step, [float(step)])})
        for run_id in members(stack)
    ]
    state = None if status is Status.DONE else {"step": np.array(step)}
    store.commit(segments, stack, state)


def end_leases(location: str, **changes: str) -> None:
    """Make the time of every lease run out."""
    with transaction(location, writing=True) as connection:
        connection.execute(
            leases.update().values(until=sql.text("now() - interval '1 s'"), **changes)
        )


@pytest.fixture
def two(postgresql: str) -> Iterator[tuple[Store, Store]]:
    """Two processes that train; their leases last a minute and are not renewed."""
    with ExitStack() as stack:
        first = stack.enter_context(Store.open(postgresql, create=True))
        second = stack.enter_context(Store.open(postgresql))
        first.save_plan("one", {}, RUNS)
        stack.enter_context(first.share(heartbeat_interval=1e3))
        stack.enter_context(second.share(heartbeat_interval=1e3))
        yield first, second


def test_no_stack_is_claimed_twice(two: tuple[Store, Store]) -> None:
    first, second = two
    claims = [store.claim(STACKS, LEFT) for store in (first, second, second, first)]
    assert [claim and claim.stack for claim in claims] == [*STACKS, None]


def test_stores_are_created_at_the_same_moment(postgresql: str) -> None:
    barrier = threading.Barrier(6)

    def create(_: int) -> str:
        barrier.wait()
        with Store.open(postgresql, create=True) as store:
            return store.plan_hash()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(create, range(6))) == [""] * 6


def test_claims_at_the_same_moment_differ(postgresql: str) -> None:
    runs = plan_of(20)
    stacks = list(dict.fromkeys(run.stack for run in runs))
    claimed: list[StackId] = []

    def work() -> None:
        with Store.open(postgresql) as store, store.share():
            while claim := store.claim(stacks, LEFT):
                claimed.append(claim.stack)
            gate.wait()

    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, runs)
    gate = threading.Barrier(4, timeout=60)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(stacks)


def test_a_trained_stack_is_not_claimed(two: tuple[Store, Store]) -> None:
    first, second = two
    claim = first.claim(STACKS, LEFT)
    assert claim is not None
    train(first, claim.stack, 1, Status.DONE)
    first.release(claim.stack)
    other = second.claim(STACKS, LEFT)
    assert other is not None
    assert other.stack == STACKS[1]


def test_a_late_process_cannot_write(two: tuple[Store, Store]) -> None:
    late, second = two
    claim = late.claim(STACKS[:1], LEFT)
    assert claim is not None
    train(late, STACKS[0], 1)
    assert second.claim(STACKS[:1], LEFT) is None
    end_leases(late.location)
    taken = second.claim(STACKS[:1], LEFT)
    assert taken is not None
    state = second.checkpoint(STACKS[0])
    assert state is not None
    assert state["step"] == 1
    with pytest.raises(LeaseLostError, match="has taken over"):
        train(late, STACKS[0], 2)
    train(second, STACKS[0], 2, Status.DONE)
    with pytest.raises(LeaseLostError, match="has taken over"):
        train(late, STACKS[0], 2)
    with pytest.raises(LeaseLostError):
        late.restack({StackId("stacked", "1"): members(STACKS[0])})
    assert {run.status for run in second.runs() if run.stack == STACKS[0]} == {Status.DONE}


def test_a_late_process_goes_on_if_its_stack_is_free(two: tuple[Store, Store]) -> None:
    late, _ = two
    late.claim(STACKS[:1], LEFT)
    end_leases(late.location)
    train(late, STACKS[0], 1)


@pytest.mark.slow
def test_heartbeats_keep_a_stack(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as first, Store.open(postgresql) as second:
        first.save_plan("one", {}, RUNS)
        with first.share(heartbeat_interval=0.1, grace_period=5), second.share():
            first.claim(STACKS[:1], LEFT)
            time.sleep(6)
            assert second.claim(STACKS[:1], LEFT) is None


def test_the_end_of_a_process_frees_its_stacks(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as first, Store.open(postgresql) as second:
        first.save_plan("one", {}, RUNS)
        with second.share():
            with first.share():
                assert first.claim(STACKS, LEFT) == (STACKS[0], 0)
            assert second.claim(STACKS, LEFT) == (STACKS[0], 0)


def test_a_process_alone_need_not_wait_for_the_leases_of_dead_ones(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, RUNS)
        with store.share():
            store.claim(STACKS[:1], LEFT)
            with transaction(postgresql, writing=True) as connection:
                connection.execute(leases.update().values(token="of a dead process"))
        with store.share():
            assert store.claim(STACKS[:1], LEFT) == (STACKS[0], 1)


def test_deaths_before_anything_is_stored_are_counted(two: tuple[Store, Store]) -> None:
    first, second = two
    deaths = []
    for store in (first, second, first):
        claim = store.claim(STACKS[:1], LEFT)
        assert claim is not None
        deaths.append(claim.deaths)
        end_leases(store.location, token="of a dead process")
        with pytest.raises(LeaseLostError):
            train(store, STACKS[0], 1)
    assert deaths == [0, 1, 2]
    claim = second.claim(STACKS[:1], LEFT)
    train(second, STACKS[0], 1)
    end_leases(first.location)
    claim = first.claim(STACKS[:1], LEFT)
    assert claim is not None
    assert claim.deaths == 0


def test_the_halves_of_a_stack_are_free(two: tuple[Store, Store]) -> None:
    first, second = two
    first.claim(STACKS[:1], LEFT)
    halves = [StackId("stacked", name) for name in ("a", "b")]
    first.restack({half: [run_id] for half, run_id in zip(halves, members(STACKS[0]), strict=True)})
    assert second.claim(halves, LEFT) == (halves[0], 0)
    assert first.claim(halves, LEFT) == (halves[1], 0)
    with pytest.raises(LeaseLostError):
        first.commit([], STACKS[0], None)


def test_one_process_at_a_time_plans(two: tuple[Store, Store]) -> None:
    first, second = two
    order: list[str] = []

    def plan_too() -> None:
        with second.planning():
            order.append("second")

    with first.planning():
        thread = threading.Thread(target=plan_too)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_study_does_not_change_while_others_train_it(two: tuple[Store, Store]) -> None:
    first, second = two
    with pytest.raises(StoreBusyError, match="other processes are training another study"):
        second.save_plan("two", {}, RUNS[:2])
    second.save_plan("one", {}, RUNS[:2])  # a wave of the same study
    with Store.open(first.location) as reader:
        assert reader.plan_hash() == "one"


def test_a_process_alone_may_change_the_study(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store, store.share():
        for name in ("one", "two"):
            store.save_plan(name, {}, RUNS)
        assert store.plan_hash() == "two"


def test_nothing_is_repaired_while_a_process_trains(two: tuple[Store, Store]) -> None:
    first, _ = two
    with transaction(first.location, writing=True) as connection:
        connection.execute(sql.text("update outcomes set step = 7"))
    with pytest.raises(StoreBusyError):
        verify(first.location, repair=True)


def test_a_repair_ends_all_leases(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, RUNS)
        with transaction(postgresql, writing=True) as connection:
            connection.execute(sql.text("update outcomes set step = 7"))
        verify(postgresql, repair=True)
        with store.share():
            assert store.claim(STACKS, LEFT)


def test_a_commit_whose_answer_is_lost_is_stored_once(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, RUNS)
    told: list[str] = []
    with Proxy(postgresql) as proxy, Store.open(proxy.url) as store, store.share(tell=told.append):
        store.claim(STACKS[:1], LEFT)
        for step in (1, 2, 3):
            if step == 2:
                proxy.end_before_answer_to(b"COMMIT")
            train(store, STACKS[0], step)
        curves = store.curves("loss", members(STACKS[0]))
    assert len(told) == 1
    assert [c.steps.tolist() for c in curves.values()] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("method", ["claim", "save_plan", "restack"])
def test_whatever_a_lost_answer_was_about_is_done_once(postgresql: str, method: str) -> None:
    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, RUNS)
    with Proxy(postgresql) as proxy, Store.open(proxy.url) as store, store.share():
        assert store.claim(STACKS[:1], LEFT)
        proxy.end_before_answer_to(b"COMMIT")
        if method == "claim":
            assert store.claim(STACKS, LEFT) == (STACKS[1], 0)
            train(store, STACKS[1], 1)
        elif method == "save_plan":
            store.save_plan("one", {}, RUNS[:4])
            assert len(store.plans()) == 2
        else:
            half = StackId("stacked", "a")
            store.restack({half: members(STACKS[0])})
            assert store.claim([half], LEFT)
            store.commit([segment(members(STACKS[0])[0], 1)], half, None)


def test_a_server_that_does_not_answer_is_waited_for(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store:
        store.save_plan("one", {}, RUNS)
    told: list[str] = []
    with Proxy(postgresql) as proxy, Store.open(proxy.url) as store:
        with store.share(heartbeat_interval=0.1):
            store.claim(STACKS[:1], LEFT)
            for step in range(1, 6):
                proxy.end_connections()
                train(store, STACKS[0], step)
                assert len(store.runs()) == 6
        with store.share(tell=told.append, stopping=lambda: bool(told)):
            proxy.__exit__()
            with pytest.raises(StoreUnreachableError, match="no server answers there"):
                store.progress()
    assert len(told) == 1
    assert "trying again for 300 s" in told[0]


def test_a_lost_connection_does_not_end_the_wait_for_the_plan(
    postgresql: str, two: tuple[Store, Store]
) -> None:
    first, _ = two
    planned = threading.Event()
    with Proxy(postgresql) as proxy, Store.open(proxy.url) as store, store.share():

        def plan() -> None:
            with store.planning():
                planned.set()

        with ThreadPoolExecutor(1) as thread:
            with first.planning():
                waiting = thread.submit(plan)
                for _ in range(3):
                    time.sleep(0.3)
                    proxy.end_connections()
                assert not planned.is_set()
            waiting.result(60)
        proxy.end_connections()
        assert not store.is_alone()
    assert planned.is_set()


def test_a_folder_has_one_process_and_needs_no_claims(tmp_path: Path) -> None:
    with Store.open(tmp_path, create=True) as store, store.lock():
        store.save_plan("one", {}, RUNS)
        assert store.claim(STACKS, LEFT) == (STACKS[0], 0)
        with store.planning():
            train(store, STACKS[0], 1)
        assert store.claim([], LEFT) is None
