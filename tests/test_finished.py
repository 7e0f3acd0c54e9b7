"""`optrial run` of a study that is finished neither reads its data nor makes its plan again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from optrial.records import Store
from optrial.study import Study
from tests.conftest import Answer, Command

STUDY = """
name: ended
problem: {dataset: {name: moons, n_samples: 40}, model: logistic}
batch_size: full
budget: {steps: 2}
seeds: 2
optimizers: [{rule: sgd, lr: 0.1}, {rule: adam, lr: 0.01}]
"""
CODE = "import torch\n\n\ndef net():\n    return torch.nn.Linear(2, 2)\n"


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per study that is read with its code."""
    entries: list[str] = []
    read = Study.from_file

    def counted(path: str, *arguments: object) -> Study:
        entries.append(path)
        return read(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Study, "from_file", counted)
    return entries


def first_run(optrial: Command, *changes: tuple[str, str]) -> Answer:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("ended.yaml").write_text(text, encoding="utf-8")
    return optrial("run", "ended.yaml")


def test_a_finished_study_is_not_planned_again(optrial: Command, planned: list[str]) -> None:
    first = first_run(optrial)
    again = optrial("run", "ended.yaml")
    assert (first.status, again.status) == (0, 0)
    assert again.out == first.out
    assert again.err.splitlines()[-3:] == first.err.splitlines()[-3:]
    assert planned == ["ended.yaml"]


@pytest.mark.parametrize(
    "options",
    [("--seeds", "3"), ("--restart",), ("--set", "optimizers.sgd.lr=0.2"), ("--out", "elsewhere")],
)
def test_another_study_is_planned(
    optrial: Command, planned: list[str], options: tuple[str, ...]
) -> None:
    first_run(optrial)
    assert optrial("run", "ended.yaml", *options).status == 0
    assert len(planned) == 2


def test_a_store_that_has_changed_is_planned_again(optrial: Command, planned: list[str]) -> None:
    first_run(optrial)
    optrial("run", "ended.yaml", "--seeds", "3")
    with Store.open("studies/ended") as store:
        assert len(store.runs()) == 6
    assert optrial("run", "ended.yaml").status == 0
    with Store.open("studies/ended") as store:
        assert len(store.runs()) == 4
    assert len(planned) == 3


@pytest.mark.parametrize(
    "change",
    [("logistic", "'mine:net'"), ("{name: moons, n_samples: 40}", "points.csv")],
    ids=["code", "file"],
)
def test_files_that_may_change_are_read_again(
    optrial: Command, planned: list[str], change: tuple[str, str]
) -> None:
    Path("mine.py").write_text(CODE, encoding="utf-8")
    rows = "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(40))
    Path("points.csv").write_text(f"a,b,y\n{rows}", encoding="utf-8")
    named = (change[0], change[1].replace("points.csv", "{name: points.csv, target: y}"))
    assert first_run(optrial, named).status == 0
    assert optrial("run", "ended.yaml").status == 0
    assert len(planned) == 2


def test_a_diverged_study_ends_with_the_same_status(optrial: Command, planned: list[str]) -> None:
    first = first_run(optrial, ("seeds: 2", "seeds: 2\nloss_limit: 0.01"))
    again = optrial("run", "ended.yaml")
    assert (first.status, again.status) == (1, 1)
    assert again.err.splitlines()[-2:] == first.err.splitlines()[-2:]
    assert planned == ["ended.yaml"]


@pytest.mark.slow
def test_pytorch_is_not_loaded(optrial: Command) -> None:
    first_run(optrial)
    script = (
        "import contextlib, sys; from optrial import cli\n"
        "sys.argv = ['optrial', 'run', 'ended.yaml']\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "print('torch' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.endswith("\nFalse\n")
