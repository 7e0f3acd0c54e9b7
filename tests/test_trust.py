"""What a study may run is decided, and shown, before any of it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import optrial
from optrial.code import Trust, load_code, register
from optrial.errors import StoreError, StudyError

STUDY = """
name: foreign
problem: {{dataset: {dataset}, model: {model}, loss: {loss}, metrics: [{metric}]}}
budget: {{steps: 2}}
batch_size: 8
seeds: 1
save: final
optimizers: [{optimizer}]
"""
PLAIN = {
    "dataset": "{name: moons, n_samples: 40}",
    "model": "logistic",
    "loss": "cross_entropy",
    "metric": "accuracy",
    "optimizer": "{rule: sgd, lr: 0.1}",
}
MODELS = """
import os
import torch
from os import system
from torch import load
from torch.nn.functional import cross_entropy as loss
open("imported", "a").close()


class Net(torch.nn.Linear):
    def __init__(self, input_shape, classes):
        super().__init__(input_shape[0], classes)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is the study's."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("OPTRIAL_TRUST", raising=False)
    return work


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Write a module with a name of its own into a folder, and return the name."""

    def write(place: Path) -> str:
        name = f"models_{os.urandom(6).hex()}"
        place.mkdir(exist_ok=True)
        (place / f"{name}.py").write_text(MODELS, encoding="utf-8")
        monkeypatch.syspath_prepend(place)
        return name

    return write


def write_study(folder: Path, **keys: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(STUDY.format(**PLAIN | keys), encoding="utf-8")
    return file


REFUSED = [
    *("os:system", "posix:system", "subprocess:run", "builtins:eval", "pickle:loads"),
    *("_pickle:loads", "shutil:rmtree", "importlib:import_module", "runpy:run_path", "this:s"),
    *("webbrowser:open", "os.path:exists", "pathlib:Path.unlink", "torch:load", "torch.hub:load"),
    *("torch.serialization:load", "numpy:load", "numpy:fromfile", "torch:add"),
    *("sklearn.datasets:load_files", "pandas:read_pickle", "joblib:load", "optrial.cli:main"),
    *("optrial.records:set_aside", "torch.nn.functional:torch.load"),
]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset", "{{name: '{}', command: touch ran}}"),
        ("model", "{{factory: '{}', args: {{}}}}"),
        ("loss", "'{}'"),
        ("metric", "{{name: '{}', better: lower}}"),
        ("optimizer", "{{torch: '{}', lr: 0.1}}"),
        ("optimizer", "{{rule_factory: '{}', lr: 0.1}}"),
    ],
)
def test_code_that_no_study_may_call(name: str, key: str, value: str, folder: Path) -> None:
    file = write_study(folder, **{key: value.format(name)})
    with pytest.raises(StudyError) as caught:
        optrial.Study.from_file(file)
    messages = [str(problem) for problem in caught.value.problems if name in str(problem)]
    assert len(messages) == 1
    ways_out = ("your own function", "write torch:load", "module must be installed")
    assert any(way_out in messages[0] for way_out in ways_out)
    assert [path.name for path in folder.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("os.system", "standard library"),
        ("system", "standard library"),
        ("load", "installed package torch"),
        ("torch.load", "leads through a module; write torch:load"),
        ("Net.__init__.__globals__", "inside an object"),
    ],
)
def test_no_module_of_the_user_leads_to_such_code(
    attribute: str, reason: str, folder: Path, module: Callable[[Path], str]
) -> None:
    name = f"{module(folder)}:{attribute}"
    with pytest.raises(StudyError, match=reason):
        optrial.Study.from_file(write_study(folder, dataset=f"{{name: '{name}', f: x}}"))


def test_a_python_program_may_not_name_it_either() -> None:
    problem = {"dataset": {"name": "os:system", "command": "false"}, "model": "logistic"}
    optimizers = [{"rule": "sgd", "lr": 0.1}]
    with pytest.raises(StudyError, match="standard library"):
        optrial.Study(problem=problem, budget={"steps": 1}, optimizers=optimizers)


def test_a_program_may_pass_such_objects_itself() -> None:
    name = register(os.path.join)
    assert load_code(name) is os.path.join
    assert Trust().refusals([name]) == {}


def test_a_file_named_like_a_module_of_python_is_pointed_out(folder: Path) -> None:
    (folder / "json.py").write_text("def Net(): ...", encoding="utf-8")
    with pytest.raises(StudyError, match="rename your json"):
        optrial.Study.from_file(write_study(folder, model="{factory: 'json:Net'}"))


def test_classes_of_packages_and_losses_of_pytorch_need_no_trust(folder: Path) -> None:
    names = ["torch.optim:SGD", "torch.nn:Linear", "torch.nn.functional:mse_loss"]
    told: list[str] = []
    assert Trust(tell=told.append).refusals(names) == {}
    assert told == []
    pytest.importorskip("pytorch_optimizer")
    assert Trust(tell=told.append).refusals(["pytorch_optimizer:Lion"]) == {}
    assert told == ["runs code of: pytorch_optimizer:Lion"]
    trust = Trust(tell=told.append)
    assert trust.refusals(["pytorch_optimizer:Lion"]) == trust.refusals(["pytorch_optimizer:Lion"])
    assert len(told) == 2, "each trust names code once"


def test_functions_of_packages_need_trust(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sklearn.datasets:load_wine"
    assert "--trust sklearn" in Trust().refusals([name])[name]
    assert Trust(["sklearn"]).refusals([name]) == {}
    assert Trust(["sklearn.datasets"]).refusals([name]) == {}
    questions: list[str] = []
    assert Trust(ask=lambda text: questions.append(text) is None).refusals([name]) == {}
    assert questions == [
        "call 'sklearn.datasets:load_wine', code of the installed package sklearn?"
    ]
    monkeypatch.setenv("OPTRIAL_TRUST", os.pathsep.join(["other", "sklearn"]))
    assert Trust().refusals([name]) == {}


def test_code_of_the_working_folder_is_shown_before_it_runs(
    folder: Path, module: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    name = module(folder)
    present: list[bool] = []
    trust = Trust(tell=lambda text: present.append((folder / "imported").exists()))
    file = write_study(folder, model=f"{{factory: '{name}:Net'}}", loss=f"'{name}:loss'")
    optrial.Study.from_file(file, trust=trust)
    assert present == [False]
    optrial.Study.from_file(file)
    (line,) = [record.message for record in caplog.records if record.name == "optrial"]
    assert line.startswith(f"runs code of: {name}.py:Net (sha256 ")
    assert f"{name}.py:loss (sha256 " in line


def test_code_elsewhere_is_refused_unless_it_is_trusted(
    folder: Path, module: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere"
    for trust in ([], [elsewhere], ["MODULE"], [elsewhere / "MODULE.py"]):
        name = module(elsewhere)
        file = write_study(folder, model=f"{{factory: '{name}:Net'}}")
        with pytest.raises(StudyError, match="outside the working folder") as caught:
            optrial.Study.from_file(file)
        assert f"--trust {name}" in str(caught.value)
        assert not (folder / "imported").exists()
        if trust:
            named = [str(place).replace("MODULE", name) for place in trust]
            assert optrial.Study.from_file(file, trust=named).config.name == "foreign"
            (folder / "imported").unlink()
    name = module(elsewhere)
    monkeypatch.setenv("OPTRIAL_TRUST", str(elsewhere))
    optrial.Study.from_file(write_study(folder, model=f"{{factory: '{name}:Net'}}"))


def test_a_link_in_the_working_folder_leads_elsewhere(
    folder: Path, module: Callable[[Path], str]
) -> None:
    name = module(folder.parent / "elsewhere")
    (folder / "linked.py").symlink_to(folder.parent / "elsewhere" / f"{name}.py")
    with pytest.raises(StudyError, match="outside the working folder"):
        optrial.Study.from_file(write_study(folder, model="{factory: 'linked:Net'}"))


def test_code_beside_the_study_file_is_of_the_study(
    folder: Path, module: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(folder)
    file = write_study(folder, model=f"{{factory: '{name}:Net'}}")
    monkeypatch.chdir(folder.parent)
    assert optrial.Study.from_file(file).config.name == "foreign"


def test_a_question_is_asked_once_and_no_is_the_end(
    folder: Path, module: Callable[[Path], str]
) -> None:
    name = module(folder.parent / "elsewhere")
    questions: list[str] = []
    trust = Trust(ask=lambda text: bool(questions.append(text)))
    names = [f"{name}:Net", f"{name}:Net"]
    assert set(trust.refusals(names)) == {f"{name}:Net"}
    assert set(trust.refusals(names)) == {f"{name}:Net"}
    assert len(questions) == 1
    assert not (folder / "imported").exists()


def test_a_place_that_does_not_exist_is_an_error(folder: Path) -> None:
    with pytest.raises(StudyError, match="neither a folder, a file nor a module"):
        optrial.Study.from_file(write_study(folder), trust=["nowhere"])


def command(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(path or "")])}
    return subprocess.run(
        [sys.executable, "-P", "-m", "optrial", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_no_command_but_evaluate_runs_what_a_store_names(
    folder: Path, module: Callable[[Path], str]
) -> None:
    """The commands are run in a folder that holds the code, as a foreign study's would."""
    name = module(folder)
    two = "{rule: sgd, lr: 0.1}, {rule: adam, lr: 0.1}"
    keys = {"model": f"{{factory: '{name}:Net'}}", "loss": f"'{name}:loss'", "optimizer": two}
    optrial.Study.from_file(write_study(folder, **keys)).run("results")
    (folder / "imported").unlink()
    (folder / f"{name}.py").write_text('open("imported", "a").close()', encoding="utf-8")
    code = (
        "import sys, runpy\n"
        "from optrial import cli\n"
        "for line in sys.argv[1].splitlines():\n"
        "    sys.argv = ['optrial', *line.split()]\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit as error:\n"
        "        assert error.code in (None, 0, 1, 2), (line, error.code)\n"
    )
    commands = """show results
show results --format latex
compare results sgd adam
audit results
report results --out page.html
figures results --out figures
runs results --format json
curves results --metric train_loss"""
    ended = subprocess.run(
        [sys.executable, "-c", code, commands],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert (folder / "page.html").exists()
    assert not (folder / "imported").exists()
    evaluated = command(folder, "evaluate", "results", path=folder)
    assert evaluated.returncode == 2
    assert (folder / "imported").exists()


@pytest.mark.slow
def test_evaluate_asks_for_the_code_of_a_foreign_store(
    folder: Path, module: Callable[[Path], str]
) -> None:
    elsewhere = folder.parent / "elsewhere"
    name = module(elsewhere)
    file = write_study(folder, model=f"{{factory: '{name}:Net'}}")
    ran = command(folder, "run", str(file), "--out", "results", "--trust", name, path=elsewhere)
    assert ran.returncode == 0, ran.stderr
    assert f"runs code of: {elsewhere / name}.py:Net (sha256 " in ran.stderr
    (folder / "imported").unlink()
    for refused in (
        command(folder, "evaluate", "results", path=elsewhere),
        command(folder, "plan", str(file), path=elsewhere),
        command(folder, "run", str(file), "--out", "other", path=elsewhere),
        command(folder, "timing", str(file), path=elsewhere),
    ):
        assert refused.returncode == 2
        assert f"--trust {name}" in refused.stderr
        assert not (folder / "imported").exists()
        assert not (folder / "other").exists()
    trusted = command(folder, "evaluate", "results", "--trust", str(elsewhere), path=elsewhere)
    assert trusted.returncode == 0, trusted.stderr


def test_saved_weights_ask_for_a_foreign_tokenizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "tokenizers_elsewhere"
    elsewhere.mkdir()
    name = f"tokenizer_{os.urandom(6).hex()}"
    (elsewhere / f"{name}.py").write_text(
        "def encode(text):\n    return [len(word) % 5 for word in text.split()]\n"
    )
    monkeypatch.syspath_prepend(elsewhere)
    problem = {
        "dataset": {"name": "coriolanus", "tokens": f"{name}:encode", "context": 4},
        "model": {"kind": "transformer", "width": 4, "depth": 1, "heads": 1},
    }
    keys = {"problem": problem, "budget": {"steps": 1}, "save": "final"}
    file = folder / "tokens.json"
    file.write_text(json.dumps(keys | {"optimizers": [{"rule": "sgd", "lr": 0.1}], "seeds": 1}))
    optrial.Study.from_file(file, trust=[name]).run(folder / "tokens").close()
    monkeypatch.delitem(sys.modules, name)  # what is imported needs no trust
    with optrial.load(folder / "tokens") as results:
        (record,) = results.records
        with pytest.raises(StoreError, match=f"{name}:encode"):
            results.model(record.run_id)
        assert results.model(record.run_id, trust=[name]) is not None


def test_a_module_class_is_still_a_model() -> None:
    assert load_code("torch.nn:Linear") is nn.Linear
