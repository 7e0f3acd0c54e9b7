"""What user code prints never mixes with results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import Command
from tests.small import small_keys

LOUD = """
import ctypes, os, subprocess, sys
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        print("by print")
        os.write(1, b"by descriptor\\n")
        sys.__stdout__.write("by the first stream\\n")
        subprocess.run(["echo", "by a process"], check=True)
        ctypes.CDLL(None).puts(b"by C")

    def forward(self, x):
        return self.layer(x)


class Failing(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        if len(self.param_groups[0]["params"][0].grad) and os.environ.get("FAILS"):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls > 5:
                raise ValueError("x" * 150)
"""
WAYS = ("by print", "by descriptor", "by the first stream", "by a process", "by C")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loud.py").write_text(LOUD)
    problem = {"dataset": {"name": "moons"}, "model": {"factory": "loud:Net"}}
    optimizers = [{"torch": "loud:Failing", "lr": [0.1, 0.2, 0.3]}]
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(small_keys(problem=problem, optimizers=optimizers, save="final"), file)
    return tmp_path


def in_a_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optrial", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_standard_output_holds_results_alone(folder: Path) -> None:
    for arguments in (
        ("plan", "study.yaml"),
        ("run", "study.yaml", "--out", "out", "--checkpoint-seconds", "0"),
        ("evaluate", "out", "--format", "json"),
    ):
        ended = in_a_process(folder, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert not [way for way in WAYS if way in ended.stdout]
        assert not [way for way in WAYS if way not in ended.stderr]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_reason_of_several_runs_is_shown_once(
    optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "1")
    answer = optrial("run", "study.yaml", "--out", "out")
    assert answer.status == 1
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: 3 runs (Failing lr=0.1 seed=0, Failing lr=0.2 seed=0, ")
