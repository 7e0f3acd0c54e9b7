"""TensorBoard: scalars as event files, and each run's values in the tab HPARAMS."""

from __future__ import annotations

import os
import re
import socket
import time
from itertools import count
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from optrial.files import make_folder
from optrial.records import Record
from optrial.spec import Status
from optrial.trackers.tracker import Rows, described, group_of

__all__ = ["TensorBoard"]

LONGEST = 100
"""Most characters of a folder's name; file systems allow 255 bytes."""

_VERSION = "brain.Event:2"

_numbers = count()


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
        self._writers: dict[str, _EventFile] = {}

    def start(self, run: Record, service_id: str | None) -> str:
        """See `Tracker`. The id is the run's folder."""
        name = service_id or _folder_of(run)
        writer = self._writers[run.run_id] = _EventFile(self._root / name)
        if not service_id:
            writer.hide_earlier()
            writer.add(_session_start(run))
        return name

    def log(self, run: Record, rows: Rows) -> None:
        """See `Tracker`."""
        writer = self._writers[run.run_id]
        for step, values in rows.items():
            for metric, value in values.items():
                writer.add(Summary(value=[Summary.Value(tag=metric, simple_value=value)]), step)
        writer.flush()

    def end(self, run: Record) -> None:
        """See `Tracker`."""
        writer = self._writers.pop(run.run_id)
        if run.status is not Status.INTERRUPTED:
            writer.add(_session_end(run))
        writer.close()


class _EventFile:
    """A new file of events.

    `SummaryWriter` of PyTorch writes from its own thread, which prints a traceback where the
    disk is full.

    Args:
        folder: created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        parts = f"{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._records = RecordWriter((folder / f"events.out.tfevents.{parts}").open("wb"))
        self._write(Event(file_version=_VERSION))

    def hide_earlier(self) -> None:
        """Hide events that an earlier study left in the folder."""
        self._write(Event(session_log=SessionLog(status=SessionLog.START)))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Add values of a step."""
        self._write(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Hand everything to the system."""
        self._records.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _folder_of(run: Record) -> str:
    parts = ["tune" * (run.phase == "tune"), run.optimizer, run.setting]
    parts += ["" if run.fold is None else f"fold={run.fold}"]
    parts += ["" if run.rung is None else f"rung={run.rung}"]
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
