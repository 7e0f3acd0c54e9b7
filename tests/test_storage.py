"""The place of a study: DIR, `--out`, `--storage` and OPTRIAL_STORAGE."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command

STUDY = (
    "name: small\nproblem: {dataset: moons}\nbudget: {steps: 5}\nbatch_size: 16\nseeds: 2\n"
    "optimizers: [{rule: sgd, lr: 0.1}, {rule: adam}]\n"
)


@pytest.fixture
def trained(optrial: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that `OPTRIAL_STORAGE` names."""
    Path("small.yaml").write_text(STUDY, encoding="utf-8")
    monkeypatch.setenv("OPTRIAL_STORAGE", "kept here")
    assert optrial("run", "small.yaml", "--quiet").status == 0
    return Path("kept here")


def test_every_command_uses_the_variable(trained: Path, optrial: Command) -> None:
    assert (trained / "study.db").exists()
    assert not Path("studies").exists()
    for command in (
        ["show"],
        ["runs"],
        ["curves", "--metric", "train_loss"],
        ["compare", "sgd", "adam"],
        ["verify"],
        ["upgrade"],
        ["figures"],
        ["report"],
        ["plan", "small.yaml"],
    ):
        assert optrial(*command).status == 0, command
    assert optrial("audit").status != 2
    assert optrial("show", "small.yaml").out == optrial("show").out


def test_an_argument_or_option_counts_more_than_the_variable(
    trained: Path, optrial: Command
) -> None:
    assert optrial("run", "small.yaml", "--quiet", "--storage", "elsewhere").status == 0
    assert optrial("run", "small.yaml", "--quiet", "--out", "third", "--seeds", "1").status == 0
    assert Path("elsewhere", "study.db").exists()
    shown = optrial("runs", "--format", "csv").out
    for place in (["elsewhere"], ["--storage", "elsewhere"]):
        assert optrial("runs", "--format", "csv", *place).out == shown
    assert optrial("runs", "--storage", "third", "--format", "csv").out != shown


def test_a_place_is_named_once(trained: Path, optrial: Command) -> None:
    answer = optrial("show", trained, "--storage", "elsewhere")
    assert answer.status == 2
    assert "--storage: cannot be used together with DIR ('kept here')" in answer.err


def test_no_place_is_one_clear_error(optrial: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTRIAL_STORAGE", raising=False)
    for arguments in (["show"], ["verify"], ["compare", "a", "b"], ["show", "--storage", ""]):
        answer = optrial(*arguments)
        assert answer.status == 2
        assert "DIR: is missing: name a study's folder" in answer.err
