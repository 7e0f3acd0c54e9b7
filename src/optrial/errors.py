"""Every error a user can meet.

    OptrialError              base class; messages name the problem and the way out
    ├── StudyError            the study file or a command-line value is not valid
    ├── DataError             a dataset is missing, damaged or malformed
    │   └── DownloadError     no mirror delivered the published file
    ├── StoreError            the store cannot be read or written
    │   ├── StoreBusyError    another process is writing to it
    │   ├── StoreDamagedError stored rows are damaged or missing
    │   ├── StoreUnreachableError  the server does not answer
    │   └── LeaseLostError    another process has taken over a stack
    ├── EngineError           this machine or engine cannot train the study
    ├── CheckpointError       a checkpoint cannot store or restore the state of a run
    └── UserCodeError         user code ended its process, or did not return in time

A run that fails in training is not an error but a status of its record.
"""

from __future__ import annotations

import difflib
import math
import re
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from optrial.passwords import without_passwords

_VALUE_LENGTH = 200
"""Most characters of a value in a message."""

_MESSAGE_LENGTH = 1500
_PROBLEMS_SHOWN = 20
_CHOICES_SHOWN = 100
_LARGEST_WRITTEN = 10**300  # Python refuses to write integers of over 4,300 digits
_DEEPEST_WRITTEN = 20
_LONG_WORD = re.compile(r"\S{400,}")  # such as a path

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor movement
    # titles, links, clipboard: a text up to its terminator
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
_JOINERS = "\u200c\u200d"  # parts of words and of emoji
_PACKAGE = Path(__file__).parent


def printable(text: str) -> str:
    """Return a text without anything that a terminal obeys instead of showing.

    Escape sequences and invisible characters, such as controls and bidirectional overrides, are
    removed; lone surrogates become U+FFFD, and line and paragraph separators spaces. Line feeds and
    tabs stay. Passwords are masked.
    """
    text = without_passwords(text)
    if text.isprintable():
        return text
    return "".join(map(_visible, _ESCAPE_SEQUENCE.sub("", text)))


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t" or character in _JOINERS:
        return character
    match unicodedata.category(character):
        case "Cc" | "Cf":
            return ""
        case "Cs":
            return "\N{REPLACEMENT CHARACTER}"
        case "Zl" | "Zp":
            return " "
    return character


def shown(value: object) -> str:
    """Return a value as messages show it: the start of its `repr`, of bounded cost and length."""
    text = ""
    for piece in _pieces(value, _DEEPEST_WRITTEN):
        text += piece
        if len(text) > _VALUE_LENGTH:
            return f"{text[: _VALUE_LENGTH - 1]}…"
    return text


def _pieces(value: object, depth: int) -> Iterator[str]:
    """Yield the parts of the `repr` of a value, as far as a message may need them."""
    match value:
        case dict() | list() | tuple() if value and not depth:
            yield "…"
        case dict() if value:
            for index, (key, item) in enumerate(value.items()):
                yield ", " if index else "{"
                yield from _pieces(key, depth - 1)
                yield ": "
                yield from _pieces(item, depth - 1)
            yield "}"
        case list() | tuple() if value:
            opening, closing = "[]" if isinstance(value, list) else "()"
            for index, item in enumerate(value):
                yield ", " if index else opening
                yield from _pieces(item, depth - 1)
            yield f",{closing}" if isinstance(value, tuple) and len(value) == 1 else closing
        case str():
            yield repr(value[: _VALUE_LENGTH + 1])
        case int() if abs(value) > _LARGEST_WRITTEN:
            digits = value.bit_length() * math.log10(2)
            yield f"a whole number of about {digits:,.0f} digits"
        case _:
            yield repr(value)


def cut(text: str, limit: int = _VALUE_LENGTH) -> str:
    """Return a text, with its middle left out if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 3]} … {text[-end:]}"


@dataclass(frozen=True)
class Problem:
    """A problem of an input.

    Attributes:
        path: place in the input, as users write it: ``optimizers[2].lr``.
        message: one sentence with the value, the allowed values and the way out.
    """

    path: str
    message: str

    def under(self, path: str) -> Problem:
        """Return the same problem with `path` prepended to its place."""
        separator = "" if not self.path or self.path.startswith("[") else "."
        return replace(self, path=f"{path}{separator}{self.path}")

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class OptrialError(Exception):
    """Base class of all errors that optrial raises on purpose; their messages are printable.

    A notebook shows the line that called optrial and the message; `traceback.print_last` shows
    every call.
    """

    def __str__(self) -> str:
        return printable(_LONG_WORD.sub(lambda word: cut(word[0]), super().__str__()))

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows of an uncaught error."""
        calls = traceback.extract_tb(self.__traceback__)
        inside = [Path(call.filename).is_relative_to(_PACKAGE) for call in calls]
        outside = calls[: inside.index(True)] if True in inside else calls
        place = [f"----> {call.lineno} {call.line}" for call in outside[-1:]]
        return [*place, "", f"{type(self).__name__}: {self}"]


class StudyError(OptrialError):
    """A study is not valid; `problems` holds all its problems."""

    def __init__(self, problems: Iterable[Problem], source: str = "the study") -> None:
        self.problems = tuple(problems)
        count = counted(len(self.problems), "problem")
        lines = [f"{cut(source)} has {count}:"]
        lines += [f"  {_shortened(problem)}" for problem in self.problems[:_PROBLEMS_SHOWN]]
        if len(self.problems) > _PROBLEMS_SHOWN:
            lines.append(f"  and {len(self.problems) - _PROBLEMS_SHOWN:,} more")
        super().__init__("\n".join(lines))


def _shortened(problem: Problem) -> Problem:
    return Problem(cut(problem.path), cut(problem.message, _MESSAGE_LENGTH))


class DataError(OptrialError):
    """A dataset is missing, damaged or malformed."""


class DownloadError(DataError):
    """No mirror delivered a file with the published checksum."""


class StoreError(OptrialError):
    """The store cannot be read or written."""


class StoreBusyError(StoreError):
    """Another process is training into the same store."""


class StoreDamagedError(StoreError):
    """Stored rows are damaged or missing; `optrial verify --repair` sets them aside."""


class StoreUnreachableError(StoreError):
    """The server of a store does not answer, or has ended the connection."""


class LeaseLostError(StoreError):
    """Another process has taken over a stack, so this one may not store anything of it."""


class EngineError(OptrialError):
    """This machine or engine cannot train the study."""


class CheckpointError(OptrialError):
    """A run holds state that a checkpoint cannot store or exactly restore."""


class UserCodeError(OptrialError):
    """User code ended its process or did not return in time, so that there is no result.

    Attributes:
        timed_out: whether it did not return in time.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


USER_CODE_ERRORS = (Exception, SystemExit, KeyboardInterrupt)
"""Errors to catch around user-defined code: `sys.exit()` in it ends a run, not the process.

Ctrl-C raises `optrial.interruption.Interrupted` instead, which user code does not."""


def reason_of(error: BaseException) -> str:
    """Return the reason that the record of a failed run gives, in one line."""
    if isinstance(error, StudyError):
        problems = "; ".join(map(str, error.problems[:_PROBLEMS_SHOWN]))
        return cut(printable(problems), _MESSAGE_LENGTH)
    if isinstance(error, CheckpointError):
        return f"the optimizer does not fit its checkpoint: {error}; use --restart"
    return one_line(error)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the type of an error and the first line of its message, cut to `limit` characters."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  of a class of the user
        text = ""
    lines = (" ".join(line.split()) for line in printable(text).splitlines())
    message = next(filter(None, lines), "")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural if needed: ``"1 row"``, ``"1,200 rows"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def all_listed(texts: Sequence[str]) -> str:
    """Return all texts as a sentence lists them: ``a, b and c``."""
    *others, last = texts
    return ", ".join(others) + " and " * bool(others) + last


def quoted(text: str) -> str:
    """Return a text in double quotes, or in single ones if it contains double quotes."""
    mark = "'" if '"' in text else '"'
    return f"{mark}{text}{mark}"


def listed(names: Sequence[str]) -> str:
    """Return up to three names, and the number of further names."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Return the allowed names in a sentence, after the one with the nearest spelling.

    One or two sentences that start with a capital: ``"Did you mean 'adam'? Allowed: ..."``.
    """
    choices = list(dict.fromkeys(allowed))
    if not choices:
        return "There are none; leave it out."
    text = name.lower() if isinstance(name, str) else shown(name)
    is_near = len(text) <= _VALUE_LENGTH  # comparing takes the product of the lengths
    near = difflib.get_close_matches(text, choices, n=1, cutoff=0.6) if is_near else []
    hint = f"Did you mean '{cut(near[0])}'? " if near else ""
    several = choices[:_CHOICES_SHOWN]
    more = f" and {len(choices) - len(several):,} more" if len(choices) > len(several) else ""
    return f"{hint}Allowed: {', '.join(map(cut, several))}{more}."


class _ValidationError(Protocol):
    """The method of `pydantic.ValidationError` that is used here, without importing pydantic."""

    def errors(self) -> Sequence[Any]: ...


def problems_of(error: _ValidationError, allowed: Iterable[str] = ()) -> list[Problem]:
    """Translate a pydantic validation error into problems.

    Args:
        error: validation error of pydantic.
        allowed: known keys, to suggest one for an unknown key.
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
"""Required kind of a value, by the type of the error of pydantic."""


def problem_of(entry: Mapping[str, Any], allowed: Iterable[str] = ()) -> Problem:
    """Translate one entry of `pydantic.ValidationError.errors()`; see `problems_of`."""
    value = entry.get("input")
    match entry["type"]:
        case "extra_forbidden":
            message = f"unknown key. {suggest(entry['loc'][-1], allowed)}"
        case "missing":
            message = "is required and missing."
        case "literal_error":
            expected = entry["ctx"]["expected"]  # such as "'a', 'b' or 'c'", or "1, 2 or 3"
            choices = re.findall(r"'([^']*)'", expected) or re.findall(r"\d+", expected)
            message = f"{shown(value)} is not one of the choices. {suggest(value, choices)}"
        case "model_type" | "dict_type":
            message = f"{shown(value)}: must be a mapping of keys to values."
        case "too_short" | "string_too_short":
            message = "must not be empty."
        case "too_long":
            most, length = entry["ctx"]["max_length"], entry["ctx"]["actual_length"]
            message = f"has {length or most + 1:,} entries; at most {most:,} are allowed."
        case "string_type" if entry["loc"][-1:] == ("[key]",):  # of a mapping with free keys
            return Problem(key_path(entry["loc"][:-2]), _key_message(value))
        case "string_type" if isinstance(value, list | tuple | dict):
            kind = "mapping" if isinstance(value, dict) else "list"
            message = f"{shown(value)}: must be a single text, not a {kind}."
        case kind if kind in _KINDS:
            message = f"{shown(value)}: must be {_KINDS[kind]}."
        case "invalid_key":
            return Problem(key_path(entry["loc"][:-1]), _key_message(value))
        case _:
            reason = entry["msg"].removeprefix("Value error, ").rstrip(".")
            message = f"{shown(value)}: {reason.replace('Input should', 'must')}."
    return Problem(key_path(entry["loc"]), message)


def _key_message(key: object) -> str:
    return f"the key {shown(key)} must be text; put it in quotes."


def key_path(parts: Iterable[str | int]) -> str:
    """Join the parts of a location as users write it: ``("a", 2, "b")`` is ``a[2].b``."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
