"""Every notebook is stored with the outputs that running it from top to bottom has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.pages import printed_pattern, words

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))
LONGEST_CELL = 120
"""Seconds."""
LARGEST = 400_000
"""Bytes."""


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_and_stored_with_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) >= len(code) // 2
    outputs = [output for cell in code for output in cell.outputs]
    assert not {output.get("name") for output in outputs} & {"stderr"}
    assert not any(output.output_type == "error" for output in outputs)
    assert path.stat().st_size < LARGEST
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_those_of_running_it_again(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    from docs.run_notebooks import executed

    stored = nbformat.read(path, as_version=4)
    for before, after in zip(stored.cells, executed(path, tmp_path).cells, strict=True):
        kinds = [
            [sorted(o.get("data", {})) for o in cell.get("outputs", ())] for cell in (before, after)
        ]
        assert kinds[0] == kinds[1], after.source
        shown = printed_pattern(text_of(before), numbers=False)
        assert re.fullmatch(shown, words(text_of(after))), text_of(after)


def text_of(cell: Any) -> str:
    """What a cell prints and shows as text; addresses of objects and sizes of figures vary."""
    texts = [
        o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", ())
    ]
    return re.sub(r"<Figure [^>]*>|0x[0-9a-f]+", "", "\n".join(texts))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's own libraries
def test_each_plot_is_shown(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    study = (
        "import optrial\nresults = optrial.compare(optimizers=['sgd', 'adam'], epochs=1, seeds=2)"
    )
    plots = ["results.plot_curves();", "results.plot_sensitivity();", "results.plot_differences();"]
    cells = [nbformat.v4.new_code_cell(source) for source in [study, *plots]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=LONGEST_CELL, resources=place).execute()
    for cell in notebook.cells[1:]:
        assert ["image/png" in output.get("data", {}) for output in cell.outputs] == [True]
