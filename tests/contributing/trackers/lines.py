"""A tracker that writes one line of JSON per event."""

from __future__ import annotations

import json
from pathlib import Path

from optrial.records import Record
from optrial.trackers.tracker import Rows

__all__ = ["Lines"]


class Lines:
    """Appends events to ``lines.jsonl`` in the folder of the study."""

    def __init__(self, study: str, folder: Path) -> None:
        del study
        self.place = "lines"
        self._file = folder / "lines.jsonl"

    def start(self, run: Record, service_id: str | None) -> str:
        """See `Tracker`."""
        self._write("start", run)
        return service_id or run.run_id

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        self._write("log", run, points=len(rows))

    def end(self, run: Record) -> None:
        """See `Tracker`."""
        self._write("end", run)

    def _write(self, event: str, run: Record, **values: int) -> None:
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, "run": run.run_id, **values}) + "\n")
