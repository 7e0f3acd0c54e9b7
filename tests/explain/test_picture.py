from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from optrial.explain.figure import landscape_figure
from optrial.explain.landscape import Landscape, make_landscape
from optrial.explain.picture import draw_scene, landscape_page, outline
from optrial.report.drawing import Span, log_ticks, ticks
from optrial.report.pages import embedded_json
from optrial.style import DARK, LIGHT, THEMES, Theme
from tests.report.pages import parse_page
from tests.tolerance import DRAWN_PIXEL, THREE_DIGITS

NASTY = "</script><img src=x onerror=alert(1)> & $x^$ _a_"


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    return make_landscape("rosenbrock", "sgd:lr=0.001,adam:lr=0.1,momentum:lr=0.1", 20)


def test_the_page_holds_everything(landscape: Landscape) -> None:
    text = landscape_page(landscape)
    assert len(text) < 500_000
    page = parse_page(text)
    assert len(page.all("math")) == 1
    tracks, curves = page.all("g", class_="track"), page.all("g", class_="curve")
    assert len(tracks) == len(curves) == 3
    for path, track, curve in zip(landscape.paths, tracks, curves, strict=True):
        for group in (track, curve):
            points = group.all("polyline")[0].attributes["points"].split(" ")
            assert len(points) == len(path.points)
            head = group.all("path", class_="marker")[0].attributes["transform"]
            assert head == f"translate({points[-1]})"
    labels = [label.text.strip() for label in page.all("label", class_="entry")]
    assert labels == [path.label for path in landscape.paths]
    cells = [cell.text for cell in page.all("td", class_="number")]
    assert cells[2] == f"left at step {landscape.paths[2].left_at}"
    assert float(cells[0]) == pytest.approx(landscape.paths[0].values[-1], rel=THREE_DIGITS)


def test_the_player_knows_every_value_and_control(landscape: Landscape) -> None:
    page = parse_page(landscape_page(landscape))
    data, script = page.all("script")
    for values, path in zip(json.loads(data.text), landscape.paths, strict=True):
        assert values == [float(f"{value:.4g}") for value in path.values]
    ids = {element.attributes["id"] for element in page.all() if "id" in element.attributes}
    assert set(re.findall(r'getElementById\("(\w+)"\)', script.text)) <= ids
    (slider,) = page.all("input", id="step")
    assert (slider.attributes["max"], slider.attributes["aria-label"]) == ("20", "step")
    assert "prefers-reduced-motion" in script.text
    assert page.all("button", id="play")[0].attributes["type"] == "button"
    # Without the script the controls are hidden and the paths are whole.
    assert "hidden" in page.all("div", id="controls")[0].attributes


def test_points_are_drawn_at_their_coordinates(landscape: Landscape) -> None:
    scene = draw_scene(landscape)
    x, y = (float(n) for n in scene.tracks[0].points.split(" ")[0].split(","))
    assert (x, y) == scene.start
    share = (landscape.start[0] - -2) / 4
    assert x == pytest.approx(
        scene.x.first + share * (scene.x.last - scene.x.first), abs=DRAWN_PIXEL
    )
    # Up is up.
    assert scene.y.pixels(np.array(3.0)) < scene.y.pixels(np.array(-1.0))


def test_names_are_escaped(landscape: Landscape) -> None:
    nasty = replace(landscape.paths[0], name=NASTY, label=NASTY)
    changed = replace(landscape, title=NASTY, note=NASTY, source=NASTY, paths=[nasty])
    page = parse_page(landscape_page(changed))
    assert page.all("h1")[0].text == NASTY
    assert page.all("label", class_="entry")[0].text.strip() == NASTY
    assert not page.all("img")
    assert NASTY in json.loads(embedded_json([NASTY]))
    assert "</script" not in embedded_json([NASTY])
    figure = landscape_figure(changed)
    assert figure.axes[0].get_title(loc="left").replace(r"\$", "$") == NASTY


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_figure_shows_paths_start_minima_and_legend(landscape: Landscape, theme: Theme) -> None:
    figure = landscape_figure(landscape, theme)
    (axes,) = figure.axes
    assert figure.get_figwidth() == 3.4
    assert to_hex(figure.get_facecolor()) == theme.background
    lines = {line.get_color(): line.get_xydata() for line in axes.lines}
    for path in landscape.paths:
        colour = theme.lines[landscape.styles[path.name].colour]
        np.testing.assert_array_equal(lines[colour], path.points)
    drawn = [tuple(line.get_xydata()[0]) for line in axes.lines]
    assert landscape.start in drawn
    assert landscape.minima[0] in drawn
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == f"{landscape.paths[0].label}: {landscape.paths[0].values[-1]:.4g}"
    assert legend[2].endswith(f"left at step {landscape.paths[2].left_at}")
    sizes = [text.get_fontsize() for text in figure.findobj(lambda a: hasattr(a, "get_fontsize"))]
    assert min(sizes) >= 7


def test_a_legend_of_many_paths_stands_beside_the_surface(landscape: Landscape) -> None:
    many = replace(landscape, paths=[*landscape.paths] * 8)
    figure = landscape_figure(many)
    names, surface = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert surface.x1 <= names.x0 < names.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= names.y0 < names.y1 <= figure.bbox.y1


def test_both_themes_draw_the_same_lines(landscape: Landscape) -> None:
    light, dark = (landscape_figure(landscape, theme).axes[0] for theme in (LIGHT, DARK))
    for one, other in zip(light.lines, dark.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_levels_are_at_equal_ratios_and_within(landscape: Landscape) -> None:
    ratios = landscape.levels[1:] / landscape.levels[:-1]
    np.testing.assert_allclose(ratios, ratios[0])
    assert landscape.levels[0] > 0
    assert landscape.levels[-1] < landscape.heights.max()


def test_outline_is_the_region_above_a_level() -> None:
    axis = np.linspace(-10, 10, 201)
    heights = axis[None, :] ** 2 + axis[:, None] ** 2
    rings = re.findall(r"M(.*?)Z", outline(axis, axis, heights, 25.0))
    points = [np.array([p.split(",") for p in ring.split(" ")], dtype=float) for ring in rings]
    (frame, hole) = sorted(points, key=lambda ring: -np.abs(ring).max())
    assert np.abs(frame).max() == 10
    np.testing.assert_allclose(np.hypot(*hole.T), 5.0, atol=DRAWN_PIXEL)


def test_ticks_are_round_and_within() -> None:
    places = ticks(Span(-2.0, 2.0, 0.0, 100.0), 5)
    assert [tick.label for tick in places] == ["−2", "−1", "0", "1", "2"]
    assert [tick.at for tick in places] == [0, 25, 50, 75, 100]
    powers = log_ticks(Span(-12.0, 3.0, 0.0, 150.0), 6)
    assert [tick.label for tick in powers] == ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "10⁰", "10³"]
