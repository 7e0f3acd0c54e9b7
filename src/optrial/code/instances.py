"""Classes and instances: bases, attributes, and everything that pickle would keep."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import functools
import inspect
import pickle
import sys
from collections.abc import Mapping

from optrial.code.arrays import Contents, lasting_state, reduced, slots
from optrial.code.errors import Unidentifiable
from optrial.code.libraries import (
    is_extension,
    is_library,
    is_library_class,
    resolve,
    text_attribute,
    without_hooks,
)
from optrial.code.texts import text_of
from optrial.code.walk import Walk

_WITHOUT_MEANING = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__firstlineno__", "__static_attributes__", "__slotnames__"),
    *("__orig_bases__", "__parameters__", "__type_params__"),
    *("__abstractmethods__", "_abc_impl", "_abc_registry", "_abc_cache"),
    *("_autograd_function_id", "_backward_cls"),  # of torch.autograd.Function: numbered by process
}
"""Class attributes without effect on behaviour, or that differ between processes."""
_ENUM_CACHES = {
    *("_value2member_map_", "_hashable_values_", "_unhashable_values_"),
    "_unhashable_values_map_",
}
"""Attributes of an enumeration that follow from its members and grow with use."""


def write_class(walk: Walk, kind: type) -> None:
    """Write a class: its bases and the attributes of its body."""
    module = sys.modules.get(text_attribute(kind, "__module__") or "")
    walk.write("class", kind.__name__)
    if module is not None and is_extension(module):
        if is_library(module):
            walk.library(module.__name__, kind.__qualname__)
        else:
            walk.write(text_of(module))
        return
    walk.value(type(kind))
    walk.items("bases", kind.__bases__)
    for name, attribute in sorted(vars(kind).items()):
        if _has_meaning(kind, name, attribute):
            walk.write(name)
            walk.named_value(f".{name}", attribute)
    _write_pydantic(walk, kind)


def _has_meaning(kind: type, name: str, attribute: object) -> bool:
    """Return whether a class attribute was written by the user and affects behaviour."""
    if name in _WITHOUT_MEANING or name.startswith("__pydantic_"):
        return False
    if name in _ENUM_CACHES and issubclass(kind, enum.Enum):
        return False
    original = without_hooks(attribute)
    return original is attribute or original is not without_hooks(_inherited(kind, name))


def _inherited(kind: type, name: str) -> object:
    """Return an attribute of the bases of a class, or None."""
    return next((vars(base)[name] for base in kind.__mro__[1:] if name in vars(base)), None)


def _write_pydantic(walk: Walk, kind: type) -> None:
    """Write the fields and decorators of a pydantic model, in place of compiled validators."""
    groups = vars(kind).get("__pydantic_decorators__")
    for group in dataclasses.fields(groups) if dataclasses.is_dataclass(groups) else ():
        for name, decorator in getattr(groups, group.name).items():
            walk.items(f"{group.name}.{name}", (getattr(decorator, "info", None),))
    walk.named_value("its fields", vars(kind).get("__pydantic_fields__"))


def write_contents(walk: Walk, thing: object, contents: Contents) -> None:
    """Write an object of NumPy or PyTorch by its contents."""
    walk.write(*contents.data)
    for item in contents.objects:
        walk.value(item)
    walk.mapping("attributes", _uncached(walk, thing, contents.attributes))


def write_instance(walk: Walk, thing: object) -> None:
    """Write the class of an instance, its attributes, and all else that pickle would keep."""
    kind = type(thing)
    walk.write("instance")
    walk.value(kind)
    if not is_library_class(kind):
        walk.mapping("attributes", _uncached(walk, thing, getattr(thing, "__dict__", {})))
        walk.mapping("slots", dict(slots(thing)))
    parts = reduced(thing)
    if isinstance(parts, str):
        _write_global(walk, thing, parts)
        return
    make, arguments, state, *contents = (*parts, None, None, None)[:5]
    walk.items("made", (make, arguments, *(c and list(c) for c in contents)))
    if is_library_class(kind) or not _reduces_by_default(kind):
        state = lasting_state(thing, state)
        if isinstance(state, dict):
            walk.mapping("state", state)
        else:
            walk.value(state)


def _reduces_by_default(kind: type) -> bool:
    names = ("__reduce_ex__", "__reduce__", "__getstate__")
    return all(getattr(kind, name) is getattr(object, name) for name in names)


def _uncached(walk: Walk, thing: object, attributes: Mapping[str, object]) -> dict[str, object]:
    """Leave out the values of cached properties."""
    return {k: v for k, v in attributes.items() if not _is_cached(walk, thing, k, v)}


def _is_cached(walk: Walk, thing: object, name: str, value: object) -> bool:
    """Return whether a cached property of the class computes the value of an attribute.

    The value is computed again, because an attribute may have been assigned in its place.
    """
    definition = inspect.getattr_static(type(thing), name, None)
    if not isinstance(definition, functools.cached_property):
        return False
    with contextlib.suppress(Exception):
        fresh = copy.copy(thing)
        del vars(fresh)[name]
        return walk.digest_of(getattr(fresh, name)) == walk.digest_of(value)
    return False


def _write_global(walk: Walk, thing: object, name: str) -> None:
    """Write an object that pickle stores as the name of a global."""
    module = text_attribute(thing, "__module__")
    if module is None:
        module = pickle.whichmodule(thing, name)  # type: ignore[attr-defined]
    if resolve(module, name) is not thing:
        raise Unidentifiable(type(thing).__name__)
    walk.write(module, name)
    if is_extension(sys.modules[module]) and not is_library(sys.modules[module]):
        walk.write(text_of(sys.modules[module]))
