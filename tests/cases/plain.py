"""A plain PyTorch loop: the batches of a run, one model, one optimizer and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optrial.data import Dataset
from optrial.engine import Training
from optrial.engine.options import batch_order
from optrial.keyed import mask_key
from optrial.models import build_model
from optrial.spec import RunSpec
from tests.small import learner_for

Loss = Callable[[Tensor, Tensor], Tensor]


def by_torch(run: RunSpec, dataset: Dataset, loss: Loss, optimizer: Any) -> tuple[nn.Module, Any]:
    """Train in float64; return the model and the loss of each step.

    Args:
        run: what to train.
        dataset: what to train it on.
        loss: of outputs and targets.
        optimizer: makes one of parameters.
    """
    with default_float64():
        model = build_model(
            run.model,
            run.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=None,
        )
    model.load_state_dict(started(run, dataset))
    made, losses = optimizer(model.parameters()), []
    inputs, targets = split_of(dataset, "train")
    batches = islice(batch_order(run, len(targets)).batches(1), run.steps)
    for step, rows in enumerate(batches, start=1):
        made.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mask_key(run.seed, step))  # for layers that draw
            value = loss(model.train()(inputs[rows]), targets[rows])
        value.backward()
        made.step()
        losses.append(value.item())
    return model.eval(), losses


def started(run: RunSpec, dataset: Dataset) -> dict[str, Tensor]:
    """Return the weights with which a run starts, drawn in float32, in float64."""
    model = build_model(
        run.model,
        run.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        seed=run.seed,
    )
    return dict(model.double().state_dict())


class default_float64:  # noqa: N801  a context manager
    """Build new tensors in float64, buffers included."""

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(self.before)


def split_of(dataset: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, real numbers in float64."""
    arrays = dataset.splits[split]
    inputs, targets = torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.targets)
    return inputs.double(), targets.double() if targets.is_floating_point() else targets


def by_optrial(run: RunSpec, dataset: Dataset, engine: str) -> tuple[dict[str, np.ndarray], Any]:
    """Train in an engine; return the weights and the recorded curves."""
    training = Training([run], learner_for([run], dataset, engine))
    for _ in training.run():
        pass
    (segment,) = training.segments()
    assert segment.reason == ""
    return training.learner.weights(0), {n: c.values for n, c in segment.curves.items()}
