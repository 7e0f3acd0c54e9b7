"""Write the example notebooks, with their outputs, as pages: python docs/make_notebooks.py"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parent / "examples").glob("*.ipynb"))


def page_of(path: Path, folder: Path) -> str:
    """Return a notebook as a page, and write its pictures into a folder."""
    title, *cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    about = f"The file is `examples/{path.name}`; this page shows it with its outputs."
    parts = ["".join(title["source"]), about]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for place, output in enumerate(cell["outputs"]):
            picture = folder / f"{path.stem}-{number}-{place}.png"
            parts += shown(output, picture)
    return "\n\n".join(parts) + "\n"


def shown(output: Mapping[str, Any], picture: Path) -> Iterator[str]:
    """Yield an output as Markdown: a picture, a table, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode(data["image/png"]))
        yield f"![]({picture.name})"
    elif "text/html" in data:
        yield f'<div class="output">{"".join(data["text/html"])}</div>'
    elif text := output.get("text") or data.get("text/plain"):
        yield f"```text\n{''.join(text).rstrip()}\n```"


def main() -> None:
    """Write the pages into docs/notebooks."""
    folder = HERE / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in NOTEBOOKS:
        folder.joinpath(f"{path.stem}.md").write_text(page_of(path, folder), encoding="utf-8")


if __name__ == "__main__":
    main()
