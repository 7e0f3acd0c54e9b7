"""Journal of the points that were sent to each tracker, so that none is sent twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from optrial.files import replacing
from optrial.records import Record
from optrial.spec import Status

__all__ = ["Journal", "Mark"]


class Mark(NamedTuple):
    """State of a run in a service.

    Attributes:
        service_id: id of the run in the service; None before the run is started there.
        step: points up to this step were sent.
        status: last status that was sent.
    """

    service_id: str | None = None
    step: int = 0
    status: str = Status.PLANNED


class Journal:
    """Marks of every run and place, in a file beside the database that is only appended to.

    The file's name begins with the database's, so that `--restart` sets both aside. Lines that
    cannot be read are removed, such as one that was being written when a process was killed.

    Attributes:
        damaged: number of lines that were removed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "study.db-trackers"
        self._marks: dict[tuple[str, str], Mark] = {}
        self.damaged = 0
        if self._file.exists():
            self._read(self._file.read_bytes())

    def _read(self, content: bytes) -> None:
        readable = b""
        for line in content.splitlines():
            try:
                place, run_id, *mark = json.loads(line)
                self._marks[place, run_id] = Mark(*mark)
                readable += line + b"\n"
            except (ValueError, TypeError):
                self.damaged += 1
        if readable != content:
            with replacing(self._file) as partial:
                partial.write_bytes(readable)

    def mark(self, place: str, run: Record) -> Mark:
        """Return the state of a run in a place."""
        return self._marks.get((place, run.run_id), Mark())

    def write(self, place: str, run: Record, service_id: str) -> None:
        """Record that a run's points are about to be sent, so that none is sent twice."""
        mark = self._marks[place, run.run_id] = Mark(service_id, run.step, run.status)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([place, run.run_id, *mark]) + "\n")
