"""Two objects never share a run; the same cell run again has the runs that it had."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import optrial
from optrial.code import Unidentifiable, code_sha256, load_code, place_in_user_code, register
from optrial.errors import StoreError, StudyError
from optrial.plan import estimate
from tests.small import small_keys, small_plan

MOONS = {"name": "moons", "n_samples": 60, "noise": 0.1}
COMPARISON: dict[str, Any] = {
    "data": MOONS,
    "optimizers": ["sgd"],
    "steps": 2,
    "seeds": [0],
    "batch_size": 8,
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of a user's, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("optrial.code.texts._STARTED", float("inf"))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(**files: str) -> None:
    """Write modules and forget them, as a new process has."""
    for name, text in files.items():
        Path(f"{name}.py").write_text(text, encoding="utf-8")
        sys.modules.pop(name, None)
    for cached in Path().glob("__pycache__/*"):
        cached.unlink()
    importlib.invalidate_caches()


def run_ids(**keys: Any) -> set[str]:
    arguments = COMPARISON | keys
    return set(optrial.compare(**arguments).runs()["run_id"])


def last_loss(**keys: Any) -> float:
    arguments = COMPARISON | keys
    results = optrial.compare(**arguments)
    (value,) = results.runs()["test_loss"]
    return float(value)


def net(input_shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(*input_shape, width), nn.Tanh(), nn.Linear(width, classes))


class Net:
    """A factory with state."""

    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return net(input_shape, classes, self.width)

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return self(input_shape, classes)


def closing_over(width: int) -> Any:
    def factory(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return net(input_shape, classes, width)

    return factory


def class_of(width: int) -> type:
    class Inner(nn.Module):
        def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
            super().__init__()
            self.layers = net(input_shape, classes, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    return Inner


@pytest.mark.parametrize(
    "make",
    [
        lambda width: functools.partial(net, width=width),
        Net,
        lambda width: Net(width).build,
        closing_over,
        class_of,
        lambda width: lambda input_shape, classes: net(input_shape, classes, width),
    ],
    ids=["partial", "instance", "bound method", "closure", "class", "lambda"],
)
def test_a_comparison_without_a_name_never_answers_with_another_model(make: Any) -> None:
    narrow, wide, again = (last_loss(model=make(width)) for width in (2, 64, 2))
    assert narrow == again != wide


def test_losses_metrics_and_optimizers_are_told_apart_too() -> None:
    def scaled(outputs: Any, targets: Any, by: float) -> Any:
        return nn.functional.cross_entropy(outputs, targets) * by

    def weighted(by: float) -> nn.Module:
        return nn.CrossEntropyLoss(weight=torch.tensor([1.0, by]))

    def rate(lr: float) -> dict[str, Any]:
        return {"torch": functools.partial(torch.optim.SGD, lr=lr), "name": "mine"}

    for kind in (
        lambda v: {"loss": functools.partial(scaled, by=v)},
        lambda v: {"loss": weighted(v)},
    ):
        assert last_loss(**kind(1.0)) == last_loss(**kind(1.0)) != last_loss(**kind(9.0))
    assert last_loss(optimizers=[rate(0.1)]) == last_loss(optimizers=[rate(0.1)])
    assert last_loss(optimizers=[rate(0.1)]) != last_loss(optimizers=[rate(5.0)])
    metrics = [{"name": functools.partial(scaled, by=by)} for by in (1.0, 2.0)]
    assert run_ids(metrics=metrics[:1]) != run_ids(metrics=metrics[1:])


def test_data_counts_by_its_numbers_alone() -> None:
    """A dataset that could not be identified is as good as the arrays in it."""

    class Samples(torch.utils.data.Dataset):
        def __init__(self, shift: float) -> None:
            self.lock, self.shift = threading.Lock(), shift

        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return np.float32([index, self.shift]), index % 2

    assert run_ids(data=Samples(1.0)) == run_ids(data=Samples(1.0)) != run_ids(data=Samples(2.0))


CELL = """
import torch

class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.scales = [1.0 for _ in range(3)]

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"] * 1.0)
"""


def test_an_optimizer_of_a_cell_is_trained_again_when_its_step_is_edited() -> None:
    def ids(cell: str) -> set[str]:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(cell, scope)
        return run_ids(optimizers=[{"torch": scope["Mine"], "name": "mine"}])

    assert ids(CELL) == ids("\n\n" + CELL) != ids(CELL.replace("* 1.0", "* 2.0"))


def test_objects_with_one_name_are_told_apart() -> None:
    """The later definition has taken the name of the earlier one in its module."""
    write(shadowed="def f(): return 1\nfirst = f\ndef f(): return 2\n")
    module = importlib.import_module("shadowed")
    assert register(module.f) == "shadowed:f"
    assert register(module.first) != "shadowed:f"
    assert load_code(register(module.first))() == 1


NETS = """
import torch
from torch import nn
import helpers
from helpers import activation
from constants import TABLE

def net(input_shape, classes):
    return nn.Sequential(nn.Linear(*input_shape, helpers.width()), activation())

def late(input_shape, classes):
    from deep import scale
    return net(input_shape, classes) if scale else None

def table():
    return TABLE

class Sub(helpers.Base):
    pass

RULE = helpers.make(3)
"""
HELPERS = """
from torch import nn
import deep
def width(): return 4 * deep.scale
def activation(): return nn.Tanh()
class Base(nn.Module):
    def forward(self, x): return x
def make(n):
    def made(): return n
    return made
"""


def hashes() -> dict[str, str]:
    names = ("net", "late", "table", "Sub", "RULE")
    return {name: code_sha256(f"nets:{name}") for name in names}


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("helpers", "nn.Tanh()", "nn.ReLU()", {"net", "late"}),
        ("helpers", "4 * deep", "8 * deep", {"net", "late"}),
        ("helpers", "return x\n", "return -x\n", {"Sub"}),
        ("helpers", "return n\n", "return -n\n", {"RULE"}),
        ("deep", "scale = 1", "scale = 2", {"net", "late"}),
        ("constants", "[1]", "[2]", {"table"}),
        ("nets", "make(3)", "make(4)", {"RULE"}),
        ("nets", "import torch\n", "import torch  # a remark\n\n\n", set()),
    ],
)
def test_an_edit_counts_wherever_it_is_used(
    file: str, old: str, new: str, changed: set[str]
) -> None:
    files = {"nets": NETS, "helpers": HELPERS, "deep": "scale = 1\n", "constants": "TABLE = [1]\n"}
    write(**files)
    before = hashes()
    assert old in files[file]
    write(**files | {file: files[file].replace(old, new)})
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_package_of_relative_imports_is_followed() -> None:
    package = Path("mine")
    package.mkdir()
    (package / "__init__.py").write_text("from .models import net\n")
    (package / "models.py").write_text(
        "from . import layers\ndef net():\n    from .late import size\n"
        "    return layers.make, size\n"
    )
    packages = []
    for layer, size in ((1, 1), (2, 1), (1, 2), (1, 1)):
        (package / "layers.py").write_text(f"def make(): return {layer}\n")
        (package / "late.py").write_text(f"size = {size}\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
        write()
        packages.append(code_sha256("mine:net"))
        assert code_sha256("mine.models:net") == packages[-1]
    assert packages[0] == packages[3]
    assert len(set(packages)) == 3


def test_an_edit_after_the_import_does_not_count_until_it_is_imported() -> None:
    write(mine="def net(): return 1\n")
    before = code_sha256("mine:net")
    Path("mine.py").write_text("def net(): return 1 + 1\n")
    assert code_sha256("mine:net") == before
    os.utime("mine.py", (0, 0))  # so that the cached bytecode is known to be old
    importlib.reload(sys.modules["mine"])
    assert code_sha256("mine:net") != before


def test_a_rule_is_made_again_after_a_reload() -> None:
    text = (
        "from dataclasses import replace\nfrom optrial.rules import RULES\n"
        "def make(): return replace(RULES['sgd'], title='one')\nRULE = make()\n"
    )
    write(rules_of_mine=text)
    from optrial.plan.optimizers import rule_of

    names = ("rules_of_mine:make", "rules_of_mine:RULE")
    before = [code_sha256(name) for name in names]
    assert all(rule_of("rule_factory", name).title == "one" for name in names)
    assert rule_of("rule_factory", names[0]) is rule_of("rule_factory", names[0])
    write(rules_of_mine=text.replace("one", "two"))
    assert all(rule_of("rule_factory", name).title == "two" for name in names)
    assert [code_sha256(name) for name in names] != before


def test_a_name_that_is_bound_anew_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    write(mine="def helper(): return 1\ndef net(): return helper()\n")
    before = code_sha256("mine:net")
    monkeypatch.setattr(sys.modules["mine"], "helper", lambda: 2)
    assert code_sha256("mine:net") != before
    monkeypatch.undo()
    assert code_sha256("mine:net") == before


def test_state_that_a_module_makes_counts_by_its_text_and_what_it_imports() -> None:
    files = {"mine": "import made\nlock = made.make()\ndef net():\n    with lock: return 1\n"}
    files["made"] = "import threading\ndef make(): return threading.Lock()\n"
    write(**files)
    before = code_sha256("mine:net")
    write(**files)
    assert code_sha256("mine:net") == before
    write(**files | {"made": files["made"] + "# other\n"})
    assert code_sha256("mine:net") != before


def test_such_state_is_refused_when_its_module_was_written_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(mine="import threading\nlock = threading.Lock()\ndef net():\n    with lock: return 1\n")
    monkeypatch.setattr("optrial.code.texts._STARTED", 0.0)
    with pytest.raises(Unidentifiable, match=r"mine\.py was written after Python started"):
        code_sha256("mine:net")


def test_what_cannot_be_identified_is_one_clear_error() -> None:
    lock = threading.Lock()

    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        with lock:
            return net(input_shape, classes, 2)

    with pytest.raises(StudyError) as caught:
        optrial.compare(model=model, data=dict(MOONS), optimizers=["sgd"], steps=2)
    (problem,) = caught.value.problems
    assert problem.path == "problem.model.factory"
    assert "model > lock is a lock" in problem.message
    assert "define the object in a module and name it: module:name" in problem.message
    assert not Path("studies").exists()


@pytest.mark.parametrize("key", ["model", "loss", "metrics", "torch", "rule_factory"])
def test_a_study_refuses_it_when_it_is_checked(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(mine="import threading\nlock = threading.Lock()\ndef f(*a, **k):\n    return lock\n")
    monkeypatch.setattr("optrial.code.texts._STARTED", 0.0)
    keys = small_keys()
    if key in ("torch", "rule_factory"):
        keys["optimizers"] = [{key: "mine:f"}]
    else:
        value = {"model": {"factory": "mine:f"}, "loss": "mine:f", "metrics": ["mine:f"]}[key]
        keys["problem"][key] = value
    with pytest.raises(StudyError) as caught:
        optrial.Study(**keys)
    assert [problem for problem in caught.value.problems if "cannot be told" in problem.message]


def test_saved_weights_of_code_that_has_changed_are_refused() -> None:
    text = (
        "from torch import nn\n"
        "def net(input_shape, classes):\n"
        "    return nn.Sequential(nn.Linear(*input_shape, 4), nn.Tanh(), nn.Linear(4, classes))\n"
    )
    write(mine=text)
    problem = {"dataset": dict(MOONS), "model": {"factory": "mine:net"}}
    study = optrial.Study(**small_keys(problem=problem, save="final"))
    results = study.run()
    (run_id,) = results.runs()["run_id"]
    results.model(run_id)
    write(mine=text.replace("Tanh", "ReLU"))
    with pytest.raises(StoreError, match=rf"'mine:net' is not the code that run {run_id} used"):
        results.model(run_id)


def test_tuning_goes_on_where_training_changes_the_state_of_the_code() -> None:
    """A counter of calls makes no new trials between two waves."""
    write(
        mine="from torch import nn\ncalls = []\ndef net(input_shape, classes):\n"
        "    calls.append(1)\n    return nn.Linear(*input_shape, classes)\n"
    )
    problem = {"dataset": dict(MOONS), "model": {"factory": "mine:net"}}
    optimizers = [{"rule": "sgd", "lr": [0.01, 0.1, 1.0]}]
    keys = small_keys(problem=problem, optimizers=optimizers, budget={"steps": 10})
    study = optrial.Study(**keys, tune={"select": "validation_loss", "seeds": 1, "extend": True})
    codes = {json.dumps(dict(r.spec.code)) for r in study.run().store.runs(everything=True)}
    assert len(codes) == 1


def test_two_processes_give_one_id() -> None:
    write(nets=NETS, helpers=HELPERS, deep="scale = 1\n", constants="TABLE = {'a', 'b', 'c'}\n")
    script = (
        "from optrial.code import code_sha256\n"
        "print(code_sha256('nets:net'), code_sha256('nets:table'))"
    )
    # Texts have other hashes than in this process.
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == f"{code_sha256('nets:net')} {code_sha256('nets:table')}\n"


def test_a_model_is_measured_again_after_a_reload() -> None:
    text = "from torch import nn\ndef net(classes): return nn.Linear(2, classes)\n"
    counts = []
    for bias in ("True", "False"):
        write(mine=text.replace("classes)\n", f"classes, bias={bias})\n"))
        plan, dataset = small_plan(problem={"dataset": MOONS, "model": {"factory": "mine:net"}})
        counts.append(estimate(plan.runs, dataset).parameters)
    assert counts == [6, 4]


def test_generated_code_is_not_a_place_in_user_code() -> None:
    """Compilers and dataclasses execute strings; so does `python -c`, which is user code."""
    source = "def reached(call):\n    return call()"
    places = {}
    for module in ("torch._inductor.generated", "__main__"):
        names: dict[str, Any] = {"__name__": module}
        exec(compile(source, "<string>", "exec"), names)
        places[module] = names["reached"](lambda: place_in_user_code(sys._getframe(1)))
    assert places["__main__"] == "<string>:2 (reached)"
    assert "<string>" not in places["torch._inductor.generated"]
