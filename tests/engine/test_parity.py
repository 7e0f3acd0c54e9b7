"""The comparison with `torch.optim` that a training makes of itself."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from optrial.engine.checks.parity import parity, parity_is_cheap
from optrial.rules import RULES
from tests.small import small_plan
from tests.tolerance import RULE_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own


@pytest.mark.parametrize("name", RULES)
def test_every_rule_with_a_counterpart_agrees_with_it(name: str) -> None:
    optimizer = {"rule": name, "lr": 0.01, "weight_decay": 0.1}
    plan, _ = small_plan(optimizers=[optimizer], batch_size="full")
    counterpart = RULES[name].torch_optim
    certificate = parity(plan.runs[0])
    if certificate is None:
        assert counterpart is None or plan.runs[0].decay not in counterpart.decays
        return
    assert counterpart is not None
    assert certificate.against == f"torch.optim.{counterpart.class_name}"
    assert certificate.difference < RULE_FLOAT64 < certificate.tolerance
    assert torch.get_default_dtype() == torch.float32, "put back"


def test_other_hyperparameters_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counterpart that is given another rate is told apart."""
    plan, _ = small_plan(optimizers=[{"rule": "sgd", "lr": 0.1}])
    right = RULES["sgd"].torch_optim
    assert right is not None
    wrong = replace(right, keywords=lambda lr: right.keywords(lr=lr * (1 + 1e-6)))
    rule = replace(RULES["sgd"], torch_optim=wrong)
    monkeypatch.setattr("optrial.engine.checks.parity.rule_of", lambda *_: rule)
    certificate = parity(plan.runs[0])
    assert certificate is not None
    assert certificate.difference > certificate.tolerance


def test_numbers_that_overflow_are_a_difference_json_can_hold() -> None:
    plan, _ = small_plan(optimizers=[{"rule": "sgd", "lr": 1e308, "weight_decay": 1e10}])
    certificate = parity(plan.runs[0])
    assert certificate is not None
    assert certificate.difference > 1e300


def test_classes_of_torch_are_not_compared_with_themselves() -> None:
    plan, _ = small_plan(optimizers=[{"torch": "torch.optim:SGD", "lr": 0.1}])
    assert parity(plan.runs[0]) is None


def test_short_trainings_are_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert not parity_is_cheap(10.0)
    assert parity_is_cheap(1000.0)
    monkeypatch.setitem(sys.modules, "torch._dynamo", torch)
    assert parity_is_cheap(10.0)
