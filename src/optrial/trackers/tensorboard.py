"""TensorBoard: scalars as event files, and each run's values in the tab HPARAMS."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, group_of

__all__ = ["TensorBoard"]

LONGEST = 100
"""Most characters of a folder's name; file systems allow 255 bytes."""


class TensorBoard:
    """Writes event files into one folder per run, such as ``adam/lr=0.01/seed=0-RUN_ID``.

    Trials are in ``tune``. The seeds of a setting form a session group of the tab HPARAMS, which
    shows their mean.

    Args:
        study: unused, because a folder holds one study.
        folder: folder of the study.
        log_dir: where to write; by default ``tensorboard`` in the study's folder.
    """

    def __init__(self, study: str, folder: Path, log_dir: str | None = None) -> None:
        del study
        self.place = log_dir or "tensorboard"  # not the folder, which may be moved
        self._root = Path(log_dir or folder / "tensorboard")
        self._writers: dict[str, Any] = {}  # the types of SummaryWriter lack file_writer

    def start(self, run: Record, service_id: str | None) -> str:
        """See `Tracker`. The id is the run's folder."""
        name = service_id or _folder_of(run)
        # Hide events that an earlier study left in the folder.
        writer: Any = SummaryWriter(str(self._root / name), purge_step=None if service_id else 0)
        self._writers[run.run_id] = writer
        if not service_id:
            writer.file_writer.add_summary(_session_start(run))
        return name

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        writer = self._writers[run.run_id]
        for step, values in rows.items():
            for metric, value in values.items():
                writer.add_scalar(metric, value, step)
        writer.flush()

    def end(self, run: Record) -> None:
        """See `Tracker`."""
        writer = self._writers.pop(run.run_id)
        if run.status is not Status.INTERRUPTED:
            writer.file_writer.add_summary(_session_end(run))
        writer.close()


def _folder_of(run: Record) -> str:
    parts = ["tune" * (run.phase == "tune"), run.optimizer, run.setting]
    parts += [f"seed={run.seed}-{run.run_id}"]
    names = [re.sub(r"[^\w.=,+-]+", "-", part)[:LONGEST].strip(".-") for part in parts]
    return "/".join(filter(None, names))


# The functions below replace `tensorboard.plugins.hparams.summary`, which needs TensorFlow.


def _session_start(run: Record) -> Summary:
    info = plugin_data_pb2.SessionStartInfo(
        group_name=f"{run.phase} {group_of(run)}", start_time_secs=time.time()
    )
    for name, value in described(run).items():
        if name == "seed":  # a session group joins runs that differ only in their seed
            continue
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return _summary(
        metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=info)
    )


def _session_end(run: Record) -> Summary:
    status = api_pb2.STATUS_SUCCESS if run.status is Status.DONE else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(
        metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=info)
    )


def _summary(tag: str, content: plugin_data_pb2.HParamsPluginData) -> Summary:
    about = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
