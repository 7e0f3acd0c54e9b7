"""Detect stacks whose training killed the process, and retry them more carefully.

A process that the kernel kills because memory ran out, or that crashes in compiled code, cannot
report it. The store therefore names the current stack until a part of its results is stored. A
process that reads a name there knows that the process before it died.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Self

from optrial.memory import MemoryLimit, oom_kills

__all__ = ["CHOOSING", "Attempt"]

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
    """

    work: str
    deaths: int = 0
    oom_kills: int | None = None

    @classmethod
    def begun(cls, work: str, before: Attempt | None) -> Self:
        """Return an attempt that begins now; `before` is what the last process died in."""
        deaths = before.deaths if before is not None and before.work == work else 0
        return cls(work, deaths, oom_kills())

    @classmethod
    def of_dead_process(cls, text: str) -> Self | None:
        """Read what the store remembers, and count the death; None if no process died."""
        with suppress(ValueError, TypeError):
            attempt = cls(**json.loads(text))
            return replace(attempt, deaths=attempt.deaths + 1)
        return None

    def as_text(self) -> str:
        """Return the text that the store keeps."""
        return json.dumps(asdict(self))

    def suspected(self, needed: float, limit: MemoryLimit) -> bool:
        """Return whether the work killed the process: memory is a likely cause, or it did so twice.

        A process may also be killed from outside, after which the same work is tried again.

        Args:
            needed: bytes that the work is expected to need.
            limit: tightest limit on memory.
        """
        kills = oom_kills()
        killed = None not in (kills, self.oom_kills) and (kills or 0) > (self.oom_kills or 0)
        return self.repeated or killed or needed > _SHARE_OF_MEMORY * limit.free

    @property
    def repeated(self) -> bool:
        """True if it killed the process more than once."""
        return self.deaths >= _DEATHS
