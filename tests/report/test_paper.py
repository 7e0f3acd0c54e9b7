from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from optrial.analysis.audit import audit
from optrial.analysis.statistics import sentence
from optrial.analysis.view import StudyView
from optrial.errors import StoreError
from optrial.records import Record
from optrial.report.paper import Paper
from optrial.report.paper.bibliography import references_of
from optrial.report.paper.tables import optimizers_table
from optrial.report.study_page import study_page
from optrial.rules import RULES
from optrial.spec import ParameterGroup, RunFacts, Status
from tests.conftest import Command
from tests.report.latex import Document, plain, read_latex
from tests.report.pages import parse_page
from tests.report.studies import made_up_records, made_up_view, store_made_up
from tests.specs import changed

NASTY = "$x_1$ & <b> % \\frac{a} #1 ~ ^ | \"q\" 'r' 🚀 β"
TUNED = {"name": "tuned", "tune": {"sampler": "sobol", "trials": 2, "seeds": 2}}


def tuned_records(**options: Any) -> list[Record]:
    """Trials at two rates, and results at the better one with other seeds."""
    trials = made_up_records(seeds=2, phase="tune", **options)
    results = made_up_records(rates=(0.1,), seeds=8, **options)
    return [
        *trials,
        *(
            replace(changed(record, seed=record.seed + 2), run_id=f"r{record.run_id}")
            for record in results
        ),
    ]


def several_problems() -> list[Record]:
    names = ["sgd", "adam", "lion"]
    return [r for name in "abcde" for r in made_up_records(names, (0.1,), 8, dataset=name)]


def unfinished() -> list[Record]:
    *done, last = made_up_records(rates=(0.1,), seeds=8)
    planned = {"status": Status.PLANNED, "metrics": {}, "facts": RunFacts(), "step": 0}
    return [*done, replace(last, **planned)]


STUDIES: Mapping[str, tuple[Sequence[Record], Mapping[str, Any] | None, str]] = {
    "two": (made_up_records(rates=(0.1,), seeds=8), None, "test_accuracy"),
    "grid": (made_up_records(["sgd", "adam", "lion"], seeds=8), None, "test_accuracy"),
    "tuned": (tuned_records(), TUNED, "test_accuracy"),
    "lower is better": (made_up_records(rates=(0.1,), seeds=8), None, "train_loss"),
    "claims": (
        made_up_records(rates=(0.1,), seeds=8),
        {"name": "claims", "claims": ["adam > sgd on test_accuracy", "adam is best"]},
        "test_accuracy",
    ),
    "some diverged": (made_up_records(rates=(0.1,), seeds=8, diverged=(1,)), None, ""),
    "one diverged": (
        made_up_records(["sgd", "adam", "lion"], (0.1,), 8, diverged=range(8)),
        None,
        "test_accuracy",
    ),
    "all diverged": (made_up_records(diverged=range(12)), None, ""),
    "one optimizer": (made_up_records(["adam"], (0.1,), 1), None, ""),
    "few seeds": (made_up_records(rates=(0.1,), seeds=3), None, ""),
    "several problems": (several_problems(), None, "test_accuracy"),
    "names": (
        made_up_records([NASTY, "[adam]", "*"], (0.1,), 8, dataset=NASTY),
        {"name": NASTY},
        "",
    ),
    "unfinished": (unfinished(), None, ""),
    "many": (
        made_up_records([f"rule-{n}" for n in range(30)], (0.1,), 12),
        None,
        "test_accuracy",
    ),
}


def view_of(name: str) -> StudyView:
    records, study, metric = STUDIES[name]
    return made_up_view(records, study, metric)


def paper_of(name: str) -> Paper:
    view = view_of(name)
    return Paper(view, audit(view))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each study; figures are drawn of one."""
    folders = {}
    for name in STUDIES:
        folders[name] = tmp_path_factory.mktemp("paper")
        paper = paper_of(name)
        if name != "tuned":
            paper.figures = lambda: iter(())  # type: ignore[method-assign]
        paper.write(folders[name])
    return folders


@pytest.mark.parametrize("name", STUDIES)
def test_latex_is_whole(name: str, written: Mapping[str, Path]) -> None:
    folder = written[name]
    document = read_latex((folder / "study.tex").read_text("utf-8"))
    parts: dict[str, Document] = {}
    for part in document.inputs:
        parts[part] = read_latex((folder / f"{part}.tex").read_text("utf-8"))
    assert {"methods", "results", *parts} >= {
        *(f"tables/{file.stem}" for file in (folder / "tables").glob("*.tex"))
    }
    labels = [label for part in parts.values() for label in part.labels]
    assert len(labels) == len(set(labels)) == len(list((folder / "tables").glob("*.tex")))
    for picture in document.pictures:
        assert (folder / picture).stat().st_size > 1000
    entries = set(
        re.findall(r"^@\w+\{(\w+),$", (folder / "references.bib").read_text("utf-8"), re.M)
    )
    cited = {key for part in parts.values() for key in part.cited}
    assert cited == entries


@pytest.mark.parametrize("name", STUDIES)
def test_markdown_is_whole(name: str, written: Mapping[str, Path]) -> None:
    folder = written[name]
    tokens = (
        MarkdownIt("commonmark").enable("table").parse((folder / "study.md").read_text("utf-8"))
    )
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == len(list((folder / "tables").glob("*.md")))
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_inline", "code_inline", "link_open"} & {child.type for child in inline}
    assert "html_block" not in kinds
    pictures = [str(child.attrs["src"]) for child in inline if child.type == "image"]
    assert len(pictures) == len(list(folder.glob("figures/*.png")))
    assert all((folder / picture).exists() for picture in pictures)
    headings = [tokens[at + 1].content for at, kind in enumerate(kinds) if kind == "heading_open"]
    wanted = ["Methods", "Results", "Limits", "Tables", "References"]
    assert [heading for heading in headings[1:] if heading != "Figures"] == wanted


def test_long_tables_continue_on_the_next_page() -> None:
    tables = {table.name: table.latex() for table in paper_of("many").tables}
    assert r"\begin{tabular}" in tables["results"]
    assert tables["pairs"].count(r" \\") == 30  # the pairs of the leader, of 435
    (grid,) = (t for t in paper_of("grid").tables if t.name == "settings")
    assert r"\begin{longtable}" in replace(grid, rows=[*grid.rows] * 10).latex()


@pytest.mark.parametrize(
    "name", ["two", "grid", "tuned", "lower is better", "one diverged", "claims"]
)
def test_numbers_are_those_of_the_page_and_of_python(
    name: str, written: Mapping[str, Path]
) -> None:
    view, folder = view_of(name), written[name]
    report = audit(view)
    page = " ".join(parse_page(study_page(view, report)).text.split())
    markdown = re.sub(r"\\(.)", r"\1", (folder / "results.tex").read_text("utf-8"))
    text = plain((folder / "results.tex").read_text("utf-8")).strip()
    (problem,) = view.problems
    leader = problem.comparisons.order[0] if problem.comparisons else ""
    sentences = [
        sentence(pair) for pair in problem.pairs if leader in (pair.first, pair.second)
    ] + [claim.sentence for claim in report.claims]
    for one in sentences:
        if "diverged" not in one:
            assert one in text
        assert one in page
    assert markdown
    (results,) = (table for table in paper_of(name).tables if table.name == "results")
    for row in results.rows:
        assert str(row.cells[3]) in page or row.cells[3] == "—"
        for number in re.findall(r"\d+\.\d+", f"{row.cells[4]} {row.cells[5]}"):
            assert number in text


def test_numbers_are_those_of_the_commands(optrial: Command, tmp_path: Path) -> None:
    store_made_up(tmp_path / "study", made_up_records(["sgd", "adam", "lion"], (0.1,), 8))
    assert optrial("export", "study", "--out", "paper").status == 0
    text = plain(Path("paper/results.tex").read_text("utf-8"))
    printed = optrial("compare", "study").out.splitlines()
    leading = [line for line in printed[1:] if printed[1].split()[0] in line.split()]
    assert printed[0] in text
    assert leading
    assert all(line in text for line in leading)
    latex = optrial("show", "study", "--format", "latex").out
    shown = re.findall(r"\d+\.\d\d \\ensuremath\{\\pm\} \d+\.\d\d", latex)
    table = Path("paper/tables/settings.tex").read_text("utf-8")
    assert shown
    assert all(value in table for value in shown)


def test_leaders_are_bold_and_failures_are_footnotes() -> None:
    results, *_ = paper_of("one diverged").tables
    (lost,) = (row for row in results.rows if row.cells[0] == "sgd")
    assert lost.notes == ["8 of 8 diverged", "not compared"]
    assert lost.cells[2:] == ["0", "—", "—", "—"]
    assert results.rows[-1] is lost
    assert results.rows[0].bold
    assert not lost.bold
    assert r"sgd\textsuperscript{a, b}" in results.latex()
    assert r"\textsuperscript{a}~8 of 8 diverged." in results.latex()
    assert r"sgd \[a, b\]" in results.markdown()
    assert r"\[a\] 8 of 8 diverged." in results.markdown()


def test_methods_name_what_a_reader_needs() -> None:
    text = "".join(part for part in paper_of("tuned").methods if isinstance(part, str))
    for words in [
        "Two optimizers were compared",
        "The model mlp",
        "in batches of 32 for",
        "10 epochs (200 steps)",
        "chosen among 2 settings drawn from a Sobol sequence by mean validation accuracy over 2",
        "trained again with 8 new seeds",
        "exact two-sided permutation tests",
        "same initial weights and batches",
    ]:
        assert words in text


def test_groups_of_parameters_are_in_the_table_of_optimizers_and_cited() -> None:
    groups = (
        ParameterGroup("norm", ("3.weight",), weight_decay=0.0),
        ParameterGroup("rest", ("1.bias",), "rule", "lion", {"lr": 0.01, "beta1": 0.9}),
        ParameterGroup("head", ("6.weight",), times={"lr": 0.5}, schedule={"kind": "cosine"}),
        ParameterGroup("trunk", ("2.weight",), freeze=True),
    )
    records = [changed(record, groups=groups) for record in made_up_records(rates=(0.1,), seeds=8)]
    view = made_up_view(records)
    options = optimizers_table(view.problems[0]).rows[0].cells[-1]
    assert "norm (weight decay 0), rest (Lion, lr 0.01, beta1 0.9), " in options
    assert "head (lr 0.5 times that of the others, cosine schedule), trunk (frozen)" in options
    keys = {reference.key for reference in Paper(view, audit(view)).references}
    assert "chen2023symbolic" in keys


def test_limits_are_those_of_the_audit() -> None:
    view = view_of("few seeds")
    report = audit(view)
    paper = Paper(view, report)
    disclosed = [f for f in report.findings if f.severity.value in "EW"]
    assert [limit.split()[0] for limit in paper.limits] == [f.rule for f in disclosed]
    (text,) = paper.results
    blocking = [f for f in disclosed if f.severity.value == "E"]
    assert ("NOT SUPPORTED BY THE RUNS" in str(text)) == bool(blocking)


def test_unfinished_studies_say_so() -> None:
    (text,) = paper_of("unfinished").results
    assert str(text).startswith("PROVISIONAL: 1 of 16 runs have not ended.")


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (
            made_up_records(status=Status.PLANNED, metrics={}, facts=RunFacts(), step=0),
            "no run of made up has ended",
        ),
        (made_up_records(phase="tune"), "the tuning of made up has not ended"),
    ],
    ids=["planned", "tuning"],
)
def test_studies_without_results_are_refused(records: list[Record], problem: str) -> None:
    view = made_up_view(records)
    with pytest.raises(StoreError, match=problem):
        Paper(view, audit(view))


def test_nothing_is_overwritten_unasked(optrial: Command, tmp_path: Path) -> None:
    store_made_up(tmp_path / "study", made_up_records(["adam"], (0.1,), 1))
    Path("paper").mkdir()
    Path("paper/methods.tex").write_text("mine", encoding="utf-8")
    answer = optrial("export", "study", "--out", "paper")
    assert answer.status == 2
    assert "'paper' has a file methods.tex" in answer.err
    assert Path("paper/methods.tex").read_text("utf-8") == "mine"
    assert optrial("export", "study", "--out", "paper", "--overwrite").status == 0
    assert optrial("export", "study", "--out", "study/study.db").status == 2


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_paper_of_the_catalogue_becomes_an_entry(rule: Any) -> None:
    references = references_of(rule.paper)
    assert references
    for reference in references:
        fields = dict(reference.fields)
        assert fields.keys() >= {"author", "title", "year"}
        assert fields["year"] in rule.paper
        assert fields["title"] in rule.paper
        place = {"journal", "booktitle", "publisher", "howpublished", "eprint"}
        assert fields.keys() & place or reference.kind == "misc"
        assert not re.search(r"Algorithms? \d|equations \d", f"{fields}")
        for author in fields["author"].split(" and "):
            assert author == "others" or re.fullmatch(r"[\w'. -]+, ([A-Z]\.[ -]?)+", author), author
        entry = reference.bibtex()
        assert entry.count("{") == entry.count("}")
        assert re.fullmatch(r"[a-z]+\d{4}[a-z0-9]+", reference.key)


def test_one_key_stands_for_one_publication() -> None:
    titles: dict[str, str] = {}
    for rule in RULES.values():
        for reference in references_of(rule.paper):
            title = dict(reference.fields)["title"]
            assert titles.setdefault(reference.key, title) == title
