"""Write the tables of the notes: python docs/recipes/make_tables.py FOLDER [--train NAME ...]

FOLDER holds the results of recipes, each in a folder of its name. For each recipe of a note, the
table shows the last published values beside the measured ones, and what the audit says. It replaces
what stands between the markers of the note. `--train` first trains the named recipes that FOLDER
lacks. A recipe without results keeps no table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import optrial
from optrial.analysis.reported import ReportedValue, agreement
from optrial.markup import markdown_text
from optrial.recipes import RECIPES
from optrial.results import Results

HERE = Path(__file__).parent
MARKERS = ("<!-- made by make_tables.py -->", "<!-- end -->")
NOTES = sorted(path.stem for path in HERE.glob("*.md") if path.stem != "index")
SHARED = {"numpy-vs-torch": "numpy-vs-torch", "fashion-mnist-sweep": "fashion-mnist"}
"""Note -> beginning of the names of its recipes, where it is not that of the note."""


def tables(results: Results, name: str) -> Iterator[str]:
    """Yield the lines about one study: its published values, its claims and its audit."""
    view = results.view()
    yield f"**`{name}`**"
    for problem in view.problems:
        last: dict[tuple[str, str], ReportedValue] = {}
        values = view.published(problem)
        for value in values:
            if value.measured:
                last[value.metric, value.name] = value
        if last:
            rows = ["| value | reported | measured | agrees |", "| --- | ---: | ---: | --- |"]
            yield "\n".join([*rows, *map(_row, last.values())])
        if values:
            yield f"{agreement(values)[0]}."
    for result in results.claims():
        yield f"- {markdown_text(result.sentence)}"
    findings = results.audit().findings
    texts = [f"`{finding.rule}` {finding.severity.value}: {finding.title}" for finding in findings]
    yield f"The audit: {'; '.join(texts) if texts else 'no findings'}."


def _row(value: ReportedValue) -> str:
    assert value.measured is not None
    runs = value.measured.count
    spread = f" ± {value.measured.deviation:.2g}" if runs > 1 else ""
    agrees = {True: "yes", False: "no", None: "one run"}[value.agrees]
    name = markdown_text(f"{value.metric}, {value.label}")
    return (
        f"| {name} | {value.reported:.6g} | {value.measured.mean:.4g}{spread} ({runs}) | {agrees} |"
    )


def note_tables(note: str, folder: Path) -> str:
    """Return the tables of all recipes of a note that have results."""
    start = SHARED.get(note, note)
    parts = []
    for name in RECIPES:
        if name.startswith(start) and (folder / name).is_dir():
            with optrial.load(folder / name) as results:
                parts.append("\n\n".join(tables(results, name)))
    return "\n\n".join(parts)


def main() -> None:
    """Train what is asked for, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.train:
        optrial.Study.from_file(name).run(arguments.folder / name).close()
    for note in NOTES:
        path, made = HERE / f"{note}.md", note_tables(note, arguments.folder)
        text = path.read_text(encoding="utf-8")
        if made and MARKERS[0] in text:
            pattern = re.escape(MARKERS[0]) + ".*?" + re.escape(MARKERS[1])
            block = f"{MARKERS[0]}\n\n{made}\n\n{MARKERS[1]}".replace("\\", r"\\")
            path.write_text(re.sub(pattern, block, text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
