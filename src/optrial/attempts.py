"""Detect stacks whose training killed the process, and retry them more carefully.

A process that the kernel kills because memory ran out, or that crashes in compiled code, cannot
report it. The store therefore names the stacks that are being trained, each until a part of its
results is stored. A process that reads a name there knows that the process before it died.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Self

from optrial.memory import MemoryLimit, oom_kills

__all__ = ["CHOOSING", "Attempt", "Attempts"]

CHOOSING = "choosing how to train"
"""Name of the work before the first stack: timing a few steps."""

_DEATHS = 2
"""Number of deaths after which a stack is taken to be their cause."""

_SHARE_OF_MEMORY = 0.25
"""Share of the free memory above which a stack may have exhausted it."""


@dataclass(frozen=True)
class Attempt:
    """Work in progress that has stored nothing yet.

    Attributes:
        work: name of a stack, or `CHOOSING`.
        deaths: number of processes that died in it.
        oom_kills: kernel's count of out-of-memory kills at its start; None if unknown.
        cause: how the last worker ended; empty if it is not known.
    """

    work: str
    deaths: int = 0
    oom_kills: int | None = None
    cause: str = ""

    @classmethod
    def begun(cls, work: str, before: Attempt | None) -> Self:
        """Return an attempt that begins now; `before` is what the last process died in."""
        deaths = before.deaths if before is not None and before.work == work else 0
        return cls(work, deaths, oom_kills())

    @property
    def failed(self) -> Attempt:
        """The attempt after the process has died in it."""
        return replace(self, deaths=self.deaths + 1)

    def suspected(self, needed: float, limit: MemoryLimit) -> bool:
        """Return whether the work killed the process: memory is a likely cause, or it did so twice.

        A process may also be killed from outside, after which the same work is tried again.

        Args:
            needed: bytes that the work is expected to need.
            limit: tightest limit on memory.
        """
        return self.deaths >= _DEATHS or self.exhausted_memory(needed, limit)

    def exhausted_memory(self, needed: float, limit: MemoryLimit) -> bool:
        """Return whether memory is a likely cause of the death; see `suspected`."""
        kills = oom_kills()
        killed = None not in (kills, self.oom_kills) and (kills or 0) > (self.oom_kills or 0)
        return killed or needed > _SHARE_OF_MEMORY * limit.free


class Attempts:
    """The work in progress, as the store remembers it.

    Args:
        text: what the store remembers of the process before this one.
        remember: makes the store remember a text.

    Attributes:
        dead: attempts in which a process died, by the name of the work.
        in_process: whether this process does the work, and may die in it.
    """

    def __init__(self, text: str, remember: Callable[[str], object]) -> None:
        self._remember = remember
        self._open: dict[str, Attempt] = {}
        self._stored = text
        self.in_process = True
        self.dead: dict[str, Attempt] = {}
        with suppress(ValueError, TypeError, RecursionError):
            for values in json.loads(text):
                attempt = Attempt(**values).failed
                self.dead[attempt.work] = attempt

    def begin(self, work: str) -> None:
        """Make the store name some work until a part of it is stored."""
        if work not in self._open:
            self._add(work)
            if self.text != self._stored:
                self._write(self.text)

    def stored(self, work: str, upcoming: str | None = None) -> str | None:
        """Return what the transaction that stores a part of some work makes the store remember.

        Args:
            work: name of the work.
            upcoming: name of the work that begins next, so that it needs no further transaction.

        Returns:
            the text; None if the store remembers it already.
        """
        self._open.pop(work, None)
        self.dead.pop(work, None)
        if upcoming is not None:
            self._add(upcoming)
        changed, self._stored = self.text != self._stored, self.text
        return self._stored if changed else None

    def died(self, work: str, cause: str, *, blames: bool) -> None:
        """Note the death of a worker in some work.

        Args:
            work: name of the work.
            cause: how the worker ended.
            blames: whether the work may be the cause; it is not if a part of it was stored.
        """
        attempt = self._open.pop(work, None)
        if attempt and blames:
            self.dead[work] = replace(attempt.failed, cause=cause)

    def forget(self) -> None:
        """Make the store forget the work in progress, because this process does not die in it."""
        self._open.clear()
        if self._stored:
            self._write("")

    @property
    def text(self) -> str:
        """Text for the store to remember; empty for nothing."""
        if not (self._open and self.in_process):
            return ""
        return json.dumps([asdict(attempt) for attempt in self._open.values()])

    def _add(self, work: str) -> None:
        self._open.pop(CHOOSING, None)
        self._open[work] = Attempt.begun(work, self.dead.get(work))

    def _write(self, text: str) -> None:
        self._remember(text)
        self._stored = text
