"""Pages about update rules: gathers what the catalogue says, what a step costs, and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from optrial.errors import OptrialError
from optrial.functions import FUNCTIONS
from optrial.landscape import assemble, parse_optimizers
from optrial.report import explain_page
from optrial.report.explain_page import RuleComparison, RulePage
from optrial.report.landscape import landscape_figure
from optrial.report.style import save_figure
from optrial.rules import RULES, Rule, apply_all, compare, explain, get_rule, initialise_all
from optrial.rules.explain import DIFFERENCES

__all__ = [
    "count_operations",
    "explain_html",
    "explain_markdown",
    "kept_arrays",
    "rule_page",
    "write_rule_docs",
]

PICTURE_FUNCTION = "ill_conditioned"
PICTURE_STEPS = 60
MATRIX = (32, 32)
"""Shape of the parameter whose step is counted: a matrix, for the rules that treat it as one."""
BYTES = 4
"""Of a float32."""

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
"""What each array operation is called; any other under its own name."""


def explain_html(names: Iterable[str]) -> str:
    """Return one self-contained HTML page about the rules called `names`, and how they differ.

    Raises:
        StudyError: a rule does not exist.
    """
    rules = [get_rule(name) for name in dict.fromkeys(names)]
    comparison = _comparison(rules) if len(rules) > 1 else None
    return explain_page.explain_html([rule_page(rule) for rule in rules], comparison)


def explain_markdown(names: Iterable[str]) -> str:
    """Return a Markdown page about each of the rules called `names`, one after the other.

    Raises:
        StudyError: a rule does not exist.
    """
    rules = [get_rule(name) for name in dict.fromkeys(names)]
    return "\n".join(explain_page.explain_markdown(rule_page(rule)) for rule in rules)


def write_rule_docs(folder: Path) -> None:
    """Write NAME.md and NAME.png for every rule into `folder`, and an index.md.

    Raises:
        OptrialError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for rule in RULES.values():
            page = rule_page(rule)
            save_figure(landscape_figure(page.picture), folder / f"{rule.name}.png")
            text = explain_page.explain_markdown(page, f"{rule.name}.png")
            (folder / f"{rule.name}.md").write_text(text, encoding="utf-8")
        listed = "".join(f"- [{r.title}]({r.name}.md) (`{r.name}`)\n" for r in RULES.values())
        (folder / "index.md").write_text(f"# Update rules\n\n{listed}", encoding="utf-8")
    except OSError as error:
        raise OptrialError(f"{error.filename} cannot be written: {error.strerror}.") from error


def rule_page(rule: Rule) -> RulePage:
    """Return all that a page says about a rule."""
    explanation = explain(rule)
    return RulePage(
        name=rule.name,
        title=rule.title,
        equations=rule.equations,
        equations_latex=rule.equations_latex,
        symbols=rule.symbols,
        hyperparameters=[
            (h.name, str(h.default).lower(), h.range, h.meaning) for h in rule.hyperparameters
        ],
        facts={aspect: of(rule) for aspect, of in DIFFERENCES.items()},
        conventions=rule.conventions,
        special_cases=explanation.special_cases,
        neighbours=_neighbours(rule),
        state=rule.state,
        cost=_cost(rule),
        torch=explanation.torch,
        paper=rule.paper,
        picture=assemble(
            FUNCTIONS[PICTURE_FUNCTION],
            parse_optimizers(
                ",".join(f"{name}:lr=best" for name in dict.fromkeys(["sgd", rule.name]))
            ),
            PICTURE_STEPS,
        ),
    )


def count_operations(rule: Rule) -> Counter[str]:
    """Count the array operations of one step, by what they are called.

    The second step of a matrix at the default hyperparameters and weight decay is taken on arrays
    that count what is done to them. Only operations on arrays as large as the parameter
    count, each as one for every parameter; those on rows, columns or numbers do not.
    """
    tally: Counter[str] = Counter()
    params, state = _counting(_step(rule, *_start(rule), 1), tally)
    _step(rule, params, state, 2)
    return tally


def kept_arrays(rule: Rule) -> float:
    """Return how many numbers are kept for each parameter of a matrix, at the defaults."""
    _, state = _start(rule)
    sizes = [array.size for own in state.values() for array in own if array is not None]
    return float(sum(sizes) / prod(MATRIX))


def _start(rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
    params = {"weight": np.random.default_rng(0).standard_normal(MATRIX)}
    return params, initialise_all(rule, params, rule.defaults)


def _step(rule: Rule, params: Any, state: Any, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    decay = rule.default_weight_decay, rule.default_decay
    return apply_all(rule, params, params, state, step, rule.defaults, *decay)


class _Counted(np.ndarray[Any, Any]):
    """An array that counts the operations on arrays of the size of `MATRIX` it takes part in."""

    tally: Any = None  # a Counter, once `_counting` has set it

    def __array_finalize__(self, source: Any) -> None:
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


def _counting(value: Any, tally: Counter[str]) -> Any:
    """Return arrays, or containers of them, that count into `tally`."""
    if isinstance(value, np.ndarray):
        counted = value.view(_Counted)
        counted.tally = tally
        return counted
    if isinstance(value, dict):
        return {key: _counting(own, tally) for key, own in value.items()}
    if isinstance(value, tuple):
        parts = (_counting(own, tally) for own in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Counted) else value


def _cost(rule: Rule) -> list[str]:
    kept, operations = kept_arrays(rule), count_operations(rule)
    parts = [f"{number} {_plural(kind, number)}" for kind, number in operations.most_common()]
    return [
        f"Memory: {kept:.2g} numbers for each parameter of a {MATRIX[0]} × {MATRIX[1]} matrix, "
        f"{BYTES * kept:.2g} bytes in float32, besides the parameter and its gradient.",
        f"Operations a step on arrays of the parameter's size: {operations.total()} "
        f"({', '.join(parts)}), as written, before a compiler merges them; the default weight "
        "decay and the addition to the parameter count as well.",
    ]


def _plural(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}s"


def _neighbours(rule: Rule) -> dict[str, str]:
    """Return how a rule differs from those it contains, coincides with, or is contained in."""
    own = [name for name, _ in (*rule.generalises, *rule.coincides_with)]
    others = [
        other.name
        for other in RULES.values()
        if rule.name in [name for name, _ in (*other.generalises, *other.coincides_with)]
    ]
    pairs = {name: compare([rule, RULES[name]]).pairs[0] for name in dict.fromkeys(own + others)}
    return {name: str(pair) for name, pair in pairs.items()}


def _comparison(rules: Sequence[Rule]) -> RuleComparison:
    comparison = compare(rules)
    return RuleComparison(
        names=comparison.names,
        aspects=comparison.aspects,
        pairs={f"{pair.first} and {pair.second}": str(pair) for pair in comparison.pairs},
    )
