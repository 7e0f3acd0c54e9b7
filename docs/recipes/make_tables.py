"""Write the tables of the notes: python docs/recipes/make_tables.py FOLDER [--train NAME ...]

FOLDER holds the results of recipes, each in a folder of its name. For each recipe of a note, the
table shows the last published values beside the measured ones, or only these where no result is
printed, then the claims, and what the audit says. It replaces what stands between the markers of
the note. `--train` first trains the named recipes that FOLDER
lacks. A recipe without results keeps no table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import optrial
from optrial.analysis.reported import ReportedValue, agreement
from optrial.analysis.summary import Spread
from optrial.analysis.view import ProblemView
from optrial.markup import markdown_text
from optrial.recipes import RECIPES
from optrial.results import Results

HERE = Path(__file__).parent
MARKERS = ("<!-- made by make_tables.py -->", "<!-- end -->")
NOTES = sorted(path.stem for path in HERE.glob("*.md") if path.stem != "index")
SHARED = {"fashion-mnist-sweep": "fashion-mnist"}
"""Note -> beginning of the names of its recipes, where it is not that of the note."""


def tables(results: Results, name: str) -> Iterator[str]:
    """Yield the parts about one study: its values, its claims and its audit."""
    view = results.view()
    yield f"**`{name}`**"
    for problem in view.problems:
        if len(view.problems) > 1:
            yield f"On {markdown_text(problem.name)}:"
        values = view.published(problem)
        points: dict[tuple[str, str, str], list[ReportedValue]] = {}
        for value in values:
            if value.measured:
                points.setdefault((value.metric, value.name, value.at), []).append(value)
        last = {(metric, name): several for (metric, name, _), several in points.items()}
        yield _table(map(_row, last.values()) if last else _measured(problem))
        yield f"{agreement(values)[0]}." if values else "No result is printed."
    yield "\n".join(f"- {markdown_text(claim.sentence)}" for claim in results.claims())
    findings = results.audit().findings
    texts = [f"`{finding.rule}` {finding.severity.value}: {finding.title}" for finding in findings]
    yield f"The audit: {'; '.join(dict.fromkeys(texts)) if texts else 'no findings'}."


def _table(rows: Iterable[str]) -> str:
    header = ["| value | reported | measured | agrees |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*header, *rows])


def _row(values: Sequence[ReportedValue]) -> str:
    """Return the row of a published value; there are several if it was run several times."""
    first = values[0]
    assert first.measured is not None
    agrees = [{True: "yes", False: "no", None: "one run"}[value.agrees] for value in values]
    name = markdown_text(f"{first.metric}, {first.label}")
    reported = ", ".join(f"{value.reported:.6g}" for value in values)
    measured = _spread(first.measured)
    return f"| {name} | {reported} | {measured} | {', '.join(dict.fromkeys(agrees))} |"


def _measured(problem: ProblemView) -> Iterator[str]:
    """Yield a row per setting, for a study without published values."""
    for summary in problem.summaries:
        if spread := summary.metrics.get(problem.metric):
            parts = problem.metric, summary.optimizer, summary.setting
            name = markdown_text(", ".join(filter(None, parts)))
            yield f"| {name} | | {_spread(spread)} | |"


def _spread(measured: Spread) -> str:
    digits = 6  # beyond them, equal values of several seeds differ by rounding
    deviation = f" ± {round(measured.deviation, digits):.2g}" if measured.count > 1 else ""
    return f"{measured.mean:.4g}{deviation} ({measured.count})"


def note_tables(note: str, folder: Path) -> str:
    """Return the tables of all recipes of a note that have results.

    Those of a small variant are left out if its recipe has some.
    """
    start = SHARED.get(note, note)
    parts = []
    trained = [name for name in RECIPES if name.startswith(start) and (folder / name).is_dir()]
    for name in trained:
        if name.removesuffix("-small") == name or name.removesuffix("-small") not in trained:
            with optrial.load(folder / name) as results:
                parts.append("\n\n".join(filter(None, tables(results, name))))
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
