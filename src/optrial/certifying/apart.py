"""A certificate made in a separate process, which user code may end or block."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import TimeoutExpired
from typing import Any

from optrial.certifying.findings import Certificate
from optrial.child import Child
from optrial.code import Trust
from optrial.errors import OptrialError, UserCodeError

__all__ = ["Broken", "Note", "Question", "Refused", "Request", "Stopped", "certify_apart"]

_LOOK_SECONDS = 0.2
_SPARE_SECONDS = 60.0
"""Time beside the limit, in which the process starts, and reports where user code hangs."""


@dataclass(frozen=True)
class Request:
    """Sent to the process first: arguments of `optrial.certify`.

    Attributes:
        places: trusted folders, files and modules.
        asks: whether someone can be asked whether to trust others.
        timeout: seconds that it may take.
    """

    target: str
    against: str | None
    seed: int
    draws: int
    timeout: float
    compiled: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    places: Sequence[str] = ()
    asks: bool = False


@dataclass(frozen=True)
class Note:
    """Sent by the process: a message for the user."""

    text: str


@dataclass(frozen=True)
class Question:
    """Sent by the process, which waits for the answer, a bool."""

    text: str


@dataclass(frozen=True)
class Refused:
    """Sent by the process at its end: the input is bad."""

    reason: str


@dataclass(frozen=True)
class Stopped:
    """Sent by the process at its end: user code took too long, or raised what no code catches."""

    reason: str
    timed_out: bool = False


@dataclass(frozen=True)
class Broken:
    """Sent by the process at its end: optrial itself raised an error."""

    trace: str


def certify_apart(request: Request, trust: Trust) -> Certificate:
    """Check an optimizer in another process.

    Args:
        request: the optimizer, and how it is checked.
        trust: asked the questions of the process, and told its messages.

    Raises:
        OptrialError: target or reference cannot be found, or may not run.
        UserCodeError: user code ended the process, or took too long.
    """
    with Child("certifying.process:main") as child:
        child.send(request)
        end = time.monotonic() + request.timeout + _SPARE_SECONDS
        while time.monotonic() < end:
            if not child.connection.poll(_LOOK_SECONDS):
                if child.has_died:  # while a process that it started holds the connection
                    raise _ended(child)
                continue
            match child.receive():
                case Certificate() as certificate:
                    return certificate
                case Note(text):
                    trust.tell(text)
                case Question(text):
                    child.send(trust.ask is not None and trust.ask(text))
                    end = time.monotonic() + request.timeout + _SPARE_SECONDS
                case Refused(reason):
                    raise OptrialError(reason)
                case Stopped(reason, timed_out):
                    raise UserCodeError(_without_certificate(reason), timed_out=timed_out)
                case Broken(trace):
                    raise RuntimeError(trace)
                case _:
                    raise _ended(child)
    reason = f"certifying {request.target} took longer than timeout {request.timeout:g} s"
    raise UserCodeError(_without_certificate(reason), timed_out=True)


def _ended(child: Child) -> UserCodeError:
    try:
        child.process.wait(_LOOK_SECONDS)
    except TimeoutExpired:
        reason = "user code closed the connection to its process"
    else:
        reason = f"user code ended its process ({child.kill()})"
    return UserCodeError(_without_certificate(reason))


def _without_certificate(reason: str) -> str:
    return f"{reason}; there is no certificate."
