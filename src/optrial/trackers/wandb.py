"""Weights & Biases: each run of a study is a run of a project, grouped by setting."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read once, when wandb is imported

import wandb

from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, group_of, title_of

__all__ = ["WeightsAndBiases"]


class WeightsAndBiases:
    """Starts a W&B run for each run of the study.

    Args:
        study: name of the study.
        folder: folder of the study; W&B keeps its files in ``wandb`` within it.
        project: W&B project; by default the name of the study.
        entity: user or team; by default chosen by W&B.
        mode: "online", or "offline" to write files and send nothing; by default the environment
            variable ``WANDB_MODE``, else online.
    """

    def __init__(
        self,
        study: str,
        folder: Path,
        project: str | None = None,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        self._folder, self._entity, self._mode = folder, entity, mode
        self._project = project or re.sub(r"[/\\#?%:\s]+", "-", study)
        self.place = f"wandb:{entity or ''}/{self._project}"
        self._runs: dict[str, wandb.Run] = {}

    def start(self, run: Record, service_id: str | None) -> str:
        """See `Tracker`.

        Raises:
            PermissionError: no user is logged in.
        """
        # A thread cannot prompt for a key.
        mode = self._mode or os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not self._runs and not wandb.login(prompt=False):
            raise PermissionError("not logged in. Run: wandb login, or set mode: offline")
        started = self._runs[run.run_id] = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            dir=self._folder,
            id=service_id,
            resume="allow" if service_id else None,
            name=title_of(run),
            group=group_of(run),
            job_type=run.phase,
            tags=[run.phase],
            config=described(run) | {"run_id": run.run_id},
            reinit="create_new",
            # Machine statistics would mix all runs of a stack.
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        return started.id

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        for step, values in rows.items():
            self._runs[run.run_id].log(dict(values), step=step)

    def end(self, run: Record) -> None:
        """See `Tracker`. The summary holds the status and the reason of a failure."""
        ended = self._runs.pop(run.run_id)
        ended.summary.update({"status": str(run.status), "reason": run.reason})
        ended.finish(exit_code=0 if run.status is Status.DONE else 1)
