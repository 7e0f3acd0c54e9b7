"""A strict reader of the LaTeX that optrial writes: what it does not know is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

COMMANDS = {
    *("documentclass", "usepackage", "ifPDFTeX", "fi", "DeclareUnicodeCharacter"),
    *("section*", "subsection*", "item", "input", "clearpage", "bibliographystyle", "bibliography"),
    *("centering", "small", "footnotesize", "raggedright", "par", "smallskip", "caption", "label"),
    *(
        "toprule",
        "midrule",
        "bottomrule",
        "endfirsthead",
        "endhead",
        "includegraphics",
        "textwidth",
    ),
    *("textbf", "textsuperscript", "cite", "ensuremath", "pm", "times"),
    *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar"),
    *("textquotedbl", "textquotesingle", "textasciigrave", "textemdash"),
}
ENVIRONMENTS = {"document", "table", "tabular", "longtable", "figure", "itemize"}
TOKEN = re.compile(
    r"\\(?P<command>[A-Za-z]+\*?)|\\(?P<symbol>[^A-Za-z])|(?P<character>.)", re.DOTALL
)


@dataclass
class Document:
    """What a text of LaTeX names."""

    cited: set[str] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)


def read_latex(text: str) -> Document:
    """Read a text, and return what it names.

    Raises:
        AssertionError: it does not compile, or has a command that is not known here.
    """
    text = re.sub(r"(?<!\\)%.*", "", text)
    document = Document()
    _check_tokens(text)
    _check_environments(text)
    document.cited = {
        key for keys in re.findall(r"\\cite\{([^}]*)\}", text) for key in keys.split(",")
    }
    document.inputs = re.findall(r"\\input\{([^}]*)\}", text)
    document.pictures = re.findall(r"\\includegraphics\{([^}]*)\}", text)
    document.labels = re.findall(r"\\label\{([^}]*)\}", text)
    for name in [*document.inputs, *document.pictures, *document.labels]:
        assert re.fullmatch(r"[A-Za-z0-9/:._-]+", name), name
    tables = re.findall(
        r"\\begin\{(tabular|longtable)\}\{((?:[lrc]|p\{[\d.]+\\textwidth\})+)\}(.*?)\\end\{\1\}",
        text,
        re.DOTALL,
    )
    document.tables = [
        _rows(re.sub(r"p\{[^}]*\}", "p", columns), body) for _, columns, body in tables
    ]
    return document


def _check_tokens(text: str) -> None:
    """Check that braces are balanced and that special characters stand only where they may."""
    depth = 0
    table = 0
    for token in TOKEN.finditer(text):
        command, symbol, character = token.group("command", "symbol", "character")
        if command in ("begin", "end"):
            name = re.match(r"\{([a-z*]+)\}", text[token.end() :])
            assert name, text[token.start() :][:40]
            table += (1 if command == "begin" else -1) * (name[1] in ("tabular", "longtable"))
        elif command:
            assert command in COMMANDS, command
        elif symbol:
            assert symbol in "\\{}$&#%_", repr(symbol)
        elif character in "{}":
            depth += 1 if character == "{" else -1
            assert depth >= 0, text[: token.end()][-40:]
        elif character == "&":
            assert table, "& outside a table"
        else:
            assert character not in "$#^_\"'`<>|", text[: token.end()][-60:]
    assert depth == 0


def _check_environments(text: str) -> None:
    is_open: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        assert name in ENVIRONMENTS, name
        if kind == "begin":
            is_open.append(name)
        else:
            assert is_open.pop() == name, text
    assert not is_open


def _rows(columns: str, body: str) -> list[list[str]]:
    """Return the cells of a table; every row has as many as its columns say."""
    body = re.sub(r"\\(toprule|midrule|bottomrule|endfirsthead|endhead)\b", "", body)
    body = re.sub(r"\\caption\{.*\}\\label\{[^}]*\} \\\\", "", body)
    *rows, rest = re.split(r" \\\\", body)
    assert not rest.strip()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows]
    assert {len(row) for row in cells} <= {len(columns)}, cells
    for row in cells:
        assert not row[0].startswith(("[", "*"))
        assert all(cell.count("{") == cell.count("}") for cell in row)
    return cells


def plain(text: str) -> str:
    """Return a text of LaTeX without its markup."""
    text = re.sub(r"~\\cite\{[^}]*\}", "", text)
    text = text.replace(r"\ensuremath{\pm}", "±").replace(r"\ensuremath{-}", "−")
    text = text.replace(r"\textless{}", "<").replace(r"\textgreater{}", ">")
    text = text.replace(r"\textquotedbl{}", '"').replace(r"\textquotesingle{}", "'")
    text = text.replace(r"\textemdash{}", "—").replace("{}", "")
    text = re.sub(r"\\textsuperscript\{[^}]*\}", "", text)
    text = re.sub(r"\\textbf\{(.*)\}", r"\1", text)
    return re.sub(r"\\(.)", r"\1", text)
