"""Directions of metrics are those of the catalogue and those that a study declares."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optrial.config import StudyFile
from optrial.spec import (
    METRICS,
    PROBES,
    TRAINING_SECONDS,
    Direction,
    Directions,
    MetricName,
    Selection,
    SettingScore,
    catalogued,
    ordered_alike,
)

CATALOGUE = Directions()
RECORDED = ["test_{}", "validation_{}", "train_eval_{}", "train_{}", "train_{}_epoch"]
MISLEADING = ["lossless", "error_free", "accuracy", "my_accuracy", "rmse", "f1", "loss_ratio"]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("written", RECORDED)
def test_a_metric_of_the_catalogue_has_its_direction_on_every_split(
    name: str, written: str
) -> None:
    assert CATALOGUE.better(written.format(name)) == METRICS[name].better
    assert CATALOGUE.percent(written.format(name)) == METRICS[name].percent


def test_losses_and_times_are_better_when_lower() -> None:
    for metric in ("train_loss", "train_loss_epoch", "test_loss", TRAINING_SECONDS):
        assert CATALOGUE.better(metric) == "lower"
        assert not CATALOGUE.percent(metric)
    assert CATALOGUE.better("test_top_5_accuracy") == "higher"
    assert CATALOGUE.percent("test_top_5_accuracy")


@pytest.mark.parametrize("metric", [*PROBES, "gradient_norm/layer", "test_unheard_of", "seconds"])
def test_what_nothing_declares_has_no_direction(metric: str) -> None:
    assert CATALOGUE.better(metric) is None


@pytest.mark.parametrize("label", MISLEADING)
@pytest.mark.parametrize("better", ["lower", "higher", None])
@pytest.mark.parametrize("written", RECORDED)
def test_the_name_of_a_metric_of_the_users_tells_nothing(
    label: str, better: Direction | None, written: str
) -> None:
    metrics = [{"name": f"m:{label}", "better": better}]
    study = {"problem": {"metrics": metrics}}
    assert Directions.of(study).better(written.format(label)) == better
    assert not Directions.of(study).percent(written.format(label))


NAMES = {
    "train_loss": MetricName("loss", "train"),
    "train_loss_epoch": MetricName("loss", "train", epoch_mean=True),
    "train_eval_top_5_accuracy": MetricName("top_5_accuracy", "train_eval"),
    "validation_f1_macro": MetricName("f1_macro", "validation"),
    "test_loss_epoch": MetricName("loss_epoch", "test"),
    "train_eval_mine_epoch": MetricName("mine_epoch", "train_eval"),
    "gradient_norm/layer.0": MetricName("gradient_norm/layer.0"),
    "training_seconds": MetricName("training_seconds"),
    "test": MetricName("test"),
}


@pytest.mark.parametrize(("text", "name"), NAMES.items())
def test_the_text_of_a_name_is_read_and_written(text: str, name: MetricName) -> None:
    assert MetricName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize("label", [*MISLEADING, "eval_accuracy", "test_score", "mean_epoch"])
def test_every_name_of_a_users_metric_is_read_as_it_was_written(label: str) -> None:
    for name in MetricName.possible(label):
        assert MetricName.parse(str(name), [label]) == name


def test_names_tell_evaluations_from_batches_and_probes() -> None:
    read = MetricName.parse
    evaluated = ["train_eval_loss", "validation_f1", "test_loss"]
    assert [text for text in [*NAMES, *evaluated] if read(text).of_batches] == [*NAMES][:2]
    assert all(read(text).evaluated for text in evaluated)
    assert not any(read(text).evaluated for text in ["train_f1_epoch", "gradient_norm", "test"])
    assert [read(text).of_training for text in evaluated] == [True, False, False]
    assert [MetricName.evaluation("f1", split).split for split in ("train", "test")] == [
        "train_eval",
        "test",
    ]
    assert read("gradient_norm/layer.0").probe == "gradient_norm"
    assert read("test_gradient_norm").probe is None
    assert read("training_seconds").probe is None


def test_a_setting_with_more_runs_that_succeeded_has_the_better_score() -> None:
    scores = [SettingScore.of(s) for s in ([None, None], [9.0, None], [1.0, 2.0], [1.0, 3.0])]
    assert scores == sorted(scores)
    assert scores[-1] == (2, 2.0)


def test_a_batch_metric_of_the_users_is_no_evaluation_of_the_training_split() -> None:
    directions = Directions({"eval_accuracy": None})
    assert directions.better("train_eval_accuracy") is None
    assert not directions.percent("train_eval_accuracy")


def test_only_accuracies_of_the_catalogue_are_shown_in_percent() -> None:
    shown = {name for name, metric in METRICS.items() if metric.percent}
    assert shown == {"accuracy", "balanced_accuracy"}
    top = catalogued("top_3_accuracy")
    assert top is not None
    assert top.percent


def study(metrics: list[Any] | None, **tune: Any) -> StudyFile:
    keys: dict[str, Any] = {
        "problem": {"dataset": "digits", "metrics": metrics},
        "budget": {"steps": 1},
        "optimizers": [{"rule": "sgd"}],
    }
    return StudyFile(**keys, **({"tune": tune} if tune else {}))


MINE: dict[str, Any] = {"name": "m:mine", "better": "lower"}


@pytest.mark.parametrize(
    ("metrics", "tune", "selection"),
    [
        (None, {}, ("validation_accuracy", "higher")),
        (["f1", "accuracy"], {}, ("validation_accuracy", "higher")),
        (["f1"], {}, ("validation_loss", "lower")),
        ([MINE], {}, ("validation_loss", "lower")),
        (["m:accuracy"], {}, ("validation_loss", "lower")),
        ([{"name": "m:accuracy", "better": "lower"}], {}, ("validation_loss", "lower")),
        ([MINE, "accuracy"], {"select": "validation_mine"}, ("validation_mine", "lower")),
        (["accuracy"], {"select": "validation_loss"}, ("validation_loss", "lower")),
        (["m:mine"], {"select": "validation_mine"}, None),
    ],
)
def test_one_metric_selects_in_the_study_and_in_the_store(
    metrics: list[Any] | None, tune: dict[str, Any], selection: tuple[str, Direction] | None
) -> None:
    written = study(metrics, **tune)
    stored = written.model_dump(mode="json")
    assert written.directions == Directions.of(stored)
    assert (
        written.selection
        == Directions.of(stored).selection(written.validation_metrics)
        == selection
    )


def test_nothing_selects_without_a_validation_split() -> None:
    assert CATALOGUE.selection(["test_accuracy", "test_loss", "train_loss"]) is None


@given(st.floats())
def test_a_value_that_is_not_finite_has_no_score(value: float) -> None:
    for better, sign in (("higher", 1), ("lower", -1)):
        score = Selection("validation_loss", better).score(value)  # type: ignore[arg-type]
        assert score == (sign * value if math.isfinite(value) else None)
    assert Selection("validation_loss", "lower").score(None) is None


def test_a_direction_can_be_declared_later_but_not_reversed() -> None:
    directions = Directions({"mine": None})
    assert directions.declaring("test_mine", "lower").better("validation_mine") == "lower"
    assert directions.declaring("test_loss", "lower") == directions
    with pytest.raises(ValueError, match="test_loss is better when lower, not when higher"):
        directions.declaring("test_loss", "higher")


@pytest.mark.parametrize(
    ("first", "second", "loss", "alike"),
    [
        ("loss", "bits_per_byte", "cross_entropy", True),
        ("perplexity", "bits_per_token", "focal", True),
        ("log_loss", "loss", "cross_entropy", True),
        ("rmse", "loss", "mse", True),
        ("rmsle", "msle", "mse", True),
        ("mine", "mine", "mse", True),
        ("loss", "loss", "", True),
        ("loss", "accuracy", "cross_entropy", False),
        ("loss", "perplexity", "", False),  # with label smoothing, for example
        ("loss", "perplexity", "focal", False),
        ("mse", "mae", "mse", False),
        ("mse", "msle", "mse", False),
    ],
)
def test_metrics_that_increase_with_each_other(
    first: str, second: str, loss: str, alike: bool
) -> None:
    assert ordered_alike(first, second, loss) == ordered_alike(second, first, loss) == alike
