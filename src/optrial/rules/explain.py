"""What each rule is, and how rules differ, from the facts of the catalogue alone."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from optrial.rules.catalogue import RULES, get_rules
from optrial.rules.rule import Hyperparameter, Rule

__all__ = [
    "Comparison",
    "Explanation",
    "PairDifference",
    "compare",
    "explain",
    "render_explanation",
]


@dataclass(frozen=True)
class Explanation:
    """One rule, explained.

    Attributes:
        rule: its catalogue entry: equations, terms, hyperparameters, state, conventions, paper.
        weight_decay: how weight decay enters by default.
        special_cases: which rules it contains or coincides with, one sentence each.
        torch: its counterpart in `torch.optim`, in one sentence.
    """

    rule: Rule
    weight_decay: str
    special_cases: tuple[str, ...]
    torch: str


@dataclass(frozen=True)
class PairDifference:
    """How two rules differ.

    Attributes:
        first: name of a rule.
        second: name of another.
        relation: where one becomes the other, or what both contain; empty where neither is so.
        separation: the aspects in which they differ, and those in which they agree.
    """

    first: str
    second: str
    relation: str
    separation: str

    def __str__(self) -> str:
        return f"{self.relation} {self.separation}".strip()


@dataclass(frozen=True)
class Comparison:
    """Several rules, side by side.

    Attributes:
        names: the rules.
        aspects: for each aspect, what it is in each rule, in the order of `names`.
        pairs: every pair of them.
    """

    names: tuple[str, ...]
    aspects: Mapping[str, tuple[str, ...]]
    pairs: tuple[PairDifference, ...]


def explain(rule: Rule) -> Explanation:
    """Return what there is to say about one rule."""
    return Explanation(
        rule=rule,
        weight_decay=_weight_decay(rule),
        special_cases=(
            *(f"It is {name} at {at}." for name, at in rule.generalises),
            *(f"It coincides with {name} where {at}." for name, at in rule.coincides_with),
        ),
        torch=_torch(rule),
    )


def compare(rules: Sequence[Rule]) -> Comparison:
    """Return how `rules` differ, aspect by aspect and pair by pair."""
    return Comparison(
        names=tuple(rule.name for rule in rules),
        aspects={name: tuple(map(of, rules)) for name, of in ASPECTS.items()},
        pairs=tuple(_difference(first, second) for first, second in combinations(rules, 2)),
    )


def render_explanation(names: Iterable[str], width: int = 88) -> str:
    """Return the explanation of the rules called `names`, and how they differ, as plain text.

    Args:
        names: rules of the catalogue; a repeated one is explained once.
        width: columns of the terminal; equations are never broken.

    Raises:
        StudyError: a rule does not exist.
    """
    rules = get_rules(dict.fromkeys(names))
    parts = [_explanation_lines(explain(rule), width) for rule in rules]
    if len(rules) > 1:
        parts.append(_comparison_lines(compare(rules), width))
    return "\n\n\n".join("\n".join(lines) for lines in parts)


def _weight_decay(rule: Rule) -> str:
    how = {"l2": "added to the gradient", "decoupled": "taken from the parameter, times lr"}
    if rule.own_decay:
        how[rule.own_decay] = "part of the equations"
    return f"{rule.default_decay} ({how[rule.default_decay]}), {rule.default_weight_decay:g}"


def _torch(rule: Rule) -> str:
    if rule.torch_optim is None:
        return "none"
    arguments = rule.torch_optim.keywords(**rule.defaults)
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    decays = " or ".join(rule.torch_optim.decays)
    return f"torch.optim.{rule.torch_optim.class_name}({shown}); weight decay: {decays}"


def _state(rule: Rule) -> str:
    kept = f"{rule.state_size} ({', '.join(rule.state)})" if rule.state else "0"
    smaller = [*rule.reduced_state, *_model_state(rule)]
    return f"{kept}, and smaller ones ({', '.join(smaller)})" if smaller else kept


def _model_state(rule: Rule) -> Mapping[str, str]:
    return rule.model.state if rule.model else {}


DIFFERENCES: dict[str, Callable[[Rule], str]] = {
    "direction": lambda rule: rule.direction,
    "step of each coordinate": lambda rule: rule.scaling,
    "bias correction": lambda rule: rule.bias_correction,
    "place of eps": lambda rule: rule.epsilon,
    "arrays kept per parameter": _state,
    "default weight decay": _weight_decay,
}
"""The aspects in which a pair of rules is said to differ or to agree."""

ASPECTS: dict[str, Callable[[Rule], str]] = {
    **DIFFERENCES,
    "default lr": lambda rule: f"{rule.hyperparameters[0].default:g}",
    "contains": lambda rule: ", ".join(_contained(rule)) or "no other rule",
}
"""What a comparison shows of each rule."""


def _difference(first: Rule, second: Rule) -> PairDifference:
    alike = [aspect for aspect, of in DIFFERENCES.items() if of(first) == of(second)]
    unlike = [aspect for aspect in DIFFERENCES if aspect not in alike]
    parts = [f"differ in {_listed(unlike)}"] if unlike else []
    parts += [f"agree in {_listed(alike)}"] if alike else []
    return PairDifference(
        first.name, second.name, _relation(first, second), f"They {'; they '.join(parts)}."
    )


def _relation(first: Rule, second: Rule) -> str:
    """Say where one is the other; or else where they coincide, or what both contain."""
    for general, special in ((first, second), (second, first)):
        if special.name in (contained := _contained(general)):
            return f"{contained[special.name]}."
    sentences = [
        f"{one.name} coincides with {name} where {condition}."
        for one, other in ((first, second), (second, first))
        for name, condition in one.coincides_with
        if name == other.name
    ]
    ways = _contained(first), _contained(second)
    shared = [name for name in RULES if name in ways[0] and name in ways[1]]
    if shared and not sentences:
        largest = shared[-1]
        sentences.append(f"Both contain {largest}: {ways[0][largest]}; {ways[1][largest]}.")
    return " ".join(sentences)


def _contained(rule: Rule) -> dict[str, str]:
    """Return every rule that `rule` contains, in one stage or several, and how."""
    direct = {name: f"{rule.name} is {name} at {at}" for name, at in rule.generalises}
    further = {
        name: f"{way}, and {onward}"
        for between, way in direct.items()
        for name, onward in _contained(RULES[between]).items()
    }
    return further | direct


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _explanation_lines(explanation: Explanation, width: int) -> list[str]:
    rule = explanation.rule
    return [
        *_heading(f"{rule.name}: {rule.title}"),
        "",
        *(f"    {line}" for line in rule.equations),
        "",
        *_definitions(rule.symbols, width),
        *_section("Hyperparameters"),
        *_definitions({h.name: _hyperparameter(h) for h in rule.hyperparameters}, width),
        *_section("Kept for each parameter"),
        *_kept({**rule.state, **rule.reduced_state}, width),
        *(_section("Kept once for the whole model") if rule.model else []),
        *(_kept(_model_state(rule), width) if rule.model else []),
        *_section("Weight decay"),
        *_paragraph(explanation.weight_decay, width),
        *_section("Which form"),
        *_paragraph(rule.conventions, width),
        *(_section("Special cases") if explanation.special_cases else []),
        *(line for case in explanation.special_cases for line in _paragraph(case, width)),
        *_section("In torch.optim"),
        *_paragraph(explanation.torch, width),
        *_section("Paper"),
        *_paragraph(rule.paper, width),
    ]


def _comparison_lines(comparison: Comparison, width: int) -> list[str]:
    lines = _heading(f"How {_listed(comparison.names)} differ")
    for aspect, values in comparison.aspects.items():
        lines += _section(aspect.capitalize())
        lines += _definitions(dict(zip(comparison.names, values, strict=True)), width)
    for pair in comparison.pairs:
        lines += _section(f"{pair.first} and {pair.second}")
        lines += _paragraph(str(pair), width)
    return lines


def _kept(state: Mapping[str, str], width: int) -> list[str]:
    return _definitions(state, width) if state else ["  nothing"]


def _hyperparameter(hyperparameter: Hyperparameter) -> str:
    default = str(hyperparameter.default).lower()
    return f"{hyperparameter.meaning}; default {default}, {hyperparameter.range}"


def _heading(text: str) -> list[str]:
    return [text, "=" * len(text)]


def _section(title: str) -> list[str]:
    return ["", title]


def _paragraph(text: str, width: int) -> list[str]:
    return _hanging("  ", text, width)


def _definitions(meanings: Mapping[str, str], width: int) -> list[str]:
    """Lay out names and meanings in two columns."""
    column = max(map(len, meanings))
    rows = ((f"  {name:<{column}}  ", meaning) for name, meaning in meanings.items())
    return [line for lead, meaning in rows for line in _hanging(lead, meaning, width)]


def _hanging(lead: str, text: str, width: int) -> list[str]:
    """Wrap `text` after `lead`, its further lines below its first."""
    indent = " " * len(lead)
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False
    )
