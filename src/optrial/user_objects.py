"""Names for the functions, classes, rules and arrays that a program passes in place of names."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optrial.code import Unidentifiable, register, unidentifiable
from optrial.config import is_several
from optrial.data import split_objects
from optrial.errors import Problem, StudyError
from optrial.rules import Rule

__all__ = ["dataset_name", "optimizer_entry", "with_named_optimizers", "with_named_problem"]

_CODE_KEYS = ("factory", "name", "torch", "rule_factory")
_KINDS = ("rule", "torch", "rule_factory")
_PLAIN = (str, int, float, bool, list, Mapping, type(None))
"""Types of the arguments of a dataset that a study names."""


def with_named_problem(path: str, problem: object) -> Any:
    """Replace the user's objects in one or several problems by names.

    Raises:
        StudyError: an object cannot be told apart from others like it; `path` says where it is.
        DataError: the dataset is neither a name nor arrays.
    """
    if isinstance(problem, list | tuple):
        return [with_named_problem(f"{path}[{i}]", entry) for i, entry in enumerate(problem)]
    if is_several(problem):
        return {n: with_named_problem(f"{path}.{n}", entry) for n, entry in problem.items()}
    if not isinstance(problem, Mapping):
        return problem
    named = dict(problem)
    dataset = problem.get("dataset")
    if isinstance(dataset, Mapping) and _is_data(dataset.get("name")):
        named["dataset"] = {**dataset, "name": dataset_name(dataset["name"])}
    elif _is_data(dataset):
        named["dataset"] = dataset_name(dataset)
    model = problem.get("model")
    factory = model.get("factory") if isinstance(model, Mapping) else model
    if hasattr(factory, "state_dict") and not isinstance(factory, type):
        raise StudyError([Problem(f"{path}.model", _built(type(factory).__name__))], "the study")
    if callable(model):
        named["model"] = {"factory": model}
    for key in ("model", "loss"):
        if key in named:
            named[key] = _with_names(f"{path}.{key}", named[key])
    if isinstance(metrics := problem.get("metrics"), list | tuple):
        named["metrics"] = [
            _with_names(f"{path}.metrics[{index}]", entry) for index, entry in enumerate(metrics)
        ]
    return named


def _built(name: str) -> str:
    return (
        "is a model that is built already, but every run starts with new weights: give a function "
        f"that builds it, such as lambda: {name}(...)."
    )


def _is_data(dataset: object) -> bool:
    """Return whether a dataset is made of arrays."""
    if isinstance(dataset, Mapping):
        return bool(dataset) and not all(isinstance(v, _PLAIN) for v in dataset.values())
    return not isinstance(dataset, str | int | float | None)


def with_named_optimizers(entries: Iterable[object]) -> list[Any]:
    """Replace rules, classes and functions in the optimizers of a study by names.

    An entry without a name gets that of its rule, class or function, unless several share it.

    Raises:
        StudyError: an object cannot be told apart from others like it.
    """
    named = [_with_named_optimizer(f"optimizers[{i}]", entry) for i, entry in enumerate(entries)]
    counts = Counter(_given_name(entry) or own_name for entry, own_name in named)
    return [
        {"name": own_name, **entry} if own_name and counts[own_name] == 1 else entry
        for entry, own_name in named
    ]


def _with_named_optimizer(path: str, entry: object) -> tuple[Any, str]:
    """Return an entry, or a group, with names for its objects, and the name of its optimizer."""
    if callable(entry) or isinstance(entry, Rule):
        entry = {"torch": entry}
    if not isinstance(entry, Mapping):
        return entry, ""
    if isinstance(groups := entry.get("groups"), list | tuple):
        named = [
            _with_named_optimizer(f"{path}.groups[{index}]", group)[0]
            for index, group in enumerate(groups)
        ]
        entry = {**entry, "groups": named}
    values = {key: entry[key] for key in _KINDS if entry.get(key) is not None}
    objects = {key: value for key, value in values.items() if not isinstance(value, str)}
    if len(objects) != 1:
        return entry, ""
    ((key, thing),) = objects.items()
    if not callable(thing) and not isinstance(thing, Rule):
        raise StudyError([Problem(f"{path}.{key}", _not_an_optimizer(thing))], "the study")
    kind = "torch" if _takes_parameters(thing) else "rule_factory"
    others = {name: value for name, value in entry.items() if name != key}
    return {kind: _name_of(f"{path}.{key}", thing), **others}, _own_name(thing)


def _given_name(entry: object) -> str:
    """Return the name that an entry of `optimizers` gives; empty if it gives none."""
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else ""


def _own_name(thing: object) -> str:
    """Return the name of a rule, class or function; empty for others, such as a lambda."""
    name = thing.name if isinstance(thing, Rule) else getattr(thing, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else ""


def optimizer_entry(path: str, entry: object) -> Any:
    """Return an optimizer as `compare` accepts it as an entry of a study.

    Raises:
        StudyError: it is neither a name, a mapping, a rule, a class nor a function.
    """
    if isinstance(entry, str):
        return {"rule": entry}
    if isinstance(entry, Mapping | Rule) or callable(entry):
        return entry
    raise StudyError([Problem(path, _not_an_optimizer(entry))], "the comparison")


def _not_an_optimizer(thing: object) -> str:
    return (
        f"{' '.join(repr(thing).split())}: must be the name of a rule, an entry such as "
        "{'rule': 'adam', 'lr': 0.01}, a class of torch.optim.Optimizer (not an instance), a "
        "function that takes parameters, or a Rule."
    )


def _with_names(path: str, entry: object) -> Any:
    """Replace the user's objects in a model, loss or metric by names."""
    if isinstance(entry, Mapping):
        code = {key: entry[key] for key in _CODE_KEYS if not isinstance(entry.get(key, ""), str)}
        named = {key: value for key, value in code.items() if callable(value) or key != "name"}
        return {**entry, **{key: _name_of(f"{path}.{key}", v) for key, v in named.items()}}
    return _name_of(path, entry) if callable(entry) else entry


def dataset_name(data: object) -> str:
    """Return the name under which arrays, or a `torch.utils.data.Dataset`, of a user are kept.

    Raises:
        DataError: the object is neither.
    """
    objects = split_objects("data", data)  # read once: only the arrays count
    splits = objects.splits
    return register(_returning(objects if objects.parts else splits.get("all", splits)))


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
        raise StudyError([problem], "the study") from error


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
