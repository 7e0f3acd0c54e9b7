from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.report.pages import parse_page
from tests.report.studies import made_up_records, store_made_up


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store_made_up(tmp_path / "study", made_up_records(diverged=(2,)), name="$x$ <b> & 🚀")
    return tmp_path / "study"


def test_report_writes_one_page_into_the_folder(optrial: Command, folder: Path) -> None:
    answer = optrial("report", folder)
    assert (answer.status, answer.out) == (0, "")
    assert f"wrote {folder / 'report.html'}" in answer.err
    page = parse_page((folder / "report.html").read_text("utf-8"))
    assert page.all("h1")[0].text == "$x$ <b> & 🚀"
    assert optrial("report", folder).status == 0  # the report is renewed


def test_report_compares_on_the_metric_that_is_asked_for(optrial: Command, folder: Path) -> None:
    assert optrial("report", folder, "--out", "own.html", "--metric", "train_loss").status == 0
    text = Path("own.html").read_text("utf-8")
    assert "training loss (per batch)" in text
    assert "lower is better" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["report", "nowhere"], "no study is stored"),
        (["report", "study", "--metric", "accuracy"], "no 'accuracy' is recorded. Did you mean"),
        (["report", "study", "--out", "no/such/folder.html"], "cannot be written: No such file"),
        (["figures", "study", "--format", "gif"], "gif"),
        (["figures", "study", "--out", "study/study.db"], "cannot be written: File exists"),
        (["curves", "study", "--metric", "test_loss", "--wide"], "no curve of 'test_loss'"),
        (["curves", "study", "--metric", "train_loss", "--format", "parquet"], "--out"),
        (["curves", "study", "--metric", "train_loss", "--out", "study/study.db"], "File exists"),
    ],
)
def test_mistakes_are_told_in_a_line(
    optrial: Command, folder: Path, arguments: list[str], problem: str
) -> None:
    answer = optrial(*arguments)
    assert answer.status == 2
    assert problem in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.one_in(3)
@pytest.mark.parametrize("format_", ["png", "pdf", "svg"])
def test_figures_are_written_in_every_format(optrial: Command, folder: Path, format_: str) -> None:
    answer = optrial("figures", folder, "--format", format_, "--out", "pictures")
    assert (answer.status, answer.out) == (0, "")
    written = sorted(file.name for file in Path("pictures").iterdir())
    names = ["curves-test_accuracy", "curves-train_loss", "differences", "rate-ranges"]
    names += ["sensitivity", "timing", "trials"]
    assert written == [f"{name}.{format_}" for name in names]


def test_wide_curves_have_a_row_a_step(optrial: Command, folder: Path) -> None:
    answer = optrial("curves", folder, "--metric", "test_accuracy", "--wide")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert len(rows) == 10
    assert list(rows[0])[:3] == ["step", "epoch", "sgd lr=0.01 seed=0"]
    assert len(rows[0]) == 2 + 12
    assert rows[-1]["sgd lr=0.01 seed=2"] == ""  # it diverged
    long = optrial("curves", folder, "--metric", "test_accuracy").out
    values = {
        (row["run_id"], row["step"]): row["value"] for row in csv.DictReader(io.StringIO(long))
    }
    assert rows[0]["sgd lr=0.01 seed=0"] == values["made-up00000", "20"]


def test_wide_curves_as_json_hold_null(optrial: Command, folder: Path) -> None:
    answer = optrial(
        "curves",
        folder,
        "--metric",
        "test_accuracy",
        "--wide",
        "--format",
        "json",
        "--out",
        "c.json",
    )
    assert (answer.status, answer.out) == (0, "")
    assert json.loads(Path("c.json").read_text("utf-8"))[-1]["sgd lr=0.01 seed=2"] is None


def test_curves_as_parquet(optrial: Command, folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: optrial[parquet]")
    command = ["curves", folder, "--metric", "train_loss", "--format", "parquet", "--out"]
    assert optrial(*command, "long.parquet").status == 0
    assert optrial(*command, "wide.parquet", "--wide").status == 0
    assert list(pandas.read_parquet("long.parquet"))[:2] == ["metric", "run_id"]
    assert len(pandas.read_parquet("wide.parquet")) == 200


def test_show_prints_markdown_and_latex(optrial: Command, folder: Path) -> None:
    markdown = optrial("show", folder, "--format", "markdown").out
    assert markdown.startswith(r"**\$x\$ &lt;b&gt; &amp; 🚀**")
    latex = optrial("show", folder, "--format", "latex").out
    assert r"\caption{\$x\$ \textless{}b\textgreater{} \& 🚀}" in latex
    table = optrial("show", folder).out
    number = "± 0.0"
    assert markdown.count(number) == latex.replace(r"\ensuremath{\pm}", "±").count(number)
    assert markdown.count(number) == table.count(number) > 0
