"""Sizes that no machine can train are refused in one line, without building them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optrial.errors import OptrialError
from optrial.study import Study
from tests.fuzz.target import limited_memory
from tests.small import small_keys

SECONDS = 5.0


def axes(count: int, points: int) -> list[dict[str, Any]]:
    ranges = {"log": [1e-3, 1e-1], "points": points}
    names = ("lr", "momentum", "weight_decay")[:count]
    return [{"rule": "momentum", **dict.fromkeys(names, ranges)}]


def on(**dataset: Any) -> dict[str, Any]:
    return {"problem": {"dataset": dataset, "model": {"kind": "logistic"}}}


def model(**arguments: Any) -> dict[str, Any]:
    return {"problem": {"dataset": "moons", "model": arguments}}


TOO_LARGE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "seeds": ({"seeds": 1_000_000_000}, ["seeds", "1000000000", "100,000"]),
    "points": ({"optimizers": axes(1, 10_000_000)}, ["optimizers[0].lr", "10,000"]),
    "settings": ({"optimizers": axes(3, 1000)}, ["1,000,000,000 runs", "1,000,000"]),
    "settings times seeds": (
        {"optimizers": axes(1, 1001), "seeds": 1000},
        ["1,001,000 runs", "1,000,000"],
    ),
    "trials": (
        {
            "optimizers": [{"rule": "sgd", "lr": {"log": [1e-3, 1]}}],
            "tune": {"sampler": "random", "trials": 1_000_000},
        },
        ["3,000,001 runs"],
    ),
    "seeds of tuning": (
        {
            "optimizers": [{"rule": "sgd", "lr": {"log": [1e-3, 1]}}],
            "tune": {"sampler": "random", "trials": 10, "seeds": 10**8},
        },
        ["1,000,000,001 runs"],
    ),
    "settings of models": (
        model(
            kind="mlp",
            hidden=[[n] for n in range(1, 1002)],
            dropout=[k / 1001 for k in range(1001)],
        ),
        ["1,002,001 runs"],
    ),
    "problems": (
        {"problem": {f"p{n}": {"dataset": "moons"} for n in range(50)}, "seeds": 100_000},
        ["problem", "1,000,000 runs"],
    ),
    "steps": ({"budget": {"steps": 10**18}}, ["budget.steps", "1000000000"]),
    "epochs": ({"budget": {"epochs": 10**300}}, ["budget.epochs", "1000000000"]),
    "units": (model(kind="mlp", hidden=1_000_000_000), ["problem.model.hidden"]),
    "units in a list": (model(kind="mlp", hidden=[10**9]), ["problem.model.hidden[0]", "1000000"]),
    "layers": (
        model(kind="mlp", hidden=[8] * 5000),
        ["problem.model.hidden", "5,000 entries", "1,000"],
    ),
    "convolutions": (
        model(kind="cnn", widths=[8] * 5000),
        ["problem.model.widths", "5,000 entries"],
    ),
    "units of a recurrent layer": (model(kind="rnn", hidden=10**9), ["problem.model.hidden"]),
    "samples": (on(name="moons", n_samples=2_000_001), ["n_samples", "2,000,000"]),
    "features": (
        on(name="blobs", n_samples=10**6, n_features=31),
        ["31,000,000 values", "30,000,000", ".npz"],
    ),
    "products of a teacher": (
        on(name="teacher", n_samples=10**5, width=10**4, features=10),
        ["takes too long to draw"],
    ),
    "clusters": (on(name="blobs", centers=10**9), ["centers", "10,000"]),
    "digits of palindromes": (
        {"problem": {"dataset": {"name": "palindrome", "n_samples": 10**6, "length": 1000}}},
        ["1,001,000,000 values"],
    ),
    "points of a function": (
        {"problem": {"function": "beale", "n_samples": 10**10, "noise": 0.1}},
        ["n_samples", "2000000"],
    ),
}


def refused(act: Callable[[], object]) -> str:
    """Return the message of the error that `act` ends in, soon and with little memory."""
    started = time.process_time()
    with limited_memory(), pytest.raises(OptrialError) as caught:
        act()
    assert time.process_time() - started < SECONDS
    return str(caught.value)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_sizes_beyond_any_machine(name: str) -> None:
    changes, expected = TOO_LARGE[name]
    message = refused(lambda: Study(**small_keys(**changes)))
    assert all(part in message for part in expected), message
    assert len(message) < 2000


TOO_HEAVY: dict[str, tuple[dict[str, Any], str]] = {
    "two layers": (model(kind="mlp", hidden=[[10**6, 10**6]]), "1,000,002,000,000 weights"),
    "many layers": (model(kind="mlp", hidden=[[10**5] * 1000]), "9,990,000,200,000 weights"),
    "recurrent layer": (model(kind="rnn", hidden=10**6, cell="lstm"), "4,000,004,000,000 weights"),
    "convolutions": (
        {"problem": {"dataset": "digits", "model": {"kind": "cnn", "widths": [10**6, 10**6]}}},
        "9,000,009,000,000 weights",
    ),
}


@pytest.mark.parametrize("name", TOO_HEAVY)
def test_models_beyond_memory_are_not_built(name: str) -> None:
    changes, weights = TOO_HEAVY[name]
    study = Study(**small_keys(**changes))
    dataset = study.load_data()
    message = refused(lambda: study.plan(dataset))
    assert "problem.model: the model has at least" in message
    assert weights in message
    assert "GB of memory" in message
    assert "Use fewer units or layers" in message


def laughs(levels: int, form: str) -> str:
    """Nine aliases to nine aliases to ...: 9 ** `levels` values in few characters."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        before = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {form.replace('_', before)}")
    return "\n".join(lines)


TEXTS = {
    "aliases": (laughs(12, "[_]"), ["line", "200,000 values"]),
    "merged aliases": (laughs(12, "{<<: [_], y: 1}"), ["line", "200,000 values"]),
    "an alias of itself": ("a: &a [*a]", ["line 1", "50 levels"]),
    "nesting": ("a: " + "[" * 400 + "]" * 400, ["50 levels"]),
    "nesting beyond the stack": ("a: " + "[" * 30_000, ["50 levels"]),
    "digits": ("seeds: " + "9" * 5000, ["line 1", "5,000 digits"]),
    "a long text": ("notes: " + "x" * 300_000, ["200,000 characters"]),
    "a long list": ("seeds: [" + "1," * 10_000 + "]", ["seeds"]),
    "keys": (f"{'k' * 50_000}: 1", ["line 1"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_beyond_any_study(tmp_path: Path, name: str) -> None:
    text, expected = TEXTS[name]
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    message = refused(lambda: Study.from_file(path))
    assert all(part in message for part in expected), message[:3000]
    assert len(message) < 5000


def test_a_device_without_end_is_no_study() -> None:
    assert "characters" in refused(lambda: Study.from_file("/dev/zero"))


def test_a_million_runs_are_allowed() -> None:
    started = time.process_time()
    Study(**small_keys(optimizers=axes(1, 1000), seeds=1000))
    assert time.process_time() - started < SECONDS
