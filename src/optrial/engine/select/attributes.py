"""Attributes of a model other than parameters and buffers, which the runs of a stack share."""

from __future__ import annotations

import io
import pickle
from itertools import chain
from typing import Any

from torch import Tensor, nn

__all__ = ["Attributes"]

_OF_TORCH = {"_parameters", "_buffers", "_modules", "training"}


class Attributes:
    """The attributes of a model and its modules, to be compared with those at another time.

    Parameters and buffers do not count, nor do modules of PyTorch and optrial, whose attributes do
    not change their outputs. Tensors are equal if they are the same tensor, not written to
    in between; an object that cannot be pickled is equal to itself.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = {id(x) for x in chain(model.parameters(), model.buffers())}
        self._tensors: list[Tensor] = []  # kept, because another one could get its number
        self._values = {
            (name, key): self._comparable(value)
            for name, module in model.named_modules()
            if type(module).__module__.partition(".")[0] not in ("torch", "optrial")
            for key, value in vars(module).items()
            if key not in _OF_TORCH
        }

    def changed(self, earlier: Attributes) -> str:
        """Return the name of an attribute that differs from an earlier one; "" if there is none."""
        for name, key in {**earlier._values, **self._values}:
            values = (of._values.get((name, key), _MISSING) for of in (earlier, self))
            if not _same(*values):
                return f"{name}.{key}".lstrip(".")
        return ""

    def _comparable(self, value: Any) -> Any:
        """Return the bytes of a value, or the value."""
        written = io.BytesIO()
        try:
            _Pickler(written, self._tensors, self._model).dump(value)
        except Exception:  # noqa: BLE001  of a class of the user
            return value
        return written.getvalue()


_MISSING = object()


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, bytes) and isinstance(other, bytes) and one == other)


class _Pickler(pickle.Pickler):
    """Writes tensors by their numbers and versions, those of the model by their numbers."""

    def __init__(self, file: io.BytesIO, tensors: list[Tensor], model: set[int]) -> None:
        super().__init__(file)
        self._kept, self._model = tensors, model

    def persistent_id(self, obj: Any) -> Any:
        """Return what stands for a tensor; None for another object."""
        if not isinstance(obj, Tensor):
            return None
        self._kept.append(obj)
        return id(obj), None if id(obj) in self._model else obj._version
