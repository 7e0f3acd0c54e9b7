"""MLflow: each run of a study is one of an experiment."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, title_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflow"]

MOST_METRICS = 1000
"""MLflow takes no more in one call."""

STATUS = {Status.DONE: "FINISHED", Status.INTERRUPTED: "KILLED"}
"""Of MLflow; any other is FAILED."""


class MLflow:
    """Starts a run of MLflow for each run of the study.

    Args:
        study: its name.
        folder: of the study.
        tracking_uri: of a server or a database; by default what the environment variable
            ``MLFLOW_TRACKING_URI`` says, else the SQLite file ``mlflow.db`` in the study's folder.
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
        # Without the folder, which may be moved, and without a password.
        shown = "" if self._uri == default else re.sub(r"//[^/]*@", "//", self._uri)
        self.place = f"mlflow:{shown} {self._experiment}"
        self._ids: dict[str, str] = {}

    def start(self, run: Record, known: str | None) -> str:
        """See `Tracker`. The name is MLflow's run id."""
        self._ids[run.run_id] = known or self._create(run)
        if known:
            self._client.update_run(known, status="RUNNING")
        return self._ids[run.run_id]

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric  # an extra  # noqa: PLC0415

        now = int(1000 * time.time())
        points = [
            Metric(metric, value, now, step)
            for step, values in rows.items()
            for metric, value in values.items()
        ]
        for first in range(0, len(points), MOST_METRICS):
            some = points[first : first + MOST_METRICS]
            self._client.log_batch(self._ids[run.run_id], metrics=some)

    def end(self, run: Record) -> None:
        """See `Tracker`. The tags hold the status and why a run failed."""
        known = self._ids.pop(run.run_id)
        self._client.set_tag(known, "optrial.status", str(run.status))
        if run.reason:
            self._client.set_tag(known, "optrial.reason", run.reason)
        self._client.set_terminated(known, STATUS.get(run.status, "FAILED"))

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient  # an extra  # noqa: PLC0415

        with _quiet():
            return MlflowClient(tracking_uri=self._uri)

    @cached_property
    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment, self._artifacts))

    def _create(self, run: Record) -> str:
        from mlflow.entities import Param  # an extra  # noqa: PLC0415

        tags = {"optrial.run_id": run.run_id, "optrial.phase": run.phase}
        created = self._client.create_run(self._experiment_id, tags=tags, run_name=title_of(run))
        params = [Param(name, str(value)) for name, value in described(run).items()]
        self._client.log_batch(created.info.run_id, params=params)
        return str(created.info.run_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from telling that it makes its tables."""
    logger = logging.getLogger("mlflow.store.db.utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
