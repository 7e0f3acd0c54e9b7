"""The state of any optimizer as named arrays, and back, without pickle.

Everything reachable from the optimizer is stored: `state`, `param_groups`, other attributes, inner
optimizers and any other objects. Shared objects and shared memory stay shared. The state is
restored in place into a freshly built optimizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.engine.backends.joint_optimizer import JointOptimizer
from optrial.engine.backends.object_graph import GraphReader, GraphWriter
from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.errors import CheckpointError

__all__ = ["load_optimizer", "optimizer_arrays"]

Arrays = dict[str, NDArray[Any]]


def optimizer_arrays(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, shared: bool = False
) -> Arrays:
    """Return the state of an optimizer: memory of tensors as arrays, everything else as JSON.

    If something cannot be stored, `state_dict` is stored instead, provided the optimizer's class
    defines its own.

    Args:
        optimizer: the optimizer.
        model: its model, whose state is stored elsewhere.
        shared: whether the arrays may share memory with the optimizer, until its next step.

    Raises:
        CheckpointError: something cannot be stored; the message names it.
    """
    try:
        return _written("attributes", _whole(optimizer), model, shared)
    except CheckpointError:
        if not _has_own_state_dict(optimizer):
            raise
        return _written("state_dict", optimizer.state_dict(), model, shared)


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Restore the result of `optimizer_arrays`.

    Raises:
        CheckpointError: it does not fit this optimizer.
    """
    tree = json.loads(arrays["tree"].tobytes())
    reader = GraphReader(model, arrays)
    if tree["by"] == "state_dict":
        optimizer.load_state_dict(reader.read(tree["root"], None))
    else:
        reader.read(tree["root"], _whole(optimizer))


def _written(by: str, root: Any, model: nn.Module, shared: bool) -> Arrays:
    writer = GraphWriter(model, shared=shared)
    text = json.dumps({"by": by, "root": writer.write(root, "")})
    return writer.arrays() | {"tree": np.frombuffer(text.encode(), np.uint8)}


def _whole(optimizer: torch.optim.Optimizer) -> Any:
    """Return the root of the state; other attributes of a `RuleOptimizer` never change."""
    if isinstance(optimizer, RuleOptimizer):
        return [optimizer.state, optimizer.param_groups]
    if isinstance(optimizer, JointOptimizer):
        return [_whole(each) for each in optimizer.optimizers]
    return optimizer


def _has_own_state_dict(optimizer: torch.optim.Optimizer) -> bool:
    kind, base = type(optimizer), torch.optim.Optimizer
    return (
        kind.state_dict is not base.state_dict and kind.load_state_dict is not base.load_state_dict
    )
