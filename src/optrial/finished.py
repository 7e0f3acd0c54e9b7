"""Studies with nothing left to train, recognised without their data, their plan and PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from optrial import __version__
from optrial.config import parse_study, stored_study
from optrial.data import DATASETS
from optrial.errors import OptrialError, StoreError
from optrial.recipes import study_keys
from optrial.records import Record, Store, StoreReader, shown_location, study_folder
from optrial.results import Results
from optrial.spec import FINAL

__all__ = ["finished", "note_finished"]

_DRAWN_BY = ("numpy", "scikit-learn")
"""Libraries that draw or ship data."""


def finished(source: str, settings: Iterable[str], out: str | None) -> Results | None:
    """Return the results of a study if `optrial run` noted that all its runs have ended.

    Args:
        source: study file or name of a recipe; see `Study.from_file`.
        settings: changes of single keys.
        out: folder or URL of the results; None for the default folder.

    Returns:
        None if there is no such note, or if the study or its store has changed since.
    """
    with suppress(OptrialError, OSError, ValueError):  # which the training of the study reports
        studies, problems = parse_study(study_keys(source, settings))
        if studies is None or problems:
            return None
        location = str(study_folder(studies.shared.name)) if out is None else out
        if "://" in location or not Path(location, "study.db").is_file():
            return None
        store = Store.open(location)
        if store.finished() == _note(studies.as_dict(), store):
            return Results(store, Path(shown_location(location)))
        store.close()
    return None


def note_finished(store: StoreReader, records: Sequence[Record]) -> None:
    """Note that all runs of a study have ended, unless it uses files or code of the user.

    Args:
        store: store of the study.
        records: the runs of its plan.
    """
    if not isinstance(store, Store) or store.on_server:
        return
    if not all(record.status in FINAL for record in records):
        return
    studies = stored_study(store.study()).by_name.values()
    of_user = any(record.spec.code for record in records)
    of_files = any(study.problem.dataset.name not in DATASETS for study in studies)
    if of_user or of_files or any(study.save or study.trackers for study in studies):
        return
    note = _note(store.study(), store)
    if store.finished() != note:
        with suppress(StoreError):  # without it, the study is planned again
            store.set_finished(note)


def _note(study: Mapping[str, Any], store: Store) -> str:
    """Return a text that changes with a study, its store, and all that its plan depends on."""
    versions = [__version__, *map(version, _DRAWN_BY)]
    text = json.dumps([study, versions], sort_keys=True)
    return f"{sha256(text.encode()).hexdigest()}, {store.digest()}"
