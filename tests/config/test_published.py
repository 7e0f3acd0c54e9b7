"""Published values of a study whose budget is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from optrial.config import override, with_published
from optrial.recipes import RECIPES, study_keys, with_recipe

PUBLISHED = {
    "test_loss": {"sgd": 0.5, "adam": {"epochs": {1: 0.9}}},
    "test_accuracy": {"sgd": [0.8, 0.9]},
    "seconds": {"sgd": 12},
}
STUDY: dict[str, Any] = {
    "problem": {"dataset": "digits"},
    "budget": {"epochs": 20},
    "optimizers": [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.1}],
    "reported": PUBLISHED,
}


def at_the_end(unit: str, length: int) -> dict[str, Any]:
    return {
        "test_loss": {"sgd": {unit: {length: 0.5}}, "adam": {"epochs": {1: 0.9}}},
        "test_accuracy": {"sgd": {unit: {length: [0.8, 0.9]}}},
        "seconds": {"sgd": 12},
    }


def changed(study: Mapping[str, Any], *settings: str) -> dict[str, Any]:
    return with_published(study, lambda keys: override(keys, settings))


@pytest.mark.parametrize("setting", ["budget.epochs=2", "budget.epochs=30", "budget={steps: 7}"])
def test_final_values_stay_at_the_end_they_were_stated_for(setting: str) -> None:
    assert changed(STUDY, setting)["reported"] == at_the_end("epochs", 20)
    steps = STUDY | {"budget": {"steps": 300, "epochs": None}}
    assert changed(steps, setting)["reported"] == at_the_end("steps", 300)


def test_values_of_another_unit_are_left_out() -> None:
    reported = changed(STUDY | {"budget": {"seconds": 60.0}}, "budget.epochs=2")["reported"]
    assert reported == {
        "test_loss": {"adam": {"epochs": {1: 0.9}}},
        "test_accuracy": {},
        "seconds": {"sgd": 12},
    }


@pytest.mark.parametrize("setting", ["seeds=2", "budget.epochs=20", "optimizers.sgd.lr=1"])
def test_with_the_same_budget_nothing_changes(setting: str) -> None:
    assert changed(STUDY, setting)["reported"] == PUBLISHED


def test_what_is_set_with_a_budget_is_final_there() -> None:
    settings = "budget.epochs=2", "reported.test_loss.sgd=0.7"
    assert changed(STUDY, *settings)["reported"]["test_loss"]["sgd"] == 0.7
    assert changed(STUDY, "budget.epochs=2", "reported={}")["reported"] == {}


@pytest.mark.parametrize("form", ["mapping", "list"])
def test_each_problem_has_its_own_end(form: str) -> None:
    problems = {
        "digits": {"dataset": "digits"},
        "moons": {"dataset": "moons", "budget": {"steps": 50}},
        "circles": {"dataset": "circles", "reported": {"test_loss": {"sgd": 0.1}}},
    }
    study = STUDY | {"problem": problems if form == "mapping" else list(problems.values())}
    result = changed(study, "problem.moons.budget.steps=5")
    assert result["reported"] == at_the_end("epochs", 20)
    entries = result["problem"].values() if form == "mapping" else result["problem"]
    digits, moons, circles = entries
    assert digits == {"dataset": "digits"}
    assert moons["reported"] == at_the_end("steps", 50)
    assert circles["reported"] == {"test_loss": {"sgd": {"epochs": {20: 0.1}}}}


def test_a_study_that_starts_from_a_recipe_keeps_the_ends_of_the_recipe() -> None:
    shipped = study_keys("adaptive-methods-cifar10")
    assert shipped["reported"]["test_accuracy"]["adam"] == 0.3454
    recipe = {"recipe": "adaptive-methods-cifar10"}
    own = {"reported": {"test_loss": {"adam": 1.0}}}
    shorter = with_recipe(recipe | {"budget": {"epochs": 3}})
    assert shorter["reported"]["test_accuracy"]["adam"] == {"epochs": {200: 0.3454}}
    assert with_recipe(recipe | {"seeds": 5})["reported"] == shipped["reported"]
    assert with_recipe(recipe | {"budget": {"epochs": 3}} | own)["reported"] == own["reported"]


@pytest.mark.parametrize("name", ["adaptive-methods-cifar10-small", "sgd-from-scratch"])
def test_a_recipe_with_another_budget_by_settings(name: str) -> None:
    before = study_keys(name)
    after = study_keys(RECIPES[name], ["budget.steps=5"])
    assert {**after, "reported": None, "budget": None} == {
        **before,
        "reported": None,
        "budget": None,
    }
    finals = [
        value
        for metric, values in after["reported"].items()
        if metric != "seconds"
        for value in values.values()
    ]
    assert finals
    assert all(isinstance(value, dict) for value in finals)
