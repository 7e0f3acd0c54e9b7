"""Notes of `optrial plan` on the scale of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optrial.cli.data_summary import data_notes
from optrial.data import load_dataset
from tests.conftest import Command

LABELS = np.arange(40) % 2
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("inputs", "note"),
    [
        (PIXELS, "inputs have a mean of 1"),
        (PIXELS / 255, ""),
        (PIXELS.astype(np.float64) * 1e-60, "all inputs are 0"),
    ],
)
def test_inputs_of_an_unusual_scale_are_noted(
    inputs: np.ndarray, note: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", X=inputs, y=LABELS)
    dataset = load_dataset(str(tmp_path / "a.npz"), {"split": "stratified"})
    notes = [line for line in data_notes(dataset) if "inputs" in line and "same" not in line]
    assert notes[0].startswith(note) if note else not notes
    scaled = load_dataset(str(tmp_path / "a.npz"), {"scale": "standardize"})
    assert not [line for line in data_notes(scaled) if "learning rates" in line]


def test_data_without_other_splits_is_evaluated_on_none(optrial: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=PIXELS, y_train=LABELS)
    (tmp_path / "s.yaml").write_text(
        f"problem: {{dataset: {tmp_path}/a.npz, model: mlp}}\nbatch_size: 20\n"
        "budget: {steps: 2}\noptimizers: [{rule: sgd}]\nname: s\n"
    )
    assert "none: neither a validation nor a test split" in optrial("plan", tmp_path / "s.yaml").out
