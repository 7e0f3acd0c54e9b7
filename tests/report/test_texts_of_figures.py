"""Texts of figures are whole and apart from one another, by the boxes that matplotlib draws."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from optrial.report.axes import Stacks, grow_for_legend, legend
from optrial.report.figures import draw_differences
from optrial.style import WIDTHS, figure_style
from tests.report.studies import made_up_records, made_up_view

TOUCHING = 0.5
"""Pixels by which boxes of texts may reach into one another."""


def check_texts(figure: Figure) -> None:
    """Draw a figure; all of each text is on it, and no two texts overlap."""
    boxes: list[tuple[str, Bbox]] = []
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with pytest.MonkeyPatch.context() as patch:
        draw = Text.draw

        def record(text: Text, renderer: Any, *arguments: Any) -> None:
            if text.get_visible() and text.get_text().strip():
                boxes.append((text.get_text(), Text.get_window_extent(text, renderer)))
            draw(text, renderer, *arguments)

        patch.setattr(Text, "draw", record)
        canvas.draw()
    assert boxes
    for text, box in boxes:
        whole = box.x0 >= -TOUCHING and box.x1 <= figure.bbox.width + TOUCHING
        assert whole, f"{text} is cut"
    for (text, one), (other, two) in combinations(boxes, 2):
        wide = min(one.x1, two.x1) - max(one.x0, two.x0)
        high = min(one.y1, two.y1) - max(one.y0, two.y0)
        assert min(wide, high) <= 2 * TOUCHING, f"{text} overlaps {other}"


def column() -> Figure:
    return Figure(figsize=(WIDTHS["column"], 2.9))


def test_marks_beside_one_another_stack_and_stay_inside() -> None:
    with figure_style():
        figure = column()
        axes = figure.add_subplot()
        axes.set(xscale="log", xlim=(0.001, 0.1), ylim=(0, 1))
        stacks = Stacks(axes)
        for below in (True, False):
            for rate in (0.001, 0.009, 0.01, 0.011, 0.03, 0.1):
                stacks.add(rate, f"▾ {7.47e28:.3g}", "black", below=below)
        check_texts(figure)
        rows = {text.xyann[1] for text in axes.texts}
        assert len(rows) <= 6  # those that have room share a row


@pytest.mark.parametrize("name", ["momentum lr=0.09", "WWWWWWWWWW lr=0.1", "i" * 60, "n" * 41])
def test_a_legend_leaves_the_width_to_the_axes(name: str) -> None:
    with figure_style():
        figure = column()
        axes = figure.add_subplot()
        for number in range(4):
            axes.plot([0, 1], [0, 1000 * number], label=f"{name}{number}")
        axes.set_ylabel("training loss")
        legend(axes)
        grow_for_legend(axes)
        check_texts(figure)
        assert axes.get_window_extent().width > 0.7 * figure.bbox.width


def test_long_names_of_runs_that_diverged_fit() -> None:
    names = ["sgd_with_a_long_name", "adam_with_a_long_name"]
    records = made_up_records(names, (0.1,), 3, diverged=(0, 1, 2))
    (problem,) = made_up_view(records).problems
    with figure_style():
        figure = Figure(figsize=(WIDTHS["column"], 1.2))
        axes = figure.add_subplot()
        draw_differences(axes, problem)
        check_texts(figure)
        assert axes.get_window_extent().width > 0.4 * figure.bbox.width
