"""Engines, stack widths and resumptions agree on random studies.

``python -m tests.mixtures --first SEED --studies 1`` shows one of them.
"""

from __future__ import annotations

import pytest

from tests.mixtures.compare import differences
from tests.mixtures.studies import described, study

SEEDS = (1,)
MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 5, *range(100, 140))]


@pytest.mark.parametrize("seed", [*SEEDS, *MORE_SEEDS])
@pytest.mark.filterwarnings("ignore")
def test_engines_agree_on_random_studies(seed: int) -> None:
    keys = study(seed)
    assert not differences(keys), described(keys)
