"""Engines, stack widths and resumptions agree on random studies.

``python -m tests.mixtures --first SEED --studies 1`` shows one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from optrial.records import Segment
from optrial.spec import RunSpec
from tests.mixtures.compare import Alone, differences, planned
from tests.mixtures.studies import described, study

SEEDS = (1,)
CHAOTIC = 6067
MORE = (2, 5, *range(100, 140), CHAOTIC)
MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in MORE]


@pytest.mark.parametrize("seed", [*SEEDS, *MORE_SEEDS])
@pytest.mark.filterwarnings("ignore")
def test_engines_agree_on_random_studies(seed: int) -> None:
    keys = study(seed)
    assert not differences(keys), described(keys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_chaos_excuses_what_rounding_does_and_no_more() -> None:
    keys = study(CHAOTIC)
    _, dataset, runs = planned(keys)
    steady, chaotic = (Alone(_first(runs, name), dataset) for name in ("entry-0", "entry-1"))
    assert not list(steady.differing(_scaled(steady, 1 + 1e-10)))
    assert list(steady.differing(_scaled(steady, 1 + 1e-8)))
    assert not list(chaotic.differing(_scaled(chaotic, 1 + 1e-8)))
    assert list(chaotic.differing(_scaled(chaotic, 1 + 1e-3)))


def _first(runs: Sequence[RunSpec], optimizer: str) -> RunSpec:
    return next(run for run in runs if run.optimizer == optimizer)


def _scaled(run: Alone, factor: float) -> Segment:
    """The run as if each of its validation losses were a little wrong."""
    curve = run.segment.curves["validation_loss"]
    wrong = replace(curve, values=curve.values * factor)
    return replace(run.segment, curves={**run.segment.curves, "validation_loss": wrong})
