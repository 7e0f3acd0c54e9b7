"""The walks of docs/architecture.md name functions and attributes that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
WALKS = PAGE.read_text(encoding="utf-8").partition("## Four walks\n")[2].partition("\n## ")[0]
NAMES = re.findall(r"`([a-z_]+(?:\.\w+)+)`", WALKS)


def exists(name: str) -> bool:
    """Whether a module, function, method, property or field of optrial has this name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(["optrial", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = getattr(value, "__dataclass_fields__", {}) | getattr(value, "model_fields", {})
            if not hasattr(value, part):
                return part in fields
            value = getattr(value, part)
        return True
    return False


def test_there_are_four_walks() -> None:
    assert WALKS.count("| step | where |") == 4


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_walks_exist(name: str) -> None:
    assert exists(name)


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert not exists("plan.expand.make_plans")
    assert not exists("spec.run.RunSpec.rate")
