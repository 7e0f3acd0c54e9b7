"""Names for the functions, classes and arrays that a notebook passes in place of names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from optrial.code import Unidentifiable, register, unidentifiable
from optrial.data import split_objects
from optrial.errors import Problem, StudyError
from optrial.rules import Rule

__all__ = ["dataset_name", "optimizer_entry", "with_names", "with_names_in_list"]

_CODE_KEYS = ("factory", "name", "torch", "rule_factory")


def with_names(path: str, entry: object) -> Any:
    """Replace the user's objects in an entry of a study by names.

    Raises:
        StudyError: an object cannot be told from others like it; `path` says where it is.
    """
    if isinstance(entry, Mapping):
        code = {key: entry[key] for key in _CODE_KEYS if not isinstance(entry.get(key, ""), str)}
        named = {key: value for key, value in code.items() if callable(value) or key != "name"}
        return {**entry, **{key: _name_of(f"{path}.{key}", v) for key, v in named.items()}}
    return _name_of(path, entry) if callable(entry) else entry


def with_names_in_list(path: str, entries: object) -> Any:
    """Replace the user's objects in a list of entries by names; see `with_names`."""
    if not isinstance(entries, list | tuple):
        return entries
    return [with_names(f"{path}[{index}]", entry) for index, entry in enumerate(entries)]


def optimizer_entry(path: str, entry: object) -> Any:
    """Turn an optimizer as `compare` accepts it into an entry of a study.

    Raises:
        StudyError: it is none, or it cannot be told from others like it.
    """
    if isinstance(entry, str):
        return {"rule": entry}
    if isinstance(entry, Mapping):
        return with_names(path, entry)
    if not callable(entry) and not isinstance(entry, Rule):
        message = (
            f"{entry!r}: must be the name of a rule, an entry such as {{'rule': 'adam', 'lr': "
            "0.01}, a class of torch.optim.Optimizer (not an instance), or a Rule."
        )
        raise StudyError([Problem(path, " ".join(message.split()))], "the comparison")
    return {"torch" if _takes_parameters(entry) else "rule_factory": _name_of(path, entry)}


def dataset_name(data: object) -> str:
    """Return a name for a dataset made of the user's arrays or `torch.utils.data.Dataset`.

    Raises:
        DataError: the object is neither.
    """
    splits = split_objects("data", data)  # read once: only the arrays count
    return register(_returning(splits.get("all", splits)))


def _returning(arrays: object) -> Callable[[], object]:
    """Return a function that returns arrays, as a study names a dataset."""

    def data() -> object:
        return arrays

    return data


def _name_of(path: str, thing: object) -> str:
    try:
        return register(thing)
    except Unidentifiable as error:
        name = getattr(thing, "__name__", None) or type(thing).__name__
        problem = Problem(path, f"{name} {unidentifiable(error)}")
        raise StudyError([problem], "the comparison") from error


def _takes_parameters(entry: Callable[..., Any] | Rule) -> bool:
    """Return whether an object makes optimizers; one that makes a rule has no required argument."""
    if isinstance(entry, type) or not callable(entry):
        return isinstance(entry, type)
    try:
        parameters = inspect.signature(entry).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return bool(required)
