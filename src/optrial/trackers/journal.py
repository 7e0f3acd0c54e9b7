"""What was sent where, so that nothing is sent twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from optrial.records import Record
from optrial.spec import Status

__all__ = ["Journal", "Mark"]


class Mark(NamedTuple):
    """How far a run is known to a service.

    Attributes:
        known: what the service calls it; None if it was never started there.
        step: its points were sent up to here.
        status: that was sent.
    """

    known: str | None = None
    step: int = 0
    status: str = Status.PLANNED


class Journal:
    """Marks of every run and place, kept beside the database; lines are only ever appended.

    Its name begins like the database's, and it is set aside with it when a study starts over. Lines
    that cannot be read are removed, such as one that was being written when a process was killed.

    Attributes:
        damaged: how many lines were removed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "study.db-trackers"
        self._marks: dict[tuple[str, str], Mark] = {}
        self.damaged = 0
        if self._file.exists():
            self._read(self._file.read_bytes())

    def _read(self, content: bytes) -> None:
        kept = b""
        for line in content.splitlines():
            try:
                place, run_id, *mark = json.loads(line)
                self._marks[place, run_id] = Mark(*mark)
                kept += line + b"\n"
            except (ValueError, TypeError):
                self.damaged += 1
        if kept != content:
            partial = self._file.with_suffix(f".{os.getpid()}")
            partial.write_bytes(kept)
            partial.replace(self._file)

    def mark(self, place: str, run: Record) -> Mark:
        """Return how far a run was sent to a place."""
        return self._marks.get((place, run.run_id), Mark())

    def write(self, place: str, run: Record, known: str) -> None:
        """Note that a run, as far as it has come, is about to be sent: at most once, then."""
        mark = self._marks[place, run.run_id] = Mark(known, run.step, run.status)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([place, run.run_id, *mark]) + "\n")
