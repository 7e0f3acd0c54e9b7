"""MLflow: each run of a study is a run of an experiment."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from optrial.passwords import without_passwords
from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, title_of

__all__ = ["MLflow"]

MOST_METRICS = 1000
"""Largest number of metrics that MLflow accepts in one call."""

STATUS = {Status.DONE: "FINISHED", Status.INTERRUPTED: "KILLED"}
"""MLflow's name of a status; FAILED for any other."""


class MLflow:
    """Starts an MLflow run for each run of the study.

    Args:
        study: name of the study.
        folder: folder of the study.
        tracking_uri: a server or a database; by default the environment variable
            ``MLFLOW_TRACKING_URI``, else the SQLite file ``mlflow.db`` in the study's folder.
        experiment: by default the name of the study.
    """

    def __init__(
        self,
        study: str,
        folder: Path,
        tracking_uri: str | None = None,
        experiment: str | None = None,
    ) -> None:
        folder = folder.absolute()
        default = f"sqlite:///{folder / 'mlflow.db'}"
        self._uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
        self._experiment = experiment or study
        self._artifacts = None if self._uri != default else (folder / "mlflow").as_uri()
        # The place holds neither the folder, which may be moved, nor a password.
        shown = "" if self._uri == default else re.sub(r"//[^/]*@", "//", self._uri)
        self.place = f"mlflow:{without_passwords(shown)} {self._experiment}"
        self._ids: dict[str, str] = {}

    def start(self, run: Record, service_id: str | None) -> str:
        """See `Tracker`."""
        self._ids[run.run_id] = service_id or self._create(run)
        if service_id:
            self._client.update_run(service_id, status="RUNNING")
        return self._ids[run.run_id]

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        now = int(1000 * time.time())
        points = [
            Metric(metric, value, now, step)
            for step, values in rows.items()
            for metric, value in values.items()
        ]
        for first in range(0, len(points), MOST_METRICS):
            batch = points[first : first + MOST_METRICS]
            self._client.log_batch(self._ids[run.run_id], metrics=batch)

    def end(self, run: Record) -> None:
        """See `Tracker`. Tags hold the status and the reason of a failure."""
        service_id = self._ids.pop(run.run_id)
        self._client.set_tag(service_id, "optrial.status", str(run.status))
        if run.reason:
            self._client.set_tag(service_id, "optrial.reason", run.reason)
        self._client.set_terminated(service_id, STATUS.get(run.status, "FAILED"))

    @cached_property
    def _client(self) -> MlflowClient:
        with _quiet():
            return MlflowClient(tracking_uri=self._uri)

    @cached_property
    def _experiment_id(self) -> str:
        existing = self._client.get_experiment_by_name(self._experiment)
        if existing:
            return str(existing.experiment_id)
        return str(self._client.create_experiment(self._experiment, self._artifacts))

    def _create(self, run: Record) -> str:
        tags = {"optrial.run_id": run.run_id, "optrial.phase": run.phase}
        created = self._client.create_run(self._experiment_id, tags=tags, run_name=title_of(run))
        # A group of parameters may be called "embedding+head" or "blocks.*", which MLflow refuses.
        named = {re.sub(r"[^\w./ -]", "_", name): v for name, v in described(run).items()}
        params = [Param(name, str(value)) for name, value in named.items()]
        self._client.log_batch(created.info.run_id, params=params)
        return str(created.info.run_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's messages about creating its tables."""
    logger = logging.getLogger("mlflow.store.db.utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
