from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from optrial.analysis import SettingSummary, Spread
from optrial.markup import latex_text, markdown_text
from optrial.report.print_tables import settings_table
from optrial.spec import Directions, Status

NASTY = "a|b $x_1^2$ & 50% #1 {c} \\input{/etc/passwd} ~<script>alert('1')</script> \"q\" `d` *e*"
NASTY += " 🚀\nf"


SPECIAL = "\\{}$&#_%~^<>|*`[]()\n\t\r\u2028+-=!:'\",?.—±"
LATEX_WORDS = {
    "\\": r"\textbackslash{}",
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


def summaries() -> list[SettingSummary]:
    metrics = {"train_loss": Spread(0.5, 0.1, 2), "test_accuracy": Spread(0.98765432, 0.0123, 2)}
    statuses = {Status.DONE: 2, Status.DIVERGED: 1}
    return [
        SettingSummary(NASTY, "lr=0.1", statuses, metrics, True),
        SettingSummary("adam", "lr=1", {Status.DIVERGED: 3}, {}, False),
    ]


def test_markdown_holds_the_numbers_of_the_terminal() -> None:
    lines = settings_table("study", summaries(), Directions()).markdown().splitlines()
    assert (
        lines[2] == "| optimizer | setting | runs | training loss (per batch) | test accuracy (%) |"
    )
    assert lines[3] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[4].endswith("| lr=0.1 \\* | 1 of 3 diverged | 0.5000 ± 0.1000 | 98.77 ± 1.23 |")
    assert lines[5] == "| adam | lr=1 | 3 of 3 diverged | — | — |"


def test_markdown_reads_names_as_text() -> None:
    shown = markdown_text(NASTY)
    assert "\n" not in shown
    assert "<" not in shown
    for character in "|$*_`[]~#":
        assert all(before == "\\" for before in re.findall(rf"(.){re.escape(character)}", shown))
    assert "🚀" in shown


def test_every_row_of_markdown_has_as_many_cells() -> None:
    lines = settings_table(NASTY, summaries(), Directions()).markdown().splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}


def test_latex_escapes_every_special_character() -> None:
    shown = latex_text(NASTY)
    for character in "$&#%_{}":
        bare = re.findall(rf"(?<!\\){re.escape(character)}", shown.replace("{}", ""))
        assert not bare, character
    assert r"\input" not in shown
    assert r"\textbackslash{}input\{/etc/passwd\}" in shown
    assert not set('~^<>|"\n') & set(shown)
    assert "🚀" in shown


def test_every_row_of_latex_has_as_many_cells() -> None:
    text = settings_table(NASTY, summaries(), Directions()).latex()
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}
    assert text.count("begin{") == text.count("end{") == 2
    assert r"98.77 \ensuremath{\pm} 1.23" in text


def normal(text: str) -> str:
    return " ".join(text.split())


names = st.lists(
    st.one_of(st.text(max_size=3), st.sampled_from([*SPECIAL, "- ", "1. ", "# ", "a", "\r\n\r\n"])),
    min_size=1,
    max_size=8,
).map("".join)


@given(names, names)
def test_a_markdown_parser_reads_every_name_back(first: str, second: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    columns = [SettingSummary(first, second, {}, {}, best=False)] * 2
    tokens = parser.parse(
        settings_table(f"x{first}", columns, Directions()).markdown().replace("\0", "")
    )
    inline = [token for token in tokens if token.type == "inline"]
    kinds = {child.type for token in inline[1:] for child in token.children or ()}
    assert kinds <= {"text", "text_special"}
    texts = ["".join(child.content for child in token.children or ()) for token in inline]
    row = [normal(first), normal(second)]
    expected = ["optimizer", "setting", "runs", *[*row, "0"] * 2]
    assert texts[1:] == [text.replace("\0", "") for text in expected]
    assert texts[0] == normal(f"x{first}").replace("\0", "")


@given(names)
def test_latex_names_are_read_back_by_the_rules_of_latex(name: str) -> None:
    commands = {written: character for character, written in LATEX_WORDS.items()}
    pattern = re.compile(
        r"\\[A-Za-z]+\{\}|\\ensuremath\{(?:\\pm|-)\}|\\[^A-Za-z]|\{\}|[^\\{}$&#%_^~<>|\"'`—]"
    )
    written = latex_text(name)
    parts = pattern.findall(written)
    assert "".join(parts) == written
    back = [commands.get(part, part[1:] if part[0] == "\\" else part) for part in parts]
    assert "".join(part for part in back if part != "{}") == normal(name)
    assert not re.search("--|,,", written)
    row = settings_table("x", [SettingSummary(name, "", {}, {}, best=False)], Directions()).latex()
    assert not re.search(r"^[\[*]", row, re.MULTILINE)


@pytest.mark.skipif(shutil.which("lualatex") is None, reason="no lualatex on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}"
    table = settings_table(NASTY, summaries(), Directions()).latex()
    body = f"{head}\\begin{{document}}{table}\\end{{document}}"
    (tmp_path / "table.tex").write_text(body, encoding="utf-8")
    command = ["lualatex", "-interaction=batchmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_a_row_of_latex_never_begins_with_an_argument_of_the_row_before() -> None:
    for name in ("[2cm]", "*"):
        summary = SettingSummary(name, "", {}, {}, best=False)
        assert f"\n{{}}{name}" in settings_table("study", [summary], Directions()).latex()
