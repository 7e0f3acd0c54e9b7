from __future__ import annotations

import numpy as np
import pytest

from optrial.records import Curve


@pytest.mark.parametrize(
    ("steps", "values", "complaint"),
    [
        ([1, 2], [0.5], "as many steps as values"),
        ([[1]], [[0.5]], "as many steps as values"),
        ([1, 1], [0.5, 0.5], "increase"),
        ([2, 1], [0.5, 0.5], "increase"),
    ],
)
def test_a_malformed_curve_is_refused(steps: list, values: list, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Curve(np.array(steps), np.array(values))


def test_a_curve_has_the_promised_types() -> None:
    curve = Curve(np.array([1, 2], np.int32), np.array([0.5, 1], np.float32))
    assert (curve.steps.dtype, curve.values.dtype, len(curve)) == (np.int64, np.float64, 2)
