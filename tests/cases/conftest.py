"""A copy of a situation's folder to work in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Case = Callable[[str], Path]

INPUTS = Path(__file__).parent


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Copy the inputs of a situation to an empty folder, which becomes the current one.

    Modules imported from that folder are forgotten after the test, because several situations use
    the same module names.
    """

    def enter(name: str) -> Path:
        shutil.copytree(INPUTS / name, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    before = set(sys.modules)
    yield enter
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
