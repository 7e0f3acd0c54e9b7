"""Draw the README's picture: python docs/figures/make_quickstart.py [STUDY_FOLDER].

Trains the quickstart study into STUDY_FOLDER (default studies/quickstart) unless it is there, and
writes quickstart.png beside this file. Needs matplotlib: pip install -e '.[docs]'.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

import optrial

# Okabe and Ito's palette without its yellow: told apart by colour-blind readers, on white.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
MARKERS = ["o", "s", "^", "D", "v", "P"]


def draw_training(axes: Axes, results: optrial.Results, styles: dict[str, dict[str, str]]) -> None:
    """Training loss of each optimizer's best setting: mean, and range over seeds."""
    best = {(s.optimizer, s.setting) for s in results.settings() if s.best}
    curves = results.curves("train_loss_epoch")
    for name, style in styles.items():
        (setting,) = (chosen for optimizer, chosen in best if optimizer == name)
        own = curves[(curves["optimizer"] == name) & (curves["setting"] == setting)]
        by_epoch = own.groupby("epoch")["value"]
        mean = by_epoch.mean()
        axes.plot(mean.index, mean, label=f"{name}, {setting.replace('=', ' = ')}", **style)
        axes.fill_between(
            mean.index, by_epoch.min(), by_epoch.max(), color=style["color"], alpha=0.15, lw=0
        )
    axes.set(yscale="log", xlabel="epoch", ylabel="training loss (log)")
    axes.set_title("Each optimizer at its best rate", loc="left")
    axes.legend(frameon=False, fontsize=8)


def draw_sensitivity(axes: Axes, runs: pd.DataFrame, styles: dict[str, dict[str, str]]) -> None:
    """Validation accuracy against learning rate: mean and every seed."""
    for name, style in styles.items():
        own = runs[runs["optimizer"] == name]
        mean = own.groupby("lr")["validation_accuracy"].mean()
        axes.plot(mean.index, 100 * mean, **style)
        axes.plot(
            own["lr"],
            100 * own["validation_accuracy"],
            ls="",
            marker=".",
            ms=3,
            color=style["color"],
        )
    axes.set(
        xscale="log", xlabel="learning rate (log)", ylabel="validation accuracy (%)", ylim=(0, 102)
    )
    axes.set_title("What the rate does to it", loc="left")


def main() -> None:
    """Train if need be, draw, save."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "studies/quickstart"
    with optrial.Study.from_file("quickstart").run(folder) as results:
        runs = results.runs()
        names = list(dict.fromkeys(runs["optimizer"]))
        styles = {
            name: {"color": colour, "marker": marker}
            for name, colour, marker in zip(names, COLOURS, MARKERS, strict=True)
        }
        mpl.rcParams.update(
            {"axes.spines.top": False, "axes.spines.right": False, "lines.markersize": 4}
        )
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        draw_training(left, results, styles)
        draw_sensitivity(right, runs, styles)
    figure.savefig(Path(__file__).with_name("quickstart.png"), dpi=160)


if __name__ == "__main__":
    main()
