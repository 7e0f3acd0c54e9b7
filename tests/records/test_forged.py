"""Values of wrong types behind right checksums: a reader gets numbers, or one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from optrial.errors import OptrialError, printable
from optrial.records.rows import sealed
from optrial.records.schema import metadata
from optrial.results import load
from optrial.study import Study
from tests.small import small_keys

Change = Callable[[str], str]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("intact")
    keys = small_keys(
        budget={"steps": 4},
        seeds=2,
        optimizers=[{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}],
        claims=["adam > sgd on test_accuracy"],
        targets={"test_accuracy": 0.5},
        engine="reference",
    )
    Study(**keys).run(folder / "store").close()
    return (folder / "store" / "study.db").read_bytes()


def facts(**values: object) -> Change:
    """Replace facts of a run; the shared ones are on the first line."""

    def change(text: str) -> str:
        return "{\n" + json.dumps(json.loads(text) | values)[1:-1] + "\n}"

    return change


def keys(**values: object) -> Change:
    return lambda text: json.dumps(json.loads(text) | values)


def exactly(text: str) -> Change:
    return lambda before: text


FORGED: dict[str, tuple[str, str, Change]] = {
    "versions that are a number": ("outcomes", "facts", facts(versions=3)),
    "seconds that are texts": ("outcomes", "facts", facts(seconds={"training": "a"})),
    "seconds without end": (
        "outcomes",
        "facts",
        lambda text: text.replace('"training": ', '"training": 1e999, "x": ', 1),
    ),
    "width that is a text": ("outcomes", "facts", facts(stack_width="a")),
    "digits beyond floats": ("outcomes", "facts", facts(stack_width=10**400)),
    "hashes that are a mapping": ("outcomes", "facts", facts(initial_parameters_sha256={"a": 1})),
    "reasons that are a list": ("outcomes", "facts", facts(not_finite=["a"])),
    "answers that are texts": ("outcomes", "facts", facts(constant_answer={"test_loss": "a"})),
    "modules that are a number": ("outcomes", "facts", facts(training={"evaluation_modules": 1})),
    "facts that are a list": ("outcomes", "facts", exactly("[]")),
    "value that is a text": ("outcomes", "latest", exactly('{"test_loss": [4, "a", 1]}')),
    "value that is a mapping": ("outcomes", "latest", exactly('{"test_loss": [4, {}, 1]}')),
    "value of 400 digits": ("outcomes", "latest", exactly(f'{{"test_loss": [4, {"9" * 400}, 1]}}')),
    "step that is a text": ("outcomes", "latest", exactly('{"test_loss": ["4", 0.5, 1]}')),
    "ends that are a list": ("outcomes", "latest", exactly("[[4, 0.5, 1]]")),
    "seed that is a text": ("runs", "spec", keys(seed="a")),
    "steps that are a text": ("runs", "spec", keys(steps="many")),
    "steps per epoch that are zero": ("runs", "spec", keys(steps_per_epoch=0)),
    "hyperparameters that are a number": ("runs", "spec", keys(hyperparameters=3)),
    "groups that are numbers": ("runs", "spec", keys(groups=[5])),
    "optimizer that is a number": ("runs", "spec", keys(optimizer=5)),
    "metrics that are a number": ("runs", "spec", keys(metrics=5)),
    "spec that is null": ("runs", "spec", exactly("null")),
    "claims that are a number": ("plans", "study", keys(claims=5)),
    "claims that are numbers": ("plans", "study", keys(claims=[5])),
    "targets that are texts": ("plans", "study", keys(targets={"test_accuracy": "x"})),
    "waivers that are a number": ("plans", "study", keys(waive=5)),
    "problem that is a list": ("plans", "study", keys(problem=[])),
    "optimizers that are numbers": ("plans", "study", keys(optimizers=[5])),
    "budget that is a number": ("plans", "study", keys(budget=5)),
    "published values that are a number": ("plans", "study", keys(reported=5)),
    "study that is a list": ("plans", "study", exactly("[]")),
    "study of deep lists": ("plans", "study", exactly("[" * 10_000)),
}


@pytest.fixture
def forged(request: pytest.FixtureRequest, database: bytes, tmp_path: Path) -> Path:
    """A store whose first row has another value, and the checksum of it."""
    name, column, change = FORGED[request.param]
    (tmp_path / "study.db").write_bytes(database)
    table, engine = metadata.tables[name], sql.create_engine(f"sqlite:///{tmp_path}/study.db")
    with engine.begin() as connection:
        row: Any = dict(connection.execute(sql.select(table)).mappings().first() or {})
        row = sealed(table, row | {column: change(row[column])})
        (key,) = table.primary_key.columns
        connection.execute(table.update().where(key == row[key.name]).values(row))
    engine.dispose()
    return tmp_path


@pytest.mark.parametrize("forged", FORGED, indirect=True)
def test_forged_values_are_read_or_refused(forged: Path) -> None:
    message = ""
    try:
        with load(forged) as results:
            results.to_markdown()
            results.report(forged / "page.html")
            results.curves()
    except OptrialError as error:
        message = str(error)
    assert printable(message) == message
