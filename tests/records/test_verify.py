"""Damage of a store is found, named and repaired; it never becomes another number."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql

from optrial.errors import StoreBusyError, StoreDamagedError, StoreError
from optrial.records import Store, verify
from optrial.records.schema import VERSION
from optrial.spec import Status
from tests.records.connections import edit, transaction
from tests.records.samples import fill

FLIPS = int(os.environ.get("OPTRIAL_TEST_FLIPS", "150"))
SOME_AND_ALL = pytest.mark.parametrize(
    "share", [0.3, pytest.param(1.0, marks=pytest.mark.slow)], ids=["some", "all"]
)
"""Part of the flips, and all of them."""


def contents(store: Store) -> dict[str, Any]:
    """Everything that a store returns."""
    records = store.runs(everything=True)
    return {
        "plans": store.plans(),
        "study": store.study(),
        "hash": store.plan_hash(),
        "planned": [record.run_id for record in store.runs()],
        "runs": {record.run_id: record for record in records},
        "curves": {
            key: (curve.steps.tolist(), curve.values.tolist())
            for key, curve in store.curves().items()
        },
        "checkpoints": {
            str(stack): {name: a.tolist() for name, a in (store.checkpoint(stack) or {}).items()}
            for stack in {record.stack for record in records}
        },
    }


def answer(location: str | Path) -> Any:
    """Everything that a store returns, or "refused" if it says in one line what to do."""
    try:
        with Store.open(location) as store:
            return contents(store)
    except StoreError as error:
        message = str(error)
    assert "\n" not in message
    return "refused"


def needs_restart(location: str | Path) -> bool:
    """Repair a store; return whether nothing of it can be read."""
    try:
        verify(location, repair=True)
    except StoreError as error:
        message = str(error)
    else:
        return False
    return "--restart" in message or "version" in message or pytest.fail(message)


@pytest.fixture
def filled(location: str) -> str:
    with Store.open(location, create=True) as store:
        fill(store)
    return location


def test_an_intact_store_has_no_findings(filled: str) -> None:
    result = verify(filled)
    assert result.intact
    assert result.findings == ()
    assert (result.counts["runs"], result.counts["outcomes"], result.counts["plans"]) == (9, 9, 2)
    assert (result.counts["curves"], result.counts["checkpoints"]) == (36, 1)
    assert verify(filled, repair=True).backup == ""


EDITS = [
    ("plans", {"study": "{"}),
    ("plans", {"runs": 1}),
    ("plans", {"ended": 7}),
    ("plans", {"saved_at": "1970-01-01"}),
    ("runs", {"spec": '{"optimizer": "adam"}'}),
    ("runs", {"spec": "[]"}),
    ("runs", {"stack": "stacked"}),
    ("plan_runs", {"phase": "tune"}),
    ("plan_runs", {"setting": "lr=0.2"}),
    ("plan_runs", {"problem": "digits"}),
    ("outcomes", {"status": "finished"}),
    ("outcomes", {"step": 7}),
    ("outcomes", {"reason": "x"}),
    ("outcomes", {"facts": "nothing"}),
    ("outcomes", {"latest": '{"train_loss": [6, 0.25, 6]}'}),
    ("outcomes", {"latest": "[1"}),
    ("curves", {"dtype": "<i8"}),
    ("curves", {"dtype": "O"}),
    ("curves", {"count": 4}),
    ("curves", {"values_blob": b"x"}),
    ("checkpoints", {"data": b"PK"}),
    ("meta", {"value": str(VERSION)}),
]


@pytest.mark.one_in(11)
@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize(("table", "values"), EDITS)
def test_an_edited_column_is_found(
    filled: str, table: str, values: dict[str, Any], seal: bool
) -> None:
    """Values that are impossible are found even where the checksum fits them."""
    with Store.open(filled) as store:
        before = contents(store)
    edit(filled, table, seal=seal, **values)
    column = next(iter(values))
    possible = {"saved_at", "reason", "ended", "step", "phase", "setting", "problem"}
    if not seal or column not in possible:
        result = verify(filled)
        assert not result.intact
        assert result.findings
        assert all("\n" not in finding for finding in result.findings)
    if not seal:
        assert answer(filled) in ("refused", before)


@pytest.mark.parametrize("table", ["plans", "runs", "plan_runs", "outcomes", "curves", "meta"])
def test_a_missing_row_is_found(tmp_path: Path, table: str) -> None:
    with Store.open(tmp_path, create=True) as store:
        fill(store)
        expected = contents(store)
    for number in range(0, 40, 3 if table == "curves" else 1):
        damaged = tmp_path / str(number)
        damaged.mkdir()
        with closing(sqlite3.connect(tmp_path / "study.db")) as source:
            source.execute("VACUUM INTO ?", [str(damaged / "study.db")])
        with closing(sqlite3.connect(damaged / "study.db")) as database:
            gone = database.execute(
                f"DELETE FROM {table} WHERE rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET ?)",
                [number],
            ).rowcount
            database.commit()
        if not gone:
            break
        assert answer(damaged) in ("refused", expected)
        if table != "meta":
            assert verify(damaged).findings


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE plan_runs SET phase = CAST(phase AS BLOB)", lambda store: store.runs()),
        ("UPDATE outcomes SET facts = CAST(facts AS BLOB)", lambda store: store.runs()),
        ("UPDATE plans SET study = CAST(study AS BLOB)", lambda store: store.study()),
        ("UPDATE curves SET metric = 'x' WHERE id = 1", lambda store: store.metrics()),
        ("DELETE FROM curves WHERE metric = 'test_loss'", lambda store: store.metrics()),
        ("UPDATE outcomes SET latest = '[]'", lambda store: store.metrics()),
        ("UPDATE outcomes SET latest = '[1]'", lambda store: store.curves()),
        ("DELETE FROM plan_runs WHERE position = 0", lambda store: store.curves()),
        (
            "DELETE FROM plan_runs WHERE plan_id = 2 AND position = 0",
            lambda store: store.runs(everything=True),
        ),
        ("DELETE FROM outcomes WHERE rowid = 1", lambda store: store.progress()),
        (
            "DELETE FROM checkpoints",
            lambda store: [store.checkpoint(run.stack) for run in store.progress().values()],
        ),
    ],
)
def test_every_reader_notices_damage_alone(
    tmp_path: Path, statement: str, read: Callable[[Store], object]
) -> None:
    with Store.open(tmp_path, create=True) as store:
        fill(store)
        with closing(sqlite3.connect(tmp_path / "study.db")) as database:
            database.execute(statement)
            database.commit()
        with pytest.raises(StoreDamagedError, match=r"--repair") as error:
            read(store)
    assert "\n" not in str(error.value)


@SOME_AND_ALL
def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path, share: float) -> None:
    """Whatever bit of the file flips, nothing that the store returns is another value."""
    with Store.open(tmp_path, create=True) as store:
        fill(store)
    with Store.open(tmp_path) as store:
        expected = contents(store)
    whole = (tmp_path / "study.db").read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    flips = int(share * FLIPS)
    for number in range(flips):
        position, bit = int(draw.integers(len(whole))), int(draw.integers(8))
        data = bytearray(whole)
        data[position] ^= 1 << bit
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "study.db").write_bytes(data)
        seen = answer(folder)
        assert seen in ("refused", expected), f"bit {bit} of byte {position}"
        refused += seen == "refused"
    assert refused > flips / 20  # most of a small file is empty pages


def test_damage_is_repaired_and_the_rest_stays(filled: str) -> None:
    with Store.open(filled) as store:
        before = contents(store)
        done = [r.run_id for r in before["runs"].values() if r.status is Status.DONE]
    with transaction(filled, writing=True) as connection:
        for run_id in done[:2]:
            text = "update outcomes set facts = '{}' where run_id = :run_id"
            connection.execute(sql.text(text), {"run_id": run_id})
    result = verify(filled, repair=True)
    assert result.intact
    assert result.retrained == tuple(sorted(done[:2]))
    assert [finding.split(":")[0] for finding in result.findings] == [f"run {r}" for r in done[:2]]
    assert verify(filled).findings == ()
    with Store.open(filled) as store:
        after = contents(store)
    for run_id, record in before["runs"].items():
        if run_id in done[:2]:
            assert (after["runs"][run_id].status, after["runs"][run_id].step) == ("planned", 0)
            assert after["runs"][run_id].stack == record.stack
        else:
            assert after["runs"][run_id].facts == record.facts
            key = (run_id, "train_loss")
            assert after["curves"][key] == before["curves"][key]
    assert after["plans"] == before["plans"]


@pytest.mark.one_in(11)
@pytest.mark.parametrize(("table", "values"), EDITS)
def test_any_edit_is_repaired(filled: str, table: str, values: dict[str, Any]) -> None:
    edit(filled, table, **values)
    if verify(filled).intact:
        return
    result = verify(filled, repair=True)
    assert result.backup
    assert verify(filled).findings == ()
    with Store.open(filled) as store:
        contents(store)
        fill_again = [record.run_id for record in store.runs(everything=True)]
    assert len(set(fill_again)) == len(fill_again)


def test_a_lost_spec_is_filled_in_by_the_next_plan(filled: str) -> None:
    with Store.open(filled) as store:
        before = contents(store)
        run = store.runs()[4]
    with transaction(filled, writing=True) as connection:
        text = "update runs set spec = '{}' where run_id = :run_id"
        connection.execute(sql.text(text), {"run_id": run.run_id})
    assert verify(filled, repair=True).retrained == (run.run_id,)
    with Store.open(filled) as store:
        assert run.run_id not in {record.run_id for record in store.runs(everything=True)}
        store.save_plan("second", {"name": "second"}, list(before["runs"].values()))
        (again,) = (record for record in store.runs() if record.run_id == run.run_id)
        assert (again.spec, again.stack, again.status) == (run.spec, run.stack, Status.PLANNED)
    assert verify(filled).findings == ()


def test_a_store_whose_pages_are_damaged_is_rebuilt(tmp_path: Path) -> None:
    with Store.open(tmp_path, create=True) as store:
        fill(store, stacks=40)
        before = contents(store)
    file = tmp_path / "study.db"
    data = bytearray(file.read_bytes())
    page = len(data) // 4096 // 2 * 4096
    data[page : page + 4096] = bytes(4096)
    file.write_bytes(data)
    assert not verify(tmp_path).intact
    result = verify(tmp_path, repair=True)
    assert Path(result.backup, "study.db").read_bytes() == bytes(data)
    assert verify(tmp_path).findings == ()
    with Store.open(tmp_path) as store:
        after = contents(store)
    kept = 0
    for run_id, record in after["runs"].items():
        if record.status is Status.DONE:
            assert record == before["runs"][run_id]
            kept += 1
    assert kept > 20


@SOME_AND_ALL
def test_flipped_bits_are_repaired(tmp_path: Path, share: float) -> None:
    with Store.open(tmp_path, create=True) as store:
        fill(store)
        before = contents(store)
    whole = (tmp_path / "study.db").read_bytes()
    draw = np.random.default_rng(1)
    for number in range(int(share * FLIPS / 5)):
        data = bytearray(whole)
        data[int(draw.integers(len(whole)))] ^= 1 << int(draw.integers(8))
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "study.db").write_bytes(data)
        if needs_restart(folder):
            continue
        assert verify(folder).findings == ()
        with Store.open(folder) as store:
            for run_id, record in contents(store)["runs"].items():
                if record.status is not Status.PLANNED:
                    assert record == before["runs"][run_id]


def test_a_store_under_training_is_not_repaired(filled: str) -> None:
    with Store.open(filled) as store, store.lock(), pytest.raises(StoreBusyError):
        verify(filled, repair=True)


def test_a_file_that_is_no_database_is_left_to_restart(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"garbage " * 1000)
    for repair in (False, True):
        with pytest.raises(StoreError, match="--restart"):
            verify(tmp_path, repair=repair)
