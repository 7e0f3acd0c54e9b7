"""What the README and the docs show is run; what they point to exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from optrial.cli import app
from optrial.config import StudyFile
from tests.pages import Block, Reader, lay_out_tables, printed_pattern, read_blocks, words

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED_FOLDERS = DOCS / "rules", DOCS / "notebooks"
GENERATED = {
    DOCS / "commands.md",
    *(page for folder in GENERATED_FOLDERS for page in folder.glob("*.md")),
}
"""Pages that scripts/docs writes from the program."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in DOCS.glob("**/*.md") if page not in GENERATED),
]
FAST = {"docs/how-to/audit.md", "docs/how-to/resume.md", "docs/statistics.md"}
"""Pages whose code is run without --all, too."""
SHORTER = {
    "README.md": [
        ("epochs: 8", "epochs: 1"),
        ("seeds: 10", "seeds: 1"),
        ("tune: {seeds: 3}", "tune: {seeds: 1}"),
        ("and how to fix it", "and how to fix it  # exit status 2"),
    ]
}
"""What is changed in the code of a page so that it takes less time.

`test_the_study_of_the_readme_has_a_clean_audit` runs the study of the README as it is.
"""
MOST_BLOCKS_NOT_RUN = 6


def is_read(page: Path) -> bool:
    """Whether there is code on a page."""
    return any(block.is_code for block in blocks(page))


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, shortened."""
    text = page.read_text(encoding="utf-8")
    for long, short in SHORTER.get(name(page), []):
        assert long in text
        text = text.replace(long, short)
    return read_blocks(text)


def readme_study() -> Block:
    """The first study of the README, which other pages may use as study.yaml, shortened."""
    return next(block for block in blocks(ROOT / "README.md") if block.language == "yaml")


def name(page: Path) -> str:
    """How a page is called in the names of tests."""
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the README's study and real tables; code is imported from it."""
    (tmp_path / "study.yaml").write_text(readme_study().text, encoding="utf-8")
    lay_out_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=() if name(page) in FAST else pytest.mark.slow)
        for page in PAGES
        if is_read(page)
    ],
)
def test_code_runs_and_prints_what_is_shown(page: Path, folder: Path) -> None:
    reader = Reader()
    for block in blocks(page):
        try:
            reader.read(block)
        except (Exception, SystemExit) as problem:
            raise AssertionError(f"{name(page)}, line {block.line}: {problem}") from problem


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_fenced_so_that_they_are_seen(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(read_blocks(text))
    languages = {block.language for block in read_blocks(text) if block.is_code}
    assert languages <= {"python", "sh", "yaml"}


def test_few_blocks_are_not_run() -> None:
    reasons = [block.reason for page in PAGES for block in blocks(page) if block.reason]
    assert len(reasons) <= MOST_BLOCKS_NOT_RUN, reasons


@pytest.mark.parametrize(
    ("shown", "printed", "numbers", "same"),
    [
        ("p = 0.004", "p = 0.004\n", True, True),
        ("p = 0.004", "p = 0.005\n", True, False),
        ("p = 0.004", "p = 0.005\n", False, True),
        ("0.5 points", "-1,024 points", False, True),
        ("0.5 points", "0.5 seeds", False, False),
        ("first\n...\nlast", "first\nmiddle\nlast", True, True),
        ("first\n...", "first", True, True),
        ("first\n...\nlast", "first\nmiddle", True, False),
        ("│ a │  1 │", "┃ a ┃ 1 ┃", True, True),
    ],
)
def test_output_is_compared_word_by_word(
    shown: str, printed: str, numbers: bool, same: bool
) -> None:
    assert bool(re.fullmatch(printed_pattern(shown, numbers=numbers), words(printed))) == same


def test_the_readme_shows_an_example_that_is_in_the_repository() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    study = next(block.text for block in read_blocks(page) if block.file == "study.yaml")
    example = (ROOT / "examples" / "which-one.yaml").read_text("utf-8")
    assert study.partition("\n")[2] in example


def test_every_key_of_a_study_is_explained() -> None:
    page = (DOCS / "study-file.md").read_text(encoding="utf-8")
    missing = [key for key in StudyFile.model_fields if f"| `{key}" not in page]
    assert not missing


def test_commands_in_sentences_and_tables_exist() -> None:
    """With the options that are shown; commands in fenced blocks are run."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    unknown = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:`|^ {4})(optrial [a-z-]+ [^`#\n]*)", text, re.MULTILINE):
            _, command, *words = shlex.split(line)
            parameters = group.commands[command].params
            known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
            options = (word.partition("=")[0] for word in words if word.startswith("-"))
            unknown += [f"{name(page)}: {line}" for option in options if option not in known]
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        target = (page.parent / link).resolve() if link else page
        if "://" in link or target == DOCS / "commands.md" or target.parent in GENERATED_FOLDERS:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
