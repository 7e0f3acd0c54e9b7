"""One optimizer under two names: a tie, wherever the two are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.colors import same_color

from optrial.analysis.audit import report_text
from optrial.analysis.statistics import Verdict, best_sentence, sentence
from optrial.results import Results
from optrial.study import Study
from optrial.style import LIGHT
from tests.small import small_keys

SEEDS = 6


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    optimizers = [{"name": name, "rule": "adam", "lr": 0.03} for name in ("adam", "eve")]
    keys = small_keys(optimizers=optimizers, seeds=SEEDS, engine="numpy", claims=[])
    with Study(**keys).run(tmp_path_factory.mktemp("twins"), device="cpu") as results:
        yield results


def test_in_text(twins: Results) -> None:
    pair = twins.compare("adam", "eve")
    assert pair.verdict == Verdict.UNDECIDED
    assert pair.difference.estimate == 0
    assert "are undecided" in sentence(pair)
    (problem,) = twins.view().problems
    assert problem.comparisons is not None
    verdict = best_sentence(problem.comparisons)
    assert verdict.startswith("No clear winner: adam and eve are level at ")
    assert "adam and eve are undecided on test accuracy" in report_text(twins.audit())


def test_in_the_table(twins: Results, tmp_path: Path) -> None:
    page = twins.report(tmp_path / "page.html").read_text(encoding="utf-8")
    text = re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "are undecided" in text
    assert not re.search(r"\b(adam|eve) (beats|leads|is best)", text)
    assert twins.summary()["test_accuracy_mean"].nunique() == 1


def test_in_the_figure(twins: Results) -> None:
    with mpl.rc_context({"backend": "agg"}):
        axes = twins.plot_differences()
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata() for line in dots] == [[0.0]]
    assert same_color(dots[0].get_markerfacecolor(), LIGHT.background)  # hollow: undecided
