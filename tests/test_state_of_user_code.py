"""State of the user's objects that outlives a run: refused, left as it was, or noted."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import optrial
from optrial.callbacks import Callback
from optrial.errors import StudyError
from optrial.results import Results
from optrial.spec import Status


class Counting(Callback):
    """Counts the runs that are trained, and keeps the notes."""

    def __init__(self) -> None:
        self.trained, self.notes = 0, list[str]()

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:
        self.trained += 1

    def on_message(self, text: str) -> None:
        self.notes.append(text)


def compared(folder: Path, *callbacks: Callback, **keys: Any) -> Results:
    """Train two runs of three steps."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(40, 4)).astype(np.float32)
    keys = {"model": "logistic", "optimizers": ["sgd"], "engine": "reference"} | keys
    return optrial.compare(
        data=(inputs, (inputs[:, 0] > 0).astype(int)),
        steps=3,
        batch_size=8,
        seeds=2,
        out=folder,
        callbacks=callbacks,
        **keys,
    )


def linear() -> nn.Module:
    return nn.Linear(4, 2)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).requires_grad_(False)


NET, WEIGHT, TRUNK = linear(), np.ones((2, 4), np.float32), normalised()
DROP = nn.Sequential(nn.Dropout(0.5))


def of_an_array() -> nn.Module:
    model = linear()
    model.weight = nn.Parameter(torch.from_numpy(WEIGHT))
    return model


@functools.cache
def cached() -> nn.Module:
    return linear()


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: NET, "model"),
        (lambda: nn.Sequential(NET, nn.ReLU(), nn.Linear(2, 2)), "0"),
        (of_an_array, "weight"),
        (cached, "model"),
        (lambda: nn.Sequential(TRUNK, linear()), "0"),
        (lambda: nn.Sequential(DROP, linear()), "0"),
        (lambda: nn.Sequential(linear(), DROP[0]), "1"),
    ],
    ids=["model", "trunk", "array", "cache", "averages", "masks", "mask"],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_model_that_runs_would_share_is_refused(
    model: Callable[[], nn.Module], names: str, precision: str, tmp_path: Path
) -> None:
    """Each run would start where another one ended."""
    if model is of_an_array and precision == "float64":
        pytest.skip("is copied")
    with pytest.raises(StudyError, match=rf"returns the same {names} in every call.*deepcopy"):
        compared(tmp_path, model=model, precision=precision)


def test_what_runs_may_share_is_left_as_it_was(tmp_path: Path) -> None:
    relu, frozen = nn.ReLU(), linear().requires_grad_(False).weight

    def model() -> nn.Module:
        head = nn.Linear(4, 2)
        head.weight = frozen
        return nn.Sequential(linear(), relu, nn.Linear(2, 4), head)

    for expected in (2, 0):
        counting = Counting()
        with compared(tmp_path, counting, model=model):
            assert (counting.trained, counting.notes) == (expected, [])


def test_copies_of_a_model_start_alike(tmp_path: Path) -> None:
    net = linear()
    with compared(tmp_path, model=lambda: copy.deepcopy(net)) as results:
        facts = [r.facts.initial_parameters_sha256 for r in results.records]
    assert len(facts) == 2
    assert len(set(facts)) == 1


def test_state_that_use_changes_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def counted() -> nn.Module:
        calls.append(1)
        return linear()

    counting = Counting()
    with compared(tmp_path, counting, model=counted):
        pass
    (note,) = counting.notes
    assert "counted_" in note
    assert "its runs may depend on those before them" in note
    with caplog.at_level(logging.WARNING, "optrial"), compared(tmp_path, model=counted):
        pass
    assert sum(r.getMessage().count("its runs may depend") for r in caplog.records) == 1


def lookahead(parameters: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD,
        functools.partial(torch.optim.SGD, lr=0.1),
        lookahead,
        lambda *arguments: lookahead(arguments[0]),
    ],
    ids=["class", "partial", "function", "any"],
)
def test_comparisons_take_functions_that_make_optimizers(optimizer: Any, tmp_path: Path) -> None:
    with compared(tmp_path, optimizers=[optimizer]) as results:
        assert [record.status for record in results.records] == [Status.DONE] * 2


def in_float64() -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return linear()


class WithoutGradients(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        super().step()
        torch.set_grad_enabled(False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"model": in_float64},
            "problem: .*in_float64' changes the setting of torch.set_default_dtype",
        ),
        (
            {"optimizers": [WithoutGradients]},
            r"optimizers\[0\].torch: .*WithoutGradients' changes the setting of .*set_grad_enabled",
        ),
    ],
)
def test_settings_of_the_process_stay_as_they_are(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """They would hold for every other run, and for all that the process does next."""
    with pytest.raises(StudyError, match=message):
        compared(tmp_path, **keys)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def leaving(parameters: Any) -> torch.optim.Optimizer:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (leaving, "failed when called: SystemExit: 3"),
        ({"torch": "torch.optim:Adam", "betas": [0.9, 0.99]}, r"betas: \[\[0.9, 0.99\]\]"),
    ],
)
def test_the_trial_of_an_optimizer_says_what_is_wrong(
    optimizer: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message):
        compared(tmp_path, optimizers=[optimizer])


class WithExtraState(nn.Linear):
    def get_extra_state(self) -> int:
        return 1

    def set_extra_state(self, state: Any) -> None:
        del state


def test_extra_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="' has extra state '_extra_state', which is not stored"):
        compared(tmp_path, model=lambda: WithExtraState(4, 2))
