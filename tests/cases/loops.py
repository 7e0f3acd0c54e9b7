"""Plain PyTorch loops over the same batches, which say what comes out right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from optrial.data import Dataset
from optrial.engine.options import batch_order
from optrial.keyed import mask_key
from optrial.models import build_model
from optrial.spec import RunSpec


class Trained(NamedTuple):
    """What a loop left."""

    losses: list[float]
    weights: dict[str, np.ndarray]


Step = Callable[[Any, Callable[[], Tensor]], Tensor]
"""Takes a step with an optimizer, given a closure; returns the first loss."""


def plain(optimizer: Any, closure: Callable[[], Tensor]) -> Tensor:
    """Compute gradients, then step."""
    loss = closure()
    optimizer.step()
    return loss


def with_closure(optimizer: Any, closure: Callable[[], Tensor]) -> Tensor:
    """Step with a closure, which the optimizer calls first."""
    return optimizer.step(closure)


def gradients_first(optimizer: Any, closure: Callable[[], Tensor]) -> Tensor:
    """Compute gradients, then step with a closure, as `pytorch_optimizer.SAM` asks."""
    loss = closure()
    optimizer.step(closure)
    return loss


def train_plainly(
    run: RunSpec,
    dataset: Dataset,
    make: Callable[[Iterator[nn.Parameter]], Any],
    step: Step = plain,
    *,
    create_graph: bool = False,
) -> Trained:
    """Train the run's model on its batches, in float64, with cross entropy."""
    model = build_model(
        run.model,
        run.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        seed=run.seed,
    ).double()
    optimizer = make(model.parameters())
    split, losses = dataset.splits["train"], []
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)
    batches = batch_order(run, len(targets)).batches(1)
    for number, rows in enumerate(islice(batches, run.steps), 1):

        def closure(rows: Any = rows) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows].long())
            loss.backward(create_graph=create_graph)
            return loss

        torch.manual_seed(mask_key(run.seed, number))  # draws of an optimizer
        losses.append(step(optimizer, closure).item())
    return Trained(losses, {name: v.detach().numpy() for name, v in model.state_dict().items()})
