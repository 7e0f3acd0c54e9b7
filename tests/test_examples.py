"""Every example runs as it is, from a folder of its own, through the commands a user types."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

EXAMPLES = Path(__file__).parents[1] / "examples"
STUDIES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
SHORT = ("--seeds", 1, "--set", "budget.epochs=1")
WRITES_ITS_DATA = {"house-prices.yaml": "house_prices.py"}
PACKAGES = {"foreign-optimizers.yaml": "pytorch_optimizer"}
OUTCOMES = {
    "foreign-optimizers.yaml": ["adamw", "AdaBelief", "Adan", "RAdam", "8 done"],
    "house-prices.yaml": ["momentum", "adam", "prodigy", "7 done"],
    "residual-cnn.yaml": ["nesterov", "adamw", "muon", "5 done"],
    "several-problems.yaml": ["circles", "diabetes", "Average ranks over 4 problems"],
    "which-one.yaml": ["sgd", "momentum", "adam", "9 done"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the examples."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a file as `python NAME` does, which imports what lies beside it."""
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    runpy.run_path(name, run_name="__main__")


@pytest.mark.parametrize("study", STUDIES)
def test_studies_run(
    study: str, folder: Path, optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if study in PACKAGES:
        pytest.importorskip(PACKAGES[study], reason="pip install pytorch-optimizer to test it")
    if study in WRITES_ITS_DATA:
        script(WRITES_ITS_DATA[study], monkeypatch)
    answer = optrial("run", study, *SHORT)
    assert answer.status == 0, answer.err
    for text in OUTCOMES[study]:
        assert text in answer.out + answer.err


def test_data_of_ones_own(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script("own_data.py", monkeypatch)
    assert "rmsprop_nesterov" in capsys.readouterr().out
