from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optrial import load
from optrial.analysis.view import StudyView
from optrial.errors import StoreError
from optrial.records import Curve, Record
from optrial.report.figures import PrintFigure, draw_differences, draw_ranks, study_figures
from optrial.spec import RunFacts, Status
from optrial.style import (
    COLOURED,
    DARK,
    LIGHT,
    THEMES,
    Theme,
    figure_style,
    save_figure,
)
from tests.report.studies import made_up_records, made_up_view, store_made_up

NASTY = "$x_1$ & <b> % \\frac 🚀"


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def by_name(figures: Iterable[PrintFigure]) -> dict[str, Figure]:
    return {drawn.name: drawn.figure for drawn in figures}


def figures_of(records: list[Record], theme: Theme = LIGHT) -> dict[str, Figure]:
    return by_name(study_figures(made_up_view(records), theme))


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_figure_is_one_column_wide_and_readable(theme: Theme) -> None:
    trials = made_up_records(seeds=2, phase="tune", diverged=(0, 4, 5))
    results = made_up_records(rates=(0.1,), probes=True)
    results = [replace(r, run_id=f"r{r.run_id}") for r in results]
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": 0.9}}}
    figures = by_name(study_figures(made_up_view([*trials, *results], study), theme))
    assert list(figures) == [
        "curves-train_loss",
        "curves-test_accuracy",
        "curves-gradient_norm",
        "curves-dead_relu_fraction",
        "sensitivity",
        "rate-ranges",
        "tuning",
        "trials",
        "differences",
        "reported-test_accuracy",
        "timing",
    ]
    for figure in figures.values():
        assert figure.get_figwidth() == 3.4
        texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
        assert min(text.get_fontsize() for text in texts) >= 7


def test_differences_are_in_points_and_filled_where_told_apart() -> None:
    (problem,) = made_up_view(made_up_records(["sgd", "adam", "lion"], (0.1,), 12)).problems
    axes = Figure().add_subplot()
    draw_differences(axes, problem)
    dots = axes.lines[: len(problem.pairs)]
    for dot, pair in zip(dots, problem.pairs, strict=True):
        assert dot.get_xdata()[0] == 100 * pair.difference.estimate
        told_apart = pair.verdict in ("better", "worse")
        assert (dot.get_markerfacecolor() == LIGHT.text) == told_apart
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == f"{problem.pairs[0].first} − {problem.pairs[0].second}"


def test_of_many_optimizers_the_best_six_reach_a_target_in_colour() -> None:
    names = [f"optimizer-{number}" for number in range(9)]
    study = {"name": "made up", "targets": {"test_accuracy": 0.5}}
    view = made_up_view(made_up_records(names, rates=(0.1,), seeds=2), study)
    axes = axes_of(by_name(study_figures(view))["target-test_accuracy-0.5"])
    handles, labels = axes.get_legend_handles_labels()
    drawn = zip(handles, labels, strict=True)
    in_colour = [name for line, name in drawn if line.get_color() != LIGHT.grey]
    best = view.ranked_optimizers[:COLOURED]
    assert sorted(name.split()[0] for name in in_colour) == sorted(best)
    assert labels[:COLOURED] == in_colour


def test_trials_far_from_the_best_are_marked_at_the_edge() -> None:
    far = {"train_loss": 3.0, "validation_accuracy": 0.05, "test_accuracy": 0.05}
    trials = [
        replace(record, metrics=far) if record.setting == "lr=1" and record.seed == 0 else record
        for record in made_up_records(rates=(0.05, 0.1, 0.2, 1.0), seeds=1, phase="tune")
    ]
    results = [replace(r, run_id=f"r{r.run_id}") for r in made_up_records(rates=(0.1,))]
    axes = axes_of(figures_of([*trials, *results])["tuning"])
    assert axes.get_xlim()[0] > 10
    assert [text.get_text() for text in axes.texts] == ["◂ 5", "◂ 5"]
    drawn = [x for line in axes.lines for x in line.get_xdata()]
    assert min(drawn) > 5  # what is written is not drawn too


def test_ranks_need_problems() -> None:
    view = made_up_view(made_up_records())
    with pytest.raises(ValueError, match="two problems"):
        draw_ranks(Figure().add_subplot(), view)
    names = ["sgd", "adam", "lion"]
    records = [r for d in "abcde" for r in made_up_records(names, (0.1,), dataset=d)]
    axes = Figure().add_subplot()
    draw_ranks(axes, made_up_view(records))
    assert [label.get_text() for label in axes.get_yticklabels()] == names[::-1]
    assert [line.get_xdata()[0] for line in axes.lines[:3]] == [1.0, 2.0, 3.0]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_names_come_out_as_text_and_nothing_warns(suffix: str, tmp_path: Path) -> None:
    records = made_up_records([NASTY, "adam"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = figures_of(records)
        for name, figure in figures.items():
            save_figure(figure, tmp_path / f"{name}.{suffix}")
            assert (tmp_path / f"{name}.{suffix}").stat().st_size > 1000
    labels = [t.get_text() for t in axes_of(figures["timing"]).get_yticklabels()]
    assert labels[0].replace(r"\$", "$") == NASTY.replace("🚀", "[rocket]")


@pytest.mark.parametrize(
    "records",
    [[], made_up_records(status=Status.PLANNED, metrics={}, facts=RunFacts(), step=0)],
    ids=["empty", "planned"],
)
def test_nothing_is_drawn_of_nothing(records: list[Record]) -> None:
    assert figures_of(records) == {}


def test_all_diverged_and_one_run_are_drawn_as_far_as_they_go() -> None:
    assert figures_of(made_up_records(diverged=range(12))) == {}
    one = figures_of(made_up_records(["adam"], (0.1,), 1), DARK)
    assert list(one) == ["curves-train_loss", "curves-test_accuracy", "timing"]


def test_results_plot_onto_axes_of_ones_own(tmp_path: Path) -> None:
    store_made_up(tmp_path, made_up_records())
    with load(tmp_path) as results:
        axes = Figure().add_subplot()
        assert results.plot_curves("test_accuracy", axes) is axes
        assert len(axes.lines) == 2
        assert len(results.plot_sensitivity(axes=Figure().add_subplot()).lines) >= 2
        assert results.plot_differences(axes=Figure().add_subplot()).lines
        assert results.plot_timing(Figure().add_subplot()).lines
        with pytest.raises(StoreError, match=r"no 'accuracy' is recorded. .*Allowed"):
            results.plot_curves("accuracy")


@pytest.mark.parametrize("diverged", [(), range(12)], ids=["one rate", "all diverged"])
def test_sensitivity_without_values_is_drawn(diverged: Sequence[int], tmp_path: Path) -> None:
    rates = (0.1, 1.0) if diverged else (0.1,)
    store_made_up(tmp_path, made_up_records(rates=rates, diverged=diverged))
    with load(tmp_path) as results:
        axes = results.plot_sensitivity("test_accuracy", Figure().add_subplot())
    axes.get_figure().draw_without_rendering()
    texts = [text.get_text() for text in axes.texts]
    assert diverged or texts == ["no optimizer was tried at several learning rates"]


def test_two_plots_share_a_figure(tmp_path: Path) -> None:
    store_made_up(tmp_path, made_up_records())
    with load(tmp_path) as results, figure_style():
        figure = Figure(figsize=(7, 3))
        left, right = figure.subplots(1, 2)
        results.plot_curves("test_accuracy", left)
        results.plot_sensitivity(axes=right)
        figure.draw_without_rendering()
    assert min(axes.get_position().width for axes in (left, right)) > 0.35


def test_results_plot_onto_a_new_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot

    store_made_up(tmp_path, made_up_records())
    with load(tmp_path) as results:
        axes = results.plot_curves()
    assert axes.get_ylabel() == "test accuracy (%)"
    pyplot.close(axes.get_figure())


def test_a_difference_without_an_end_goes_on_and_one_without_an_interval_is_explained() -> None:
    (problem,) = made_up_view(made_up_records(["sgd", "adam"], (0.1,), 6)).problems
    pair = problem.pairs[0]
    for limits, sign in {
        (-math.inf, math.inf): "arrow: interval goes on",
        (math.nan, math.nan): "no line: no interval",
    }.items():
        low, high = limits
        difference = replace(pair.difference, low=low, high=high)
        changed = SimpleNamespace(
            pairs=[replace(pair, difference=difference)],
            directions=problem.directions,
            metric=problem.metric,
        )
        axes = Figure().add_subplot()
        draw_differences(axes, changed)
        assert sign in axes.get_xlabel()
        ends = [line for line in axes.lines if line.get_marker() in ("<", ">")]
        assert len(ends) == (2 if math.isinf(low) else 0)
        assert [line.get_xdata()[0] for line in ends] == list(axes.get_xlim())[: len(ends)]


def test_a_row_says_which_optimizer_has_no_run_to_compare() -> None:
    records = made_up_records(["sgd", "adam"], (0.1,), 3, diverged=(0, 1, 2))
    axes = axes_of(figures_of(records)["differences"])
    assert [text.get_text() for text in axes.texts] == ["second: all runs diverged"]
    assert not axes.lines
    assert len(axes.get_xticks()) == 0


def test_published_accuracies_are_in_percent_and_no_range_goes_beyond_100() -> None:
    study = {"name": "made up", "reported": {"test_accuracy": {"sgd": 0.98, "adam": 0.5}}}
    records = made_up_records(rates=(0.1,))
    spread = {0: 0.8, 1: 0.99, 2: 1.0}
    records = [replace(r, metrics={**r.metrics, "test_accuracy": spread[r.seed]}) for r in records]
    axes = axes_of(by_name(study_figures(made_up_view(records, study)))["reported-test_accuracy"])
    assert axes.get_xlabel().startswith("test accuracy (%)")
    assert [line.get_xdata()[0] for line in axes.lines[1::2]] == [98, 50]
    ends = [segment[1, 0] for lines in axes.collections for segment in lines.get_segments()]
    assert ends == [100, 100]


def test_less_than_two_epochs_show_the_loss_of_each_batch() -> None:
    records = [
        replace(r, metrics={"train_loss_epoch": 0.5, **r.metrics}) for r in made_up_records()
    ]
    view = made_up_view(made_up_records())
    names = {1: "curves-train_loss", 3: "curves-train_loss_epoch"}
    for count, name in names.items():
        steps = np.arange(20, 20 * count + 1, 20)
        epochs = {r.run_id: Curve(steps, np.full(count, 0.5)) for r in records}
        batches = view.curves("train_loss")
        known = {"train_loss_epoch": epochs, "train_loss": batches}
        shown = StudyView(view.study, tuple(records), lambda m, known=known: known.get(m, {}))
        assert next(study_figures(shown)).name == name
