"""MkDocs hooks: formulas as MathML, and folders in the navigation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from optrial.explain.mathml import mathml
from optrial.rules import RULES

FORMULA = re.compile(
    r"^\$\$\n(?:\\begin\{aligned\}\n)?(.+?)(?:\n\\end\{aligned\})?\n\$\$$", re.DOTALL | re.MULTILINE
)


def on_config(config: Any) -> Any:
    """List every page of a folder where the navigation of mkdocs.yml names the folder."""
    for entry in config.nav:
        for title, place in entry.items():
            if isinstance(place, str) and place.endswith("/"):
                entry[title] = pages_of(Path(config.docs_dir), place)
    return config


def pages_of(docs: Path, folder: str) -> list[str]:
    """Return the pages of a folder, its index first; rules in the order of the catalogue."""
    order = ["index", *RULES]
    names = sorted(page.stem for page in (docs / folder).glob("*.md"))
    listed = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    return [f"{folder}{name}.md" for name in listed]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page whose formulas are MathML, which a browser shows without a script."""
    return FORMULA.sub(lambda match: f'<div class="formula">{mathml(match[1])}</div>', markdown)
