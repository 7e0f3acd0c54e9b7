"""Dropout that a model leaves on in evaluation: the same numbers again, and a finding."""

from __future__ import annotations

import pytest
import torch

from optrial import Study
from tests.cases.conftest import Case
from tests.small import small_keys


def sometimes_infinite(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    del targets
    largest = outputs.abs().amax(-1)
    return torch.where(largest > 1, torch.inf, largest)  # few are before training


def test_evaluation_that_draws_is_seeded_and_named(case: Case) -> None:
    case("ts")
    metrics = []
    for name in ("first", "second"):
        study = Study.from_file("m.yaml", ["problem.model.factory=ts:Drop", f"name={name}"])
        with study.run() as results:
            metrics.append(results.records[0].metrics)
            audit = results.audit()
    assert metrics[0] == metrics[1]
    assert "E01" in {finding.rule for finding in audit.findings}


@pytest.mark.parametrize("rng", ["script", "streams"])
def test_evaluation_that_draws_is_named_whatever_seeds_it(case: Case, rng: str) -> None:
    case("ts")
    study = Study.from_file("m.yaml", ["problem.model.factory=ts:Drop", f"rng={rng}"])
    with study.run() as results:
        (record,) = results.records
        assert record.facts.evaluation_difference > 0.01


@pytest.mark.filterwarnings("error")
def test_a_value_that_is_infinite_twice_does_not_differ(case: Case) -> None:
    folder = case("ts")
    problem = {"dataset": "moons", "metrics": [f"{__name__}:sometimes_infinite"]}
    evaluate = {"on": ["test"], "batch_metrics": True}
    keys = {"evaluate": evaluate, "budget": {"epochs": 5}, "seeds": 1}
    keys["optimizers"] = [{"rule": "sgd", "lr": 1.0}]
    with Study(**small_keys(problem=problem, **keys)).run(folder) as results:
        record = results.records[0]
        assert record.facts.evaluation_difference == 0
        names = ("train_sometimes_infinite_epoch", "test_sometimes_infinite")
        assert record.not_finite == dict.fromkeys(names, "it is inf")
        for name in (*names, "train_sometimes_infinite"):
            assert results.store.curve(record.run_id, name).values[-1] == torch.inf
