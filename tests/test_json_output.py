"""`--format json` prints strict JSON and nothing else, whatever there is to show."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer

from optrial import cli
from optrial.engine import Training
from optrial.records import write_json
from tests.conftest import Command
from tests.small import MOONS, small_keys

BRIEF = ["--rounds", "3", "--no-memory"]
ARGUMENTS: dict[str, list[list[str]]] = {
    "runs": [["runs", "STORE"]],
    "curves": [
        ["curves", "STORE", "--metric", "train_loss"],
        ["curves", "STORE", "--metric", "train_loss", "--wide"],
        ["curves", "STORE", "--metric", "test_loss"],
    ],
    "audit": [["audit", "STORE"]],
    "confusion": [["confusion", "STORE"]],
    "evaluate": [["evaluate", "STORE", "--split", "validation"]],
    "lr-range": [["lr-range", "STUDY", "--steps", "30", "--out", "range.png"]],
    "speeds show": [["speeds", "show"]],
    "timing": [["timing", "STUDY", *BRIEF], ["timing", "STUDY", *BRIEF, "--quiet"]],
}
"""How to call each command that prints JSON."""

WITHOUT_RUNS = ["runs", "curves", "audit", "speeds show"]
"""Commands that have an answer before anything is trained."""

CODE = """
import torch
from torch import nn

print("imported")


class Talks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        print("forward")
        return self.layer(x)
"""


def commands_with_json(app: typer.Typer = cli.app, group: str = "") -> set[str]:
    """The commands of the command line whose --format may be json."""
    commands = set()
    for command in app.registered_commands:
        assert command.callback is not None
        for hint in get_type_hints(command.callback, include_extras=True).values():
            # Typer keeps the first name of an annotated option where its default would be.
            names = [getattr(part, "default", None) for part in get_args(hint)]
            if "--format" in names and "json" in list(get_args(hint)[0]):
                commands.add(f"{group} {command.name}".strip())
    for added in app.registered_groups:
        assert added.typer_instance is not None
        commands |= commands_with_json(added.typer_instance, str(added.name))
    return commands


def strict(text: str) -> Any:
    def refuse(token: str) -> None:
        pytest.fail(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """One run that diverges, names in other alphabets, and a model that prints."""
    (tmp_path / "talking.py").write_text(CODE, encoding="utf-8")
    keys = small_keys(
        name="größer 🚀",
        problem={"dataset": dict(MOONS), "model": {"factory": "talking:Talks"}},
        evaluate={"every": {"steps": 10}, "on": ["validation", "test"]},
        optimizers=[
            {"name": "schön", "rule": "sgd", "lr": 0.1},
            {"name": "最適", "rule": "sgd", "lr": 1e38},
        ],
        loss_limit=1e30,
        save="final",
    )
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(keys, ensure_ascii=False), encoding="utf-8")
    yield path
    sys.modules.pop("talking", None)


def filled(call: list[str], study: Path) -> list[str]:
    places = {"STORE": "out", "STUDY": str(study)}
    return [places.get(part, part) for part in call] + ["--format", "json"]


def test_every_command_with_json_is_called_here() -> None:
    assert commands_with_json() == set(ARGUMENTS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_json_is_strict_and_alone_on_standard_output(
    optrial: Command, study: Path, command: str
) -> None:
    answer = optrial("run", study, "--out", "out", "--quiet")
    assert "forward" not in answer.out
    assert "imported" not in answer.out
    for call in ARGUMENTS[command]:
        printed = strict(optrial(*filled(call, study)).out)
        assert printed or command == "speeds show"
        assert "\\u" not in json.dumps(printed, ensure_ascii=False)


@pytest.mark.parametrize("command", WITHOUT_RUNS)
def test_json_before_anything_is_trained(
    optrial: Command, study: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "run", lambda *_: iter(()))
    optrial("run", study, "--out", "out", "--quiet")
    for call in ARGUMENTS[command]:
        answer = optrial(*filled(call, study))
        printed = strict(answer.out)
        assert command != "curves" or printed == []


def test_a_metric_that_is_never_recorded_is_an_error(optrial: Command, study: Path) -> None:
    optrial("run", study, "--out", "out", "--quiet")
    answer = optrial("curves", "out", "--metric", "tset_loss", "--format", "json")
    assert (answer.status, answer.out) == (2, "")
    assert "Did you mean 'test_loss'" in answer.err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_suits_the_encoding_of_standard_output(
    optrial: Command, study: Path, encoding: str
) -> None:
    optrial("run", study, "--out", "out", "--quiet")
    output = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    with redirect_stdout(output):
        assert optrial("runs", "out", "--format", "json").status == 0
    output.seek(0)
    names = {row["optimizer"] for row in strict(output.read())}
    assert names == {"schön", "最適"}


VALUES: dict[str, Callable[[], Any]] = {
    "not finite": lambda: [math.nan, math.inf, -math.inf],
    "numpy": lambda: {"a": np.float64("nan"), "b": np.int64(3), "c": np.array([1.0, np.inf])},
    "nothing": lambda: [],
}


@pytest.mark.parametrize("kind", VALUES)
def test_what_is_not_finite_is_null(kind: str) -> None:
    stream = io.StringIO()
    write_json(VALUES[kind](), stream)
    printed = strict(stream.getvalue())
    assert (
        printed
        == {
            "not finite": [None, None, None],
            "numpy": {"a": None, "b": 3, "c": [1.0, None]},
            "nothing": [],
        }[kind]
    )
