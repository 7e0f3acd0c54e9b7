"""What is recorded is sent once, while it trains, and no tracker can stop a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from optrial.config import Component
from optrial.records import Record, Store
from optrial.spec import Status
from optrial.trackers import TRACKERS, Rows, following
from optrial.trackers.catalogue import TrackerKind
from optrial.trackers.tracker import POINTS, title_of
from tests.trackers.stores import EVERY, STEPS, advance, plan, planned, tracked


class Spy:
    """Notes what it is told; fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.place = "spy"
        self.fails = fails
        self.calls: list[tuple[str, str]] = []
        self.rows: list[tuple[str, int, dict[str, float]]] = []
        self.started: list[tuple[str, str | None]] = []
        self.ended: list[tuple[str, Status]] = []
        self.came = threading.Event()

    def fail(self, call: str) -> None:
        if call == self.fails:
            raise RuntimeError(f"{call} failed\nfor many reasons")

    def start(self, run: Record, known: str | None) -> str:
        self.fail("start")
        self.started.append((run.run_id, known))
        return f"service's {run.run_id}"

    def log(self, run: Record, rows: Rows) -> None:
        self.fail("log")
        self.rows += [(run.run_id, step, dict(values)) for step, values in rows.items()]
        self.came.set()

    def end(self, run: Record) -> None:
        self.fail("end")
        self.ended.append((run.run_id, run.status))

    def steps(self, metric: str, run_id: str = "r0") -> list[int]:
        return [step for run, step, row in self.rows if run == run_id and metric in row]


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Spy]:
    """Trackers called one and two, which keep what they were told from session to session."""
    made = {"one": Spy(), "two": Spy()}
    for name, spy in made.items():
        spy.place = name
        kind = TrackerKind(lambda study, folder, spy=spy: spy, [], {})
        monkeypatch.setitem(TRACKERS, name, kind)  # type: ignore[arg-type]
    return made


def tracking(
    folder: Path, store: Store, say: Callable[[str], None], *names: str
) -> AbstractContextManager[None]:
    return tracked([Component(name=name) for name in names], folder, store, say)


def no_notes(text: str) -> None:
    raise AssertionError(text)


def test_every_point_is_sent_once_however_often_training_stops(
    spies: dict[str, Spy], tmp_path: Path
) -> None:
    spy = spies["one"]
    store = plan(tmp_path, [planned("r0"), planned("r1", "tune"), planned("r2")])
    with store:
        for after in range(0, STEPS, 250):
            with tracking(tmp_path, store, no_notes, "one"):
                status = Status.DONE if after == 750 else Status.INTERRUPTED
                advance(store, "r0", after, after + 250, status)
                if not after:
                    advance(store, "r1", 0, 250, Status.DIVERGED)
        with tracking(tmp_path, store, no_notes, "one"):
            pass
        curves = {key: curve for key, curve in store.curves().items() if key[0] == "r0"}
    assert spy.steps("test_accuracy") == list(range(EVERY, STEPS + 1, EVERY))
    assert spy.steps("train_loss") == [1, *range(5, STEPS + 1, 5)]
    sent = {(m, step): v for run, step, row in spy.rows if run == "r0" for m, v in row.items()}
    recorded = {
        (metric, step): value
        for (_, metric), curve in curves.items()
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)
    }
    assert sent.items() <= recorded.items()
    assert len(sent) == len(spy.steps("train_loss")) + len(spy.steps("test_accuracy"))
    # A run that goes on is named as the service called it; the one not begun is not named.
    assert spy.started[:2] == [("r0", None), ("r1", None)]
    assert spy.started[2:] == [("r0", "service's r0")] * 3
    assert spy.ended[0] == ("r1", Status.DIVERGED)
    assert [s for run, s in spy.ended if run == "r0"] == [*[Status.INTERRUPTED] * 3, Status.DONE]


def test_runs_are_sent_while_they_train(
    spies: dict[str, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PERIOD", 0.01)
    monkeypatch.setattr(following, "REST", 0)
    spy = spies["one"]
    with plan(tmp_path, [planned("r0")]) as store, tracking(tmp_path, store, no_notes, "one"):
        for after in (0, 100):
            advance(store, "r0", after, after + 100)
            assert spy.came.wait(10)
            spy.came.clear()
        assert spy.ended == []
    assert spy.steps("test_accuracy") == [100, 200]
    assert spy.started == [("r0", None)]
    assert spy.ended == [("r0", Status.INTERRUPTED)]


@pytest.mark.parametrize("fails", ["start", "log", "end"])
def test_a_tracker_that_fails_is_dropped_with_one_note(
    fails: str, spies: dict[str, Spy], tmp_path: Path
) -> None:
    spies["one"].fails = fails
    notes: list[str] = []
    with plan(tmp_path, [planned("r0"), planned("r1")]) as store:
        with tracking(tmp_path, store, notes.append, "one", "two"):
            advance(store, "r0", 0, STEPS, Status.DONE)
            advance(store, "r1", 0, STEPS, Status.DONE)
        assert notes == [
            f"one failed and receives nothing more; training goes on: RuntimeError: {fails} failed"
        ]
        assert [run for run, _ in spies["two"].ended] == ["r0", "r1"]
        # The next time it is tried again: the other run, and r0 if nothing of it was sent.
        spies["one"].fails = ""
        with tracking(tmp_path, store, notes.append, "one"):
            pass
    assert len(notes) == 1
    assert len(spies["one"].steps("train_loss", "r1")) == POINTS + 1
    assert len(spies["one"].steps("train_loss", "r0")) == (0 if fails == "log" else POINTS + 1)


JOURNALS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "torn in its last line": (lambda journal: journal[:-20], 1),
    "torn within a character": (lambda journal: journal + '["ö'.encode()[:-1], 1),
    "without its last end of line": (lambda journal: journal[:-1], 0),
    "damaged in its first line": (lambda journal: b"\x00\xff" + journal, 1),
    "of other lines": (lambda journal: journal + b'{}\nnull\n["one"]\n', 3),
    "empty": (lambda journal: b"", 0),
}


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_damaged_journal_stops_no_tracker(
    journal: str, spies: dict[str, Spy], tmp_path: Path
) -> None:
    damage, lines = JOURNALS[journal]
    file = tmp_path / "study.db-trackers"
    notes: list[str] = []
    with plan(tmp_path, [planned("r0"), planned("r1")]) as store:
        with tracking(tmp_path, store, no_notes, "one"):
            advance(store, "r0", 0, 500)
        file.write_bytes(damage(file.read_bytes()))
        for _ in range(2):  # the second time there is nothing to mend
            with tracking(tmp_path, store, notes.append, "one"):
                pass
        with tracking(tmp_path, store, notes.append, "one"):
            advance(store, "r0", 500, STEPS, Status.DONE)
            advance(store, "r1", 0, STEPS, Status.DONE)
    assert len(notes) == (lines > 0)
    assert all("study.db-trackers" in note for note in notes)
    assert set(spies["one"].steps("train_loss")) == {1, *range(5, STEPS + 1, 5)}
    assert len(spies["one"].steps("train_loss", "r1")) == POINTS + 1
    assert spies["one"].ended[-2:] == [("r0", Status.DONE), ("r1", Status.DONE)]


def test_a_journal_that_cannot_be_read_is_reported(spies: dict[str, Spy], tmp_path: Path) -> None:
    notes: list[str] = []
    with plan(tmp_path, [planned("r0")]) as store:
        (tmp_path / "study.db-trackers").mkdir()
        with tracking(tmp_path, store, notes.append, "one", "two"):
            advance(store, "r0", 0, STEPS, Status.DONE)
    (note,) = notes
    assert note.startswith(
        "one, two failed and receives nothing more; training goes on: IsADirectory"
    )
    assert spies["one"].rows == spies["two"].rows == []


def test_a_tracker_that_exits_is_reported(
    spies: dict[str, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(run: Record, rows: Rows) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(spies["one"], "log", leave)
    notes: list[str] = []
    with (
        plan(tmp_path, [planned("r0")]) as store,
        tracking(tmp_path, store, notes.append, "one"),
    ):
        advance(store, "r0", 0, STEPS, Status.DONE)
    assert notes == ["one failed and receives nothing more; training goes on: SystemExit: 3"]


def test_a_tracker_that_cannot_be_made_is_dropped(
    spies: dict[str, Spy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(study: str, folder: Path) -> Any:
        raise ImportError("libfoo.so is missing")

    monkeypatch.setitem(TRACKERS, "one", TrackerKind(broken, [], {}))  # type: ignore[arg-type]
    notes: list[str] = []
    store = plan(tmp_path, [planned("r0")])
    with store, tracking(tmp_path, store, notes.append, "one", "two"):
        advance(store, "r0", 0, STEPS, Status.DONE)
    assert len(notes) == 1
    assert "libfoo.so is missing" in notes[0]
    assert spies["two"].ended == [("r0", Status.DONE)]


def test_a_tracker_that_comes_late_is_sent_everything(
    spies: dict[str, Spy], tmp_path: Path
) -> None:
    with plan(tmp_path, [planned("r0")]) as store:
        advance(store, "r0", 0, STEPS, Status.DONE)
        with tracking(tmp_path, store, no_notes, "one"):
            pass
    assert spies["one"].steps("test_accuracy") == list(range(EVERY, STEPS + 1, EVERY))
    assert spies["two"].rows == []


def test_errors_of_training_come_through_after_the_rest_is_sent(
    spies: dict[str, Spy], tmp_path: Path
) -> None:
    def fail(store: Store) -> None:
        with tracking(tmp_path, store, no_notes, "one"):
            advance(store, "r0", 0, 200)
            raise ZeroDivisionError

    with plan(tmp_path, [planned("r0")]) as store, pytest.raises(ZeroDivisionError):
        fail(store)
    assert spies["one"].ended == [("r0", Status.INTERRUPTED)]


def test_a_run_is_called_by_what_sets_it_apart(tmp_path: Path) -> None:
    with plan(tmp_path, [planned("r3")]) as store:
        (run,) = store.runs()
    assert title_of(run) == "adam lr=0.1 seed=3"
