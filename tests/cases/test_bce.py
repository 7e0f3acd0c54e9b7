"""One logit and labels of 0 and 1: trained by `bce`, and shapes that broadcast are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from optrial.errors import StudyError
from optrial.spec import RunSpec
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch, split_of
from tests.small import train
from tests.tolerance import FINAL_LOSS_FLOAT32, TRAJECTORY_FLOAT64


def study(dataset: Any = "data", model: Any = "OneLogit", loss: Any = "bce", **more: Any) -> Study:
    data = {"name": f"b:{dataset}"} if isinstance(dataset, str) else dataset
    user_defined = isinstance(loss, str) and loss not in ("bce", "mse", "cross_entropy")
    problem = {
        "dataset": data,
        "model": {"factory": f"b:{model}"} if isinstance(model, str) else model,
        "loss": f"b:{loss}" if user_defined else loss,
    }
    problem |= {key: more.pop(key) for key in ("metrics",) if key in more}
    keys = {
        "name": "bce",
        "batch_size": 50,
        "budget": {"epochs": 3},
        "seeds": 1,
        "precision": "float64",
        "optimizers": [{"rule": "adam", "lr": 0.01}],
    }
    return Study(problem=problem, **(keys | more))


def flat(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        outputs.flatten(), targets.flatten().double()
    )


def check(made: Study, engine: str) -> RunSpec:
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    model, losses = by_torch(run, dataset, flat, lambda p: torch.optim.Adam(p, lr=0.01))
    weights, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    for name, value in model.state_dict().items():
        assert weights[name] == pytest.approx(value.numpy(), rel=TRAJECTORY_FLOAT64)
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        wanted = flat(model(inputs), targets).item()
    assert curves["test_loss"][-1] == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)
    return run


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("model", ["OneLogit", "Flat"])
def test_one_logit(case: Case, model: str, dtype: str, engine: str) -> None:
    case("bce")
    check(study({"name": "b:data", "dtype": dtype}, model), engine)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_several_labels(case: Case, dtype: str, engine: str) -> None:
    case("bce")
    check(study({"name": "b:multi", "dtype": dtype}, {"kind": "mlp", "hidden": [8]}), engine)


def test_catalogued_models_give_one_logit(case: Case) -> None:
    case("bce")
    check(study(model={"kind": "mlp", "hidden": [8]}), "reference")


def test_the_loss_of_the_case_is_that_of_bce(case: Case) -> None:
    case("bce")
    curves = []
    for loss in ("bce", "bce_flat"):
        made = study(loss=loss, precision="float32")
        dataset = made.load_data()
        curves.append(train(made.plan(dataset).runs[0], dataset).curves["test_loss"].values)
    assert curves[0] == pytest.approx(curves[1], rel=FINAL_LOSS_FLOAT32)


@pytest.mark.parametrize(
    ("model", "dataset", "shape", "needed"),
    [
        ({"factory": "wide:Two"}, "data", "(32, 2)", "they must be (32,) or (32, 1)"),
        ({"factory": "b:OneLogit"}, "multi", "(32, 1)", "they must be (32, 3)"),
        ({"factory": "b:Flat"}, "multi", "(32,)", "they must be (32, 3)"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    case: Case, model: Any, dataset: str, shape: str, needed: str
) -> None:
    folder = case("bce")
    (folder / "wide.py").write_text("from torch import nn\ndef Two(): return nn.Linear(4, 2)\n")
    (message,) = messages(study(dataset, model))
    assert f"returned outputs of shape {shape}; {needed}" in message


def messages(made: Study) -> list[str]:
    with pytest.raises(StudyError) as caught:
        made.plan()
    return [str(problem) for problem in caught.value.problems]


BOTH = ("(32,)", "(32, 1)")
METRICS = """
import numpy as np, torch
from sklearn.metrics import mean_absolute_error


def arrays(outputs, targets): return outputs.cpu().numpy(), targets.detach().numpy()


def absolute(outputs, targets):
    o, t = arrays(outputs, targets)
    return np.abs(o[:, 0] - t).mean()
def right(outputs, targets):
    o, t = arrays(outputs, targets)
    return ((o.ravel() > 0) == (t > 0.5)).mean()
def relative(outputs, targets):
    o, t = arrays(outputs, targets)
    difference = np.exp(o.squeeze())
    return (difference / (1 + t)).mean()


def of_sklearn(outputs, targets):
    o, t = arrays(outputs, targets)
    return float(mean_absolute_error(t.ravel(), o[:, 0]))
def of_numpy(outputs, targets):
    o, t = arrays(outputs, targets)
    error = o[:, 0]
    error = np.abs(error - t[:, 0])
    error += 0
    return float(np.mean(error, axis=0))
def of_torch(outputs, targets): return (outputs - targets).abs().mean()
"""


@pytest.mark.parametrize("metric", ["huber_bad", "mae_bad"])
@pytest.mark.parametrize("loss", ["mse", "bce_flat"])
def test_a_metric_that_broadcasts_is_refused(case: Case, metric: str, loss: str) -> None:
    """Values, or a column of 0 and 1, come as (n, 1), the metric squeezes the outputs alone."""
    case("bce")
    data = {"name": "b:data", "dtype": "float32"}
    if loss == "bce_flat":  # the shape of which is wrong itself
        problems = messages(study(data, loss=loss, metrics=[f"b:{metric}"]))
        assert [text.partition(":")[0] for text in problems] == [
            "problem.loss",
            "problem.metrics[0]",
        ]
        return
    (message,) = messages(study(data, loss=loss, metrics=[f"b:{metric}"]))
    assert message.startswith("problem.metrics[0]: ")
    assert all(shape in message for shape in BOTH)
    assert "bring both to one shape" in message


def test_metrics_that_do_not_broadcast_are_right(case: Case) -> None:
    case("bce")
    data = {"name": "b:data", "dtype": "float32"}
    made = study(data, loss="mse", metrics=["b:bin_acc"])
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    model, _ = by_torch(run, dataset, functional.mse_loss, lambda p: torch.optim.Adam(p, lr=0.01))
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        wanted = ((model(inputs) > 0) == (targets > 0.5)).double().mean().item()
    _, curves = by_optrial(run, dataset, "reference")
    assert curves["test_bin_acc"][-1] == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)


LOSSES = '''
import numpy as np, torch
from torch.nn import functional as F


def minus(outputs, targets): return (outputs.squeeze(-1) - targets).square().mean()
def minus_turned(outputs, targets): return (targets - outputs.squeeze(-1)).square().mean()
def of_softplus(outputs, targets): return (F.softplus(outputs[:, 0]) * (1 - targets)).mean()
def poisson(outputs, targets): return F.poisson_nll_loss(outputs.flatten(), targets)
def smooth(outputs, targets): return F.smooth_l1_loss(outputs.flatten(), targets)
def l1(outputs, targets): return F.l1_loss(outputs.flatten(), targets)
def mse(outputs, targets): return F.mse_loss(outputs.squeeze(-1), targets)
def of_mean(outputs, targets): return F.mse_loss(outputs.mean(), targets)
def weighted(outputs, targets):
    own = F.mse_loss(outputs, targets, reduction="none").squeeze(-1)
    return (own * (1 + targets)).mean()
def where(outputs, targets): return torch.where(targets > 0, outputs.flatten(), 0.0).square().mean()
def by_sum(outputs, targets): return torch.sub(targets, outputs.sum(dim=1)).abs().mean()


def pairs(outputs, targets):
    """Every score with every other, as in ranking."""
    score, label = outputs.flatten(), targets.flatten()
    wrong = (score[:, None] - score) * (label[:, None] - label)
    return F.softplus(-wrong).mean()
def explicit(outputs, targets): return (outputs - targets.T).square().mean()
def contrastive(outputs, targets):
    likeness = outputs @ outputs.T
    same = (targets.flatten()[:, None] == targets.flatten()).to(outputs.dtype)
    return ((likeness - likeness.diag()) * same).square().mean()
def quantiles(outputs, targets):
    levels = torch.linspace(0.1, 0.9, 5)
    error = targets - outputs.expand(-1, 5)
    return torch.maximum(levels * error, (levels - 1) * error).mean()
def same_shape(outputs, targets): return (outputs - targets).square().mean()
'''


@pytest.mark.parametrize(
    "loss",
    [
        *("minus", "minus_turned", "of_softplus", "poisson", "smooth", "l1", "mse", "of_mean"),
        *("weighted", "where", "by_sum"),
    ],
)
def test_a_loss_that_broadcasts_is_refused(case: Case, loss: str) -> None:
    (case("bce") / "own.py").write_text(LOSSES)
    data = {"name": "b:data", "dtype": "float32"}
    (message,) = messages(study(data, loss={"name": f"own:{loss}"}))
    assert message.startswith(f"problem.loss: 'own:{loss}' ")
    shapes = ("()", "(32, 1)") if loss == "of_mean" else BOTH
    assert all(shape in message for shape in shapes)


@pytest.mark.parametrize("loss", ["pairs", "explicit", "contrastive", "quantiles", "same_shape"])
def test_losses_of_pairs_and_of_one_shape_are_taken(case: Case, loss: str) -> None:
    (case("bce") / "own.py").write_text(LOSSES)
    data = {"name": "b:data", "dtype": "float32"}
    made = study(data, loss={"name": f"own:{loss}"}, precision="float32")
    assert np.isfinite(
        train(made.plan().runs[0], made.load_data()).curves["test_loss"].values
    ).all()


@pytest.mark.parametrize("metric", ["absolute", "right", "relative"])
def test_arrays_that_broadcast_are_refused(case: Case, metric: str) -> None:
    (case("bce") / "arrays.py").write_text(METRICS)
    (message,) = messages(_with_metrics(f"arrays:{metric}"))
    assert message.startswith(f"problem.metrics[0]: 'arrays:{metric}' combines")
    assert all(shape in message for shape in BOTH)


def _with_metrics(*metrics: str) -> Study:
    problem = {
        "dataset": {"name": "b:data", "dtype": "float32"},
        "model": {"factory": "b:OneLogit"},
        "loss": "mse",
        "metrics": list(metrics),
    }
    return Study(
        name="arrays",
        problem=problem,
        batch_size=50,
        budget={"epochs": 1},
        seeds=1,
        optimizers=[{"rule": "sgd", "lr": 0.1}],
    )


def test_metrics_by_arrays_are_those_of_torch(case: Case) -> None:
    (case("bce") / "arrays.py").write_text(METRICS)
    names = ["of_sklearn", "of_numpy", "of_torch"]
    made = _with_metrics(*(f"arrays:{name}" for name in names), "mae")
    dataset = made.load_data()
    curves = train(made.plan(dataset).runs[0], dataset).curves
    for name in names:
        wanted = curves["test_mae"].values
        assert curves[f"test_{name}"].values == pytest.approx(wanted, rel=FINAL_LOSS_FLOAT32)


@pytest.mark.parametrize("metric", ["mse", "mae"])
def test_one_logit_has_no_squared_error_with_labels(case: Case, metric: str) -> None:
    case("bce")
    (message,) = messages(study(metrics=[metric]))
    assert message == (
        f"problem.metrics[0]: {metric} does not apply to labels of one logit; use f1."
    )


@pytest.mark.parametrize("model", ["OneLogit", "Flat"])
def test_the_accuracy_of_one_logit_has_its_threshold_at_0(case: Case, model: str) -> None:
    case("bce")
    made = study(model=model, metrics=["accuracy"])
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    trained, _ = by_torch(run, dataset, flat, lambda p: torch.optim.Adam(p, lr=0.01))
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        wanted = ((trained(inputs).flatten() > 0) == (targets > 0)).double().mean().item()
    _, curves = by_optrial(run, dataset, "reference")
    assert curves["test_accuracy"][-1] == pytest.approx(wanted)
    assert wanted > 0.7
