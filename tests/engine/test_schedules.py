"""Trainings whose schedules do more than multiply lr by time, against plain PyTorch scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.optim import lr_scheduler

from optrial.data import Dataset
from optrial.engine import Learner, StackedEngine, Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.engine.validation import EarlyStops
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import arrange
from optrial.records import Segment
from optrial.spec import RunSpec, Status
from tests.small import learner_for, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own
STEPS, EVERY = 60, 3
PLATEAU = {"kind": "plateau", "factor": 0.5, "patience": 1, "threshold": 0.05, "cooldown": 1}
CYCLE = {"kind": "one_cycle", "momentum": [0.85, 0.95]}
HALVING = {"kind": f"{__name__}:halving"}
ENGINES = ["reference", "stacked", "numpy"]
COMPILED = pytest.param("compiled", marks=pytest.mark.slow)


def halving(step: int, steps: int, *, base: float) -> float:
    return base ** (2 * step / steps)


_calls: list[int] = []


def counting(step: int, steps: int) -> float:
    del step, steps
    _calls.append(1)
    return 1 / len(_calls)


def chaining(step: int, steps: int) -> float:
    """A schedule that is right as long as one run takes its steps in order."""
    del steps
    _calls[:] = [] if step == 0 else [*_calls, 1]
    return 0.9 ** len(_calls)


def drawing(step: int, steps: int) -> float:
    return float(np.random.rand() * step / steps)


def a_hole(step: int, steps: int) -> float:
    return math.nan if (step, steps) == (7, 40) else 1.0


def of_numpy(step: int, steps: int) -> np.float32:
    return np.float32(1 - step / steps)


def plan_of(optimizers: Sequence[object], **more: Any) -> tuple[tuple[RunSpec, ...], Dataset]:
    plan, data = small_plan(
        budget={"steps": STEPS},
        evaluate={"every": {"steps": EVERY}, "on": ["validation"]},
        precision="float64",
        seeds=[0, 1],
        optimizers=optimizers,
        **more,
    )
    return arrange(plan.runs), data


def learner_of(runs: Sequence[RunSpec], data: Dataset, engine: str) -> Learner:
    if engine == "compiled":
        splits = tensor_splits(data, "float64", "cpu")
        return StackedEngine(runs, data, splits, compiled=True)
    return learner_for(runs, data, engine)


def trained(runs: Sequence[RunSpec], data: Dataset, engine: str) -> list[Segment]:
    together = [runs] if engine in ("stacked", "compiled") else [[run] for run in runs]
    segments = []
    for some in together:
        training = Training(some, learner_of(some, data, engine))
        for _ in training.run():
            pass
        segments += training.segments()
    return segments


def script(
    run: RunSpec, data: Dataset, make: Callable[[Any], Any], schedule: Callable[[Any], Any] | None
) -> tuple[list[float], list[float]]:
    """Losses of batches and of validation; a scheduler that takes a loss follows validation."""
    model = build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        seed=run.seed,
    ).double()  # fmt: skip
    optimizer = make(model.parameters())
    scheduler = schedule(optimizer) if schedule else None
    follows = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
    splits = tensor_splits(data, "float64", "cpu")
    train, validation = splits["train"], splits["validation"]
    losses, evaluated = [], []
    for step, rows in zip(
        range(1, STEPS + 1), batch_order(run, len(train)).batches(1), strict=False
    ):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % EVERY == 0:
            with torch.no_grad():
                known = functional.cross_entropy(model(validation.inputs), validation.targets)
            evaluated.append(known.item())
        if scheduler and (not follows or step % EVERY == 0) and step < STEPS:
            scheduler.step(*evaluated[-1:] if follows else ())
    return losses, evaluated


@pytest.mark.parametrize("engine", [*ENGINES, COMPILED])
def test_a_plateau_halves_the_rate_of_each_run_as_torch_does(engine: str) -> None:
    optimizers = [
        {"rule": "sgd", "lr": [0.3, 2.0], "schedule": PLATEAU},
        {"rule": "sgd", "name": "constant", "lr": 1.0},
    ]
    runs, data = plan_of(optimizers)
    segments = {segment.run_id: segment for segment in trained(runs, data, engine)}

    def on_plateau(optimizer: Any) -> Any:
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=1, threshold=0.05, cooldown=1
        )

    for run in runs:
        make = lambda parameters, lr=run.hyperparameters["lr"]: torch.optim.SGD(parameters, lr)  # noqa: E731
        losses, evaluated = script(run, data, make, on_plateau if run.schedule else None)
        curves = segments[run.run_id].curves
        assert curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        assert curves["validation_loss"].values == pytest.approx(evaluated, rel=TRAJECTORY_FLOAT64)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("rule", "engine"),
    [*((rule, engine) for rule in ("momentum", "adam") for engine in ENGINES),
     pytest.param("adam", "compiled", marks=pytest.mark.slow)],
)  # fmt: skip
def test_one_cycle_moves_the_momentum_as_torch_does(rule: str, engine: str) -> None:
    runs, data = plan_of([{"rule": rule, "lr": 0.02, "schedule": [CYCLE, "one_cycle"]}])
    of_torch = {
        "momentum": lambda parameters: torch.optim.SGD(parameters, 0.02, momentum=0.9),
        "adam": lambda parameters: torch.optim.Adam(parameters, 0.02),
    }
    segments = {segment.run_id: segment for segment in trained(runs, data, engine)}
    for run in runs:
        assert run.schedule is not None
        cycles = "momentum" in run.schedule
        one_cycle = lambda o, c=cycles: lr_scheduler.OneCycleLR(o, 0.02, STEPS, cycle_momentum=c)  # noqa: E731
        losses, _ = script(run, data, of_torch[rule], one_cycle)
        known = segments[run.run_id].curves["train_loss"].values
        assert known == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


def test_one_cycle_moves_the_momentum_of_a_class_of_torch() -> None:
    runs, data = plan_of([{"torch": "torch.optim:NAdam", "lr": 0.02, "schedule": CYCLE}])
    losses, _ = script(
        runs[0],
        data,
        lambda parameters: torch.optim.NAdam(parameters, 0.02),
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.02, STEPS),
    )
    (segment, _) = trained(runs, data, "reference")
    assert segment.curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_of_the_user_is_a_schedule(engine: str) -> None:
    schedule = HALVING | {"args": {"base": 0.5}}
    runs, data = plan_of([{"rule": "sgd", "lr": 0.5, "schedule": schedule}])
    assert f"{__name__}:halving" in runs[0].code
    losses, _ = script(
        runs[0],
        data,
        lambda parameters: torch.optim.SGD(parameters, 0.5),
        lambda o: lr_scheduler.LambdaLR(o, lambda step: halving(step, STEPS, base=0.5)),
    )
    segment = trained(runs, data, engine)[0]
    assert segment.curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


def test_a_schedule_may_return_a_number_of_numpy() -> None:
    plan, _ = small_plan(optimizers=[{"rule": "sgd", "schedule": f"{__name__}:of_numpy"}])
    assert plan.runs[0].schedule


def expected_end(values: np.ndarray, patience: int, min_delta: float = 0.0) -> int:
    """The place of the evaluation after which a run ends."""
    best, bad = np.inf, 0
    for place, value in enumerate(values):
        bad += 1
        if value < best - min_delta:
            best, bad = value, 0
        if bad == patience:
            return place
    return len(values) - 1


STOPPING = {"patience": 2, "metric": "validation_loss", "min_delta": 0.02}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_ends_once_validation_has_not_improved(engine: str) -> None:
    optimizers = [{"rule": "sgd", "lr": [0.01, 1.0, 3.0]}]
    whole = trained(*plan_of(optimizers), engine)
    runs, data = plan_of(optimizers, early_stopping=STOPPING)
    ends = set()
    for run, full, segment in zip(runs, whole, trained(runs, data, engine), strict=True):
        values = full.curves["validation_loss"].values
        place = expected_end(values, 2, 0.02)
        step = EVERY * (place + 1)
        ends.add(step)
        assert segment.status is Status.DONE
        assert segment.step == step
        assert segment.facts.stopped_early == (step if step < STEPS else None)
        assert np.array_equal(segment.curves["validation_loss"].values, values[: place + 1])
        losses = full.curves["train_loss"].values[:step]
        assert np.array_equal(segment.curves["train_loss"].values, losses)
        assert run.run_id != full.run_id
    assert len(ends) > 1


@pytest.mark.parametrize(
    "values", [[math.nan] * 4, [math.nan, 1.0, math.nan, math.nan], [2.0, math.nan, 1.0, 0.5]]
)
def test_evaluations_without_a_value_are_no_improvement(values: list[float]) -> None:
    runs, _ = plan_of([{"rule": "sgd"}], early_stopping=STOPPING)
    stops = EarlyStops(runs[:1])
    ends = [stops.ends(0, lambda _, value=value: value) for value in values]
    place = next((place for place, ended in enumerate(ends) if ended), len(values) - 1)
    assert place == expected_end(np.array(values), 2, 0.02)


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_a_resumed_training_follows_validation_to_the_same_bits(engine: str) -> None:
    optimizers = [{"rule": "sgd", "lr": [1.0, 3.0], "schedule": PLATEAU}]
    runs, data = plan_of(optimizers, early_stopping=STOPPING | {"patience": 3})
    runs = runs if engine == "stacked" else runs[2:3]
    whole = Training(runs, learner_of(runs, data, engine))
    for _ in whole.run():
        pass
    expected = whole.segments()
    for stop in (9, 10, 24):
        first = Training(runs, learner_of(runs, data, engine))
        for _ in first.run(lambda step, stop=stop: step < stop):
            pass
        before, checkpoint = first.segments(), first.checkpoint()
        second = Training(runs, learner_of(runs, data, engine))
        second.resume(checkpoint)
        for _ in second.run():
            pass
        for one, start, end in zip(expected, before, second.segments(), strict=True):
            assert (end.step, end.status) == (one.step, one.status)
            assert end.facts.parameters_sha256 == one.facts.parameters_sha256
            curves = [part.curves.get("validation_loss") for part in (start, end)]
            values = np.concatenate([curve.values for curve in curves if curve is not None])
            assert np.array_equal(values, one.curves["validation_loss"].values)


def test_a_stopped_run_is_done_when_its_stack_is() -> None:
    runs, data = plan_of([{"rule": "sgd", "lr": [0.01, 3.0]}], early_stopping=STOPPING)
    training = Training(runs, learner_of(runs, data, "stacked"))
    counts = []
    for _ in training.run():
        counts.append(training.in_training)
        if not training.ended:
            assert {segment.status for segment in training.segments()} == {Status.INTERRUPTED}
    assert {segment.status for segment in training.segments()} == {Status.DONE}
    assert len(set(counts)) > 1


def test_an_evaluated_split_for_validation_is_held_out() -> None:
    plan, data = small_plan(early_stopping=3)
    assert "validation" in data.splits
    assert plan.runs[0].early_stopping is not None
    assert plan.runs[0].early_stopping.metric == "validation_accuracy"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"early_stopping": 3, "evaluate": {"on": ["test"]}}, "add validation to evaluate.on"),
        ({"early_stopping": 0}, "early_stopping.patience"),
        ({"early_stopping": {"patience": 2, "metric": "test_loss"}}, "not a validation metric"),
        (
            {"optimizers": [{"rule": "sgd", "schedule": PLATEAU}], "evaluate": {"on": ["test"]}},
            "add validation to evaluate.on",
        ),
        (
            {"optimizers": [{"rule": "sgd", "schedule": PLATEAU | {"metric": "train_loss"}}]},
            "not a validation metric",
        ),
        (
            {"optimizers": [{"rule": "sgd", "schedule": CYCLE}]},
            "neither momentum nor beta1",
        ),
        (
            {"optimizers": [{"rule": "adam", "schedule": CYCLE | {"momentum": [0.9]}}]},
            "momentum",
        ),
        (
            {"optimizers": [{"rule": "sgd", "schedule": f"{__name__}:absent"}]},
            "absent",
        ),
        (
            {"optimizers": [{"rule": "sgd", "schedule": HALVING}]},
            "base",
        ),
        (
            {"optimizers": [{"rule": "sgd", "schedule": HALVING | {"args": {"base": "a"}}}]},
            "raised",
        ),
        *(
            ({"optimizers": [{"rule": "sgd", "schedule": f"{__name__}:{own}"}]}, words)
            for own, words in {
                "counting": "must depend on the step alone, without state or draws",
                "chaining": "must depend on the step alone, without state or draws",
                "drawing": "must depend on the step alone, without state or draws",
                "a_hole": "optimizers.0..schedule.kind: .* returned nan at step 7 of 40; a sch",
            }.items()
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        small_plan(**keys)
