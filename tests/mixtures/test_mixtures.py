"""Engines, stack widths and resumptions agree on random studies.

``python -m tests.mixtures --first SEED --studies 1`` shows one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from optrial.records import Segment
from optrial.spec import RunSpec
from tests.mixtures.compare import Alone, differences, planned, relative_distance
from tests.mixtures.studies import described, study
from tests.small import train_stack
from tests.tolerance import MOST_CHAOS

SEEDS = (1,)
CHAOTIC = 6067
CANCELLING = 6191
MORE = (2, 5, *range(100, 140), CHAOTIC, CANCELLING)
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
    assert not steady.differing(_scaled(steady.segment, 1 + 1e-10))
    assert steady.differing(_scaled(steady.segment, 1 + 1e-8))
    assert not chaotic.differing(_scaled(chaotic.segment, 1 + 1e-8))
    assert chaotic.differing(_scaled(chaotic.segment, 1 + 1e-3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_signs_of_gradients_that_cancel_excuse_nothing_else() -> None:
    _, dataset, runs = planned(study(CANCELLING))
    alone = Alone(runs[0], dataset)
    stacked = train_stack(runs, dataset, "stacked")[0]
    values = (run.curves["validation_loss"].values for run in (alone.segment, stacked))
    assert relative_distance(*values) > MOST_CHAOS
    assert not alone.differing(stacked)
    assert alone.differing(_scaled(stacked, 1 + 1e-8))


def _first(runs: Sequence[RunSpec], optimizer: str) -> RunSpec:
    return next(run for run in runs if run.optimizer == optimizer)


def _scaled(run: Segment, factor: float) -> Segment:
    """The run as if each of its validation losses were a little wrong."""
    curve = run.curves["validation_loss"]
    wrong = replace(curve, values=curve.values * factor)
    return replace(run, curves={**run.curves, "validation_loss": wrong})
