"""Models, losses, rules and optimizers of the user's own go through every engine that can."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from optrial.data import Dataset
from optrial.engine import Engines, Training
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import pack
from optrial.spec import RunSpec, Status
from optrial.study import Study
from tests.small import MOONS, learner_for, small_keys, small_plan, train, train_stack
from tests.tolerance import TRAJECTORY_FLOAT64

HERE = "tests.user_code"


def problem(model: str, **more: Any) -> dict[str, Any]:
    return {"dataset": MOONS, "model": {"factory": f"{HERE}:{model}"}} | more


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ("small_network", "stacked"),
        ("Residual", "stacked"),
        ("DropsTwice", "stacked"),
        pytest.param("DropsTwice", "compiled", marks=pytest.mark.slow),
    ],
)
def test_own_models_stack(model: str, engine: str) -> None:
    plan, dataset = small_plan(
        problem=problem(
            model, loss=f"{HERE}:focal_loss", metrics=[f"{HERE}:error_rate", "accuracy"]
        ),
        precision="float64",
        budget={"steps": 15},
        seeds=2,
        optimizers=[{"rule": "adam", "lr": [0.01, 0.1]}, {"rule_factory": f"{HERE}:half_adam"}],
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    for run, stacked in zip(stack, train_stack(stack, dataset, engine), strict=True):
        alone = train(run, dataset, "reference")
        for metric, curve in stacked.curves.items():
            wanted = alone.curves[metric].values
            assert curve.values == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64), metric
        error, accuracy = (stacked.curves[f"test_{m}"].values for m in ("error_rate", "accuracy"))
        assert error + accuracy == pytest.approx(1, rel=TRAJECTORY_FLOAT64)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize(
    "engine", ["reference", "stacked", pytest.param("compiled", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("model", ["PartlyTrained", "Attending", "Reading", "lazy"])
def test_a_loop_written_out_trains_the_same_weights(model: str, engine: str) -> None:
    """What has no gradient stays as it is, decay and all; what is tied is one parameter."""
    plan, dataset = small_plan(
        problem=problem(model),
        precision="float64",
        budget={"steps": 8},
        probes={"measure": ["gradient_norm"], "every": {"steps": 1}},
        optimizers=[{"rule": "sgd", "lr": [0.1, 0.2, 0.3], "weight_decay": 0.1, "clip": 0.5}],
    )
    stack = plan.runs if engine != "reference" else plan.runs[:1]
    learner = learner_for(stack, dataset, engine)
    training = Training(stack, learner)
    for _ in training.run():
        pass
    for index, (run, segment) in enumerate(zip(stack, training.segments(), strict=True)):
        wanted, norms = trained_by_torch(run, dataset)
        assert segment.curves["gradient_norm"].values == pytest.approx(
            norms, rel=TRAJECTORY_FLOAT64
        )
        trained = learner.weights(index)
        assert trained.keys() == wanted.keys()
        for name, value in wanted.items():
            assert trained[name] == pytest.approx(value, rel=TRAJECTORY_FLOAT64), name


def trained_by_torch(run: RunSpec, dataset: Dataset) -> tuple[dict[str, np.ndarray], list[float]]:
    """Train with `torch.optim.SGD`; return the weights, and the norms of some gradients."""
    model = build_model(
        run.model,
        run.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        seed=run.seed,
    ).double()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=run.hyperparameters["lr"], weight_decay=run.weight_decay
    )
    split, norms = dataset.splits["train"], []
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)
    for rows in islice(batch_order(run, len(targets)).batches(1), run.steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
        optimizer.step()
    return {name: value.numpy() for name, value in model.state_dict().items()}, norms


@pytest.mark.parametrize(("model", "engine"), [("Residual", "stacked"), ("Branching", "reference")])
def test_what_cannot_be_stacked_is_trained_one_by_one_with_a_note(model: str, engine: str) -> None:
    plan, dataset = small_plan(problem=problem(model), engine="stacked", compile="never", seeds=2)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert choice.engine == engine
    assert choice.note.startswith("trained one by one: ") is (engine == "reference")


def test_buffers_changed_in_place_are_right_or_refused() -> None:
    plan, dataset = small_plan(
        problem=problem("Counting"), engine="stacked", compile="never", seeds=2, precision="float64"
    )
    (choice,) = Engines(dataset, "float64", "cpu").choose(plan.runs)
    if choice.engine == "stacked":
        (stack,) = choice.stacks
        for run, stacked in zip(stack, train_stack(stack, dataset, "stacked"), strict=True):
            alone = train(run, dataset, "reference").curves["test_loss"].values
            assert stacked.curves["test_loss"].values == pytest.approx(
                alone, rel=TRAJECTORY_FLOAT64
            )
    else:
        assert choice.note


def test_a_mixed_study_says_what_trained_what() -> None:
    plan, dataset = small_plan(
        engine="stacked",
        compile="never",
        budget={"steps": 4},
        seeds=2,
        optimizers=[{"rule": "sgd"}, {"torch": f"{HERE}:SignSGD"}, {"torch": "torch.optim:LBFGS"}],
    )
    choices = Engines(dataset, "float32", "cpu").choose(plan.runs)
    engines = {run.optimizer: c.engine for c in choices for stack in c.stacks for run in stack}
    assert engines == {"sgd": "stacked", "SignSGD": "reference", "LBFGS": "reference"}
    lbfgs = next(run for run in plan.runs if run.optimizer == "LBFGS")
    assert train(lbfgs, dataset, "reference").facts.implementation == "torch.optim:LBFGS()"


@pytest.mark.parametrize("optimizer", [f"{HERE}:SignSGD", "torch.optim:LBFGS", "torch.optim:Adam"])
def test_any_optimizer_resumes_to_the_bit(optimizer: str) -> None:
    plan, dataset = small_plan(budget={"steps": 15}, optimizers=[{"torch": optimizer, "lr": 0.01}])
    (run,) = plan.runs
    whole = train(run, dataset)
    first = Training([run], learner_for([run], dataset))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < 7):
        pass
    second = Training([run], learner_for([run], dataset))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    (segment,) = second.segments()
    assert segment.status is Status.DONE
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


def test_lbfgs_is_torch_s_own() -> None:
    """The same loop written out: a closure, one batch a step."""
    plan, dataset = small_plan(
        optimizers=[{"torch": "torch.optim:LBFGS", "lr": 0.1}],
        batch_size="full",
        precision="float64",
        budget={"steps": 5},
        evaluate={"every": {"steps": 5}},
    )
    (run,) = plan.runs
    torch.manual_seed(run.seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    model = model.double()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    split = dataset.splits["train"]
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    values = train(run, dataset).curves["train_loss"].values
    assert values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"problem": problem("No")}, "problem.model.factory", "cannot be imported"),
        ({"optimizers": [{"torch": "torch.optim:Adam", "learning_rate": 1}]},
         "optimizers[0].learning_rate", "is not an argument of Adam"),
        ({"optimizers": [{"torch": "no_such_module:X"}]}, "optimizers[0].torch", "be imported"),
        ({"optimizers": [{"rule_factory": f"{HERE}:not_a_module"}]}, "optimizers[0].rule_factory",
         "must return a Rule"),
        ({"optimizers": [{"lr": 0.1}]}, "optimizers[0]", "give one of rule, torch"),
        ({"optimizers": [{"rule": "sgd", "clip": -1}]}, "optimizers[0].clip.norm", "above 0"),
        ({"optimizers": [{"rule": "sgd", "schedule": "cosin"}]}, "optimizers[0]", "cosine"),
        ({"problem": {"dataset": MOONS, "metrics": ["acuracy"]}}, "problem.metrics[0]", "accuracy"),
        ({"problem": {"dataset": MOONS, "loss": "mze"}}, "problem.loss", "mse"),
    ],
)  # fmt: skip
def test_wrong_code_is_one_clear_error(changes: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study(**small_keys(**changes))
    (refused,) = caught.value.problems
    assert refused.path.startswith(path)
    assert says in refused.message


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"model": "not_a_module"}, "model.factory", "must return a torch.nn.Module"),
        ({"model": "all_frozen"}, "model.factory", "without parameters to train; set"),
        ({"model": "without_memory"}, "model.factory", "tensors on 'meta'; make them on"),
        ({"model": "wide"}, "model.factory", "4x3) on inputs of shape (32, 2), float32."),
        ({"model": "of_one_class"}, "model.factory", "shape (32, 1); 2 classes need (32, 2)."),
        ({"model": "Pair"}, "model.factory", "and use loss: mean_output."),
        ({"model": "of_one_class", "dataset": "diabetes", "loss": "mse", "flat": True},
         "model.factory", "returned outputs of shape (32,); they must be (32, 1)."),
        ({"model": "OwnLoss", "dataset": "diabetes", "loss": "mse"}, "model.factory",
         "must be (32, 1); if the model computes its loss itself, use loss: mean_output."),
        ({"model": "Residual", "loss": f"{HERE}:error_rate"}, "loss",
         "the mean over the batch, one number."),
        ({"model": "Residual", "metrics": ["accuracy", f"{HERE}:of_three"]}, "metrics[1]",
         "of_three' raised IndexError"),
    ],
)  # fmt: skip
def test_code_that_does_not_go_with_the_data_is_said_once(
    changes: dict[str, Any], path: str, says: str
) -> None:
    keys = dict(changes)
    model = {"factory": f"{HERE}:{keys.pop('model')}"}
    if keys.pop("flat", False):
        model["args"] = {"flat": True}
    with pytest.raises(StudyError) as caught:
        small_plan(problem={"dataset": MOONS, **keys, "model": model}, evaluate={})
    (problem,) = caught.value.problems
    assert problem.path == f"problem.{path}"
    assert says in problem.message


def test_code_is_tried_in_the_precision_of_the_training() -> None:
    keys = {"problem": {"dataset": MOONS, "model": {"factory": "tests.user_models:Averaging"}}}
    small_plan(**keys)
    with pytest.raises(StudyError, match=r"convert them by \.float\(\) where"):
        small_plan(**keys, precision="bfloat16")


def test_the_source_of_own_code_is_part_of_a_run() -> None:
    plan, _ = small_plan(problem=problem("Residual"))
    assert list(plan.runs[0].code) == [f"{HERE}:Residual"]
    assert len(plan.runs[0].code[f"{HERE}:Residual"]) == 64
    assert np.unique([run.run_id for run in plan.runs]).size == len(plan.runs)
