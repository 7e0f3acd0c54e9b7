"""Looks that figures share: styles of optimizers and values beyond an edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optrial.analysis.contenders import Contender
from optrial.analysis.view import StudyView
from optrial.report.axes import behind, grow_for_legend, optimizer_styles
from optrial.style import COLOURED, MANY, LineStyle, Theme, figure_style, variant_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contender_styles", "mark_far", "optimizer_looks", "plot", "span_text"]

SCREEN_DPI = 160
"""Dots per inch of a figure in a notebook or window: about 540 pixels in width."""


def plot(draw: Callable[..., None], *arguments: Any, axes: Axes | None = None) -> Axes:
    """Draw onto axes, or onto those of a new figure of pyplot, which a notebook shows."""
    from matplotlib import pyplot  # heavy  # noqa: PLC0415

    # Loads the backend, which lets a notebook show figures; the style would undo that on exit.
    pyplot.draw_if_interactive()  # type: ignore[no-untyped-call]
    with figure_style():
        is_new = axes is None
        axes = axes or pyplot.figure(dpi=SCREEN_DPI).add_subplot()
        draw(axes, *arguments)
        if is_new:
            grow_for_legend(axes)
    return axes


def optimizer_looks(view: StudyView, theme: Theme) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of `Axes.plot` by optimizer.

    Of many optimizers, the best are coloured and come first.
    """
    styles = optimizer_styles(view)
    if len(styles) <= MANY:
        return {name: style.matplotlib(theme) for name, style in styles.items()}
    coloured = view.ranked_optimizers[:COLOURED]
    ordered = sorted(styles, key=lambda name: name not in coloured)
    looks = {name: styles[name].matplotlib(theme) for name in ordered}
    return {n: look if n in coloured else look | behind(theme) for n, look in looks.items()}


def contender_styles(view: StudyView, contenders: Sequence[Contender]) -> dict[str, LineStyle]:
    """Return the style of each contender by name, that of its curve."""
    optimizers = [contender.optimizer for contender in contenders]
    styles = variant_styles(optimizers, optimizer_styles(view))
    return dict(zip((contender.name for contender in contenders), styles, strict=True))


def mark_far(axes: Axes, row: int, values: Sequence[float], theme: Theme, *, left: bool) -> None:
    """Write the values beyond the left or right edge of a row beside it."""
    text = span_text(values)
    axes.text(
        0.0 if left else 1.0,
        float(row),
        f"◂ {text}" if left else f"{text} ▸",
        transform=axes.get_yaxis_transform(),
        ha="left" if left else "right",
        va="center",
        fontsize=7,
        color=theme.text,
    )


def span_text(values: Sequence[float]) -> str:
    """Return values as a text: the only one, or the least and the greatest."""
    ends = dict.fromkeys(f"{end:.3g}".replace("-", "−") for end in (min(values), max(values)))
    return " to ".join(ends)
