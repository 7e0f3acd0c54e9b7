"""Draw the pictures of the notes beside this file: python docs/recipes/make_figures.py FOLDER

FOLDER holds the results of the recipes, each in a folder of its name (`optrial run NAME --out
FOLDER/NAME`). A picture whose results are not there is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

import optrial
from optrial.style import LIGHT, figure_style, line_styles

HERE = Path(__file__).parent
STUDIES = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("studies")
DOTS_PER_INCH = 130
BLUE, ORANGE, TEAL, ORCHID = LIGHT.lines[:4]

Values = NDArray[np.float64]


def curves(study: str, metric: str) -> pd.DataFrame:
    """One row a point of a metric: run_id, optimizer, setting, seed, step, value."""
    with optrial.load(STUDIES / study) as results:
        return results.curves(metric)


def points(frame: pd.DataFrame, **wanted: object) -> list[tuple[Values, Values]]:
    """Steps and values of each run whose columns have the values wanted."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return [
        (run["step"].to_numpy(float), run["value"].to_numpy(float))
        for _, run in frame.groupby("run_id", sort=False)
    ]


def smoothed(values: Values, window: int) -> Values:
    """Means over `window` successive values."""
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def mean_line(axes: Axes, runs: list[tuple[Values, Values]], label: str, **style: object) -> None:
    """The mean over runs, and the range between the lowest and the highest."""
    steps, values = runs[0][0], np.array([run[1] for run in runs])
    axes.plot(steps, values.mean(0), label=label, **style)
    axes.fill_between(steps, values.min(0), values.max(0), alpha=0.2, lw=0, color=style["color"])


REPORTED_ACCURACIES = {
    "with L2": (0.526, 0.4682, 0.1969, 0.4507, 0.3454),
    "with dropout": (0.5156, 0.4878, 0.1, 0.4573, 0.4764),
}


def adaptive_methods() -> Figure:
    """The first epochs of both halves of the published comparison, and what was published."""
    figure, panels = plt.subplots(2, 2, figsize=(7.2, 5), sharey="row", sharex="col")
    names = ["adagrad", "rmsprop", "rmsprop_momentum", "adadelta", "adam"]
    studies = ("adaptive-methods-cifar10", "adaptive-methods-cifar10-dropout")
    columns = zip(panels.T, studies, REPORTED_ACCURACIES.items(), strict=True)
    for (above, below), study, (title, published) in columns:
        losses, accuracies = curves(study, "train_loss"), curves(study, "test_accuracy")
        for (name, style), reported in zip(line_styles(names).items(), published, strict=True):
            look = style.matplotlib(LIGHT) | {"marker": ""}
            ((steps, values),) = points(losses, optimizer=name)
            above.plot(steps[199:], smoothed(values, 200), label=name, **look)
            ((steps, values),) = points(accuracies, optimizer=name)
            below.plot(steps, values, **look)
            below.plot(1.06 * steps[-1], reported, marker="x", color=look["color"], ls="")
        above.axhline(np.log(10), color=LIGHT.muted, lw=0.8, ls=":")
        above.set(title=title, ylim=(1, 3.2))
        below.axhline(0.1, color=LIGHT.muted, lw=0.8, ls=":")
        below.set(xlabel="step, 391 an epoch", ylim=(0.05, 0.6))
    panels[0, 0].set_ylabel("training loss, mean of 200 steps")
    panels[1, 0].set_ylabel("test accuracy (×: published)")
    panels[0, 1].legend(fontsize="small", loc="upper right")
    return figure


def cnn_cifar10() -> Figure:
    """The first epoch of the network's comparison, and of the learning rates of adam."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True)
    frame = curves("cnn-cifar10", "train_loss")
    for name, style in line_styles(["sgd", "adam", "rmsprop"]).items():
        ((steps, values),) = points(frame, optimizer=name)
        look = style.matplotlib(LIGHT) | {"marker": ""}
        panels[0].plot(steps[4:], smoothed(values, 5), label=name, **look)
    frame = curves("cnn-cifar10-rates", "train_loss")
    for rate, colour in zip(("0.01", "0.001", "0.0001"), (ORANGE, BLUE, TEAL), strict=True):
        ((steps, values),) = points(frame, setting=f"lr={rate}")
        panels[1].plot(steps[4:], smoothed(values, 5), color=colour, label=f"adam, lr {rate}")
    panels[0].set(title="learning rate 1e-4", ylabel="training loss, mean of 5 steps")
    panels[1].set(title="rates cut at 0.4 and 0.6 of the epoch")
    for axes, steps_per_epoch in zip(panels, (98, 88), strict=True):
        axes.set(xlabel=f"step, {steps_per_epoch} an epoch")
        axes.legend(fontsize="small")
    return figure


def numpy_vs_torch() -> Figure:
    """Epochs that are shuffled against batches drawn with replacement."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.7), sharey=True)
    kinds = {
        "shuffled epochs": ("numpy-vs-torch-moons", BLUE),
        "with replacement": ("numpy-vs-torch-with-replacement", ORANGE),
    }
    for axes, size in zip(panels, (128, 32), strict=True):
        for label, (study, colour) in reversed(kinds.items()):
            frame = curves(study, "train_loss_epoch")
            steps, values = points(frame, setting=f"lr=0.01 batch_size={size}", seed=0)[0]
            epochs = np.arange(1, len(steps) + 1)
            axes.plot(epochs, values, label=label, color=colour, lw=0.7)
        axes.set(title=f"batches of {size}", xlabel="epoch")
    panels[0].set_ylabel("training loss of the epoch")
    panels[0].legend()
    return figure


def rnn_palindrome() -> Figure:
    """Test accuracy by step for each length, a line for each seed."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.7), sharey=True)
    lengths = {5: "rnn-palindrome", 10: "rnn-palindrome-10", 20: "rnn-palindrome-20"}
    for axes, name in zip(panels, ("rmsprop", "adam"), strict=True):
        for (length, study), colour in zip(lengths.items(), (BLUE, ORANGE, TEAL), strict=True):
            for run in points(curves(study, "test_accuracy"), optimizer=name):
                (line,) = axes.plot(*run, color=colour, lw=1)
            line.set_label(f"{length} digits")
        axes.axhline(0.1, color=LIGHT.muted, lw=0.8, ls=":")
        axes.set(title=name, xlabel="step", ylim=(0, 1.03))
    panels[0].set_ylabel("test accuracy")
    panels[1].legend(loc="center")
    return figure


def sgd_from_scratch() -> Figure:
    """Loss and accuracy of each step's batch, our rules over PyTorch's."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9))
    pairs = {"sgd": ("torch_sgd", BLUE), "momentum": ("torch_momentum", ORANGE)}
    for axes, metric in ((left, "train_loss"), (right, "train_accuracy")):
        frame = curves("sgd-from-scratch", metric)
        for ours, (theirs, colour) in pairs.items():
            for name, style in ((theirs, {"lw": 3.5, "alpha": 0.35}), (ours, {"lw": 0.9})):
                steps, values = points(frame, optimizer=name, seed=0)[0]
                axes.plot(steps[99:], smoothed(values, 100), color=colour, label=name, **style)
    left.set(xlabel="step", ylabel="training loss, mean of 100 steps", yscale="log")
    right.set(xlabel="step", ylabel="training accuracy, mean of 100 steps")
    right.legend(loc="lower right")
    return figure


REPORTED_RATES = {0.01: 0.834, 0.001: 0.867, 0.0001: 0.853}


def fashion_mnist() -> Figure:
    """Test accuracy by learning rate, measured and reported; and the probe by epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7))
    with optrial.load(STUDIES / "fashion-mnist-sweep") as results:
        runs = results.runs()
    adam = runs[runs["optimizer"] == "adam"]
    left.plot(
        adam["lr"],
        adam["test_accuracy"],
        "o",
        color=BLUE,
        alpha=0.6,
        label="measured, a seed each",
    )
    left.plot(*zip(*REPORTED_RATES.items(), strict=True), "x", color=ORANGE, ms=9, label="reported")
    left.set(xscale="log", xlabel="learning rate of adam", ylabel="test accuracy")
    left.legend()
    frame = curves("fashion-mnist-sweep", "relu_gradient_square_sum")
    for rate, colour in zip(("0.01", "0.001", "0.0001"), (ORANGE, BLUE, TEAL), strict=True):
        curve = points(frame, optimizer="adam", setting=f"lr={rate}")
        epochs = [(np.arange(1.0, len(steps) + 1), values) for steps, values in curve]
        mean_line(right, epochs, f"lr {rate}", color=colour, marker="o")
    right.set(xlabel="epoch", ylabel="sum of squared gradients", yscale="log", xticks=range(1, 6))
    right.set_yticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    right.yaxis.set_minor_formatter(NullFormatter())
    right.legend()
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "adaptive-methods-cifar10": adaptive_methods,
    "cnn-cifar10": cnn_cifar10,
    "numpy-vs-torch": numpy_vs_torch,
    "rnn-palindrome": rnn_palindrome,
    "sgd-from-scratch": sgd_from_scratch,
    "fashion-mnist-sweep": fashion_mnist,
}


def main() -> None:
    """Draw every figure whose results exist."""
    for name, draw in FIGURES.items():
        try:
            with figure_style():
                figure = draw()
                figure.savefig(HERE / f"{name}.png", dpi=DOTS_PER_INCH)
                plt.close(figure)
        except optrial.errors.OptrialError as error:
            sys.stderr.write(f"{name}: {error}\n")


if __name__ == "__main__":
    main()
