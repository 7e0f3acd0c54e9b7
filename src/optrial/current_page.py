"""The page that `optrial run` writes, and writes again only if it would show something else."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from optrial import __version__
from optrial.analysis.audit import audit, summary_line
from optrial.analysis.view import StudyView
from optrial.errors import StoreError
from optrial.records import Store
from optrial.results import Results

__all__ = ["CurrentPage"]


class CurrentPage:
    """The page of a study, as the store was when this object was made.

    The store keeps a note on the last page: what it shows, the hash of the file, and the line that
    sums up the audit. A page that was deleted or edited is written again.

    Args:
        results: results of one study.
        path: file of the page; None if only the audit is wanted.
    """

    def __init__(self, results: Results, path: Path | None) -> None:
        assert isinstance(results.store, Store)  # only joined results have another reader
        self._store = results.store
        self._results = results
        self._path = path
        times = _hash(results.folder / "timing.json")
        self._shown = f"optrial {__version__}, {self._store.digest()}, times {times}"

    def update(self, view: StudyView) -> str:
        """Write the page unless it is current; return the summary of the audit in one line.

        Args:
            view: the view of the results.

        Raises:
            StoreError: the page cannot be written.
        """
        with suppress(ValueError, TypeError, RecursionError):
            shown, page, summary = json.loads(self._store.page())
            if (shown, page) == (self._shown, _hash(self._path)):
                return str(summary)
        report = audit(view)
        if self._path is not None:
            self._results.report(self._path, view=view, findings=report)
        summary = summary_line(report)
        with suppress(StoreError):  # the page is written; without the note it is written again
            self._store.set_page(json.dumps([self._shown, _hash(self._path), summary]))
        return summary


def _hash(path: Path | None) -> str:
    """Return the hash of a file; empty if there is none to read."""
    with suppress(OSError):
        return "" if path is None else sha256(path.read_bytes()).hexdigest()
    return ""
