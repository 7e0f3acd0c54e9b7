"""Cost of a step of a rule: numbers kept and array operations, counted on a small matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.rules import RULES, Modifier, Rule, apply_all, initialise_all, modified
from optrial.rules.rule import State

__all__ = ["cost_sentences", "count_operations", "kept_arrays", "modifier_cost"]

MATRIX = (32, 32)
"""Shape of the parameter on which operations are counted: a matrix, for rules that need one."""
FLOAT32_BYTES = 4

KINDS = {
    "add": "addition",
    "subtract": "addition",
    "negative": "addition",
    "multiply": "multiplication",
    "square": "multiplication",
    "power": "power",
    "divide": "division",
    "reciprocal": "division",
    "sqrt": "square root",
    "sign": "sign",
    "absolute": "absolute value",
    "maximum": "comparison",
    "minimum": "comparison",
    "where": "choice",
    "matmul": "matrix product",
}
"""NumPy function -> kind of operation; any other is its own kind."""

Arrays = Mapping[str, NDArray[np.float64]]


def count_operations(rule: Rule) -> Counter[str]:
    """Count the array operations of one step, by kind.

    The second step of a matrix is taken with the default hyperparameters and weight decay, on
    arrays that count the operations they take part in. Only operations on arrays as large as the
    parameter count; those on rows, columns or single numbers do not.
    """
    tally: Counter[str] = Counter()
    params, state = _counting(_step(rule, *_start(rule), 1), tally)
    _step(rule, params, state, 2)
    return tally


def kept_arrays(rule: Rule) -> float:
    """Return how many numbers are kept per parameter of a matrix, at the defaults."""
    _, state = _start(rule)
    sizes = [array.size for fields in state.values() for array in fields if array is not None]
    return float(sum(sizes) / prod(MATRIX))


def cost_sentences(rule: Rule) -> tuple[str, str]:
    """Return one sentence about memory and one about operations."""
    kept, operations = kept_arrays(rule), count_operations(rule)
    kinds = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in operations.most_common()]
    rows, columns = MATRIX
    return (
        f"Memory: {FLOAT32_BYTES * kept:.2g} bytes per parameter of a {rows} × {columns} matrix in "
        "float32, besides the parameter and its gradient.",
        f"Array operations per step: {operations.total()} ({', '.join(kinds)}), before a compiler "
        "fuses them; default weight decay and the addition to the parameter are included.",
    )


def modifier_cost(modifier: Modifier) -> tuple[str, str]:
    """Return one sentence about the memory and one about the operations that a modifier adds."""
    name = "grafting(sgd)" if modifier.name == "grafting" else modifier.name
    plain, changed = RULES["adamw"], modified(RULES["adamw"], (name,))
    kept = kept_arrays(changed) - kept_arrays(plain)
    added = count_operations(changed).total() - count_operations(plain).total()
    rows, columns = MATRIX
    onto = ", with sgd as the other rule" if modifier.name == "grafting" else ""
    return (
        f"Memory: {FLOAT32_BYTES * kept:.2g} bytes per parameter of a {rows} × {columns} matrix in "
        f"float32, besides those of the rule{onto}.",
        f"Array operations per step: {max(added, 0)}, besides those of adamw, before a compiler "
        f"fuses them{onto}.",
    )


def _start(rule: Rule) -> tuple[Arrays, dict[str, State]]:
    params = {"weight": np.random.default_rng(0).standard_normal(MATRIX)}
    return params, initialise_all(rule, params, rule.defaults)


def _step(
    rule: Rule, params: Arrays, state: Mapping[str, State], step: int
) -> tuple[Arrays, dict[str, State]]:
    decay = rule.default_weight_decay, rule.default_decay
    return apply_all(rule, params, params, state, step, rule.defaults, *decay, curvature=params)


class _Counted(np.ndarray[Any, Any]):
    """An array that counts the operations on arrays of the size of `MATRIX` it takes part in."""

    tally: Counter[str] | None = None

    def __array_finalize__(self, source: object) -> None:
        self.tally = getattr(source, "tally", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        self._count(ufunc.__name__, inputs)
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        return _counting(getattr(ufunc, method)(*map(_plain, inputs), **options), self.tally)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function.__name__ == "where":
            self._count("where", arguments)
        return super().__array_function__(function, types, arguments, options)

    def _count(self, name: str, inputs: Sequence[Any]) -> None:
        if self.tally is not None and max(map(np.size, inputs)) == prod(MATRIX):
            self.tally[KINDS.get(name, name)] += 1


def _counting(value: Any, tally: Counter[str] | None) -> Any:
    """Return arrays, or containers of arrays, that count into `tally`."""
    if isinstance(value, np.ndarray):
        counted = value.view(_Counted)
        counted.tally = tally
        return counted
    if isinstance(value, dict):
        return {key: _counting(item, tally) for key, item in value.items()}
    if isinstance(value, tuple):
        parts = (_counting(item, tally) for item in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Counted) else value
