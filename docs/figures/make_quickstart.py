"""Draw the README's picture: python docs/figures/make_quickstart.py [STUDY_FOLDER].

Trains the quickstart study into STUDY_FOLDER (default studies/quickstart) unless it is there, and
writes quickstart.png beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

import optrial
from optrial.style import WIDTHS, figure_style, save_figure


def main() -> None:
    """Train if necessary, draw, save."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "studies/quickstart"
    with optrial.Study.from_file("quickstart").run(folder) as results, figure_style():
        figure = Figure(figsize=(WIDTHS["page"], 2.9))
        left, right = figure.subplots(1, 2)
        results.plot_curves("train_loss_epoch", left)
        results.plot_sensitivity("validation_accuracy", right)
        left.set_ylabel("training loss at the chosen rate")
        handles, names = right.get_legend_handles_labels()
        for axes in (left, right):
            axes.get_legend().remove()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
        save_figure(figure, Path(__file__).with_name("quickstart.png"))


if __name__ == "__main__":
    main()
