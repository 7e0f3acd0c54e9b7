"""Content hash of a Python object and of all user code that it uses.

The hash covers the loaded code, not files: bytecode, defaults, closures, the state of instances,
class bodies with their bases, and the globals that the code reads, followed through the user's
modules. Library code counts by name and version. Addresses, file names, line numbers and the
order of sets never enter it, so any process computes the same hash.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from optrial.code.arrays import array_contents
from optrial.code.errors import Unidentifiable
from optrial.code.functions import (
    write_bound,
    write_builtin,
    write_by_name,
    write_function,
    write_module,
    write_namespace,
    write_reference,
)
from optrial.code.instances import write_class, write_contents, write_instance
from optrial.code.libraries import has_text
from optrial.code.walk import Walk


def fingerprint(thing: object, home: ModuleType | None = None) -> str:
    """Return the sha256 of the content of an object, equal in all processes that load its code.

    Args:
        thing: a function, class, instance or value.
        home: user module that made the object; its text stands for state that cannot be read.

    Raises:
        Unidentifiable: the object holds such state, and no user module made it.
    """
    try:
        return _Walk(home if has_text(home) else None).digest(thing)
    except RecursionError as error:
        raise Unidentifiable(type(thing).__name__, "it is nested too deeply to be read") from error


class _Walk(Walk):
    """Writes all kinds of objects."""

    def by_name(self, thing: object) -> bool:
        return write_by_name(self, thing)

    def expand(self, node: object) -> None:
        if isinstance(node, FunctionType):
            write_function(self, node)
        elif isinstance(node, type):
            write_class(self, node)
        elif isinstance(node, ModuleType):
            write_namespace(self, node)

    def contents(self, thing: Any) -> None:
        for kind, write in _WRITERS:
            if isinstance(thing, kind):
                write(self, thing)
                return
        if type(thing) is list:
            self.items("list", thing)
        elif type(thing) in (dict, types.MappingProxyType):
            self.items(type(thing).__name__, thing.items())
        elif contents := array_contents(thing):
            write_contents(self, thing, contents)
        else:
            write_instance(self, thing)


def _parts(name: str, read: Callable[[Any], tuple[object, ...]]) -> Callable[[Walk, Any], None]:
    """Return a writer of the parts of an object."""

    def write(walk: Walk, thing: object) -> None:
        walk.items(name, read(thing))

    return write


def _write_wrapped(
    walk: Walk, wrapper: staticmethod[..., Any] | classmethod[Any, ..., Any]
) -> None:
    walk.write(type(wrapper).__name__)
    walk.value(wrapper.__func__)


def _write_descriptor(walk: Walk, descriptor: types.MethodDescriptorType) -> None:
    walk.write("descriptor", descriptor.__objclass__.__qualname__, descriptor.__name__)


_WRITERS: tuple[tuple[Any, Callable[[Walk, Any], None]], ...] = (
    (FunctionType, write_reference),
    (type, Walk.later),
    (ModuleType, write_module),
    (types.MethodType, write_bound),
    (types.BuiltinFunctionType, write_builtin),
    (
        types.WrapperDescriptorType
        | types.MethodDescriptorType
        | types.ClassMethodDescriptorType
        | types.GetSetDescriptorType
        | types.MemberDescriptorType,
        _write_descriptor,
    ),
    (staticmethod | classmethod, _write_wrapped),
    (property, _parts("property", lambda thing: (thing.fget, thing.fset, thing.fdel))),
    (functools.cached_property, _parts("cached_property", lambda thing: (thing.func,))),
    (
        functools._lru_cache_wrapper,
        _parts("lru_cache", lambda thing: (thing.__wrapped__, thing.cache_parameters())),
    ),
    (weakref.ref, _parts("weak", lambda thing: (thing(),))),
)
