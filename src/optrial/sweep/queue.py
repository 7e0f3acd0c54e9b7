"""Stacks that are left to train, and those under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from optrial.executors import Need, StackTask
from optrial.records import Claim, Progress, Record, Store
from optrial.spec import RunSpec, StackId, Status

__all__ = ["Active", "Queue"]


@dataclass
class Active:
    """A stack that is being trained.

    Attributes:
        task: its task.
        records: its runs, as they were stored at its start.
        need: what its training needs.
        counted: number of steps that were reported.
    """

    task: StackTask
    records: Sequence[Record]
    need: Need
    counted: int

    @property
    def specs(self) -> list[RunSpec]:
        """The specs of its runs."""
        return [record.spec for record in self.records]


class Queue:
    """The stacks that are left to train, in order.

    Each is claimed before it is trained; on a server, other processes train the others.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stacks: deque[StackId] = deque()
        self._members: dict[StackId, Sequence[str]] = {}  # ids of the runs of every stack
        self._claimed: set[StackId] = set()  # stacks that no other process trains now

    def __bool__(self) -> bool:
        return bool(self._stacks)

    def __contains__(self, stack: StackId) -> bool:
        return stack in self._stacks

    @property
    def members(self) -> dict[StackId, Sequence[str]]:
        """Ids of the runs of each stack in the queue."""
        return {stack: self._members[stack] for stack in self._stacks}

    @property
    def first(self) -> StackId | None:
        """The stack that is trained next, if there is one."""
        return self._stacks[0] if self._stacks else None

    def append(self, left: Iterable[Progress], known: Iterable[Progress]) -> None:
        """Append the stacks of runs that are left to train.

        Args:
            left: these runs.
            known: all runs that are stored; a stack may hold more of them.
        """
        self._learn(known)
        self._stacks.extend(dict.fromkeys(run.stack for run in left))

    def order_by(self, work: Mapping[StackId, float]) -> None:
        """Put the stacks with most work first, so that workers end at about the same time.

        Args:
            work: expected work of each stack.
        """
        self._stacks = deque(sorted(self._stacks, key=lambda stack: -work[stack]))

    def replace(
        self, left: Iterable[Progress], known: Iterable[Progress], active: Collection[StackId]
    ) -> None:
        """Queue the stacks that are left to train after other processes have trained some.

        Args:
            left: runs that are left to train.
            known: all runs that are stored.
            active: stacks that this process trains.
        """
        self._learn(known)
        wanted = dict.fromkeys(run.stack for run in left)
        order = dict.fromkeys([*self._stacks, *wanted])
        self._stacks = deque(s for s in order if s in wanted and s not in active)

    def _learn(self, known: Iterable[Progress]) -> None:
        members: dict[StackId, list[str]] = {}
        for run in known:
            members.setdefault(run.stack, []).append(run.run_id)
        self._members |= members

    def insert(self, stacks: Mapping[StackId, Sequence[str]]) -> None:
        """Put stacks at the front; they are trained next.

        Args:
            stacks: ids of the runs of each stack.
        """
        self._members |= stacks
        self._stacks.extendleft(reversed(list(stacks)))

    def pop(self) -> StackId:
        """Remove and return the first stack."""
        return self._stacks.popleft()

    def clear(self) -> None:
        """Remove every stack."""
        self._stacks.clear()

    def claim(self, statuses: Collection[Status]) -> Claim | None:
        """Move a stack that no other process trains to the front; None if there is none.

        Args:
            statuses: statuses of runs that are trained.
        """
        if (first := self._stacks[0]) in self._claimed:
            return Claim(first, 0)
        claim = self._store.claim(self._stacks, statuses)
        if claim is not None:
            self._stacks.remove(claim.stack)
            self._stacks.appendleft(claim.stack)
            self._claimed.add(claim.stack)
        return claim

    def records(self, stack: StackId) -> list[Record]:
        """Return the runs of a stack, as they are stored."""
        return self._store.runs_of(self._members[stack])

    def release(self, stack: StackId) -> None:
        """Return the claim on a stack that this process no longer trains."""
        if stack in self._claimed:
            self._claimed.discard(stack)
            self._store.release(stack)

    def lose(self, stack: StackId) -> None:
        """Note that another process has taken a stack over."""
        self._claimed.discard(stack)
