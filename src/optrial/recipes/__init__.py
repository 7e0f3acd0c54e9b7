"""Studies shipped with optrial, one YAML file each; a study may start from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optrial.config import read_study
from optrial.errors import Problem, StudyError, shown, suggest

__all__ = ["RECIPES", "with_recipe"]

RECIPES: Mapping[str, Path] = {
    name: Path(__file__).with_name(f"{name}.yaml")
    for name in sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))
}
"""Recipe name -> study file. ``NAME-small`` is what NAME does, in minutes on two cores."""


def with_recipe(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a study, on top of those of the recipe that its key `recipe` names.

    A key that is given replaces the recipe's, with all that is in it.

    Raises:
        StudyError: there is no such recipe.
    """
    changes = dict(keys)
    if "recipe" not in changes:
        return changes
    name = changes.pop("recipe")
    if not isinstance(name, str) or name not in RECIPES:
        message = f"{shown(name)} is not a recipe. {suggest(name, RECIPES)}"
        raise StudyError([Problem("recipe", message)], "the study")
    return with_recipe(read_study(RECIPES[name])) | changes
