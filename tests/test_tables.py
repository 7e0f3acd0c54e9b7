"""Studies of four lines on real tables give the inputs and scores of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import optrial
from tests.pages import TABLES, lay_out_tables, read_blocks
from tests.tolerance import LIKE_SCIKIT_LEARN, STATISTICS_FLOAT32

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "tables.md"
SEEDS = 3
NETWORK = {"hidden_layer_sizes": (100,), "batch_size": 128, "alpha": 0, "tol": 0}
"""The defaults of a study, where scikit-learn has others."""


class Table(NamedTuple):
    """A table as a pandas user reads it.

    Attributes:
        read: returns the rows, with NaN for missing values.
        target: name of the column to predict.
        metric: of the study.
    """

    read: Callable[[], pd.DataFrame]
    target: str
    metric: str


def census() -> pd.DataFrame:
    return pd.read_csv(
        TABLES / "census.csv.gz", header=None, skipinitialspace=True, na_values="?"
    ).rename(columns=lambda column: str(column + 1))


def housing() -> pd.DataFrame:
    return pd.read_csv(TABLES / "housing.csv.gz", skipinitialspace=True)


def wine() -> pd.DataFrame:
    return pd.read_csv(TABLES / "winequality-white.csv", sep=";")


def letters() -> pd.DataFrame:
    return pd.read_csv(TABLES / "letters.csv.gz", header=None).rename(
        columns=lambda column: str(column + 1)
    )


LONG = {"housing.yaml", "letters.yaml", "wine.yaml"}
STUDIES = {
    "census.yaml": Table(census, "15", "accuracy"),
    "housing.yaml": Table(housing, "Median House Value", "r2"),
    "wine.yaml": Table(wine, "quality", "r2"),
    "letters.yaml": Table(letters, "1", "accuracy"),
}


def text(study: str) -> str:
    """Return a study of the page, without the comment that names it."""
    blocks = read_blocks(PAGE.read_text(encoding="utf-8"))
    return next(block.text for block in blocks if block.file == study).partition("\n")[2]


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a study, in a folder that holds the tables."""
    lay_out_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def test_four_lines_are_enough(study: str) -> None:
    assert len(text(study).splitlines()) == 4


def test_inputs_are_those_of_scikit_learn(study: str) -> None:
    data = optrial.Study(**yaml.safe_load(text(study))).load_data()
    train, test = rows_of(STUDIES[study])
    encoder = encoded(train.drop(columns=STUDIES[study].target)).fit(train)
    for split, rows in {"train": train, "test": test}.items():
        assert_same_columns(data.splits[split].inputs, encoder.transform(rows))


@pytest.mark.parametrize(
    "study",
    [pytest.param(s, marks=[pytest.mark.slow] * (s in LONG)) for s in STUDIES],
    indirect=True,
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # it stops where the study stops
def test_scores_are_those_of_scikit_learn(study: str) -> None:
    table, keys = STUDIES[study], yaml.safe_load(text(study))
    runs = optrial.Study(**keys, seeds=SEEDS).run().runs()
    assert list(runs["status"]) == ["done"] * SEEDS
    expected = scikit_learn(table, keys["budget"]["epochs"])
    assert runs[f"test_{table.metric}"].mean() == pytest.approx(expected, abs=LIKE_SCIKIT_LEARN)


def rows_of(table: Table) -> list[pd.DataFrame]:
    """Return the rows for training and for testing that a study takes."""
    return train_test_split(table.read(), test_size=0.2, random_state=0)


def scikit_learn(table: Table, epochs: int) -> float:
    """Return the mean test score of scikit-learn's networks."""
    train, test = rows_of(table)
    encoder = encoded(train.drop(columns=table.target)).fit(train)
    inputs, test_inputs = encoder.transform(train), encoder.transform(test)
    targets, test_targets = train[table.target], test[table.target]
    network = MLPClassifier
    if table.metric == "r2":
        network = MLPRegressor
        mean, std = targets.mean(), targets.std(ddof=0)
        targets, test_targets = (targets - mean) / std, (test_targets - mean) / std
    scores = [
        network(**NETWORK, max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
        .fit(inputs, targets)
        .score(test_inputs, test_targets)
        for seed in range(SEEDS)
    ]
    return float(np.mean(scores))


def encoded(features: pd.DataFrame) -> ColumnTransformer:
    """Return imputed and standardized numbers, where these were missing, and one-hot text."""
    numbers = list(features.select_dtypes("number"))
    texts = [name for name in features if name not in numbers]
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (MissingIndicator(), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
    )


def assert_same_columns(inputs: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    """Compare features in whatever order they are."""
    assert inputs.shape == expected.shape
    np.testing.assert_allclose(in_order(inputs), in_order(expected), atol=STATISTICS_FLOAT32)


def in_order(inputs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sort columns by their first rows, and equal ones by the next."""
    return inputs[:, np.lexsort(np.round(inputs, 3)[::-1])]
