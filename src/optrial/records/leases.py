"""Leases on stacks, by which several processes train a study on a server together.

A lease lasts for a grace period by the server's clock; a thread renews it. Each claim has its
own token, and every commit of a stack checks it in its transaction, so a process that was paused or
cut off cannot write to a stack that another process has taken over.

All processes that train hold a shared lock of the server; upgrades and repairs hold it alone.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import NamedTuple, Self

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from optrial.errors import LeaseLostError, StoreBusyError, StoreError
from optrial.records.database import LOCK_SPACE, Database, Result
from optrial.records.schema import leases, outcomes, runs
from optrial.spec import StackId, Status

__all__ = ["GRACE_PERIOD", "HEARTBEAT_INTERVAL", "Check", "Claim", "Leases"]

HEARTBEAT_INTERVAL = 10.0
"""Seconds between two renewals."""

GRACE_PERIOD = 60.0
"""Seconds after its last sign of life in which a process keeps its stacks."""

RECONNECT_SECONDS = 300.0
"""Seconds for which a process waits for its server."""

Check = Callable[[sql.Connection], bool]
"""Check of a lease in a transaction; False if the transaction was stored already."""

_STACKS_AT_ONCE = 1_000
_JOIN_SECONDS = 5.0  # another process may hold the lock alone for a moment
_POLL_SECONDS = 0.2
_SCHEMA = sql.func.hashtext(sql.func.current_schema())
_NOW = sql.func.clock_timestamp()


class Claim(NamedTuple):
    """A stack that this process may train.

    Attributes:
        stack: the stack.
        deaths: number of processes in a row whose lease on it ended before they stored anything.
    """

    stack: StackId
    deaths: int


class _Lease:
    """A lease that this process holds."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.commits = 0


class Leases:
    """Leases of this process on the stacks of a study; leaving the context releases them.

    Args:
        database: a database on a server.
        heartbeat_interval: seconds between two renewals.
        grace_period: seconds after its last sign of life in which a process keeps its stacks.
        tell: called with a line about a server that does not answer.
        stopping: asked at times; if it returns True, the process waits for nothing.

    Raises:
        StoreBusyError: on entering: another process upgrades or repairs the store.
    """

    def __init__(
        self,
        database: Database,
        heartbeat_interval: float = HEARTBEAT_INTERVAL,
        grace_period: float = GRACE_PERIOD,
        tell: Callable[[str], object] = lambda text: None,  # noqa: ARG005
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._engine = database.engine.execution_options(isolation_level="READ COMMITTED")
        self._interval = heartbeat_interval
        self._until = _NOW + sql.literal(timedelta(seconds=grace_period), sql.Interval())
        self._tell, self._stopping = tell, stopping
        self._name = f"process {os.getpid()} on {socket.gethostname()}"
        self._held: dict[StackId, _Lease] = {}
        self._gate = threading.Lock()  # held while this process changes its leases
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="optrial-heartbeat", daemon=True)
        self._training = _SharedLock(database)

    def __enter__(self) -> Self:
        with self._database.errors():
            if not self._training.acquire():
                raise StoreBusyError(
                    f"{self._database.shown}: another process upgrades or repairs it, or an older "
                    "optrial trains into it. Wait until it is done, or stop it."
                )
            self._training.while_alone(self._end_leases)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._heart.join()
        with suppress(StoreError):
            self.release(list(self._held))
        self._training.release()

    def persist(self, work: Callable[[], Result]) -> Result:
        """Do work in the database, again after a lost connection; see `Database.persist`."""
        return self._database.persist(work, RECONNECT_SECONDS, self._tell, self._stopping)

    def claim(self, stacks: Sequence[StackId], statuses: Collection[Status]) -> Claim | None:
        """Lease the first stack that has no lease and has runs with one of the statuses.

        Args:
            stacks: the stacks, in order of preference.
            statuses: statuses of the runs to train.

        Returns:
            The claim; None if no stack is free.
        """
        lease = _Lease()
        ours = leases.c.token == lease.token
        taken = {"token": lease.token, "worker": self._name, "until": self._until, "commits": 0}
        taken["deaths"] = sql.case(
            (leases.c.until.is_(None) | (leases.c.commits > 0), 0), else_=leases.c.deaths + 1
        )

        def claim() -> str | None:
            with self._engine.begin() as connection:
                if stored := connection.scalar(sql.select(leases.c.stack).where(ours)):
                    return str(stored)  # by an attempt whose answer was lost
                names = (str(stack) for stack in stacks if stack not in self._held)
                while some := list(islice(names, _STACKS_AT_ONCE)):
                    if stack := _first_free(connection, some, statuses):
                        update = leases.update().where(leases.c.stack == stack)
                        connection.execute(update.values(taken))
                        return stack
            return None

        with self._gate:
            stack = self.persist(claim)
            if stack is None:
                return None
            self._held[StackId.parse(stack)] = lease
        return Claim(StackId.parse(stack), self.persist(lambda: self._deaths(stack)))

    def _deaths(self, stack: str) -> int:
        with self._engine.connect() as connection:
            query = sql.select(leases.c.deaths).where(leases.c.stack == stack)
            return connection.scalar(query) or 0

    def release(self, stacks: Iterable[StackId]) -> None:
        """Return leases, so that other processes can claim the stacks at once."""
        with self._gate:
            tokens = [lease.token for s in stacks if (lease := self._held.pop(s, None))]
            ours = leases.c.token.in_(tokens)
            free = {"token": "", "worker": "", "until": None, "deaths": 0}

            def release() -> None:
                with self._engine.begin() as connection:
                    connection.execute(leases.update().where(ours).values(free))

            if tokens:
                self.persist(release)

    @contextmanager
    def committing(self, stack: StackId) -> Iterator[Check]:
        """Yield the check of a commit, which renews the lease and locks it until the commit.

        Raises:
            LeaseLostError: another process has the lease; also raised by the check.
        """
        with self._gate, self._forgetting([stack]):
            lease = self._held.get(stack)
            if lease is None:
                raise self._lost(stack)
            ours = (leases.c.stack == str(stack)) & (leases.c.token == lease.token)

            def check(connection: sql.Connection) -> bool:
                update = leases.update().where(ours, leases.c.commits == lease.commits)
                values = {"commits": lease.commits + 1, "until": self._until}
                if connection.execute(update.values(values)).rowcount:
                    return True
                if connection.scalar(sql.select(leases.c.commits).where(ours)) is None:
                    raise self._lost(stack)
                return False

            yield check
            lease.commits += 1

    @contextmanager
    def ending(self, stacks: Collection[StackId]) -> Iterator[Check]:
        """Yield a check that ends the leases on stacks whose runs move to other stacks.

        Raises:
            LeaseLostError: another process has the lease on a stack; also raised by the check.
        """

        def check(connection: sql.Connection) -> bool:
            for stack in stacks:
                token = self._held[stack].token if stack in self._held else None
                delete = leases.delete().where(leases.c.stack == str(stack))
                if not connection.execute(delete.where(leases.c.token == token)).rowcount:
                    raise self._lost(stack)
            return True

        with self._gate, self._forgetting(stacks):
            yield check
            for stack in stacks:
                self._held.pop(stack, None)

    @contextmanager
    def _forgetting(self, stacks: Iterable[StackId]) -> Iterator[None]:
        """Forget leases that are lost."""
        try:
            yield
        except LeaseLostError:
            for stack in stacks:
                self._held.pop(stack, None)
            raise

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Wait until no other process plans, then be the one that does."""
        connection = self.persist(self._planner)
        try:
            yield
        finally:
            _discard(connection)

    def _planner(self) -> sql.Connection:
        """Return a connection that holds the lock of the process that plans."""
        connection = _connecting(self._database.engine)()
        lock = sql.func.pg_try_advisory_lock(LOCK_SPACE + 1, _SCHEMA)
        try:
            while not _tried(connection, lock):
                time.sleep(_POLL_SECONDS)
        except BaseException:
            _discard(connection)
            raise
        return connection

    def _end_leases(self) -> None:
        """End the leases of dead processes: one that lives holds the lock of all that train."""
        with self._engine.begin() as connection:
            connection.execute(leases.update().where(leases.c.until > _NOW).values(until=_NOW))

    def alone(self) -> bool:
        """Return whether no other process trains into the store at this moment."""
        return self.persist(
            lambda: self._training.acquire() and self._training.while_alone(lambda: None)
        )

    def _beat(self) -> None:
        """Renew the leases until the end."""
        while not self._closed.wait(self._interval):
            with suppress(StoreError), self._database.errors():
                self._training.acquire()
                # A commit renews its lease itself.
                if self._gate.acquire(blocking=False):
                    try:
                        self._renew()
                    finally:
                        self._gate.release()

    def _renew(self) -> None:
        tokens = [lease.token for lease in self._held.values()]
        if tokens:
            with self._engine.begin() as connection:
                ours = leases.c.token.in_(tokens)
                connection.execute(leases.update().where(ours).values(until=self._until))

    def _lost(self, stack: StackId) -> LeaseLostError:
        holder = "another process"
        with suppress(SQLAlchemyError), self._engine.connect() as connection:
            query = sql.select(leases.c.worker).where(leases.c.stack == str(stack))
            holder = connection.scalar(query) or holder
        return LeaseLostError(
            f"{self._database.shown}: {holder} has taken over the stack {stack}, because this "
            "process stopped responding. What it stored before that is kept."
        )


def _first_free(
    connection: sql.Connection, names: Sequence[str], statuses: Collection[Status]
) -> str | None:
    """Lock and return the first stack without a lease that has runs with one of the statuses."""
    from sqlalchemy.dialects import postgresql  # slow, and needed on servers alone  # noqa: PLC0415

    new = [
        {"stack": name, "token": "", "worker": "", "until": None, "commits": 0, "deaths": 0}
        for name in names
    ]
    connection.execute(postgresql.insert(leases).on_conflict_do_nothing(), new)
    left = (
        sql.select(runs.c.run_id)
        .join(outcomes, outcomes.c.run_id == runs.c.run_id)
        .where(runs.c.stack == leases.c.stack, outcomes.c.status.in_(sorted(statuses)))
    )
    query = (
        sql.select(leases.c.stack)
        .where(leases.c.stack.in_(names), left.exists())
        .where(leases.c.until.is_(None) | (leases.c.until < _NOW))
        .order_by(sql.func.array_position(postgresql.array(names), leases.c.stack))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    stack: str | None = connection.scalar(query)
    return stack


class _SharedLock:
    """Lock of all processes that train into a store, on a separate connection."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._gate = threading.Lock()  # two threads use the connection
        self._connection: sql.Connection | None = None

    def acquire(self) -> bool:
        """Hold the lock, again if its connection was lost; return False if it is taken."""
        with self._gate:
            return self._is_held() or self._acquired()

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(sql.select(1))
        except SQLAlchemyError:
            self.release()
        return self._connection is not None

    def _acquired(self) -> bool:
        connection = _connecting(self._engine)()
        end = time.monotonic() + _JOIN_SECONDS
        while not _tried(connection, sql.func.pg_try_advisory_lock_shared(LOCK_SPACE, _SCHEMA)):
            if time.monotonic() > end:
                _discard(connection)
                return False
            time.sleep(_POLL_SECONDS)
        self._connection = connection
        return True

    def while_alone(self, work: Callable[[], None]) -> bool:
        """Do work if no other process holds the lock, and keep all out meanwhile."""
        with self._gate:
            if self._connection is None:
                return False
            lock = (LOCK_SPACE, _SCHEMA)
            alone = _tried(self._connection, sql.func.pg_try_advisory_lock(*lock))
            if alone:
                work()
                _tried(self._connection, sql.func.pg_advisory_unlock(*lock))
            return alone

    def release(self) -> None:
        """End the connection, and with it the lock."""
        if self._connection is not None:
            with suppress(SQLAlchemyError):  # the server may notice the end of a connection later
                _tried(self._connection, sql.func.pg_advisory_unlock_shared(LOCK_SPACE, _SCHEMA))
            _discard(self._connection)
            self._connection = None


def _connecting(engine: sql.Engine) -> Callable[[], sql.Connection]:
    return lambda: engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _tried(connection: sql.Connection, function: sql.ColumnElement[bool]) -> bool:
    return bool(connection.scalar(sql.select(function)))


def _discard(connection: sql.Connection) -> None:
    """Close a connection for good, so that its locks end."""
    with suppress(SQLAlchemyError):
        connection.invalidate()
        connection.close()
