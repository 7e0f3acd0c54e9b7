"""Remedies after a failure or a death: a stack is trained again, halved, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from optrial.attempts import Attempt, Attempts
from optrial.executors import Died, Failure
from optrial.memory import shortage
from optrial.records import Record
from optrial.spec import RunFacts, StackId
from optrial.sweep.needs import Needs
from optrial.sweep.queue import Active

__all__ = ["Again", "GiveUp", "Halve", "Remedies", "Remedy"]

_ENDED = "if they were killed from outside, run the study again"


@dataclass(frozen=True)
class Again:
    """Train the stack again, from what is stored of it.

    Attributes:
        note: message for the user; empty for none.
    """

    note: str = ""


@dataclass(frozen=True)
class Halve:
    """Train the runs of the stack as two stacks, or a single run with another engine.

    They start from the first step: the numbers of a run are those of the stack it is stored with,
    whenever the error occurred. They are compiled only after running out of memory; otherwise
    compiling every half would take longer than it saves.

    Attributes:
        engine: engine of the new stacks.
        note: message for the user.
    """

    engine: str
    note: str


@dataclass(frozen=True)
class GiveUp:
    """Record that the runs of the stack cannot be trained further.

    Attributes:
        reason: the reason.
        facts: facts to add to their records.
    """

    reason: str
    facts: RunFacts = RunFacts()  # noqa: RUF009  a frozen value


Remedy: TypeAlias = Again | Halve | GiveUp


class Remedies:
    """Chooses what follows a failure or a death.

    A failing run, or one for which memory runs out, is found by halving its stack until it is
    alone. Only then is it given up.

    Args:
        needs: memory that runs need.
        attempts: stacks that killed a process.
        retries: how often a stack whose process died is tried again before it is halved.
        timeout: seconds that a run may take; None for no limit.
    """

    def __init__(
        self, needs: Needs, attempts: Attempts, retries: int, timeout: float | None
    ) -> None:
        self._needs = needs
        self._attempts = attempts
        self._retries = retries
        self._timeout = RunFacts(timeout=timeout)
        self._alone: set[StackId] = set()
        self._tried_twice: set[StackId] = set()  # after what others left was released

    def trains_alone(self, stack: StackId) -> bool:
        """Return whether a stack must not be trained beside others, which may take its memory."""
        return stack in self._alone

    def _shared_memory(self, stack: StackId, others: int) -> bool:
        """Return whether a stack was trained beside others; the next time it is not."""
        was_shared = others > 0 and stack not in self._alone
        self._alone.add(stack)
        return was_shared

    def after_failure(self, active: Active, failure: Failure, others: int) -> Remedy:
        """Return what follows a failure.

        Args:
            active: the stack that failed.
            failure: the failure.
            others: number of stacks that were trained beside it.
        """
        if failure.memory_ran_out:
            return self._after_exhausted_memory(active, failure, others)
        count = len(active.records)
        if failure.timed_out and (count == 1 or not failure.hung):
            return GiveUp(failure.reason, self._timeout)
        if count > 1:
            note = f"one of {count} runs failed ({failure.reason}); training them in halves"
            return Halve("stacked", note)
        return GiveUp(failure.reason)

    def _after_exhausted_memory(self, active: Active, failure: Failure, others: int) -> Remedy:
        stack, specs = active.task.stack, active.specs
        if self._shared_memory(stack, others):
            note = "memory ran out while several stacks trained; training one of them alone"
            return Again(f"{note}: {active.task.names}")
        if len(specs) > 1:
            note = f"memory ran out with {len(specs)} runs at a time; continuing with fewer"
            return Halve(stack.engine, f"{note} ({self._needs.limit(specs)})")
        if stack not in self._tried_twice:
            self._tried_twice.add(stack)  # what earlier stacks left behind is released now
            return Again()
        if stack.is_compiled and specs[0].compile != "always":
            return Halve("stacked", "memory ran out; continuing without compiling")
        return GiveUp(f"{self._needs.text('the run', specs)} ({failure.reason})")

    def after_death(self, active: Active, death: Died, others: int) -> Again:
        """Return what follows the death of a worker; `before` decides further.

        Args:
            active: the stack that it trained.
            death: the death.
            others: number of stacks that were trained beside it.
        """
        name, specs = str(active.task.stack), active.specs
        note = f"a worker process has died ({death.reason}); "
        suspect = self._attempts.dead.get(name)
        if suspect is None:
            return Again(f"{note}continuing from its last checkpoint: {active.task.names}")
        exhausted = suspect.exhausted_memory(self._needs.memory(specs), self._needs.limit(specs))
        if exhausted and self._shared_memory(active.task.stack, others):
            del self._attempts.dead[name]
            return Again(f"{note}training its stack alone: {active.task.names}")
        return Again()  # a suspect has its own message

    def before(self, stack: StackId, records: Sequence[Record]) -> Remedy | None:
        """Return what a stack that killed a process needs before it is trained; None for others."""
        attempt = self._attempts.dead.get(str(stack))
        if attempt is None:
            return None
        count, specs = len(records), [record.spec for record in records]
        limit = self._needs.limit(specs)
        repeated = attempt.deaths > self._retries
        exhausted = attempt.exhausted_memory(self._needs.memory(specs), limit)
        if count == 1 and repeated:
            deaths = f"{attempt.deaths} processes died while they trained this run"
            cause = f" ({attempt.cause})" if attempt.cause else ""
            need = shortage(self._needs.memory(specs), limit)
            why = self._needs.text("it", specs) if exhausted else f"it only {need}; {_ENDED}"
            return GiveUp(f"{deaths}{cause}; {why}")
        died = _death(attempt, count)
        if count > 1 and (repeated or exhausted):
            return Halve(stack.engine, f"{died}; continuing with fewer at a time ({limit})")
        return Again(f"{died}; trying {'this run' if count == 1 else 'these runs'} again")


def _death(attempt: Attempt, count: int) -> str:
    """Return a clause on a process that died in a stack of some runs."""
    who = f"a worker process ({attempt.cause})" if attempt.cause else "the last process"
    runs, them = ("one run", "it") if count == 1 else (f"{count} runs", "them")
    return f"{who} died while it trained {runs}, before it stored anything of {them}"
