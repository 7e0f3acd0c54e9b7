"""Content hash of a Python object and of all user code that it uses.

The hash covers the loaded code, not files: bytecode, defaults, closures, the state of instances,
class bodies with their bases, and the globals that the code reads, followed through the user's
modules. Library code counts by name and version. Addresses, file names, line numbers and the
order of sets never enter it, so that any process computes the same hash.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import dataclasses
import enum
import functools
import inspect
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from optrial.errors import USER_CODE_ERRORS, one_line
from optrial.identity.arrays import Contents, array_contents, lasting_state, reduced, slots
from optrial.identity.bytecode import Import, global_names, imported, imports
from optrial.identity.errors import Unidentifiable
from optrial.identity.libraries import (
    has_text,
    home_of,
    is_extension,
    is_library,
    is_library_class,
    is_library_name,
    is_own,
    is_own_code,
    is_patch,
    library_version,
    module_of,
    resolve,
    text_attribute,
    without_hooks,
)
from optrial.identity.texts import NotImportedText, text_sha256

__all__ = ["fingerprint"]

_MISSING = object()
_COMPILED = "_torchdynamo_orig_callable"
"""Attribute of a function that `torch.compile` returns."""
_ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(range, slice, type(...), type(NotImplemented)),
)
_NAMED = (type, FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc)
_OF_MODULE = {"__name__", "__file__", "__doc__", "__spec__", "__loader__", "__package__"}
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


def fingerprint(thing: Any, home: ModuleType | None = None) -> str:
    """Return the sha256 of what an object is; equal in every process that loads the same code.

    Args:
        thing: a function, class, instance or value.
        home: user module that made the object; its text stands for state that cannot be read.

    Raises:
        Unidentifiable: it holds such state, and no user module made it.
    """
    try:
        return _Walk(home if has_text(home) else None).digest(thing)
    except RecursionError as error:
        raise Unidentifiable(type(thing).__name__, "it is nested too deeply to be read") from error


class _Walk:
    """One traversal, breadth first over the user's functions, classes and modules."""

    def __init__(
        self, home: ModuleType | None, seen: Mapping[int, tuple[int, Any]] | None = None
    ) -> None:
        self._hash = sha256()
        self._home = home
        self._seen = dict(seen or {})  # id -> number of its visit; holds the object, to keep its id
        self._queue: list[tuple[Any, ModuleType | None]] = []

    def digest(self, thing: Any) -> str:
        self._or_text(self._home, functools.partial(self._value, thing))
        for node, home in self._queue:  # grows meanwhile
            self._home = home
            self._or_text(home, functools.partial(self._named, _label(node), self._expand, node))
        return self._hash.hexdigest()

    # Writing

    def _write(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self._hash.update(b"%d:" % len(data))
            self._hash.update(data)

    def _named(self, step: str, action: Callable[..., None], *arguments: Any) -> None:
        """Run an action; prepend a step to the path of an `Unidentifiable` that it raises."""
        try:
            action(*arguments)
        except Unidentifiable as error:
            error.path.insert(0, step)
            raise

    def _or_text(self, home: ModuleType | None, action: Callable[[], None]) -> None:
        """Run an action; on unreadable state, write the text of the home module instead."""
        state, visited, queued = self._hash.copy(), len(self._seen), len(self._queue)
        try:
            action()
        except Unidentifiable:
            if home is None:
                raise
            self._hash = state
            for _ in range(len(self._seen) - visited):
                self._seen.popitem()
            del self._queue[queued:]
            self._write("text", _text_of(home))

    # Values

    def _value(self, thing: Any) -> None:
        thing = without_hooks(thing)
        kind = type(thing)
        if kind in _ATOMS:
            self._write(kind.__name__, hex(thing) if kind is int else repr(thing))
        elif kind is tuple:
            self._items("tuple", thing)
        elif isinstance(thing, CodeType):
            self._code(thing)
        elif kind in (set, frozenset):
            self._set(thing)
        elif not (self._by_name(thing) or self._visited(thing)):
            self._once(thing)

    def _visited(self, thing: Any) -> bool:
        """Write the number of an earlier visit and return True, or count this visit."""
        if id(thing) in self._seen:
            self._write("again", str(self._seen[id(thing)][0]))
            return True
        self._seen[id(thing)] = len(self._seen), thing
        return False

    def _once(self, thing: Any) -> None:
        """Write an object on its first visit; user classes may raise anything."""
        try:
            self._by_type(thing)
        except (Unidentifiable, RecursionError):
            raise
        except USER_CODE_ERRORS as error:
            reason = f"reading it raised {one_line(error)}"
            raise Unidentifiable(type(thing).__name__, reason) from error

    def _by_type(self, thing: Any) -> None:
        for kind, write in _WRITERS:
            if isinstance(thing, kind):
                write(self, thing)
                return
        kind = type(thing)
        if kind in (list, dict, types.MappingProxyType):
            self._items(kind.__name__, thing.items() if isinstance(thing, Mapping) else thing)
        elif contents := array_contents(thing):
            self._contents(thing, contents)
        else:
            self._instance(thing)

    def _contents(self, thing: Any, contents: Contents) -> None:
        self._write(*contents.data)
        for item in contents.objects:
            self._value(item)
        self._mapping("attributes", self._uncached(thing, contents.attributes))

    def _items(self, kind: str, items: Iterable[Any]) -> None:
        items = list(items)
        self._write(kind, str(len(items)))
        for index, item in enumerate(items):
            self._named(_step(index, item), self._value, item)

    def _mapping(self, kind: str, items: Mapping[str, Any]) -> None:
        self._write(kind, str(len(items)))
        for name, item in items.items():
            self._write(str(name))
            self._named(f".{name}", self._value, item)

    def _set(self, items: Iterable[Any]) -> None:
        """Write the elements of a set, each hashed by itself, in the order of the hashes."""
        items = list(items)
        self._write("set", *sorted(map(self._digest, items)))

    def _digest(self, item: Any) -> str:
        """Return the hash of an object by itself, within what was visited so far."""
        return _Walk(self._home, self._seen).digest(item)

    # Functions

    def _by_name(self, thing: Any) -> bool:
        """Write a library object by name; return False for any other object."""
        if not (isinstance(thing, _NAMED) or "__qualname__" in vars(type(thing))):
            return False
        owner = getattr(thing, "__self__", None)
        names = (text_attribute(thing, "__module__"), text_attribute(thing, "__qualname__"))
        if isinstance(thing, types.BuiltinFunctionType | types.MethodType) and not names[0]:
            names = (text_attribute(type(owner), "__module__"), names[1])
        candidates = [
            names,
            (text_attribute(type(owner), "__module__"), text_attribute(thing, "__name__")),
        ]
        for module, name in candidates if names[1] else ():
            library = sys.modules.get(module or "")
            global_ = resolve(module, name)
            same = global_ is thing or (owner is not None and _equal(global_, thing))
            if isinstance(thing, FunctionType) and is_patch(thing):
                same = False  # `functools.wraps` has given it the name of what it replaces
            if library is not None and same and is_library(library):
                self._library(library.__name__, name or "")
                if isinstance(thing, type):
                    self._patches(thing)
                return True
        return False

    def _library(self, module: str, *names: str) -> None:
        self._write("library", module, library_version(module), *names)

    def _patches(self, kind: type) -> None:
        """Write user functions that have replaced methods of a library class."""
        for base in kind.__mro__:
            for name, method in vars(base).items():
                if isinstance(method, FunctionType) and is_patch(method):
                    self._write("patch", base.__qualname__, name)
                    self._value(method)

    def _expand(self, node: Any) -> None:
        """Write a queued function, class or module."""
        self._write("node", str(self._seen[id(node)][0]))
        if isinstance(node, FunctionType):
            self._function(node)
        elif isinstance(node, type):
            self._class(node)
        else:
            for name, value in sorted(vars(node).items()):
                if not name.startswith("__"):
                    self._write(name)
                    self._global(vars(node), name, value)

    def _enqueue(self, node: Any) -> None:
        self._write("later", str(self._seen[id(node)][0]))
        self._queue.append((node, home_of(node) or self._home))

    def _function(self, function: FunctionType) -> None:
        own = is_own_code(function)
        scope = function.__globals__
        if own:
            self._code(function.__code__)
        else:
            self._library(str(scope["__name__"]), function.__code__.co_qualname)
        self._named("its defaults", self._value, function.__defaults__)
        self._named("its defaults", self._value, function.__kwdefaults__)
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            self._write(name)
            self._named(name, self._value, _content(cell))
        if _COMPILED not in vars(function):  # copied by `functools.wraps`, with addresses
            self._mapping("attributes", vars(function))
        if own:
            self._uses(function.__code__, scope)

    def _code(self, code: CodeType) -> None:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._write("code", code.co_name, *map(str, counts), code.co_code, code.co_exceptiontable)
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self._write(str(len(names)), *names)
        self._items("constants", code.co_consts)

    def _uses(self, code: CodeType, scope: Mapping[str, Any]) -> None:
        """Write the globals that code reads and the modules that it imports when it runs."""
        for chain in global_names(code):
            if chain[0] not in _OF_MODULE:
                self._write("global", chain[0])
                self._chain(scope, *chain)
        for statement in imports(code):
            self._import(statement, scope)

    def _chain(self, scope: Mapping[str, Any], name: str, *attributes: str) -> None:
        """Write a global, or the attribute that is read from it if it is a module."""
        value = _MISSING if scope is vars(builtins) else scope.get(name, _MISSING)
        for attribute in attributes:
            if not isinstance(value, ModuleType):
                break
            module, scope, name = value, vars(value), attribute
            value = getattr(module, attribute, _MISSING)
            self._write(attribute)
            followed = isinstance(value, ModuleType | type) or is_own(value)
            if is_library(module) and not followed:
                self._library(module.__name__, attribute)
                return
        if value is _MISSING:
            self._write("builtin" if hasattr(builtins, name) else "missing", name)
        else:
            self._global(scope, name, value)

    def _global(self, scope: Mapping[str, Any], name: str, value: Any) -> None:
        before, self._home = self._home, module_of(scope)
        try:
            self._or_text(self._home, functools.partial(self._named, name, self._value, value))
        finally:
            self._home = before

    def _import(self, statement: Import, scope: Mapping[str, Any]) -> None:
        package = str(scope.get("__package__") or "")
        try:
            name = resolve_name("." * statement.level + statement.module, package or None)
        except ImportError:
            name = statement.module
        self._write("import", name, *statement.names)
        if is_library_name(name):
            self._library(name)
            return
        for module, attribute in imported(name, statement.names):
            if attribute and hasattr(module, attribute):
                self._global(vars(module), attribute, getattr(module, attribute))
            else:
                self._value(module)

    # Classes and instances

    def _class(self, kind: type) -> None:
        module = sys.modules.get(text_attribute(kind, "__module__") or "")
        self._write("class", kind.__name__)
        if module is not None and is_extension(module):
            if is_library(module):
                self._library(module.__name__, kind.__qualname__)
            else:
                self._write(_text_of(module))
            return
        self._value(type(kind))
        self._items("bases", kind.__bases__)
        for name, attribute in sorted(vars(kind).items()):
            hooked = without_hooks(attribute) is not attribute
            if hooked and without_hooks(attribute) is without_hooks(_inherited(kind, name)):
                continue
            if name in _ENUM_CACHES and issubclass(kind, enum.Enum):
                continue
            if name not in _WITHOUT_MEANING and not name.startswith("__pydantic_"):
                self._write(name)
                self._named(f".{name}", self._value, attribute)
        self._pydantic(kind)

    def _pydantic(self, kind: type) -> None:
        """Write what pydantic compiled a model from, in place of the compiled validators."""
        fields = vars(kind).get("__pydantic_fields__")
        groups = vars(kind).get("__pydantic_decorators__")
        for group in dataclasses.fields(groups) if dataclasses.is_dataclass(groups) else ():
            for name, decorator in getattr(groups, group.name).items():
                self._items(f"{group.name}.{name}", (getattr(decorator, "info", None),))
        self._named("its fields", self._value, fields)

    def _instance(self, thing: Any) -> None:
        """Write the class of an instance, its attributes, and what else pickle would keep."""
        kind = type(thing)
        self._write("instance")
        self._value(kind)
        if not is_library_class(kind):
            self._mapping("attributes", self._uncached(thing, getattr(thing, "__dict__", {})))
            self._mapping("slots", dict(slots(thing)))
        parts = reduced(thing)
        if isinstance(parts, str):
            self._global_object(thing, parts)
            return
        make, arguments, state, *contents = (*parts, None, None, None)[:5]
        self._items("made", (make, arguments, *(c and list(c) for c in contents)))
        if is_library_class(kind) or not _reduces_by_default(kind):
            self._state(lasting_state(thing, state))

    def _uncached(self, thing: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out the values that cached properties keep."""
        return {k: v for k, v in attributes.items() if not self._is_cached(thing, k, v)}

    def _is_cached(self, thing: Any, name: str, value: Any) -> bool:
        """Return whether a cached property of the class computes this attribute.

        It is computed again, because an attribute that was assigned takes its place.
        """
        definition = inspect.getattr_static(type(thing), name, None)
        if not isinstance(definition, functools.cached_property):
            return False
        with contextlib.suppress(Exception):
            fresh = copy.copy(thing)
            del vars(fresh)[name]
            return self._digest(getattr(fresh, name)) == self._digest(value)
        return False

    def _global_object(self, thing: Any, name: str) -> None:
        """Write an object that pickle stores as the name of a global."""
        module = text_attribute(thing, "__module__")
        if module is None:
            module = pickle.whichmodule(thing, name)  # type: ignore[attr-defined]
        if resolve(module, name) is not thing:
            raise Unidentifiable(type(thing).__name__)
        self._write(module, name)
        if is_extension(sys.modules[module]) and not is_library(sys.modules[module]):
            self._write(_text_of(sys.modules[module]))

    def _state(self, state: Any) -> None:
        if isinstance(state, dict):
            self._mapping("state", state)
        else:
            self._value(state)

    # Descriptors and other objects of Python itself

    def _bound(self, method: types.MethodType) -> None:
        self._write("bound")
        self._value(method.__func__)
        self._named("its object", self._value, method.__self__)

    def _builtin(self, function: types.BuiltinFunctionType) -> None:
        owner = function.__self__
        module = sys.modules.get(text_attribute(function, "__module__") or "")
        self._write("builtin", function.__name__)
        if isinstance(owner, ModuleType) or owner is None:
            if is_extension(module) and module is not None and not is_library(module):
                self._write(_text_of(module))
            else:
                self._write(str(text_attribute(function, "__module__")))
        else:
            self._value(owner)

    def _descriptor(self, descriptor: Any) -> None:
        self._write("descriptor", descriptor.__objclass__.__qualname__, descriptor.__name__)

    def _wrapped(self, wrapper: Any) -> None:
        self._write(type(wrapper).__name__)
        self._value(wrapper.__func__)

    def _property(self, thing: property) -> None:
        self._items("property", (thing.fget, thing.fset, thing.fdel))

    def _cached_property(self, thing: functools.cached_property[Any]) -> None:
        self._items("cached_property", (thing.func,))

    def _cached(self, function: Any) -> None:
        self._items("lru_cache", (function.__wrapped__, function.cache_parameters()))

    def _weak(self, reference: weakref.ref[Any]) -> None:
        self._items("weak", (reference(),))

    def _module(self, module: ModuleType) -> None:
        if is_library(module):
            self._library(module.__name__)
        elif is_extension(module):
            self._write("extension", _text_of(module))
        else:
            self._enqueue(module)

    def _any_function(self, function: FunctionType) -> None:
        """Queue a function; see through decorators whose state cannot be read."""
        attributes = {} if is_own_code(function) else vars(function)
        if original := attributes.get(_COMPILED):
            self._items("compiled", (original,))
        elif "registry" in attributes and "dispatch" in attributes:
            self._items("singledispatch", dict(attributes["registry"]).items())
        else:
            self._enqueue(function)


_Writer = Callable[[_Walk, Any], None]
_WRITERS: tuple[tuple[Any, _Writer], ...] = (
    (FunctionType, _Walk._any_function),
    (type, _Walk._enqueue),
    (ModuleType, _Walk._module),
    (types.MethodType, _Walk._bound),
    (types.BuiltinFunctionType, _Walk._builtin),
    (
        types.WrapperDescriptorType
        | types.MethodDescriptorType
        | types.ClassMethodDescriptorType
        | types.GetSetDescriptorType
        | types.MemberDescriptorType,
        _Walk._descriptor,
    ),
    (staticmethod | classmethod, _Walk._wrapped),
    (property, _Walk._property),
    (functools.cached_property, _Walk._cached_property),
    (functools._lru_cache_wrapper, _Walk._cached),
    (weakref.ref, _Walk._weak),
)


def _equal(one: Any, other: Any) -> bool:
    """Whether two bound methods are equal; other objects are not compared, as arrays would be."""
    bound = types.BuiltinFunctionType | types.MethodType
    return isinstance(one, bound) and isinstance(other, bound) and bool(one == other)


def _inherited(kind: type, name: str) -> Any:
    """Return an attribute as the bases of a class have it, or None."""
    return next((vars(base)[name] for base in kind.__mro__[1:] if name in vars(base)), None)


def _label(node: Any) -> str:
    return str(getattr(node, "__name__", type(node).__name__))


def _step(index: int, item: Any) -> str:
    """Name an item of a collection in an error: its key, or its index."""
    is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
    return f"['{item[0]}']" if is_pair else f"[{index}]"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return ...


def _text_of(module: ModuleType) -> str:
    try:
        return text_sha256(module)
    except NotImportedText as error:
        raise Unidentifiable(f"value made by module {module.__name__}", str(error)) from error


def _reduces_by_default(kind: type) -> bool:
    names = ("__reduce_ex__", "__reduce__", "__getstate__")
    return all(getattr(kind, name) is getattr(object, name) for name in names)
