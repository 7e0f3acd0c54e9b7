"""Weights & Biases: each run of a study is one of a project, grouped by setting."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, group_of, title_of

if TYPE_CHECKING:
    import wandb

__all__ = ["MODES", "WeightsAndBiases"]

MODES = ("online", "offline")


class WeightsAndBiases:
    """Starts a run of W&B for each run of the study.

    Args:
        study: its name.
        folder: of the study; W&B keeps its files in ``wandb`` within it.
        project: of W&B; by default the name of the study.
        entity: user or team; by default the one that W&B chooses.
        mode: "online", or "offline" to write files and send nothing; by default what the
            environment variable ``WANDB_MODE`` says, else online.
    """

    def __init__(
        self,
        study: str,
        folder: Path,
        project: str | None = None,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        if mode == "offline":
            # Without it the library reports on its own use, offline too; it looks once, on import.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._folder, self._entity, self._mode = folder, entity, mode
        self._project = project or re.sub(r"[/\\#?%:\s]+", "-", study)
        self.place = f"wandb:{entity or ''}/{self._project}"
        self._runs: dict[str, wandb.Run] = {}

    def start(self, run: Record, known: str | None) -> str:
        """See `Tracker`. The name is W&B's id.

        Raises:
            PermissionError: nobody is logged in.
        """
        import wandb  # an extra  # noqa: PLC0415

        # Within a thread nobody can be asked for a key.
        mode = self._mode or os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not self._runs and not wandb.login(prompt=False):
            raise PermissionError("not logged in. Run: wandb login, or set mode: offline")
        started = self._runs[run.run_id] = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            dir=self._folder,
            id=known,
            resume="allow" if known else None,
            name=title_of(run),
            group=group_of(run),
            job_type=run.phase,
            tags=[run.phase],
            config=described(run) | {"run_id": run.run_id},
            reinit="create_new",
            # The statistics of the machine would be those of all runs at once.
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        return started.id

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        for step, values in rows.items():
            self._runs[run.run_id].log(dict(values), step=step)

    def end(self, run: Record) -> None:
        """See `Tracker`. The summary holds the status and why a run failed."""
        ended = self._runs.pop(run.run_id)
        ended.summary.update({"status": str(run.status), "reason": run.reason})
        ended.finish(exit_code=0 if run.status is Status.DONE else 1)
