"""Places of code, found without importing it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Literal

from optrial.code.libraries import is_package, is_standard_library

__all__ = ["Origin", "home_module", "importable_from_here", "origin_of"]

_DESCRIPTORS = (MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)

Kind = Literal["standard", "installed", "file", "missing"]


@dataclass(frozen=True)
class Origin:
    """The place of a module.

    Attributes:
        kind: "standard" for Python's standard library, "installed" for a package that was
            installed, "file" for any other file, "missing" if Python does not find it.
        file: the file, or the folder of a package without one; None if there is neither.
        loaded: whether the program has imported the module, or the package that holds it.
    """

    kind: Kind
    file: Path | None = None
    loaded: bool = False


def origin_of(module: str) -> Origin:
    """Return where a module lies, without importing it.

    For a module within a package it is the place of the innermost part that can be found.
    """
    spec: ModuleSpec | None = None
    parts = module.split(".")
    with importable_from_here():
        for end in range(1, len(parts) + 1):
            inner = _spec(".".join(parts[:end]), spec)
            if inner is None:
                break
            spec = inner
    if spec is None:
        return Origin("missing")
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    loaded = parts[0] in sys.modules
    if not places or is_standard_library(places[0]):
        return Origin("standard", loaded=loaded)
    file = Path(places[0])
    return Origin("installed" if is_package(module, places[0]) else "file", file, loaded)


def _spec(name: str, parent: ModuleSpec | None) -> ModuleSpec | None:
    """Return how a module would be imported, or None."""
    if name in sys.modules:
        module = sys.modules[name]
        known = getattr(module, "__spec__", None)
        file = getattr(module, "__file__", None)
        return known or ModuleSpec(name, None, origin=file)
    if parent is not None:
        places = parent.submodule_search_locations
        return PathFinder.find_spec(name, places) if places else None
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def home_module(thing: object) -> str | None:
    """Return the name of the module that defines a function, method or class; else None."""
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, _DESCRIPTORS):
        thing = thing.__objclass__
    if isinstance(thing, MethodWrapperType):
        return "builtins"
    if isinstance(thing, BuiltinFunctionType) and thing.__module__ is None:
        thing = thing.__self__ if isinstance(thing.__self__, type) else type(thing.__self__)
    if not isinstance(thing, type | FunctionType | BuiltinFunctionType):
        return None
    is_generated = isinstance(thing, FunctionType) and thing.__module__ == "builtins"
    return None if is_generated else thing.__module__


@contextmanager
def importable_from_here() -> Iterator[None]:
    """Let Python import from the current folder, as it does for scripts but not for commands."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
