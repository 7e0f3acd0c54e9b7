"""Remedies add values to a grid, and nothing beside those that were tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from optrial.analysis.audit.grids import extended, spaced
from optrial.analysis.contenders import OptimizerRuns
from optrial.config import parse_axis


@pytest.mark.parametrize("ends", [[1e-4, 0.1], [0.000548, 0.548], [3.0, 7.0]])
def test_spaced_rates_are_those_of_a_study(ends: list[float]) -> None:
    for points in (2, 5, 11):
        assert spaced(ends, points) == list(parse_axis({"log": ends, "points": points}).values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", [0.00316228, 0.01]),
        ("lr", [0.0031649, 0.0105409]),
        ("lr", [0.01, 0.0316228]),
        ("lr", [0.0123456, 0.0234567, 0.0345678]),
        ("momentum", [0.5123456, 0.9123456]),
    ],
)
@pytest.mark.parametrize(("below", "above"), [(2, 0), (0, 2), (1, 1)])
def test_only_the_ends_grow(name: str, values: list[float], below: int, above: int) -> None:
    optimizer: Any = SimpleNamespace(rule_of=lambda _: "sgd", tuned={name: values})
    longer = extended(cast(OptimizerRuns, optimizer), name, values, below, above)
    assert isinstance(longer, list)
    assert set(values) <= set(longer)
    assert sum(value < values[0] for value in longer) <= below
    assert sum(value > values[-1] for value in longer) == above
    assert len(longer) <= len(values) + below + above
