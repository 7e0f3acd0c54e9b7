"""Distinction of user code from library code, and versions of libraries."""

from __future__ import annotations

import builtins
import re
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

_ENVIRONMENT = {"optrial", "torch", "numpy"}
"""Packages identified by name, wherever they are installed; runs record their versions."""
_FOLDERS = {"site-packages", "dist-packages"}
_MAIN = {"__main__", "__mp_main__"}


def is_library(module: ModuleType) -> bool:
    """Return whether a module belongs to Python or an installed package."""
    name = module.__name__
    if name in _MAIN:
        return False
    if name.partition(".")[0] in _ENVIRONMENT:
        return True
    spec = getattr(module, "__spec__", None)
    if file := getattr(module, "__file__", None):
        return is_installed(str(file))
    folders = [str(folder) for folder in getattr(module, "__path__", ())]
    if folders:
        return all(map(is_installed, folders))
    return getattr(spec, "origin", None) in ("built-in", "frozen")


def has_text(module: ModuleType | None) -> bool:
    """Return whether a user module was imported from a file, unlike a notebook."""
    if module is None or module.__name__ in _MAIN:
        return False
    return bool(getattr(module, "__file__", None)) and not is_library(module)


def is_library_name(name: str) -> bool:
    """Return whether a module name belongs to a library, without importing it."""
    top = name.partition(".")[0]
    if top in sys.modules:
        return is_library(sys.modules[top])
    if top in _ENVIRONMENT or top in sys.builtin_module_names:
        return True
    spec = PathFinder.find_spec(top)
    places = [spec.origin] if spec and spec.origin else (spec and spec.submodule_search_locations)
    return bool(places) and all(is_installed(str(place)) for place in places or ())


def is_own_code(function: FunctionType) -> bool:
    """Return whether a function was compiled from user code; its `__module__` may mislead."""
    scope = function.__globals__
    module = sys.modules.get(str(scope.get("__name__")))
    generated = scope is vars(builtins)  # by `dataclass`, for a class whose module has no name
    return generated or module is None or vars(module) is not scope or not is_library(module)


def is_extension(module: ModuleType | None) -> bool:
    """Return whether a module is compiled, so its functions have no bytecode."""
    return str(getattr(module, "__file__", None)).endswith(tuple(EXTENSION_SUFFIXES))


def module_of(scope: Mapping[str, object]) -> ModuleType | None:
    """Return the user module of some globals; None in a notebook."""
    module = sys.modules.get(str(scope.get("__name__")))
    is_there = module is not None and vars(module) is scope
    return module if is_there and has_text(module) else None


def home_of(thing: object) -> ModuleType | None:
    """Return the user module that defines a function or class under its name, or None."""
    module, name = text_attribute(thing, "__module__"), text_attribute(thing, "__qualname__")
    home = sys.modules.get(module or "")
    is_there = home is not None and resolve(module, name) is thing
    return module_of(vars(home)) if home is not None and is_there else None


def is_patch(method: FunctionType) -> bool:
    """Return whether a function of a library was defined in a user module."""
    scope = method.__globals__
    module = sys.modules.get(str(scope.get("__name__")))
    return module is not None and vars(module) is scope and not is_library(module)


def without_hooks(value: object) -> object:
    """Return the `step` of an optimizer as its class defines it.

    PyTorch replaces the `step` of a class with a wrapper when it first builds an instance.
    """
    hook = "Optimizer.profile_hook_step.<locals>.wrapper"
    while isinstance(value, FunctionType) and value.__code__.co_qualname == hook:
        value = vars(value)["__wrapped__"]
    return value


def is_own(value: object) -> bool:
    """Return whether a value in a library module was put there by user code."""
    if isinstance(value, partial):
        return is_own(value.func)
    if isinstance(value, MethodType):
        return is_own(value.__func__)
    if isinstance(value, FunctionType):
        return is_patch(value)
    return not is_library_class(value if isinstance(value, type) else type(value))


def is_library_class(kind: type) -> bool:
    """Return whether a class is the one that a library has under its name."""
    module = sys.modules.get(text_attribute(kind, "__module__") or "")
    is_there = resolve(text_attribute(kind, "__module__"), kind.__qualname__) is kind
    return module is not None and is_there and is_library(module)


def resolve(module: str | None, qualname: str | None) -> Any:
    """Return the object of a loaded module with a qualified name, or None."""
    value: Any = sys.modules.get(module or "")
    for part in (qualname or "").split("."):
        value = getattr(value, part, None)
    return value


def text_attribute(thing: object, name: str) -> str | None:
    """Return an attribute if it is text; a class may have a property in its place."""
    value = getattr(thing, name, None)
    return value if isinstance(value, str) else None


def library_version(name: str) -> str:
    """Return the version of a library and a hash of the file hashes of its installer.

    It is "" for Python, PyTorch, NumPy and optrial.
    """
    return _version(name.partition(".")[0])


@cache
def _version(top: str) -> str:
    if top in _ENVIRONMENT or top in sys.builtin_module_names:
        return ""
    file = getattr(sys.modules.get(top), "__file__", None)
    if file and not _FOLDERS & set(Path(file).parts):
        return ""  # the standard library
    packages = _packages(top)
    if not packages and file:
        return sha256(Path(file).read_bytes()).hexdigest()
    return " ".join(map(_installed_version, packages))


def _packages(top: str) -> list[Distribution]:
    """Return the installed packages that a top-level module belongs to."""
    with suppress(PackageNotFoundError):
        package = distribution(top)
        if re.search(rf"^{top}[/.]", package.read_text("RECORD") or "", re.MULTILINE):
            return [package]
    return [distribution(name) for name in sorted(set(_packages_by_module().get(top, ())))]


@cache
def _packages_by_module() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads every package's list of files, which takes a second


def _installed_version(package: Distribution) -> str:
    hashes = sorted(
        line.rpartition(",")[0]
        for line in (package.read_text("RECORD") or "").splitlines()
        if ".py,sha256=" in line and not line.startswith("..")
    )
    return f"{package.name} {package.version} {sha256(chr(10).join(hashes).encode()).hexdigest()}"


@cache
def is_standard_library(path: str) -> bool:
    """Return whether a module of the standard library lies there, or has no file."""
    if path in ("built-in", "frozen"):
        return True
    standard = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}
    return not _FOLDERS & set(Path(path).parts) and bool(standard & {*Path(path).resolve().parents})


def is_package(name: str, path: str) -> bool:
    """Return whether a module belongs to an installed package, or to optrial."""
    return name.partition(".")[0] in _ENVIRONMENT or bool(_FOLDERS & set(Path(path).parts))


def is_installed(path: str) -> bool:
    """Return whether a file belongs to Python or an installed package."""
    return bool(_FOLDERS & set(Path(path).parts)) or is_standard_library(path)
