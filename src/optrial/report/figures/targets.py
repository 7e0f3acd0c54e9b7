"""Figures of targets: shares of runs that reached one, and performance profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optrial.analysis.target_results import Profile, TargetResult
from optrial.analysis.view import StudyView
from optrial.report.axes import behind, legend
from optrial.report.figures.looks import contender_styles, optimizer_looks
from optrial.style import LIGHT, Theme, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_profile", "draw_targets"]

BEYOND = 1.5
"""Factor by which a line extends beyond its last change."""


def draw_targets(axes: Axes, view: StudyView, result: TargetResult, theme: Theme = LIGHT) -> None:
    """Draw the share of runs that reached a target by step; a bar where runs ended without it."""
    styles = contender_styles(view, [times.contender for times in result.steps])
    looks = optimizer_looks(view, theme)
    places = list(looks)
    for times in sorted(result.steps, key=lambda times: places.index(times.contender.optimizer)):
        style = styles[times.contender.name].matplotlib(theme)
        if looks[times.contender.optimizer]["color"] == theme.grey:  # one of many
            style |= behind(theme)
        arrivals = times.survival.times
        steps = np.array([0.0, *arrivals, result.drawn_until(times)])
        reached = 100 * np.array([0.0, *(1 - times.survival.share)])
        reached = np.array([*reached, reached[-1]])
        label = literal(f"{times.contender.name} ({times.reached} of {times.runs})")
        marked = [*range(1, len(arrivals) + 1)]
        axes.plot(steps, reached, **style, drawstyle="steps-post", markevery=marked, label=label)
        if times.censored:
            axes.plot(steps[-1:], reached[-1:], marker="|", markersize=7, color=style["color"])
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.set_ylim(-3, 103)
    axes.set_ylabel(literal(f"% of runs that reached\n{result.target}"))
    axes.grid(axis="y")
    legend(axes)


def draw_profile(axes: Axes, view: StudyView, profile: Profile, theme: Theme = LIGHT) -> None:
    """Draw on which share of the problems each optimizer is within a factor of the fastest."""
    looks = optimizer_looks(view, theme)
    places = list(looks)
    end = BEYOND * max(profile.factors[-1], 2.0)
    lines = zip(profile.names, profile.optimizers, profile.shares, strict=True)
    for name, optimizer, shares in sorted(lines, key=lambda line: places.index(line[1])):
        style = looks[optimizer]
        factors = [*profile.factors, end]
        changes = np.flatnonzero(np.diff(shares, prepend=0.0)).tolist()
        axes.plot(
            factors,
            100 * np.array([*shares, shares[-1]]),
            **style,
            drawstyle="steps-post",
            markevery=changes,
            label=literal(name),
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0.95, end)
    axes.set_ylim(-3, 103)
    axes.set_xlabel(
        literal(f"median steps to {profile.label},\nas a multiple of the fastest optimizer's")
    )
    axes.set_ylabel(f"% of {profile.problems} problems within")
    axes.grid(axis="y")
    legend(axes)
