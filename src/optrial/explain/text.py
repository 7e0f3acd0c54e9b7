"""Explanations of rules as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from optrial.explain.comparison import (
    Comparison,
    Explanation,
    explain,
    listed,
    model_state,
    selected,
)
from optrial.explain.cost import modifier_cost
from optrial.explain.modifiers import place_of
from optrial.rules import Hyperparameter, Modifier, Rule

__all__ = ["explanation_text"]

FIXED = "\N{NO-BREAK SPACE}"
"""Keeps the words of a formula on one line while text is wrapped."""


def explanation_text(names: Iterable[str], width: int = 80) -> str:
    """Return an explanation of each rule and modifier, and how rules differ, as plain text.

    Headings start at the left edge; everything else is indented.

    Args:
        names: rules and modifiers of the catalogues; a repeated one is explained once.
        width: columns of the terminal; equations are never broken.

    Raises:
        StudyError: a rule or modifier does not exist.
    """
    rules, modifiers, comparison = selected(names)
    parts = [_explanation_lines(explain(rule), width) for rule in rules]
    parts += [_modifier_lines(modifier, width) for modifier in modifiers]
    if comparison:
        parts.append(_comparison_lines(comparison, width))
    return "\n\n\n".join("\n".join(lines) for lines in parts).replace(FIXED, " ")


def _explanation_lines(explanation: Explanation, width: int) -> list[str]:
    rule, decay = explanation.rule, explanation.facts["default weight decay"]
    return [
        f"{rule.name}: {rule.title}",
        "",
        *_equations(rule),
        "",
        *_definitions(rule.symbols, width),
        *_section("Hyperparameters", _definitions(_hyperparameters(rule), width)),
        *_section("Default weight decay", _paragraphs([decay], width)),
        *_section("State per parameter", _definitions({**rule.state, **rule.reduced_state}, width)),
        *_section("State of the whole model", _definitions(model_state(rule), width)),
        *_section("Cost", _paragraphs(explanation.cost, width)),
        *_section("Conventions", _paragraphs([rule.conventions], width)),
        *_section("Special cases", _paragraphs(explanation.special_cases, width)),
        *_section("Equivalent in torch.optim", _paragraphs([explanation.torch], width)),
        *_section("Paper", _paragraphs([rule.paper], width)),
    ]


def _modifier_lines(modifier: Modifier, width: int) -> list[str]:
    kept = {**modifier.state, **modifier.reduced_state}
    return [
        f"{modifier.name}: {modifier.title}, a modifier",
        "",
        *(f"    {line}" for line in modifier.equations),
        "",
        *_definitions(modifier.symbols, width),
        *_section("Hyperparameters", _definitions(_hyperparameters(modifier), width)),
        *_section("Place in a step", _paragraphs([place_of(modifier)], width)),
        *_section("State per parameter", _definitions(kept, width)),
        *_section("Cost", _paragraphs(modifier_cost(modifier), width)),
        *_section("Conventions", _paragraphs([modifier.conventions], width)),
        *_section("Paper", _paragraphs([modifier.paper], width)),
    ]


def _hyperparameters(part: Rule | Modifier) -> dict[str, str]:
    """Return each hyperparameter with its default, and its meaning and range."""
    return {
        f"{h.name} = {_default(h)}": "; ".join(
            filter(None, (_meaning(h), h.range.replace(" ", FIXED)))
        )
        for h in part.hyperparameters
    }


def _equations(rule: Rule) -> list[str]:
    """Return one step; if it has options, first without them."""
    lines = [f"    {line}" for line in rule.equations]
    if not rule.plain_equations:
        return lines
    plain = [f"    {line}" for line in rule.plain_equations]
    return [*plain, "", "  With all options:", "", *lines]


def _meaning(hyperparameter: Hyperparameter) -> str:
    """Return the meaning of a hyperparameter, and its letters."""
    written = hyperparameter.written
    return " ".join(filter(None, (hyperparameter.meaning, written and f"({written})")))


def _comparison_lines(comparison: Comparison, width: int) -> list[str]:
    lines = [f"Differences between {listed(comparison.names)}"]
    for aspect, values in comparison.aspects.items():
        by_rule = dict(zip(comparison.names, values, strict=True))
        lines += _section(aspect.capitalize(), _definitions(by_rule, width))
    for pair in comparison.pairs:
        lines += _section(f"{pair.first} and {pair.second}", _paragraphs([str(pair)], width))
    return lines


def _default(hyperparameter: Hyperparameter) -> str:
    default = hyperparameter.default
    return str(default).lower() if isinstance(default, bool) else f"{default:g}"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _paragraphs(texts: Iterable[str], width: int) -> list[str]:
    return [line for text in texts for line in _hanging("  ", text, width)]


def _definitions(meanings: Mapping[str, str], width: int) -> list[str]:
    """Lay out names and meanings in two columns."""
    column = max(map(len, meanings), default=0)
    rows = ((f"  {name:<{column}}  ", meaning) for name, meaning in meanings.items())
    return [line for lead, meaning in rows for line in _hanging(lead, meaning, width)]


def _hanging(lead: str, text: str, width: int) -> list[str]:
    """Wrap `text` after `lead`, with further lines indented to the same column."""
    indent = " " * len(lead)
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False
    )
