from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from optrial.analysis import missing_values, runs_frame, summarize
from optrial.records import Record
from optrial.spec import Directions, RunFacts, Selection, Status
from tests.specs import SPEC, STACK
from tests.tolerance import GRADIENT_FLOAT64

ACCURACY = Selection("validation_accuracy", "higher")


def record(
    optimizer: str, setting: str, seed: int, status: Status = Status.DONE, **metrics: float | None
) -> Record:
    return Record(
        run_id=f"{optimizer}-{setting}-{seed}",
        problem="digits",
        setting=setting,
        spec=replace(
            SPEC,
            optimizer=optimizer,
            rule=optimizer,
            hyperparameters={"lr": 0.1, "other": setting},
            seed=seed,
        ),
        stack=STACK,
        status=status,
        metrics=metrics,
    )


def runs(setting: str, values: Mapping[int, float | None], metric: str) -> list[Record]:
    return [
        record(
            "a", setting, seed, Status.DIVERGED if value is None else Status.DONE, **{metric: value}
        )
        for seed, value in values.items()
    ]


def test_metrics_without_a_value_are_said_once_per_reason() -> None:
    records = [
        replace(
            record("a", setting, seed, Status.DONE),
            reason="; ".join(reasons.values()),
            facts=RunFacts(not_finite=reasons),
        )
        for setting, seed, reasons in [
            ("s", 0, {"test_f1": "it is nan", "test_auc": "it is nan"}),
            ("s", 1, {"test_f1": "it is nan", "test_auc": "it is nan"}),
            ("t", 0, {"test_f1": "it is inf"}),
            ("t", 1, {}),
        ]
    ]
    assert missing_values(records) == [
        "test F1 and test auc have no value in 2 runs of a s: it is nan",
        "test F1 has no value in 1 run of a t: it is inf",
    ]


def test_runs_without_an_epoch_are_named_where_others_have_one() -> None:
    name = "train_loss_epoch"
    means: list[dict[str, float | None]] = [{name: 0.5}, {name: None}, {}]
    records = [record("a", "s", seed, Status.DONE, **mean) for seed, mean in enumerate(means)]
    assert missing_values(records) == [
        "training loss (epoch mean) has no value in 2 runs of a s: trained for less than an epoch"
    ]
    assert not missing_values(records[1:])
    assert not missing_values([record("a", "s", 0, Status.DIVERGED), records[0]])


def test_mean_and_sample_deviation() -> None:
    values = [0.1, 0.4, 0.7, 0.2]
    (summary,) = summarize(runs("s", dict(enumerate(values)), "test_accuracy"))
    spread = summary.metrics["test_accuracy"]
    assert spread.mean == pytest.approx(np.mean(values), rel=GRADIENT_FLOAT64)
    assert spread.deviation == pytest.approx(np.std(values, ddof=1), rel=GRADIENT_FLOAT64)
    assert (spread.count, summary.runs) == (4, 4)


def test_one_run_has_no_deviation() -> None:
    (summary,) = summarize(runs("s", {0: 0.5}, "test_accuracy"))
    assert math.isnan(summary.metrics["test_accuracy"].deviation)


def test_failures_are_counted_and_never_averaged() -> None:
    (summary,) = summarize(runs("s", {0: 0.5, 1: None, 2: 0.7}, "test_accuracy"))
    assert summary.statuses == {Status.DONE: 2, Status.DIVERGED: 1}
    assert summary.metrics["test_accuracy"].count == 2
    (hopeless,) = summarize(runs("s", {0: None}, "test_accuracy"))
    assert hopeless.metrics == {}


def test_the_best_setting_is_chosen_on_validation() -> None:
    records = runs("low", {0: 0.5, 1: 0.6}, "validation_accuracy")
    records += runs("high", {0: 0.8, 1: 0.9}, "validation_accuracy")
    assert [s.setting for s in summarize(records, ACCURACY) if s.best] == ["high"]


def test_a_lower_validation_loss_is_better() -> None:
    records = runs("low", {0: 0.5}, "validation_loss") + runs("high", {0: 0.8}, "validation_loss")
    loss = Selection("validation_loss", "lower")
    assert [s.setting for s in summarize(records, loss) if s.best] == ["low"]


def test_a_setting_with_a_diverged_run_is_not_the_best() -> None:
    records = runs("safe", {0: 0.5, 1: 0.6}, "validation_accuracy")
    records += runs("risky", {0: 0.9, 1: None}, "validation_accuracy")
    assert [s.setting for s in summarize(records, ACCURACY) if s.best] == ["safe"]


def test_a_setting_with_a_run_without_a_value_is_not_the_best() -> None:
    records = runs("safe", {0: 0.5, 1: 0.6}, "validation_accuracy")
    records += [record("a", "risky", s, validation_accuracy=v) for s, v in ((0, 0.9), (1, None))]
    assert [s.setting for s in summarize(records, ACCURACY) if s.best] == ["safe"]


def test_the_test_split_chooses_nothing() -> None:
    assert Directions().selection(["test_accuracy", "train_loss"]) is None
    records = runs("low", {0: 0.5}, "test_accuracy") + runs("high", {0: 0.8}, "test_accuracy")
    assert not any(summary.best for summary in summarize(records))


def test_frame_of_runs_has_clean_types() -> None:
    records = runs("s", {0: 0.5, 1: None}, "test_accuracy")
    frame = runs_frame(records)
    assert frame["test_accuracy"].dtype == "float64"
    assert frame["seed"].dtype == "int64"
    assert frame["status"].tolist() == ["done", "diverged"]
    assert frame["lr"].tolist() == [0.1, 0.1]
    assert frame["test_accuracy"].isna().tolist() == [False, True]


def test_frame_of_no_runs_is_empty() -> None:
    assert len(runs_frame([])) == 0
