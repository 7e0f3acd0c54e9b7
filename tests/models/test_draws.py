"""Draws of user code are those of PyTorch's, NumPy's and Python's global generators."""

from __future__ import annotations

import random
import traceback

import numpy as np
import pytest
import torch

from optrial.models import seeded_draws


def draws() -> tuple[float, ...]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


@pytest.mark.parametrize("seed", [0, 3, 2**63 - 1])
def test_draws_are_those_of_the_seeded_generators(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        with seeded_draws(seed):
            drawn = draws()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        assert draws() == drawn


@pytest.mark.skipif(torch.accelerator.is_available(), reason="its generators are seeded too")
def test_no_stack_is_formatted_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traceback, "format_stack", lambda *_: pytest.fail("a slow call"))
    with seeded_draws(1):
        draws()
