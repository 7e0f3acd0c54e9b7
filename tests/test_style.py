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
# From linear sRGB to XYZ (IEC 61966-2-1).
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
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


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, with the white of the screen."""
    share = TO_XYZ @ light / TO_XYZ.sum(axis=1)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), 24389 / 27 / 116 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(first: np.ndarray, second: np.ndarray) -> float:
    """The difference of two colours in CIELAB; 1 is just noticeable. Sharma et al. 2005."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    (c1, h1), (c2, h2) = (
        (np.hypot(stretch * a, b), np.arctan2(b, stretch * a) % (2 * np.pi))
        for a, b in ((a1, b1), (a2, b2))
    )
    turn = (h2 - h1 + np.pi) % (2 * np.pi) - np.pi
    hue = h1 + turn / 2
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = 1 - 0.17 * np.cos(hue - np.pi / 6) + 0.24 * np.cos(2 * hue)
    weight += 0.32 * np.cos(3 * hue + np.pi / 30) - 0.2 * np.cos(4 * hue - np.radians(63))
    of_lightness = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    degrees = np.degrees(hue) % 360
    rotation = np.radians(60 * np.exp(-(((degrees - 275) / 25) ** 2)))
    cross = -np.sin(rotation) * 2 * np.sqrt(chroma**7 / (chroma**7 + 25**7))
    parts = np.array(
        [
            (l2 - l1) / of_lightness,
            (c2 - c1) / (1 + 0.045 * chroma),
            2 * np.sqrt(c1 * c2) * np.sin(turn / 2) / (1 + 0.015 * chroma * weight),
        ]
    )
    return float(np.sqrt((parts**2).sum() + cross * parts[1] * parts[2]))


def test_colour_differences_are_those_of_the_paper() -> None:
    # Pairs 1 and 17 of table 1 of Sharma et al. 2005.
    blues = np.array([[50.0, 2.6772, -79.7751], [50.0, 0.0, -82.7485]])
    far = np.array([[50.0, 2.5, 0.0], [73.0, 25.0, -18.0]])
    assert round(ciede2000(*blues), 4) == 2.0425
    assert round(ciede2000(*far), 4) == 27.1492


@every_theme
@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart(theme: Theme, vision: str) -> None:
    seen = [lab(np.clip(VISION[vision] @ linear(c), 0, 1)) for c in theme.lines]
    differences = {(i, j): ciede2000(seen[i], seen[j]) for i, j in combinations(range(COLOURS), 2)}
    least, least_of_nine = (19, 24) if vision == "normal" else (8.5, 10)
    assert min(differences.values()) > least
    assert min(d for (_, j), d in differences.items() if j < 9) > least_of_nine


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


def test_colours_differ_as_long_as_there_are_enough() -> None:
    relatives = ["radam", "lion", "yogi", "adadelta", "mine", "schedule_free_sgd", "sgd"]
    styles = line_styles(relatives)
    assert len({style.colour for style in styles.values()}) == len(relatives)
    assert all(styles[name] == line_styles([name])[name] for name in ("lion", "adadelta", "sgd"))


def test_the_leading_ones_of_many_differ_in_colour() -> None:
    leading = ["radam", "lion", "signum", "yogi", "adadelta", "laprop"]
    styles = line_styles(RULES, leading)
    assert list(styles) == list(RULES)
    assert len({styles[name].colour for name in leading}) == len(leading)
    assert len(set(styles.values())) == len(RULES)


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


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_a_date_that_is_none_is_not_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    save_figure(Figure(), tmp_path / f"figure.{suffix}")
    assert (tmp_path / f"figure.{suffix}").stat().st_size > 500


@pytest.mark.parametrize(
    ("name", "reason"),
    [("figure.jpg", "'.jpg' is not a format of figures"), ("figure", "the file has no suffix")],
)
def test_other_formats_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"{reason}.*Allowed: png, pdf"):
        save_figure(Figure(), tmp_path / name)
