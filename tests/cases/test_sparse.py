"""Sparse gradients, of `nn.Embedding(sparse=True)`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optrial.errors import StudyError
from optrial.spec import Status
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.loops import plain, train_plainly
from tests.small import learner_for, train
from tests.tolerance import TRAJECTORY_FLOAT64

MODEL = "problem.model={factory: 'sp:%s', args: {sparse: %s}}"


def planned(entry: str, model: str = "Emb", sparse: str = "true", *settings: str) -> Any:
    changes = [f"optimizers=[{entry}]", MODEL % (model, sparse), "rng=streams", "seeds=1"]
    study = Study.from_file("sp.yaml", [*changes, "precision=float64", *settings])
    dataset = study.load_data()
    return study.plan(dataset).runs[0], dataset


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of PyTorch, at first use
@pytest.mark.parametrize(
    ("entry", "model", "make"),
    [
        ("{torch: 'torch.optim:SparseAdam', lr: 0.05}", "Emb",
         lambda p: torch.optim.SparseAdam(list(p), lr=0.05)),
        ("{torch: 'torch.optim:Adagrad', lr: 0.05}", "Emb",
         lambda p: torch.optim.Adagrad(p, lr=0.05)),
        ("{torch: 'sp:Both'}", "EmbDense", lambda p: importlib.import_module("sp").Both(p)),
    ],
)  # fmt: skip
def test_sparse_gradients_train_as_in_a_plain_loop(
    case: Case, entry: str, model: str, make: Callable[[Any], Any]
) -> None:
    case("sparse")
    run, dataset = planned(entry, model)
    wanted = train_plainly(run, dataset, make, plain)
    learner = learner_for([run], dataset)
    learner.start(1)
    losses = learner.advance(run.steps).losses[:, 0]
    assert losses == pytest.approx(wanted.losses, rel=TRAJECTORY_FLOAT64)
    for name, value in learner.weights(0).items():
        assert value == pytest.approx(wanted.weights[name], rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("rng", ["streams", "script"])
@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_rules_take_sparse_gradients_as_dense_ones(case: Case, rule: str, rng: str) -> None:
    case("sparse")
    losses = []
    for sparse in ("true", "false"):
        run, dataset = planned(f"{{rule: {rule}, clip: 1.0}}", "EmbDense", sparse, f"rng={rng}")
        losses.append(train(run, dataset, "reference").curves["train_loss"].values)
    assert losses[0] == pytest.approx(losses[1], rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize(
    ("entry", "model", "sparse", "says"),
    [
        ("{torch: 'torch.optim:Adam'}", "Emb", "true",
         "The gradients of emb.weight are sparse: use SparseAdam, SGD or Adagrad"),
        ("{torch: 'torch.optim:SparseAdam'}", "EmbDense", "true",
         "The gradients of emb.weight are sparse, all others dense"),
        ("{torch: 'torch.optim:SparseAdam'}", "Emb", "false", "All gradients are dense"),
        ("{torch: 'torch.optim:Adam', lr: [0.1, -1]}", "Emb", "false", "lr=-1: ValueError"),
        ("{torch: 'torch.optim:Muon'}", "EmbDense", "false", "only supports 2D parameters"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_short_error_before_training(
    case: Case, entry: str, model: str, sparse: str, says: str
) -> None:
    case("sparse")
    with pytest.raises(StudyError) as caught:
        planned(entry, model, sparse)
    (problem,) = caught.value.problems
    assert problem.path == "optimizers[0].torch"
    assert says in problem.message
    assert len(problem.message) < 500


def test_the_reason_of_a_failed_run_is_one_short_line(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimizer that fails later, with as long a message as there are numbers in a tensor."""
    folder: Path = case("sparse")
    step = torch.optim.SparseAdam.step

    def fails_later(self: Any, closure: Any = None) -> None:
        if any(state.get("step", 0) >= 4 for state in self.state.values()):
            raise ValueError(f"no\n{np.zeros(5000).tolist()}")
        step(self)

    monkeypatch.setattr(torch.optim.SparseAdam, "step", fails_later)
    with Study.from_file("sp.yaml", ["seeds=1"]).run(folder / "out") as results:
        (record,) = results.records
    assert (record.status, record.reason) == (Status.ERROR, "ValueError: no")
