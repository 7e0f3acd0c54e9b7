"""A disturbed study ends as the undisturbed one, or with one message and then as that.

The scenarios run in a separate process, which preloads the library of `shim.c`. A failure names
its seed; `python -m tests.faults --first SEED --faults 1` runs that scenario alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.shim import compiler

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and /proc are Linux's"),
    pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) for the preloaded library"),
]


def run_scenarios(first: int, count: int, *options: str) -> None:
    scenarios = ["--first", str(first), "--faults", str(count), *options]
    command = [sys.executable, "-m", "tests.faults", *scenarios]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("first", "count"), [(0, 100), (100, 100)])
def test_many_faults(first: int, count: int) -> None:
    run_scenarios(first, count)


@pytest.mark.slow
def test_faults_of_several_processes() -> None:
    run_scenarios(0, 16, "--executors")  # one of each kind
