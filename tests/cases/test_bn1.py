"""Batch norm and a last batch of one sample: one refusal at plan, for models of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from optrial.errors import StudyError
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch
from tests.tolerance import TRAJECTORY_FLOAT64

REFUSED = (
    "batch_size: 16: the last batch of an epoch has one of 65 samples, which batch norm cannot "
    "normalise; use drop_last: true or another size."
)
MODELS = '''
import torch
from torch import nn


class OfOneNorm(nn.Module):
    """A chosen layer between two others."""

    def __init__(self, norm, channels=6, positions=1):
        super().__init__()
        self.channels, self.positions = channels, positions
        self.first, self.last = nn.Linear(2, channels * positions), nn.LazyLinear(2)
        self.norm = norm

    def forward(self, x):
        hidden = self.first(x)
        if self.positions > 1:
            hidden = hidden.reshape(len(x), self.channels, self.positions)
        return self.last(self.norm(hidden).flatten(1))


class OwnNorm(nn.BatchNorm1d):
    """Derived from batch norm, with its forward."""


class InFunction(nn.Module):
    def forward(self, x):
        mean, variance = x.new_zeros(6), x.new_ones(6)
        return nn.functional.batch_norm(x, mean, variance, training=self.training)


class Deviation(nn.Module):
    """Raises by itself where there is nothing to compare."""

    def forward(self, x):
        if self.training and len(x) < 2:
            raise ValueError("needs two samples or more")
        return (x - x.mean(0)) / (x.std(0) + 1)


def lazy(): return OfOneNorm(nn.LazyBatchNorm1d())
def derived(): return OfOneNorm(OwnNorm(6))
def frozen(): return OfOneNorm(nn.BatchNorm1d(6, affine=False).requires_grad_(False))
def without_statistics(): return OfOneNorm(nn.BatchNorm1d(6, track_running_stats=False))
def function(): return OfOneNorm(InFunction())
def nested(): return OfOneNorm(nn.Sequential(nn.Identity(), nn.Sequential(nn.BatchNorm1d(6))))
def sequence(): return OfOneNorm(nn.BatchNorm1d(6), positions=4)
def instance(): return OfOneNorm(nn.InstanceNorm1d(6, affine=True), positions=4)
def group(): return OfOneNorm(nn.GroupNorm(2, 6))
def layer(): return OfOneNorm(nn.LayerNorm(6))
def own_code(): return OfOneNorm(Deviation())


class Evaluating(nn.BatchNorm1d):
    """Stays in evaluation mode, as of a pretrained network."""

    def train(self, mode=True):
        return super().train(False)


def evaluating(): return OfOneNorm(Evaluating(6))
'''


def study(model: Any, n_samples: int = 81, **more: Any) -> Study:
    moons = {"name": "moons", "n_samples": n_samples, "test_fraction": 0.2}
    keys = {
        "name": "bn",
        "problem": {"dataset": moons, "model": model},
        "batch_size": 16,
        "budget": {"epochs": 2},
        "seeds": 1,
        "precision": "float64",
        "optimizers": [{"rule": "sgd", "lr": 0.1}],
    }
    return Study(**(keys | more))


def own(case: Case, model: str, **more: Any) -> Study:
    (case("bn1") / "norms.py").write_text(MODELS)
    return study({"factory": f"norms:{model}"}, **more)


def messages(made: Study) -> list[str]:
    with pytest.raises(StudyError) as caught:
        made.plan()
    return [str(problem) for problem in caught.value.problems]


def test_the_study_of_the_case_is_refused(case: Case) -> None:
    case("bn1")
    sizes = Study.from_file("bn.yaml").load_data().sizes
    last = sizes["train"] % 16
    (message,) = messages(Study.from_file("bn.yaml")) if last == 1 else (REFUSED,)
    assert message == REFUSED


@pytest.mark.parametrize(
    "model",
    ["lazy", "derived", "frozen", "without_statistics", "function", "nested"],
)
def test_any_batch_norm_is_refused(case: Case, model: str) -> None:
    assert messages(own(case, model, n_samples=82)) == [REFUSED]


def test_a_catalogued_model_is_refused_alike(case: Case) -> None:
    case("bn1")
    model = {"kind": "mlp", "hidden": [8], "batch_norm": [False, True]}
    assert messages(study(model, n_samples=82)) == [REFUSED]


@pytest.mark.parametrize("model", ["sequence", "instance", "group", "layer", "evaluating"])
def test_norms_of_more_than_one_value_are_trained(case: Case, model: str) -> None:
    made = own(case, model, n_samples=82)
    dataset = made.load_data()
    (run,) = made.plan(dataset).runs
    check(run, dataset)


def check(run: Any, dataset: Any, engine: str = "reference") -> None:
    wanted, losses = by_torch(
        run, dataset, functional.cross_entropy, lambda p: torch.optim.SGD(p, lr=0.1)
    )
    weights, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    for name, value in wanted.state_dict().items():
        assert weights[name] == pytest.approx(value.numpy(), rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("way_out", [{"drop_last": True}, {"batch_size": 13}, {"batch_size": 32}])
def test_the_ways_out_train(case: Case, way_out: dict[str, Any], engine: str) -> None:
    made = own(case, "derived", n_samples=82, **way_out)
    if way_out == {"batch_size": 32}:  # which leaves one sample as well
        assert messages(made) == [REFUSED.replace("16:", "32:")]
        return
    dataset = made.load_data()
    (run,) = made.plan(dataset).runs
    check(run, dataset, engine)


def test_sampling_with_replacement_has_no_last_batch(case: Case) -> None:
    made = own(case, "derived", n_samples=82, sampling="with_replacement")
    assert made.plan().runs


def test_batches_of_one_sample_are_refused(case: Case) -> None:
    (message,) = messages(own(case, "derived", batch_size=1))
    assert message.startswith("batch_size: 1: a batch has one of ")
    assert "which batch norm cannot normalise; use a larger one" in message


def test_every_size_of_a_grid_is_tried(case: Case) -> None:
    problems = messages(own(case, "derived", n_samples=82, batch_size=[16, 20, 32]))
    assert problems == [REFUSED, REFUSED.replace("16:", "32:")]


@pytest.mark.parametrize("rng", ["streams", "script"])
def test_what_fails_by_itself_on_a_small_batch_is_refused(case: Case, rng: str) -> None:
    (message,) = messages(own(case, "own_code", n_samples=82, rng=rng))
    assert message == (
        "batch_size: 16: the last batch of an epoch has one of 65 samples, on which "
        "'norms:own_code' raised ValueError: needs two samples or more; use drop_last: true or "
        "another size."
    )
