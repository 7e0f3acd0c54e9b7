"""Draw the pictures of docs/gallery.md and docs/index.md: python -m docs.figures.make_gallery

Runs the page in a temporary folder, as a reader would, and keeps the figures that it shows:
NAME.png of the page becomes gallery-NAME.png beside this file, landscape.gif keeps its name.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from tests.pages import Reader, read_blocks

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "gallery.md"
PICTURE = re.compile(r"\]\(figures/([^)]+)\)")
COLOURS = 128
WIDTH = 720
"""Pixels; the pages show the figures no wider."""


def main() -> None:
    """Run the page, and copy the pictures that each block makes."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        reader, lines = Reader(), page.splitlines()
        blocks = read_blocks(page)
        ends = [block.line for block in blocks[1:]] + [len(lines)]
        for block, end in zip(blocks, ends, strict=True):
            reader.read(block)
            for name in PICTURE.findall("\n".join(lines[block.line : end])):
                keep(next(Path().rglob(name.removeprefix("gallery-"))), HERE / name)
        os.chdir("/")


def keep(made: Path, place: Path) -> None:
    """Copy a picture, with fewer pixels and colours if it is a PNG."""
    if made.suffix != ".png":
        shutil.copy(made, place)
        return
    with Image.open(made) as image:
        image.thumbnail((WIDTH, 10 * WIDTH))
        image.convert("RGB").quantize(COLOURS).save(place, optimize=True)


if __name__ == "__main__":
    main()
