"""`optrial certify` with code that ends or blocks its process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import optrial
from optrial.certifying import Certificate, Kind, Verdict, certificate
from optrial.certifying.apart import Request, certify_apart
from optrial.certifying.checks.interface import INTERFACE_CHECKS
from optrial.code import Trust
from optrial.errors import OptrialError, UserCodeError
from optrial.watching import TimedOut, Watch
from tests.conftest import Command

STEP = """
import ctypes, os, sys, time, torch

class Odd(torch.optim.SGD):
    def step(self, closure=None):
        {act}
        return super().step(closure)
"""
MODULE = """
{act}
import torch
class Odd(torch.optim.SGD):
    pass
"""
FOREVER = "import time; time.sleep(1000)"
STUBBORN = """
        while True:
            try:
                time.sleep(1)
            except BaseException:
                pass
"""

ENDS = [
    (MODULE, "import os; os._exit(0)", "ended its process (exit status 0)"),
    (STEP, "os._exit(0)", "ended its process (exit status 0)"),
    (STEP, "raise BaseException('odd')", "raised BaseException: odd, in "),
    (STEP, "ctypes.string_at(0)", "ended its process (killed by SIGSEGV)"),
    (STEP, "os.closerange(3, 100)", "closed the connection to its process"),
    (STEP, "os.fork() and os._exit(7); time.sleep(9)", "ended its process (exit status 7)"),
    (MODULE, "raise GeneratorExit('odd')", "raised GeneratorExit: odd, in "),
]


def request(source: str, act: str, *, timeout: float = 300) -> Request:
    Path("odd_code.py").write_text(source.format(act=act), encoding="utf-8")
    return Request("odd_code:Odd", "sgd", seed=0, draws=1, timeout=timeout)


@pytest.mark.parametrize(
    ("source", "act", "reason"),
    [case if n < 1 else pytest.param(*case, marks=pytest.mark.slow) for n, case in enumerate(ENDS)],
)
def test_code_that_ends_the_process_is_one_error(
    source: str, act: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserCodeError) as raised:
        certify_apart(request(source, act), Trust(tell=lambda _: None))
    assert reason in str(raised.value)
    assert str(raised.value).endswith("; there is no certificate.")
    assert not raised.value.timed_out


@pytest.mark.parametrize(
    ("source", "act", "timeout"),
    [(MODULE, FOREVER, 4), pytest.param(STEP, STUBBORN, 40, marks=pytest.mark.slow)],
)
def test_code_that_hangs_is_one_error_that_names_the_place(
    source: str, act: str, timeout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = rf"^certifying odd_code:Odd took longer than timeout {timeout} s, in .*odd_code.py"
    with pytest.raises(UserCodeError, match=expected) as raised:
        certify_apart(request(source, act, timeout=timeout), Trust(tell=lambda _: None))
    assert raised.value.timed_out


@pytest.mark.slow
def test_code_that_blocks_python_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of its process runs any more, so nothing tells where it hangs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("optrial.certifying.apart._SPARE_SECONDS", 15.0)
    blocked = request(STEP, "ctypes.PyDLL(None).sleep(1000)", timeout=5)
    with pytest.raises(UserCodeError, match="took longer than timeout 5 s") as raised:
        certify_apart(blocked, Trust(tell=lambda _: None))
    assert raised.value.timed_out


@pytest.mark.slow
def test_prints_of_the_code_are_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    act = "print('x' * 10**6); os.write(1, b'raw'); os.write(2, b'raw')"
    result = certify_apart(request(STEP, act), Trust(tell=told.append))
    assert result.verdict is Verdict.CONFORMS
    assert [text.partition(" x")[0] for text in told if "runs code of" not in text] == [
        "odd_code:Odd printed:"
    ]
    assert max(map(len, told)) < 500


@pytest.mark.slow
@pytest.mark.parametrize(("trusted", "asked"), [(True, 1), (False, 1), (None, 0)])
def test_the_questions_of_the_process_are_asked(
    trusted: bool | None, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return bool(trusted)

    ended = request(STEP, "raise ValueError('odd')")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    trust = Trust(ask=None if trusted is None else ask, tell=lambda _: None)
    if trusted:
        result = certify_apart(ended_as(ended, asks=True), trust)
        assert "ValueError: odd" in result.summary
    else:
        with pytest.raises(OptrialError, match="outside the working folder"):
            certify_apart(ended_as(ended, asks=trusted is not None), trust)
    assert len(questions) == asked


def ended_as(other: Request, *, asks: bool) -> Request:
    return Request(other.target, other.against, 0, 1, other.timeout, asks=asks)


def test_the_command_ends_with_a_status_that_is_no_verdict(
    optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(error: UserCodeError) -> Callable[..., Certificate]:
        def certify(*_: object) -> Certificate:
            raise error

        return certify

    for timed_out, status in ((True, 124), (False, 125)):
        error = UserCodeError("user code ended; there is no certificate.", timed_out=timed_out)
        monkeypatch.setattr("optrial.certifying.apart.certify_apart", ended(error))
        answer = optrial("certify", "torch.optim:SGD")
        assert answer.status == status
        assert answer.err == "error: user code ended; there is no certificate.\n"
        assert not answer.out


class Settling(torch.optim.SGD):
    """Changes a setting of PyTorch."""

    def step(self, closure: object = None) -> object:  # type: ignore[override]
        torch.set_default_dtype(torch.float64)
        return super().step(closure)  # type: ignore[call-overload]


def test_settings_that_steps_change_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "compare_equations", lambda *_: ([], None))  # takes seconds
    names = ("determinism", "settings")
    checks = tuple(check for check in INTERFACE_CHECKS if check.name in names)
    monkeypatch.setattr(certificate, "CHECKS", checks)
    try:
        result = optrial.certify(Settling, against="sgd", draws=1)
        assert torch.get_default_dtype() is torch.float32
        (fault,) = (finding for finding in result.findings if finding.kind is Kind.FAULT)
        assert fault.name == "settings"
        assert "changes the setting of torch.set_default_dtype" in fault.sentence
        with pytest.raises(AssertionError):
            exec(fault.reproducer, {})
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_limited_work_is_interrupted_and_inner_work_does_not_count() -> None:
    told: list[str] = []
    with Watch(told.append, 0.5) as watch, watch.busy("waiting"):
        time.sleep(0.8)
        with watch.busy("certifying it", limited=True):
            with watch.busy("asking"):
                time.sleep(0.8)
            time.sleep(0.1)
        with (
            pytest.raises(TimedOut, match=r"^certifying it took longer than timeout 0.5 s, in "),
            watch.busy("certifying it", limited=True),
        ):
            threading.Event().wait(60)
        time.sleep(0.8)
