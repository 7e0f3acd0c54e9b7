"""Names of user code: ``module:function`` in a study, or a generated name for an object.

Generated names, which `register` gives to objects of a notebook, are valid in one process.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from optrial.code.errors import RefusedError, Unidentifiable
from optrial.code.hashing import fingerprint
from optrial.code.origin import home_module, importable_from_here, origin_of
from optrial.errors import USER_CODE_ERRORS, Problem, one_line, suggest

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NOTEBOOK = "notebook"
_registered: dict[str, object] = {}
_passed: set[str] = set()  # names of objects that a program passed itself


def is_code(name: object) -> bool:
    """Return whether a name has the form ``module:function``."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def register(thing: object) -> str:
    """Return a name by which `load_code` finds an object in this process.

    Functions and classes that any process can import keep their names. Other objects are named by
    their content, so running a notebook cell again gives the same runs.

    Raises:
        Unidentifiable: the object holds state that cannot be read.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module != "__main__" and is_code(path := f"{module}:{name}"):
        with suppress(*USER_CODE_ERRORS), importable_from_here():
            if _attribute(path) is thing:
                _passed.add(path)
                return path
    with importable_from_here():
        key = f"{_NOTEBOOK}:{_label(thing)}_{fingerprint(thing)[:12]}"
    _registered[key] = thing
    return key


def is_passed(name: str) -> bool:
    """Return whether a name stands for an object that a program passed itself; see `register`."""
    return name in _registered or name in _passed


def sendable(names: Iterable[str]) -> tuple[dict[str, object], frozenset[str]]:
    """Return what another process needs of these names to find the same objects; see `adopt`."""
    known = set(names)
    objects = {name: thing for name, thing in _registered.items() if name in known}
    return objects, frozenset(_passed & known)


def adopt(objects: Mapping[str, object], passed: Iterable[str]) -> None:
    """Make the objects of another process known in this one; see `sendable`."""
    _registered.update(objects)
    _passed.update(passed)


def _label(thing: object) -> str:
    """Return the readable part of the name of an object."""
    if isinstance(thing, partial):
        return _label(thing.func)
    name = getattr(thing, "__name__", None) or type(thing).__name__
    return re.sub(r"\W", "", str(name)) or "object"


def readable(name: str) -> str:
    """Return a name for messages: of a generated name, the part before its hash."""
    module, _, label = name.partition(":")
    return label.rpartition("_")[0] if module == _NOTEBOOK else name


def load_code(name: str) -> Any:
    """Return the object called ``module:attribute``.

    The module must be installed or in the current folder. The standard library is refused: a study
    that names `os:system` or `builtins:eval` would be a program. What counts is where the object is
    defined, so no other name leads there: neither through a module, as in ``mine:os.system``, nor
    through an import, as in ``mine:system``.

    Raises:
        RefusedError: a study must not call the object.
        ImportError: the object cannot be imported, or PyTorch then has another default device; the
            message gives the reason.
    """
    thing = _registered[name] if name in _registered else _imported(name)
    if reason := _off_the_cpu():
        raise ImportError(f"'{name}' cannot be used: {reason}")
    return thing


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if module == _NOTEBOOK:
        raise ImportError(
            f"'{name}' was an object of another process; put it into a module to use it here"
        )
    if name not in _passed and (reason := _refusal(module, attribute)):
        raise RefusedError(f"'{name}' {reason}")
    try:
        with importable_from_here():
            thing = _attribute(name)
    except _ThroughModuleError as error:
        way_out = f"leads through a module; write {error}"
        raise RefusedError(f"'{name}' {_refusal(*str(error).split(':')) or way_out}") from error
    except USER_CODE_ERRORS as error:
        raise ImportError(
            f"'{name}' cannot be imported ({one_line(error)}); its module must be "
            "installed or in the current folder"
        ) from error
    home = home_module(thing)
    if name not in _passed and home and origin_of(home).kind == "standard":
        raise RefusedError(f"'{name}' {_STANDARD}")
    return thing


def _off_the_cpu() -> str:
    """Return why tensors without a device are not on the CPU, where optrial makes them, or ""."""
    torch = sys.modules.get("torch")
    if torch is None:
        return ""
    try:
        device = str(torch.get_default_device())
    except (AssertionError, RuntimeError):
        device = "a GPU that PyTorch does not find"
    if device == "cpu":
        return ""
    return (
        f"PyTorch's default device is {device}; remove torch.set_default_device, for optrial "
        "places models and data on the device that --device names"
    )


_STANDARD = (
    "belongs to Python's standard library, which a study must not call; name your own function"
)


def _refusal(module: str, attribute: str) -> str | None:
    """Return why a name is refused before anything is imported, or None."""
    top = module.partition(".")[0]
    if any(part.startswith("__") for part in attribute.split(".")):
        return "points inside an object; name a function or class"
    if origin_of(module).kind != "standard":
        return None
    is_shadowed = any(Path(f"{top}{end}").exists() for end in (".py", "/__init__.py"))
    return _STANDARD + f" (rename your {top}, which Python finds there)" * is_shadowed


class _ThroughModuleError(Exception):
    """A name leads through a module; the message is the name to write."""


def _attribute(name: str) -> Any:
    """Import the object that a name leads to."""
    module, _, attribute = name.partition(":")
    thing: Any = importlib.import_module(module)
    parts = attribute.split(".")
    for index, part in enumerate(parts):
        if index and isinstance(thing, ModuleType):
            raise _ThroughModuleError(f"{thing.__name__}:{'.'.join(parts[index:])}")
        thing = getattr(thing, part)
    return thing


def importable(name: object, wanted: str = "function") -> str | None:
    """Return the problem of a name that should lead to a callable object, or None."""
    if not is_code(name):
        return f"{name!r}: must be module:{wanted}, such as my_package.mine:{wanted}."
    try:
        thing = load_code(str(name))
    except ImportError as error:
        return f"{error}."
    return None if callable(thing) else f"'{name}' is {type(thing).__name__}, not a {wanted}."


def call_problems(
    function: Callable[..., object],
    keywords: Mapping[str, object],
    first: int = 0,
    also: Iterable[str] = (),
) -> list[Problem]:
    """Return the problems of calling a function with keyword arguments.

    Args:
        function: a function or class.
        keywords: the keyword arguments.
        first: number of positional arguments before them.
        also: keys that are allowed beside the arguments.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return []
    parameters = list(signature.parameters.values())[first:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    label = getattr(function, "__name__", "it")
    problems = [
        Problem(name, f"is not an argument of {label}. {suggest(name, [*names, *also])}")
        for name in keywords
        if name not in names
    ]
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.name in names and p.name not in keywords
    ]
    return problems + [Problem(name, f"{label} needs it; give it a value.") for name in missing]


def code_sha256(name: str) -> str:
    """Return the hash of an object as it is loaded now, with all user code that it uses.

    Raises:
        Unidentifiable: the object holds state that cannot be read.
    """
    thing = load_code(name)
    home = None if name in _registered else sys.modules.get(name.partition(":")[0])
    with importable_from_here():
        return fingerprint(thing, home)


def changed_code(hashes: Mapping[str, str]) -> list[str]:
    """Return the names of objects whose `code_sha256` is no longer the given one."""
    changed = []
    for name, sha256 in hashes.items():
        try:
            if code_sha256(name) != sha256:
                changed.append(name)
        except (Unidentifiable, ImportError):
            changed.append(name)
    return changed


def identity_problem(name: str) -> str | None:
    """Return why an object named in a study cannot be identified, or None."""
    try:
        code_sha256(name)
    except Unidentifiable as error:
        return f"'{name}' {unidentifiable(error)}"
    except ImportError:
        return None  # `importable` reports it
    return None


def unidentifiable(error: Unidentifiable) -> str:
    """Return why an object cannot be identified, and the way out."""
    return (
        f"cannot be told apart from others like it: {error}; create that inside the function that "
        "uses it, or define the object in a module and name it: module:name."
    )
