"""The numbers in TensorBoard, W&B and MLflow are those of the store."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optrial.config import Component
from optrial.records import Store
from optrial.spec import Status
from optrial.trackers.tracker import described
from tests.trackers.stores import STEPS, advance, plan, planned, tracked

Points = dict[tuple[str, int], float]
"""Metric and step -> value."""

RUNS = [planned("r0"), planned("r1"), planned("r2", "tune"), planned("r3")]


def no_notes(text: str) -> None:
    raise AssertionError(text)


def train(folder: Path, **entry: Any) -> dict[str, Points]:
    """Train made-up runs in two sessions and return the points that a tracker should hold."""
    name = entry.pop("name")
    with plan(folder, RUNS) as store:
        for first in (True, False):
            entries = [Component(name=name, arguments=entry)]
            with tracked(entries, folder, store, no_notes):
                if first:
                    advance(store, "r0", 0, 300)
                    advance(store, "r2", 0, 150, Status.DIVERGED)
                else:
                    advance(store, "r0", 300, STEPS, Status.DONE)
                    advance(store, "r1", 0, STEPS, Status.DONE)
        return {run: expected(store, run) for run in ("r0", "r1", "r2")}


def expected(store: Store, run_id: str) -> Points:
    return {
        (metric, step): value
        for (_, metric), curve in store.curves(run_ids=[run_id]).items()
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)
        if metric != "train_loss" or step % 5 == 0 or step == 1
    }


def as_float32(points: Points) -> Points:
    """Round as an event file does."""
    return {key: struct.unpack("f", struct.pack("f", v))[0] for key, v in points.items()}


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    wanted = train(tmp_path, name="tensorboard")
    events = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(
        str(tmp_path / "tensorboard")
    )
    events.Reload()
    folders = {
        "r0": "adam/lr=0.1/seed=0-r0",
        "r1": "adam/lr=0.1/seed=1-r1",
        "r2": "tune/adam/lr=0.2/seed=2-r2",
    }
    assert set(events.Runs()) == set(folders.values())
    for run_id, folder in folders.items():
        scalars = [
            (tag, event.step, event.value)
            for tag in events.Runs()[folder]["scalars"]
            for event in events.Scalars(folder, tag)
        ]
        points = {(tag, step): value for tag, step, value in scalars}
        assert points == as_float32(wanted[run_id])
        assert len(scalars) == len(points), "a point was logged twice"
        contents = events.GetAccumulator(folder).PluginTagToContent("hparams")
        begin = metadata.parse_session_start_info_plugin_data(
            contents[metadata.SESSION_START_INFO_TAG]
        )
        assert begin.hparams["lr"].number_value == pytest.approx(0.1)
        assert begin.hparams["betas"].string_value == "[0.9, 0.999]"
        assert begin.hparams["amsgrad"].WhichOneof("kind") == "bool_value"
        assert begin.group_name == ("tune adam lr=0.2" if run_id == "r2" else "report adam lr=0.1")
        end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
        assert end.status == (2 if run_id == "r2" else 1)  # failure, success


def test_the_hparams_tab_finds_values_and_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import (
        api_pb2,
        backend_context,
        get_experiment,
        list_session_groups,
    )

    wanted = train(tmp_path, name="tensorboard")
    events = plugin_event_multiplexer.EventMultiplexer()
    events.AddRunsFromDirectory(str(tmp_path / "tensorboard")).Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(tmp_path))
    tab = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    columns = [api_pb2.ColParams(metric=api_pb2.MetricName(tag="test_accuracy"))]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[1, 2, 3],
        col_params=columns,
        slice_size=10,
        aggregation_type=api_pb2.AGGREGATION_AVG,
    )
    context = RequestContext()
    asked = api_pb2.GetExperimentRequest()
    experiment = get_experiment.Handler(context, tab, "", asked).run()
    assert "lr" in {info.name for info in experiment.hparam_infos}
    assert "test_accuracy" in {info.name.tag for info in experiment.metric_infos}
    handler = list_session_groups.Handler(context, tab, "", request)
    groups = {group.name: group for group in handler.run().session_groups}
    assert {name: len(group.sessions) for name, group in groups.items()} == {
        "report adam lr=0.1": 2,
        "tune adam lr=0.2": 1,
    }
    (mean,) = [
        m.value for m in groups["report adam lr=0.1"].metric_values if m.name.tag == "test_accuracy"
    ]
    finals = [as_float32(wanted[run])["test_accuracy", STEPS] for run in ("r0", "r1")]
    assert mean == pytest.approx(sum(finals) / 2)


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format after a head of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, block, at, parts = file.read_bytes(), 32768, 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if block - at % block < 7:  # no room for a head: the rest of the block is empty
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def wandb_points(records: list[Any]) -> list[tuple[str, int, float]]:
    points = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            step = int(row.pop("_step"))
            points += [(k, step, v) for k, v in row.items() if not k.startswith("_")]
    return points


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    try:
        wanted = train(tmp_path, name="wandb", mode="offline", project="trials")
    finally:
        wandb.teardown()  # ends its process
    by_seed: dict[int, list[list[Any]]] = {}
    for file in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        records = list(wandb_records(file))
        (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
        config = {u.key: json.loads(u.value_json) for u in run.config.update}
        assert config["lr"] == pytest.approx(0.1)
        assert (run.project, run.run_group) == ("trials", f"adam {config['setting']}")
        assert run.display_name == f"adam {config['setting']} seed={config['seed']}"
        assert list(run.tags) == [run.job_type] == [config["phase"]]
        by_seed.setdefault(config["seed"], []).append(records)
    # Each session of r0 left a file; they have one id, by which W&B joins them.
    assert {seed: len(files) for seed, files in by_seed.items()} == {0: 2, 1: 1, 2: 1}
    ids = {r.run.run_id for records in by_seed[0] for r in records if r.HasField("run")}
    assert len(ids) == 1
    for seed, files in by_seed.items():
        points = [point for records in files for point in wandb_points(records)]
        assert {(metric, step): v for metric, step, v in points} == wanted[f"r{seed}"]
        assert len(points) == len(wanted[f"r{seed}"]), "a point was logged twice"
        (exit_code,) = [r.exit.exit_code for r in files[-1] if r.HasField("exit")]
        assert exit_code == (1 if seed == 2 else 0)


def check_mlflow(wanted: dict[str, Points], uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("made up")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len(wanted)
    for run in runs:
        run_id = run.data.tags["optrial.run_id"]
        points = [
            (metric, point.step, point.value)
            for metric in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, metric)
        ]
        assert {(metric, step): value for metric, step, value in points} == wanted[run_id]
        assert len(points) == len(wanted[run_id]), "a point was logged twice"
        assert run.data.params["betas"] == "[0.9, 0.999]"
        assert run.data.tags["optrial.phase"] == run.data.params["phase"]
        failed = run_id == "r2"
        assert run.info.status == ("FAILED" if failed else "FINISHED")
        assert run.data.tags.get("optrial.reason", "") == ("it ∞" if failed else "")


def test_mlflow_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # quick; MLflow itself prefers SQLite
    uri = (tmp_path / "mlruns").as_uri()
    check_mlflow(train(tmp_path, name="mlflow", tracking_uri=uri), uri)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, within MLflow
def test_mlflow_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    check_mlflow(train(tmp_path, name="mlflow"), f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_what_sets_a_run_apart_is_flat(tmp_path: Path) -> None:
    with plan(tmp_path, [planned("r0")]) as store:
        (run,) = store.runs()
    assert described(run) == {
        "optimizer": "adam",
        "setting": "lr=0.1",
        "phase": "report",
        "rule": "adam",
        "seed": 0,
        "dataset": "made-up",
        "model": "mlp",
        "loss": "cross_entropy",
        "batch_size": 32,
        "weight_decay": 0.0,
        "precision": "float32",
        "lr": 0.1,
        "betas": "[0.9, 0.999]",
        "amsgrad": False,
    }
