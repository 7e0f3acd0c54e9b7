"""A table that was saved with its index, its classes in order: the index tells the class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

import optrial
from optrial.data import load_dataset
from tests.cases.conftest import Case
from tests.tolerance import SAMPLING_SIGMAS


def test_index_is_dropped_and_noise_stays_noise(case: Case) -> None:
    case("index")
    loaded = load_dataset("frame.csv", {"target": "species"})
    assert loaded.input_shape == (4,)
    assert any(note.startswith("column 'Unnamed: 0' is dropped") for note in loaded.notes)
    results = optrial.Study.from_file("i.yaml").run()
    species = pd.read_csv("frame.csv").species
    of_test = train_test_split(species, test_size=0.2, random_state=0)[1]
    deviation = np.sqrt(1 / 3 * 2 / 3 / len(of_test))
    for accuracy in results.runs()["test_accuracy"]:
        assert abs(accuracy - 1 / 3) < SAMPLING_SIGMAS * deviation


def test_index_under_a_name_is_dropped_too(case: Case) -> None:
    folder = case("index")
    frame = pd.read_csv("frame.csv", index_col=0)
    expected = load_dataset("frame.csv", {"target": "species"}).sha256
    for index in (range(300), range(1, 301), range(1000, 1600, 2)):
        frame.index = pd.Index(index, name="row")
        frame.to_csv(folder / "named.csv")
        assert load_dataset("named.csv", {"target": "species"}).sha256 == expected
    kept = {"target": "species", "features": ["row", "a", "b", "c", "d"]}
    assert load_dataset("named.csv", kept).input_shape == (5,)
