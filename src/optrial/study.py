"""A study as a Python object: validate, plan, run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optrial.config import override, parse_study, read_study
from optrial.data import Dataset, Progress, load_dataset
from optrial.errors import Problem, StoreError, StudyError, suggest
from optrial.plan import Plan, check_study, make_plan, validation_wanted
from optrial.recipes import RECIPES
from optrial.records import Store
from optrial.results import Results
from optrial.sweep import Watcher, sweep

__all__ = ["Study"]


class Study:
    """A set of runs and the protocol that relates them.

    Takes the keys of a study file as arguments:

        study = optrial.Study(
            problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [64]}},
            budget={"epochs": 5},
            optimizers=[{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam"}],
        )
        results = study.run()
        results.summary()

    Raises:
        StudyError: with everything that is wrong, before any data is read.
    """

    def __init__(self, **keys: Any) -> None:
        self._prepare(keys, f"study '{keys.get('name', 'study')}'")

    @classmethod
    def from_file(cls, path: str | Path, settings: Iterable[str] = ()) -> Study:
        """Read a study file, or a recipe by name, and apply ``key.path=value`` settings.

        Raises:
            StudyError: the file cannot be read, or with everything that is wrong in it.
        """
        source = RECIPES.get(str(path), Path(path))
        if not source.exists():
            hint = suggest(path, RECIPES).replace("Allowed", "Recipes")
            raise StudyError([Problem("", f"no such file, and no such recipe. {hint}")], str(path))
        return cls._from_keys(override(read_study(source), settings), str(path))

    @classmethod
    def _from_keys(cls, keys: Mapping[str, Any], source: str) -> Study:
        study = cls.__new__(cls)
        study._prepare(keys, source)
        return study

    def _prepare(self, keys: Mapping[str, Any], source: str) -> None:
        parsed, problems = parse_study(keys)
        if parsed is not None:
            problems += check_study(parsed)
        if problems or parsed is None:
            raise StudyError(problems, source)
        self.config = parsed
        self.keys = dict(keys)

    @property
    def default_folder(self) -> Path:
        """``studies/<name>``, the name reduced to letters, digits, dots and dashes."""
        slug = re.sub(r"[^\w.-]+", "-", self.config.name).strip("-.")
        return Path("studies", slug or "study")

    def load_data(self, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
        """Load the dataset, downloading it if it is published and not here yet.

        Raises:
            DataError: it is missing, damaged or malformed.
        """
        dataset = self.config.problem.dataset
        return load_dataset(
            dataset.name,
            dataset.arguments,
            data_dir=data_dir,
            progress=progress,
            validation=validation_wanted(self.config),
        )

    def plan(self, dataset: Dataset | None = None) -> Plan:
        """Expand the study into runs; trains nothing.

        Raises:
            StudyError: what only the data can tell, such as a batch larger than the training set.
            DataError: the data cannot be loaded.
        """
        return make_plan(self.config, dataset or self.load_data())

    def run(
        self,
        out: str | Path | None = None,
        *,
        device: str = "auto",
        restart: bool = False,
        data_dir: Path | None = None,
        progress: Progress | None = None,
        watcher: Watcher | None = None,
        checkpoint_seconds: float = 1.0,
    ) -> Results:
        """Train every run that `out` does not hold yet, and return the results.

        Args:
            out: a folder or a ``postgresql://`` URL; ``studies/<name>`` by default.
            device: "auto", "cpu" or "cuda".
            restart: begin anew; the database that is there is kept under another name.
            data_dir: where downloaded data lies; ``OPTRIAL_DATA`` or the user cache by default.
            progress: is told of downloads.
            watcher: is told of training.
            checkpoint_seconds: least time between two commits of one run.

        Raises:
            StudyError, DataError: bad input, before any training.
            StoreError: `out` cannot be written, or another process is writing to it.
        """
        location = str(out or self.default_folder)
        if restart and "://" in location:
            raise StoreError("--restart needs a folder; on a server, use another database.")
        dataset = self.load_data(data_dir, progress)
        plan = self.plan(dataset)
        if restart:
            _set_aside(Path(location))
        store = Store.open(location, create=True)
        try:
            sweep(
                plan,
                dataset,
                store,
                device=device,
                watcher=watcher,
                checkpoint_seconds=checkpoint_seconds,
            )
        except BaseException:
            store.close()
            raise
        return Results(store)


def _set_aside(folder: Path) -> None:
    """Rename the database of a study folder, so that the study begins anew.

    Raises:
        StoreBusyError: another process is training into it.
    """
    with Store.open(folder, create=True) as store, store.lock():
        pass  # nobody trains into it
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for file in folder.glob("study.db*"):  # SQLite may have left a journal beside it
        file.rename(folder / file.name.replace("study.db", f"study-{stamp}.db"))
