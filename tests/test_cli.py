"""The command line as users and scripts meet it."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pytest
import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

import optrial as package
from optrial.analysis.frames import CURVE_COLUMNS, RUN_COLUMNS
from optrial.cli import app, complete
from optrial.config import read_study
from optrial.data import DATASETS
from optrial.functions import FUNCTIONS
from optrial.listings import LISTINGS
from optrial.recipes import RECIPES
from optrial.rules import MODIFIERS, RULES
from optrial.spec import PROBES
from optrial.study import Study
from tests.conftest import Command
from tests.small import small_keys
from tests.tolerance import REPORTED_ACCURACY


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(small_keys(**changes), ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    optimizers = [{"rule": "sgd", "lr": [0.01, 0.1]}, {"name": "mine", "rule": "adam"}]
    return write(tmp_path / "first.yaml", seeds=2, optimizers=optimizers)


def test_run_trains_shows_and_says_where(optrial: Command, study: Path) -> None:
    answer = optrial("run", study)
    assert answer.status == 0
    for word in ("sgd", "lr=0.01", "lr=0.1", "mine", "test accuracy (%)", "±"):
        assert word in answer.out
    assert "6 runs (6 done) in studies/small" in answer.err
    assert Path("studies/small/study.db").exists()


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "optrial", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"optrial {package.__version__}\n"


def test_quiet_prints_the_table_only(optrial: Command, study: Path) -> None:
    answer = optrial("run", study, "--quiet", "--out", "somewhere")
    assert answer.status == 0
    assert answer.err == ""
    assert "test accuracy (%)" in answer.out


def test_runs_as_json(optrial: Command, study: Path) -> None:
    optrial("run", study)
    rows = json.loads(optrial("runs", "studies/small", "--format", "json").out)
    assert len(rows) == 6
    row = rows[-1]
    assert row["optimizer"] == "mine"
    assert row["rule"] == "adam"
    assert row["setting"] == "lr=0.001"
    adam = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert {name: row[name] for name in adam} == adam
    assert (row["seed"], row["status"], row["reason"]) == (1, "done", "")
    assert 0 <= row["test_accuracy"] <= 1
    assert set(row) >= {"train_loss", "train_loss_epoch", "test_loss"}


def test_curves_as_csv_are_the_recorded_numbers(optrial: Command, study: Path) -> None:
    optrial("run", study)
    text = optrial("curves", "small", "--metric", "test_accuracy", "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == CURVE_COLUMNS
    assert [int(row["step"]) for row in rows[:4]] == [10, 20, 30, 40]
    assert [float(row["epoch"]) for row in rows[:4]] == [2.0, 4.0, 6.0, 8.0]
    finals = {
        r["run_id"]: r["test_accuracy"]
        for r in json.loads(optrial("runs", "small", "--format", "json").out)
    }
    assert float(rows[3]["value"]) == finals[rows[3]["run_id"]]


def test_runs_as_csv_and_table(optrial: Command, study: Path) -> None:
    optrial("run", study)
    rows = list(csv.DictReader(io.StringIO(optrial("runs", "small", "--format", "csv").out)))
    assert len(rows) == 6
    assert {"run_id", "lr", "test_accuracy"} <= set(rows[0])
    assert rows[0]["run_id"] in optrial("runs", "small").out


def test_runs_have_the_same_columns_in_every_format(optrial: Command, study: Path) -> None:
    optrial("run", study)
    with package.load("studies/small") as results:
        frame = results.runs()
    columns = list(frame)
    assert columns[: len(RUN_COLUMNS)] == list(RUN_COLUMNS)
    text = optrial("runs", "small", "--format", "csv").out
    assert text.splitlines()[0].split(",") == columns
    assert list(json.loads(optrial("runs", "small", "--format", "json").out)[0]) == columns
    assert optrial("runs", "small", "--format", "parquet", "--out", "runs.parquet").status == 0
    pd.testing.assert_frame_equal(pd.read_parquet("runs.parquet"), frame)
    assert "--out" in optrial("runs", "small", "--format", "parquet").err
    assert optrial("runs", "small", "--format", "csv", "--out", "runs.csv").out == ""
    assert Path("runs.csv").read_text(encoding="utf-8") == text


def test_an_optimizer_is_not_compared_with_itself(optrial: Command, study: Path) -> None:
    optrial("run", study)
    for options in ([], ["--target", "train_loss 0.5"]):
        refused = optrial("compare", "small", "mine", "mine", *options)
        assert refused.status == 2
        assert "'mine' cannot be compared with itself; name two optimizers." in refused.err


def test_names_that_look_like_formulas_in_csv(optrial: Command, tmp_path: Path) -> None:
    keys = small_keys(optimizers=[{"rule": "sgd", "lr": 0.1, "name": "=1+1"}])
    Study(**keys).run(tmp_path / "study").close()
    for command in (["runs"], ["curves", "--metric", "train_loss"]):
        line = [*command, tmp_path / "study", "--format", "csv"]
        (plain, *_) = csv.DictReader(io.StringIO(optrial(*line).out))
        (marked, *_) = csv.DictReader(io.StringIO(optrial(*line, "--spreadsheet").out))
        assert plain["optimizer"] == "=1+1"
        assert marked == plain | {"optimizer": "'=1+1"}
        for file_format in ("json", "parquet", "table"):
            refused = optrial(*line[:-1], file_format, "--spreadsheet")
            assert refused.status == 2
            assert "--spreadsheet: applies to --format csv" in refused.err
    wide = optrial(*line, "--wide", "--spreadsheet").out
    assert wide.startswith("step,epoch,'=1+1 lr=0.1 seed=0\n")


def test_datasets_are_listed_with_their_licence(optrial: Command) -> None:
    lines = optrial("list", "datasets").out.splitlines()
    (fashion,) = (line for line in lines if line.startswith("fashion-mnist"))
    assert "Xiao, Rasul & Vollgraf 2017" in fashion
    assert fashion.endswith("; MIT")


def test_piped_tables_are_tab_separated_and_complete(optrial: Command, study: Path) -> None:
    optrial("run", study)
    header, *lines = optrial("runs", "small").out.splitlines()
    assert header.split("\t")[:3] == ["run_id", "optimizer", "setting"]
    assert {len(line.split("\t")) for line in lines} == {len(header.split("\t"))}
    (adam,) = (x for x in optrial("list", "rules").out.splitlines() if x.startswith("adam\t"))
    assert "lr=0.001, beta1=0.9" in adam
    assert "Kingma" in adam


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file and its results."""
    folder = tmp_path_factory.mktemp("trained")
    optimizers = [{"rule": "sgd", "lr": [0.01, 0.1]}, {"name": "mine", "rule": "adam"}]
    file = write(folder / "first.yaml", seeds=2, optimizers=optimizers)
    package.Study.from_file(file).run(folder / "studies" / "small").close()
    return folder


def test_piped_results_have_the_name_in_each_row(
    optrial: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    answer = optrial("show", "small")
    header, *rows = [line.split("\t") for line in answer.out.splitlines()]
    assert header[:3] == ["optimizer", "setting", "runs"]
    assert [row[:2] for row in rows] == [
        *(["sgd", "lr=0.01"], ["sgd", "lr=0.1"], ["mine", "lr=0.001"])
    ]
    assert {len(row) for row in rows} == {len(header)}
    plan = optrial("plan", "first.yaml").out
    assert "│" not in plan
    table, pairs = plan.split("\n\n")[0], plan.split("\n\n")[-1]
    assert {line.count("\t") for line in table.splitlines()} == {5}
    assert all(line.count("\t") == 1 for line in pairs.splitlines())


def test_the_conclusion_comes_first(
    optrial: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    with package.load("small") as results:
        verdict = results.comparisons()[0]
    assert optrial("show", "small").err.startswith(verdict)
    assert optrial("best", "small").out.startswith(verdict)
    assert optrial("compare", "small").out.startswith(verdict)


def test_the_report_opens_in_the_browser(
    optrial: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert optrial("report", "small", "--open").status == 0
    assert opened == [(trained / "studies" / "small" / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "no web browser was found" in optrial("report", "small", "--open").err


@pytest.mark.one_in(2)
@pytest.mark.parametrize("width", [60, 80])
def test_tables_fit_a_terminal_and_cut_no_name(
    width: int, optrial: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(trained)
    for arguments, names in {
        ("list", "rules"): {*RULES, *(["lr=0.001,"] if width == 80 else [])},
        ("list", "metrics"): {"balanced_accuracy"},
        ("list", "datasets"): {"fashion-mnist"},
        ("runs", "small"): {"lr=0.01", "mine", "done"},
        ("show", "small"): {"lr=0.01", "mine", "test", "accuracy", "(%)"},
        ("plan", "first.yaml"): {"lr=0.01", "mine"},
        ("best", "small"): {"best", "settings"},
        ("model", "first.yaml"): {"parameters", "Linear", "initialization=torch_default"},
        ("timing", "first.yaml", "--rounds", "3", "--no-memory"): {"step", "(ms)"},
    }.items():
        text = in_terminal(optrial, *arguments)
        drawn = [line for line in text.splitlines() if line[:1] in "┏│└"]
        assert max(map(len, drawn), default=0) <= width, arguments
        assert names <= set(text.replace("│", " ").replace("┃", " ").split()), arguments


def test_a_line_of_torch_fits_a_terminal_and_can_be_pasted(
    optrial: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    optimizers = [{"rule": "adam", "lr": [0.01, 0.1]}]
    file = write(Path("s.yaml"), optimizers=optimizers, evaluate={"on": ["validation"]})
    package.Study.from_file(file).run().close()
    piped = optrial("best", "small").out.splitlines()[-1]
    text = in_terminal(optrial, "best", "small")
    assert len(piped) > 60 >= max(map(len, text.splitlines()))
    statement = text[text.index("optimizer = ") :]
    assert ast.dump(ast.parse(statement)) == ast.dump(ast.parse(piped))


def test_help_names_values_and_whole_sentences() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert command.get_short_help_str().endswith("."), name
        context = typer.Context(command)
        for parameter in command.get_params(context):
            names, _ = parameter.get_help_record(context) or ("", "")
            assert not re.search(r"<[^|>]*>", names), (name, names)  # <int>, but not <yes|no>


def test_the_usage_of_a_command_is_as_in_its_help(optrial: Command) -> None:
    assert "Usage: optrial compare [OPTIONS] [DIR... [A B]]" in optrial("compare", "--help").out
    assert "Usage: optrial run [OPTIONS] STUDY" in optrial("run").err


def in_terminal(optrial: Command, *arguments: str) -> str:
    """What a command prints to a terminal, without styles."""
    ours, theirs = pty.openpty()
    parts: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # on Linux, the end is an error
            while part := os.read(ours, 4096):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal, redirect_stdout(terminal):
        assert optrial(*arguments).status == 0
    reader.join()
    os.close(ours)
    return re.sub(r"\x1b\[[\d;?]*\w", "", b"".join(parts).decode())


def test_completion_knows_the_catalogues() -> None:
    assert set(complete.RULES) == set(RULES)
    assert set(complete.MODIFIERS) == set(MODIFIERS)
    assert set(complete.FUNCTIONS) == set(FUNCTIONS)
    assert set(complete.DATASETS) == {name for name, e in DATASETS.items() if e.megabytes}


COMPLETED = {
    "explain ada": {name for name in RULES if name.startswith("ada")},
    "explain adamw": {"adamw"},
    "explain adam amsg": {"amsgrad"},
    "recipe quick": {"quickstart"},
    "run quick": {"quickstart"},
    "run fir": {"first.yaml"},
    "data fetch cif": {"cifar-10"},
    "landscape be": {"beale"},
    "list ru": {"rules"},
    "show sm": {"small"},
    "show stud": {"studies/"},
    "compare small ": {"sgd", "mine"},
    "curves small --metric test_a": {"test_accuracy"},
    "curves nowhere --metric test_a": set(),
}
# One process answers all, as each imports the same few modules.
COMPLETE = """
import contextlib, io, json, os, sys
from optrial.cli import main
answers, lines, sys.argv = {}, sys.argv[1:], ["optrial"]
os.environ["_OPTRIAL_COMPLETE"] = "complete_bash"
for line in lines:
    os.environ["COMP_WORDS"] = f"optrial {line}"
    os.environ["COMP_CWORD"] = str(line.count(" ") + 1)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    answers[line] = out.getvalue().split()
    assert not {"numpy", "sqlalchemy", "torch"} & set(sys.modules), line
print(json.dumps(answers))
"""


def test_arguments_are_completed(trained: Path) -> None:
    command = [sys.executable, "-c", COMPLETE, *COMPLETED]
    done = subprocess.run(command, cwd=trained, capture_output=True, text=True, check=True)
    assert "Error" not in done.stderr
    assert {line: set(found) for line, found in json.loads(done.stdout).items()} == COMPLETED


def test_plan_runs_nothing(optrial: Command, study: Path) -> None:
    answer = optrial("plan", study)
    assert answer.status == 0
    assert re.search(r"runs\s+6 \(plan", answer.out)
    assert "about" in answer.out
    assert "160 train, 40 test" in answer.out
    assert not Path("studies").exists()


def test_show_equals_what_run_showed(optrial: Command, study: Path) -> None:
    assert optrial("run", study).out == optrial("show", "studies/small").out


def test_options_override_the_study(optrial: Command, study: Path) -> None:
    options = ["--engine", "numpy", "--seeds", "1", "--precision", "float64"]
    optrial("run", study, *options, "--set", "budget.steps=5", "--set", "optimizers.mine.lr=0.5")
    rows = json.loads(optrial("runs", "small", "--format", "json").out)
    assert [row["step"] for row in rows] == [5, 5, 5]
    assert rows[-1]["lr"] == 0.5


def test_options_are_declared_with_their_names() -> None:
    """Some versions of Typer name an option after a metavar that is its name in capitals."""
    groups, options = [app], []
    for group in groups:
        groups += [info.typer_instance for info in group.registered_groups if info.typer_instance]
        for command in group.registered_commands:
            hints = get_type_hints(command.callback, include_extras=True)
            options += [
                (name, entry)
                for name, hint in hints.items()
                for entry in getattr(hint, "__metadata__", ())
                if isinstance(entry, OptionInfo)
            ]
    assert len(options) > 100
    for name, option in options:
        is_declared = str(option.default).startswith("--")  # the first argument of typer.Option
        assert option.metavar != name.upper() or is_declared, name


def test_failed_runs_give_status_one(optrial: Command, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.yaml", optimizers=[{"rule": "sgd", "lr": [0.1, 1e30]}])
    answer = optrial("run", bad)
    assert answer.status == 1
    assert "1 diverged" in answer.out
    assert "diverged: sgd lr=1e+30 seed=0: train_loss" in answer.err
    rows = json.loads(optrial("runs", "small", "--format", "json").out)
    assert [row["status"] for row in rows] == ["done", "diverged"]
    assert (rows[0]["train_loss"] is None, rows[1]["train_loss"]) == (False, None)


def test_names_are_text_everywhere(optrial: Command, tmp_path: Path) -> None:
    name = '<b>[red]"Ünï" 🚀'
    odd = write(tmp_path / "odd.yaml", name=name, optimizers=[{"rule": "sgd", "name": name}])
    answer = optrial("run", odd)
    assert answer.status == 0
    assert answer.out.count(name) == 1
    assert name in optrial("runs", "studies/b-red-Ünï").out
    assert name in optrial("plan", odd).out


@pytest.mark.parametrize(
    ("catalogue", "names"),
    [
        ("rules", list(RULES)),
        ("datasets", ["digits", "moons", "mnist", "cifar-10"]),
        ("models", ["mlp"]),
        ("recipes", [name for name in RECIPES if not name.endswith("-small")]),
        ("probes", list(PROBES)),
    ],
)
def test_list(optrial: Command, catalogue: str, names: list[str]) -> None:
    answer = optrial("list", catalogue)
    assert answer.status == 0
    for name in names:
        assert name in answer.out


def test_all_that_can_be_listed_is_offered(optrial: Command) -> None:
    assert set(complete.CATALOGUES) == set(LISTINGS)
    answer = optrial("list", "rule")
    assert (answer.status, "Did you mean 'rules'?" in answer.err) == (2, True)


def test_recipe_is_printed_or_copied(optrial: Command) -> None:
    text = RECIPES["quickstart"].read_text(encoding="utf-8")
    assert optrial("recipe", "quickstart").out == text
    assert optrial("recipe", "quickstart", "--out", "mine.yaml").status == 0
    assert Path("mine.yaml").read_text(encoding="utf-8") == text
    again = optrial("recipe", "quickstart", "--out", "mine.yaml")
    assert (again.status, "exists" in again.err) == (2, True)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid(name: str) -> None:
    study = package.Study.from_file(name)
    assert study.config.notes


def test_explain(optrial: Command) -> None:
    answer = optrial("explain", "adam", "rmsprop", "adadelta")
    assert answer.status == 0
    for word in ("Kingma", "beta1", "eps", "0.999", "Zeiler"):
        assert word in answer.out


def test_data_verify_and_path(optrial: Command, tmp_path: Path) -> None:
    answer = optrial("data", "verify", "mnist", "--data-dir", tmp_path)
    assert answer.status == 2
    assert answer.out.count("missing") == 4
    assert "optrial data fetch mnist" in answer.err
    paths = optrial("data", "path", "cifar-10", "--data-dir", tmp_path).out.split()
    assert len(paths) == 6
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_version_and_help(optrial: Command) -> None:
    assert package.__version__ in optrial("--version").out
    assert "optrial run quickstart" in optrial("--help").out


def test_debug_raises_what_is_otherwise_one_line(optrial: Command) -> None:
    with pytest.raises(package.StoreError, match="no study is stored"):
        optrial("--debug", "show", "nowhere")
    answer = optrial("show", "nowhere")
    assert answer.status == 2
    assert "no study is stored" in answer.err
    assert "Traceback" not in answer.err


def training(folder: Path) -> bool:
    """Whether a study is under way in `folder`."""
    try:
        with package.load(folder) as results:
            return any(record.step for record in results.records)
    except package.StoreError:
        return False


@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        pytest.param(["list", "rules"], marks=pytest.mark.slow),
        pytest.param(["plan", "STUDY"], marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_behind_the_output(study: Path, command: list[str]) -> None:
    """One message and exit status 2, wherever the output is written."""
    arguments = [str(study) if argument == "STUDY" else argument for argument in command]
    program = [sys.executable, "-c", "from optrial.cli import main; main()", *arguments]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: the output cannot be written: No space")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), SystemError(), RuntimeError("can't start new thread")]
)
def test_memory_that_runs_out_in_a_command(
    error: Exception, study: Path, optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("optrial.study.Study.run", exhaust)
    answer = optrial("run", study)
    assert answer.status == 2
    assert answer.err.startswith("error: memory ran out.")


@pytest.mark.parametrize("failing", [False, True])
def test_interrupted_before_training(
    study: Path, optrial: Command, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    """Ctrl-C ends with a word and 130, also where it makes the clean-up fail."""

    def interrupt(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            if failing:
                raise AssertionError("a rollback was cut short")

    monkeypatch.setattr("optrial.study.Study.run", interrupt)
    answer = optrial("run", study)
    assert answer.status == 130
    assert answer.err.startswith("interrupted")
    assert answer.err.count("\n") == 1


@pytest.mark.slow
def test_interrupted_from_the_keyboard(study: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and names the command that continues."""
    command = [sys.executable, "-c", "from optrial.cli import main; main()", "run", str(study)]
    command += ["--out", str(tmp_path / "out"), "--engine", "reference"]
    command += ["--set", "budget.steps=20000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        deadline = time.monotonic() + 60
        while not training(tmp_path / "out") and time.monotonic() < deadline:
            time.sleep(0.05)
        it.send_signal(signal.SIGINT)
        _, err = it.communicate(timeout=60)
    assert it.returncode == 130
    assert "to continue: optrial run" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(
    "OPTRIAL_DATA" not in os.environ, reason="OPTRIAL_DATA is not set: no MNIST here"
)
@pytest.mark.parametrize(
    ("rule", "reported"),
    [
        ("adam", 0.9721),
        ("sgd", 0.9560),
        ("momentum", 0.9763),
    ],
)
def test_mnist_recipe_ends_at_the_reported_accuracies(
    rule: str, reported: float, tmp_path: Path
) -> None:
    keys = read_study(RECIPES["mnist-optimizers"])
    keys["optimizers"] = [entry for entry in keys["optimizers"] if entry["rule"] == rule]
    del keys["reported"]  # of the other rules too
    with package.Study(**keys).run(tmp_path / "mnist") as results:
        (record,) = results.records
    assert record.metrics["test_accuracy"] == pytest.approx(reported, abs=REPORTED_ACCURACY)


@pytest.mark.parametrize(
    ("command", "words"),
    [("run", "studies/NAME"), ("report", "report.html"), ("landscape", "best rates].")],
)
def test_help_shows_the_defaults_that_depend_on_other_things(
    command: str, words: str, optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(optrial(command, "--help").out.split())
    assert "[default: " in text
    assert words in text


def test_the_help_of_a_command_leaves_lines_to_the_terminal() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        text = command.help or ""
        assert "\n" not in text.replace("\n\n", ""), name
