from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optrial.records import write_csv, write_json


@given(st.lists(st.floats(), min_size=1))
def test_csv_keeps_every_float(values: list[float]) -> None:
    stream = io.StringIO()
    write_csv(({"step": step, "value": value} for step, value in enumerate(values)), stream)
    back = [float(row["value"]) for row in csv.DictReader(io.StringIO(stream.getvalue()))]
    np.testing.assert_array_equal(back, values)


@given(st.lists(st.floats()))
def test_json_keeps_every_finite_float(values: list[float]) -> None:
    stream = io.StringIO()
    write_json([{"value": value} for value in values], stream)
    back = [row["value"] for row in json.loads(stream.getvalue(), parse_constant=pytest.fail)]
    assert back == [value if math.isfinite(value) else None for value in values]


def test_no_rows() -> None:
    stream = io.StringIO()
    write_csv([], stream)
    assert stream.getvalue() == ""
    write_json([], stream)
    assert json.loads(stream.getvalue()) == []
