"""From YAML to a `StudyFile`, with everything that is wrong said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from optrial.config.places import belongs
from optrial.config.plain_yaml import LONGEST_TEXT, parse_yaml
from optrial.config.problems import (
    ONE_VALUE,
    OVERRIDES,
    PROBLEM_KEYS,
    ProblemKeys,
    Studies,
    by_problem,
    located,
)
from optrial.config.study import MOST_RUNS, ProblemEntry, StudyFile
from optrial.errors import Problem, StudyError, key_path, problem_of, shown, suggest

__all__ = ["parse_study", "read_mapping", "read_study", "stored_study"]


def read_study(path: Path) -> dict[str, Any]:
    """Read a YAML study file into plain values; its name defaults to the file's.

    Raises:
        StudyError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    return {"name": path.stem} | read_mapping(path)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values; see `read_study`."""
    try:
        with path.open("rb") as file:
            content = file.read(4 * LONGEST_TEXT + 1)  # bytes, also of a device without end
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = "not a text file in UTF-8"
        if error.reason == "unexpected end of data" and error.start > LONGEST_TEXT:
            reason = f"longer than {LONGEST_TEXT:,} characters"
        raise StudyError([Problem("", f"cannot be read: {reason}.")], str(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError([Problem("", f"cannot be read: {reason}.")], str(path)) from error
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        kind = "empty" if raw is None else f"a {type(raw).__name__}"
        problem = Problem("", f"must be a mapping of keys to values; it is {kind}.")
        raise StudyError([problem], str(path))
    return raw


def parse_study(raw: Mapping[str, Any]) -> tuple[Studies | None, list[Problem]]:
    """Validate plain values.

    Returns the study and everything that is wrong with it. Invalid values are left out and the rest
    is validated again, so that a caller can check what the remaining names mean and report all
    problems together; the study is None if too little is left.
    """
    sources, problems = by_problem(raw)
    studies: dict[str, StudyFile] = {}
    named: dict[str, ProblemKeys] = {}
    invalid: dict[str, list[Problem]] = {}
    for source in sources:
        study, wrong = _parsed(source)
        name = source.name or (study.problem.name if study else "")
        named[name], invalid[name] = source, wrong
        if study is not None:
            studies[name] = study
        if sum(len(checked.seeds) for checked in studies.values()) > MOST_RUNS:
            most = f"with their seeds, the problems have over {MOST_RUNS:,} runs; give fewer seeds."
            return None, [*problems, Problem("problem", most)]
    problems += located(invalid, named)
    if len(studies) < max(1, len(sources)):
        return None, problems
    return Studies(studies, named), problems


def _parsed(source: ProblemKeys) -> tuple[StudyFile | None, list[Problem]]:
    """Validate the study of one problem; see `parse_study`."""
    remaining = _copied(source.keys)
    also = PROBLEM_KEYS if source.name is None else (*PROBLEM_KEYS, *OVERRIDES)
    problems: list[Problem] = []
    removed: set[tuple[str | int, ...]] = set()
    while True:
        try:
            return StudyFile.model_validate(remaining), problems
        except UnicodeEncodeError as error:  # of a key or text with lone surrogates
            text = f"{shown(error.object)}: is not text that can be written in UTF-8."
            return None, [*problems, Problem("", text)]
        except ValidationError as error:
            entries = error.errors()
            wrong = removed | {entry["loc"] for entry in entries}
            # A value that is wrong inside, or was removed for being wrong, is not wrong twice.
            fresh = [
                entry
                for entry in entries
                if entry["loc"] not in removed
                and not any(_is_inside(location, entry["loc"]) for location in wrong)
            ]
            problems += [_problem(entry, also) for entry in fresh]
            removed |= {entry["loc"] for entry in fresh}
            if not fresh or not all(_remove(remaining, entry["loc"]) for entry in fresh):
                return None, problems


def _problem(entry: Mapping[str, Any], of_problem: Sequence[str]) -> Problem:
    location, value = entry["loc"], entry["input"]
    takes_one = entry["type"] in ("literal_error", "bool_type", "int_type")
    if takes_one and isinstance(value, list) and location in [(key,) for key in OVERRIDES]:
        return Problem(key_path(location), f"{shown(value)}: {ONE_VALUE}.")
    if entry["type"] == "extra_forbidden" and len(location) <= 2:
        place = str(location[0]) if len(location) == 2 else "study"
        if sentence := belongs(location[-1], place):
            return Problem(key_path(location), sentence)
    keys = _keys_beside(location, of_problem)
    if entry["type"] == "value_error" and location[-1] not in keys:  # a hyperparameter, or a typo
        hint = suggest(location[-1], keys)
        if hint.startswith("Did you mean"):
            return Problem(key_path(location), f"unknown key. {hint}")
    return problem_of(entry, keys)


def stored_study(keys: Mapping[str, Any]) -> Studies:
    """Return the study that a store holds.

    Libraries needed only for training, such as a sampler's or a tracker's, need not be installed.

    Raises:
        StudyError: this version of optrial cannot read it.
    """
    study, problems = parse_study(keys)
    if study is None or problems:
        raise StudyError(problems, "the stored study")
    return study


def _copied(value: Any) -> Any:
    """Copy mappings and lists; values of other types, which may be any object, stay the same."""
    match value:
        case Mapping():
            return {key: _copied(item) for key, item in value.items()}
        case list() | tuple():
            return [_copied(item) for item in value]
    return value


def _is_inside(location: tuple[str | int, ...], outer: tuple[str | int, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _keys_beside(location: tuple[str | int, ...], of_problem: Sequence[str]) -> Sequence[str]:
    """Return the keys that are allowed where `location` is.

    Args:
        location: place of a key in the study of one problem.
        of_problem: the keys of that problem.
    """
    model: type[BaseModel] | None = StudyFile
    for part in location[:-1]:
        if isinstance(part, str) and model:
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field else None
    if model is ProblemEntry:
        return of_problem
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's annotation holds, directly or in a tuple or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _remove(raw: Any, location: tuple[str | int, ...]) -> bool:
    """Remove the value at a location; False where that cannot be done.

    A whole optimizer or group is never removed: it would shift the numbers of those behind it.
    """
    if not location:
        return False
    *parents, last = location
    try:
        for part in parents:
            raw = raw[part]
        if parents and parents[-1] in ("optimizers", "groups"):
            return False
        del raw[last]
    except (LookupError, TypeError):
        return False
    return True
