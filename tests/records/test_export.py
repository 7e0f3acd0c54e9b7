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


@given(st.lists(st.one_of(st.text(), st.sampled_from("=+-@\t\r\n'＝")), min_size=1, max_size=3))
def test_no_text_in_a_spreadsheet_is_a_formula(texts: list[str]) -> None:
    name = "".join(texts)
    row = {name: name, f"{name}2": -0.5, f"{name}3": float("-inf"), f"{name}4": ["=1"]}
    stream = io.StringIO(newline="")
    write_csv([row], stream, spreadsheet=True)
    header, (text, *others) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert not any(cell.startswith(tuple("=+-@\t\r\n＝＋－＠")) for cell in (*header, text))
    lines = name.replace("\r\n", "\n").replace("\r", "\n")
    assert text in (lines, f"'{lines}")
    assert others == ["-0.5", "-inf", '["=1"]']


def test_csv_is_not_changed_unless_asked() -> None:
    stream = io.StringIO()
    write_csv([{"=a": "=1+1", "b": None}], stream)
    assert stream.getvalue() == "=a,b\n=1+1,\n"


def test_no_rows() -> None:
    stream = io.StringIO()
    write_csv([], stream)
    assert stream.getvalue() == ""
    write_json([], stream)
    assert json.loads(stream.getvalue()) == []
