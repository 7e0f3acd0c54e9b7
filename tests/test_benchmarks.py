"""The benchmarks still fit the package: each is imported, and its plain contender trains."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optrial.data import Dataset, Split
from tests.faults.process import patience

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(path.stem for path in BENCHMARKS.glob("*.py"))


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import the modules of benchmarks by name, as their commands do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "untrained"])
@pytest.mark.usefixtures("importable")
def test_module_is_imported(name: str) -> None:
    importlib.import_module(name)


KILLED = """
import os, signal, subprocess, sys

neighbour = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE)
neighbour.stdout.readline()
print(neighbour.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("name", ["training", "spinning"])
def test_neighbours_end_with_a_benchmark_that_is_killed(name: str) -> None:
    command = [sys.executable, "-c", KILLED, str(BENCHMARKS / "neighbours.py"), name]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    deadline = time.monotonic() + patience(20)
    while Path(f"/proc/{ended.stdout.strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("importable")
def test_plain_run_of_the_whole_study_trains() -> None:
    whole_study = importlib.import_module("whole_study")
    samples = whole_study.STEPS * whole_study.BATCH_SIZE
    generator = np.random.default_rng(0)
    split = Split(
        inputs=generator.random((samples, 784), dtype=np.float32),
        targets=generator.integers(0, 10, samples),
    )
    dataset = Dataset("images", {"train": split, "test": split}, classes=10, sha256="")
    assert whole_study.plain_run("adam", dataset) > 0


@pytest.mark.usefixtures("importable")
def test_script_trains_on_tokens_too() -> None:
    """Each position of a sample of text has a target; token numbers are not scaled."""
    contenders, workloads = map(importlib.import_module, ("contenders", "workloads"))
    workload = workloads.WORKLOADS["W9"]
    tokens = np.random.default_rng(0).integers(0, 65, (2 * workload.batch_size, 33))
    split = Split(inputs=tokens[:, :-1], targets=tokens[:, 1:])
    dataset = Dataset("text", {"train": split, "test": split}, classes=65, sha256="")
    assert contenders.script(workload, dataset, "cpu")(2) > 0
