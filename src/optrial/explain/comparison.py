"""Explanations and comparisons of rules, from the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from optrial.explain.cost import cost_sentences
from optrial.rules import MODIFIERS, RULES, Modifier, Rule, get_rules

__all__ = [
    "Comparison",
    "Explanation",
    "PairDifference",
    "Selection",
    "compare",
    "explain",
    "listed",
    "model_state",
    "selected",
]


@dataclass(frozen=True)
class Explanation:
    """One rule, explained.

    Attributes:
        rule: its catalogue entry: equations, symbols, hyperparameters, state, conventions, paper.
        facts: aspect -> its value, as "bias correction" -> "none".
        special_cases: one sentence for each rule that it reduces to or coincides with.
        relatives: name of each rule that is a special case, contains this one, coincides with it or
            is contrasted with it -> how they differ.
        cost: one sentence on memory, one on operations.
        torch: its counterpart in `torch.optim`, or "none".
    """

    rule: Rule
    facts: Mapping[str, str]
    special_cases: tuple[str, ...]
    relatives: Mapping[str, str]
    cost: tuple[str, ...]
    torch: str


@dataclass(frozen=True)
class PairDifference:
    """The differences between two rules.

    Attributes:
        first: name of a rule.
        second: name of another.
        relation: how and why they differ in the main, and when one becomes the other or what both
            contain; empty if nothing of this is known.
        separation: each aspect in which they differ, with its values and why it matters, and the
            aspects in which they agree.
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
        aspects: aspect -> its value for each rule, in the order of `names`.
        pairs: every pair of rules.
    """

    names: tuple[str, ...]
    aspects: Mapping[str, tuple[str, ...]]
    pairs: tuple[PairDifference, ...]


def explain(rule: Rule) -> Explanation:
    """Explain one rule."""
    return Explanation(
        rule=rule,
        facts={aspect: describe(rule) for aspect, describe in DIFFERENCES.items()},
        special_cases=(
            *(f"Reduces to {name} when {condition}." for name, condition in rule.generalises),
            *(f"Equals {name} when {condition}." for name, condition in rule.coincides_with),
        ),
        relatives={name: str(compare([rule, RULES[name]]).pairs[0]) for name in _relatives(rule)},
        cost=cost_sentences(rule),
        torch=_torch(rule),
    )


def compare(rules: Sequence[Rule]) -> Comparison:
    """Compare rules aspect by aspect and pair by pair."""
    return Comparison(
        names=tuple(rule.name for rule in rules),
        aspects={aspect: tuple(map(describe, rules)) for aspect, describe in ASPECTS.items()},
        pairs=tuple(_difference(first, second) for first, second in combinations(rules, 2)),
    )


class Selection(NamedTuple):
    """Rules and modifiers to explain.

    Attributes:
        rules: rules, each once.
        modifiers: modifiers, each once.
        comparison: comparison of the rules if there are several.
    """

    rules: list[Rule]
    modifiers: list[Modifier]
    comparison: Comparison | None


def selected(names: Iterable[str]) -> Selection:
    """Return rules and modifiers by name.

    Raises:
        StudyError: a name is neither of a rule nor of a modifier.
    """
    names = list(dict.fromkeys(names))
    modifiers = [MODIFIERS[name] for name in names if name in MODIFIERS]
    rules = get_rules((name for name in names if name not in MODIFIERS), also=MODIFIERS)
    return Selection(rules, modifiers, compare(rules) if len(rules) > 1 else None)


def model_state(rule: Rule) -> Mapping[str, str]:
    """Return the meaning of each number kept once for the whole model."""
    return rule.model.state if rule.model else {}


def _relatives(rule: Rule) -> dict[str, None]:
    others = [other for other in RULES.values() if rule.name in _named_by(other)]
    return dict.fromkeys([*_named_by(rule), *(other.name for other in others)])


def _named_by(rule: Rule) -> list[str]:
    """Return the rules that a rule contains, coincides with or is contrasted with."""
    return [*dict((*rule.generalises, *rule.coincides_with)), *rule.contrasts]


def _weight_decay(rule: Rule) -> str:
    ways = {"l2": "added to the gradient", "decoupled": "subtracted from the parameter, times lr"}
    if rule.own_decay:
        ways[rule.own_decay] = "part of the equations"
    return f"{rule.default_weight_decay:g}, {rule.default_decay} ({ways[rule.default_decay]})"


def _torch(rule: Rule) -> str:
    if rule.torch_optim is None:
        return "none"
    arguments = rule.torch_optim.keywords(**rule.defaults)
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    decays = " or ".join(rule.torch_optim.decays) or "none"
    return f"torch.optim.{rule.torch_optim.class_name}({shown}); weight decay: {decays}"


def _state(rule: Rule) -> str:
    kept = f"{rule.state_size} ({', '.join(rule.state)})" if rule.state else "0"
    smaller = [*rule.reduced_state, *model_state(rule)]
    return f"{kept}, and smaller ones ({', '.join(smaller)})" if smaller else kept


DIFFERENCES: dict[str, Callable[[Rule], str]] = {
    "direction": lambda rule: rule.direction,
    "scaling": lambda rule: rule.scaling,
    "bias correction": lambda rule: rule.bias_correction,
    "position of eps": lambda rule: rule.epsilon,
    "arrays kept per parameter": _state,
    "default weight decay": _weight_decay,
}
"""The aspects in which two rules differ or agree."""

REASONS: Mapping[str, str] = {
    "direction": (
        "Past gradients damp the noise of mini-batches, and add up where they agree; the latest "
        "gradient alone follows the slope at once."
    ),
    "scaling": (
        "The divisor of a gradient decides how far each coordinate moves, and so which "
        "learning rates work."
    ),
    "bias correction": (
        "An average that starts at 0 is too small at first; dividing it by 1 − beta^t makes up "
        "for that."
    ),
    "position of eps": "It matters where the root is about as small as eps.",
    "arrays kept per parameter": "Each takes as much memory as the parameters.",
    "default weight decay": (
        "Added to the gradient, decay is scaled as the gradient is; decoupled, it shrinks every "
        "weight by the same factor."
    ),
}
"""Reasons why a difference in an aspect matters."""

INSIDE = "Inside a root, 1e-8 counts as 1e-4, so the same eps damps more."
"""The reason why it matters that eps is inside a root in one of two rules."""

ASPECTS: dict[str, Callable[[Rule], str]] = {
    **DIFFERENCES,
    "default lr": lambda rule: f"{rule.defaults['lr']:g}",
    "special cases": lambda rule: ", ".join(_contained(rule)) or "none",
}
"""The aspects shown side by side."""


def _difference(first: Rule, second: Rule) -> PairDifference:
    is_same = {name: describe(first) == describe(second) for name, describe in DIFFERENCES.items()}
    same = [aspect for aspect in DIFFERENCES if is_same[aspect]]
    different = [aspect for aspect in DIFFERENCES if not is_same[aspect]]
    sentences = [_reason(first, second, aspect) for aspect in different]
    separation = f"They differ {' They differ '.join(sentences)}" if sentences else ""
    if same:
        separation += f" They agree in {listed(same)}."
    contrast = first.contrasts.get(second.name) or second.contrasts.get(first.name, "")
    relation = f"{contrast} {_relation(first, second)}".strip()
    return PairDifference(first.name, second.name, relation, separation.strip())


def _reason(first: Rule, second: Rule, aspect: str) -> str:
    """Return the values of an aspect for two rules, and why they matter."""
    values = [DIFFERENCES[aspect](rule).replace("; ", ", ") for rule in (first, second)]
    within = {"inside" in value and "root" in value for value in values}
    reason = INSIDE if aspect == "position of eps" and len(within) > 1 else REASONS[aspect]
    return f"in {aspect} ({first.name}: {values[0]}; {second.name}: {values[1]}). {reason}"


def _relation(first: Rule, second: Rule) -> str:
    """Say when one rule is the other; or else when they coincide, or which rule both contain."""
    for general, special in ((first, second), (second, first)):
        if special.name in (contained := _contained(general)):
            return f"{contained[special.name]}."
    sentences = [
        f"{one.name} equals {other.name} when {condition}."
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
    """Return every rule that `rule` reduces to, directly or through others, and the condition."""
    direct = {
        name: f"{rule.name} reduces to {name} when {condition}"
        for name, condition in rule.generalises
    }
    indirect = {
        name: f"{way}, and {onward}"
        for between, way in direct.items()
        for name, onward in _contained(RULES[between]).items()
    }
    return indirect | direct


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
