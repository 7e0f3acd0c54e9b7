"""Saved weights come back: as modules, and to the recorded numbers exactly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import optrial
from optrial.errors import StoreError
from optrial.saved import Evaluated
from optrial.study import Study
from tests.conftest import Command
from tests.small import small_keys

NAN = float("nan")
OPTIMIZERS = [{"rule": "adam", "lr": [0.01, 0.1]}, {"rule": "schedule_free_sgd", "lr": 1.0}]


def trained(folder: Path, **changes: Any) -> optrial.Results:
    keys = {"seeds": 1, "optimizers": OPTIMIZERS, "save": "final", "compile": "never"} | changes
    return Study(**small_keys(**keys)).run(folder)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("engine", ["stacked", "reference", "numpy"])
@pytest.mark.parametrize("save", ["final", "best"])
def test_evaluating_again_gives_the_recorded_value(engine: str, save: str, tmp_path: Path) -> None:
    on = ["validation", "test"]
    evaluate = {"every": {"steps": 7}, "on": on}
    with trained(tmp_path, engine=engine, save=save, evaluate=evaluate) as results:
        for split in on:
            evaluations = results.evaluate(split)
            assert len(evaluations) == 6  # loss and accuracy of three runs
            assert [evaluated.value for evaluated in evaluations] == [
                evaluated.recorded for evaluated in evaluations
            ]
        if save == "best":
            for evaluated in results.evaluate("validation"):
                if evaluated.metric == "validation_accuracy":
                    curve = results.store.curve(evaluated.record.run_id, evaluated.metric)
                    assert evaluated.value == curve.values.max()


@pytest.mark.parametrize(
    ("value", "recorded", "differs"),
    [(0.5, 0.5, False), (0.5, 0.25, True), (0.5, None, False), (NAN, NAN, False), (NAN, 1, True)],
)
def test_what_differs_from_the_record(value: float, recorded: float, differs: bool) -> None:
    unused: Any = None
    assert Evaluated(unused, "test_accuracy", value, recorded).differs is differs


def test_the_model_comes_back(tmp_path: Path) -> None:
    with trained(tmp_path) as results:
        record = results.records[0]
        model = results.model(record.run_id)
        test = Study(**small_keys()).load_data().splits["test"]
        outputs = model(torch.from_numpy(test.inputs))
        accuracy = (outputs.argmax(dim=1).numpy() == test.targets).mean()
        assert accuracy == pytest.approx(record.metrics["test_accuracy"])
        with pytest.raises(StoreError, match="there is no run"):
            results.model("nonsense")


def test_evaluating_needs_nothing_that_only_training_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights of a study tuned by Optuna and followed by trackers, where neither is here."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    lr = {"log": [1e-3, 1.0]}
    with trained(
        tmp_path,
        tune={"sampler": "tpe", "trials": 2, "seeds": 1},
        optimizers=[{"rule": "sgd", "lr": lr}],
        evaluate={"on": ["validation", "test"]},
    ) as results:
        recorded = {r.run_id: r.metrics["test_loss"] for r in results.reported}
        monkeypatch.setitem(sys.modules, "optuna", None)
        monkeypatch.setattr("optrial.plan.protocol.tpe_is_here", lambda: False)
        monkeypatch.setattr("optrial.study.make_plan", None)
        monkeypatch.setattr("optrial.study.checking.check_study", None)
        evaluations = results.evaluate("test")
        evaluated = {e.record.run_id: e.value for e in evaluations if e.metric == "test_loss"}
        results.model(next(iter(recorded)))
    assert evaluated == recorded


def test_without_weights_it_says_what_to_do(tmp_path: Path) -> None:
    keys = small_keys()
    with Study(**keys).run(tmp_path) as results, pytest.raises(StoreError, match="save: final"):
        results.model(results.records[0].run_id)


def test_interrupting_does_not_lose_the_best_weights(tmp_path: Path) -> None:
    """Two halves save what one whole saves."""
    from optrial.engine import Training
    from tests.small import learner_for, small_plan

    evaluate = {"every": {"steps": 5}, "on": ["validation"]}
    options = {"save": "best", "evaluate": evaluate, "optimizers": [{"rule": "adam", "lr": 0.3}]}
    plan, dataset = small_plan(**options)

    def weights(stop_at: int) -> dict[str, Any]:
        training = Training(plan.runs, learner_for(plan.runs, dataset, "stacked"))
        training.learner.chunk = 1
        for _ in training.run(lambda step: step < stop_at):
            pass
        if not training.ended:
            checkpoint = training.checkpoint()
            training = Training(plan.runs, learner_for(plan.runs, dataset, "stacked"))
            training.resume(checkpoint)
            for _ in training.run():
                pass
        arrays = training.weights(0)
        assert arrays
        return {name: array.tolist() for name, array in arrays.items()}

    assert weights(100) == weights(23)


def test_changed_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{index * 37 % 100 / 10},{index % 2}" for index in range(100)]
    Path("table.csv").write_text("\n".join(["x,y", *rows]))
    problem = {"dataset": {"name": "table.csv", "target": "y"}, "model": "mlp"}
    results = trained(tmp_path, save="final", problem=problem)
    assert results.evaluate("test")
    Path("table.csv").write_text("\n".join(["x,y", "11.5,0", *rows[1:]]))
    with pytest.raises(StoreError, match=r"'table\.csv' does not give the data that run"):
        results.evaluate("test")


class FailsOnTheTrainingSplit(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        if len(x) > 60:
            raise ValueError("too many samples")
        return self.layer(x)


def not_a_number(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float("nan"))


def infinite(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float("inf"))


def test_values_that_are_not_finite_equal_themselves(optrial: Command, tmp_path: Path) -> None:
    """Neither evaluating again nor the audit of evaluation says that they change."""
    metrics = [
        {"name": f"tests.test_saved:{name}", "whole_split": True}
        for name in ("not_a_number", "infinite")
    ]
    problem = small_keys()["problem"] | {"metrics": metrics}
    with Study(**small_keys(problem=problem, save="final")).run(tmp_path) as results:
        assert {r.facts.evaluation_difference for r in results.records} == {0.0}
        evaluations = results.evaluate("test")
        assert len(evaluations) == 3 * len(results.records)
        assert not any(evaluated.differs for evaluated in evaluations)
    assert optrial("evaluate", tmp_path).status == 0


def test_a_model_that_raises_on_a_split_is_named(tmp_path: Path) -> None:
    model = {"factory": "tests.test_saved:FailsOnTheTrainingSplit"}
    problem = {"dataset": {"name": "moons", "n_samples": 100}, "model": model}
    with Study(**small_keys(problem=problem, save="final")).run(tmp_path) as results:
        run_id = results.records[0].run_id
        with pytest.raises(StoreError, match=f"{run_id}.* on train: ValueError: too many samples"):
            results.evaluate("train")
