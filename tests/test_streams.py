"""Commands whose standard streams are closed, full or poor in characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which ``optrial`` is the command."""
    command = f'optrial() {{ "{sys.executable}" -m optrial "$@"; }}; {line}'
    environment = {**os.environ, "OPTRIAL_CACHE": str(folder / "cache"), **variables}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "variables", [POOR, pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow)]
)
def test_characters_that_an_encoding_lacks_are_written_as_plain_ones(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    ended = shell("optrial explain adam", tmp_path, **variables)
    assert ended.returncode == 0, ended.stderr
    assert "beta1*m + (1 - beta1)*g" in ended.stdout
    assert ended.stdout.isascii()


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        pytest.param("optrial list rules >&-", 0, "", marks=pytest.mark.slow),
        pytest.param("optrial list rules 2>&-", 0, "", marks=pytest.mark.slow),
        ("optrial list rules <&- >&- 2>&-", 0, ""),
        ("optrial list rules > /dev/full", 2, "error: the output cannot be written: No space left"),
        pytest.param(
            "optrial explain adam > /dev/full",
            2,
            "error: the output cannot be written",
            marks=pytest.mark.slow,
        ),
        ("optrial show nowhere 2> /dev/full", 2, ""),
        pytest.param("optrial show nowhere 2>&-", 2, "", marks=pytest.mark.slow),
        ("optrial explain adam lion sgd | true", 0, ""),
    ],
)
def test_closed_and_full_streams(tmp_path: Path, line: str, status: int, message: str) -> None:
    ended = shell(line, tmp_path)
    assert ended.returncode == status
    assert ended.stderr.startswith(message)
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == bool(message)


def test_a_study_is_trained_without_streams_home_and_cache(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "problem: {dataset: {name: moons, n_samples: 50}, model: logistic}\n"
        "batch_size: 10\nbudget: {steps: 4}\nseeds: 1\noptimizers: [{rule: sgd}]\n",
        encoding="utf-8",
    )
    places = {"HOME": "/proc/nothing", "OPTRIAL_CACHE": "/proc/nothing/cache"}
    ended = shell("optrial run a.yaml <&- >&- 2>&-", tmp_path, **places)
    assert ended.returncode == 0
    shown = shell("optrial runs studies/a", tmp_path)
    assert "done" in shown.stdout


def test_names_that_no_terminal_should_show(tmp_path: Path) -> None:
    ended = shell("optrial run $'no\\xff\\e[31mfile\\u202e.yaml' -- ", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no\ufffdfile.yaml has 1 problem")


@pytest.mark.parametrize("name", ["a" * 300, "-leading", "with space", "with\nline", "é\u202e"])
def test_folders_of_any_name(optrial: Command, name: str) -> None:
    answer = optrial("show", "--", name)
    assert answer.status == 2
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err


HOSTILE = """
import os, sys
import torch

def spoil():
    os.closerange(0, 3)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.close()
    sys.stdout = sys.stderr = sys.__stderr__ = None

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        WHEN
        return super().forward(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["spoil()", "self.training and spoil()", "raise ValueError('no')"])
def test_user_code_takes_no_output(tmp_path: Path, when: str) -> None:
    fails = "raise" in when
    code = HOSTILE.replace("WHEN", when) + "spoil()\n" * fails  # at import
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        "problem: {dataset: {name: moons, n_samples: 50}, model: 'mine:Net'}\n"
        "batch_size: 10\nbudget: {steps: 4}\nseeds: 1\noptimizers: [{rule: sgd}]\n",
        encoding="utf-8",
    )
    ended = shell("optrial run a.yaml", tmp_path)
    assert ended.returncode == 2 * fails, ended.stderr
    assert ("error: " in ended.stderr) == fails
    assert ended.stdout.startswith("optimizer\t") or fails
    assert "Traceback" not in ended.stderr
