"""Published values of a study whose budget is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optrial.config.problems import by_problem, is_several

__all__ = ["with_published"]

_KEYS = ("budget", "reported")
_TIMES = "seconds"


def with_published(
    keys: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Return changed keys of a study; final published values keep the budget stated with them.

    If `change` gives a problem another budget, values of `reported` without an epoch or step get
    the last one of the budget that was stated beside them. Of a budget in another unit, they are
    left out.

    Args:
        keys: a study before validation.
        change: returns a changed copy of such keys.
    """
    changed = change(keys)
    before, after = _budgets(keys), _budgets(changed)
    if any(before[name] != after[name] for name in before.keys() & after.keys()):
        return change(_placed(keys))
    return changed


def _budgets(keys: Mapping[str, Any]) -> dict[str | None, Any]:
    """Return the budget of each problem by its name, and that of the study by an empty name."""
    problems, _ = by_problem(keys)
    return {"": keys.get("budget")} | {entry.name: entry.keys.get("budget") for entry in problems}


def _placed(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a study with the step or epoch of each published value."""
    problems = keys.get("problem")
    changed = {**keys, **_at_the_end(keys)}
    if is_several(problems):
        changed["problem"] = {name: _of_problem(keys, entry) for name, entry in problems.items()}
    elif isinstance(problems, list | tuple):
        changed["problem"] = [_of_problem(keys, entry) for entry in problems]
    return changed


def _of_problem(keys: Mapping[str, Any], entry: Any) -> Any:
    """Return one of several problems with its own published values, if it has its own keys."""
    if not isinstance(entry, Mapping) or not any(key in entry for key in _KEYS):
        return entry
    inherited = {key: keys[key] for key in _KEYS if key in keys}
    return {**entry, **_at_the_end({**inherited, **entry})}


def _at_the_end(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return `reported` with final values at the end of `budget`; empty without both."""
    budget, reported = map(keys.get, _KEYS)
    lengths = budget.items() if isinstance(budget, Mapping) else ()
    given = [(unit, length) for unit, length in lengths if length is not None]
    if not isinstance(reported, Mapping) or len(given) != 1:
        return {}
    ((unit, length),) = given
    placed: dict[str, Any] = {}
    for metric, values in reported.items():
        if metric == _TIMES or not isinstance(values, Mapping):
            placed[metric] = values
            continue
        named: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                named[name] = value
            elif unit in ("steps", "epochs") and isinstance(length, int):
                named[name] = {unit: {length: value}}
        placed[metric] = named
    return {"reported": placed}
