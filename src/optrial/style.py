"""Style of figures and pages: themes, print style, and the line styles of optimizers.

An optimizer has the same colour, marker and dash pattern in every figure, table and page. Colours
stay distinct with any common colour-vision deficiency and stand out from the background.
"""

from __future__ import annotations

import os
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from optrial.errors import Problem, StudyError, suggest
from optrial.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURED",
    "COLOURS",
    "DARK",
    "FIGURE_FORMATS",
    "LIGHT",
    "MANY",
    "THEMES",
    "WIDTHS",
    "LineStyle",
    "Theme",
    "blend",
    "css_tokens",
    "figure_format",
    "figure_style",
    "line_styles",
    "literal",
    "marker_outline",
    "save_figure",
    "unknown_suffix",
    "variant_styles",
]


@dataclass(frozen=True)
class Theme:
    """The colours of one theme, as #rrggbb.

    Attributes:
        name: "light" or "dark".
        background: of pages and figures.
        surface: of boxes, table heads and buttons on it.
        text: of everything that is read.
        muted: text of second rank; still at least 4.5 : 1 on both backgrounds.
        rule: hairlines, ticks and grids.
        accent: links, focus and the slider.
        low: filling of a contour plot at its minimum.
        high: the same at its greatest value.
        contour: its lines.
        lines: the colours of optimizers.
    """

    name: Literal["light", "dark"]
    background: str
    surface: str
    text: str
    muted: str
    rule: str
    accent: str
    low: str
    high: str
    contour: str
    lines: tuple[str, ...]

    @property
    def grey(self) -> str:
        """Colour of the optimizers that are not among the best of many."""
        return blend(self.background, self.muted, 0.45)


# Found by simulated annealing: the least difference (CIEDE2000) between any two colours, seen with
# normal vision, protanopia, deuteranopia and tritanopia, was made as large as it gets at a contrast
# of 3 : 1 to the background and a limited chroma; the first nine lie further apart.
LIGHT = Theme(
    name="light",
    background="#ffffff",
    surface="#f3f5f8",
    text="#1b222c",
    muted="#566070",
    rule="#c9d0da",
    accent="#0b62b0",
    low="#ffffff",
    high="#c6d1de",
    contour="#a3b1c3",
    lines=(
        "#0b55d2",  # blue
        "#f96175",  # coral
        "#138300",  # green
        "#bc70e5",  # orchid
        "#803b24",  # brown
        "#4f9f9a",  # teal
        "#917a52",  # khaki
        "#0c5f5d",  # pine
        "#b70361",  # crimson
        "#8e9d1c",  # olive
        "#764c8f",  # plum
        "#718bb0",  # slate
    ),
)
DARK = Theme(
    name="dark",
    background="#161b22",
    surface="#212833",
    text="#e8ecf2",
    muted="#a3aebd",
    rule="#3d4756",
    accent="#6cb6ff",
    low="#161b22",
    high="#3a475a",
    contour="#586880",
    lines=(
        "#bcd4ff",
        "#f28744",
        "#208f61",
        "#9e6bf0",
        "#987801",
        "#06a7ba",
        "#dfde40",
        "#12f3a0",
        "#126ab3",
        "#d89898",
        "#ff72d6",
        "#e73b5c",
    ),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}

COLOURS = len(LIGHT.lines)
MANY = 8
"""Most optimizers whose lines are all drawn in colour."""
COLOURED = 6
"""Optimizers drawn in colour among more than these; the others are grey."""
STAR = 6.0
"""Size of a star in points; at that of the other markers it looks like a dot."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 1.5, 1.5, 1.5))
"""Lengths of dashes and gaps, in line widths; none for a solid line."""
SHADES = 0.45
"""Shade of the last of several lines of one optimizer."""
MARKER_SHIFT = 5
"""From one dash pattern to the next, so that lines of one colour differ in marker too."""

FIXED = (
    ("sgd", "adam", "momentum", "rmsprop", "adamw", "nesterov"),
    ("adagrad", "lion", "muon", "adadelta", "lamb", "prodigy"),
    # From here on dashed, in the colour of a relative.
    ("schedule_free_sgd", "amsgrad", "lars", "rmsprop_nesterov", "schedule_free_adamw", "nadam"),
    ("adafactor", "radam", "adamax", "yogi", "adan", "adopt"),
    ("signsgd", "adabelief", "qhm", "rprop", "adam_mini", "asgd"),
    ("shampoo", "signum", "normuon", "laprop", "ademamix", "scion"),
    ("sophia_h", "adahessian", "lbfgs", "soap", "psgd_kron"),
)
SLOTS = {name: slot for slot, name in enumerate(name for row in FIXED for name in row)}
"""The place of well-known optimizers among all combinations of colour and dash pattern."""


@dataclass(frozen=True)
class LineStyle:
    """Line style of one optimizer.

    Attributes:
        colour: index into `Theme.lines`.
        marker: matplotlib's name of it.
        dashes: lengths of dashes and gaps, in line widths; empty for a solid line.
        shade: from -1, blended into the background, to 1, blended into the text; 0 for the colour
            itself.
    """

    colour: int
    marker: str
    dashes: tuple[float, ...]
    shade: float = 0.0

    def matplotlib(self, theme: Theme) -> dict[str, Any]:
        """Return the keyword arguments of `Axes.plot`."""
        end = theme.background if self.shade < 0 else theme.text
        return {
            "color": blend(theme.lines[self.colour], end, abs(self.shade)),
            "marker": self.marker,
            "markeredgecolor": theme.background,
            "linestyle": (0, self.dashes) if self.dashes else "solid",
            **({"markersize": STAR} if self.marker == "*" else {}),
        }


def line_styles(names: Iterable[str], leading: Sequence[str] = ()) -> dict[str, LineStyle]:
    """Return a style for every optimizer, different for up to 48; up to 12 differ in colour.

    A well-known name has its own style, unless a better-known one of the same colour is there.
    Other names have a style that is computed from the name, or the next one that is free.

    Args:
        names: the optimizers.
        leading: those that need different colours most, if there are more names than colours.
    """
    names = list(dict.fromkeys(names))
    first = leading if len(names) > COLOURS else ()
    known = sorted((name for name in names if name in SLOTS), key=SLOTS.__getitem__)
    slots: dict[str, int] = {}
    for name in dict.fromkeys([*first, *known, *names]):
        taken = set(slots.values())
        own = SLOTS.get(name, zlib.crc32(name.encode()))
        slots[name] = own if name in SLOTS and _is_free(own, taken) else _free_slot(own, taken)
    return {name: _style(slots[name]) for name in names}


def variant_styles(optimizers: Sequence[str], styles: Mapping[str, LineStyle]) -> list[LineStyle]:
    """Return a style for each line; lines of one optimizer are told apart.

    They have shades of its colour, from light to dark, with their own markers and dashes. If all
    lines belong to one optimizer, each has its own colour instead.

    Args:
        optimizers: the optimizer of each line.
        styles: style of each optimizer.
    """
    counts = Counter(optimizers)
    if len(counts) == 1 and 1 < len(optimizers) <= COLOURS:
        first = styles[optimizers[0]].colour
        return [_style((first + place) % COLOURS) for place in range(len(optimizers))]
    seen: Counter[str] = Counter()
    variants = []
    for name in optimizers:
        variants.append(_variant(styles[name], seen[name], counts[name]))
        seen[name] += 1
    return variants


def _variant(style: LineStyle, place: int, count: int) -> LineStyle:
    """Return the style of one of `count` lines of an optimizer."""
    if count == 1:
        return style
    marker = MARKERS[(MARKERS.index(style.marker) + place) % len(MARKERS)]
    pattern = (DASHES.index(style.dashes) + place) % len(DASHES)
    shade = SHADES * (2 * place / (count - 1) - 1)
    return replace(style, marker=marker, dashes=DASHES[pattern], shade=shade)


def css_tokens() -> str:
    """Return a style sheet that defines the colours of both themes as custom properties.

    The theme is the reader's own (``prefers-color-scheme``); ``data-theme`` on the root overrides.
    """
    light, dark = (_properties(theme) for theme in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}"
        ":root[data-theme=light]{color-scheme:light}"
    )


def blend(first: str, second: str, share: float) -> str:
    """Return the colour `share` of the way from #rrggbb `first` to `second`."""
    pairs = zip(_channels(first), _channels(second), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


WIDTHS = {"column": 3.4, "page": 7.0}
"""Inches: one column of a journal, and its full width."""

DOTS_PER_INCH = 300

FIGURE_FORMATS = ("png", "pdf", "svg")


@contextmanager
def figure_style(theme: Theme = LIGHT) -> Iterator[None]:
    """Draw matplotlib figures in the project's style: thin axes, 7 to 8 point type, for print."""
    import matplotlib as mpl  # heavy  # noqa: PLC0415

    with mpl.rc_context(_print_settings(theme)):
        yield


def figure_format(file: Path) -> str:
    """Return the format of a figure, by the suffix of its file: "png", "pdf" or "svg".

    Raises:
        StudyError: the suffix is another one.
    """
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in FIGURE_FORMATS:
        raise StudyError([Problem("", unknown_suffix(suffix, FIGURE_FORMATS))], str(file))
    return suffix


def unknown_suffix(suffix: str, formats: Iterable[str]) -> str:
    """Return why no figure can be written to a file with this suffix, and which suffixes can."""
    if not suffix:
        return f"the file has no suffix, which says how to write it. {suggest('', formats)}"
    return f"'.{suffix}' is not a format of figures. {suggest(suffix, formats)}"


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure as PNG, PDF or SVG, by its suffix: the same bytes each time.

    Raises:
        StudyError: the suffix is another one.
        OSError: the file cannot be written.
    """
    suffix = figure_format(file)
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    drawn = BytesIO()  # whose writing cannot fail: Matplotlib would hide an error of the disk
    with figure_style(), _without_epoch():
        figure.savefig(drawn, format=suffix, metadata=undated[suffix], dpi=DOTS_PER_INCH)
    write_whole(file, drawn.getvalue())


@contextmanager
def _without_epoch() -> Iterator[None]:
    """Hide a variable that Matplotlib reads for dates, whatever it holds."""
    epoch = os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        if epoch is not None:
            os.environ["SOURCE_DATE_EPOCH"] = epoch


def literal(text: str) -> str:
    """Return text as matplotlib shows it unchanged: without this, $...$ would be a formula.

    A character that its font lacks, such as an emoji, is shown by its name: [rocket].
    """
    return "".join(map(_drawn, text)).replace("$", r"\$")


def marker_outline(marker: str, size: float) -> str:
    """Return a matplotlib marker as the ``d`` of an SVG path around (0, 0), `size` pixels wide."""
    from matplotlib.markers import MarkerStyle  # heavy  # noqa: PLC0415

    style = MarkerStyle(marker)
    outline = style.get_path().transformed(style.get_transform())
    corners = np.asarray(outline.to_polygons()[0])
    points = (f"{size * x:.2f},{-size * y:.2f}" for x, y in corners)
    return f"M{'L'.join(points)}Z"


@cache
def _drawn(character: str) -> str:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # heavy  # noqa: PLC0415

    if character.isascii() or get_font(findfont(FontProperties())).get_char_index(ord(character)):
        return character
    return f"[{unicodedata.name(character, f'U+{ord(character):04X}').lower()}]"


def _is_free(slot: int, taken: Set[int]) -> bool:
    """Return whether a slot is free, and its colour too, unless every colour is taken."""
    colours = {other % COLOURS for other in taken}
    return slot not in taken and (slot % COLOURS not in colours or len(colours) == COLOURS)


def _free_slot(start: int, taken: Set[int]) -> int:
    """Return the first free slot from `start` on, if possible one in a colour that is free too."""
    colours = [(start + offset) % COLOURS for offset in range(COLOURS)]
    slots = [COLOURS * cycle + colour for cycle in range(len(DASHES)) for colour in colours]
    taken_colours = {slot % COLOURS for slot in taken}
    free = [slot for slot in slots if slot not in taken]
    return next((slot for slot in free if slot % COLOURS not in taken_colours), (free or slots)[0])


def _style(slot: int) -> LineStyle:
    cycle, colour = divmod(slot, COLOURS)
    marker = MARKERS[(colour + MARKER_SHIFT * cycle) % len(MARKERS)]
    return LineStyle(colour, marker, DASHES[cycle])


def _properties(theme: Theme) -> str:
    names: Sequence[str] = ("background", "surface", "text", "muted", "rule", "accent")
    colours = {name: getattr(theme, name) for name in (*names, "low", "high", "contour")}
    colours |= {f"line-{index}": colour for index, colour in enumerate(theme.lines)}
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _channels(colour: str) -> list[int]:
    return list(bytes.fromhex(colour.removeprefix("#")))


def _print_settings(theme: Theme) -> Any:
    """Return matplotlib's settings, in points and inches."""
    return {
        "figure.figsize": (WIDTHS["column"], 2.5),
        "figure.constrained_layout.use": True,
        "figure.facecolor": theme.background,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.title_fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 2.6,
        "legend.labelspacing": 0.3,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.muted,
        "axes.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.rule,
        "grid.linewidth": 0.4,
        "lines.linewidth": 1.1,
        "lines.markersize": 4,
        "lines.markeredgewidth": 0.4,
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.text,
        "ytick.labelcolor": theme.text,
        "legend.labelcolor": theme.text,
        # Type 42 keeps text editable and is what journals ask for; SVG text becomes outlines, so
        # that it looks the same without the font.
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "optrial",
    }
