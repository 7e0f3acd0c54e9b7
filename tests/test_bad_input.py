"""Bad input: one clear error that names what came and the way out, status 2, nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.records import Store
from optrial.spec import Status
from tests.conftest import Command
from tests.pages import run_command
from tests.small import small_keys

Prepare = Callable[[Path], dict[str, Any]]


def keys(**changes: Any) -> Prepare:
    return lambda folder: small_keys(**changes)


def dataset(**arguments: Any) -> Prepare:
    return keys(problem={"dataset": arguments, "model": "mlp"})


def npz(**changes: np.ndarray | None) -> Prepare:
    """A study on an .npz file of eight samples of two classes, some arrays changed, or left out."""

    def prepare(folder: Path) -> dict[str, Any]:
        arrays = {
            "train_inputs": np.arange(16.0).reshape(8, 2),
            "train_targets": np.arange(8) % 2,
            "test_inputs": np.ones((4, 2)),
            "test_targets": np.arange(4) % 2,
        }
        kept = {name: array for name, array in (arrays | changes).items() if array is not None}
        np.savez(folder / "mine.npz", **kept)  # type: ignore[arg-type]
        problem = {"dataset": str(folder / "mine.npz"), "model": "mlp"}
        return small_keys(problem=problem, batch_size=4, evaluate={"on": ["test"]})

    return prepare


def csv(text: str, target: str = "y") -> Prepare:
    def prepare(folder: Path) -> dict[str, Any]:
        (folder / "mine.csv").write_text(text, encoding="utf-8")
        where = {"name": str(folder / "mine.csv"), "target": target}
        return small_keys(problem={"dataset": where, "model": "mlp"}, batch_size=4)

    return prepare


def truncated_archive(folder: Path) -> dict[str, Any]:
    (folder / "data" / "mnist").mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        whole = gzip.compress(bytes(1000))
        (folder / "data" / "mnist" / f"{name}-ubyte.gz").write_bytes(whole[:-8])
    os.environ["OPTRIAL_DATA"] = str(folder / "data")
    return small_keys(problem={"dataset": "mnist", "model": "mlp"})


NAN = np.arange(16.0).reshape(8, 2)
NAN[3, 1] = np.nan

TINY_TRANSFORMER = {"kind": "transformer", "width": 8, "depth": 1, "heads": 1}

BAD: dict[str, tuple[Prepare, list[str]]] = {
    "unknown key": (keys(learning_rate=1), ["learning_rate", "Allowed: name"]),
    "near miss of a key": (keys(batchsize=1), ["batchsize", "Did you mean 'batch_size'?"]),
    "key of an optimizer beside them": (
        keys(average={"ema": 0.9}),
        ["average: is a key of an optimizer, as in optimizers: [{rule: adam, average: ...}]."],
    ),
    "modifier as a key": (
        keys(optimizers=[{"rule": "adam", "modify": [{"agc": {"clip": 0.01}}]}]),
        ["optimizers[0].modify", "write {name: agc, ...}, with hyperparameters beside"],
    ),
    "folds of a text": (
        keys(
            problem={"dataset": {"name": "coriolanus", "context": 8}, "model": TINY_TRANSFORMER},
            folds=3,
        ),
        ["dataset 'coriolanus' is a text", "folds divide samples; remove folds"],
    ),
    "rate beside optimizers": (keys(lr=0.1), ["lr: is a key of an optimizer, as in optimizers"]),
    "key of the problem beside it": (
        keys(model="mlp"),
        ["model: is a key of problem, as in problem: {model: ...}."],
    ),
    "key of the study in its problem": (
        keys(problem={"dataset": "digits", "tune": {"seeds": 2}}),
        ["problem.tune: is a key of the study; write it beside optimizers."],
    ),
    "key of the study in an optimizer": (
        keys(optimizers=[{"rule": "adam", "accumulate": 2}]),
        ["optimizers[0].accumulate: is a key of the study; write it beside optimizers."],
    ),
    "key of the study in tune": (
        keys(tune={"claims": ["adam > sgd"]}),
        ["tune.claims: is a key of the study; write it beside optimizers."],
    ),
    "wrong type": (keys(batch_size="many"), ["batch_size", "'many'", "whole number"]),
    "negative rate": (
        keys(optimizers=[{"rule": "sgd", "lr": -0.1}]),
        ["optimizers[0].lr", "-0.1", "> 0"],
    ),
    "rate that is no number": (
        keys(optimizers=[{"rule": "sgd", "lr": "fast"}]),
        ["optimizers[0].lr", "'fast'", "number"],
    ),
    "an optimizer that is only a name": (
        keys(optimizers=["adam"]),
        ["optimizers[0]", "'adam'", "{rule: adam}"],
    ),
    "unknown rule": (
        keys(optimizers=[{"rule": "adamm"}]),
        ["optimizers[0].rule", "'adamm'", "Did you mean 'adam'?"],
    ),
    "unknown hyperparameter": (
        keys(optimizers=[{"rule": "adam", "beta3": 0.9}]),
        ["optimizers[0].beta3", "not a hyperparameter of adam", "Did you mean"],
    ),
    "unknown key of an optimizer": (
        keys(optimizers=[{"rule": "adam", "group": [{"match": "bias"}]}]),
        ["optimizers[0].group: ", "Did you mean 'groups'?", "average, closure, create_graph"],
    ),
    "another library's name": (
        keys(optimizers=[{"rule": "rmsprop", "alpha": 0.9}]),
        ["optimizers[0].alpha", "optrial calls it rho"],
    ),
    "negative weight decay": (
        keys(optimizers=[{"rule": "sgd", "weight_decay": -1}]),
        ["optimizers[0].weight_decay", "-1", "0 or more"],
    ),
    "two optimizers of one name": (
        keys(optimizers=[{"rule": "sgd"}, {"rule": "sgd", "lr": 1.0}]),
        ["optimizers[1].name", "'sgd' is already the name of optimizers[0]"],
    ),
    "unknown model": (
        keys(problem={"dataset": "moons", "model": "mpl"}),
        ["problem.model.kind", "Did you mean 'mlp'?"],
    ),
    "bad model argument": (
        keys(problem={"dataset": "moons", "model": {"kind": "mlp", "dropout": 1.5}}),
        ["problem.model.dropout", "1.5", "less than 1"],
    ),
    "unknown dataset": (dataset(name="minst"), ["problem.dataset", "Did you mean 'mnist'?"]),
    "bad dataset argument": (
        dataset(name="moons", noise=-1),
        ["problem.dataset.noise", "-1", "greater than or equal to 0"],
    ),
    "empty split": (
        dataset(name="moons", n_samples=1),
        ["moons", "test_fraction 0.2", "1 sample cannot be divided"],
    ),
    "missing data file": (dataset(name="nowhere.npz"), ["nowhere.npz", "problem.dataset"]),
    "function that is not there": (
        dataset(name="no_such_package:load"),
        ["no_such_package"],
    ),
    "batch beyond the data": (keys(batch_size=1000), ["batch_size", "1000", "160 samples"]),
    "split that is not there": (npz(test_inputs=None, test_targets=None), ["evaluate.on", "train"]),
    "split named twice": (keys(evaluate={"on": ["test", "test"]}), ["evaluate.on", "repeat"]),
    "script on numpy": (keys(rng="script", engine="numpy"), ["rng", "engine: reference"]),
    "truncated archive": (truncated_archive, ["mnist", "damaged", "optrial data fetch mnist"]),
    "NaN in data": (npz(train_inputs=NAN), ["train", "nan", "sample 3"]),
    "labels out of range": (
        npz(test_targets=np.array([0, 1, 5, 0])),
        ["test has 1 sample of classes without training samples: 5"],
    ),
    "labels that are no classes": (npz(train_targets=np.linspace(0, 1, 8)), ["train targets"]),
    "lengths that differ": (npz(train_targets=np.zeros(7, int)), ["8 inputs and 7 targets"]),
    "pickled array": (npz(train_inputs=np.array([{}] * 8)), ["mine.npz"]),
    "csv without its target": (csv("a,b\n1,2\n"), ["y", "a, b"]),
    "csv with text": (csv("a,y\n" + "x,0\n" + "1,1\n2,0\n" * 8), ["'a'", "'x'", "drop: [a]"]),
    "csv with its header twice": (csv("a,y\nx,0\n1,1\n" * 4), ["'a, y'", "row 4"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_study(
    optrial: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OPTRIAL_DATA", os.environ.get("OPTRIAL_DATA", ""))  # undone afterwards
    prepare, words = BAD[name]
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(prepare(tmp_path)), encoding="utf-8")
    for command in (["plan", study], ["run", study, "--out", tmp_path / "out"]):
        answer = optrial(*command)
        assert answer.status == 2
        assert answer.out == ""
        assert "Traceback" not in answer.err
        assert answer.err.count("error: ") == 1
        for word in words:
            assert word in answer.err


def test_all_problems_of_names_and_types_come_together(optrial: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    optimizers = [{"rule": "adamm"}, {"rule": "sgd", "lr": -1}]
    wrong = small_keys(batch_size=0, optimizers=optimizers, colour="red")
    wrong["problem"]["model"]["hiden"] = [3]
    study.write_text(json.dumps(wrong), encoding="utf-8")
    err = optrial("run", study).err
    assert "has 5 problems" in err
    for path in ("batch_size", "optimizers[0].rule", "optimizers[1].lr", "colour", "model.hiden"):
        assert path in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere.yaml"], ["nowhere.yaml", "no such file", "quickstart"]),
        (["run", "quickstrat"], ["Did you mean 'quickstart'?"]),
        (["run", "quickstart", "--set", "optimizers.adma.lr=1"], ["Did you mean 'adam'?"]),
        (["run", "quickstart", "--set", "seeds"], ["key.path=value"]),
        (["run", "quickstart", "--seeds", "0"], ["seeds", "from 1 to"]),
        (["run", "quickstart", "--engine", "jax"], ["--engine"]),
        (["run", "quickstart", "--engine", "numpy", "--device", "cuda"], ["cuda", "cpu"]),
        (["show", "nowhere"], ["no study is stored", "optrial run"]),
        (["export", "nowhere", "--out", ""], ["--out: '' is empty. Name a file or folder"]),
        (["figures", "nowhere", "--out="], ["--out: '' is empty"]),
        (["report", "a", "--out", "postgresql://me:secret@host/x"], ["//me:***@", "is a URL"]),
        (["recipe", "nothing"], ["not a recipe", "quickstart"]),
        (["explain", "adamm"], ["Did you mean 'adam'?"]),
        (["data", "fetch", "minst"], ["Did you mean 'mnist'?"]),
        (["list", "rule"], ["rules"]),
    ],
)
def test_bad_command(optrial: Command, arguments: list[str], words: list[str]) -> None:
    answer = optrial(*arguments)
    assert answer.status == 2
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/nowhere/out"])
def test_unwritable_folder(optrial: Command, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(small_keys()), encoding="utf-8")
    answer = optrial("run", study, "--out", out)
    assert answer.status == 2
    assert answer.out == ""
    assert "folder" in answer.err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


def test_unknown_metric(optrial: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(small_keys()), encoding="utf-8")
    optrial("run", study)
    answer = optrial("curves", "small", "--metric", "test_acuracy")
    assert answer.status == 2
    assert "Did you mean 'test_accuracy'?" in answer.err


@pytest.mark.slow
def test_full_disk_loses_nothing(tmp_path: Path) -> None:
    """If no file may grow any more, the study stops in one clear error and can be continued."""
    optimizers = [{"rule": "adam", "lr": {"log": [0.001, 0.1], "points": 16}}]
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(small_keys(optimizers=optimizers)), encoding="utf-8")
    command = [sys.executable, "-c", "from optrial.cli import main; main()"]
    command += ["run", str(study), "--out", str(tmp_path / "out")]
    more = [*command, "--seeds", "4"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0
    size = (tmp_path / "out" / "study.db").stat().st_size

    def small_disk() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # let writing fail, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    full = subprocess.run(more, preexec_fn=small_disk, capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stderr.count("error: ") == 1
    assert "Traceback" not in full.stderr
    assert "run again to continue" in full.stderr
    with Store.open(tmp_path / "out") as store:
        before = {r.run_id: dict(r.metrics) for r in store.runs() if r.status is Status.DONE}
    assert len(before) >= 16
    whole = subprocess.run(more, capture_output=True, text=True, check=False)
    assert whole.returncode == 0
    with Store.open(tmp_path / "out") as store:
        after = {record.run_id: dict(record.metrics) for record in store.runs()}
    assert len(after) == 64
    assert {run_id: after[run_id] for run_id in before} == before


MOODY = """
import torch

class Net(torch.nn.Linear):
    calls = 0

    def forward(self, x):
        Net.calls += 1
        if Net.calls == NUMBER:
            raise ERROR("no\x1b[31m way")
        return super().forward(x)

def net():
    return Net(2, 2)

class Panic(BaseException):
    pass
"""


@pytest.mark.parametrize("error", ["ValueError", "Panic", "SystemExit", "KeyboardInterrupt"])
def test_user_code_that_raises_once(optrial: Command, tmp_path: Path, error: str) -> None:
    study = tmp_path / "study.yaml"
    for number in range(4, 8):  # in trials of the model, one after the other
        name = f"moody_{error.lower()}_{number}"
        code = MOODY.replace("NUMBER", str(number)).replace("ERROR", error)
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        problem = {"dataset": "moons", "model": f"{name}:net"}
        study.write_text(json.dumps(small_keys(problem=problem)), encoding="utf-8")
        answer = optrial("plan", study)
        assert "Traceback" not in answer.err
        assert answer.status == 0 or "no way" in answer.err
        assert answer.err.count("error: ") == (answer.status == 2)


@pytest.mark.parametrize(
    "command",
    [
        ["lr-range", "quickstart", "--out"],
        ["certify", "torch.optim:SGD", "--badge"],
        ["certify", "torch.optim:SGD", "--out"],
        ["landscape", "--out"],
        ["timing", "quickstart", "--figure"],
    ],
    ids=" ".join,
)
def test_a_place_where_nothing_can_be_written_is_refused_at_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, text in (
        (tmp_path / "nowhere" / "x.svg", f"'{tmp_path / 'nowhere'}' is not a folder"),
        (tmp_path / "folder.svg", "is a folder; name a file"),
    ):
        (tmp_path / "folder.svg").mkdir(exist_ok=True)
        assert run_command([*command, str(file)]) == 2
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "run", "certify"])
def test_a_deleted_current_folder_is_named(command: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(small_keys()), encoding="utf-8")
    argument = "adam" if command == "certify" else str(tmp_path / "study.yaml")
    program = "import sys; from optrial.cli import main; main()"
    line = f'mkdir gone && cd gone && rmdir ../gone && exec "$0" -P -c "{program}" "$@"'
    ended = subprocess.run(
        ["sh", "-c", line, sys.executable, command, argument],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.endswith(
        "error: the current folder no longer exists. Change to another one, and run again.\n"
    )
    assert "Traceback" not in ended.stderr
