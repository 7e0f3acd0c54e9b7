"""Changes to a study from the command line: ``--set key.path=value``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from optrial.config.optimizers import OptimizerEntry
from optrial.config.plain_yaml import parse_yaml
from optrial.config.problems import (
    OVERRIDES,
    PROBLEM_KEYS,
    entry_label,
    is_several,
    problem_names,
)
from optrial.config.short_forms import ShortForm
from optrial.config.study import UNITS, ProblemEntry, Span, StudyFile
from optrial.errors import Problem, StudyError, key_path, suggest
from optrial.errors import shown as as_text

__all__ = ["override"]

_PATH = r"[^.\[\]=]+ (?: \.[^.\[\]=]+ | \[[^\]]+\] )*"  # a name in brackets may hold dots and "="
_SETTING = re.compile(rf"({_PATH}) = (.*)", re.VERBOSE | re.DOTALL)
_PART = re.compile(r"\[([^\]]+)\]|([^.\[\]]+)")
_INDEX_DIGITS = 9
_OF_A_RANGE = ("log", "lin", "points")


def override(raw: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return `raw` with every ``key.path=value`` of `settings` applied; values are YAML.

    A part of the path may be an index or the name of an optimizer or problem:
    ``optimizers.adam.lr=0.01`` or ``optimizers[2].lr=0.01``; brackets also take names with dots.
    A value in a short form is expanded before a part of it is set: ``clip.value=0.5`` on
    ``clip: 1.0`` gives ``clip: {norm: 1.0, value: 0.5}``. Setting ``steps`` removes
    ``epochs`` beside it, and likewise for all units.

    Raises:
        StudyError: a setting without ``=``, or a path that leads nowhere.
    """
    changed = deepcopy(dict(raw))
    problems = []
    for setting in settings:
        shown = f"--set {setting}"
        try:
            parts, text = _parsed(setting)
            _assign(changed, parts, parse_yaml(text, shown))
        except LookupError as error:
            problems.append(Problem(shown, str(error.args[0])))
        except StudyError as error:
            (problem,) = error.problems
            message = f"{problem.message.rstrip('.')}; text with special characters needs quotes."
            problems.append(Problem(shown, message))
    if problems:
        raise StudyError(problems, "the command line")
    return changed


def _parsed(setting: str) -> tuple[list[str], str]:
    """Return the parts of the path of a setting, and the text of its value.

    Raises:
        LookupError: it has no value, or a path with an empty part.
    """
    match = _SETTING.fullmatch(setting)
    parts = [(name or key).strip() for name, key in _PART.findall(match[1])] if match else []
    if not match or not all(parts):
        raise LookupError("must be written key.path=value.")
    return parts, match[2]


def _assign(raw: dict[str, Any], parts: list[str], value: Any) -> None:
    """Put `value` into the nested `raw` at the path `parts`."""
    if parts[0] == "recipe":  # which is expanded before
        raise LookupError("a recipe is named in the study file, or in its place: optrial run NAME.")
    place = _Place(raw, StudyFile, (), raw)
    for part, below in pairwise(parts):
        place = place.entered(part, below)
    if not isinstance(value, Mapping):  # which may be one more problem
        place.check_problem(parts[-1])
    key = place.key(parts[-1])
    place.node[key] = value
    if place.is_duration and value is not None:
        units = {*UNITS, "seconds"}
        for unit in units - {parts[-1]} if parts[-1] in units else ():
            place.node.pop(unit, None)


@dataclass(frozen=True)
class _Place:
    """A mapping or list within a study.

    Attributes:
        node: the mapping or list.
        annotation: of the field of `StudyFile` that it is the value of; None below such fields.
        path: the keys and indices that lead to it.
        study: the whole study.
    """

    node: Any
    annotation: Any
    path: tuple[str | int, ...]
    study: Mapping[str, Any]

    @property
    def is_duration(self) -> bool:
        """True if `steps`, `epochs` and other units exclude each other here."""
        kind = _plain(self.annotation)
        return (isinstance(kind, type) and issubclass(kind, Span)) or "schedule" in self.path

    def entered(self, part: str, below: str) -> _Place:
        """Return the place at `part`, with its short form expanded; create it if it is not set.

        Raises:
            LookupError: there is nothing that could hold the key or index `below`.
        """
        self.check_problem(part)
        key = self.key(part)
        path = (*self.path, key)
        if isinstance(self.node, dict):
            value = self.node[key] if key in self.node else self._inherited(part)
        else:
            value = self.node[key]
        annotation = self._annotation(part, value)
        if value is None:
            value = _default(self.annotation, part)
        value = _long_form(annotation, value, below)
        shown = key_path(path)
        if value is None and (_is_index(below) or get_origin(_plain(annotation)) is tuple):
            raise LookupError(f"{shown} is not set; set all of it: --set '{shown}=[...]'.")
        if value is None and _plain(self.annotation) is OptimizerEntry and annotation is None:
            self._check_hyperparameter(part, below)
        if value is None:
            value = {}
        if not isinstance(value, dict | list):
            raise LookupError(
                f"'{below}' leads nowhere, because {shown} is the single value {as_text(value)}; "
                f"set all of it: --set '{shown}=...'."
            )
        self.node[key] = value
        return _Place(value, annotation, path, self.study)

    def _check_hyperparameter(self, part: str, below: str) -> None:
        """Refuse a part of a hyperparameter that is not set, unless it begins a range."""
        if below not in _OF_A_RANGE:
            known = [*OptimizerEntry.model_fields, *map(str, self.node)]
            shown = key_path((*self.path, part))
            raise LookupError(f"{shown} is not set. {suggest(part, dict.fromkeys(known))}")

    def _inherited(self, part: str) -> Any:
        """Return a copy of what a problem or its optimizer has from the study, or None."""
        match self.path:
            case ("problem", _) if part in OVERRIDES and _plain(self.annotation) is ProblemEntry:
                inherited = self.study.get(part) if part != "optimizers" else None
            case ("problem", _, "optimizers", label):
                entries = self.study.get("optimizers")
                entries = entries if isinstance(entries, list) else []
                named = (entry for entry in entries if entry_label(entry) == label)
                entry = next(named, None)
                inherited = entry.get(part) if isinstance(entry, dict) else None
            case _:
                inherited = None
        return deepcopy(inherited)

    def _annotation(self, part: str, value: Any) -> Any:
        """Return the annotation of the value at `part`; None if it is unknown."""
        match self.path:
            case () if part == "problem" and is_several(value):
                return dict[str, ProblemEntry]
            case () if part == "problem" and isinstance(value, list):
                return tuple[ProblemEntry, ...]
            case ("problem", _) if part == "optimizers":
                return dict[str, OptimizerEntry]
            case ("problem", _) if part in OVERRIDES and _plain(self.annotation) is ProblemEntry:
                return _inside(StudyFile, part)
        return _inside(self.annotation, part)

    def key(self, part: str) -> str | int:
        """Return the key or index of `part`.

        Raises:
            LookupError: a list has no such index, and no entry of that name.
        """
        if isinstance(self.node, dict):
            return part
        if _is_index(part) and int(part) < len(self.node):
            return int(part)
        is_problems = self.path == ("problem",)
        names = problem_names(self.node) if is_problems else list(map(entry_label, self.node))
        if part in names:
            return names.index(part)
        shown = key_path(self.path)
        allowed = [*filter(None, names), *map(str, range(len(names)))]
        raise LookupError(f"'{part}' is not in the list {shown}. {suggest(part, allowed)}")

    def check_problem(self, part: str) -> None:
        """Refuse a name that is none of several problems, or a key that a problem does not have.

        Raises:
            LookupError: it is none of them; the message says what to write.
        """
        if self.path != ("problem",) or not isinstance(self.node, dict) or part in self.node:
            return
        if not is_several(self.node):
            if part in OVERRIDES:
                raise LookupError(
                    f"'{part}' is a key of the study; write {part} for problem.{part}."
                )
            return
        names = list(map(str, self.node))
        way_out = suggest(part, names)
        if part in (*PROBLEM_KEYS, *OVERRIDES):
            way_out = f"Write problem.{names[0]}.{part}, and likewise for the others."
        raise LookupError(f"'{part}' is not a problem of the study. {way_out}")


def _long_form(annotation: Any, value: Any, below: str) -> Any:
    """Expand a value to its long form, if it has one, before its part `below` is set."""
    for form in _short_forms(annotation):
        try:
            expanded = form.expand(value)
        except ValueError:  # validation reports it
            return value
        # A list or mapping may be a short form of the other; it stays where it has the part.
        if isinstance(value, list) and _is_index(below) and not isinstance(expanded, list):
            continue
        if isinstance(value, dict) and isinstance(expanded, list) and not _names(expanded, below):
            continue
        value = expanded
    return value


def _is_index(part: str) -> bool:
    """Return whether a part of a path is the index of an entry of a list."""
    return part.isdecimal() and len(part) <= _INDEX_DIGITS


def _names(entries: list[Any], part: str) -> bool:
    """Return whether a list may have an entry `part`, by index or name."""
    return _is_index(part) or part in map(entry_label, entries)


def _short_forms(annotation: Any) -> list[ShortForm]:
    if get_origin(annotation) is Annotated:
        forms = [part for part in annotation.__metadata__ if isinstance(part, ShortForm)]
        return [*forms, *_short_forms(annotation.__origin__)]
    return [form for kind in _alternatives(annotation) for form in _short_forms(kind)]


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union besides None; nothing for any other annotation."""
    arguments = get_args(annotation)
    return [kind for kind in arguments if kind is not NoneType] if NoneType in arguments else []


def _plain(annotation: Any) -> Any:
    """Return an annotation without its metadata and without None."""
    if get_origin(annotation) is Annotated:
        return _plain(annotation.__origin__)
    return _plain(kinds[0]) if (kinds := _alternatives(annotation)) else annotation


def _inside(annotation: Any, part: str) -> Any:
    """Return the annotation of a field, or of the entries of a list; None if it is unknown."""
    plain = _plain(annotation)
    if get_origin(plain) in (tuple, dict):
        return get_args(plain)[get_origin(plain) is dict]
    if isinstance(plain, type) and issubclass(plain, BaseModel) and part in plain.model_fields:
        return get_type_hints(plain, include_extras=True)[part]
    return None


def _default(annotation: Any, part: str) -> Any:
    """Return the default of a field as a study file could say it, or None."""
    plain = _plain(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return None
    field = plain.model_fields.get(part)
    value = field.default if field and not field.is_required() else None
    if isinstance(value, tuple) and value:
        return list(value)
    return value if isinstance(value, str) else None
