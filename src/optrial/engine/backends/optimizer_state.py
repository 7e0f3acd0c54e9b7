"""The state of any optimizer as named arrays, and back, without pickle.

All that is reachable from the optimizer is stored: `state`, `param_groups`, other attributes, inner
optimizers and any further objects. Objects keep their identity, and tensors that
share memory share it again. It is restored into a freshly built optimizer, whose objects are
changed in place; no class is looked up by name. What cannot be stored raises `CheckpointError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.engine.backends.object_graph import GraphReader, GraphWriter
from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.errors import CheckpointError

__all__ = ["load_optimizer", "optimizer_arrays"]

Arrays = dict[str, NDArray[Any]]


def optimizer_arrays(optimizer: torch.optim.Optimizer, model: nn.Module) -> Arrays:
    """Return the state: the memory of tensors as arrays, everything around them as JSON.

    An optimizer that holds something that cannot be stored is stored by its own `state_dict`, if
    its class defines one.

    Raises:
        CheckpointError: it holds something that cannot be stored; the message names it.
    """
    try:
        return _written("attributes", _whole(optimizer), model)
    except CheckpointError:
        if not _has_own_state_dict(optimizer):
            raise
        return _written("state_dict", optimizer.state_dict(), model)


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Restore what `optimizer_arrays` returned.

    Raises:
        CheckpointError: it does not fit this optimizer.
    """
    tree = json.loads(arrays["tree"].tobytes())
    reader = GraphReader(model, arrays)
    if tree["by"] == "state_dict":
        optimizer.load_state_dict(reader.read(tree["root"], None))
    else:
        reader.read(tree["root"], _whole(optimizer))


def _written(by: str, root: Any, model: nn.Module) -> Arrays:
    writer = GraphWriter(model)
    text = json.dumps({"by": by, "root": writer.write(root, "")})
    return writer.arrays() | {"tree": np.frombuffer(text.encode(), np.uint8)}


def _whole(optimizer: torch.optim.Optimizer) -> Any:
    """Return the object that holds all state; a rule's own attributes do not change."""
    if isinstance(optimizer, RuleOptimizer):
        return [optimizer.state, optimizer.param_groups]
    return optimizer


def _has_own_state_dict(optimizer: torch.optim.Optimizer) -> bool:
    own, base = type(optimizer), torch.optim.Optimizer
    return own.state_dict is not base.state_dict and own.load_state_dict is not base.load_state_dict
