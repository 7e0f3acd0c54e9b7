"""Tables from the field, each trained on what pandas and scikit-learn make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import optrial as package
from optrial.data import load_dataset
from optrial.errors import DataError
from tests.cases.conftest import Case
from tests.conftest import Command
from tests.tolerance import METRIC_FLOAT32, STATISTICS_FLOAT32


def study(**problem: Any) -> package.Study:
    return package.Study(
        name="case",
        problem={"model": {"kind": "mlp", "hidden": [8]}, **problem},
        batch_size=32,
        budget={"epochs": 20},
        seeds=2,
        save="final",
        optimizers=[{"rule": "adam", "lr": 0.01}],
    )


def standardized(features: pd.DataFrame, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Test inputs and targets, by scikit-learn."""
    train, test, _, of_test = train_test_split(
        features.to_numpy(float), targets, test_size=0.2, random_state=0
    )
    return StandardScaler().fit(train).transform(test), np.asarray(of_test)


def outputs_of(results: package.Results, inputs: np.ndarray) -> list[np.ndarray]:
    """What each trained model makes of the inputs."""
    models = [results.model(run) for run in results.runs()["run_id"]]
    with torch.no_grad():
        return [model(torch.tensor(inputs, dtype=torch.float32)).numpy() for model in models]


def finals(results: package.Results, metric: str) -> list[float]:
    return results.runs()[metric].tolist()


def test_whole_target_is_a_value_for_mse(case: Case) -> None:
    case("csv")
    results = package.Study.from_file("age.yaml", ["save=final"]).run()
    frame = pd.read_csv("bom.csv", encoding="utf-8-sig")
    inputs, ages = standardized(frame.drop(columns="quality"), frame.quality)
    expected = [np.abs(outputs[:, 0] - ages).mean() for outputs in outputs_of(results, inputs)]
    assert finals(results, "test_mae") == pytest.approx(expected, rel=METRIC_FLOAT32)
    assert min(expected) > 1  # on nine one-hot columns it was 0.19


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("wine.csv", {"sep": ";"}, "quality"),
        ("euro.csv", {"sep": ";", "decimal": ","}, "y"),
        ("quality.tsv", {"encoding": "utf-8-sig"}, "quality"),
        ("bom.csv", {"encoding": "utf-8-sig"}, "quality"),
    ],
)
def test_ways_to_write_a_table(name: str, options: dict[str, Any], target: str, case: Case) -> None:
    case("csv")
    results = study(dataset={"name": name, "target": target}).run()
    frame = pd.read_csv(name, **options)
    classes, labels = np.unique(frame[target], return_inverse=True)
    inputs, of_test = standardized(frame.drop(columns=target), labels)
    outputs = outputs_of(results, inputs)
    assert outputs[0].shape[1] == len(classes)  # 3 to 8 are six classes, not nine
    expected = [(made.argmax(1) == of_test).mean() for made in outputs]
    assert finals(results, "test_accuracy") == pytest.approx(expected)


def test_question_marks_are_missing_values(case: Case) -> None:
    case("csv")
    loaded = load_dataset("mpg.csv", {"target": "mpg"}, targets="values")
    frame = pd.read_csv("mpg.csv", na_values="?")
    train, test = train_test_split(frame.drop(columns="mpg"), test_size=0.2, random_state=0)
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(train)
    scaler = StandardScaler().fit(imputer.transform(train)[:, :3])
    filled = imputer.transform(test)
    expected = np.hstack([scaler.transform(filled[:, :3]), filled[:, 3:]])
    assert loaded.splits["test"].inputs == pytest.approx(expected, abs=STATISTICS_FLOAT32)
    assert "'?' in horsepower is a missing value" in loaded.notes


def test_text_and_gaps(case: Case) -> None:
    case("csv")
    loaded = load_dataset("titanic.csv", {"target": "Survived"})
    frame = pd.read_csv("titanic.csv")
    train, test = train_test_split(frame, test_size=0.2, random_state=0)
    age = train.Age.median()
    numbers = ["Pclass", "Age", "Fare"]
    scaler = StandardScaler().fit(train[numbers].fillna({"Age": age}).to_numpy())
    cities = pd.Categorical(test.Embarked.fillna("missing"), ["C", "Q", "S", "missing"])
    expected = np.hstack(
        [
            scaler.transform(test[numbers].fillna({"Age": age}).to_numpy()),
            pd.get_dummies(test.Sex).to_numpy(float),
            pd.get_dummies(cities).to_numpy(float),
            test[["Age"]].isna().to_numpy(float),
        ]
    )
    assert loaded.splits["test"].inputs == pytest.approx(expected, abs=STATISTICS_FLOAT32)
    dropped = [one.name for one in loaded.summary.columns if one.use == "dropped"]
    assert dropped == ["PassengerId", "Name"]


def test_months_are_refused_with_a_hint(case: Case) -> None:
    case("csv")
    with pytest.raises(DataError, match=r"'Month' holds dates such as '1949-01'.*drop: \[Month\]"):
        load_dataset("air.csv", {"target": "Passengers"}, targets="values")
    frame = pd.read_csv("air.csv").assign(number=lambda frame: frame.index // 2)
    frame.to_csv("numbered.csv", index=False)
    arguments = {"target": "Passengers", "drop": ["Month"], "split": "chronological"}
    loaded = load_dataset("numbered.csv", arguments, targets="values")
    size = len(loaded.splits["test"].targets)
    assert np.array_equal(loaded.splits["test"].targets[:, 0], frame.Passengers[-size:])


def test_plan_shows_what_was_read(case: Case, optrial: Command) -> None:
    case("csv")
    Path("t.yaml").write_text(
        "name: t\nproblem: {dataset: {name: titanic.csv, target: Survived}, model: mlp}\n"
        "budget: {epochs: 1}\noptimizers: [{rule: adam, lr: 0.01}]\n"
    )
    _, output, notes = optrial("plan", "t.yaml")
    for words in (
        ("PassengerId", "number", "dropped", "it numbers the rows"),
        ("Name", "text", "dropped", "240 different texts in 240 rows"),
        ("Embarked", "text", "feature", "one-hot, 3 categories + missing (18)"),
        ("Age", "number", "feature", "49 missing: median + indicator"),
        ("Survived", "number", "target", "classes"),
    ):
        assert any(all(word in line for word in words) for line in output.splitlines())
    assert "column 'PassengerId' is dropped: it numbers the rows; name it in features" in notes
    Path("s.yaml").write_text(
        "name: s\nproblem: {dataset: {name: salary.csv, target: Salary}, model: mlp, loss: mse}\n"
        "budget: {epochs: 1}\noptimizers: [{rule: adam, lr: 0.01}]\n"
    )
    _, output, notes = optrial("plan", "s.yaml")
    salaries = train_test_split(pd.read_csv("salary.csv").Salary, test_size=0.2, random_state=0)[0]
    assert f"{salaries.mean():,.5g}" in output
    assert "'Salary' has a standard deviation of" in notes
    assert "standardize_targets: true" in notes
