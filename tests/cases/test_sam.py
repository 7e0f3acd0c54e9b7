"""Optimizers that need a closure or gradients that can be differentiated."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from optrial.errors import StudyError
from optrial.plan import Plan
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.loops import Step, Trained, gradients_first, plain, train_plainly, with_closure
from tests.small import learner_for, train
from tests.tolerance import TRAJECTORY_FLOAT64

po = pytest.importorskip("pytorch_optimizer")


def planned(**entry: Any) -> tuple[Plan, Any]:
    settings = [f"optimizers=[{entry}]".replace("True", "true"), "precision=float64"]
    study = Study.from_file("s.yaml", settings)
    dataset = study.load_data()
    return study.plan(dataset), dataset


def compared(entry: dict[str, Any], make: Any, step: Step, **options: Any) -> None:
    """Compare losses and weights with those of a plain loop."""
    plan, dataset = planned(**entry)
    (run,) = plan.runs
    wanted: Trained = train_plainly(run, dataset, make, step, **options)
    learner = learner_for([run], dataset)
    learner.start(1)
    losses = learner.advance(run.steps).losses[:, 0]
    assert losses == pytest.approx(wanted.losses, rel=TRAJECTORY_FLOAT64)
    for name, value in learner.weights(0).items():
        assert value == pytest.approx(wanted.weights[name], rel=TRAJECTORY_FLOAT64)


def of_package(params: Any) -> Any:
    return po.SAM(list(params), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)


def of_package_without_momentum(params: Any) -> Any:
    return po.SAM(list(params), torch.optim.SGD, rho=0.05, lr=0.1)


def own(params: Any) -> Any:
    return importlib.import_module("opts").OwnSAM(params)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("entry", "make", "step"),
    [
        ({"torch": "opts:sam", "closure": True}, of_package, gradients_first),
        ({"torch": "opts:OwnSAM", "closure": True}, own, with_closure),
        ({"torch": "opts:OwnSAMRequired"}, own, with_closure),
        ({"torch": "opts:KoSAM"}, of_package_without_momentum, gradients_first),
        ({"torch": "opts:KoSAM0"}, of_package_without_momentum, gradients_first),
        ({"torch": "torch.optim:LBFGS", "lr": 0.1}, lambda p: torch.optim.LBFGS(p, lr=0.1),
         with_closure),
        ({"torch": "torch.optim:Adam", "closure": True}, torch.optim.Adam, plain),
    ],
)  # fmt: skip
def test_sam_is_sam(
    case: Case, entry: dict[str, Any], make: Callable[[Any], Any], step: Step
) -> None:
    case("sam")
    compared(entry, make, step)


def test_the_two_sams_differ_from_gradient_descent(case: Case) -> None:
    """A SAM that was given no gradient would be its base optimizer, without a word."""
    case("sam")
    losses = [
        train(plan.runs[0], dataset).curves["train_loss"].values
        for plan, dataset in (
            planned(torch="opts:sam", closure=True, momentum=0.0),
            planned(torch="opts:KoSAM0"),
            planned(torch="torch.optim:SGD", lr=0.1),
        )
    ]
    assert np.array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])


@pytest.mark.parametrize("name", ["AdaHessian", "SophiaH"])
def test_second_order_optimizers_differentiate_gradients(case: Case, name: str) -> None:
    case("sam")
    entry = {"torch": f"pytorch_optimizer:{name}", "lr": 0.01, "create_graph": True}
    compared(entry, lambda p: getattr(po, name)(p, lr=0.01), plain, create_graph=True)


@pytest.mark.filterwarnings("error::UserWarning")
def test_second_order_optimizers_leave_no_graph_behind(case: Case) -> None:
    case("sam")
    plan, dataset = planned(torch="pytorch_optimizer:AdaHessian", create_graph=True)
    learner = learner_for(plan.runs, dataset)
    learner.start(1)
    learner.advance(3)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


@pytest.mark.parametrize(
    ("entry", "path", "says"),
    [
        ({"torch": "opts:sam"}, "torch", "SAM requires closure; set closure: true."),
        ({"torch": "opts:OwnSAM"}, "torch", "SAM needs a closure; set closure: true."),
        ({"torch": "pytorch_optimizer:SophiaH"}, "torch", "set create_graph: true."),
        ({"torch": "pytorch_optimizer:AdaHessian", "closure": True}, "torch",
         "set create_graph: true."),
        ({"torch": "pytorch_optimizer:SAM"}, "torch", "Write a function of the parameters"),
        ({"rule": "sgd", "closure": True}, "closure", "applies to torch"),
        ({"rule": "sgd", "create_graph": True}, "create_graph", "applies to torch"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_error_before_training(
    case: Case, entry: dict[str, Any], path: str, says: str
) -> None:
    case("sam")
    with pytest.raises(StudyError) as caught:
        planned(**entry)
    (problem,) = caught.value.problems
    assert problem.path == f"optimizers[0].{path}"
    assert says in problem.message
    assert len(problem.message) < 400


def test_create_graph_needs_fresh_gradients(case: Case) -> None:
    case("sam")
    entry = "optimizers=[{torch: 'pytorch_optimizer:SophiaH', create_graph: true}]"
    with pytest.raises(StudyError, match="needs zero_grad: true"):
        Study.from_file("s.yaml", [entry, "zero_grad=false"])
