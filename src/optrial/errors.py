"""Every error a user can meet.

    OptrialError              what is wrong, in one line, and the way out
    ├── StudyError            the study file or a command-line value is not valid
    ├── DataError             a dataset is missing, damaged or malformed
    │   └── DownloadError     no mirror delivered the published file
    ├── StoreError            the store cannot be read or written
    │   └── StoreBusyError    another process is writing to it
    └── EngineError           this machine or engine cannot train the study

A run that fails while training is not an error but a status of its record.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

__all__ = [
    "USER_CODE_ERRORS",
    "DataError",
    "DownloadError",
    "EngineError",
    "OptrialError",
    "Problem",
    "StoreBusyError",
    "StoreError",
    "StudyError",
    "key_path",
    "listed",
    "problem_of",
    "problems_of",
    "reason_of",
    "suggest",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input.

    Attributes:
        path: where it is, as a user would write it: ``optimizers[2].lr``.
        message: the value given, what is allowed and the way out, in one sentence.
    """

    path: str
    message: str

    def under(self, path: str) -> Problem:
        """Return the same problem seen from a parent at `path`."""
        separator = "" if not self.path or self.path.startswith("[") else "."
        return replace(self, path=f"{path}{separator}{self.path}")

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class OptrialError(Exception):
    """Base of every error that optrial raises on purpose."""


class StudyError(OptrialError):
    """A study is not valid; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem], source: str = "the study") -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        lines = [f"{source} has {count}:", *(f"  {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))


class DataError(OptrialError):
    """A dataset is missing, damaged or malformed."""


class DownloadError(DataError):
    """No mirror delivered a file with the published checksum."""


class StoreError(OptrialError):
    """The store cannot be read or written."""


class StoreBusyError(StoreError):
    """Another process is training into the same store."""


class EngineError(OptrialError):
    """This machine or engine cannot train what the study asks for."""


class CheckpointError(OptrialError):
    """A run holds state that a checkpoint cannot store, or not restore exactly."""


USER_CODE_ERRORS = (Exception, SystemExit)
"""What to catch around user-defined code: `sys.exit()` in it ends a run, not the process."""


def reason_of(error: BaseException) -> str:
    """Return what the record of a run says of the error that ended it, in one line."""
    if isinstance(error, StudyError):
        return "; ".join(map(str, error.problems))
    if isinstance(error, CheckpointError):
        return f"the optimizer does not fit its checkpoint: {error}; use --restart"
    return one_line(error)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the type of an error and the first line of its message, cut to `limit` characters."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    message = next(filter(None, lines), "")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(names: Sequence[str]) -> str:
    """Return up to three names, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Say what is allowed instead of `name`, nearest spelling first.

    Returns one or two sentences that start with a capital: ``"Did you mean 'adam'? Allowed: ..."``.
    """
    choices = list(allowed)
    near = difflib.get_close_matches(str(name).lower(), choices, n=1, cutoff=0.6)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Allowed: {', '.join(choices)}."


class _ValidationError(Protocol):
    """The part of `pydantic.ValidationError` that is read here."""

    def errors(self) -> Sequence[Any]: ...


def problems_of(error: _ValidationError, allowed: Iterable[str] = ()) -> list[Problem]:
    """Translate a pydantic validation error into problems.

    Args:
        error: what pydantic raised.
        allowed: the keys that exist, for "did you mean" where an unknown key was given.
    """
    keys = list(allowed)
    return [problem_of(entry, keys) for entry in error.errors()]


_KINDS = {
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text; put it in quotes",
}
"""What a value must be, by the type of pydantic's error."""


def problem_of(entry: Mapping[str, Any], allowed: Iterable[str] = ()) -> Problem:
    """Translate one entry of `pydantic.ValidationError.errors()`; see `problems_of`."""
    given = entry.get("input")
    match entry["type"]:
        case "extra_forbidden":
            message = f"unknown key. {suggest(entry['loc'][-1], allowed)}"
        case "missing":
            message = "is required and missing."
        case "literal_error":
            choices = re.findall(r"'([^']*)'", entry["ctx"]["expected"])
            message = f"{given!r} is not one of the choices. {suggest(given, choices)}"
        case "model_type" | "dict_type":
            message = f"{given!r}: must be a mapping of keys to values."
        case "too_short" | "string_too_short":
            message = "must not be empty."
        case "string_type" if entry["loc"][-1:] == ("[key]",):  # of a mapping with free keys
            return Problem(key_path(entry["loc"][:-2]), _key_message(given))
        case kind if kind in _KINDS:
            message = f"{given!r}: must be {_KINDS[kind]}."
        case "invalid_key":
            return Problem(key_path(entry["loc"][:-1]), _key_message(given))
        case _:
            reason = entry["msg"].removeprefix("Value error, ").rstrip(".")
            message = f"{given!r}: {reason.replace('Input should', 'must')}."
    return Problem(key_path(entry["loc"]), message)


def _key_message(key: object) -> str:
    return f"the key {key!r} must be text; put it in quotes."


def key_path(parts: Iterable[str | int]) -> str:
    """Write the parts of a location as a user would: ``("a", 2, "b")`` is ``a[2].b``."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
