"""Curves of one or several studies, and what tells their lines apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optrial import load
from optrial.analysis.view import StudyView
from optrial.cli import main
from optrial.errors import StoreError
from optrial.records import Curve
from optrial.report.chart_data import chart_data
from optrial.report.curves import CurveOptions, CurveSource, curves_figure, draw_curves
from optrial.style import DASHES, LIGHT, line_styles, variant_styles
from tests.report.studies import EVERY, made_up_records, made_up_view, store_made_up

SOLID = "-"


def drawn(
    *views: StudyView, metrics: tuple[str, ...] = ("test_accuracy",), options: CurveOptions
) -> Axes:
    axes = Figure().add_subplot()
    sources = [
        CurveSource(view, view.problems[0], view.name if len(views) > 1 else "") for view in views
    ]
    draw_curves(axes, sources, metrics, options=options)
    return axes


def grid(*optimizers: str, rates: tuple[float, ...]) -> StudyView:
    """A study without a validation split, in which every setting contends."""
    records = made_up_records(optimizers, rates=rates)
    without = [
        replace(r, metrics={n: v for n, v in r.metrics.items() if n != "validation_accuracy"})
        for r in records
    ]
    return made_up_view(without)


def labelled(axes: Axes) -> dict[str, Line2D]:
    """Lines with a label and data, in the order of the legend."""
    lines = (line for line in axes.lines if len(line.get_xdata()))
    return {str(line.get_label()): line for line in lines if str(line.get_label())[0] != "_"}


def test_curves_are_means_in_the_style_of_their_optimizer() -> None:
    records = made_up_records(rates=(0.1,), diverged=(4,))
    view = made_up_view(records)
    axes = drawn(view, options=CurveOptions())
    styles = line_styles(view.optimizer_names)
    sgd, adam, end = axes.lines
    assert sgd.get_color() == LIGHT.lines[styles["sgd"].colour]
    finals = [r.metrics["test_accuracy"] for r in records[:3]]
    assert sgd.get_ydata()[-1] == np.mean(finals)
    # One of adam's runs diverged at step 90: there its mean ends, with a cross.
    known = np.isfinite(adam.get_ydata())
    assert adam.get_xdata()[known][-1] == end.get_xdata()[0] == 60
    assert end.get_marker() == "x"


@pytest.mark.parametrize(("x", "length"), [("steps", 1), ("epochs", EVERY)])
def test_published_values_are_hollow_circles_on_the_curves(x: str, length: int) -> None:
    published = {"steps": {"40": 0.8, "60": 0.9}}
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": published}}}
    view = made_up_view(made_up_records(rates=(0.1,)), study)
    axes = drawn(view, options=CurveOptions(x=x))  # type: ignore[arg-type]
    first, second, legend = axes.lines[2:]
    colour = LIGHT.lines[line_styles(view.optimizer_names)["adam"].colour]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in (first, second)]
    assert points == [(40 / length, 0.8), (60 / length, 0.9)]
    assert {line.get_markeredgecolor() for line in (first, second)} == {colour}
    assert legend.get_label() == "published"
    assert axes.lines[0].get_xdata()[-1] == 200 / length
    assert axes.get_xlabel() == x.removesuffix("s")


def test_published_values_beyond_the_end_of_training_are_not_drawn() -> None:
    published = {"steps": {"200": 0.8, "201": 0.1}}
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": published}}}
    view = made_up_view(made_up_records(rates=(0.1,)), study)
    assert view.problems[0].reported[0].steps == 200
    circle, legend = drawn(view, options=CurveOptions()).lines[2:]
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (200, 0.8)
    assert legend.get_label() == "published"
    keys = {record.setting_id: 0 for record in view.records}
    styles = line_styles(view.optimizer_names)
    (data,) = chart_data(view, styles, keys, {view.problems[0].name: set(keys)})["problems"]
    points = [curve.get("published") for curve in data["curves"]["test_accuracy"]]
    assert points == [[], [(200, 0.8)]]


def test_final_published_values_are_drawn_at_the_end_of_training() -> None:
    study = {"name": "made up", "reported": {"test_accuracy": {"adam": 0.8}}}
    view = made_up_view(made_up_records(rates=(0.1,)), study)
    axes = drawn(view, options=CurveOptions())
    (circle,) = [line for line in axes.lines[2:] if len(line.get_xdata())]
    end = view.problems[0].contenders[0].records[0].spec.steps
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (end, 0.8)


def test_each_seed_has_a_line_and_each_optimizer_a_name() -> None:
    view = made_up_view(made_up_records(rates=(0.1,)))
    runs = [record.run_id for record in view.records]
    axes = drawn(view, options=CurveOptions(each_seed=True))
    assert len(axes.lines) == len(runs) == 6
    curves = view.curves("test_accuracy")
    for line, run in zip(axes.lines, runs, strict=True):
        assert np.array_equal(line.get_ydata(), curves[run].values)
    assert list(labelled(axes)) == ["sgd lr=0.1", "adam lr=0.1"]
    names = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == ["sgd lr=0.1", "adam lr=0.1"]


def test_settings_of_one_optimizer_are_told_apart() -> None:
    view = grid("adam", "sgd", rates=(0.1, 0.01, 0.001))
    axes = drawn(view, options=CurveOptions())
    lines = labelled(axes)
    looks = {
        (line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in lines.values()
    }
    assert len(looks) == len(lines) == 6
    alone = grid("adam", rates=(0.1, 0.01, 0.001))
    colours = [line.get_color() for line in labelled(drawn(alone, options=CurveOptions())).values()]
    first = line_styles(["adam"])["adam"].colour
    assert colours == [LIGHT.lines[first + place] for place in range(3)]


def test_variants_go_from_light_to_dark() -> None:
    styles = line_styles(["sgd", "adam"])
    sgd, *rates = variant_styles(["sgd", "adam", "adam", "adam"], styles)
    assert sgd == styles["sgd"]
    assert [style.shade for style in rates] == sorted(style.shade for style in rates)
    assert rates[1].shade == 0
    assert {style.colour for style in rates} == {styles["adam"].colour}
    assert [style.dashes for style in rates] == list(DASHES[:3])


def test_metrics_are_told_apart_by_their_dashes() -> None:
    view = made_up_view(made_up_records(rates=(0.1,)))
    metrics = ("validation_accuracy", "test_accuracy")
    axes = drawn(view, metrics=metrics, options=CurveOptions())
    assert axes.get_ylabel() == "accuracy (%)"
    names = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == ["sgd lr=0.1", "adam lr=0.1", "validation accuracy", "test accuracy"]
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert styles["validation accuracy"] == SOLID != styles["test accuracy"]


def test_a_moving_mean_lies_over_the_faint_values() -> None:
    view = made_up_view(made_up_records(["sgd"], rates=(0.1,)))
    axes = drawn(view, metrics=("train_loss",), options=CurveOptions(smooth=10))
    raw, smooth = axes.lines
    assert raw.get_alpha() < 0.5
    assert len(raw.get_xdata()) == 200
    values = np.asarray(raw.get_ydata(), np.float64)
    expected = np.convolve(values, np.full(10, 0.1), mode="valid")
    assert np.asarray(smooth.get_ydata()) == pytest.approx(expected)
    assert smooth.get_xdata()[0] == 10
    assert "moving mean of 10 values" in axes.get_xlabel()


def test_very_many_values_are_fainter() -> None:
    """They fill an area, which must not hide the mean over them."""
    view = made_up_view(made_up_records(["sgd"], rates=(0.1,)))
    with pytest.MonkeyPatch.context() as patch:
        opacities = []
        for dense in 1000, 50:
            patch.setattr("optrial.report.curves.DENSE", dense)
            raw, _ = drawn(view, metrics=("train_loss",), options=CurveOptions(smooth=10)).lines
            opacities.append(raw.get_alpha())
    assert opacities[1] == pytest.approx(opacities[0] / 2)


def test_lines_that_coincide_are_wider_below() -> None:
    sgd = made_up_records(["sgd"], rates=(0.1,))
    views = [made_up_view(sgd, {"name": name}) for name in ("numpy", "torch")]
    axes = drawn(*views, options=CurveOptions())
    lines = labelled(axes)
    assert list(lines) == ["numpy", "torch"]
    wide = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [line.get_color() for line in wide] == [lines["numpy"].get_color()]
    both = [made_up_view(made_up_records(rates=(0.1,)), {"name": name}) for name in ("a", "b")]
    names = ["sgd lr=0.1 (a)", "adam lr=0.1 (a)", "sgd lr=0.1 (b)", "adam lr=0.1 (b)"]
    assert list(labelled(drawn(*both, options=CurveOptions()))) == names
    apart = made_up_view(made_up_records(rates=(0.1,)))
    assert not [x for x in drawn(apart, options=CurveOptions()).lines if x.get_linewidth() > 2]


def test_limits_and_chosen_lines() -> None:
    view = grid("sgd", "adam", rates=(0.1, 0.01))
    options = CurveOptions(limits=(0.2, None), only=["adam", "sgd lr=1e-1"])
    axes = drawn(view, options=options)
    assert list(labelled(axes)) == ["sgd lr=0.1", "adam lr=0.1", "adam lr=0.01"]
    assert axes.get_ylim()[0] == 0.2
    with pytest.raises(StoreError, match="no line is named 'lion'"):
        drawn(view, options=CurveOptions(only=["lion"]))
    with pytest.raises(StoreError, match=r"limits: 93 is beyond .* between 0 and 1; 95 % is 0.95"):
        drawn(view, options=CurveOptions(limits=(93, None)))
    with pytest.raises(StoreError, match=r"limits: 50:: no value of training loss"):
        drawn(view, metrics=("train_loss",), options=CurveOptions(limits=(50, None)))


def test_a_setting_that_was_not_chosen_is_drawn_by_its_name() -> None:
    view = made_up_view(made_up_records(("sgd", "adam"), rates=(0.1, 0.01)))
    assert list(labelled(drawn(view, options=CurveOptions()))) == ["sgd lr=0.1", "adam lr=0.1"]
    chosen = drawn(view, options=CurveOptions(only=["adam"]))
    assert list(labelled(chosen)) == ["adam lr=0.1"]
    names = ["adam lr=1e-2", "adam lr=0.1"]
    both = labelled(drawn(view, options=CurveOptions(only=names)))
    assert list(both) == ["adam lr=0.1", "adam lr=0.01"]
    (best, other) = (line.get_ydata()[-1] for line in both.values())
    assert best > other
    with pytest.raises(StoreError, match=r"no line is named 'adam lr=0.02'. .*adam lr=0.01"):
        drawn(view, options=CurveOptions(only=["adam", "adam lr=0.02"]))


@pytest.mark.filterwarnings("error")
def test_limits_from_0_make_the_axis_of_a_loss_linear() -> None:
    view = grid("sgd", rates=(0.1,))
    axes = drawn(view, metrics=("train_loss",), options=CurveOptions(limits=(0, 5)))
    assert (axes.get_yscale(), *axes.get_ylim()) == ("linear", 0, 5)
    axes = drawn(view, metrics=("train_loss",), options=CurveOptions(limits=(0.1, None)))
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("log", 0.1)


def test_a_figure_has_a_panel_for_each_kind_of_metric() -> None:
    view = made_up_view(made_up_records(rates=(0.1,)))
    source = CurveSource(view, view.problems[0])
    figure = curves_figure([source], ["train_loss", "validation_accuracy", "test_accuracy"])
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss (per batch)",
        "accuracy (%)",
    ]


@pytest.mark.parametrize("metrics", [("test_accuracy",), ("train_loss", "test_accuracy")])
def test_a_legend_of_thirty_names_has_few_rows_and_the_best_first(
    metrics: tuple[str, ...],
) -> None:
    names = [f"variant-{number}" for number in range(30)]
    view = made_up_view(made_up_records(names, rates=(0.1,), seeds=1))
    figure = curves_figure([CurveSource(view, view.problems[0])], metrics)
    (legend,) = figure.legends or [figure.axes[0].get_legend()]
    assert legend is not None
    listed = [text.get_text() for text in legend.get_texts()]
    assert {name.split()[0] for name in listed[:6]} == set(view.ranked_optimizers[:6])
    assert len(listed) == 30
    box = legend.get_window_extent()
    assert box.height < figure.bbox.height / 2
    assert box.x1 <= figure.bbox.width


def test_studies_and_problems_are_overlaid(tmp_path: Path) -> None:
    store_made_up(tmp_path / "a", made_up_records(["sgd"], rates=(0.1,)), "a")
    both = [r for d in ("x", "y") for r in made_up_records(["sgd"], (0.1,), dataset=d)]
    store_made_up(tmp_path / "b", both, "b")
    with load(tmp_path / "a") as one, load(tmp_path / "b") as two:
        assert list(labelled(one.plot_curves("test_accuracy"))) == ["sgd lr=0.1"]
        assert len(labelled(one.plot_curves("test_accuracy", beside=[one]))) == 1
        store_made_up(tmp_path / "c", made_up_records(["sgd"], rates=(0.1,)), "a")
        with load(tmp_path / "c") as again:
            beside = one.plot_curves("test_accuracy", beside=[again])
        assert list(labelled(beside)) == ["a", "c"]
        (axes,) = two.curves_figure(["test_accuracy"]).axes
        assert list(labelled(axes)) == ["x", "y"]
        assert axes.get_legend().get_title().get_text() == "sgd lr=0.1"  # type: ignore[union-attr]
        with pytest.raises(StoreError, match="several problems; name one"):
            two.plot_curves("test_accuracy")
        with pytest.raises(StoreError, match="'test_loss'"):
            one.plot_curves(["test_accuracy", "test_loss"])


def test_values_of_different_losses_share_no_axis() -> None:
    records = made_up_records(["sgd"], rates=(0.1,))
    one = made_up_view(records, {"name": "a"})
    errors = [replace(record, spec=replace(record.spec, loss="mse")) for record in records]
    two = made_up_view(errors, {"name": "b"})
    with pytest.raises(StoreError, match="train_loss is cross_entropy in a and mse in b"):
        drawn(one, two, metrics=("train_loss",), options=CurveOptions())
    drawn(one, two, options=CurveOptions())  # accuracies do
    drawn(two, metrics=("train_loss",), options=CurveOptions())


def test_the_command_writes_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    store_made_up(folder, made_up_records())
    command = ["optrial", "plot", str(folder), "--metric", "train_loss", "--smooth", "5"]
    monkeypatch.setattr("sys.argv", [*command, "--x", "epochs", "--ylim", "0.1:"])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    assert (folder / "figures" / "curves.png").stat().st_size > 1000
    for wrong in ("3", "2:1", "a:b"):
        monkeypatch.setattr("sys.argv", [*command, "--ylim", wrong])
        with pytest.raises(SystemExit) as error:
            main()
        assert error.value.code == 2
        assert "error: the command line has 1 problem" in capsys.readouterr().err


def test_a_curve_of_which_every_run_diverged_does_not_squeeze_the_others() -> None:
    records = made_up_records(["sgd", "adam"], (0.1,), 3, diverged=(0, 1, 2))
    view = made_up_view(records)
    curves = {
        run: replace_values(curve, 1e26) if run in {r.run_id for r in records[:3]} else curve
        for run, curve in view.curves("train_loss").items()
    }
    lost = StudyView(view.study, tuple(records), lambda _: curves)
    axes = drawn(lost, metrics=("train_loss",), options=CurveOptions())
    assert axes.get_ylim()[1] < 10
    assert any(text.get_text() == "▴ 1e+26" for text in axes.texts)


def replace_values(curve: Curve, value: float) -> Curve:
    return Curve(curve.steps, np.full(len(curve.steps), value))
