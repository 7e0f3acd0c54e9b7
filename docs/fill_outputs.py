"""Fill the empty text blocks of pages with the output of the code above them.

python -m docs.fill_outputs docs/tutorial.md

To renew an output, empty its block first. Lines wider than the page are wrapped, which
tests/test_docs.py ignores; replace parts that do not help the reader by a line of three dots.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from tests.pages import LINES, Reader, lay_out_tables, read_blocks

from optrial.lines import wrapped as wrap

WIDTH = 96
EMPTY = re.compile(r"^```text\n```$", re.MULTILINE)


def shown(printed: str) -> str:
    """Return output in the form that pages show."""
    lines = [wrapped(line.rstrip()) for line in printed.strip("\n").splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def wrapped(line: str) -> str:
    """Return a line wrapped to `WIDTH` characters, unless it belongs to a table."""
    indent = line[: len(line) - len(line.lstrip())]
    if len(line) <= WIDTH or LINES.search(line):
        return line
    return wrap(line, WIDTH, further=indent + "    ")


def fill(page: str) -> str:
    """Return a page whose empty text blocks hold the output of the block before."""
    reader, outputs = Reader(), []
    for block in read_blocks(page):
        if block.shows_output and not block.text:
            outputs.append(shown(reader.printed))
        elif block.is_code:
            reader.read(block)
    remaining = iter(outputs)
    return EMPTY.sub(lambda _: f"```text\n{next(remaining)}\n```", page)


if __name__ == "__main__":
    for file in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, folder)
            lay_out_tables(Path(folder))
            os.chdir(folder)
            text = fill(file.read_text(encoding="utf-8"))
            os.chdir("/")
        file.write_text(text, encoding="utf-8")
