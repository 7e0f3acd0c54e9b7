"""Functions, modules and other callables of Python: code, defaults, closures and globals."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Mapping
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType

import numpy as np

from optrial.code.bytecode import Import, global_names, imported, imports
from optrial.code.libraries import (
    is_extension,
    is_library,
    is_library_name,
    is_own,
    is_own_code,
    is_patch,
    module_of,
    resolve,
    text_attribute,
)
from optrial.code.texts import text_of
from optrial.code.walk import Walk

_MISSING = object()
_COMPILED = "_torchdynamo_orig_callable"
"""Attribute of a function that `torch.compile` returns."""
_OF_MODULE = {"__name__", "__file__", "__doc__", "__spec__", "__loader__", "__package__"}
_NAMED = (type, FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc)


def write_by_name(walk: Walk, thing: object) -> bool:
    """Write an object of a library by its name; return False for any other object."""
    if not (isinstance(thing, _NAMED) or "__qualname__" in vars(type(thing))):
        return False
    if isinstance(thing, FunctionType) and is_patch(thing):
        return False  # `functools.wraps` has given it the name of the function it replaces
    owner = getattr(thing, "__self__", None)
    of_owner = text_attribute(type(owner), "__module__")
    module, name = text_attribute(thing, "__module__"), text_attribute(thing, "__qualname__")
    if not name:
        return False
    if isinstance(thing, types.BuiltinFunctionType | types.MethodType) and not module:
        module = of_owner
    for place, path in ((module, name), (of_owner, text_attribute(thing, "__name__"))):
        library = sys.modules.get(place or "")
        if library is None or not is_library(library):
            continue
        global_ = resolve(place, path)
        if global_ is thing or (owner is not None and _equal(global_, thing)):
            walk.library(library.__name__, path or "")
            if isinstance(thing, type):
                _write_patches(walk, thing)
            return True
    return False


def _equal(one: object, other: object) -> bool:
    """Return whether two bound methods are equal, without comparing other objects."""
    bound = types.BuiltinFunctionType | types.MethodType
    return isinstance(one, bound) and isinstance(other, bound) and bool(one == other)


def _write_patches(walk: Walk, kind: type) -> None:
    """Write user functions that have replaced methods of a library class."""
    for base in kind.__mro__:
        for name, method in vars(base).items():
            if isinstance(method, FunctionType) and is_patch(method):
                walk.write("patch", base.__qualname__, name)
                walk.value(method)


def write_reference(walk: Walk, function: FunctionType) -> None:
    """Queue a function; look through decorators whose state cannot be read."""
    attributes = {} if is_own_code(function) else vars(function)
    if original := attributes.get(_COMPILED):
        walk.items("compiled", (original,))
    elif "registry" in attributes and "dispatch" in attributes:
        walk.items("singledispatch", dict(attributes["registry"]).items())
    else:
        walk.later(function)


def write_function(walk: Walk, function: FunctionType) -> None:
    """Write a function: its code, all that it holds, and the globals it reads."""
    is_own_function, scope = is_own_code(function), function.__globals__
    if is_own_function:
        walk.code(function.__code__)
    else:
        walk.library(str(scope["__name__"]), function.__code__.co_qualname)
    walk.named_value("its defaults", function.__defaults__)
    walk.named_value("its defaults", function.__kwdefaults__)
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        walk.write(name)
        walk.named_value(name, _content(cell))
    if _COMPILED not in vars(function):  # copied by `functools.wraps`, with addresses
        walk.mapping("attributes", vars(function))
    if is_own_function:
        _write_uses(walk, function.__code__, scope)


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return ...


def _write_uses(walk: Walk, code: CodeType, scope: Mapping[str, object]) -> None:
    """Write the globals that code reads and the modules it imports when it runs."""
    for chain in global_names(code):
        if chain[0] not in _OF_MODULE:
            walk.write("global", chain[0])
            _write_chain(walk, scope, *chain)
    for statement in imports(code):
        _write_import(walk, statement, scope)


def _write_chain(walk: Walk, scope: Mapping[str, object], name: str, *attributes: str) -> None:
    """Write a global, or the attribute that is read from it if it is a module."""
    value = _MISSING if scope is vars(builtins) else scope.get(name, _MISSING)
    for attribute in attributes:
        if not isinstance(value, ModuleType):
            break
        module, scope, name = value, vars(value), attribute
        value = getattr(module, attribute, _MISSING)
        walk.write(attribute)
        followed = isinstance(value, ModuleType | type) or is_own(value)
        if is_library(module) and not followed:
            walk.library(module.__name__, attribute)
            return
    if value is _MISSING:
        walk.write("builtin" if hasattr(builtins, name) else "missing", name)
    else:
        walk.within(module_of(scope), name, value)


def _write_import(walk: Walk, statement: Import, scope: Mapping[str, object]) -> None:
    package = str(scope.get("__package__") or "")
    try:
        name = resolve_name("." * statement.level + statement.module, package or None)
    except ImportError:
        name = statement.module
    walk.write("import", name, *statement.names)
    if is_library_name(name):
        walk.library(name)
        return
    for module, attribute in imported(name, statement.names):
        if attribute and hasattr(module, attribute):
            walk.within(module_of(vars(module)), attribute, getattr(module, attribute))
        else:
            walk.value(module)


def write_module(walk: Walk, module: ModuleType) -> None:
    """Write a library by name, an extension by its file; queue any other module."""
    if is_library(module):
        walk.library(module.__name__)
    elif is_extension(module):
        walk.write("extension", text_of(module))
    else:
        walk.later(module)


def write_namespace(walk: Walk, module: ModuleType) -> None:
    """Write all globals of a user module."""
    for name, value in sorted(vars(module).items()):
        if not name.startswith("__"):
            walk.write(name)
            walk.within(module_of(vars(module)), name, value)


def write_bound(walk: Walk, method: types.MethodType) -> None:
    """Write a bound method: its function and its object."""
    walk.write("bound")
    walk.value(method.__func__)
    walk.named_value("its object", method.__self__)


def write_builtin(walk: Walk, function: types.BuiltinFunctionType) -> None:
    """Write a compiled function or method."""
    owner = function.__self__
    module = sys.modules.get(text_attribute(function, "__module__") or "")
    walk.write("builtin", function.__name__)
    if isinstance(owner, ModuleType) or owner is None:
        if is_extension(module) and module is not None and not is_library(module):
            walk.write(text_of(module))
        else:
            walk.write(str(text_attribute(function, "__module__")))
    else:
        walk.value(owner)
