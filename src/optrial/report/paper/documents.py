"""The documents of a study for a paper, in Markdown and LaTeX, with their tables and figures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optrial.analysis.audit import AuditReport
from optrial.analysis.view import StudyView
from optrial.errors import StoreError, counted
from optrial.files import make_folder, write_whole
from optrial.markup import Passage, latex, latex_text, markdown, markdown_text
from optrial.report.figures import PrintFigure, study_figures
from optrial.report.paper.bibliography import Reference, bibliography
from optrial.report.paper.methods import methods_text
from optrial.report.paper.outcome import limits_texts, results_text
from optrial.report.paper.tables import study_tables
from optrial.report.print_tables import PrintTable, label_of
from optrial.spec import FINAL, Status
from optrial.style import save_figure

__all__ = ["FIGURE_FORMATS", "Paper"]

FIGURE_FORMATS = ("pdf", "svg", "png")
PREAMBLE = r"""% Compile with pdflatex, lualatex or xelatex, then bibtex, then twice more.
\documentclass{article}
\usepackage{iftex}
\usepackage[T1]{fontenc}
\usepackage{textcomp,booktabs,longtable,graphicx}
"""
MOST_FLOATS = 12
"""Tables and figures between two page breaks."""
_TYPESET = 0x17F
"""Last character that every engine prints without a declaration."""


@dataclass(frozen=True)
class _Drawn:
    """A figure that was written: its name without a suffix, and its caption."""

    name: str
    caption: str


class Paper:
    """Text, tables and figures of a study.

    Args:
        view: the study.
        audit: its audit.

    Raises:
        StoreError: the study has no result yet.
    """

    FILES = ("study.md", "study.tex", "methods.tex", "results.tex", "references.bib")
    """Names of the files that every study has."""

    def __init__(self, view: StudyView, audit: AuditReport) -> None:
        _check_results(view)
        self.view = view
        self.audit = audit

    @cached_property
    def methods(self) -> Passage:
        """The paragraph on methods."""
        return methods_text(self.view, self.audit)

    @cached_property
    def results(self) -> Passage:
        """The paragraph on results."""
        return results_text(self.view, self.audit)

    @cached_property
    def limits(self) -> list[str]:
        """The findings of the audit, one sentence each."""
        return limits_texts(self.audit)

    @cached_property
    def tables(self) -> list[PrintTable]:
        """The tables, the results first."""
        return list(study_tables(self.view))

    @cached_property
    def references(self) -> list[Reference]:
        """The papers of the rules, and optrial."""
        return bibliography(self.view.records)

    def figures(self) -> Iterator[PrintFigure]:
        """Draw the figures."""
        return study_figures(self.view)

    def write(self, folder: Path) -> list[Path]:
        """Write everything into a folder, and return the paths.

        Raises:
            OSError: a file cannot be written.
        """
        drawn, files = [], []
        for figure in self.figures():
            name = label_of(figure.name)
            drawn.append(_Drawn(name, figure.caption))
            for suffix in FIGURE_FORMATS:
                files.append(folder / "figures" / f"{name}.{suffix}")
                make_folder(files[-1].parent)
                save_figure(figure.figure, files[-1])
        for name, text in self._texts(drawn).items():
            files.append(folder / name)
            make_folder(files[-1].parent)
            write_whole(files[-1], text)
        return files

    def _texts(self, figures: Sequence[_Drawn]) -> dict[str, str]:
        """Return the text of each file, by its path in the folder."""
        texts = {"study.md": self._markdown(figures), "study.tex": self._latex(figures)}
        texts["methods.tex"] = f"{latex(self.methods)}\n"
        texts["results.tex"] = f"{latex(self.results)}\n"
        for table in self.tables:
            texts[f"tables/{label_of(table.name)}.md"] = table.markdown()
            texts[f"tables/{label_of(table.name)}.tex"] = table.latex()
        texts["references.bib"] = "\n".join(entry.bibtex() for entry in self.references)
        return texts

    def _markdown(self, figures: Sequence[_Drawn]) -> str:
        """Return the whole study in Markdown."""
        limits = "\n".join(f"- {markdown_text(text)}" for text in self.limits)
        references = "\n".join(
            f"- {entry.key}: {markdown_text(entry.text)}" for entry in self.references
        )
        shown = [f"![{figure.name}](figures/{figure.name}.png)" for figure in figures]
        captions = [f"*{markdown_text(figure.caption)}*" for figure in figures]
        parts = [
            f"# {markdown_text(self.view.name)}",
            *("## Methods", markdown(self.methods)),
            *("## Results", markdown(self.results)),
            *("## Limits", limits),
            *("## Tables", *(table.markdown().rstrip() for table in self.tables)),
            "## Figures" * bool(figures),
            *(part for pair in zip(shown, captions, strict=True) for part in pair),
            *("## References", references),
        ]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _latex(self, figures: Sequence[_Drawn]) -> str:
        """Return a document that compiles, and inputs the text and the tables."""
        limits = "\n".join(rf"\item {latex_text(text)}" for text in self.limits)
        shown = [
            rf"""\begin{{figure}}
\centering
\includegraphics{{figures/{figure.name}.pdf}}
\caption{{{latex_text(figure.caption)}}}\label{{fig:{figure.name}}}
\end{{figure}}"""
            for figure in figures
        ]
        inputs = [rf"\input{{tables/{label_of(table.name)}}}" for table in self.tables]
        floats = _with_breaks([*inputs, *shown])
        body = "\n".join(
            [
                r"\begin{document}",
                rf"\section*{{{latex_text(self.view.name)}}}",
                *(r"\subsection*{Methods}", r"\input{methods}"),
                *(r"\subsection*{Results}", r"\input{results}"),
                *(r"\subsection*{Limits}", r"\begin{itemize}", limits, r"\end{itemize}"),
                *floats,
                r"\clearpage",
                r"\bibliographystyle{plain}",
                r"\bibliography{references}",
                r"\end{document}",
            ]
        )
        tables = "".join(table.latex() for table in self.tables)
        texts = f"{body}{tables}{latex(self.methods)}{latex(self.results)}"
        return f"{PREAMBLE}{_declarations(texts)}{body}\n"


def _with_breaks(floats: Sequence[str]) -> Iterator[str]:
    """Yield tables and figures; LaTeX keeps only so many of them until the next page break."""
    for number, text in enumerate(floats, 1):
        yield text
        if number % MOST_FLOATS == 0:
            yield r"\clearpage"


def _declarations(text: str) -> str:
    """Return what lets pdflatex print rare characters: their names in brackets."""
    rare = sorted({character for character in text if ord(character) > _TYPESET})
    if not rare:
        return ""
    lines = [
        rf"\DeclareUnicodeCharacter{{{ord(character):04X}}}{{[{_name(character)}]}}"
        for character in rare
    ]
    return "\n".join([r"\ifPDFTeX", *lines, r"\fi"]) + "\n"


def _name(character: str) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
    return re.sub(r"[^a-z0-9 +-]", " ", name)


def _check_results(view: StudyView) -> None:
    """Refuse a study without results.

    Raises:
        StoreError: no run has ended, or the tuning of a problem has not.
    """
    way_out = "Finish the study with optrial run, then export it."
    if not any(record.status in FINAL for record in view.records):
        raise StoreError(f"no run of {view.name} has ended: there is nothing to export. {way_out}")
    for problem in view.problems:
        trials = [record for record in problem.records if record.phase == "tune"]
        if trials and problem.reported[0].phase == "tune":
            left = sum(record.status not in (*FINAL, Status.ERROR) for record in trials)
            raise StoreError(
                f"the tuning of {view.name} has not ended ({left:,} of "
                f"{counted(len(trials), 'trial run')} left): it has no results to export. {way_out}"
            )
