from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.config import parse_study
from optrial.engine import Training, certificates
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.plan import estimate, pack, planned_models, targets_wanted
from optrial.spec import RunSpec
from optrial.study import Study
from tests.small import MOONS, learner_for, small_keys, small_plan, train
from tests.tolerance import ESTIMATE_FACTOR


def settings(**changes: Any) -> list[tuple[str, str]]:
    plan, _ = small_plan(**changes)
    return [(run.optimizer, plan.settings[run.run_id]) for run in plan.runs]


def test_the_grid_is_expanded_in_the_order_written() -> None:
    optimizers = [
        {"rule": "momentum", "lr": [0.1, 0.01], "momentum": [0.5, 0.9]},
        {"name": "mine", "rule": "adam", "lr": {"log": [0.001, 0.1], "points": 3}},
    ]
    assert settings(optimizers=optimizers) == [
        ("momentum", "lr=0.1 momentum=0.5"),
        ("momentum", "lr=0.1 momentum=0.9"),
        ("momentum", "lr=0.01 momentum=0.5"),
        ("momentum", "lr=0.01 momentum=0.9"),
        ("mine", "lr=0.001"),
        ("mine", "lr=0.01"),
        ("mine", "lr=0.1"),
    ]


def test_batch_size_and_model_may_be_axes() -> None:
    model = {"kind": "mlp", "hidden": [[4], [8, 4]], "dropout": [0.0, 0.5]}
    shown = settings(
        problem={"dataset": "moons", "model": model}, batch_size=[16, "full"], seeds=[7]
    )
    assert len(shown) == 8
    assert shown[0] == ("sgd", "lr=0.1 batch_size=16 hidden=[4] dropout=0")
    assert shown[-1] == ("sgd", "lr=0.1 batch_size=full hidden=[8,4] dropout=0.5")


def test_a_list_that_is_a_value_is_no_axis() -> None:
    plan, _ = small_plan(problem={"dataset": "moons", "model": {"kind": "mlp", "hidden": [8, 4]}})
    (run,) = plan.runs
    assert run.model_arguments["hidden"] == [8, 4]


def test_seeds_are_paired_across_optimizers() -> None:
    plan, _ = small_plan(seeds=[3, 5], optimizers=[{"rule": "sgd"}, {"rule": "adam"}])
    assert [(run.optimizer, run.seed) for run in plan.runs] == [
        ("sgd", 3),
        ("sgd", 5),
        ("adam", 3),
        ("adam", 5),
    ]


def test_epochs_become_steps() -> None:
    plan, _ = small_plan(batch_size=50, budget={"epochs": 3}, evaluate={"every": {"epochs": 2}})
    (run,) = plan.runs
    assert (run.steps_per_epoch, run.steps, run.evaluate_every) == (4, 12, 8)
    plan, _ = small_plan(batch_size=50, budget={"epochs": 3}, drop_last=True)
    assert plan.runs[0].steps == 9


@pytest.mark.parametrize(
    "options", [{}, {"drop_last": True}, {"sampling": "with_replacement"}, {"accumulate": 2}]
)
def test_a_budget_of_samples_is_the_fewest_steps_that_see_them(options: dict[str, Any]) -> None:
    for samples in (1, 50, 51, 160, 161, 170, 480, 1000):
        plan, data = small_plan(batch_size=50, budget={"samples": samples}, **options)
        (run,) = plan.runs
        batches = batch_order(run, data.batched.size).batches()
        sizes = [len(next(batches)) for _ in range(run.steps * run.accumulate)]
        assert sum(sizes[: -run.accumulate]) < samples <= sum(sizes)


def test_defaults_are_those_of_the_rule() -> None:
    plan, _ = small_plan(optimizers=[{"rule": "adamw"}, {"rule": "adam"}])
    adamw, adam = plan.runs
    assert (adamw.weight_decay, adamw.decay) == (0.01, "decoupled")
    assert (adam.weight_decay, adam.decay) == (0.0, "l2")
    assert adam.hyperparameters == {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def test_ids_are_stable_across_versions_of_optrial() -> None:
    """A change of these means that nothing stored is found again: raise the format, and say so."""
    plan, _ = small_plan()
    # Generated data may differ in the last bit between machines; everything else may not.
    run = replace(plan.runs[0], dataset_sha256="0" * 64)
    assert run.run_id == "3b4ca017d5ff"


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"steps": 41}},
        {"seeds": [1]},
        {"batch_size": 31},
        {"precision": "float64"},
        {"engine": "numpy"},
        {"rng": "script"},
        {"sampling": "with_replacement"},
        {"shuffle": False},
        {"drop_last": True},
        {"evaluate": {"every": {"steps": 11}}},
        {"evaluate": {"every": {"steps": 10}, "batch_metrics": True}},
        {"optimizers": [{"rule": "sgd", "lr": 0.2}]},
        {"optimizers": [{"rule": "sgd", "lr": 0.1, "weight_decay": 0.1}]},
        {"optimizers": [{"rule": "sgd", "lr": 0.1, "name": "other"}]},
        {"problem": {"dataset": {"name": "moons", "n_samples": 201}, "model": "mlp"}},
        {"problem": {"dataset": {"name": "moons", "n_samples": 200, "noise": 0.1}, "model": "mlp"}},
    ],
)
def test_ids_change_with_everything_that_matters(change: dict[str, Any]) -> None:
    before, _ = small_plan()
    after, _ = small_plan(**change)
    assert before.runs[0].run_id != after.runs[0].run_id
    assert before.hash != after.hash


def test_ids_do_not_depend_on_how_a_study_is_written() -> None:
    """Epochs or steps, defaults written out or not, more seeds or fewer: the same run."""
    short, _ = small_plan(budget={"epochs": 8}, seeds=[0, 1])
    long, _ = small_plan(shuffle=True, notes="about nothing", name="another")
    assert long.runs[0].run_id == short.runs[0].run_id


def test_ids_leave_out_metrics_of_batches_that_nobody_asked_for() -> None:
    plan, _ = small_plan()
    silent, _ = small_plan(evaluate={"every": {"steps": 10}, "batch_metrics": False})
    asked, _ = small_plan(evaluate={"every": {"steps": 10}, "batch_metrics": True})
    assert plan.hash == silent.hash != asked.hash
    (run,) = asked.runs
    assert replace(run, batch_metrics=False) == plan.runs[0]
    assert RunSpec.from_dict(run.as_dict()).run_id == run.run_id
    stored = plan.runs[0].as_dict()
    del stored["batch_metrics"]  # as an older version wrote it
    assert RunSpec.from_dict(stored).run_id == plan.runs[0].run_id


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"folds": 3}, "folds: 3: a function has no samples to divide"),
        ({"evaluate": {"on": ["validation"]}}, "problem.n_samples: 1: a validation split needs 2"),
    ],
)
def test_a_function_has_no_samples_of_a_dataset(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study(**small_keys(problem={"function": "rosenbrock"}, batch_size="full", **keys))
    assert message in str(caught.value)


def test_a_range_without_points_has_no_number_of_values() -> None:
    optimizers = [{"rule": "sgd", "lr": {"log": [0.01, 1]}}]
    with pytest.raises(StudyError) as caught:
        Study(**small_keys(optimizers=optimizers, tune={"trials": 5}))
    (refused,) = caught.value.problems
    assert refused.path == "optimizers[0].lr"
    assert "a grid needs a number of values" in refused.message


@pytest.mark.parametrize(
    "problem",
    [
        {"function": "rosenbrock"},
        {"dataset": "diabetes", "loss": "mse"},
        {"dataset": "moons", "metrics": []},
    ],
)
def test_metrics_of_batches_need_a_metric(problem: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as caught:
        Study(**small_keys(problem=problem, evaluate={"batch_metrics": True}))
    (refused,) = caught.value.problems
    assert refused.path == "evaluate.batch_metrics"
    assert "has no metrics" in refused.message
    Study(**small_keys(problem=problem))


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        ({}, "classes"),
        ({"loss": "mse"}, "values"),
        ({"loss": "torch.nn.functional:huber_loss"}, "any"),
        ({"loss": "torch.nn.functional:multi_margin_loss", "metrics": ["accuracy"]}, "classes"),
        ({"loss": "torch.nn.functional:huber_loss", "metrics": ["r2"]}, "values"),
    ],
)
def test_loss_and_metrics_tell_what_targets_are(problem: dict[str, Any], wanted: str) -> None:
    study, _ = parse_study(small_keys(problem={"dataset": "moons", **problem}))
    assert study is not None
    assert targets_wanted(study.shared) == wanted


def test_validation_is_carved_only_where_it_is_wanted() -> None:
    _, without = small_plan()
    _, wanted = small_plan(evaluate={"on": ["validation", "test"]})
    assert "validation" not in without.splits
    assert wanted.sizes == {"train": 144, "validation": 16, "test": 40}


def test_stacks_share_model_and_batch_size() -> None:
    plan, _ = small_plan(batch_size=[16, 32], optimizers=[{"rule": "sgd"}, {"rule": "adam"}])
    assert [len(group) for group in pack(plan.runs, len(plan.runs))] == [2, 2]


def test_problems_of_the_data_come_together() -> None:
    study = Study(**small_keys(batch_size=[161, 200]))
    with pytest.raises(StudyError) as caught:
        study.plan()
    assert len(caught.value.problems) == 2


def test_two_settings_that_are_one_run_are_refused() -> None:
    study = Study(**small_keys(batch_size=[160, "full"]))
    with pytest.raises(StudyError, match="are the same run; keep one"):
        study.plan()


def test_settings_that_differ_in_late_digits_are_shown_apart() -> None:
    plan, _ = small_plan(optimizers=[{"rule": "sgd", "lr": [0.1, 0.10000001, 0.2]}])
    assert set(plan.settings.values()) == {"lr=0.1", "lr=0.10000001", "lr=0.2"}


def test_memory_estimate_counts_every_array() -> None:
    """Data of 200 x 2 floats; 42 parameters, each with gradient and two averages; activations."""
    plan, dataset = small_plan(optimizers=[{"rule": "adam"}])
    cost = estimate(plan.runs, dataset)
    assert cost.parameters == 2 * 8 + 8 + 8 * 2 + 2
    arrays = 14 * cost.parameters  # old and new values, gradient, what Adam computes on the way
    activations = 5 * 8 * 32  # from the 8 hidden units that the backward pass needs
    assert cost.run_bytes == 4 * (arrays + activations)
    assert cost.stack_bytes > cost.run_bytes  # what an evaluation keeps comes on top
    assert cost.peak_bytes == 4 * 400 + cost.stack_bytes


def test_a_study_may_evaluate_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.engine.checks.certificate._LEAST_STEPS", 1)
    monkeypatch.setattr("optrial.engine.checks.certificate._LEAST_SECONDS", 0.0)
    inputs = np.linspace(-1, 1, 80).reshape(40, 2)
    targets = np.arange(40) % 2
    np.savez(tmp_path / "alone.npz", train_inputs=inputs, train_targets=targets)
    problem = {"dataset": str(tmp_path / "alone.npz"), "model": "logistic"}
    plan, dataset = small_plan(problem=problem, budget={"steps": 4}, evaluate={})
    assert list(dataset.splits) == ["train"]
    assert estimate(plan.runs, dataset).stack_bytes > 0
    training = Training(plan.runs, learner_for(plan.runs, dataset))
    for _ in training.run():
        pass
    facts = certificates(training, lambda run: learner_for([run], dataset))
    assert {fact.evaluation_difference for fact in facts.values()} == {None}


def test_time_estimate_counts_the_iterations_of_a_step() -> None:
    """20 of LBFGS, unless the study says otherwise."""

    def seconds(**arguments: int) -> float:
        plan, dataset = small_plan(optimizers=[{"torch": "torch.optim:LBFGS", **arguments}])
        return estimate(plan.runs, dataset).seconds

    assert seconds() / seconds(max_iter=1) == pytest.approx(20)
    assert seconds(max_iter=4) / seconds(max_iter=1) == pytest.approx(4)


def test_time_estimate_has_the_right_size() -> None:
    plan, dataset = small_plan(budget={"steps": 400}, evaluate={"every": {"steps": 400}})
    (run,) = plan.runs
    started = time.process_time()  # the machine may be busy
    train(run, dataset)
    ratio = estimate(plan.runs, dataset).seconds / (time.process_time() - started)
    assert 1 / ESTIMATE_FACTOR < ratio < ESTIMATE_FACTOR


def test_a_last_batch_of_one_sample_is_refused_for_batch_norm() -> None:
    """160 samples train; batches of 53 leave one over."""
    model = {"kind": "mlp", "hidden": [4], "batch_norm": True}
    keys = {"problem": {"dataset": dict(MOONS), "model": model}, "batch_size": 53}
    with pytest.raises(StudyError, match="batch norm cannot normalise"):
        small_plan(**keys)
    small_plan(**keys, drop_last=True)


def test_all_that_shampoo_keeps_counts_in_the_memory_of_a_step() -> None:
    """A matrix keeps a velocity and a square matrix per axis, a vector also sums of squares."""
    model = {"kind": "mlp", "hidden": [64]}
    problem = {"dataset": {"name": "moons", "n_samples": 200}, "model": model}
    rules = [{"rule": "momentum"}, {"rule": "shampoo"}]
    plan, dataset = small_plan(problem=problem, optimizers=rules)
    (planned,) = planned_models(plan, dataset)
    kept = {memory.optimizer: memory.state for memory in planned.memory}
    assert kept["shampoo"] - kept["momentum"] == 4 * (64**2 + 2**2 + 64 + 2 * 64 + 2)
    one, other = (estimate([run], dataset) for run in plan.runs)
    assert other.peak_bytes - one.peak_bytes >= 4 * 64**2
