from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from operator import itemgetter
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optrial.records import Curve
from optrial.records.encoding import (
    PART_OF_A_CURVE,
    decode_checkpoint,
    decode_curve,
    encode_checkpoint,
    encode_curve,
    strict,
    value_in_json,
)
from tests.records.samples import curve, same_bits

ANY_BITS = hnp.arrays(np.uint64, st.integers(1, 50)).map(lambda bits: bits.view(np.float64))
INT64 = st.integers(-(2**63), 2**63 - 1)


part_of = itemgetter(*PART_OF_A_CURVE)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    values = draw(ANY_BITS | hnp.arrays(np.float64, st.integers(1, 50)))
    steps = draw(st.sets(INT64, min_size=len(values), max_size=len(values)))
    return Curve(np.array(sorted(steps)), values)


@given(curves())
def test_a_curve_comes_back_bit_for_bit(curve: Curve) -> None:
    back = decode_curve([part_of(encode_curve(curve))])
    assert same_bits(back.steps, curve.steps)
    assert same_bits(back.values, curve.values)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements={"allow_nan": False}))
def test_float32_values_take_four_bytes(values: np.ndarray) -> None:
    columns = encode_curve(Curve(np.arange(len(values)), values))
    assert len(zlib.decompress(columns["values_blob"])) == 4 * len(values)


def test_regular_steps_take_no_room() -> None:
    assert len(encode_curve(curve(1, [0.0] * 100_000))["steps_blob"]) < 2_000


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        hnp.arrays(
            hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)) | hnp.integer_dtypes(),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
    )
)
def test_a_checkpoint_comes_back_bit_for_bit(arrays: dict[str, np.ndarray]) -> None:
    back = decode_checkpoint(encode_checkpoint(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        assert same_bits(back[name], array)


def test_a_checkpoint_is_an_npz_file(tmp_path) -> None:
    arrays = {"params/0.weight": np.arange(6.0).reshape(2, 3).T, "file": np.array(3)}
    file = tmp_path / "checkpoint.npz"
    file.write_bytes(b"".join(encode_checkpoint(arrays)))
    with np.load(file, allow_pickle=False) as loaded:
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)


def with_a_large_header(file: BinaryIO, array: np.ndarray) -> None:
    """Save the header of an array without its numbers."""
    part = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(part, header)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("array.npy", part.getvalue())


def test_a_large_checkpoint_is_cut(monkeypatch) -> None:
    monkeypatch.setattr("optrial.records.encoding.PART_BYTES", 1000)
    array = np.random.default_rng(0).normal(size=999)
    parts = list(encode_checkpoint({"array": array}))
    assert len(parts) > 7
    assert max(map(len, parts)) == 1000
    assert same_bits(decode_checkpoint(parts)["array"], array)


@pytest.mark.parametrize("changed", ["values_blob", "steps_blob"])
@pytest.mark.parametrize("count", [10**9, 10**6, 99, 1, -1, 2**62, 2**63])
def test_a_curve_that_unpacks_to_more_than_it_says_is_refused(changed: str, count: int) -> None:
    """The rest is never unpacked."""
    row = encode_curve(curve(1, [0.5] * 100))
    large = zlib.compress(bytes(10**7))
    row |= {changed: large, "count": count}
    tracemalloc.start()
    with pytest.raises(ValueError, match="bytes"):
        decode_curve([part_of(row)])
    assert tracemalloc.get_traced_memory()[1] < max(32 * count, 10**6) or count > 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez_compressed, with_a_large_header])
def test_a_checkpoint_that_unpacks_to_more_than_is_stored_is_refused(
    save: Callable[..., None],
) -> None:
    file = io.BytesIO()
    save(file, array=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"is compressed|where its header says"):
        decode_checkpoint([file.getvalue()])


def test_python_objects_are_refused_in_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        list(encode_checkpoint({"array": np.array([{}], object)}))


def test_strict_json_holds_what_training_code_puts_in() -> None:
    given_ = {
        "loss": float("nan"),
        "seconds": np.float32(0.5),
        "seeds": np.arange(2),
        "betas": (0.9, float("inf")),
        3: {"deep": [np.bool_(True), None]},
    }
    assert json.loads(json.dumps(strict(given_), allow_nan=False)) == {
        "loss": None,
        "seconds": 0.5,
        "seeds": [0, 1],
        "betas": [0.9, None],
        "3": {"deep": [True, None]},
    }


@given(st.dictionaries(st.text('ab"\\: [é', max_size=6), st.lists(st.integers() | st.none())))
def test_one_value_of_an_object_is_that_of_the_whole(values: dict[str, list[int | None]]) -> None:
    text = json.dumps(values)
    for name in [*values, "a", '"', ""]:
        assert value_in_json(text, name) == json.loads(text).get(name)
