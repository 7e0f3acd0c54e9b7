from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from optrial.errors import StudyError
from optrial.rules import RULES
from optrial.style import (
    COLOURS,
    DARK,
    DASHES,
    FIXED,
    LIGHT,
    THEMES,
    Theme,
    blend,
    css_tokens,
    figure_style,
    line_styles,
    literal,
    marker_outline,
    save_figure,
)

every_theme = pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)

# What people with a colour-vision deficiency see of linear RGB: Machado et al. 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
# From linear RGB to cones and on to OKLab: Ottosson 2020.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> np.ndarray:
    encoded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of relative luminances."""
    luminances = [float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (first, second)]
    return max(luminances) / min(luminances)


def test_contrast_is_wcags() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54  # the well-known lightest grey


@every_theme
def test_text_has_the_contrast_of_wcag_aa(theme: Theme) -> None:
    for background in (theme.background, theme.surface):
        for text in (theme.text, theme.muted, theme.accent):
            assert contrast(text, background) >= 4.5
    assert contrast(theme.text, theme.high) >= 4.5  # labels on contours


@every_theme
def test_lines_stand_out_from_the_background(theme: Theme) -> None:
    for colour in theme.lines:
        assert contrast(colour, theme.background) >= 3


@every_theme
@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart(theme: Theme, vision: str) -> None:
    # In OKLab a distance of 0.02 is just noticeable side by side.
    seen = [np.clip(VISION[vision] @ linear(c), 0, 1) for c in theme.lines]
    places = [TO_OKLAB @ np.cbrt(TO_CONES @ light) for light in seen]
    distances = {
        (i, j): np.linalg.norm(places[i] - places[j]) for i, j in combinations(range(COLOURS), 2)
    }
    assert min(distances.values()) > 0.06
    assert min(d for (_, j), d in distances.items() if j < 9) > 0.085


def test_the_themes_have_as_many_lines() -> None:
    assert len(LIGHT.lines) == len(DARK.lines) == len(set(LIGHT.lines)) == COLOURS


def test_every_rule_has_its_own_style() -> None:
    fixed = [name for row in FIXED for name in row]
    assert len(set(fixed)) == len(fixed)
    styles = line_styles(RULES)
    assert len(set(styles.values())) == len(RULES)
    # Of two in one colour, neither marker nor dashes are the same.
    for first, second in combinations(styles.values(), 2):
        if first.colour == second.colour:
            assert first.marker != second.marker
            assert first.dashes != second.dashes


def test_a_known_name_always_looks_the_same() -> None:
    alone = line_styles(["adam"])["adam"]
    assert line_styles(["mine", "sgd", "other", "adam"])["adam"] == alone
    assert line_styles(["mine"]) == line_styles(["mine"])


def test_forty_eight_names_are_told_apart_and_more_are_drawn() -> None:
    names = [f"mine {number}" for number in range(60)]
    assert len(set(line_styles(names[:48]).values())) == 48 == COLOURS * len(DASHES)
    assert set(line_styles(names)) == set(names)
    dozen = line_styles(names[:12]).values()
    assert len({style.colour for style in dozen}) == 12
    assert not any(style.dashes for style in dozen)


def test_markers_have_outlines_of_their_size() -> None:
    for style in line_styles(RULES).values():
        outline = marker_outline(style.marker, 10)
        numbers = [float(n) for n in outline[1:-1].replace("L", ",").split(",")]
        assert 3 < max(map(abs, numbers)) < 8


def test_tokens_name_every_colour_of_both_themes() -> None:
    sheet = css_tokens()
    for theme in (LIGHT, DARK):
        assert f"--background:{theme.background};" in sheet
        assert all(f"--line-{i}:{colour};" in sheet for i, colour in enumerate(theme.lines))
    assert "prefers-color-scheme:dark" in sheet


def test_blending() -> None:
    assert blend("#000000", "#ffffff", 0.0) == "#000000"
    assert blend("#000000", "#ff8000", 0.5) == "#804000"


def test_print_style_is_small_thin_and_gone_afterwards() -> None:
    before = dict(mpl.rcParams)
    with figure_style(DARK):
        of_text = ("font.size", "labelsize", "titlesize", "fontsize")
        sizes = [value for key, value in mpl.rcParams.items() if key.endswith(of_text)]
        assert min(size for size in sizes if isinstance(size, int | float)) >= 7
        assert mpl.rcParams["axes.linewidth"] <= 0.6
        assert mpl.rcParams["figure.figsize"][0] == 3.4
        assert mpl.rcParams["figure.facecolor"] == DARK.background
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures_are_the_same_bytes_each_time(suffix: str, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        with figure_style():
            figure = Figure()
            axes = figure.add_subplot()
            axes.plot([1, 2], label="line")
            axes.set_title(literal("costs $5 or $6"))
        save_figure(figure, tmp_path / f"{name}.{suffix}")
        contents.append((tmp_path / f"{name}.{suffix}").read_bytes())
    assert contents[0] == contents[1]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"'.jpg' is no format of figures. .*Allowed: png, pdf"):
        save_figure(Figure(), tmp_path / "figure.jpg")
