"""Each study without a name has another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import optrial
from optrial import Study
from tests.small import small_keys


def unnamed(**changes: object) -> Study:
    keys = small_keys(**changes)
    del keys["name"]
    return Study(**keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizers": [{"rule": "adam"}]},
        {"optimizers": [{"rule": "sgd", "lr": 0.2}]},
        {"budget": {"steps": 41}},
        {"batch_size": 16},
        {"problem": {"dataset": "digits"}},
        {"problem": [{"dataset": "digits", "batch_size": 64}, {"dataset": "moons"}]},
        {"loss_limit": 10.0},
    ],
)
def test_other_comparisons_have_other_folders(changes: dict[str, object]) -> None:
    assert unnamed(**changes).default_folder != unnamed().default_folder


@pytest.mark.parametrize(
    "changes",
    [{"seeds": 5}, {"notes": "more"}, {"engine": "reference"}],
)
def test_more_of_the_same_comparison_stays_in_its_folder(changes: dict[str, object]) -> None:
    folder = unnamed().default_folder
    assert unnamed(**changes).default_folder == folder
    assert folder.name.startswith("moons-")


def test_two_unnamed_comparisons_keep_their_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = optrial.compare(data="moons", optimizers=["sgd"], steps=2, seeds=1, batch_size=32)
    second = optrial.compare(data="moons", optimizers=["adam"], steps=2, seeds=1, batch_size=32)
    with first, second:
        assert list(first.runs()["optimizer"]) == ["sgd"]
        assert list(second.runs()["optimizer"]) == ["adam"]
        again = optrial.compare(data="moons", optimizers=["sgd"], steps=2, seeds=2, batch_size=32)
        assert again.folder == first.folder
        again.close()


def test_a_name_is_the_folder_whatever_changes() -> None:
    assert Study(**small_keys()).default_folder == Path("studies", "small")
    assert Study(**small_keys(budget={"steps": 41})).default_folder == Path("studies", "small")


def test_a_study_file_without_a_name_is_named_after_the_file(tmp_path: Path) -> None:
    keys = "problem: {dataset: moons}\nbudget: {steps: 1}\noptimizers: [{rule: sgd}]\n"
    (tmp_path / "mine.yaml").write_text(keys)
    study = Study.from_file(tmp_path / "mine.yaml")
    assert (study.config.name, study.default_folder) == ("mine", Path("studies", "mine"))
    (tmp_path / "other.yaml").write_text(f"name: given\n{keys}")
    assert Study.from_file(tmp_path / "other.yaml").config.name == "given"


def test_remedies_of_a_study_without_a_name_stay_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with unnamed(seeds=2, optimizers=[{"rule": "sgd"}, {"rule": "adam"}]).run() as results:
        remedies = [finding.remedy for finding in results.audit().findings]
        here = [remedy for remedy in remedies if remedy.settings.keys() == {"seeds"}]
        assert here
        assert {remedy.folder for remedy in here} == {str(results.folder)}
        assert f"out={str(results.folder)!r}" in str(results.audit())
