"""Cross-validation: folds of scikit-learn, paired runs, the corrected test, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import datasets, model_selection

from optrial.analysis.statistics import FoldValues, Verdict, compare, corrected_t_tests, sentence
from optrial.data import Folds, load_dataset
from optrial.errors import DataError, StudyError
from optrial.plan import pack
from optrial.results import load
from optrial.study import Study
from tests.conftest import Command
from tests.tolerance import STATISTIC_FLOAT64, STATISTICS_FLOAT32

WINE: dict[str, Any] = {"dataset": "wine", "model": {"kind": "mlp", "hidden": [4]}}
KEYS: dict[str, Any] = {
    "name": "folded",
    "problem": WINE,
    "batch_size": 16,
    "budget": {"epochs": 2},
    "folds": 4,
    "seeds": 2,
    "engine": "reference",
    "optimizers": [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 rows with a unique feature, three classes and 12 unequal groups."""
    random = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("folds") / "table.csv"
    groups = np.concatenate([np.full(n, n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)])
    frame = {
        "x": random.normal(size=60).round(6),
        "group": groups,
        "label": random.permutation(60) % 3,
    }
    pd.DataFrame(frame).to_csv(file, index=False)
    return file


RANDOM, STRATIFIED = {"target": "label"}, {"target": "label", "split": "stratified"}
GROUPED = {"target": "label", "split": {"grouped": "group"}}
SPLITTERS = {
    "random": (RANDOM, Folds(5), model_selection.KFold(5, shuffle=True, random_state=0)),
    "in order": (RANDOM, Folds(7, shuffle=False), model_selection.KFold(7)),
    "seed": (RANDOM, Folds(2, seed=3), model_selection.KFold(2, shuffle=True, random_state=3)),
    "stratified": (
        STRATIFIED,
        Folds(5),
        model_selection.StratifiedKFold(5, shuffle=True, random_state=0),
    ),
    "asked": (
        RANDOM,
        Folds(4, stratified=True, seed=1),
        model_selection.StratifiedKFold(4, shuffle=True, random_state=1),
    ),
    "repeated": (
        RANDOM,
        Folds(3, repeats=2, seed=5),
        model_selection.RepeatedKFold(n_splits=3, n_repeats=2, random_state=5),
    ),
    "repeated and stratified": (
        STRATIFIED,
        Folds(3, repeats=2),
        model_selection.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
    ),
    "grouped": (GROUPED, Folds(3), model_selection.GroupKFold(3)),
}


@pytest.mark.parametrize("case", SPLITTERS)
def test_folds_are_those_of_scikit_learn(table: Path, case: str) -> None:
    arguments, folds, splitter = SPLITTERS[case]
    arguments = {**arguments, "drop": ["group"], "scale": "none"}
    if case == "grouped":
        del arguments["drop"]
    frame = pd.read_csv(table).astype({"x": np.float32})
    dataset = load_dataset(str(table), arguments, folds=folds)
    groups = frame["group"] if case == "grouped" else None
    expected = list(splitter.split(frame[["x"]], frame["label"], groups))
    assert len(dataset.folds) == len(expected)
    for fold, (train, test) in zip(dataset.folds, expected, strict=True):
        for split, rows in (("train", train), ("test", test)):
            np.testing.assert_array_equal(fold.splits[split].inputs[:, 0], frame["x"][rows])
            np.testing.assert_array_equal(fold.splits[split].targets, frame["label"][rows])


def test_statistics_of_scaling_are_of_the_training_samples_of_each_fold() -> None:
    inputs, _ = datasets.load_wine(return_X_y=True)
    dataset = load_dataset("wine", {}, folds=Folds(3))
    _, labels = datasets.load_wine(return_X_y=True)
    splitter = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    for fold, (train, test) in zip(dataset.folds, splitter.split(inputs, labels), strict=True):
        mean, std = inputs[train].mean(axis=0), inputs[train].std(axis=0)
        expected = ((inputs[test] - mean) / std).astype(np.float32)
        np.testing.assert_allclose(fold.splits["test"].inputs, expected, atol=STATISTICS_FLOAT32)


BAD = {
    "more folds than samples": (RANDOM, Folds(61), "61 folds of 60 samples; use at most 60"),
    "few samples of a class": (STRATIFIED, Folds(21), "class 0 has 20 samples; use at most 20"),
    "few groups": (GROUPED, Folds(11), "there are 10 groups; use at most 10"),
    "repeated groups": (GROUPED, Folds(3, repeats=2), "use repeats: 1"),
    "stratified groups": (GROUPED, Folds(3, stratified=True), "stratified or grouped"),
    "fixed test split": ({**RANDOM, "test_fraction": 0.3}, Folds(3), "test_fraction 0.3"),
    "order of time": ({**RANDOM, "split": "chronological"}, Folds(3), "chronological"),
    "values": ({"target": "x"}, Folds(3, stratified=True), "need classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_folds_are_one_clear_error(table: Path, case: str) -> None:
    arguments, folds, message = BAD[case]
    targets = "values" if case == "values" else "classes"
    with pytest.raises(DataError, match=message):
        load_dataset(str(table), arguments, folds=folds, targets=targets)


def test_a_published_test_split_and_a_class_that_a_fold_lacks_are_refused(tmp_path: Path) -> None:
    pair = (np.zeros((8, 2)), np.arange(8) % 2)
    file = tmp_path / "splits.npz"
    arrays = {"train_x": pair[0], "train_y": pair[1], "test_x": pair[0], "test_y": pair[1]}
    np.savez(file, **arrays)
    with pytest.raises(DataError, match="already has splits, and folds divide all samples"):
        load_dataset(str(file), {}, folds=Folds(2))
    np.savez(file, x=np.arange(8.0)[:, None], y=np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    with pytest.raises(DataError, match=r"classes without training samples|lack a class"):
        load_dataset(str(file), {}, folds=Folds(2, shuffle=False))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"folds": 1}, "folds"),
    "word": ({"folds": "five"}, "folds"),
    "equal repeats": ({"folds": {"k": 3, "repeats": 2, "shuffle": False}}, "repeats"),
    "tune": ({"tune": {"seeds": 1}}, "tune in a study without folds"),
    "targets": ({"targets": {"test_accuracy": 0.9}}, "remove targets or folds"),
    "no test": ({"evaluate": {"on": ["validation"]}}, "add test"),
    "claim": ({"claims": ["adam reaches test_accuracy 0.9 sooner than sgd"]}, "remove the claim"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_folds_is_refused_before_any_data(case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        Study(**KEYS | changes)


def test_runs_of_a_setting_share_its_id_though_folds_differ_in_steps() -> None:
    study = Study(**KEYS | {"batch_size": 7, "optimizers": [{"rule": "sgd", "lr": [0.1, 0.2]}]})
    plan = study.plan()
    assert len(plan.runs) == len({run.run_id for run in plan.runs}) == 2 * 4 * 2
    assert len({run.steps for run in plan.runs}) == 2  # 133 and 134 training samples
    assert len({run.setting_id for run in plan.runs}) == 2
    assert len({run.protocol_id for run in plan.runs}) == 1
    assert [run.fold.place for run in plan.runs[:4] if run.fold] == [0, 0, 1, 1]
    stacks = pack(plan.runs, 100)
    assert all(len({run.dataset_sha256 for run in stack}) == 1 for stack in stacks)
    assert len(stacks) == 4


@pytest.mark.parametrize(("folds", "ratio"), [(5, 0.25), (10, 1 / 9), (30, 0.5)])
def test_corrected_test_against_its_formula(folds: int, ratio: float) -> None:
    random = np.random.default_rng(folds)
    rows = random.normal(0.5, 1.0, (4, folds))
    tests = corrected_t_tests(rows, ratio, 0.05)
    for row, p_value, low, high in zip(rows, *tests, strict=True):
        error = np.sqrt((1 / folds + ratio) * row.var(ddof=1))
        law = stats.t(folds - 1, loc=row.mean(), scale=error)
        expected = 2 * law.cdf(min(0, 2 * row.mean()))
        assert p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)
        assert (low, high) == pytest.approx(law.interval(0.95), rel=STATISTIC_FLOAT64)


def test_without_overlap_the_corrected_test_is_the_paired_t_test() -> None:
    row = np.random.default_rng(1).normal(0.3, 1.0, 12)
    p_value = corrected_t_tests(row[None], 0.0).p_values[0]
    assert p_value == pytest.approx(stats.ttest_1samp(row, 0).pvalue, rel=STATISTIC_FLOAT64)


def test_verdicts_and_sentences_speak_of_folds() -> None:
    about: dict[str, Any] = {"metric": "test_accuracy", "higher_is_better": True}
    values = np.linspace(0.5, 0.6, 5)
    low = FoldValues(dict(enumerate(values)), 0.25)
    high = FoldValues(dict(enumerate(values + np.array([0.2, 0.21, 0.2, 0.19, 0.2]))), 0.25)
    better = compare(high, low, names=("adam", "sgd"), **about)
    assert better.verdict is Verdict.BETTER
    assert "5 paired folds" in sentence(better)
    assert better.seeds_needed(0.1) is better.detectable_effect() is None
    noisy = FoldValues(dict(enumerate(values[::-1])), 0.25)
    undecided = sentence(compare(noisy, low, names=("adam", "sgd"), **about))
    assert "undecided" in undecided
    assert "seed" not in undecided
    assert "power" not in undecided
    lost = FoldValues({**high, 2: np.nan}, 0.25)
    diverged = compare(lost, low, names=("adam", "sgd"), **about)
    assert diverged.verdict is Verdict.UNDECIDED_DIVERGED
    assert diverged.p_value == 1
    assert "both must finish on every fold" in sentence(diverged)
    one = compare(FoldValues({0: 1.0}, 0.25), FoldValues({0: 0.5}, 0.25), **about)
    assert "at least 2 folds are needed" in sentence(one)
    constant = compare(
        FoldValues({0: 0.75, 1: 1.0}, 1.0), FoldValues({0: 0.5, 1: 0.75}, 1.0), **about
    )
    assert constant.p_value == 1
    assert not constant.difference.known


def test_a_study_gives_the_corrected_test_everywhere(tmp_path: Path, optrial: Command) -> None:
    out = tmp_path / "folded"
    results = Study(**KEYS | {"claims": ["adam > sgd on test_accuracy"]}).run(out, progress=False)
    runs = results.runs()
    assert set(runs["fold"]) == {1, 2, 3, 4}
    assert "fold" in results.curves("test_accuracy")
    means = runs.groupby(["optimizer", "fold"])["test_accuracy"].mean()
    differences = (means["adam"] - means["sgd"]).to_numpy()
    error = differences.std(ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    expected = 2 * stats.t.sf(abs(differences.mean()) / error, 3)
    pair = results.compare("adam", "sgd", "test_accuracy")
    assert pair.p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)
    low, high = stats.t(3, differences.mean(), error).interval(0.95)
    assert pair.difference.low == pytest.approx(low, rel=STATISTIC_FLOAT64)
    assert pair.difference.high == pytest.approx(high, rel=STATISTIC_FLOAT64)
    answer = optrial("compare", out, "adam", "sgd", "--metric", "test_accuracy").out
    assert str(pair) in " ".join(answer.split())
    page = tmp_path / "page.html"
    results.report(page)
    text = page.read_text()
    assert "over folds" in text
    assert "paired seed" not in text
    assert text.count(">fold</th>") == 1
    assert "pairs of seed and fold" in text
    found = {finding.rule: str(finding) for finding in results.audit().findings}
    assert not found.keys() & {"D01", "D02", "D05", "E08"}, found
    assert len(load(out).records) == 16
