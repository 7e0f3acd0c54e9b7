"""The collection of reference cycles is paused while many objects are made, and only then."""

from __future__ import annotations

import gc

import pytest

from optrial import cli
from optrial.garbage import collecting_no_garbage


def test_the_collection_is_paused_and_goes_on() -> None:
    with collecting_no_garbage():
        assert not gc.isenabled()
        with collecting_no_garbage():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_command_leaves_the_collection_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["optrial", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert gc.isenabled()
