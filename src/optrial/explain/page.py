"""Pages that explain update rules: HTML with typeset equations and a picture, and Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from optrial.explain.comparison import Explanation, explain, model_state, selected
from optrial.explain.cost import modifier_cost
from optrial.explain.formulas import equations_latex
from optrial.explain.landscape import Landscape, assemble
from optrial.explain.mathml import mathml
from optrial.explain.modifiers import place_of
from optrial.explain.optimizers import parse_optimizers
from optrial.explain.picture import draw_scene
from optrial.functions import FUNCTIONS
from optrial.report.pages import render_page
from optrial.rules import Hyperparameter, Modifier, Rule

__all__ = [
    "explanation_html",
    "explanation_markdown",
    "modifier_markdown",
    "picture_of",
    "rule_markdown",
]

PICTURE_FUNCTION = "ill_conditioned"
PICTURE_STEPS = 60
WEIGHT_DECAY = "weight_decay"
SYMBOLS = {WEIGHT_DECAY: "λ"}
"""Symbols of names in the equations that are no hyperparameters of the rule."""


def explanation_html(names: Iterable[str]) -> str:
    """Return a self-contained HTML page about rules and modifiers, and how rules differ.

    Raises:
        StudyError: a rule does not exist.
    """
    rules, modifiers, comparison = selected(names)
    pictures = [picture_of(rule) for rule in rules]
    return render_page(
        "rules.html",
        mathml=mathml,
        explanations=[explain(rule) for rule in rules],
        formulas=[_latex(rule, rule.equations) for rule in rules],
        plain=[_latex(rule, rule.plain_equations) for rule in rules],
        symbols=[_symbols(rule) for rule in rules],
        states=[_state(rule) for rule in rules],
        default_of=_default,
        pictures=pictures,
        scenes=[
            draw_scene(picture, f"scene-{rule.name}")
            for rule, picture in zip(rules, pictures, strict=True)
        ],
        names=[rule.name for rule in rules],
        modifiers=modifiers,
        modifier_formulas=[_latex(modifier, modifier.equations) for modifier in modifiers],
        modifier_symbols=[_symbols(modifier) for modifier in modifiers],
        place_of=place_of,
        modifier_cost=modifier_cost,
        comparison=comparison,
    )


def explanation_markdown(names: Iterable[str]) -> str:
    """Return a Markdown page about each of the rules and modifiers, one after the other.

    Raises:
        StudyError: a rule does not exist.
    """
    rules, modifiers, _ = selected(names)
    pages = [rule_markdown(explain(rule)) for rule in rules]
    return "\n".join([*pages, *map(modifier_markdown, modifiers)])


def picture_of(rule: Rule) -> Landscape:
    """Return the path of a rule through an ill-conditioned valley, beside that of sgd."""
    optimizers = ",".join(f"{name}:lr=best" for name in dict.fromkeys(["sgd", rule.name]))
    function = FUNCTIONS[PICTURE_FUNCTION]
    return assemble(function, parse_optimizers(optimizers), PICTURE_STEPS)


def rule_markdown(
    explanation: Explanation, picture: Landscape | None = None, file: str = ""
) -> str:
    """Return a Markdown page about one rule, its equations in ``$$``.

    Args:
        explanation: its content.
        picture: the landscape drawn in `file`; None for a page without a picture.
        file: path of the picture, relative to the page.
    """
    rule = explanation.rule
    parts = [
        f"# {_text(rule.title)}",
        f"`{rule.name}`",
        *_displayed(rule),
        _table(["symbol", "meaning"], _symbols(rule).items()),
        *_hyperparameters(rule),
        "## Properties",
        _table(["property", "value"], explanation.facts.items()),
        "## Conventions",
        _text(rule.conventions),
        f"In `torch.optim`: {_text(explanation.torch)}.",
        *_relatives(explanation.relatives),
        "## Cost",
        "\n".join(f"- {_text(sentence)}" for sentence in explanation.cost),
        *([_table(["state", "meaning"], _state(rule).items())] if _state(rule) else []),
        *_illustration(picture, file),
        "## Paper",
        _text(rule.paper),
    ]
    return "\n\n".join(parts) + "\n"


def modifier_markdown(modifier: Modifier) -> str:
    """Return a Markdown page about one modifier, its equations in ``$$``."""
    kept = {**modifier.state, **modifier.reduced_state}
    parts = [
        f"# {_text(modifier.title)}",
        f"`{modifier.name}`, a modifier: {_text(place_of(modifier))}",
        _formula(_latex(modifier, modifier.equations)),
        _table(["symbol", "meaning"], _symbols(modifier).items()),
        *_hyperparameters(modifier),
        "## Conventions",
        _text(modifier.conventions),
        "## Cost",
        "\n".join(f"- {_text(sentence)}" for sentence in modifier_cost(modifier)),
        *([_table(["state", "meaning"], kept.items())] if kept else []),
        "## Paper",
        _text(modifier.paper),
    ]
    return "\n\n".join(parts) + "\n"


def _hyperparameters(part: Rule | Modifier) -> list[str]:
    """Return the heading and the table of hyperparameters; nothing without any."""
    if not part.hyperparameters:
        return []
    rows = [(h.name, h.written, _default(h), h.range, h.meaning) for h in part.hyperparameters]
    columns = ["name", "symbol", "default", "allowed", "meaning"]
    return ["## Hyperparameters", _table(columns, rows)]


def _formula(lines: str) -> str:
    return f"$$\n\\begin{{aligned}}\n{lines}\n\\end{{aligned}}\n$$"


def _displayed(rule: Rule) -> list[str]:
    """Return one step as displayed formulas; if it has options, first without them."""
    whole, plain = (
        _formula(_latex(rule, equations)) for equations in (rule.equations, rule.plain_equations)
    )
    return [plain, "With all options:", whole] if rule.plain_equations else [whole]


def _latex(rule: Rule | Modifier, equations: Sequence[str]) -> str:
    printed = {h.name: h.symbol for h in rule.hyperparameters if h.symbol}
    return equations_latex(equations, SYMBOLS | printed)


def _symbols(rule: Rule | Modifier) -> dict[str, str]:
    """Return the meaning of every symbol as it is printed, hyperparameters aside."""
    return {
        f"{name}, {SYMBOLS[name]}" if name in SYMBOLS else name: meaning
        for name, meaning in rule.symbols.items()
    }


def _state(rule: Rule) -> dict[str, str]:
    return {**rule.state, **rule.reduced_state, **model_state(rule)}


def _default(hyperparameter: Hyperparameter) -> str:
    return str(hyperparameter.default).lower()


def _relatives(relatives: Mapping[str, str]) -> list[str]:
    items = [f"- [{name}]({name}.md): {_text(text)}" for name, text in relatives.items()]
    return ["## Relatives", "\n".join(items)] if items else []


def _illustration(picture: Landscape | None, file: str) -> list[str]:
    if picture is None:
        return []
    paths = " and ".join(path.label for path in picture.paths)
    return [
        "## On an ill-conditioned valley",
        f"![Contours of a narrow valley with the paths of {_text(paths)}]({file})",
        _text(picture.note),
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _text(text).replace("|", r"\|")


def _text(text: str) -> str:
    """Keep Markdown from reading a sentence as markup."""
    escaped = html.escape(text, quote=False)
    return escaped.replace("\\", "\\\\").replace("*", r"\*").replace("_", r"\_")
