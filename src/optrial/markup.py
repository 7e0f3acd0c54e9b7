"""Text escaped for Markdown and LaTeX."""

from __future__ import annotations

import html
import re

__all__ = ["latex_text", "markdown_text"]

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
    }
)
_LIGATURES = re.compile(r"-(?=-)|,(?=,)")  # two in a row print another character
MARKDOWN = str.maketrans({c: f"\\{c}" for c in r"\`*_[]|~$#^"})


def markdown_text(text: str) -> str:
    """Escape a text for Markdown, and for HTML within it; white space becomes single spaces."""
    return html.escape(_one_line(text), quote=False).translate(MARKDOWN)


def latex_text(text: str) -> str:
    """Escape a text for LaTeX; white space becomes single spaces."""
    return _LIGATURES.sub(r"\g<0>{}", _one_line(text).translate(LATEX))


def _one_line(text: str) -> str:
    return " ".join(text.split())
