"""Confusion matrices and decision boundaries from saved weights; samples and layers of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from sklearn.metrics import confusion_matrix

from optrial import load
from optrial.cli import main
from optrial.errors import DataError, StoreError
from optrial.models import build_model
from optrial.report.predictions import confusion_figure
from optrial.study import Study
from tests.small import MOONS, small_keys


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["optrial", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def trained(folder: Path, **changes: Any) -> Study:
    keys = small_keys(save="final", seeds=[0, 1], budget={"steps": 60}, **changes)
    study = Study(**keys)
    study.run(folder, device="cpu").close()
    return study


@pytest.mark.parametrize(("models", "across", "down"), [(1, 1, 1), (2, 2, 1), (6, 2, 3), (7, 3, 3)])
def test_many_models_are_drawn_three_side_by_side(models: int, across: int, down: int) -> None:
    counts = np.eye(2, dtype=np.int64)
    figure = confusion_figure({f"model {number}": (counts, "ab") for number in range(models)})
    shown = [axes.get_position() for axes in figure.axes if axes.axison]
    assert len(shown) == models
    assert len({round(place.x0, 2) for place in shown}) == across
    assert len({round(place.y0, 2) for place in shown}) == down
    assert figure.get_figheight() <= 3 * down


def test_confusion_is_that_of_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = trained(tmp_path, optimizers=[{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}])
    test = study.load_data().splits["test"]
    with load(tmp_path) as results:
        table = results.confusion()
        expected = {}
        for optimizer in ("sgd", "adam"):
            runs = [r for r in results.records if r.optimizer == optimizer]
            with torch.no_grad():
                outputs = [results.model(r.run_id)(torch.from_numpy(test.inputs)) for r in runs]
            expected[optimizer] = sum(
                confusion_matrix(test.targets, output.argmax(1).numpy()) for output in outputs
            )
        for optimizer, rows in table.groupby("optimizer", sort=False):
            counts = rows["count"].to_numpy().reshape(2, 2)
            assert np.array_equal(counts, expected[str(optimizer)])
            shares = rows["share"].to_numpy().reshape(2, 2)
            assert shares.sum(axis=1) == pytest.approx(1)
        assert len(results.confusion_figure().axes) == 2
        figure = results.boundary_figure("train", seed=1)
        assert [axes.get_title("left") for axes in figure.axes] == ["sgd", "adam"]
        with pytest.raises(StoreError, match="has saved weights and the seed 7"):
            results.boundary_figure(seed=7)
        with pytest.raises(DataError, match="no split 'all'"):
            results.confusion("all")
    assert run(monkeypatch, "confusion", tmp_path) == 0
    assert "moons\tadam\t" in capsys.readouterr().out
    assert run(monkeypatch, "boundary", tmp_path, "--out", tmp_path / "b.svg") == 0
    assert (tmp_path / "figures/confusion.png").exists()
    assert (tmp_path / "b.svg").exists()


def test_predictions_of_one_optimizer_are_drawn_on_axes_of_the_user(tmp_path: Path) -> None:
    trained(tmp_path, optimizers=[{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}])
    figure, (left, right) = pyplot.subplots(1, 2)
    with load(tmp_path) as results:
        assert results.plot_confusion("adam", left) is left
        assert results.plot_boundary("sgd", right, seed=1) is right
        drawn = [text.get_text() for text in left.texts]
        table = results.confusion()
        shares = table.loc[table["optimizer"] == "adam", "share"]
        assert drawn == [f"{100 * share:.0f}" for share in shares if share >= 0.005]
        assert right.get_xlabel().startswith("input 1")
        with pytest.raises(StoreError, match=r"compares several; name one\. Allowed: sgd, adam"):
            results.plot_confusion()
        with pytest.raises(StoreError, match="Did you mean 'sgd'"):
            results.plot_boundary("sgdd")
        with pytest.raises(StoreError, match="saved weights and the seed 7"):
            results.plot_boundary("adam", seed=7)
    pyplot.close(figure)


def test_predictions_of_several_problems_are_told_apart(tmp_path: Path) -> None:
    """One optimizer on two problems with other classes: each has a panel of its own."""
    model = {"kind": "mlp", "hidden": [8]}
    blobs = {"name": "blobs", "n_samples": 200, "centers": 3}
    problems = {"moons": dict(MOONS), "blobs": blobs}
    keys = {name: {"dataset": dataset, "model": model} for name, dataset in problems.items()}
    trained(tmp_path / "both", problem=keys)
    for name, dataset in problems.items():
        trained(tmp_path / name, name=name, problem={"dataset": dataset, "model": model})
    for places in (tmp_path / "both", [tmp_path / name for name in problems]):
        with load(places) as results:
            figures = results.confusion_figure(), results.boundary_figure()
            for figure in figures:
                titles = [axes.get_title("left") for axes in figure.axes]
                assert titles == ["sgd (moons)", "sgd (blobs)"]
            (axes,) = [results.plot_confusion(problem="blobs")]
            assert len(axes.get_xticks()) == 3
            pyplot.close(axes.figure)


def test_a_function_has_neither_samples_nor_classes(tmp_path: Path) -> None:
    """Advice to save weights would not help."""
    keys: dict[str, Any] = {"problem": {"function": "rosenbrock"}, "batch_size": None}
    study = Study(**small_keys(**keys, budget={"steps": 1}, evaluate={"on": ["train"]}))
    with pytest.raises(DataError, match="no samples with labels; 'optrial landscape'"):
        study.samples_figure()
    with study.run(tmp_path, device="cpu") as results:
        for figure in (results.confusion_figure, results.boundary_figure):
            with pytest.raises(StoreError, match="has no class per sample, so none is predicted"):
                figure()


def test_what_has_no_boundary_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "digits", problem={"dataset": "digits", "model": "mlp"})
    with load(tmp_path / "digits") as results:
        assert {*results.confusion()["true"]} == {*map(str, range(10))}
        with monkeypatch.context() as patch:
            patch.setattr("optrial.saved.saved_predictions", None)  # nothing is evaluated
            with pytest.raises(StoreError, match="inputs of two numbers; those of digits have 1"):
                results.boundary_figure()
    model = {"kind": "mlp", "hidden": [8]}
    sugar = {"dataset": "diabetes", "model": model, "loss": "mse"}
    moons = {"dataset": dict(MOONS), "model": model}
    trained(tmp_path / "two", problem={"sugar": sugar, "moons": moons})
    with load(tmp_path / "two") as results:
        with pytest.raises(StoreError, match=r"sugar has no class .* another problem"):
            results.confusion()
        with pytest.raises(StoreError, match=r"of sugar have 10\. Name a problem .*--problem"):
            results.boundary_figure()
        with pytest.raises(StoreError, match="no 'moon'"):
            results.boundary_figure(problem="moon")
        assert {*results.confusion(problem="moons")["problem"]} == {"moons"}
        assert len(results.confusion_figure(problem="moons").axes) == 1
        assert len(results.boundary_figure(problem="moons").axes) == 1
    Study(**small_keys()).run(tmp_path / "unsaved", device="cpu").close()
    with load(tmp_path / "unsaved") as results, pytest.raises(StoreError, match="save: final"):
        results.confusion()


def test_layers_and_memory_of_a_model() -> None:
    study = Study(
        **small_keys(
            problem={
                "dataset": dict(MOONS),
                "model": {"kind": "mlp", "hidden": [8], "batch_norm": True},
            },
            batch_size=[16, 32],
            optimizers=[
                {"rule": "rmsprop", "momentum": 0.9},
                {"rule": "adam"},
                {"torch": "torch.optim:SGD", "lr": 0.1},
            ],
        )
    )
    (model,) = study.models()
    built = build_model(
        "mlp", {"hidden": [8], "batch_norm": True}, input_shape=(2,), classes=2, seed=0
    )
    assert model.summary.parameters == sum(p.numel() for p in built.parameters())
    shapes = [(layer.kind, layer.output_shape) for layer in model.summary.layers]
    assert ("Linear", (8,)) in shapes
    assert shapes[-1] == ("Linear", (2,))
    assert sum(layer.parameters for layer in model.summary.layers) == model.summary.parameters
    kept = {(m.optimizer, m.batch_size): m.state for m in model.memory}
    size = 4 * model.summary.parameters
    assert kept["rmsprop", 16] == kept["adam", 32] == 2 * size
    assert kept["SGD", 16] is None
    small, large = (m for m in model.memory if m.optimizer == "adam")
    assert large.activations == 2 * small.activations
    assert small.total == small.parameters + small.gradients + 2 * size + small.activations


class Tied(torch.nn.Module):
    """A module that is called twice, and a parameter that belongs to no layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(features, features)
        self.scale = torch.nn.Parameter(torch.ones(classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(inputs)) * self.scale


def tied(input_shape: tuple[int, ...], classes: int) -> Tied:
    return Tied(input_shape[0], classes)


def test_shared_layers_and_loose_parameters_are_counted_once() -> None:
    model = f"{__name__}:tied"
    (planned,) = Study(**small_keys(problem={"dataset": dict(MOONS), "model": model})).models()
    rows = [(layer.name, layer.parameters) for layer in planned.summary.layers]
    assert rows == [("layer", 6), ("layer", 0), ("", 2)]


@pytest.mark.parametrize(
    ("dataset", "drawn"),
    [
        (dict(MOONS), True),
        ("diabetes", False),
        ("digits", True),
        ({"name": "palindrome", "length": 5}, False),
        (dict(MOONS) | {"targets": "inputs"}, False),
    ],
    ids=["points", "table", "images", "digits of a series", "points with two targets"],
)
def test_samples_are_shown(
    dataset: Any,
    drawn: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = "rnn" if isinstance(dataset, dict) and dataset["name"] == "palindrome" else "mlp"
    loss = "mse" if dataset == "diabetes" or "targets" in dataset else "cross_entropy"
    keys = small_keys(problem={"dataset": dataset, "model": model, "loss": loss})
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(keys))
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "samples", file, "--count", 9) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "small-samples.png").exists() == drawn
    assert bool(printed) != drawn
    if not drawn:
        assert len(printed.splitlines()) == 10
        assert run(monkeypatch, "samples", file, "--out", tmp_path / "rows.pdf") == 0
        assert (tmp_path / "rows.pdf").stat().st_size > 1000
    figure = Study(**keys).samples_figure("test", count=5)
    assert figure.axes
    own = pyplot.figure().add_subplot()
    assert Study(**keys).plot_samples("test", 5, own) is own
    shown = own.tables or own.lines or own.child_axes
    assert len(own.child_axes) == (5 if dataset == "digits" else 0)
    assert shown
    pyplot.close(own.figure)
    assert run(monkeypatch, "samples", file, "--split", "validation", "--out", "a.gif") == 2


def test_models_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(small_keys()))
    assert run(monkeypatch, "model", file) == 0
    printed = capsys.readouterr().out
    assert "Linear\t8\t24" in printed
    assert "\n\nmemory of a training step\noptimizer\t" in printed
    assert run(monkeypatch, "plan", file, "--summary") == 0
    assert capsys.readouterr().out == printed
    assert run(monkeypatch, "model", file, "--set", "problem.model.hidden=[[8], [4]]") == 0
    printed = capsys.readouterr().out
    assert "\nmlp hidden=[8] " in printed
    assert "\nmlp hidden=[4] " in printed
    assert run(monkeypatch, "model", file, "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert model["parameters"] == 42
    assert model["memory"][0]["total"] > 3 * 4 * 42
