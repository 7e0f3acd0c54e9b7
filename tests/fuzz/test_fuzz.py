"""No input ends in a traceback, takes five seconds or a gigabyte."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.past import PAST
from tests.fuzz.target import Target, judged, limited_memory
from tests.fuzz.targets import TARGETS, valid_inputs

SHRUNK = 15
"""Inputs of each target that hypothesis draws, and shrinks if they fail."""
NUMBERED = 20_000
"""Numbered inputs of all targets; `python -m tests.fuzz` takes as many as wanted."""


def judge(target: Target, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, limited_memory():
        reason = judged(target, content, Path(folder))
    assert not reason, f"{content[:2000]!r}\n{reason}"


@pytest.mark.parametrize("name", PAST)
def test_past_failure(name: str) -> None:
    target, content = PAST[name]
    judge(TARGETS[target], content)


@pytest.mark.parametrize("name", TARGETS)
def test_valid_inputs_are_read(name: str, tmp_path: Path) -> None:
    for number, content in enumerate(valid_inputs(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        TARGETS[name].read(content, folder)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    @settings(max_examples=SHRUNK, derandomize=True, deadline=None, database=None)
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        judge(TARGETS[name], TARGETS[name].make(random))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutations(name: str) -> None:
    target = TARGETS[name]
    for number in range(int(target.share * NUMBERED)):
        judge(target, target.numbered(number))
