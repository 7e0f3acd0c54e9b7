"""Outputs of a user's model that train, and yet are probably not meant, are noted in the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import optrial

INPUTS = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
CLASSES = np.arange(120) % 3
BITS = np.arange(120) % 2
WAVES = np.stack([CLASSES, BITS], axis=1)


class ByPosition(nn.Module):
    """Outputs (samples, 2, 3), or with the classes in the middle, for labels at two positions."""

    def __init__(self, axis: int, ends: nn.Module) -> None:
        super().__init__()
        self.linear, self.axis, self.ends = nn.Linear(4, 6), axis, ends

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.ends(self.linear(inputs).unflatten(1, (2, 3)))
        return outputs if self.axis == -1 else outputs.mT


def ending(outputs: int, *layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, outputs), *layers)


SOFTMAX = "returns probabilities, and cross_entropy takes logits"
SIGMOID = "returns numbers from 0 to 1, and bce takes logits"


@pytest.mark.parametrize(
    ("model", "targets", "loss", "note"),
    [
        (ending(3), CLASSES, "cross_entropy", ""),
        (ending(3, nn.Softmax(dim=-1)), CLASSES, "cross_entropy", SOFTMAX),
        (ending(3, nn.Softmax(dim=-1)), CLASSES, "focal", "focal takes logits"),
        (ending(3, nn.LogSoftmax(dim=-1)), CLASSES, "cross_entropy", ""),  # its softmax is the same
        (ending(3, nn.ReLU()), CLASSES, "cross_entropy", ""),
        (ending(5), CLASSES, "cross_entropy", "returns 5 outputs for 3 classes"),
        (lambda: ByPosition(-1, nn.Identity()), WAVES, "cross_entropy", ""),
        (lambda: ByPosition(-1, nn.Softmax(-1)), WAVES, "cross_entropy", SOFTMAX),
        (lambda: ByPosition(1, nn.Softmax(-1)), WAVES, "cross_entropy", SOFTMAX),
        (ending(1), BITS, "bce", ""),
        (ending(1, nn.Sigmoid()), BITS, "bce", SIGMOID),
        (ending(1, nn.Softplus()), BITS, "bce", ""),
        (ending(2, nn.Sigmoid()), INPUTS[:, :2], "mse", ""),
    ],
)
def test_outputs_that_are_not_meant_are_noted(
    model: Callable[[], nn.Module], targets: Any, loss: str, note: str
) -> None:
    study = optrial.Study(
        problem={"dataset": (INPUTS, targets), "model": model, "loss": loss},
        budget={"steps": 1},
        batch_size=10,
        seeds=1,
        optimizers=[{"rule": "sgd"}],
    )
    notes = [text for text in study.plan().notes if "returns" in text]
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_model_that_is_built_already_is_refused_with_the_way_out() -> None:
    built = nn.Sequential(nn.Linear(4, 3))
    for model in (built, {"factory": built}):
        with pytest.raises(
            optrial.StudyError, match=r"model: is a model that is built.*lambda: Sequential\(\.\.\."
        ):
            optrial.compare(model=model, data=(INPUTS, CLASSES), optimizers=["sgd"])
