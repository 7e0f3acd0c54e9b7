"""Models and losses of the user's that are easily trained wrong: right, one by one, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial import StudyError
from optrial.engine import Engines, Training
from optrial.engine.checks.resumption import Resumption
from optrial.engine.select.stacking import why_not_stacked
from optrial.errors import CheckpointError
from optrial.models import KeyedDropout, build_model, key_dropout, set_mask_key
from optrial.plan import pack
from tests.small import MOONS, learner_for, small_plan, train


def later(change: str) -> dict[str, Any]:
    return {"factory": "tests.user_models:later", "args": {"change": change}}


def plan(model: str | dict[str, Any] = "plain", loss: str = "cross_entropy", **more: Any) -> Any:
    problem = {
        "dataset": dict(MOONS),
        "model": model if isinstance(model, dict) else {"factory": f"tests.user_models:{model}"},
        "loss": loss if loss == "cross_entropy" else f"tests.user_models:{loss}",
        **more,
    }
    adam = {"rule": "adamw", "lr": [1e-4, 1e-3], "weight_decay": 0.1}
    return small_plan(
        problem=problem, budget={"steps": 8}, seeds=2, save="final", optimizers=[adam]
    )


def built(model: str) -> torch.nn.Module:
    return build_model(f"tests.user_models:{model}", {}, input_shape=(2,), classes=2, seed=0)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"model": "made_late"}, "creates parameters in its forward pass (inner.late.weight"),
        ({"model": "checkpointed_twice"}, "use one nn.Dropout for each place"),
        ({"loss": "with_parameters"}, "has parameters ('weight'), which no optimizer trains"),
        ({"loss": "remembering"}, "keeps state between calls"),
        ({"loss": "WithParameters"}, "is a class; name a function"),
        ({"loss": "one_element"}, "returned values of shape (1,)"),
        ({"loss": "changing"}, "changes targets in place"),
        ({"loss": "in_numpy"}, "returned an array of NumPy of shape (), float32; a loss returns"),
        ({"loss": "without_gradient"}, "without detach, item, numpy or argmax"),
        ({"loss": "in_float64"}, "given outputs, values of shape (32, 2), float32, and targets, "),
        ({"loss": "distance"}, "every sample with every other"),
        ({"loss": "broadcast"}, "every sample with every other"),
        ({"metrics": [{"name": "tests.user_models:changing", "better": "lower"}]}, "in place"),
    ],
)
def test_what_cannot_be_trained_right_is_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(StudyError) as caught:
        plan(**keys)
    assert any(text in str(problem) for problem in caught.value.problems)


def test_metrics_of_the_catalogue_need_outputs_of_their_shape() -> None:
    with pytest.raises(StudyError, match="'accuracy' does not fit outputs"):
        plan("one_output", "one_number", dataset={"name": "blobs"}, metrics=["accuracy"])


@pytest.mark.parametrize("model", ["hooked", "Padded"])
def test_gradients_that_a_stack_would_lose_are_noticed_at_any_rate(model: str) -> None:
    planned, dataset = plan(model)
    engines = Engines(dataset, "float32", "cpu")
    assert "gradients differ" in why_not_stacked(planned.runs, dataset, engines.build)


@pytest.mark.parametrize("change", ["scale", "grow", "unfreeze", "replace"])
def test_runs_do_not_share_what_a_model_counts_in_attributes(change: str) -> None:
    """`grow` uses a layer from the fifth step on; a stack would never train it."""
    planned, dataset = plan(model=later(change))
    engines = Engines(dataset, "float32", "cpu")
    reason = why_not_stacked(planned.runs, dataset, engines.build)
    assert "its attribute 'inner.steps' changes while it trains" in reason


@pytest.mark.parametrize("library", ["numpy", "python"])
def test_losses_of_a_stack_do_not_share_a_generator(library: str) -> None:
    """The draws are smaller than rounding explains."""
    planned, dataset = plan(loss=f"drawing_with_{library}")
    engines = Engines(dataset, "float32", "cpu")
    reason = why_not_stacked(planned.runs, dataset, engines.build)
    assert "draws from a generator of Python or NumPy" in reason


def test_runs_share_buffers_and_what_a_model_computes_once() -> None:
    for model in ({"factory": "tests.user_models:once"}, later("buffer")):
        planned, dataset = plan(model=model)
        engines = Engines(dataset, "float32", "cpu")
        assert not why_not_stacked(planned.runs, dataset, engines.build)


def test_modified_rules_share_a_stack() -> None:
    model = {"factory": "tests.user_models:plain"}
    entry = {"rule": "adam", "lr": [1e-3, 1e-2], "modify": ["agc", "lookahead"]}
    planned, dataset = small_plan(problem={"dataset": MOONS, "model": model}, optimizers=[entry])
    assert not why_not_stacked(planned.runs, dataset, Engines(dataset, "float32", "cpu").build)


@pytest.mark.parametrize("change", ["unfreeze", "replace"])
def test_a_model_that_changes_its_parameters_while_it_trains_fails(change: str) -> None:
    planned, dataset = plan(model=later(change))
    with pytest.raises(ValueError, match=r"the model replaced its parameter 'inner\.more\."):
        train(planned.runs[0], dataset, "reference")


def test_layers_that_join_later_are_trained() -> None:
    planned, dataset = plan(model=later("grow"))
    learner = learner_for(planned.runs[:1], dataset, "reference")
    before = learner.weights(0)["inner.more.bias"]
    learner.start(1)
    learner.advance(4)
    assert np.array_equal(learner.weights(0)["inner.more.bias"], before)
    learner.advance(1)
    assert not np.array_equal(learner.weights(0)["inner.more.bias"], before)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_parameters_without_use_are_not_decayed_in_a_stack() -> None:
    """A layer under the former `weight_norm` holds a tensor that cannot be copied."""
    planned, dataset = plan("unused")
    (stack,) = pack(planned.runs, 4)
    learner = learner_for(stack, dataset, "stacked")
    before = learner.weights(0)["inner.unused.weight"]
    learner.start(1)
    learner.advance(3)
    assert np.array_equal(learner.weights(0)["inner.unused.weight"], before)


@pytest.mark.parametrize("model", ["no_return", "hinted", "shifting", "checkpointed"])
def test_trains_in_the_reference_and_leaves_the_data_alone(model: str) -> None:
    planned, dataset = plan(model)
    before = {name: split.inputs.copy() for name, split in dataset.splits.items()}
    one, again = (train(planned.runs[0], dataset, "reference") for _ in range(2))
    assert not one.reason
    losses = [segment.curves["test_loss"].values.tolist() for segment in (one, again)]
    assert losses[0] == losses[1]
    for name, inputs in before.items():
        assert np.array_equal(dataset.splits[name].inputs, inputs)


def test_dropout_repeats_its_masks_where_a_checkpoint_computes_again() -> None:
    gradients = []
    for name in ("checkpointed", "not_checkpointed"):
        model = built(name)
        set_mask_key(key_dropout(model), 0, 1)
        model(torch.linspace(-1, 1, 20).view(10, 2)).square().sum().backward()
        gradients.append(model.first.weight.grad)
    assert torch.equal(*gradients)


def test_keyed_dropout_is_what_it_replaces() -> None:
    dropout = torch.nn.Dropout(0.25, inplace=True)
    model = torch.nn.Sequential(dropout, torch.nn.Identity(), dropout)
    (layer,) = key_dropout(model)
    assert model[0] is model[2] is layer
    assert isinstance(layer, KeyedDropout)
    assert isinstance(layer, torch.nn.Dropout)
    assert (layer.p, layer.inplace) == (0.25, True)
    layer.p = 1.0
    assert layer(torch.ones(50)).sum() == 0


@pytest.mark.parametrize(
    ("kind", "shape"), [(torch.nn.Dropout1d, (400, 3)), (torch.nn.Dropout3d, (400, 2, 2, 2))]
)
def test_channels_of_a_sample_without_batch_are_dropped_as_in_torch(
    kind: type[torch.nn.Module], shape: tuple[int, ...]
) -> None:
    model = torch.nn.Sequential(kind(0.5))
    set_mask_key(key_dropout(model), 0, 1)
    for outputs in (model(torch.ones(shape)), kind(0.5)(torch.ones(shape))):
        rows = outputs.flatten(1)
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        assert 0 < (rows[:, 0] == 0).sum() < len(rows)


def test_numpy_draws_the_same_initial_weights_for_one_seed() -> None:
    first = built("drawn_by_numpy").inner.weight
    np.random.random()  # whatever else draws between two runs
    assert torch.equal(built("drawn_by_numpy").inner.weight, first)


def test_a_stack_that_would_not_resume_the_same_is_not_resumed() -> None:
    planned, dataset = plan("counting")
    (stack,) = pack(planned.runs, 4)
    training = Training(stack, learner_for(stack, dataset, "stacked"))
    training.learner.chunk = 1
    for _ in training.run(lambda step: step < 3):
        pass
    check = Resumption(
        lambda specs: learner_for(specs, dataset, "stacked" if len(specs) > 1 else "reference")
    )
    with pytest.raises(CheckpointError, match="does not take the same steps"):
        check.check(training, training.checkpoint())


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize(
    "rule", ["adam", "muon", "normuon", "scion", "psgd_kron", "prodigy", "soap", "shampoo"]
)
def test_parameters_without_numbers_change_nothing(rule: str, engine: str) -> None:
    losses = []
    for empty in (False, True):
        model = {"factory": "tests.user_models:Optional", "args": {"empty": empty}}
        small, dataset = small_plan(
            problem={"dataset": dict(MOONS), "model": model}, budget={"steps": 3},
            precision="float64", optimizers=[{"rule": rule, "lr": 0.01}],
        )  # fmt: skip
        segment = train(small.runs[0], dataset, engine)
        assert not segment.reason
        losses.append(segment.curves["test_loss"].values[-1])
    assert losses[0] == losses[1]
