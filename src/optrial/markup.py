"""Text escaped for Markdown, LaTeX and HTML, with citations; small tables for notebooks."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from optrial.errors import printable

__all__ = [
    "Citation",
    "Passage",
    "html_block",
    "html_pairs",
    "html_table",
    "html_text",
    "latex",
    "latex_text",
    "markdown",
    "markdown_text",
]

_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_CELL = f"padding: 0.25em 0.8em; border: 0; border-bottom: {_LINE}; background: transparent"
_TABLE = "border-collapse: collapse; border: 0; color: inherit; margin: 0.4em 0"

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "'": r"\textquotesingle{}",
        "`": r"\textasciigrave{}",
        "—": r"\textemdash{}",
        "±": r"\ensuremath{\pm}",
        "−": r"\ensuremath{-}",
    }
)
_LIGATURES = re.compile(r"-(?=-)|,(?=,)")  # two in a row print another character
MARKDOWN = str.maketrans({c: f"\\{c}" for c in r"\`*_[]|~$#^"})


class Citation(NamedTuple):
    """A citation, behind a space.

    Attributes:
        keys: keys of entries of a bibliography, at least one.
    """

    keys: tuple[str, ...]


Passage = tuple[str | Citation, ...]
"""Plain text with citations."""


def markdown(passage: Iterable[str | Citation]) -> str:
    """Return a passage in Markdown; citations are those of pandoc, ``[@key]``."""
    return "".join(
        _with_ends(part, markdown_text(part))
        if isinstance(part, str)
        else f" [{'; '.join(f'@{key}' for key in part.keys)}]"
        for part in passage
    )


def latex(passage: Iterable[str | Citation]) -> str:
    r"""Return a passage in LaTeX, with ``\cite``."""
    return "".join(
        _with_ends(part, latex_text(part))
        if isinstance(part, str)
        else rf"~\cite{{{','.join(part.keys)}}}"
        for part in passage
    )


def markdown_text(text: str) -> str:
    """Escape a text for Markdown, and for HTML within it; white space becomes single spaces."""
    return html.escape(_one_line(text), quote=False).translate(MARKDOWN)


def latex_text(text: str) -> str:
    """Escape a text for LaTeX; white space becomes single spaces."""
    return _LIGATURES.sub(r"\g<0>{}", _one_line(text).translate(LATEX))


def html_text(text: str) -> str:
    """Escape a text for HTML, in elements and attributes; white space becomes single spaces."""
    return html.escape(_one_line(printable(text)))


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    strong: Collection[int] = (),
) -> str:
    """Return a table in the colours around it, which reads in light and dark notebooks.

    Args:
        columns: the headers.
        rows: texts of the cells.
        left: number of columns aligned to the left; the others hold numbers.
        strong: indices of rows in bold.
    """
    sides = ["left" if index < left else "right" for index in range(len(columns))]
    head = _html_row("th", columns, sides, "font-weight: bold")
    body = "".join(
        _html_row("td", row, sides, "font-weight: bold" if index in strong else "")
        for index, row in enumerate(rows)
    )
    return f'<table style="{_TABLE}"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _html_row(tag: str, cells: Sequence[str], sides: Sequence[str], style: str) -> str:
    numbers = "right; white-space: nowrap" if tag == "td" else "right"
    shown = "".join(
        f'<{tag} style="{_CELL}; text-align: {numbers if side == "right" else side}">'
        f"{html_text(cell)}</{tag}>"
        for cell, side in zip(cells, sides, strict=True)
    )
    return f'<tr style="background: transparent; {style}">{shown}</tr>'


def html_pairs(pairs: Mapping[str, str]) -> str:
    """Return names and texts as a table of two columns without headers."""
    rows = "".join(_html_row("td", pair, ("left", "left"), "") for pair in pairs.items())
    return f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'


def html_block(title: str, *parts: str, notes: Iterable[str] = ()) -> str:
    """Return a title, parts that are HTML, and notes that are texts, as one element."""
    shown = [f"<div><strong>{html_text(title)}</strong></div>", *parts]
    shown += [f'<div style="opacity: 0.8">{html_text(note)}</div>' for note in notes]
    return f'<div style="overflow-x: auto">{"".join(shown)}</div>'


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _with_ends(text: str, escaped: str) -> str:
    """Return an escaped text with the spaces at the ends of the original."""
    if not escaped:
        return " " * bool(text)
    return " " * text[:1].isspace() + escaped + " " * text[-1:].isspace()
