"""The recommendation of a study, and its line of PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optrial.analysis.recommendation import recommend
from optrial.analysis.torch_code import torch_code
from optrial.rules import RULES
from tests.report.studies import METRICS, made_up_records, made_up_view
from tests.small import small_plan

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def built(code: str) -> torch.optim.Optimizer:
    """Paste a statement behind a model, and take a step."""
    names: dict[str, Any] = {"torch": torch, "model": nn.Linear(2, 1)}
    exec(code, names)
    names["model"](torch.ones(1, 2)).sum().backward()
    optimizer: torch.optim.Optimizer = names["optimizer"]
    if "step(closure)" in code:
        optimizer.step(lambda: 0.0)
    else:
        optimizer.step()
    return optimizer


@pytest.mark.one_in(5)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", RULES)
def test_the_line_of_every_rule_can_be_pasted(name: str, decay: float) -> None:
    optimizer = {"rule": name, "lr": 0.01, "weight_decay": decay}
    plan, _ = small_plan(optimizers=[optimizer], batch_size="full")
    spec = plan.runs[0]
    code, counterpart = torch_code(spec), RULES[name].torch_optim
    if counterpart is None or (decay and spec.decay not in counterpart.decays):
        assert code == ""
        return
    if not code:  # the rule has values that the class does not
        return
    group = built(code).param_groups[0]
    assert ("step(closure)" in code) == counterpart.needs_closure
    *_, code = code.splitlines()
    assert code.startswith(f"optimizer = torch.optim.{counterpart.class_name}(model.parameters()")
    assert group["lr"] == 0.01
    assert group.get("weight_decay", 0.0) == decay


def test_classes_of_torch_and_of_a_package() -> None:
    plan, _ = small_plan(optimizers=[{"torch": "torch.optim:SGD", "lr": 0.1, "momentum": 0.9}])
    assert built(torch_code(plan.runs[0])).param_groups[0]["momentum"] == 0.9
    spec = replace(plan.runs[0], rule="package.module:Mine", hyperparameters={"lr": 0.1})
    assert torch_code(spec) == (
        "from package.module import Mine\noptimizer = Mine(model.parameters(), lr=0.1)"
    )
    spec = replace(spec, rule="notebook:Mine_0123456789ab")
    assert torch_code(spec) == "optimizer = Mine(model.parameters(), lr=0.1)"


def test_a_clear_winner_is_recommended_with_the_rates_that_do_as_well() -> None:
    (problem,) = made_up_view(made_up_records(seeds=12)).problems
    recommendation = recommend(problem)
    assert recommendation is not None
    assert recommendation.is_clear
    assert str(recommendation).startswith("Use adam at lr 0.1; any learning rate from 0.")
    assert str(recommendation).endswith("to 0.1 or above does about as well")


@pytest.mark.parametrize(("count", "more"), [(3, ""), (7, "3 more")])
def test_without_a_clear_winner_nothing_is_to_be_used(count: int, more: str) -> None:
    names = [f"mine {number}" for number in range(count)]
    generator = np.random.default_rng(0)
    records = [
        replace(record, metrics=dict(zip(METRICS, generator.random(3).tolist(), strict=True)))
        for record in made_up_records(names, (0.01, 0.1), 12)
    ]
    (problem,) = made_up_view(records).problems
    recommendation = recommend(problem)
    assert recommendation is not None
    text = str(recommendation)
    assert not recommendation.is_clear
    assert text.startswith("No clear winner yet: mine ")
    assert text.endswith(f"{more} may be used")
    assert "Use" not in text
    assert len(recommendation.settings) == count


def test_with_too_few_seeds_the_leader_is_for_now() -> None:
    """Bad optimizers are undecided too, and not recommended."""
    (problem,) = made_up_view(made_up_records(["mine", "yours"], (0.01, 0.1), 2)).problems
    recommendation = recommend(problem)
    assert recommendation is not None
    assert not recommendation.is_clear
    assert str(recommendation).startswith("No clear winner yet: for now, use yours at lr 0.1")
    assert [setting.optimizer for setting in recommendation.settings] == ["yours"]
