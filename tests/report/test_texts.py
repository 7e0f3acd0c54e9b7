from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from optrial.analysis import SettingSummary, Spread
from optrial.markup import latex_text, markdown_text
from optrial.report.texts import summary_latex, summary_markdown
from optrial.spec import Directions, Status

NASTY = "a|b $x_1^2$ & 50% #1 {c} \\input{/etc/passwd} ~<script>alert('1')</script> \"q\" `d` *e*"
NASTY += " 🚀\nf"


def summaries() -> list[SettingSummary]:
    metrics = {"train_loss": Spread(0.5, 0.1, 2), "test_accuracy": Spread(0.98765432, 0.0123, 2)}
    statuses = {Status.DONE: 2, Status.DIVERGED: 1}
    return [
        SettingSummary(NASTY, "lr=0.1", statuses, metrics, True),
        SettingSummary("adam", "lr=1", {Status.DIVERGED: 3}, {}, False),
    ]


def test_markdown_holds_the_numbers_of_the_terminal() -> None:
    lines = summary_markdown("study", summaries(), Directions()).splitlines()
    assert lines[2] == r"| optimizer | setting | runs | train\_loss | test\_accuracy |"
    assert lines[3] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[4].endswith("| lr=0.1 \\* | 3, 1 diverged | 0.5000 ± 0.1000 | 0.9877 ± 0.0123 |")
    assert lines[5] == "| adam | lr=1 | 3, 3 diverged | — | — |"


def test_markdown_reads_names_as_text() -> None:
    shown = markdown_text(NASTY)
    assert "\n" not in shown
    assert "<" not in shown
    for character in "|$*_`[]~#":
        assert all(before == "\\" for before in re.findall(rf"(.){re.escape(character)}", shown))
    assert "🚀" in shown


def test_every_row_of_markdown_has_as_many_cells() -> None:
    lines = summary_markdown(NASTY, summaries(), Directions()).splitlines()[2:]
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
    text = summary_latex(NASTY, summaries(), Directions())
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}
    assert text.count("begin{") == text.count("end{") == 2
    assert r"0.9877 \ensuremath{\pm} 0.0123" in text


@pytest.mark.skipif(shutil.which("lualatex") is None, reason="no lualatex on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}"
    table = summary_latex(NASTY, summaries(), Directions())
    body = f"{head}\\begin{{document}}{table}\\end{{document}}"
    (tmp_path / "table.tex").write_text(body, encoding="utf-8")
    command = ["lualatex", "-interaction=batchmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_a_row_of_latex_never_begins_with_an_argument_of_the_row_before() -> None:
    for name in ("[2cm]", "*"):
        summary = SettingSummary(name, "", {}, {}, best=False)
        assert f"\n{{}}{name}" in summary_latex("study", [summary], Directions())
