"""Draw the pictures of docs/statistics.md beside this file: python docs/figures/make_statistics.py

The measured values are those that the page shows; everything else is drawn with a fixed seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optrial.analysis.statistics import (
    best_of_k,
    kaplan_meier,
    mean_interval,
    performance_profile,
    sign_flip_p_value,
    sign_flip_power,
)
from optrial.style import LIGHT, figure_style, line_styles

HERE = Path(__file__).parent
MUTED, TEXT = LIGHT.muted, LIGHT.text
BLUE, ORANGE, TEAL = LIGHT.lines[:3]
DOTS_PER_INCH = 160


def page_values() -> dict[str, Any]:
    """Return the variables that the Python blocks of docs/statistics.md leave."""
    page = (HERE.parent / "statistics.md").read_text(encoding="utf-8")
    values: dict[str, Any] = {}
    with redirect_stdout(None):
        exec("".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)), values)
    return values


VALUES = page_values()
ACCURACY = {name: np.array(values) for name, values in VALUES["accuracy"].items()}


def draw_pairing(left: Axes, right: Axes) -> None:
    """Accuracies of two optimizers by seed, and the differences."""
    styles = line_styles(["momentum", "nesterov"])
    seeds = range(len(ACCURACY["momentum"]))
    for name, style in styles.items():
        left.plot(seeds, ACCURACY[name], label=name, **style.matplotlib(LIGHT))
    left.set(
        xlabel="seed",
        ylabel="test accuracy (%)",
        title="A seed affects both optimizers",
        xticks=seeds,
    )
    left.legend()
    first, second = ACCURACY["nesterov"], ACCURACY["momentum"]
    differences = {0: (first[:, None] - second).ravel(), 1: first - second}
    for row, colour in zip(differences, (MUTED, BLUE), strict=True):
        values, counts = np.unique(differences[row].round(1), return_counts=True)
        right.scatter(values, np.full(values.size, row), 500 * counts / counts.sum(), color=colour)
    right.axvline(0, color=MUTED, lw=0.5, zorder=0)
    right.set(
        yticks=[0, 1],
        yticklabels=["any two runs", "same seed"],
        ylim=(-0.6, 1.6),
        xlabel="nesterov minus momentum (points)",
        title="Differences within a seed are smaller",
    )


def draw_intervals(axes: Axes) -> None:
    """Intervals of 40 repeated studies around the difference that all of them measure."""
    generator, truth = np.random.default_rng(9), 0.6
    for study in range(40):
        interval = mean_interval(generator.normal(truth, 0.6, 10), generator)
        missed = not interval.low <= truth <= interval.high
        axes.plot(
            [study, study], [interval.low, interval.high], color=ORANGE if missed else BLUE, lw=1.5
        )
        axes.plot(study, interval.estimate, ".", color=ORANGE if missed else BLUE)
    axes.axhline(truth, color=TEXT, lw=0.7)
    axes.set(
        xlabel="study",
        ylabel="difference (points)",
        title="40 studies of 10 seeds; the line is the true difference",
    )


def draw_permutation(axes: Axes) -> None:
    """The mean under all 1,024 ways to flip the signs of ten differences."""
    differences = ACCURACY["adam"] - ACCURACY["nesterov"]
    signs = 1 - 2 * ((np.arange(2**differences.size)[:, None] >> np.arange(differences.size)) & 1)
    means, observed = signs @ differences / differences.size, differences.mean()
    p_value = sign_flip_p_value(differences, np.random.default_rng(0))
    edges = np.arange(-17, 18) / 18  # means lie between: accuracies are multiples of 1 / 360
    extreme = np.abs(means) >= abs(observed) - np.finfo(float).eps * 8
    axes.hist([means[~extreme], means[extreme]], edges, stacked=True, color=[LIGHT.contour, ORANGE])
    axes.axvline(observed, color=TEXT, lw=0.7)
    axes.annotate(
        f"measured: {observed:.2f}",
        (observed, 70),
        (-4, 0),
        textcoords="offset points",
        ha="right",
    )
    axes.set(
        xlabel="mean difference after flipping signs (points)",
        ylabel="of 1,024 ways",
        title=f"{extreme.sum()} of 1,024 are as far from 0: p = {p_value:.3f}",
    )


def draw_power(axes: Axes) -> None:
    """Power by number of seeds, for three sizes of difference."""
    seeds = np.arange(2, 31)
    for effect, colour in zip((0.5, 1.0, 2.0), (BLUE, TEAL, ORANGE), strict=True):
        chances = [100 * sign_flip_power(count, effect) for count in seeds]
        axes.plot(
            seeds, chances, color=colour, label=f"{effect:g} standard deviation{'s' * (effect > 1)}"
        )
    axes.axvspan(0, 5.5, color=LIGHT.surface)
    axes.annotate("too few\nfor any\nresult", (2.75, 50), ha="center", va="center", color=MUTED)
    axes.set(xlabel="paired seeds", ylabel="power (%)", ylim=(-2, 102), xlim=(0, 30))
    axes.legend(loc="lower right", title="a difference of", alignment="left")


def draw_survival(axes: Axes) -> None:
    """Share of runs that have not reached the target, by step."""
    survival = kaplan_meier(VALUES["steps"], VALUES["reached"])
    end = max(VALUES["steps"])
    steps = np.concatenate([[0], survival.times, [end]])
    share = 100 * np.concatenate([[1], survival.share, survival.share[-1:]])
    axes.step(steps, share, where="post", color=BLUE)
    axes.axhline(50, color=MUTED, lw=0.5)
    axes.plot(end, share[-1], "|", color=BLUE, ms=9)
    axes.annotate("3 censored", (end, share[-1]), (0, 8), textcoords="offset points", ha="right")
    axes.set(
        xlabel="step",
        ylabel="not yet at the target (%)",
        ylim=(-2, 105),
        title="Half of the runs reach it within 340 steps",
    )


def draw_best_of_k(axes: Axes) -> None:
    """Expected best of k trials, by k."""
    for name, colour in (("careful", BLUE), ("lucky", ORANGE)):
        best = best_of_k(VALUES[name], np.random.default_rng(0), higher_is_better=True)
        axes.plot(best.trials, best.expected, color=colour, label=name)
    axes.set(
        xlabel="trials",
        ylabel="expected best accuracy (%)",
        title="Which is better depends on the number of trials",
    )
    axes.legend()


def draw_problems(left: Axes, right: Axes) -> None:
    """Average ranks over problems with groups that tie, and a performance profile."""
    ranks, steps = VALUES["ranks"], np.array(VALUES["steps_to_target"])
    averages = dict(zip(ranks.order, ranks.average_ranks, strict=True))
    styles = line_styles(["sgd", "momentum", "adam"])
    for row, (name, average) in enumerate(averages.items()):
        left.plot(average, row, **styles[name].matplotlib(LIGHT) | {"linestyle": ""})
    for place, group in enumerate(ranks.groups):
        ends = [averages[group[0]], averages[group[-1]]]
        left.plot(ends, [-0.6 - 0.35 * place] * 2, color=TEXT, lw=2)
    left.set(
        yticks=range(len(averages)),
        yticklabels=list(averages),
        ylim=(2.5, -1.4),
        xlim=(1, 3.1),
        xlabel="average rank over 6 problems",
        title="A bar joins undecided optimizers",
    )
    factors = np.geomspace(1, 8, 200)
    for (name, style), shares in zip(
        styles.items(), performance_profile(steps, factors), strict=True
    ):
        look = style.matplotlib(LIGHT) | {"marker": ""}
        right.plot(factors, 100 * shares, label=name, drawstyle="steps-post", **look)
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter("{x:g}")
    right.set(
        xlabel="steps to the target / fewest steps",
        ylabel="% of problems within",
        ylim=(-3, 103),
        title="Steps on each problem",
    )
    right.legend()


def two(draw: Callable[[Axes, Axes], None]) -> Figure:
    """Return a figure of two panels."""
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.5), width_ratios=[1, 1])
    draw(*axes)
    return figure


def one(draw: Callable[[Axes], None]) -> Figure:
    """Return a figure of one panel."""
    figure, axes = plt.subplots(figsize=(4.6, 2.4))
    draw(axes)
    return figure


def main() -> None:
    """Draw and save."""
    with figure_style():
        figures = {
            "pairing": two(draw_pairing),
            "intervals": one(draw_intervals),
            "permutation": one(draw_permutation),
            "power": one(draw_power),
            "survival": one(draw_survival),
            "best-of-k": one(draw_best_of_k),
            "problems": two(draw_problems),
        }
        for name, figure in figures.items():
            figure.savefig(HERE / f"statistics-{name}.png", dpi=DOTS_PER_INCH)


if __name__ == "__main__":
    main()
