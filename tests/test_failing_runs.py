"""One run that fails costs the others neither their results nor their stack."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from optrial.config import stored_study
from optrial.engine import Choice, Engines, StackedEngine, Training
from optrial.errors import OptrialError
from optrial.plan import arrange, datasets_of, pack
from optrial.results import Results, load
from optrial.spec import ENDED, RunSpec, StackId, Status
from optrial.study import Study
from tests.small import small_keys
from tests.test_sweep import Hook

MODULE = "fragile_models"
CODE = '''
import torch
from torch import nn


class Wide(nn.Module):
    """Raises in its fifth training step if it is 13 wide."""

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
        self.width, self.calls = width, 0

    def forward(self, x):
        self.calls += self.training
        if self.width == 13 and self.calls > 4:
            raise ValueError("thirteen")
        return self.layers(x)


class Unlucky(nn.Module):
    """Raises where it is built under seed 3."""

    def __init__(self):
        super().__init__()
        if torch.initial_seed() == 3:
            raise ValueError("three")
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)
'''


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in stacks as wide as can be, whatever this machine is fastest with."""

    def choose(self: Engines, runs: Sequence[RunSpec]) -> list[Choice]:
        return [Choice("stacked", (group,), 0.0) for group in pack(runs, len(runs))]

    monkeypatch.setattr(Engines, "choose", choose)


def keys(factory: str, arguments: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    model = {"factory": f"{MODULE}:{factory}", "args": arguments or {}}
    problem = small_keys()["problem"] | {"model": model}
    return small_keys(problem=problem, engine="stacked", compile="never", **changes)


def alone(results: Results, stack: StackId) -> dict[str, str]:
    """The hashes of the weights that a stack gives when it is trained by itself."""
    records = [r for r in results.records if r.stack == stack]
    specs = arrange(record.spec for record in records)
    (dataset,) = datasets_of(stored_study(results.study)).values()
    training = Training(
        specs, Engines(dataset, specs[0].precision, "cpu").build(stack.engine, specs)
    )
    for _ in training.run():
        pass
    return {s.run_id: s.facts.parameters_sha256 for s in training.segments()}


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("auto", marks=pytest.mark.slow),
        "stacked",
        pytest.param("reference", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_fails_for_one_width_fails_for_no_other(engine: str) -> None:
    """Also where it is tried or timed before it is trained."""
    study = Study(**keys("Wide", {"width": [12, 13, 14]}, seeds=4) | {"engine": engine})
    with study.run("out", checkpoint_seconds=0) as results:
        for record in results.records:
            failing = record.spec.model_arguments["width"] == 13
            wanted = (Status.ERROR, "ValueError: thirteen") if failing else (Status.DONE, "")
            assert (record.status, record.reason) == wanted


@pytest.mark.usefixtures("stacks")
def test_a_stack_of_failing_runs_leaves_other_stacks_alone() -> None:
    study = Study(**keys("Wide", {"width": [12, 13, 14]}, seeds=4))
    with study.run("out", checkpoint_seconds=0) as results:
        records = results.records
        for record in records:
            if record.spec.model_arguments["width"] == 13:
                assert (record.status, record.reason) == (Status.ERROR, "ValueError: thirteen")
                assert record.width == 1
            else:
                assert (record.status, record.facts.stack_width) == (Status.DONE, 4)


class HookOfAllSteps(Hook):
    """Counts steps that are taken again too."""

    def on_step(self, count: int) -> None:
        super().on_step(max(count, 0))


def fail_with_seed_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stacks raise at step 26 if they hold a run with seed 3."""
    advance = StackedEngine.advance

    def fragile(self: StackedEngine, steps: int) -> Any:
        if 3 in self.seeds and self._taken >= 25:
            raise ValueError("three")
        return advance(self, steps)

    monkeypatch.setattr(StackedEngine, "advance", fragile)


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("steps", [100, 230, 400])
def test_an_interruption_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, steps: int, tmp_path: Path
) -> None:
    """In the stack that fails, in the halves, and in the halves of these."""
    fail_with_seed_3(monkeypatch)
    study, weights = Study(**keys("Wide", seeds=8)), []
    study.run(tmp_path / "whole").store.close()
    interrupt = HookOfAllSteps(steps, lambda: os.kill(os.getpid(), signal.SIGINT))
    study.run(tmp_path / "parts", callbacks=[interrupt], checkpoint_seconds=0).store.close()
    with load(tmp_path / "parts") as results:
        assert {Status.PLANNED, Status.INTERRUPTED} & {r.status for r in results.records}
    study.run(tmp_path / "parts", checkpoint_seconds=0).store.close()
    for folder in ("whole", "parts"):
        with load(tmp_path / folder) as results:
            records = {r.run_id: (r.stack, r.status, r.metrics) for r in results.records}
            weights.append(records)
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("steps", [None, 30, 60, 120])
def test_runs_that_diverge_before_their_stack_fails_start_again_with_it(
    monkeypatch: pytest.MonkeyPatch, steps: int | None, tmp_path: Path
) -> None:
    """Their stack does not depend on whether they were stored before, or by which process."""
    fail_with_seed_3(monkeypatch)
    optimizers = [{"rule": "sgd", "lr": [0.1, 1e30]}]
    study = Study(**keys("Wide", seeds=4, optimizers=optimizers, loss_limit=1e3))
    study.run(tmp_path / "whole", checkpoint_seconds=math.inf).store.close()
    interrupt = HookOfAllSteps(steps or 10**9, lambda: os.kill(os.getpid(), signal.SIGINT))
    study.run(tmp_path / "parts", callbacks=[interrupt], checkpoint_seconds=0).store.close()
    if steps:
        study.run(tmp_path / "parts", checkpoint_seconds=0).store.close()
    kept = []
    for folder in ("whole", "parts"):
        with load(tmp_path / folder) as results:
            records = [r for r in results.records if r.status is not Status.ERROR]
            kept.append({r.run_id: (r.stack, r.status, r.step, r.metrics) for r in records})
            curves = results.store.curves(run_ids=list(kept[-1])).items()
            kept[-1] |= {key: (c.steps.tolist(), c.values.tolist()) for key, c in curves}
            for stack in {record.stack for record in records if record.status is Status.DONE}:
                members = {r.run_id for r in records if r.stack == stack}
                assert alone(results, stack).keys() == members
    assert kept[0] == kept[1]
    statuses = sorted(record.status for record in records)
    assert statuses.count(Status.DIVERGED) >= 3
    assert statuses.count(Status.DONE) >= 3


@pytest.mark.usefixtures("stacks")
def test_runs_that_diverged_start_again_on_a_server_too(
    monkeypatch: pytest.MonkeyPatch, postgresql: str
) -> None:
    fail_with_seed_3(monkeypatch)
    monkeypatch.setattr("optrial.sweep.driver._LOOK_SECONDS", 0.0)  # looks at others at each update
    optimizers = [{"rule": "sgd", "lr": [0.1, 1e30]}]
    study = Study(**keys("Wide", seeds=[3], optimizers=optimizers, loss_limit=1e3))
    interrupt = HookOfAllSteps(30, lambda: os.kill(os.getpid(), signal.SIGINT))
    study.run(postgresql, callbacks=[interrupt], checkpoint_seconds=0).store.close()
    with study.run(postgresql, checkpoint_seconds=0) as results:
        assert all(record.status in ENDED for record in results.records)


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("checkpoint_seconds", [0, 60])
def test_healthy_runs_have_the_results_of_the_stack_they_are_stored_with(
    monkeypatch: pytest.MonkeyPatch, checkpoint_seconds: float
) -> None:
    """Also where some steps of the stack that failed were stored already."""
    fail_with_seed_3(monkeypatch)
    study = Study(**keys("Wide", seeds=8))
    with study.run("out", checkpoint_seconds=checkpoint_seconds) as results:
        records = results.records
        failed = [record for record in records if record.status is not Status.DONE]
        assert [(r.seed, r.status, r.reason) for r in failed] == [
            (3, Status.ERROR, "ValueError: three")
        ]
        healthy = [record for record in records if record.status is Status.DONE]
        assert [r.facts.stack_width for r in healthy] == [2, 2, 1, 4, 4, 4, 4]
        for stack in {record.stack for record in healthy}:
            members = [record for record in healthy if record.stack == stack]
            assert alone(results, stack) == {r.run_id: r.facts.parameters_sha256 for r in members}
            for record in members:
                assert len(results.store.curve(record.run_id, "train_loss")) == 40


@pytest.mark.usefixtures("stacks")
def test_a_run_whose_model_cannot_be_built_is_the_only_one_that_fails() -> None:
    study = Study(**keys("Unlucky", seeds=5))
    with study.run("out") as results:
        statuses = {record.seed: str(record.status) for record in results.records}
        reasons = {record.reason for record in results.records}
    assert statuses == {0: "done", 1: "done", 2: "done", 3: "error", 4: "done"}
    assert reasons == {"", "factory: 'fragile_models:Unlucky' raised ValueError: three."}


@pytest.mark.usefixtures("stacks")
def test_a_failed_run_is_tried_again_alone_and_the_others_are_left_alone() -> None:
    study = Study(**keys("Unlucky", seeds=5))
    with study.run("out") as results:
        before = {r.run_id: (r.stack, r.facts.parameters_sha256) for r in results.records}
        (failed,) = (r for r in results.records if r.status is Status.ERROR)
    with study.run("out") as results:
        after = {r.run_id: (r.stack, r.facts.parameters_sha256) for r in results.records}
        assert [r.run_id for r in results.records if r.stack == failed.stack] == [failed.run_id]
    assert after == before


# `raise SystemExit`, not `sys.exit()`: wandb replaces the latter, and its SystemExit says 0.
EXITING = """
import sys

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, mode=True, calls=0, output=0):
        super().__init__()
        if width == 0:
            sys.exit("built")
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))
        self.mode, self.calls, self.taken = mode, calls, 0

    def forward(self, x):
        self.taken += self.training
        if self.training == self.mode and 0 < self.calls <= self.taken:
            raise SystemExit
        return self.layers(x)


def loss(outputs, targets, fails=False):
    return sys.exit(4) if fails else nn.functional.cross_entropy(outputs, targets)


def metric(outputs, targets):
    raise SystemExit


def interrupting(outputs, targets):
    raise KeyboardInterrupt


class Interrupting(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls > 7:
            raise KeyboardInterrupt
        super().step(closure)


class SGD(torch.optim.SGD):
    def __init__(self, params, lr=0.1, lasts=0):
        super().__init__(params, lr=lr)
        self.lasts, self.taken = lasts, 0

    def step(self, closure=None):
        self.taken += 1
        if self.taken > self.lasts:
            sys.exit("worn out")
        super().step(closure)


def data():
    raise SystemExit


def rule():
    sys.exit(1)
"""


@pytest.fixture
def exiting(tmp_path: Path) -> None:
    (tmp_path / f"{MODULE}.py").write_text(EXITING, encoding="utf-8")
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit\n", encoding="utf-8")


@pytest.mark.usefixtures("exiting")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"factory": f"{MODULE}:Net", "args": {"width": 0}}}, "SystemExit: built"),
        ({"model": {"factory": f"{MODULE}:Net", "args": {"calls": 1}}}, "raised SystemExit on"),
        (
            {"model": {"factory": f"{MODULE}:Net", "args": {"mode": False, "calls": 1}}},
            "in evaluation mode raised SystemExit on",
        ),
        ({"model": {"factory": "exits_on_import:Net"}}, r"cannot be imported \(SystemExit\)"),
        ({"loss": {"name": f"{MODULE}:loss", "fails": True}}, "loss: .* raised SystemExit: 4"),
        ({"loss": {"name": f"{MODULE}:interrupting"}}, "loss: .* raised KeyboardInterrupt"),
        ({"metrics": [f"{MODULE}:metric"]}, r"metrics\[0\]: .* raised SystemExit"),
        ({"dataset": f"{MODULE}:data"}, "raised SystemExit; correct"),
        ({"optimizers": [{"torch": f"{MODULE}:SGD", "lr": 0.1}]}, "in step 1: SystemExit: worn"),
        ({"optimizers": [{"rule_factory": f"{MODULE}:rule"}]}, r"no rule \(SystemExit: 1\)"),
    ],
)
def test_code_that_exits_is_an_error_of_the_study(changes: dict[str, Any], message: str) -> None:
    of_study = {"optimizers": changes.pop("optimizers")} if "optimizers" in changes else {}
    problem = small_keys()["problem"] | changes
    with pytest.raises(OptrialError, match=message):
        Study(**small_keys(problem=problem, **of_study)).plan()


@pytest.mark.usefixtures("exiting")
def test_code_that_interrupts_while_it_is_trained_fails_its_run() -> None:
    optimizers = [{"torch": f"{MODULE}:Interrupting", "lr": 0.1}, {"rule": "sgd", "lr": 0.1}]
    with Study(**small_keys(optimizers=optimizers)).run("out") as results:
        outcomes = [(str(record.status), record.reason) for record in results.records]
    assert outcomes == [("error", "KeyboardInterrupt"), ("done", "")]


@pytest.mark.slow
@pytest.mark.usefixtures("exiting")
@pytest.mark.parametrize("engine", ["auto", "stacked", "reference"])
def test_code_that_exits_while_it_is_trained_fails_its_run(engine: str) -> None:
    optimizers = [
        {"torch": f"{MODULE}:SGD", "lr": 0.1, "lasts": [7, 1000]},
        {"rule": "sgd", "lr": 0.1},
    ]
    changes = keys("Net", {"calls": [0, 9]}) | {"optimizers": optimizers, "engine": engine}
    with Study(**changes).run("out") as results:
        for record in results.records:
            lasts = record.spec.model_arguments["calls"] == 0
            if lasts and record.hyperparameters.get("lasts") == 7:
                assert (record.status, record.reason) == (Status.ERROR, "SystemExit: worn out")
            else:
                assert record.status == (Status.DONE if lasts else Status.ERROR)
                assert record.reason.startswith("" if lasts else "SystemExit")
