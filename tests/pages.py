"""The code blocks of a Markdown page, run in order as a reader would run them."""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import matplotlib.pyplot as plt

from optrial import cli

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FILE_NAME = re.compile(r"# ([\w-]+\.\w+)\b")
"""First line of a block that is a file: others on the page import or name it."""
EXIT_STATUS = re.compile(r"# exit status (\d)$")
"""Comment behind a command that does not end with 0."""
LINES = re.compile(r"[━─┏┳┓┡╇┩├┼┤└┴┘┃│]+")
"""What tables are drawn with; how wide they are depends on their numbers."""
STYLE = re.compile(r"\x1b\[[\d;]*m")
"""Bold and coloured text."""
TERMINAL = {"TERM": "dumb", "COLUMNS": "100", "LINES": "50"}
"""A terminal as wide as the tables of the pages."""
PLAN_HASH = re.compile(r"\(plan [0-9a-f]{12}\)")
NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?")


TABLES = Path(__file__).parent / "tables"
"""The real tables that pages and tests read."""


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: what the fence says.
        text: of the block.
        line: the one before it.
        reason: why it is not run, if a comment above it says so.
        follows: whether nothing is between it and the block before.
    """

    language: str
    text: str
    line: int
    reason: str | None
    follows: bool

    @property
    def shows_output(self) -> bool:
        """Whether it is what the block before it prints."""
        return self.language == "text" and self.follows and not self.reason

    @property
    def is_code(self) -> bool:
        """Whether it is to be run."""
        return self.language not in {"", "text"} and not self.reason

    @property
    def file(self) -> str | None:
        """The file that the block is, if it is one."""
        name = FILE_NAME.match(self.text)
        return name[1] if name else None


def read_blocks(page: str) -> list[Block]:
    """Return the blocks of a page in order."""
    blocks, end = [], 0
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("text"))
        follows = bool(blocks) and not page[end : match.start()].strip()
        blocks.append(Block(match["language"], match["text"], line, match["reason"], follows))
        end = match.end()
    return blocks


def lay_out_tables(folder: Path) -> None:
    """Copy the real tables to a folder, where a page or a study reads them by name."""
    for table in TABLES.glob("*.csv*"):
        shutil.copy(table, folder)


class _Terminal(io.StringIO):
    """What commands print to a terminal, with tables drawn."""

    def isatty(self) -> bool:
        return True


class _Beside(io.StringIO):
    """Standard error, which is read together with standard output but gets no progress bars."""

    def __init__(self, terminal: _Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def write(self, text: str) -> int:
        return self.terminal.write(text)


class Reader:
    """Runs blocks one after the other in the current folder, and remembers what they print."""

    def __init__(self) -> None:
        self.printed = ""
        self.names: dict[str, Any] = {"__name__": "__main__"}

    @property
    def has_trained(self) -> bool:
        """Whether numbers may come from a training, whose last digits depend on the machine."""
        return Path("studies").exists()

    def read(self, block: Block) -> None:
        """Run a block, or compare what it shows with what the block before it printed.

        Raises:
            AssertionError: something else was printed, or a command ended with another status.
        """
        if block.shows_output:
            same = printed_pattern(block.text, numbers=not self.has_trained)
            assert re.fullmatch(same, words(self.printed)), f"printed:\n{self.printed}"
            return
        if not block.is_code:
            return
        file = Path(block.file or f"line-{block.line}.{block.language}")
        file.write_text(block.text, encoding="utf-8")
        output = _Terminal()
        with redirect_stdout(output), redirect_stderr(_Beside(output)):
            if block.language == "python":
                run_python(file, {} if block.file else self.names)
            elif block.language == "sh":
                run_shell(block.text)
            elif block.language == "yaml":
                run_study(file, planned=block.file is not None)
        self.printed = STYLE.sub("", output.getvalue())


def run_python(file: Path, names: dict[str, Any]) -> None:
    """Run code in the names of the page, or in none where it is a file of its own."""
    exec(compile(file.read_text(encoding="utf-8"), file, "exec"), names)
    plt.close("all")


def run_study(file: Path, *, planned: bool) -> None:
    """Plan a study that has a name, which commands on the page run; run another, with one seed."""
    short = ["run", str(file), "--seeds", "1", "--out", file.stem]
    assert run_command(["plan", str(file)] if planned else short) == 0


def run_shell(text: str) -> None:
    """Run lines that start with `optrial` or `python`, in this process.

    Raises:
        ValueError: a line is neither; say above the block why it is not run.
    """
    for line in text.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or ["", ""]
        status = EXIT_STATUS.search(line)
        if program == "optrial":
            assert run_command(arguments) == int(status[1] if status else 0), line
        elif program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        elif program:
            raise ValueError(f"'{line}' is no command that a test can run")


def run_command(arguments: list[str]) -> int:
    """Run the command line in this process and return its exit status."""
    with (
        mock.patch.object(sys, "argv", ["optrial", *arguments]),
        mock.patch.dict(os.environ, TERMINAL),
    ):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def words(printed: str) -> str:
    """Return text without the lines of tables, its words parted by single spaces."""
    return " ".join(LINES.sub(" ", printed).split())


def printed_pattern(shown: str, *, numbers: bool) -> str:
    """Return a pattern of the words that may be printed where a page shows `shown`.

    Three dots on a line of their own stand for anything, and a plan's hash for that of any plan:
    it depends on all keys that a study may have.

    Args:
        shown: text of the page.
        numbers: whether they have to be those that are shown.
    """
    parts = re.split(r"^ *\.\.\.$", shown, flags=re.MULTILINE)
    return ".*".join(_pattern(words(part), numbers) for part in parts)


def _pattern(shown: str, numbers: bool) -> str:
    """Return the pattern of words, numbers being those shown or any."""
    if PLAN_HASH.search(shown):
        return PLAN_HASH.pattern.join(_pattern(part, numbers) for part in PLAN_HASH.split(shown))
    texts = [re.escape(text) for text in NUMBER.split(shown)]
    return re.escape(shown) if numbers else NUMBER.pattern.join(texts)
