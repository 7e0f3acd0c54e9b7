"""User-defined optimizers: resumed to the bit or not at all; closures; trials in a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial.engine import Resumption, Training
from optrial.errors import CheckpointError, StudyError, one_line
from optrial.spec import Status
from tests.small import MOONS, learner_for, small_plan, train
from tests.tolerance import FINAL_LOSS_FLOAT32

HERE = "tests.user_optimizers"
STOP = 17

RESUMABLE = [
    *("Counter", "Deques", "ById", "Noisy", "Enclosed", "Flat", "Averaged", "AveragedModel"),
    *("Scheduled", "GeneratedWithStateDict", "Deaf", "of_model", "Growing"),
]


def interrupted(name: str, stop: int = STOP, **changes: Any) -> tuple[Training, Any]:
    """A training that stopped at a step, and what trains on."""
    plan, dataset = small_plan(optimizers=[{"torch": name}], **changes)
    training = Training(plan.runs, learner_for(plan.runs, dataset))
    training.learner.chunk = 1
    for _ in training.run(lambda step: step < stop):
        pass
    assert training.step == stop
    return training, dataset


def checked(training: Training, dataset: Any) -> dict[str, Any]:
    checkpoint = training.checkpoint()
    Resumption(lambda specs: learner_for(specs, dataset)).check(training, checkpoint)
    return checkpoint


@pytest.mark.one_in(9)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    ("stop", "rng"), [(3, "streams"), (STOP, "script"), (20, "streams"), (20, "script")]
)
@pytest.mark.parametrize("name", RESUMABLE)
def test_state_goes_on_to_the_bit_wherever_it_is(name: str, stop: int, rng: str) -> None:
    """Step 20 is one after which the model is evaluated."""
    first, dataset = interrupted(f"{HERE}:{name}", stop, rng=rng)
    checkpoint, (before,) = checked(first, dataset), first.segments()
    torch.manual_seed(12345)
    whole = train(first.specs[0], dataset)
    second = Training(first.specs, learner_for(first.specs, dataset))
    second.resume(checkpoint)
    for _ in second.run():
        pass
    (after,) = second.segments()
    assert after.status is Status.DONE
    assert after.facts.parameters_sha256 == whole.facts.parameters_sha256
    for metric, curve in whole.curves.items():
        parts = [part.curves[metric] for part in (before, after) if metric in part.curves]
        assert np.array_equal(curve.values, np.concatenate([part.values for part in parts]))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Generated", "its rates holds a generator"),
        ("Counted", "its rates holds a itertools.count"),
        ("GeneratedWithWrongStateDict", "the same steps"),
        ("Global", "the same steps"),
        ("LateObject", "was built without the"),
    ],
)
def test_what_would_go_on_otherwise_is_not_resumed(name: str, says: str) -> None:
    training, dataset = interrupted(f"{HERE}:{name}")
    with pytest.raises(CheckpointError, match=says):
        checked(training, dataset)


def test_a_check_does_not_disturb_the_training() -> None:
    first, dataset = interrupted(f"{HERE}:Noisy", rng="script")
    whole = train(first.specs[0], dataset)
    other, _ = interrupted(f"{HERE}:Noisy", 1, rng="script")
    resumption = Resumption(lambda specs: learner_for(specs, dataset))
    other = Training(first.specs, learner_for(first.specs, dataset))
    for _ in other.run():
        if not other.ended:
            resumption.check(other, other.checkpoint())
    (segment,) = other.segments()
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


def test_a_model_that_counts_is_not_resumed() -> None:
    """State that a model hides outside its parameters and buffers is lost, and that is seen."""
    problem = {"dataset": MOONS, "model": {"factory": f"{HERE}:Forgetful"}}
    training, dataset = interrupted("torch.optim:SGD", problem=problem)
    with pytest.raises(CheckpointError, match="the same steps"):
        checked(training, dataset)


@pytest.mark.parametrize("model", ["AlwaysDropping", "DropsTwice"])
def test_all_passes_of_a_step_draw_the_same(model: str) -> None:
    problem = {"dataset": MOONS, "model": {"factory": f"tests.user_code:{model}"}}
    plan, dataset = small_plan(problem=problem, optimizers=[{"torch": f"{HERE}:Repeating"}])
    learner = learner_for(plan.runs, dataset)
    learner.start(1)
    losses = learner.advance(5).losses[:, 0]
    of_steps = np.reshape(learner.optimizer.losses, (5, 3))
    assert (of_steps == of_steps[:, :1]).all()
    assert np.array_equal(of_steps[:, 0], losses)


def test_a_closure_that_is_called_first_costs_no_pass_and_moves_no_average() -> None:
    """Batch norm averages once per pass: an Adam that is given a closure takes one."""
    averages = []
    for closure in (False, True):
        plan, dataset = small_plan(
            problem={"dataset": MOONS, "model": {"kind": "mlp", "hidden": [8], "batch_norm": True}},
            batch_size=40,
            optimizers=[{"torch": "torch.optim:Adam", "lr": 0.01, "closure": closure}],
        )
        learner = learner_for(plan.runs, dataset)
        learner.start(1)
        learner.advance(10)
        averages.append(learner.weights(0))
    assert averages[0].keys() == averages[1].keys()
    for name, value in averages[0].items():
        assert np.array_equal(value, averages[1][name])


@pytest.mark.parametrize(
    ("entry", "path", "says"),
    [
        ({"torch": f"{HERE}:two"}, "torch", "a list of 2; return one optimizer"),
        ({"torch": f"{HERE}:not_an_optimizer"}, "torch", "it returned str"),
        ({"torch": f"{HERE}:OfModel"}, "torch", "passes torch.nn.ParameterList(parameters) to it"),
        ({"torch": f"{HERE}:WithinBackward"}, "torch", "such as within backward, cannot be used"),
        ({"torch": f"{HERE}:Deaf", "schedule": "cosine"}, "schedule", "does not read lr"),
        ({"torch": "torch.optim:Adam", "lr": [0.1, -1]}, "torch", "with lr=-1: ValueError"),
        ({"torch": "torch.optim:LBFGS", "clip": "a"}, "clip.norm", "must be"),
        ({"rule_factory": f"{HERE}:rule_of_two"}, "rule_factory", "failed in step 2: KeyError"),
        ({"rule_factory": f"{HERE}:rule_of_sums"}, "rule_factory", "of shape"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_error(entry: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        small_plan(optimizers=[entry, {"rule": "sgd"}])
    (problem,) = caught.value.problems
    assert problem.path == f"optimizers[0].{path}"
    assert says in problem.message


def test_divergence_is_no_problem_of_a_plan() -> None:
    plan, _ = small_plan(
        optimizers=[{"torch": "torch.optim:SGD", "lr": 1e38, "schedule": "cosine"}]
    )
    assert len(plan.runs) == 1


def test_parameters_that_are_left_out_are_noted() -> None:
    plan, _ = small_plan(optimizers=[{"torch": f"{HERE}:of_the_first_two"}])
    (note,) = plan.notes
    assert "unchanged" in note
    assert "weight" in note


def test_a_gradient_that_is_rounding_is_not_noted() -> None:
    """Batch norm subtracts the bias before it."""
    problem = {"dataset": MOONS, "model": {"factory": "tests.user_models:normalized"}}
    plan, _ = small_plan(problem=problem, optimizers=[{"torch": "torch.optim:SGD", "lr": 1e-4}])
    assert plan.notes == ()


def test_groups_that_an_optimizer_adds_have_no_schedule() -> None:
    """Without one they are trained and resumed, as the tests of resumption see."""
    plan, dataset = small_plan(optimizers=[{"torch": f"{HERE}:Growing", "schedule": "cosine"}])
    with pytest.raises(ValueError, match="added a group of parameters while it trained"):
        train(plan.runs[0], dataset)


def test_gradients_of_parameters_that_are_left_out_do_not_pile_up() -> None:
    """They count for clipping, and the optimizer does not set them to zero."""
    plan, dataset = small_plan(
        batch_size="full", optimizers=[{"torch": f"{HERE}:of_the_first_two", "lr": 1e-9}]
    )
    learner = learner_for(plan.runs, dataset)
    learner.start(1)
    norms = []
    for _ in range(3):
        learner.advance(1)
        *_, last = learner.model.parameters()
        norms.append(float(last.grad.norm()))
    assert norms == pytest.approx(norms[:1] * 3, rel=FINAL_LOSS_FLOAT32)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n  a   b\n"), "ValueError: a b"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 14_057), "RuntimeError: " + "x" * 185 + "…"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line
