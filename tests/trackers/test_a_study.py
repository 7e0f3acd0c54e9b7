"""A study that tunes, trained for real: every run is in TensorBoard with the numbers of results."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import optrial
from tests.small import MOONS

pytest.importorskip("tensorboard")


def study() -> optrial.Study:
    return optrial.Study(
        name="tuned",
        problem={"dataset": MOONS, "model": {"kind": "mlp", "hidden": [4]}},
        batch_size=32,
        budget={"epochs": 2},
        seeds=2,
        optimizers=[{"rule": "sgd", "lr": [0.01, 0.1]}],
        tune={"select": "validation_accuracy", "seeds": 1, "extend": False},
        trackers=["tensorboard"],
    )


def scalars(folder: Path) -> dict[tuple[str, str, int], float]:
    """Run, metric and step -> value."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer(size_guidance={"scalars": 0})
    events.AddRunsFromDirectory(str(folder)).Reload()
    return {
        (str(name).rpartition("-")[2], tag, event.step): event.value
        for name, tags in events.Runs().items()
        for tag in tags["scalars"]
        for event in events.Scalars(name, tag)
    }


def test_tensorboard_shows_what_results_say_for_trials_too(tmp_path: Path) -> None:
    with study().run(tmp_path) as results:
        frame = results.curves()
        phases = {record.run_id: record.phase for record in results.records}
    shown = scalars(tmp_path / "tensorboard")
    recorded = {
        (row.run_id, row.metric, row.step): float(np.float32(row.value))
        for row in frame.itertuples()
    }
    assert shown == recorded  # so short a run is not thinned
    assert set(phases.values()) == {"tune", "report"}
    assert {run for run, _, _ in shown} == set(phases)
    folders = {str(f.parent) for f in (tmp_path / "tensorboard").rglob("events*")}
    for folder in folders:
        tuned = re.search(r"tensorboard/tune/", folder) is not None
        assert tuned == (phases[folder.rpartition("-")[2]] == "tune")


def test_nothing_is_sent_again_and_a_study_begun_anew_is(tmp_path: Path) -> None:
    journal = tmp_path / "study.db-trackers"
    study().run(tmp_path).store.close()
    first = journal.read_text("utf-8")
    study().run(tmp_path).store.close()
    assert journal.read_text("utf-8") == first
    study().run(tmp_path, restart=True).store.close()
    assert journal.read_text("utf-8").splitlines()[0] == first.splitlines()[0]
    assert len(list(tmp_path.glob("backup-*/study.db-trackers"))) == 1
