"""Contents of arrays of NumPy, and of tensors, models and generators of PyTorch."""

from __future__ import annotations

import copyreg
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from optrial.code.errors import Unidentifiable
from optrial.code.libraries import is_library_class
from optrial.errors import USER_CODE_ERRORS

_COMPILING = ("_dynamo", "_is_torch_compile", "_compiled_call_impl")
"""Prefixes of the attributes that compiling leaves in tensors and modules."""
_ENTERED = ("prev", "_inference_mode_context", "record")
"""Prefixes of the attributes in which context managers of PyTorch keep state to restore."""


class Contents(NamedTuple):
    """Parts that identify an object.

    Attributes:
        data: text and bytes.
        objects: unnamed objects that it holds.
        attributes: named objects that it holds.
    """

    data: tuple[str | bytes, ...]
    objects: tuple[object, ...] = ()
    attributes: Mapping[str, object] = types.MappingProxyType({})


def array_contents(thing: Any) -> Contents | None:  # noqa: PLR0911  one per kind
    """Return the contents of an object of NumPy or PyTorch; None for any other object.

    Raises:
        Unidentifiable: its values cannot be read.
    """
    if isinstance(thing, np.ndarray | np.generic):
        return _array(thing)
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(thing, torch.Tensor):
        return _tensor(thing, torch)
    if isinstance(thing, torch.nn.Module):
        return _module(thing, torch)
    if isinstance(thing, torch.Generator):
        return Contents(("generator", str(thing.device), thing.get_state().numpy().tobytes()))
    if isinstance(thing, torch.utils.hooks.RemovableHandle):
        hooks = thing.hooks_dict_ref() or {}  # their keys differ between processes
        return Contents(("hook",), (hooks.get(thing.id),))
    constants = torch.dtype | torch.layout | torch.memory_format | torch.finfo | torch.iinfo
    return Contents((repr(thing),)) if isinstance(thing, constants) else None


def reduced(thing: object) -> Any:
    """Return the parts of an object that pickle would keep."""
    registered = copyreg.dispatch_table.get(type(thing))
    try:
        return registered(thing) if registered else thing.__reduce_ex__(4)
    except USER_CODE_ERRORS as error:
        raise Unidentifiable(type(thing).__name__) from error


def lasting_state(thing: object, state: Any) -> Any:
    """Remove the attributes that a context manager of PyTorch has only after it was entered."""
    kind = type(thing)
    if not kind.__module__.startswith("torch.") or not hasattr(kind, "__enter__"):
        return state
    kept = {k: v for k, v in (state or {}).items() if not k.startswith(_ENTERED)}
    return kept or None


def slots(thing: object) -> Iterator[tuple[str, object]]:
    """Yield the slots that are set, with their values."""
    for kind in type(thing).__mro__:
        for name, slot in vars(kind).items() if "__slots__" in vars(kind) else ():
            if isinstance(slot, types.MemberDescriptorType) and hasattr(thing, name):
                yield f"{kind.__name__}.{name}", getattr(thing, name)


def _array(array: Any) -> Contents:
    array = np.asarray(array) if isinstance(array, np.generic) else array
    data = "array", repr(array.dtype), str(array.shape)
    if type(array) is not np.ndarray:
        attributes = getattr(array, "__dict__", {})
        return Contents(data, (type(array), list(reduced(array)[1:])), attributes)
    if array.dtype.hasobject:
        return Contents(data, (type(array), array.tolist()))
    return Contents((*data, array.tobytes()), (type(array),))


def _tensor(tensor: Any, torch: Any) -> Contents:
    is_lazy = torch.nn.parameter.is_lazy(tensor)
    has_values = not (tensor.is_meta or is_lazy)
    shape = () if is_lazy else tuple(tensor.shape)
    facts = tensor.dtype, shape, tensor.requires_grad, tensor.layout
    attributes = getattr(tensor, "__dict__", {}).items()
    return Contents(
        (*map(str, facts), *((_bytes(tensor, torch),) if has_values else ())),
        (type(tensor),),
        {name: value for name, value in attributes if not name.startswith(_COMPILING)},
    )


def _bytes(tensor: Any, torch: Any) -> bytes:
    """Return the values of a tensor on any device, of any type and layout."""
    try:
        values = tensor.detach()
        values = (values.to_dense() if values.layout != torch.strided else values).cpu()
        values = values.resolve_conj().resolve_neg().contiguous()
        content: bytes = values.reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, TypeError) as error:
        raise Unidentifiable(type(tensor).__name__) from error
    return content


def _module(module: Any, torch: Any) -> Contents:
    """Return the contents of a `torch.nn.Module`; keys of hooks differ between processes."""
    if isinstance(module, torch.jit.ScriptModule):
        raise Unidentifiable(type(module).__name__)
    if type(module).__name__ == "OptimizedModule" and is_library_class(type(module)):
        return Contents(("compiled",), (module._orig_mod,))
    attributes = {
        name: tuple(value.values()) if "hooks" in name and isinstance(value, dict) else value
        for name, value in vars(module).items()
        if not name.startswith(_COMPILING)
    }
    return Contents(("nn.Module",), (type(module),), {**attributes, **dict(slots(module))})
