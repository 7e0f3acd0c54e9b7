"""A compiled program that gives other numbers than plain PyTorch is not used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optrial
from optrial.engine.backends import stacked
from optrial.engine.backends.compiled_checks import CheckedProgram, CheckedUpdate, agree
from optrial.engine.backends.compiling import compiled_program
from optrial.engine.backends.stacked_model import Gradients
from optrial.engine.backends.stacked_update import update
from tests.small import learner_for, small_keys, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64


class Messages(optrial.Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, text: str) -> None:
        self.texts.append(text)


GRADIENT = torch.linspace(-1, 1, 24, dtype=torch.float64).view(1, 2, 3, 4)


Buffers = dict[str, Tensor]


def doubled(value: Tensor, buffers: Buffers) -> dict[str, Tensor]:
    for count in buffers.values():
        count.add_(1)
    return {"w": 2 * value, "loss": value.sum((2, 3))}


def checked(program: Callable[..., Any]) -> CheckedProgram:
    return CheckedProgram(program, doubled, lambda result: result, "float32")


def test_a_right_program_is_used_after_one_comparison() -> None:
    calls: list[str] = []

    def program(value: Tensor, buffers: Buffers) -> dict[str, Tensor]:
        calls.append("program")
        return doubled(value * (1 + 1e-6), buffers)  # rounding

    function, buffers = checked(program), {"count": torch.zeros(1, 2, dtype=torch.int64)}
    for _ in range(3):
        assert torch.equal(function(GRADIENT, buffers)["w"], program(GRADIENT, {})["w"])
    assert function.is_right
    assert len(calls) == 6
    assert buffers["count"].tolist() == [[3, 3]]


@pytest.mark.parametrize("fault", ["result", "buffers"])
def test_a_wrong_program_is_replaced(fault: str) -> None:
    def program(value: Tensor, buffers: Buffers) -> dict[str, Tensor]:
        if fault == "result":
            return doubled(value.flip(3), buffers)
        return doubled(value, {})

    function, buffers = checked(program), {"count": torch.zeros(1, 2)}
    for calls in (1, 2):
        assert torch.equal(function(GRADIENT, buffers)["w"], doubled(GRADIENT, {})["w"])
        assert buffers["count"].tolist() == [[calls, calls]]
    assert function.is_right is False


def test_advice_of_the_compiler_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles(*_: object, **__: object) -> Callable[..., str]:
        def program() -> str:
            where = ("compile_fx.py", 322, "torch._inductor.compile_fx")
            warnings.warn_explicit("TensorFloat32 is not enabled", UserWarning, *where)
            return "result"

        return program

    monkeypatch.setattr(torch, "compile", compiles)
    assert compiled_program(lambda: None)() == "result"


@pytest.mark.parametrize("wrong", [False, True])
def test_an_update_in_place_happens_once(wrong: bool) -> None:
    tensors = {"w": GRADIENT.clone(), "count": torch.zeros(()), "alive": torch.ones(1, 2).bool()}

    def update(step: float) -> None:
        tensors["w"] -= step * GRADIENT
        tensors["count"] += 1

    def program(step: float) -> None:
        update(-step if wrong else step)

    function = CheckedUpdate(program, update, lambda: tensors)
    function(0.5)
    function(0.25)
    assert function.is_right is not wrong
    assert torch.equal(tensors["w"], 0.25 * GRADIENT)
    assert tensors["count"] == 2


def test_runs_that_diverged_and_negligible_tensors_do_not_count() -> None:
    ours = {"w": GRADIENT.clone(), "zero": 1e-9 * torch.ones(1, 2, 3)}
    theirs = {"w": GRADIENT.clone(), "zero": torch.zeros(1, 2, 3)}
    assert agree(ours, theirs, 0.02)
    theirs["w"][0, 1] = torch.nan
    assert agree(ours, theirs, 0.02)
    ours["w"][0, 0, 0] += 0.5
    assert not agree(ours, theirs, 0.02)
    ours["w"][0, 0, 0] = torch.nan
    assert not agree(ours, theirs, 0.02)


def test_a_study_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def wrong(function: Callable[..., Any]) -> Callable[..., Any]:
        if function is update:
            return function

        def program(*arguments: Any) -> Gradients:
            result: Gradients = function(*arguments)
            return result._replace(losses=2 * result.losses)

        return program

    monkeypatch.setattr(stacked, "compiled_program", wrong)
    monkeypatch.setattr(stacked, "traced_program", wrong)
    study = optrial.Study(**small_keys(engine="stacked", compile="always", seeds=2))
    notes = Messages()
    results = study.run(tmp_path, callbacks=[notes])
    (note,) = [text for text in notes.texts if "compiler" in text]
    assert note.endswith("so these runs are trained uncompiled")
    assert "seed=0" in note
    assert [run.facts.compiled for run in results.store.runs()] == [False] * len(study.plan().runs)


@pytest.mark.slow
def test_a_model_whose_gradients_are_compiled_wrongly_trains_as_in_the_reference(
    tmp_path: Path,
) -> None:
    """PyTorch 2.13 does so with this decoder of width 8 over 7 tokens, on processors with AVX."""
    tokens = np.random.default_rng(0).integers(0, 7, (110, 6))
    tokens[0, 0] = tokens[84, 0] = 6
    targets = np.roll(tokens, 1, axis=1)
    splits = {"x_train": tokens[:84], "y_train": targets[:84]}
    splits |= {"x_test": tokens[84:], "y_test": targets[84:]}
    np.savez(tmp_path / "tokens.npz", **splits)  # type: ignore[arg-type]
    plan, dataset = small_plan(
        problem={
            "dataset": {"name": str(tmp_path / "tokens.npz"), "inputs": "tokens"},
            "model": {"kind": "transformer", "width": 8, "depth": 1, "heads": 2},
        },
        precision="float64",
        batch_size=28,
        seeds=1,
        optimizers=[{"rule": "sgd", "lr": [0.1, 0.2]}],
    )
    compiled = learner_for(plan.runs, dataset, "compiled")
    compiled.start(1)
    compiled.advance(2)
    for place, run in enumerate(plan.runs):
        alone = learner_for([run], dataset, "reference")
        alone.start(1)
        alone.advance(2)
        for name, value in alone.weights(0).items():
            difference = np.abs(compiled.weights(place)[name] - value).max()
            assert difference <= TRAJECTORY_FLOAT64, name
