"""Pages that explain update rules: HTML with typeset equations and a picture, and Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optrial.report.landscape import Landscape, draw_scene
from optrial.report.pages import render_page

__all__ = ["RuleComparison", "RulePage", "explain_html", "explain_markdown"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RulePage:
    """What a page says about one rule.

    Attributes:
        name: as in study files: "adam".
        title: as in print: "Adam".
        equations: one step, line by line, in the names of the hyperparameters.
        equations_latex: the same as one LaTeX `aligned` body.
        symbols: meaning of every symbol that is not a hyperparameter.
        hyperparameters: (name, default, allowed values, meaning) of each.
        facts: what its step is made of, and which weight decay it takes by default.
        conventions: which of several forms in use it is.
        special_cases: which rules it contains or coincides with, one sentence each.
        neighbours: how it differs from each of its relatives, by their names.
        state: meaning of each array that is kept for each parameter.
        cost: what it takes in memory and operations, one sentence each.
        torch: its counterpart in `torch.optim`.
        paper: full citation.
        picture: its path.
    """

    name: str
    title: str
    equations: Sequence[str]
    equations_latex: str
    symbols: Mapping[str, str]
    hyperparameters: Sequence[tuple[str, str, str, str]]
    facts: Mapping[str, str]
    conventions: str
    special_cases: Sequence[str]
    neighbours: Mapping[str, str]
    state: Mapping[str, str]
    cost: Sequence[str]
    torch: str
    paper: str
    picture: Landscape


@dataclass(frozen=True, eq=False)
class RuleComparison:
    """Several rules, side by side.

    Attributes:
        names: of the rules.
        aspects: for each aspect, what it is in each rule, in the order of `names`.
        pairs: how two of them differ, by "one and other".
    """

    names: Sequence[str]
    aspects: Mapping[str, Sequence[str]]
    pairs: Mapping[str, str]


def explain_html(pages: Sequence[RulePage], comparison: RuleComparison | None = None) -> str:
    """Return one self-contained HTML page about all of `pages`."""
    return render_page(
        "rules.html",
        pages=pages,
        names=[page.name for page in pages],
        scenes=[draw_scene(page.picture, f"scene-{page.name}") for page in pages],
        comparison=comparison,
    )


def explain_markdown(page: RulePage, picture: str | None = None) -> str:
    """Return a Markdown page, its formula in ``$$``.

    Args:
        page: what it says.
        picture: where its picture is, seen from the page; None to show none.
    """
    parts = [
        f"# {_text(page.title)}",
        f"`{page.name}`",
        f"$$\n\\begin{{aligned}}\n{page.equations_latex}\n\\end{{aligned}}\n$$",
        "In the names of the hyperparameters:",
        "\n".join(["```text", *page.equations, "```"]),
        _table(["symbol", "meaning"], page.symbols.items()),
        "## Hyperparameters",
        _table(["name", "default", "allowed", "meaning"], page.hyperparameters),
        "## Its step",
        _table(["what", "how"], page.facts.items()),
        "## Which form",
        _text(page.conventions),
        f"In `torch.optim`: {_text(page.torch)}.",
        *_relatives(page),
        "## Cost",
        "\n".join(f"- {_text(sentence)}" for sentence in page.cost),
        *([_table(["kept", "meaning"], page.state.items())] if page.state else []),
        *_illustration(page, picture),
        "## Paper",
        _text(page.paper),
    ]
    return "\n\n".join(parts) + "\n"


def _relatives(page: RulePage) -> list[str]:
    if not page.neighbours:
        return []
    items = [
        f"- [{name}]({name}.md): {_text(difference)}"
        for name, difference in page.neighbours.items()
    ]
    return ["## Relatives", "\n".join(items)]


def _illustration(page: RulePage, picture: str | None) -> list[str]:
    if picture is None:
        return []
    paths = " and ".join(path.label for path in page.picture.paths)
    return [
        "## On an ill-conditioned valley",
        f"![Contours of a narrow valley with the paths of {_text(paths)}]({picture})",
        _text(page.picture.note),
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
