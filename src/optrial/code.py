"""Code of the user's own that a study names: ``module:function`` -> object.

Objects of a notebook get such a name too, with `register`, for as long as the process lives.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from optrial.errors import Problem, suggest

__all__ = [
    "call_problems",
    "importable",
    "importable_from_here",
    "is_code",
    "load_code",
    "register",
    "source_sha256",
]

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NOTEBOOK = "notebook"
_registered: dict[str, Any] = {}


def is_code(name: object) -> bool:
    """Whether a name has the form ``module:function``."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def register(found: Any) -> str:
    """Give an object of this process a name that `load_code` understands.

    A function or class that any process can import keeps that name. Others are named by their
    content, so that the same cell run again means the same runs.
    """
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if module != "__main__" and is_code(path := f"{module}:{name}"):
        with suppress(ImportError):
            if load_code(path) is found:
                return path
    label = re.sub(r"\W", "_", name or type(found).__name__)
    key = f"{_NOTEBOOK}:{label}_{_fingerprint(found)[:8]}"
    _registered[key] = found
    return key


def load_code(name: str) -> Any:
    """Return the object called ``module:attribute``.

    The module must be installed or lie in the current folder.

    Raises:
        ImportError: it cannot be imported, for whatever reason; the message says which.
    """
    if name in _registered:
        return _registered[name]
    module, _, attribute = name.partition(":")
    if module == _NOTEBOOK:
        raise ImportError(
            f"'{name}' was an object of another process; put it into a module to use it here"
        )
    try:
        with importable_from_here():
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
    except Exception as error:
        raise ImportError(
            f"'{name}' cannot be imported ({type(error).__name__}: {error}); its module must be "
            "installed or in the current folder"
        ) from error
    return found


def importable(name: object, wanted: str = "function") -> str | None:
    """Return what is wrong with a name that should lead to something callable; or None."""
    if not is_code(name):
        return f"{name!r}: must be module:{wanted}, such as my_package.mine:{wanted}."
    try:
        found = load_code(str(name))
    except ImportError as error:
        return f"{error}."
    return None if callable(found) else f"'{name}' is {type(found).__name__}, not a {wanted}."


def call_problems(
    function: Callable[..., Any], given: Mapping[str, Any], first: int = 0
) -> list[Problem]:
    """Return what is wrong with calling a function with keyword arguments.

    Args:
        function: a function or class.
        given: the keyword arguments.
        first: how many positional arguments come before them.
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
        Problem(name, f"is not an argument of {label}. {suggest(name, names)}")
        for name in given
        if name not in names
    ]
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.name in names and p.name not in given
    ]
    return problems + [Problem(name, f"{label} needs it; give it a value.") for name in missing]


@cache
def source_sha256(name: str) -> str:
    """Return the hash of the file, or else the text, that defines an object; "" if unknown.

    It belongs to what determines a run: with another source the same name is another model.
    """
    found = load_code(name)
    if name in _registered:
        return _fingerprint(found)
    try:
        return sha256(Path(inspect.getfile(inspect.unwrap(found))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


def _fingerprint(found: Any) -> str:
    """Return the hash of an object's text and of the values that it holds, but not of globals."""
    try:
        text = inspect.getsource(found)
    except (OSError, TypeError):  # a class of a notebook: what its methods are compiled to
        methods = [v.__code__ for v in vars(found).values() if hasattr(v, "__code__")]
        text = repr([(code.co_code, code.co_consts, code.co_names) for code in methods])
    cells = [cell.cell_contents for cell in getattr(found, "__closure__", None) or ()]
    held = (cells, getattr(found, "__defaults__", None))
    try:
        state = pickle.dumps(held)
    except Exception:  # noqa: BLE001  what cannot be pickled is told by its looks
        state = repr(held).encode()
    return sha256(text.encode() + state).hexdigest()


@contextmanager
def importable_from_here() -> Iterator[None]:
    """Let Python import from the current folder, as it does for scripts and not for commands."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
