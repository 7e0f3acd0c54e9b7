from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optrial.config import Axis, parse_axis
from optrial.config.axis import plain_values
from tests.tolerance import PRINTED_DIGITS

FINITE = st.floats(min_value=1e-6, max_value=1e6)


@pytest.mark.parametrize(
    ("given_value", "values"),
    [
        (0.1, (0.1,)),
        ("full", ("full",)),
        (True, (True,)),
        ([0.1, 0.2], (0.1, 0.2)),
        ({"log": [1e-3, 1.0], "points": 4}, (0.001, 0.01, 0.1, 1.0)),
        ({"log": [1.0, 0.01], "points": 3}, (1.0, 0.1, 0.01)),
        ({"lin": [0, 0.9], "points": 4}, (0.0, 0.3, 0.6, 0.9)),
        (Axis((1, 2)), (1, 2)),
        ([[0.9, 0.99]], ((0.9, 0.99),)),
    ],
)
def test_values(given_value: object, values: tuple[object, ...]) -> None:
    assert parse_axis(given_value).values == values


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        ([], "at least one"),
        ([0.1, 0.1], "repeat"),
        ([[[0.1]]], "number, a text"),
        (None, "number, a text"),
        ({"points": 3}, "written"),
        ({"log": [1, 2], "points": 3, "base": 2}, "written"),
        ({"log": [1, 2], "lin": [1, 2], "points": 3}, "written"),
        ({"log": [0, 1], "points": 3}, "positive"),
        ({"log": [1, 2], "points": 1}, "from 2 to 10,000"),
        ({"log": [1, 2], "points": True}, "from 2 to 10,000"),
        ({"lin": [1], "points": 3}, "two finite numbers"),
        ({"lin": [1, float("inf")], "points": 3}, "two finite numbers"),
        ({"lin": [1, 1], "points": 3}, "different"),
    ],
)
def test_refuses(given_value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_axis(given_value)


def test_a_range_without_points_is_open() -> None:
    axis = parse_axis({"log": [1e-4, 1]})
    assert (axis.values, axis.spacing, axis.open) == ((1e-4, 1.0), "log", True)
    assert not parse_axis({"log": [1e-4, 1], "points": 2}).open


@pytest.mark.parametrize(
    "written",
    [0.1, [0.1, 1.0], {"log": [0.1, 1.0]}, {"lin": [0.9, 0.0], "points": 4}, [[0.9, 0.99]]],
)
def test_an_axis_is_stored_as_it_was_written(written: object) -> None:
    axis = parse_axis(written)
    assert parse_axis(plain_values(axis)) == axis


@given(first=FINITE, ratio=st.floats(min_value=1.1, max_value=1e3), points=st.integers(2, 20))
def test_log_points_have_one_ratio(first: float, ratio: float, points: int) -> None:
    values = parse_axis({"log": [first, first * ratio], "points": points}).values
    step = ratio ** (1 / (points - 1))
    assert len(values) == points
    for value, following in itertools.pairwise(values):
        assert following / value == pytest.approx(step, rel=PRINTED_DIGITS)
