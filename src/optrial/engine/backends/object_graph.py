"""Objects with everything they reference, as JSON and arrays, and back.

Reading creates only plain containers and tensors. Every other object must exist already, built by
the same code that built the stored one; no class is looked up by name.
"""

from __future__ import annotations

import copyreg
import enum
import logging
import random
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optrial.errors import CheckpointError

__all__ = ["GraphReader", "GraphWriter"]

Tree = Any
"""JSON: a scalar, or a mapping with one key, the kind of value, and its content."""

_CONTAINERS: Mapping[str, Callable[[], Any]] = {
    **{kind.__name__: kind for kind in (dict, OrderedDict, list, set, deque)},
    **{
        f"defaultdict of {kind.__name__}": partial(defaultdict, kind)
        for kind in (dict, list, set, int, float)
    },
}
_CONSTANT = (
    *(type, types.ModuleType, types.BuiltinFunctionType, enum.Enum, logging.Logger, range, slice),
    *(
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
        weakref.ref,
        np.dtype,
        np.ufunc,
    ),
)
"""Immutable types: a freshly built object already has the right value."""


class GraphWriter:
    """Writes objects as trees; the model's parameters, buffers and modules are written by name.

    Args:
        model: the model; its state is stored elsewhere.
        shared: whether the arrays may share memory with the objects.
    """

    def __init__(self, model: nn.Module, *, shared: bool = False) -> None:
        self._shared = shared
        self._known = {id(value): node for value, node in _known(model)}
        self._device = next(model.parameters()).device
        self._model_memory = {_memory(t): name for name, t in _tensors(model)}
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps each `id` unique
        self._storages: dict[int, tuple[str, torch.UntypedStorage]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the memory of all tensors and arrays written so far."""
        memory = {name: _bytes_of(storage) for name, storage in self._storages.values()}
        arrays = {**memory, **self._arrays}
        return arrays if self._shared else {name: array.copy() for name, array in arrays.items()}

    def write(self, value: Any, path: str) -> Tree:
        """Return a value with everything it references.

        Args:
            value: any object.
            path: expression by which the user would access it, for error messages.

        Raises:
            CheckpointError: it references something whose state cannot be read.
        """
        if (
            type(value) is int and value in self._known
        ):  # an `id`, as keys of dictionaries often are
            return {"id": self._known[value]}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self._known:
            return self._known[id(value)]
        if id(value) in self._numbers:
            return {"seen": self._numbers[id(value)]}
        if (plain := self._immutable(value, path)) is not None:
            return plain
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return self._mutable(value, path)

    def _immutable(self, value: Any, path: str) -> Tree | None:  # noqa: PLR0911  one per kind
        """Return the tree of a value whose identity does not matter; None for any other."""
        match value:
            case torch.dtype():
                return {"dtype": str(value)}
            case torch.Size():
                return {"size": list(value)}
            case complex():
                return {"complex": [value.real, value.imag]}
            case bytes():
                return {"bytes": value.hex()}
            case np.generic() if value.dtype.kind in "biufc":
                return {"numpy": [value.dtype.str, value.tobytes().hex()]}
            case types.MethodType():
                return {
                    "method": [self.write(value.__func__, path), self.write(value.__self__, path)]
                }
            case frozenset():
                return {"frozenset": self._parts(value, "set", path)}
            case tuple():
                parts = [self.write(part, f"{path}[{i}]") for i, part in enumerate(value)]
                return {"tuple": [type(value).__qualname__, parts]}
        return {"constant": _name(value)} if isinstance(value, _CONSTANT) else None

    def _mutable(self, value: Any, path: str) -> Tree:  # noqa: PLR0911  one per kind
        kind = _container(value)
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value, path)}
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, path)}
        if isinstance(value, torch.Generator):
            return {"generator": self.write(value.get_state(), path)}
        if isinstance(value, np.random.Generator):
            return {"numpy generator": self.write(value.bit_generator.state, path)}
        if isinstance(value, random.Random):
            return {"random": self.write(value.getstate(), path)}
        if isinstance(value, types.CellType):
            return {"cell": [self.write(part, path) for part in _cell_contents(value)]}
        if kind.startswith(("dict", "defaultdict", "OrderedDict")):
            return {kind: self._items(value, path)}
        if kind:
            return {kind: self._parts(value, kind, path)}
        attributes = _attributes(value, path)
        parts = [self.write(part, f"{path}.{name}".lstrip(".")) for name, part in attributes]
        return {"object": [_name(value), [name for name, _ in attributes], parts]}

    def _items(self, value: Mapping[Any, Any], path: str) -> list[list[Tree]]:
        subscripts = {key: f"[{key!r}]" if isinstance(key, str | int) else "[...]" for key in value}
        return [
            [self.write(key, path), self.write(part, path + subscripts[key])]
            for key, part in value.items()
        ]

    def _parts(self, value: Any, kind: str, path: str) -> list[Any]:
        ordered = sorted(value, key=repr) if kind == "set" else value
        parts = [self.write(part, f"{path}[{i}]") for i, part in enumerate(ordered)]
        return [parts, value.maxlen] if kind == "deque" else parts

    def _tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        if value.layout != torch.strided or type(value) not in (Tensor, nn.Parameter):
            raise _unstored(path, f"a {str(value.layout).removeprefix('torch.')} tensor")
        memory = value.detach().resolve_conj().resolve_neg()
        address = _memory(memory)
        if address in self._model_memory:
            storage = {"of": self._model_memory[address]}
        else:
            name = f"memory{len(self._storages)}"
            storage = {
                "in": self._storages.setdefault(address, (name, memory.untyped_storage()))[0]
            }
        self._alive.append(memory)
        return storage | {
            "dtype": str(memory.dtype),
            "shape": list(memory.shape),
            "stride": list(memory.stride()),
            "offset": memory.storage_offset(),
            "beside_model": memory.device == self._device,
            "parameter": isinstance(value, nn.Parameter),
            "requires_grad": value.requires_grad and value.is_leaf,
        }

    def _array(self, value: NDArray[Any], path: str) -> str:
        if value.dtype.hasobject or type(value) is not np.ndarray:
            raise _unstored(path, "an array of objects")
        name = f"array{len(self._arrays)}"
        self._arrays[name] = value
        return name


class GraphReader:
    """Restores what a `GraphWriter` wrote.

    Args:
        model: a freshly built model of the same architecture.
        arrays: arrays of the writer.
    """

    def __init__(self, model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._known = {_key(node): value for value, node in _known(model)}
        self._used = {id(value) for value in self._known.values()}
        self._tensors = dict(_tensors(model))
        self._device = next(model.parameters()).device
        self._arrays = arrays
        self._seen: list[Any] = []
        self._storages: dict[str, torch.UntypedStorage] = {}

    def read(self, tree: Tree, fresh: Any) -> Any:  # noqa: PLR0911, PLR0912  one per kind
        """Return the object that was written as a tree.

        Args:
            tree: result of the writer.
            fresh: object of a freshly built graph at the same place; restored in place.

        Raises:
            CheckpointError: the object at this place is of another type.
        """
        if not isinstance(tree, dict):
            return tree
        ((kind, inner),) = tree.items()
        match kind:
            case "known":
                return self._known[_key(tree)]
            case "id":
                return id(self._known[_key(inner)])
            case "seen":
                return self._seen[inner]
            case "dtype":
                return getattr(torch, inner.removeprefix("torch."))
            case "size":
                return torch.Size(inner)
            case "complex":
                return complex(*inner)
            case "bytes":
                return bytes.fromhex(inner)
            case "numpy":
                return np.frombuffer(bytes.fromhex(inner[1]), np.dtype(inner[0]))[0]
            case "method":
                self.read(inner[0], getattr(fresh, "__func__", None))
                self.read(inner[1], getattr(fresh, "__self__", None))
                return fresh
            case "frozenset":
                return frozenset(self.read(part, None) for part in inner)
            case "tuple":
                return self._tuple(inner, fresh)
            case "constant":
                return _same(fresh, _name(fresh), inner)
        return self._mutable(kind, inner, fresh)

    def _tuple(self, inner: Any, fresh: Any) -> Any:
        name, parts = inner
        old = (
            fresh if isinstance(fresh, tuple) and len(fresh) == len(parts) else [None] * len(parts)
        )
        values = [self.read(part, old[i]) for i, part in enumerate(parts)]
        if name == "tuple":
            return tuple(values)
        _same(fresh, type(fresh).__qualname__, name)
        return fresh._make(values) if hasattr(fresh, "_make") else type(fresh)(values)

    def _mutable(self, kind: str, inner: Any, fresh: Any) -> Any:
        if id(fresh) in self._used:  # shared now, but not when it was written
            fresh = None
        number = len(self._seen)
        self._seen.append(None)
        if kind == "tensor":
            tensor = self._seen[number] = self._tensor(inner, fresh)
            self._used.add(id(tensor))
            return tensor
        value: Any
        if kind in _CONTAINERS:
            value = fresh if _container(fresh) == kind else _empty(kind, inner)
        else:
            value = self._arrays[inner].copy() if kind == "array" else fresh
        self._seen[number] = value
        self._used.add(id(value))
        if kind in _CONTAINERS:
            self._fill(value, kind, inner)
        elif kind != "array":
            self._change(value, kind, inner)
        return value

    def _fill(self, value: Any, kind: str, inner: Any) -> None:
        if kind.startswith(("dict", "defaultdict", "OrderedDict")):
            old = dict(value)
            value.clear()
            for key_tree, part in inner:
                key = self.read(key_tree, None)
                value[key] = self.read(part, old.get(key))
            return
        trees = inner[0] if kind == "deque" else inner
        old_parts = list(value) if kind != "set" else []
        value.clear()
        for i, part in enumerate(trees):
            read = self.read(part, old_parts[i] if i < len(old_parts) else None)
            value.add(read) if kind == "set" else value.append(read)

    def _change(self, value: Any, kind: str, inner: Any) -> None:
        """Restore the state of an object that exists already."""
        if kind == "object":
            name, names, trees = inner
            _same(value, _name(value), name)
            self._change_attributes(value, names, trees)
        elif kind == "cell":
            old = _cell_contents(_same(value, type(value).__name__, "cell"))
            for tree in inner:
                value.cell_contents = self.read(tree, old[0] if old else None)
        elif kind == "generator":
            _same(value, type(value).__name__, "Generator").set_state(self.read(inner, None))
        elif kind == "numpy generator":
            state = self.read(inner, None)
            _same(value, type(value).__name__, "Generator").bit_generator.state = state
        else:
            _same(isinstance(value, random.Random), True, True)
            value.setstate(self.read(inner, None))

    def _change_attributes(self, value: Any, names: list[str], trees: list[Tree]) -> None:
        old = dict(_attributes(value, ""))
        if isinstance(value, types.FunctionType | partial):
            if names != list(old):
                raise CheckpointError(f"it was built with another {_name(value)}")
            for name, tree in zip(names, trees, strict=True):
                self.read(tree, old[name])
            return
        namespace = getattr(value, "__dict__", {})
        read = {n: self.read(tree, old.get(n)) for n, tree in zip(names, trees, strict=True)}
        namespace.clear()
        for name, part in read.items():
            if _is_slot(value, name):
                setattr(value, name, part)
            else:
                namespace[name] = part

    def _tensor(self, inner: Mapping[str, Any], fresh: Any) -> Tensor:
        dtype = getattr(torch, inner["dtype"].removeprefix("torch."))
        # Other tensors, such as step counters and generator states, are on the CPU.
        place = self._device if inner["beside_model"] else torch.device("cpu")
        tensor = torch.empty(0, dtype=dtype, device=place)
        storage = (
            self._tensors[inner["of"]].untyped_storage()
            if "of" in inner
            else self._storage(inner["in"], tensor.device)
        )
        tensor.set_(storage, inner["offset"], inner["shape"], inner["stride"])
        kind = nn.Parameter if inner["parameter"] else Tensor
        if type(fresh) is kind and fresh.is_leaf and fresh.dtype == dtype:
            fresh.data = tensor
        else:
            fresh = nn.Parameter(tensor, requires_grad=False) if inner["parameter"] else tensor
        return fresh.requires_grad_(inner["requires_grad"])  # type: ignore[no-any-return]

    def _storage(self, name: str, device: torch.device) -> torch.UntypedStorage:
        if name not in self._storages:
            stored = torch.from_numpy(self._arrays[name].copy()).to(device)
            self._storages[name] = stored.untyped_storage()
        return self._storages[name]


def _known(model: nn.Module) -> Iterator[tuple[Any, Tree]]:
    """Yield the parts of a model with their trees."""
    for name, tensor in _tensors(model):
        yield tensor, {"known": ["tensor", name]}
    for name, module in model.named_modules():
        yield module, {"known": ["module", name]}


def _key(node: Tree) -> tuple[str, str]:
    kind, name = node["known"]
    return kind, name


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _memory(tensor: Tensor) -> int:
    """Return a number that tensors have in common exactly if they share memory."""
    return int(tensor.untyped_storage()._cdata)


def _bytes_of(storage: torch.UntypedStorage) -> NDArray[Any]:
    view = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return view.set_(storage).cpu().numpy()


def _container(value: Any) -> str:
    """Return the key of `_CONTAINERS` for a value, or ""."""
    if type(value) is defaultdict:
        factory = getattr(value.default_factory, "__name__", "")
        name = f"defaultdict of {factory}"
        return name if name in _CONTAINERS else ""
    name = type(value).__name__
    kind = _CONTAINERS.get(name)
    return name if kind is type(value) else ""


def _empty(kind: str, inner: Any) -> Any:
    return deque(maxlen=inner[1]) if kind == "deque" else _CONTAINERS[kind]()


def _attributes(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return the attributes of an object, or the parts of a function.

    Raises:
        CheckpointError: it may have state that Python cannot read.
    """
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        defaults = [("defaults", value.__defaults__), ("keywords", value.__kwdefaults__)]
        return [*cells, *defaults, *vars(value).items()]
    if isinstance(value, partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    kind = type(value)
    if any({"__reduce__", "__reduce_ex__"} & vars(base).keys() for base in kind.__mro__[:-1]):
        raise _unstored(path, f"a {_name(value)}")
    try:
        if "__getstate__" not in {name for base in kind.__mro__[:-1] for name in vars(base)}:
            object.__reduce_ex__(value, 2)  # refuses C types with state beyond attributes
    except TypeError as error:
        raise _unstored(path, f"a {_name(value)}") from error
    slots = [name for name in copyreg._slotnames(kind) if hasattr(value, name)]  # type: ignore[attr-defined]
    return [
        *getattr(value, "__dict__", {}).items(),
        *((name, getattr(value, name)) for name in slots),
    ]


def _is_slot(value: Any, name: str) -> bool:
    return name in copyreg._slotnames(type(value))  # type: ignore[attr-defined]


def _cell_contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


def _name(value: Any) -> str:
    """Return the name of a class, function or module; of any other object, that of its class."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    named_types = type | types.FunctionType | types.BuiltinFunctionType
    named: Any = value if isinstance(value, named_types) else type(value)
    if isinstance(value, enum.Enum | torch.device):
        return str(value)
    return f"{named.__module__}.{named.__qualname__}".removeprefix("builtins.")


def _same(value: Any, name: Any, written: Any) -> Any:
    """Return a value of a freshly built object, provided its name is the one that was written."""
    if name != written:
        raise CheckpointError(f"it was built without the {written} that it holds now")
    return value


def _unstored(path: str, kind: str) -> CheckpointError:
    return CheckpointError(f"its {path or 'class'} holds {kind}, which cannot be stored")
