from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optrial.config import override, parse_study, read_study
from optrial.errors import StudyError

MINIMAL: dict[str, Any] = {
    "problem": {"dataset": "digits"},
    "budget": {"steps": 10},
    "optimizers": [{"rule": "sgd"}],
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(**changes: Any) -> dict[str, str]:
    _, problems = parse_study(MINIMAL | changes)
    return {problem.path: problem.message for problem in problems}


def test_defaults() -> None:
    study, problems = parse_study(MINIMAL)
    assert not problems
    assert study is not None
    assert study.batch_size.values == (128,)
    assert study.seeds == (0, 1, 2)
    assert study.evaluate.every.epochs == 1
    assert study.evaluate.batch_metrics is False
    assert study.problem.model.name == "mlp"
    assert (study.engine, study.precision, study.rng) == ("auto", "float32", "streams")


def test_yaml_is_read_as_people_mean_it(tmp_path: Path) -> None:
    """`on` is a word and 1e-3 a number, unlike in YAML 1.1."""
    raw = read_study(write(tmp_path / "mine.yaml", "evaluate: {on: [test]}\nlr: 1e-3\n"))
    assert raw == {"name": "mine", "evaluate": {"on": ["test"]}, "lr": 0.001}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1, column"),
        ("a: 1\na: 2", "duplicate key"),
        ("- 1\n- 2", "must be a mapping"),
        ("", "it is empty"),
        ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(write(tmp_path / "bad.yaml", text))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="No such file"):
        read_study(tmp_path / "missing.yaml")
    with pytest.raises(StudyError, match="directory"):
        read_study(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="UTF-8"):
        read_study(tmp_path / "binary.yaml")


def test_all_problems_are_reported_at_once() -> None:
    found = problems_of(
        problem={"dataset": "digits", "modle": 3},
        budgt=1,
        budget={"steps": -1},
        batch_size=[32, "ful"],
        engine="referense",
        seeds=[1, 1],
        evaluate={"on": ["tets"]},
        optimizers=[{"rule": "sgd", "lr": []}, {"rule": 3}],
        probes={"measure": ["gradient_norm"], "evry": 3},
    )
    assert set(found) == {
        "problem.modle",
        "budgt",
        "budget.steps",
        "batch_size",
        "engine",
        "seeds",
        "evaluate.on[0]",
        "optimizers[0].lr",
        "optimizers[1].rule",
        "probes.evry",
    }
    assert "Did you mean 'model'?" in found["problem.modle"]
    assert "Did you mean 'budget'?" in found["budgt"]
    assert "Did you mean 'reference'?" in found["engine"]
    assert "Did you mean 'test'?" in found["evaluate.on[0]"]
    assert "-1" in found["budget.steps"]
    assert "'ful'" in found["batch_size"]


def test_what_is_wrong_does_not_hide_the_rest() -> None:
    """A study with a wrong value is still returned, so that its names can be checked."""
    study, problems = parse_study(MINIMAL | {"precision": "float16"})
    assert [problem.path for problem in problems] == ["precision"]
    assert study is not None
    assert study.precision == "float32"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("budget", {"steps": 1, "epochs": 1}, "either steps or epochs"),
        ("budget", {}, "either steps or epochs"),
        ("budget", 3, "mapping"),
        ("budget", {"steps": True}, "integer"),
        ("budget", {"steps": 1.5}, "integer"),
        ("seeds", 0, "count of 1 or more"),
        ("seeds", True, "count of 1 or more"),
        ("seeds", [], "empty"),
        ("seeds", "3", "count of 1 or more"),
        ("batch_size", 0, "whole number"),
        ("batch_size", 1.5, "whole number"),
        ("optimizers", [], "empty"),
        ("problem", 3, "mapping"),
        ("name", "", "must not be empty"),
        ("shuffle", "yes", "boolean"),
        ("evaluate", {"batch_metrics": 1}, "boolean"),
        ("probes", [], "empty"),
    ],
)
def test_refuses(key: str, value: object, message: str) -> None:
    found = problems_of(**{key: value})
    path = next(iter(found))
    assert path.startswith(key)
    assert message in found[path]


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("budget.steps=20", ("budget", "steps"), 20),
        ("seeds=[1, 2]", ("seeds",), [1, 2]),
        ("optimizers[0].lr=1e-3", ("optimizers", 0, "lr"), 0.001),
        ("optimizers.sgd.lr={log: [1, 2], points: 2}", ("optimizers", 0, "lr", "points"), 2),
        ("problem.dataset.noise=0.1", ("problem", "dataset", "name"), "digits"),
        ("problem.model.hidden=[5]", ("problem", "model"), {"kind": "mlp", "hidden": [5]}),
        ("evaluate.on=[test]", ("evaluate", "on"), ["test"]),
    ],
)
def test_override(setting: str, path: tuple[Any, ...], value: object) -> None:
    node: Any = override(MINIMAL, [setting])
    for part in path:
        node = node[part]
    assert node == value


def test_override_changes_a_copy_and_swaps_units() -> None:
    assert override(MINIMAL, ["budget.epochs=2"])["budget"] == {"epochs": 2}
    assert MINIMAL["budget"] == {"steps": 10}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("budget.steps", "key.path=value"),
        ("=3", "key.path=value"),
        ("optimizers.adma.lr=1", "not in the list"),
        ("optimizers[7].lr=1", "not in the list"),
        ("budget=[", "not valid YAML"),
    ],
)
def test_bad_override(setting: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        override(MINIMAL, [setting])
