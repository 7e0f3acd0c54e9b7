"""On Ray, the numbers of a study are those of one process, also when a node is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from optrial.callbacks import Callback
from optrial.engine import Engines
from optrial.errors import EngineError
from optrial.spec import Status
from tests.executors.test_executors import LONG, PROGRAM, contents, run

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("one_stack"),
]


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_private_cluster_stores_what_one_process_stores(engine: str, tmp_path: Path) -> None:
    run(tmp_path / "local", study={"engine": engine}).close()
    run(tmp_path / "ray", "ray", 2, study={"engine": engine}).close()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert not ray.is_initialized()


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a choice of engines, which can take a minute, nor the start of a cluster."""

    def late(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Engines, "choose", late)
    monkeypatch.setattr(ray, "init", late)


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize("resources", [{"num_gpus": 300}, {"num_cpus": 3_000}])
def test_a_machine_without_the_resources_is_refused(
    resources: dict[str, int], tmp_path: Path
) -> None:
    ((name, count),) = resources.items()
    with pytest.raises(EngineError, match=f"no node of the Ray cluster has .*{name}: {count}"):
        run(tmp_path, "ray", parallel={"resources": resources})


@pytest.mark.usefixtures("nothing_computed")
def test_a_cluster_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nothing listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineError, match=f"does not answer at {address}"):
            run(tmp_path, "ray", parallel={"address": address})
    assert not ray.is_initialized()


def test_a_cluster_that_starts_too_slowly_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray gives up after 30 s, on a machine with twenty times as much work as cores."""

    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(EngineError, match=r"does not start .*timed out.*when the machine is less"):
        run(tmp_path, "ray")


def test_a_node_that_is_lost_changes_no_number(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    study = LONG | {"batch_size": [16, 24, 32], "save": None, "budget": {"steps": 1500}}
    run(tmp_path / "local", study=study, checkpoint_seconds=1).close()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)

    class Lost(Callback):
        steps = 0
        texts: list[str] = []  # noqa: RUF012

        def on_step(self, count: int) -> None:
            self.steps += count
            if self.steps > 6_000 and second in cluster.worker_nodes:
                cluster.remove_node(second, allow_graceful=False)

        def on_message(self, text: str) -> None:
            self.texts.append(text)

    lost = Lost()
    try:
        # A task may be started on the lost node until Ray notices.
        parallel = {"address": cluster.address, "retries": 100}
        options = {"study": study, "callbacks": [lost], "checkpoint_seconds": 0.1}
        with run(tmp_path / "ray", "ray", 2, parallel=parallel, **options) as results:
            assert {record.status for record in results.records} <= {Status.DONE, Status.DIVERGED}
    finally:
        cluster.shutdown()
    assert second not in cluster.worker_nodes
    assert any("a worker process has died" in text for text in lost.texts)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def training_in(folder: Path) -> list[Path]:
    """The processes in a folder that train for Ray."""
    training = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            here = (process / "cwd").readlink() == folder
            if here and b"ray::_train" in (process / "cmdline").read_bytes():
                training.append(process)
    return training


def test_nothing_trains_half_a_minute_after_the_driver_is_killed(tmp_path: Path) -> None:
    """Two idle agents remain: for a minute, they try to report the end of their node."""
    (tmp_path / "script.py").write_text(PROGRAM)
    command = [sys.executable, "script.py", "out", "ray", "10000000"]
    driver = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 400
    while not (started := training_in(tmp_path)) and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    driver.kill()
    driver.wait()
    assert started
    deadline = time.monotonic() + 30
    while training_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not training_in(tmp_path)
