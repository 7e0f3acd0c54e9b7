"""The scripts that make pictures and tables of the recipes' notes, on a study of a second."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from optrial import load
from optrial.study import Study
from tests.small import small_keys

SCRIPTS = Path(__file__).parents[2] / "docs" / "recipes"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / name))


@pytest.mark.slow
def test_tables_and_pictures_come_from_stores(tmp_path: Path) -> None:
    reported = {
        "test_accuracy": {"sgd": {"steps": {"20": 0.5, "40": 0.99}}},
        "train_loss": {"sgd": 1},
    }
    keys = small_keys(seeds=[0, 1], reported=reported, claims=["adam > sgd on test_accuracy"])
    keys["optimizers"] = [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}]
    Study(**keys).run(tmp_path / "small", device="cpu").close()
    with load(tmp_path / "small") as results:
        text = "\n".join(script("make_tables.py")["tables"](results, "small"))
        findings = {finding.rule for finding in results.audit().findings}
    assert "| test\\_accuracy, sgd, step 40 | 0.99 |" in text
    assert "step 20" not in text
    assert "of 3 published values agree" in text
    assert "is undecided" in text
    assert all(f"`{rule}`" in text for rule in findings)
    command = "optrial plot small --metric train_loss --metric test_loss --smooth 5"
    script("make_figures.py")["draw"](command, tmp_path, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 1000


def test_every_picture_is_in_a_note_with_its_command() -> None:
    notes = [path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.md")]
    commands = script("make_figures.py")["COMMANDS"]
    assert {path.stem for path in SCRIPTS.glob("*.png")} == set(commands)
    for name, command in commands.items():
        (note,) = [text for text in notes if f"({name}.png)" in text]
        assert " ".join(command.split()) in " ".join(note.split()), name


def test_every_note_has_a_place_for_its_tables() -> None:
    made = script("make_tables.py")
    for note in made["NOTES"]:
        text = (SCRIPTS / f"{note}.md").read_text(encoding="utf-8")
        assert all(text.count(marker) == 1 for marker in made["MARKERS"])
