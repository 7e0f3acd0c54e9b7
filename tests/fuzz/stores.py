"""Edited stores: a reader returns the numbers of the intact store, or raises a StoreError."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from optrial.analysis.audit import report_text
from optrial.errors import StoreError, printable
from optrial.records import Curve, Record, Segment, Store
from optrial.results import Results, load
from optrial.spec import Seconds, StackId, Status
from optrial.study import Study
from tests.fuzz.mutation import changed_bytes, changed_text
from tests.small import small_keys

__all__ = ["changed_store", "intact_store", "read_store"]

_TABLES = ("meta", "plans", "runs", "plan_runs", "outcomes", "curves", "checkpoints")
_OPTIMIZERS = [{"rule": "sgd", "lr": [0.1, 1e30]}, {"rule": "adam", "lr": 0.01}]
_STACK = StackId("reference", "0123456789ab")
_CHECKPOINT = {"weights": np.arange(6.0), "step": np.array(20)}
_VALUES = (
    *(None, 0, -1, 1, 2**62, 0.5, float("inf"), "", "x", "0", "1", "done", "report", "tune"),
    *("{}", "[]", "null", "²", "train_loss", b"", b"x", b"done", b"\xff"),
)


@functools.cache
def intact_store() -> bytes:
    """Return the database of a small study with two plans and a run in progress.

    Times are replaced, so that the file has the same layout in every process.
    """
    keys = {"optimizers": _OPTIMIZERS, "engine": "reference", "claims": ["adam > sgd on test_loss"]}
    with tempfile.TemporaryDirectory() as folder:
        with (
            Study(**small_keys(**keys, seeds=2)).run(folder) as trained,
            Store.open(f"{folder}/copy", create=True) as copy,
        ):
            records = [replace(record, stack=_STACK) for record in trained.records]
            study = trained.study
            copy.save_plan("first", study | {"seeds": [0]}, [r for r in records if r.seed == 0])
            copy.save_plan("second", study, records[:-1])
            curves = trained.store.curves()
            for record in records[:-1]:
                _copy_run(
                    copy, record, {m: c for (i, m), c in curves.items() if i == record.run_id}
                )
        with closing(sqlite3.connect(f"{folder}/copy/study.db")) as database:
            database.execute("PRAGMA journal_mode = DELETE")
        return Path(folder, "copy", "study.db").read_bytes()


def _copy_run(store: Store, record: Record, curves: dict[str, Curve]) -> None:
    """Store a run in two segments; of the runs of the last seed, only the first one."""
    facts = replace(record.facts, seconds=Seconds(1.0, 0.5), warm_up_seconds=0.0)
    middle = record.step // 2
    ends = (middle, record.step) if record.seed == 0 else (middle,)
    for first, last in zip((0, middle), ends, strict=False):
        parts = {}
        for metric, curve in curves.items():
            inside = (curve.steps <= last) & ((curve.steps > first) | (first == 0))
            parts[metric] = Curve(curve.steps[inside], curve.values[inside])
        status = record.status if last == record.step else Status.INTERRUPTED
        segment = Segment(run_id=record.run_id, step=last, curves=parts, status=status, facts=facts)
        store.commit([segment], _STACK, _CHECKPOINT)


def _readers() -> dict[str, Callable[[Results], object]]:
    """Return what is read of a store, by name; stores are read through `Results` or directly."""

    def of_store(read: Callable[[Store], object]) -> Callable[[Results], object]:
        def read_results(results: Results) -> object:
            assert isinstance(results.store, Store)
            return read(results.store)

        return read_results

    return {
        "runs": of_store(lambda store: store.runs()),
        "all runs": of_store(lambda store: store.runs(everything=True)),
        "plans": of_store(lambda store: (store.plans(), store.study(), store.plan_hash())),
        "metrics": of_store(lambda store: store.metrics()),
        "curves": of_store(lambda store: _plain(store.curves())),
        "checkpoint": of_store(lambda store: store.checkpoint(_STACK)),
    }


_ANALYSES: dict[str, Callable[[Results], object]] = {
    "summary": lambda results: results.summary().to_csv(),
    "frames": lambda results: (results.runs().to_csv(), results.curves().to_csv()),
    "audit": lambda results: report_text(results.audit()),
    "claims": lambda results: results.claims(),
}


def _plain(curves: dict[tuple[str, str], Curve]) -> list[object]:
    return [(key, c.steps.tobytes(), c.values.tobytes()) for key, c in curves.items()]


@functools.cache
def _answers() -> dict[str, str]:
    """Return what every reader returns for the intact store, as text."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "study.db").write_bytes(intact_store())
        with load(folder) as results:
            return {name: repr(read(results)) for name, read in (_readers() | _ANALYSES).items()}


def changed_store(random: Random) -> bytes:
    """Return the database of a study after edits of rows, or changes of its bytes."""
    _answers()  # outside the time of an input
    if random.random() < 0.4:
        return changed_bytes(random, [intact_store()])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.db")
        file.write_bytes(intact_store())
        with closing(sqlite3.connect(file)) as database:
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                with suppress(sqlite3.Error):  # edits that the database refuses
                    _edit(random, database)
            database.commit()
        return file.read_bytes()


def _edit(random: Random, database: sqlite3.Connection) -> None:
    table = random.choice(_TABLES)
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
    if not rows:
        return
    number, *values = random.choice(rows)
    other = random.choice(rows)[1:]
    place = random.randrange(len(columns))
    match random.randrange(9):
        case 0:
            database.execute(f"DELETE FROM {table} WHERE rowid = ?", [number])
        case 1:
            values[place] = _changed_value(random, values[place], other[place])
            marks = ", ".join("?" * len(columns))
            database.execute(f"INSERT INTO {table} VALUES ({marks})", values)
        case 2:
            if random.random() < 0.3:
                database.execute(f"DROP TABLE {table}")
            else:
                name = f"{columns[place]}x"
                database.execute(f"ALTER TABLE {table} RENAME COLUMN {columns[place]} TO {name}")
        case 3:
            kind = random.choice(("BLOB", "TEXT", "REAL", "INTEGER"))
            cast = f"CAST({columns[place]} AS {kind})"
            where = random.choice((f"rowid = {number}", "true"))
            database.execute(f"UPDATE {table} SET {columns[place]} = {cast} WHERE {where}")
        case _:
            value = _changed_value(random, values[place], other[place])
            update = f"UPDATE {table} SET {columns[place]} = ? WHERE rowid = ?"
            database.execute(update, [value, number])


def _changed_value(random: Random, value: object, other: object) -> object:
    if random.random() < 0.2:
        return random.choice(_VALUES)
    if random.random() < 0.3:
        return other
    match value:
        case str():
            text = changed_text(random, [value], ("NaN", "1e999", '"', "null"))
            return text.encode("utf-8", "replace").decode()
        case bytes():
            return changed_bytes(random, [value])
        case int():
            return value ^ 1 << random.randrange(8)
    return value


def read_store(content: bytes, folder: Path) -> None:
    """Read a database by every reader.

    Raises:
        OptrialError: some readers refuse it.
        AssertionError: a reader returns something that the intact store does not hold, or a message
            is not one to show.
    """
    (folder / "study.db").write_bytes(content)
    answers, refusal = _answers(), None
    with load(folder) as results:
        readers = _readers() | (_ANALYSES if zlib.crc32(content) % 5 == 0 else {})
        for name, read in readers.items():
            try:
                answer = repr(read(results))
            except StoreError as error:
                refusal = error
                message = str(error)
                assert message == printable(message), (name, message)
                assert "\n" not in message, (name, message)
            else:
                if refusal and answer == "None":  # no checkpoint, of runs that are damaged
                    continue
                assert answer == answers[name], f"{name}: {_difference(answer, answers[name])}"
    if refusal:
        raise refusal


def _difference(answer: str, expected: str) -> str:
    pairs = enumerate(zip(answer, expected, strict=False))
    place = next((n for n, (a, b) in pairs if a != b), min(len(answer), len(expected)))
    start = max(place - 60, 0)
    return f"{answer[start : place + 60]!r} for {expected[start : place + 60]!r}"
