"""Follows the store of a study that trains, and sends what is new to its trackers.

A thread reads the store every few seconds. Training neither calls a tracker nor waits for one, and
whoever trained a run, and when, it is sent once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optrial.config import Component
from optrial.errors import StoreError, StudyError
from optrial.records import Record, Store
from optrial.spec import Status
from optrial.trackers.catalogue import TRACKERS, missing_libraries
from optrial.trackers.journal import Journal
from optrial.trackers.tracker import Tracker, rows_between

__all__ = ["Tracking"]

PERIOD = 5.0
"""Least seconds between two looks at the store."""
REST = 50
"""A follower rests for so many times the seconds that it computed: it takes 2 % of a core."""
LONGEST_REST = 60.0
"""But no longer, in seconds: a library that takes long to start must not keep readers waiting."""


class Tracking:
    """The trackers of a study.

    Args:
        entries: of the study's key `trackers`, checked.
        study: its name.
        location: of its store.

    Raises:
        StudyError: a library is not installed.
        StoreError: `location` is no folder, in which what was sent could be noted.
    """

    def __init__(self, entries: Sequence[Component], study: str, location: str) -> None:
        if problems := missing_libraries(entries):
            raise StudyError(problems)
        if entries and "://" in location:
            raise StoreError("trackers: needs a folder to note what was sent; use --out FOLDER.")
        self._entries, self._study, self._folder = entries, study, Path(location)

    @contextmanager
    def of(self, store: Store, noted: Callable[[str], None]) -> Iterator[None]:
        """Send what is recorded while the body trains, and the rest at its end.

        A second Ctrl-C leaves the rest for the next time.

        Args:
            store: of the study.
            noted: is told, from another thread, of a tracker that is dropped.
        """
        if not self._entries:
            yield
            return
        left = threading.Event()
        follower = threading.Thread(target=self._follow, args=(store, noted, left), daemon=True)
        follower.start()
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            left.set()
            follower.join()
            raise
        left.set()
        follower.join()

    def _follow(self, store: Store, noted: Callable[[str], None], left: threading.Event) -> None:
        """Send what is recorded until `left` is set; report why if it stops before."""
        try:
            self._go_round(store, noted, left)
        except BaseException as error:  # noqa: BLE001  a thread would end without a word
            noted(_stopped(", ".join(entry.name for entry in self._entries), error))

    def _go_round(self, store: Store, noted: Callable[[str], None], left: threading.Event) -> None:
        """Go round until left, and once more."""
        journal = Journal(self._folder)
        if lines := journal.damaged:
            removed = "a damaged line was" if lines == 1 else f"{lines} damaged lines were"
            noted(f"{removed} removed from study.db-trackers; what was not noted is sent again")
        services = [_Service(entry, self._study, self._folder, journal) for entry in self._entries]
        last, pause = False, 0.0
        while not last:
            last = left.wait(pause)
            started = time.thread_time()
            services = [service for service in services if service.kept(store, last, noted)]
            computed = time.thread_time() - started
            pause = max(PERIOD, min(LONGEST_REST, REST * computed))


def _stopped(names: str, error: BaseException) -> str:
    """Message about trackers that failed."""
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"{names} is told nothing more, and training goes on: {said}"


class _Service:
    """One tracker, the runs that are open in it, and how far they were sent."""

    def __init__(self, entry: Component, study: str, folder: Path, journal: Journal) -> None:
        self._entry, self._study, self._folder, self._journal = entry, study, folder, journal
        self._tracker: Tracker | None = None
        self._open: dict[str, Record] = {}

    def kept(self, store: Store, last: bool, noted: Callable[[str], None]) -> bool:
        """Send what is new, the last time closing what is open; return False once it failed."""
        try:
            if self._tracker is None:
                kind = TRACKERS[self._entry.name]
                self._tracker = kind.make(self._study, self._folder, **self._entry.arguments)
            self._send(self._tracker, store)
            for run in list(self._open.values()) if last else ():
                self._tracker.end(run)
        except BaseException as error:  # noqa: BLE001  also if a library exits: say so
            noted(_stopped(self._entry.name, error))
            return False
        return True

    def _send(self, tracker: Tracker, store: Store) -> None:
        for run in store.runs():
            mark = self._journal.mark(tracker.place, run)
            if run.status is Status.PLANNED or (mark.step, mark.status) == (run.step, run.status):
                continue
            curves = {m: c for (_, m), c in store.curves(run_ids=[run.run_id]).items()}
            known = mark.known
            if run.run_id not in self._open:
                known = tracker.start(run, known)
            self._open[run.run_id] = run
            self._journal.write(tracker.place, run, str(known))
            tracker.log(run, rows_between(curves, mark.step, run))
            if run.status is not Status.INTERRUPTED:
                tracker.end(self._open.pop(run.run_id))
