"""Studies shipped with optrial, one YAML file each; a study may start from one of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optrial.config import override, read_study, with_published
from optrial.errors import Problem, StudyError, shown, suggest

__all__ = ["RECIPES", "source_of", "study_keys", "with_recipe"]

RECIPES: Mapping[str, Path] = {
    name: Path(__file__).with_name(f"{name}.yaml")
    for name in sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))
}
"""Recipe name -> study file. ``NAME-small`` is what NAME does, in minutes on two cores."""


def study_keys(path: str | Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Return the keys of a study file or recipe, with ``key.path=value`` settings applied.

    Published values stay at the end of the budget that they were stated with.

    Args:
        path: the file, or the name of a recipe.
        settings: changes of single keys.

    Raises:
        StudyError: there is no such file, or it cannot be read; or a setting leads nowhere.
    """
    source = source_of(path)
    settings = list(settings)
    keys = with_recipe(read_study(source))
    changed = with_published(keys, lambda before: override(before, settings))
    return {"name": source.stem} | changed


def source_of(path: str | Path) -> Path:
    """Return the file of a study or recipe.

    Raises:
        StudyError: there is none.
    """
    source = RECIPES.get(str(path), Path(path))
    if not os.path.exists(source):  # noqa: PTH110  that of Path raises for overlong names
        hint = suggest(path, RECIPES).replace("Allowed", "Recipes")
        raise StudyError([Problem("", f"no such file, and no such recipe. {hint}")], str(path))
    return source


def with_recipe(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a study, on top of those of the recipe that its key `recipe` names.

    A key that is given replaces the recipe's, with all that is in it. Published values of the
    recipe stay at the end of its budget.

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
    keys = with_recipe(read_study(RECIPES[name]))
    return with_published(keys, lambda before: {**before, **changes})
