"""The state of any `torch.optim.Optimizer` as named arrays, and back.

State that an optimizer keeps in `state` and `param_groups`, as PyTorch asks of it, is complete;
what it hides elsewhere is lost when a run is interrupted.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["load_optimizer", "optimizer_arrays"]

Arrays = dict[str, NDArray[Any]]


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> Arrays:
    """Return the state: tensors as arrays of their own, everything around them as JSON."""
    numbers = {id(p): i for i, p in enumerate(_parameters(optimizer))}
    arrays: Arrays = {}
    tree = {
        "state": [
            [numbers.get(id(key), key), _plain(value, arrays)]
            for key, value in optimizer.state.items()
        ],
        "groups": [
            _plain({k: v for k, v in group.items() if k != "params"}, arrays)
            for group in optimizer.param_groups
        ],
    }
    text = json.dumps(tree).encode()
    return arrays | {"tree": np.frombuffer(text, np.uint8)}


def load_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Take up what `optimizer_arrays` returned."""
    parameters = list(_parameters(optimizer))
    device = parameters[0].device
    tree = json.loads(arrays["tree"].tobytes())
    for key, value in tree["state"]:
        owner = parameters[key] if isinstance(key, int) else key
        optimizer.state[owner] = _restored(value, arrays, device)
    for group, value in zip(optimizer.param_groups, tree["groups"], strict=True):
        group.update(_restored(value, arrays, device))


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _plain(value: Any, arrays: Arrays) -> Any:  # noqa: PLR0911  one a kind
    """Write a value as JSON can hold it; each tensor becomes the name of an array."""
    match value:
        case torch.Tensor():
            name, kept = f"tensor{len(arrays)}", value.detach().cpu().resolve_conj()
            if kept.dtype == torch.bfloat16:  # which NumPy does not have
                kept = kept.view(torch.int16)
            arrays[name] = kept.contiguous().numpy().copy()
            return {"tensor": [name, str(value.dtype), list(value.stride())]}
        case torch.dtype():
            return {"dtype": str(value)}
        case deque():
            return {"deque": [[_plain(part, arrays) for part in value], value.maxlen]}
        case dict():
            return {"dict": [[_plain(k, arrays), _plain(v, arrays)] for k, v in value.items()]}
        case tuple():
            return {"tuple": [_plain(part, arrays) for part in value]}
        case list():
            return {"list": [_plain(part, arrays) for part in value]}
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a state that holds {type(value).__name__} cannot be kept in a checkpoint")


def _restored(  # noqa: PLR0911  one a kind
    value: Any, arrays: Mapping[str, NDArray[Any]], device: torch.device
) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    match kind:
        case "tensor":
            name, dtype, strides = inner
            tensor = torch.from_numpy(arrays[name].copy())
            if dtype == "torch.bfloat16":
                tensor = tensor.view(torch.bfloat16)
            laid_out = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=device)
            return laid_out.copy_(tensor)
        case "dtype":
            return getattr(torch, inner.removeprefix("torch."))
        case "deque":
            return deque([_restored(part, arrays, device) for part in inner[0]], inner[1])
        case "dict":
            return {_restored(k, arrays, device): _restored(v, arrays, device) for k, v in inner}
        case "tuple":
            return tuple(_restored(part, arrays, device) for part in inner)
    return [_restored(part, arrays, device) for part in inner]
