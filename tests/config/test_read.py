from __future__ import annotations

import math
from pathlib import Path
from threading import Lock
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
    studies, problems = parse_study(MINIMAL)
    assert not problems
    assert studies is not None
    study = studies.shared
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


def test_dates_and_marks_are_text(tmp_path: Path) -> None:
    text = "\ufeffnotes: 2024-13-45\nname: 2024-01-01\nother: =\n"
    raw = read_study(write(tmp_path / "mine.yaml", text))
    assert raw == {"notes": "2024-13-45", "name": "2024-01-01", "other": "="}


def test_anchors_are_written_out(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: [*a, *a]\nc: {<<: *a, y: 3}\nd: &a 5\ne: *a\n"
    raw = read_study(write(tmp_path / "mine.yaml", text))
    assert raw["b"] == [{"x": 1, "y": 2}] * 2
    assert raw["c"] == {"x": 1, "y": 3}
    assert raw["e"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1, column"),
        ("a: 1\na: 2", "duplicate key"),
        ("%YAML 1.1\n---\na: 010", "'%YAML 1.1': only YAML 1.2 is read; remove this line."),
        ("%YAML 1.9\n---\na: 1", "'%YAML 1.9': only YAML 1.2 is read"),
        ("[" * 51, "nested deeper than 50 levels."),
        ("- 1\n- 2", "must be a mapping"),
        ("", "it is empty"),
        ("a: !!python/object/apply:os.system [id]", "not a type of values"),
        ("a: !!binary aGk=", "line 1, column 4: '!!binary' is not a type"),
        ("a: !!set {b}", "'!!set' is not a type"),
        ("a: !!int x", "line 1, column 4: 'x' is not a whole number"),
        ("a: !!bool x", "'x' is not true or false"),
        ("a: !!float x", "'x' is not a number"),
        ("[a]: 1", "a key must be a text"),
        ("? {a: 1}\n: 2", "a key must be a text"),
        ("a: *b", "undefined alias"),
        ("<<: 3", "for merging"),
        ("a:\t1", "cannot start any token"),
        ("a: 1\n--- \nb: 2", "another document"),
        ('a: "\\ud800"', r"U\+D800"),
        ('a: "\\0"', r"U\+0000"),
        ("a: \0", "special characters"),
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
    for encoding in ("utf-16", "utf-32", "latin-1"):
        (tmp_path / "encoded.yaml").write_bytes("name: é".encode(encoding))
        with pytest.raises(StudyError, match="UTF-8"):
            read_study(tmp_path / "encoded.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="UTF-8"):
        read_study(tmp_path / "binary.yaml")


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of(
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
    assert set(problems) == {
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
    assert "Did you mean 'model'?" in problems["problem.modle"]
    assert "Did you mean 'budget'?" in problems["budgt"]
    assert "Did you mean 'reference'?" in problems["engine"]
    assert "Did you mean 'test'?" in problems["evaluate.on[0]"]
    assert "-1" in problems["budget.steps"]
    assert "'ful'" in problems["batch_size"]


def test_what_is_wrong_does_not_hide_the_rest() -> None:
    """A study with a wrong value is still returned, so that its names can be checked."""
    study, problems = parse_study(MINIMAL | {"precision": "float16"})
    assert [problem.path for problem in problems] == ["precision"]
    assert study is not None
    assert study.shared.precision == "float32"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("budget", {"steps": 1, "epochs": 1}, "one of steps, epochs, samples, tokens and seconds"),
        (
            "budget",
            {"samples": 1, "tokens": 1},
            "one of steps, epochs, samples, tokens and seconds",
        ),
        ("budget", {}, "one of steps, epochs, samples, tokens and seconds"),
        ("budget", 3, "mapping"),
        ("budget", {"steps": True}, "whole number"),
        ("budget", {"steps": 1.5}, "whole number"),
        ("folds", 5.5, "a whole number, or a mapping with the key k"),
        ("early_stopping", True, "a whole number, or a mapping with the key patience"),
        ("seeds", 0, "count from 1 to 100,000"),
        ("seeds", True, "count from 1 to 100,000"),
        ("seeds", [], "empty"),
        ("seeds", "3", "count from 1 to 100,000"),
        ("batch_size", 0, "whole number"),
        ("batch_size", 1.5, "whole number"),
        ("optimizers", [], "empty"),
        ("problem", 3, "mapping"),
        ("name", "", "must not be empty"),
        ("shuffle", "yes", "true or false"),
        ("evaluate", {"batch_metrics": 1}, "true or false"),
        ("probes", [], "empty"),
    ],
)
def test_refuses(key: str, value: object, message: str) -> None:
    problems = problems_of(**{key: value})
    path = next(iter(problems))
    assert path.startswith(key)
    assert message in problems[path]


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


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"name": 3}, "name: 3: must be text; put it in quotes."),
        ({"name": None}, "name: None: must be text; put it in quotes."),
        ({"name": ["a"]}, "name: ['a']: must be a single text, not a list."),
        ({"shuffle": "no"}, "shuffle: 'no': must be true or false."),
        ({"budget": {"steps": 1.5}}, "budget.steps: 1.5: must be a whole number."),
        ({"budget": {"steps": "7"}}, "budget.steps: '7': must be a whole number."),
        ({"loss_limit": "high"}, "loss_limit: 'high': must be a number."),
        ({"loss_limit": True}, "loss_limit: True: must be a number."),
        ({"loss_limit": math.inf}, "loss_limit: inf: must be a finite number."),
        ({"claims": "a > b"}, "claims: 'a > b': must be a list."),
        ({"optimizers": {"rule": "sgd"}}, "optimizers: {'rule': 'sgd'}: must be a list."),
        ({"probes": "gradient_norm"}, "probes: 'gradient_norm': must be a list of names, or {"),
        ({True: 3}, "the key True must be text; put it in quotes."),
        ({"waive": {1: "x"}}, "waive: the key 1 must be text; put it in quotes."),
        ({"optimizers": [{"rule": "sgd", 1: 2}]}, "optimizers[0]: the key 1 must be text"),
    ],
)
def test_types_are_named_as_in_yaml(raw: dict[Any, Any], message: str) -> None:
    _, problems = parse_study(MINIMAL | raw)
    assert any(str(problem).startswith(message) for problem in problems), problems


def test_values_of_any_type_are_refused_and_never_copied() -> None:
    """Generators and locks cannot be copied."""
    _, problems = parse_study(MINIMAL | {"seeds": (n for n in range(3)), "notes": Lock()})
    assert [problem.path for problem in problems] == ["seeds", "notes"]
