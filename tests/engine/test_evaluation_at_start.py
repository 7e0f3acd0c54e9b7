"""Evaluation of the initial weights, at step 0, in every engine."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from optrial.analysis.audit.catalogue import UNTRAINED
from optrial.engine import Training
from optrial.errors import StoreError, StudyError
from optrial.models import build_model
from optrial.report.paper.setup import setup_of
from optrial.results import load
from optrial.spec import Status
from optrial.study import Study
from tests.conftest import Command
from tests.small import learner_for, small_keys, small_plan, train
from tests.tolerance import TRAJECTORY_FLOAT64

ENGINES = ["reference", "stacked", "numpy"]
WEIGHTS = "initial weights."
START = {"every": {"steps": 10}, "start": True}


@pytest.mark.parametrize("engine", ENGINES)
def test_initial_weights_are_evaluated_and_training_is_the_same(engine: str) -> None:
    plan, dataset = small_plan(precision="float64", evaluate=START)
    plain, _ = small_plan(precision="float64")
    started, usual = train(plan.runs[0], dataset, engine), train(plain.runs[0], dataset, engine)
    run, test = plan.runs[0], dataset.splits["test"]
    model = build_model(run.model, run.model_arguments, input_shape=(2,), classes=2, seed=run.seed)
    with torch.no_grad():
        outputs = model.double()(torch.from_numpy(test.inputs).double())
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(test.targets))
    curve = started.curves["test_loss"]
    assert curve.steps.tolist() == [0, 10, 20, 30, 40]
    assert curve.values[0] == pytest.approx(loss.item(), rel=TRAJECTORY_FLOAT64)
    for metric, other in usual.curves.items():
        points = started.curves[metric].steps > 0
        assert np.array_equal(started.curves[metric].values[points], other.values)
    assert started.facts.parameters_sha256 == usual.facts.parameters_sha256


def test_ids_change_only_where_it_is_used() -> None:
    plain, explicit, started = (
        small_plan(evaluate={"every": {"steps": 10}} | extra)[0].runs[0].run_id
        for extra in ({}, {"start": False}, {"start": True})
    )
    assert plain == explicit != started


def test_a_resumed_run_evaluates_its_start_once() -> None:
    plan, dataset = small_plan(evaluate=START)
    first = Training(plan.runs[:1], learner_for(plan.runs[:1], dataset))
    for _ in islice(first.run(), 1):
        pass
    (begun,) = first.segments()
    second = Training(plan.runs[:1], learner_for(plan.runs[:1], dataset))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    (rest,) = second.segments()
    steps = [*begun.curves["test_loss"].steps, *rest.curves["test_loss"].steps]
    assert steps == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("engine", ENGINES)
def test_no_steps_leave_the_initial_weights(engine: str, tmp_path: Path) -> None:
    keys = small_keys(
        budget={"steps": 0}, evaluate=START, save="final", engine=engine, seeds=[0, 1]
    )
    with Study(**keys).run(tmp_path, device="cpu") as results:
        records = results.records
        assert [(record.status, record.step) for record in records] == [(Status.DONE, 0)] * 2
        assert all(record.metrics["test_loss"] is not None for record in records)
        assert not any(evaluated.differs for evaluated in results.evaluate(device="cpu"))
        initial = build_model("mlp", {"hidden": [8]}, input_shape=(2,), classes=2, seed=0)
        saved = results.model(records[0].run_id)
    for one, other in zip(initial.parameters(), saved.parameters(), strict=True):
        assert torch.equal(one, other)
    with load(tmp_path) as results:
        page = results.report(tmp_path / "page.html").read_text("utf-8")
        assert "Nothing was trained" in page
        assert "Values of the initial weights" in page
        assert results.audit() is not None
        assert results.figures(tmp_path / "figures")


def test_initial_weights_are_no_outcome(tmp_path: Path) -> None:
    """Settings contend, with a validation split that could choose, and nothing is told apart."""
    rules = [{"rule": rule, "lr": [0.1, 0.2]} for rule in ("sgd", "adam")]
    evaluate = START | {"on": ["validation", "test"]}
    keys = small_keys(budget={"steps": 0}, evaluate=evaluate, seeds=[0, 1], optimizers=rules)
    with Study(**keys).run(tmp_path, device="cpu") as results:
        accuracies = {record.seed: record.metrics["test_accuracy"] for record in results.records}
        mean = 100 * sum(value or 0 for value in accuracies.values()) / len(accuracies)
        (problem,) = results.view().problems
        answer = problem.not_compared
        start, shown, end = re.split(r"(\d[\d.]*)", answer, maxsplit=1)
        assert start == "Nothing was trained: "
        assert end == f" % is the test accuracy of the {WEIGHTS}"
        assert float(shown) == pytest.approx(mean, abs=0.5)
        assert results.comparisons() == [answer]
        asked = [results.best, results.recommendation, results.best_model]
        asked += [partial(results.compare, "sgd lr=0.1", "adam lr=0.2")]
        for question in asked:
            with pytest.raises(StoreError, match=re.escape(answer)):
                question()
        assert not results.view().ranks
        assert not any(summary.best for summary in problem.summaries)
        setup = setup_of(results.view(), problem)
        assert setup["evaluation"] == f"of the {WEIGHTS.removesuffix('.')}"
        report = results.audit()
        assert not {finding.rule for finding in report.findings} - UNTRAINED
        assert not {"B01", "B03", "B04", "B05"} & UNTRAINED
        assert report.checked <= len(UNTRAINED)


def test_a_lone_optimizer_without_steps_is_not_recommended(tmp_path: Path) -> None:
    keys = small_keys(budget={"steps": 0}, evaluate=START)
    with Study(**keys).run(tmp_path, device="cpu") as results:
        for question in (results.best, results.recommendation):
            with pytest.raises(StoreError, match="Nothing was trained"):
                question()


def test_the_plan_says_when_weights_are_evaluated(tmp_path: Path, optrial: Command) -> None:
    study = tmp_path / "study.json"
    for steps, text in ((0, "of the initial weights"), (20, "before training and every 10 steps")):
        rules = [{"rule": rule, "lr": 0.1} for rule in ("sgd", "adam")]
        keys = small_keys(budget={"steps": steps}, evaluate=START, optimizers=rules)
        study.write_text(json.dumps(keys), "utf-8")
        plan = optrial("plan", study)
        assert f"{text} on test" in plan.out
        assert ("cannot separate" in plan.err) == bool(steps)


def test_best_weights_may_be_the_initial_ones(tmp_path: Path) -> None:
    keys = small_keys(evaluate=START, save="best", optimizers=[{"rule": "sgd", "lr": 1e3}])
    with Study(**keys).run(tmp_path, device="cpu") as results:
        (record,) = results.records
        (curve,) = results.store.curves("validation_accuracy").values()
        best = int(curve.steps[curve.values.argmax()])
    assert record.facts.saved_step == best


def test_no_steps_need_an_evaluation() -> None:
    with pytest.raises(StudyError, match=r"budget.steps: 0: trains nothing.*start: true"):
        Study(**small_keys(budget={"steps": 0}))
    tuned = {"tune": {"seeds": 1}, "claims": ["sgd is best on test_accuracy"]}
    with pytest.raises(StudyError, match=r"budget.steps: 0: .*tune: null and claims: \[\]\."):
        Study(**small_keys(budget={"steps": 0}, evaluate=START, **tuned))
    with pytest.raises(StudyError, match="budget"):
        Study(**small_keys(budget={"steps": -1}, evaluate=START))


def test_trials_of_tuning_do_not_evaluate_their_start() -> None:
    plan, _ = small_plan(
        evaluate=START, tune={"seeds": 1}, optimizers=[{"rule": "sgd", "lr": [0.1, 0.2]}]
    )
    assert not any(run.evaluate_start for run in plan.runs)
