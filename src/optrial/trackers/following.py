"""Follows the store of a study that trains, and sends new points to its trackers.

A thread reads the store every few seconds. Training neither calls a tracker nor waits for one, and
every point is sent once, whichever process trained it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from optrial.callbacks import Callback
from optrial.config import Component
from optrial.errors import StoreError, StudyError, one_line
from optrial.records import Record, Store
from optrial.spec import Status
from optrial.trackers.catalogue import TRACKERS, missing_libraries
from optrial.trackers.journal import Journal
from optrial.trackers.tracker import Tracker, rows_between

__all__ = ["Tracking"]

PERIOD = 5.0
"""Least seconds between two reads of the store."""
REST = 50
"""Rest for this multiple of the CPU seconds that a round took, so that it uses 2 % of a core."""
LONGEST_REST = 60.0
"""Longest rest in seconds, so that readers do not wait for a library that starts slowly."""

Say = Callable[[str], None]


class Tracking(Callback):
    """Sends the runs of a study to its trackers while they train, and the rest at the end.

    Args:
        entries: the study's key `trackers`, already checked.
        study: name of the study.
        location: location of its store.
        say: called, from another thread, with a message about a tracker that is dropped.

    Raises:
        StudyError: a library is not installed.
        StoreError: `location` is not a folder, so there is no place for the journal.
    """

    def __init__(self, entries: Sequence[Component], study: str, location: str, say: Say) -> None:
        if problems := missing_libraries(entries):
            raise StudyError(problems)
        if entries and "://" in location:
            raise StoreError("trackers: needs a folder for its journal; use --out FOLDER.")
        self._entries, self._study, self._folder = entries, study, Path(location)
        self._say = say
        self._training_over = threading.Event()
        self._thread: threading.Thread | None = None

    def on_start(self, store: Store) -> None:
        """Start to follow the store."""
        if self._entries:
            self._thread = threading.Thread(target=self._follow, args=(store,), daemon=True)
            self._thread.start()

    def on_end(self, error: BaseException | None) -> None:
        """Send the rest; a second Ctrl-C leaves it for the next time."""
        if self._thread and not isinstance(error, KeyboardInterrupt):
            self._training_over.set()
            self._thread.join()

    def _follow(self, store: Store) -> None:
        """Send new points until training is over; report why if that fails before."""
        try:
            self._send_in_rounds(store)
        except BaseException as error:  # noqa: BLE001  a thread would end silently
            names = ", ".join(entry.name for entry in self._entries)
            self._say(_dropped(names, error))

    def _send_in_rounds(self, store: Store) -> None:
        """Send new points in rounds; the last one starts when training is over."""
        journal = Journal(self._folder)
        if lines := journal.damaged:
            removed = "a damaged line was" if lines == 1 else f"{lines} damaged lines were"
            self._say(f"{removed} removed from study.db-trackers; what it recorded is sent again")
        services = [_Service(entry, self._study, self._folder, journal) for entry in self._entries]
        last, pause = False, 0.0
        while not last:
            last = self._training_over.wait(pause)
            started = time.thread_time()
            services = [service for service in services if service.update(store, last, self._say)]
            cpu_seconds = time.thread_time() - started
            pause = max(PERIOD, min(LONGEST_REST, REST * cpu_seconds))


def _dropped(names: str, error: BaseException) -> str:
    """Message about trackers that failed."""
    return f"{names} failed and receives nothing more; training goes on: {one_line(error)}"


class _Service:
    """One tracker and the runs that are open in it."""

    def __init__(self, entry: Component, study: str, folder: Path, journal: Journal) -> None:
        self._entry, self._study, self._folder, self._journal = entry, study, folder, journal
        self._tracker: Tracker | None = None
        self._open: dict[str, Record] = {}

    def update(self, store: Store, last: bool, say: Say) -> bool:
        """Send new points, and close open runs in the last round; return False on failure."""
        try:
            if self._tracker is None:
                kind = TRACKERS[self._entry.name]
                self._tracker = kind.make(self._study, self._folder, **self._entry.arguments)
            self._send(self._tracker, store)
            for run in list(self._open.values()) if last else ():
                self._tracker.end(run)
        except BaseException as error:  # noqa: BLE001  a library may even exit
            say(_dropped(self._entry.name, error))
            return False
        return True

    def _send(self, tracker: Tracker, store: Store) -> None:
        for run in store.runs():
            mark = self._journal.mark(tracker.place, run)
            if run.status is Status.PLANNED or (mark.step, mark.status) == (run.step, run.status):
                continue
            curves = {m: c for (_, m), c in store.curves(run_ids=[run.run_id]).items()}
            service_id = mark.service_id
            if run.run_id not in self._open:
                service_id = tracker.start(run, service_id)
            self._open[run.run_id] = run
            self._journal.write(tracker.place, run, str(service_id))
            tracker.log(run, rows_between(curves, mark.step, run))
            if run.status is not Status.INTERRUPTED:
                tracker.end(self._open.pop(run.run_id))
