from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optrial.analysis import wide
from optrial.analysis.bands import make_band, seed_intervals
from optrial.analysis.wide import wide_curves, write_parquet
from optrial.errors import StoreError
from optrial.records import Curve, Record
from optrial.spec import Status
from tests.report.studies import made_up_curves, made_up_records, made_up_view
from tests.specs import changed
from tests.tolerance import GRADIENT_FLOAT64


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def curves(*values: list[float]) -> dict[str, Curve]:
    return {
        str(i): Curve(np.arange(1, len(series) + 1), np.array(series))
        for i, series in enumerate(values)
    }


def test_curves_that_no_run_recorded_are_not_read() -> None:
    def read(metric: str) -> dict[str, Curve]:
        raise AssertionError(metric)

    view = replace(made_up_view(made_up_records()), read_curves=read)
    assert view.curves("gradient_norm") == {}
    with pytest.raises(AssertionError, match=view.metrics[0]):
        view.curves(view.metrics[0])


def test_a_band_is_the_mean_at_each_step() -> None:
    band = make_band(curves([1.0, 2.0, 3.0], [3.0, 2.0, 7.0]), generator())
    assert band.mean.tolist() == [2.0, 2.0, 5.0]
    assert band.steps.tolist() == [1, 2, 3]
    assert (band.low <= band.mean).all()
    assert (band.high >= band.mean).all()
    assert band.window == 1


@pytest.mark.parametrize(
    ("select", "reported"),
    [
        (None, "test_accuracy"),
        ("validation_accuracy", "test_accuracy"),
        ("validation_loss", "test_loss"),
    ],
)
def test_the_metric_that_selects_is_reported_on_the_test_split(
    select: str | None, reported: str
) -> None:
    losses = {"validation_loss": 0.2, "test_loss": 0.3}
    records = tuple(replace(r, metrics={**r.metrics, **losses}) for r in made_up_records())
    study = {"tune": {"select": select}}
    view = replace(made_up_view(made_up_records(), study, ""), records=records)
    assert view.metric == reported


def test_intervals_end_at_the_bounds_of_a_metric() -> None:
    accuracies = [0.02, 0.5, 0.99], [0.3, 0.6, 0.7]
    free = make_band(curves(*accuracies), generator())
    assert free.low[0] < 0
    assert free.high[2] > 1
    band = make_band(curves(*accuracies), generator(), bounds=(0.0, 1.0))
    assert (band.low[0], band.high[2]) == (0.0, 1.0)
    assert (band.low[1], band.high[1]) == (free.low[1], min(free.high[1], 1.0))


def test_bands_of_an_accuracy_stay_within_it() -> None:
    view = made_up_view(made_up_records())
    (problem,) = view.problems
    extreme = {
        record.run_id: curves([float(place % 2)])["0"]
        for place, record in enumerate(problem.reported)
    }
    accuracies = problem.bands("test_accuracy", extreme, 20)
    losses = problem.bands("test_loss", extreme, 20)
    assert all(0 <= band.low[0] <= band.high[0] <= 1 for band in accuracies.values())
    assert any(band.low[0] < 0 for band in losses.values())


def test_the_mean_ends_where_a_run_does() -> None:
    band = make_band(curves([1.0, 2.0, 3.0], [3.0, 4.0], [2.0, np.inf]), generator())
    assert band.mean[0] == 2.0
    assert np.isnan(band.mean[1:]).all()
    np.testing.assert_array_equal(band.values[0], [1.0, 2.0, 3.0])


def test_long_curves_become_means_of_windows() -> None:
    values = np.arange(1.0, 11.0).tolist()
    band = make_band(curves(values), generator(), points=4)
    assert band.window == 3
    assert band.steps.tolist() == [1, 4, 7, 10]
    assert band.mean.tolist() == [1.0, 3.0, 6.0, 9.0]
    assert np.isnan(band.low).all()


def test_equal_seeds_have_an_interval_without_width() -> None:
    # The mean of three times 0.1 is not 0.1 in floating point.
    (interval,) = seed_intervals(np.full((1, 3), 0.1), generator())
    assert (interval.estimate, interval.low, interval.high) == (0.1, 0.1, 0.1)


def test_one_setting_of_each_optimizer_contends_chosen_on_validation() -> None:
    (problem,) = made_up_view(made_up_records()).problems
    assert [(c.name, c.setting) for c in problem.contenders] == [
        ("sgd", "lr=0.1"),
        ("adam", "lr=0.1"),
    ]
    assert problem.comparisons is not None
    assert len(problem.pairs) == 1
    assert problem.pairs[0].first == problem.comparisons.order[0]


def test_without_validation_every_setting_contends() -> None:
    records = [
        replace(record, metrics={"test_accuracy": record.metrics["test_accuracy"]})
        for record in made_up_records()
    ]
    (problem,) = made_up_view(records).problems
    names = [contender.name for contender in problem.contenders]
    assert names == ["sgd lr=0.01", "sgd lr=0.1", "adam lr=0.01", "adam lr=0.1"]


def test_diverged_runs_are_compared_as_worst_and_unfinished_ones_not_at_all() -> None:
    records = made_up_records(seeds=4, rates=(0.1,), diverged=(0,))
    records[1] = replace(records[1], status=Status.INTERRUPTED, metrics={})
    sgd, adam = made_up_view(records).problems[0].contenders
    assert math.isnan(sgd.values("test_accuracy")[0])
    assert sorted(sgd.values("test_accuracy")) == [0, 2, 3]
    assert sorted(adam.values("test_accuracy")) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (made_up_records(["adam"]), "test accuracy; there is nothing to compare it with"),
        (made_up_records(diverged=range(12)), "diverged"),
        (made_up_records(status=Status.PLANNED, metrics={}), "there is nothing to compare yet"),
        (made_up_records([f"o{i}" for i in range(41)], (0.1,), 2), "41 settings contend, too many"),
    ],
    ids=["alone", "diverged", "planned", "many"],
)
def test_why_nothing_is_compared(records: list[Record], why: str) -> None:
    (problem,) = made_up_view(records).problems
    assert why in problem.not_compared
    assert problem.comparisons is None
    assert problem.pairs == ()


def test_rates_show_means_and_how_many_runs_finished() -> None:
    records = made_up_records(["adam"], (0.1, 0.01), 3, diverged=(0, 3, 4, 5))
    (line,) = made_up_view(records).problems[0].sensitivity("test_accuracy")
    low, high = line.points
    assert (low.rate, low.done, low.runs) == (0.01, 0, 3)
    assert math.isnan(low.interval.estimate)
    finished = [r.metrics["test_accuracy"] for r in records[1:3]]
    assert high.interval.estimate == pytest.approx(np.mean(finished), rel=GRADIENT_FLOAT64)  # type: ignore[arg-type]
    assert (high.rate, high.done, high.runs) == (0.1, 2, 3)


def test_a_rate_that_was_tried_with_other_values_shows_the_best_of_them() -> None:
    records = made_up_records(["adam"], (0.01, 0.1), 2)
    high = {"test_accuracy": 0.99}
    better = [
        changed(
            r,
            run_id=f"b{r.run_id}",
            setting="lr=0.01 beta1=0.5",
            hyperparameters={"lr": 0.01, "beta1": 0.5},
            metrics=dict(high),
        )
        for r in records[:2]
    ]
    (line,) = made_up_view([*records, *better]).problems[0].sensitivity("test_accuracy")
    assert [point.setting for point in line.points] == ["lr=0.01 beta1=0.5", "lr=0.1"]


def test_trials_of_the_tuning_phase_are_no_results() -> None:
    trials = made_up_records(seeds=2, phase="tune")
    results = [replace(r, run_id=f"r{r.run_id}") for r in made_up_records(rates=(0.1,))]
    (problem,) = made_up_view([*trials, *results]).problems
    assert problem.reported == tuple(results)
    assert [len(search.trials) for search in problem.searches] == [2, 2]
    assert [search.chosen for search in problem.searches] == ["lr=0.1", "lr=0.1"]
    assert len(problem.sensitivity("test_accuracy")[0].points) == 2
    # While a study still tunes, its trials are all there is.
    assert len(made_up_view(trials).problems[0].reported) == len(trials)


def test_a_run_of_a_stack_has_its_share_of_the_time() -> None:
    sgd, adam = made_up_view(made_up_records(rates=(0.1,))).problems[0].costs
    assert sgd.seconds == (2.0, 2.0, 2.0)
    assert adam.median == 9 / 4
    assert not sgd.alone


def test_ranks_need_several_problems() -> None:
    names = ["sgd", "adam", "lion"]
    assert made_up_view(made_up_records(names)).ranks is None
    datasets = [f"data{i}" for i in range(5)]
    records = [r for d in datasets for r in made_up_records(names, (0.1,), dataset=d)]
    view = made_up_view(records)
    assert view.ranks is not None
    assert view.ranks.problems == len(view.problems) == 5
    assert view.ranks.order == ("lion", "adam", "sgd")


def test_pairing_is_read_from_what_runs_recorded() -> None:
    records = made_up_records()
    assert made_up_view(records).paired_seeds == (3, 3)
    other = replace(records[0].facts, first_batches_sha256="others")
    records[0] = replace(records[0], facts=other)
    assert made_up_view(records).paired_seeds == (2, 3)


def test_runs_that_diverge_before_all_batches_are_hashed_are_paired() -> None:
    records = made_up_records()
    short = replace(records[0].facts, first_batches_sha256="of three steps")
    ended = replace(records[0], step=3, status=Status.DIVERGED, metrics={}, facts=short)
    assert made_up_view([ended, *records[1:]]).paired_seeds == (3, 3)
    other = replace(short, initial_parameters_sha256="others")
    unpaired = replace(ended, facts=other)
    assert made_up_view([unpaired, *records[1:]]).paired_seeds == (2, 3)


def test_facts_are_counted() -> None:
    facts = made_up_view(made_up_records()).facts
    assert facts["engine"] == {"stacked": 12}
    assert "seconds" not in facts


def long(records: list[Record], metric: str) -> pd.DataFrame:
    """What `curves_frame` returns, written out."""
    curves = made_up_curves(records)[metric]
    rows = [
        (r.run_id, r.optimizer, r.setting, r.seed, step, step / r.steps_per_epoch, value)
        for r in records
        for step, value in zip(curves[r.run_id].steps, curves[r.run_id].values, strict=True)
    ]
    names = ["run_id", "optimizer", "setting", "seed", "step", "epoch", "value"]
    return pd.DataFrame(rows, columns=names)


def test_wide_curves_have_a_column_a_run() -> None:
    records = made_up_records(diverged=(3,))
    table = wide_curves(long(records, "test_accuracy"))
    assert list(table)[:4] == ["step", "epoch", "sgd lr=0.01 seed=0", "sgd lr=0.01 seed=1"]
    assert table.shape == (10, 2 + len(records))
    assert table["step"].tolist() == list(range(20, 201, 20))
    assert table["epoch"].tolist() == list(range(1, 11))
    for record in records:
        column = table[f"{record.optimizer} {record.setting} seed={record.seed}"]
        values = made_up_curves([record])["test_accuracy"][record.run_id].values
        np.testing.assert_array_equal(column[: len(values)], values)
        assert column[len(values) :].isna().all()


def test_wide_curves_of_different_batches_are_by_epoch() -> None:
    records = made_up_records(["sgd"], (0.1,), 2)
    records[1] = changed(records[1], steps_per_epoch=40, setting="lr=0.1 batch_size=16")
    table = wide_curves(long(records, "test_accuracy"))
    assert list(table) == ["epoch", "sgd lr=0.1 seed=0", "sgd lr=0.1 batch_size=16 seed=1"]
    assert table["epoch"].is_monotonic_increasing


def test_runs_of_one_name_are_kept_apart() -> None:
    records = made_up_records(["sgd"], (0.1,), 1)
    records.append(replace(records[0], run_id="again"))
    assert list(wide_curves(long(records, "test_accuracy")))[-1] == "sgd lr=0.1 seed=0 again"


def test_parquet_reads_back_exactly(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: optrial[parquet]")
    table = wide_curves(long(made_up_records(diverged=(3,)), "train_loss"))
    write_parquet(table, tmp_path / "curves.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "curves.parquet"), table)


def test_parquet_without_pyarrow_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"pip install 'optrial\[parquet\]'"):
        write_parquet(pd.DataFrame(), tmp_path / "curves.parquet")
