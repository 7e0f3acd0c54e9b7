"""Trainings with each loss against a plain PyTorch script, in every engine."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional

from optrial.data import Dataset
from optrial.engine import StackedEngine, Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import arrange
from optrial.spec import RunSpec
from tests.small import small_plan, train, train_stack
from tests.tolerance import SPLIT_METRIC, TRAJECTORY_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 3))
COUNTS = RNG.poisson(3.0, size=(60,)).astype(float)


def counts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"train": (INPUTS[:45], COUNTS[:45]), "test": (INPUTS[45:], COUNTS[45:])}


def several_labels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    answers = (INPUTS @ RNG.normal(size=(3, 2)) > 0.5).astype(int)
    return {"train": (INPUTS[:45], answers[:45]), "test": (INPUTS[45:], answers[45:])}


OF_COUNTS = {"name": f"{__name__}:counts", "targets": "values"}
STANDARDIZED = OF_COUNTS | {"standardize_targets": True}


def tagged() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tokens with a tag each; a third of the tags do not count."""
    tokens = RNG.integers(0, 7, (60, 4))
    tags = np.where(RNG.random((60, 4)) < 1 / 3, -1, (tokens + np.arange(4)) % 3)
    tags[:, 0] = tokens[:, 0] % 3
    return {"train": (tokens[:45], tags[:45]), "test": (tokens[45:], tags[45:])}


MLP = {"kind": "mlp", "hidden": [5], "activation": "tanh"}
TAGGER = {"kind": "transformer", "architecture": "encoder", "pool": "none", "width": 4,
          "heads": 1, "depth": 1}  # fmt: skip


def plan_of(
    dataset: object, loss: object, judges: list[str], **more: Any
) -> tuple[tuple[RunSpec, ...], Dataset]:
    tokens = isinstance(dataset, dict) and dataset.get("inputs") == "tokens"
    plan, data = small_plan(
        problem={
            "dataset": dataset,
            "model": TAGGER if tokens else MLP,
            "loss": loss,
            "metrics": judges,
        },
        batch_size=10,
        **{
            "budget": {"steps": 24},
            "evaluate": {"every": {"steps": 12}, "on": ["test"]},
            "precision": "float64",
            "seeds": [0, 1],
            "optimizers": [{"rule": "sgd", "lr": [0.05, 0.1]}],
        }
        | more,
    )
    return arrange(plan.runs), data


def script(run: RunSpec, data: Dataset, loss: Any) -> tuple[list[float], Tensor, Tensor]:
    """Losses of the batches, and outputs and targets of the test split, of a plain loop."""
    model = build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        vocabulary=data.vocabulary, seed=run.seed,
    ).double()  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), run.hyperparameters["lr"])
    splits = tensor_splits(data, "float64", "cpu")
    train, test = splits["train"], splits["test"]
    losses = []
    batches = batch_order(run, len(train)).batches(1)
    for _ in range(run.steps):
        rows = np.concatenate(list(islice(batches, run.accumulate)))
        optimizer.zero_grad()
        value = loss(model(train.inputs[rows]), train.targets[rows])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    with torch.no_grad():
        return losses, model(test.inputs), test.targets


def pinball(levels: list[float]) -> Any:
    q = torch.tensor(levels, dtype=torch.float64)
    return lambda o, t: torch.maximum(q * (t - o), (q - 1) * (t - o)).mean()


def weighted(outputs: Tensor, labels: Tensor) -> Tensor:
    return nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))(
        outputs, labels
    )


def smoothed_tags(outputs: Tensor, tags: Tensor) -> Tensor:
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    return nn.CrossEntropyLoss(weight, ignore_index=int(tags.min()), label_smoothing=0.1)(
        outputs.flatten(0, 1), tags.flatten()
    )


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    """Equation 5 of Lin et al. 2017, label by label."""
    alpha = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)[labels]
    p = outputs.softmax(1)[torch.arange(len(labels)), labels]
    return (-alpha * (1 - p) ** 1.5 * p.log()).mean()


def multi_label(outputs: Tensor, targets: Tensor) -> Tensor:
    weight = torch.tensor([2.0, 0.5], dtype=torch.float64)
    return nn.BCEWithLogitsLoss(pos_weight=weight)(outputs, targets)


CASES: dict[str, tuple[Any, Any, Any, str]] = {
    "mae": (OF_COUNTS, "mae", functional.l1_loss, "reference stacked numpy"),
    "huber": (
        OF_COUNTS,
        {"name": "huber", "delta": 0.5},
        nn.HuberLoss(delta=0.5),
        "reference stacked numpy",
    ),
    "poisson": (OF_COUNTS, "poisson", nn.PoissonNLLLoss(), "reference stacked numpy"),
    "quantile": (
        OF_COUNTS,
        {"name": "quantile", "q": [0.1, 0.5, 0.9]},
        pinball([0.1, 0.5, 0.9]),
        "reference stacked compiled",
    ),
    "weight": (
        "wine",
        {"name": "cross_entropy", "weight": [1.0, 2.0, 4.0]},
        weighted,
        "reference stacked compiled",
    ),
    "pos_weight": (
        f"{__name__}:several_labels",
        {"name": "bce", "pos_weight": [2.0, 0.5]},
        multi_label,
        "reference stacked",
    ),
    "focal": (
        "wine",
        {"name": "focal", "gamma": 1.5, "alpha": [0.2, 0.3, 0.5]},
        focal,
        "reference stacked compiled",
    ),
    "smoothed tags": (
        {"name": f"{__name__}:tagged", "inputs": "tokens"},
        {
            "name": "cross_entropy",
            "weight": [1.0, 2.0, 4.0],
            "ignore_index": -1,
            "label_smoothing": 0.1,
        },
        smoothed_tags,
        "reference stacked compiled",
    ),
}
ACCUMULATED = [case for case in CASES if case != "mae"]  # whose mean is that of huber


@pytest.mark.parametrize(
    ("case", "engine"),
    [
        pytest.param(case, engine, marks=pytest.mark.slow if engine == "compiled" else ())
        for case, (*_, engines) in CASES.items()
        for engine in engines.split()
    ],
)
def test_training_is_that_of_a_plain_script(case: str, engine: str) -> None:
    check_training(case, engine, accumulate=1)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("case", ACCUMULATED)
def test_accumulated_batches_of_unequal_size_are_one_batch(case: str, engine: str) -> None:
    check_training(case, engine, accumulate=5)


def check_training(case: str, engine: str, accumulate: int) -> None:
    dataset, loss, function, _ = CASES[case]
    runs, data = plan_of(
        dataset, loss, [], accumulate=accumulate, budget={"steps": 24 // accumulate}
    )
    if engine in ("stacked", "compiled"):
        splits = tensor_splits(data, "float64", "cpu")
        training = Training(runs, StackedEngine(runs, data, splits, compiled=engine == "compiled"))
        for _ in training.run():
            pass
        segments = training.segments()
    else:
        segments = [train(run, data, engine) for run in runs[:2]]
    for run, segment in zip(runs, segments, strict=False):
        losses, outputs, targets = script(run, data, function)
        trained = segment.curves["train_loss"].values
        assert trained == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        final = float(function(outputs, targets))
        assert segment.curves["test_loss"].values[-1] == pytest.approx(
            final, rel=TRAJECTORY_FLOAT64
        )


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_metrics_of_counts_are_those_of_the_expected_counts(engine: str) -> None:
    judges = ["mae", "rmse", "poisson_deviance"]
    runs, data = plan_of(OF_COUNTS, "poisson", judges)
    segment = train(runs[0], data, engine)
    _, outputs, targets = script(runs[0], data, nn.PoissonNLLLoss())
    expected = outputs.exp()
    known = [
        metrics.mean_absolute_error(targets, expected),
        metrics.root_mean_squared_error(targets, expected),
        metrics.mean_poisson_deviance(targets.ravel(), expected.ravel()),
    ]
    values = [segment.curves[f"test_{name}"].values[-1] for name in judges]
    assert values == pytest.approx(known, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_metrics_of_standardized_values_are_in_the_units_of_the_data(engine: str) -> None:
    judges = ["mse", "mae", "rmse", "median_absolute_error", "max_error", "r2"]
    runs, data = plan_of(STANDARDIZED, "mse", judges)
    (segment, *_) = train_stack(runs[:1], data, engine)
    losses, outputs, _ = script(runs[0], data, functional.mse_loss)
    predicted = outputs * COUNTS[:45].std() + COUNTS[:45].mean()
    known = [
        metrics.mean_squared_error(COUNTS[45:], predicted),
        metrics.mean_absolute_error(COUNTS[45:], predicted),
        metrics.root_mean_squared_error(COUNTS[45:], predicted),
        metrics.median_absolute_error(COUNTS[45:], predicted),
        metrics.max_error(COUNTS[45:], predicted),
        metrics.r2_score(COUNTS[45:], predicted),
    ]
    values = [segment.curves[f"test_{name}"].values[-1] for name in judges]
    assert values == pytest.approx(known, rel=SPLIT_METRIC["float32"])  # targets are float32
    assert segment.curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


def test_only_runs_whose_numbers_depend_on_the_units_have_other_ids() -> None:
    for judges, in_units in (["r2"], False), (["r2", "mae"], True):
        runs, _ = plan_of(STANDARDIZED, "mse", judges)
        assert runs[0].original_units is in_units
    assert plan_of(OF_COUNTS, "mse", ["mae"])[0][0].original_units is False


def one_class() -> dict[str, Any]:
    return dict.fromkeys(("train", "test"), (np.ones((16, 2), np.float32), np.zeros(16, int)))


@pytest.mark.parametrize(
    ("dataset", "loss", "judges", "words"),
    [
        (STANDARDIZED, "poisson", [], "standardize_targets: false"),
        ("moons", "poisson", [], "values to predict"),
        ("moons", {"name": "quantile", "q": [0.1, 0.9]}, [], "values to predict"),
        (OF_COUNTS, {"name": "quantile", "q": [0.1, 0.9]}, ["mae"], "add 0.5 to q"),
        ("diabetes", "focal", [], "no classes"),
        ("wine", {"name": "cross_entropy", "weight": [1, 2]}, [], "2 numbers for 3 classes"),
        ("wine", {"name": "focal", "alpha": 0.3}, [], "there are 3; give a list"),
        (f"{__name__}:one_class", "cross_entropy", [], "two classes or more, and the training"),
    ],
)
def test_losses_that_do_not_suit_the_data_are_refused(
    dataset: object, loss: object, judges: list[str], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        plan_of(dataset, loss, judges)


@pytest.mark.parametrize("loss", ["bce", {"name": "cross_entropy", "weight": [1, 2]}])
def test_the_numpy_engine_refuses_other_losses(loss: object) -> None:
    with pytest.raises(StudyError, match="numpy"):
        small_plan(problem={"dataset": "moons", "loss": loss}, engine="numpy")
