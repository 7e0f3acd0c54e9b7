"""Text escaped for Markdown and LaTeX."""

from __future__ import annotations

import html

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
        "—": "---",
        "±": r"\ensuremath{\pm}",
        "\n": " ",
    }
)
MARKDOWN = str.maketrans({c: f"\\{c}" for c in r"\`*_[]|~$#"} | {"\n": " "})


def markdown_text(text: str) -> str:
    """Escape a text for Markdown, and for HTML within it."""
    return html.escape(text, quote=False).translate(MARKDOWN)


def latex_text(text: str) -> str:
    """Escape a text for LaTeX."""
    return text.translate(LATEX)
