"""Complex parameters train as in a plain PyTorch loop, in every engine, and are never halved."""

from __future__ import annotations

import sys
import warnings
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import optrial
from optrial.data import Dataset
from optrial.engine import Engines, Training
from optrial.engine.options import batch_order
from optrial.errors import DataError, StudyError
from optrial.models import build_model
from optrial.plan import pack
from optrial.records import WeightFiles
from optrial.spec import RunSpec
from optrial.study import Study
from tests.cases.conftest import Case
from tests.small import learner_for, train
from tests.tolerance import TRAJECTORY_FLOAT64

STEPS = 12
RULES = [
    {"rule": "sgd", "lr": 0.1, "weight_decay": 0.01},
    {"rule": "adam", "lr": 0.01},
    {"rule": "lamb", "lr": 0.01},
    {"rule": "muon", "lr": 0.01},
    {"rule": "schedule_free_adamw", "lr": 0.01},
]


def study(**changes: Any) -> Study:
    keys = {
        "name": "complex",
        "problem": {"dataset": "digits", "model": {"factory": "cx:Fourier"}},
        "batch_size": 64,
        "budget": {"steps": STEPS},
        "evaluate": {"every": {"steps": STEPS}},
        "precision": "float64",
        "optimizers": [{"rule": "adam", "lr": 0.01}],
        "seeds": 1,
    }
    return Study(**(keys | changes))


def weights(runs: list[RunSpec], dataset: Dataset, engine: str) -> list[dict[str, np.ndarray]]:
    training = Training(runs, learner_for(runs, dataset, engine))
    for _ in training.run():
        pass
    return [training.learner.weights(index) for index in range(len(runs))]


def by_torch(run: RunSpec, dataset: Dataset, optimizer: Any, clip: float | None = None) -> Any:
    """Train by a plain loop; return the weights."""
    model = build_model(
        run.model, run.model_arguments, input_shape=dataset.input_shape, classes=10, seed=run.seed
    )
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                kind = torch.complex128 if parameter.is_complex() else torch.float64
                setattr(module, name, torch.nn.Parameter(parameter.to(kind)))
    optimizer = optimizer(model.parameters())
    split = dataset.splits["train"]
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)
    for rows in islice(batch_order(run, len(targets)).batches(1), run.steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def same(weights: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        assert weights[name].dtype == value.dtype
        assert weights[name] == pytest.approx(value, rel=TRAJECTORY_FLOAT64), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize(
    "engine", ["reference", "stacked", pytest.param("compiled", marks=pytest.mark.slow)]
)
def test_a_complex_parameter_trains_as_by_torch_optim(case: Case, engine: str) -> None:
    case("complex")
    made = study(optimizers=[{"rule": "adam", "lr": [0.01, 0.03], "clip": 0.5}], seeds=2)
    dataset = made.load_data()
    runs = list(pack(made.plan(dataset).runs, 4)[0])
    runs = runs[:1] if engine == "reference" else runs
    for run, trained in zip(runs, weights(runs, dataset, engine), strict=True):
        rate = run.hyperparameters["lr"]
        same(trained, by_torch(run, dataset, lambda p, lr=rate: torch.optim.Adam(p, lr), clip=0.5))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS"])
def test_classes_of_torch_optim_see_complex_parameters(case: Case, optimizer: str) -> None:
    case("complex")
    made = study(optimizers=[{"torch": f"torch.optim:{optimizer}", "lr": 0.01}])
    dataset = made.load_data()
    (run,) = made.plan(dataset).runs
    (trained,) = weights([run], dataset, "reference")
    if optimizer == "LBFGS":  # takes a closure; that it moves the imaginary part is enough
        assert np.abs(trained["w"].imag).max() > 0
        return
    same(trained, by_torch(run, dataset, lambda p: getattr(torch.optim, optimizer)(p, lr=0.01)))


@pytest.mark.one_in(7)
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("options", [{}, {"clip": {"norm": 0.3}}, {"clip": {"value": 0.01}}])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["rule"])
def test_every_rule_sees_real_and_imaginary_parts(
    case: Case, rule: dict[str, Any], options: dict[str, Any], engine: str
) -> None:
    case("complex")
    trained = []
    for as_real in (False, True):
        model = {"factory": "cx:Fourier", "args": {"as_real": as_real}}
        made = study(
            problem={"dataset": "digits", "model": model},
            optimizers=[{**rule, **options}],
            probes={"measure": ["gradient_norm", "weight_norm", "hessian_eigenvalue"]},
        )
        dataset = made.load_data()
        segment = train(made.plan(dataset).runs[0], dataset, engine)
        trained.append({name: curve.values for name, curve in segment.curves.items()})
    complex_, real = trained
    assert complex_.keys() == real.keys()
    for name, values in real.items():
        assert complex_[name] == pytest.approx(values, rel=TRAJECTORY_FLOAT64), name


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("optimizer", [{"rule": "adam"}, {"torch": "torch.optim:Adam"}])
def test_interrupted_training_goes_on_to_the_bit(
    case: Case, optimizer: dict[str, Any], engine: str
) -> None:
    case("complex")
    made = study(optimizers=[{**optimizer, "lr": 0.01}], precision="float32")
    dataset = made.load_data()
    runs = list(made.plan(dataset).runs)
    if engine == "stacked" and "torch" in optimizer:
        return
    whole = train(runs[0], dataset, engine)
    first = Training(runs, learner_for(runs, dataset, engine))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < 11):
        pass
    second = Training(runs, learner_for(runs, dataset, engine))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    (segment,) = second.segments()
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


@pytest.mark.one_in(3)
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_saved_weights_are_complex(case: Case, precision: str, engine: str) -> None:
    folder = case("complex") / "studies"
    made = study(save="final", precision=precision, engine=engine, compile="never", seeds=2)
    results = made.run(folder)
    run_id, _ = results.runs()["run_id"]
    model = results.model(run_id)
    kind = torch.complex64 if precision == "float32" else torch.complex128
    assert model.w.dtype == kind
    saved = WeightFiles(folder).read(results.records[0])["w"]
    assert np.array_equal(saved, model.w.detach().numpy())
    assert np.abs(saved.imag).min() > 0
    for evaluated in results.evaluate("test"):
        assert evaluated.value == evaluated.recorded


@pytest.mark.parametrize(
    ("precision", "engine"), [("float32", "reference"), ("float64", "stacked")]
)
def test_nothing_is_dropped_with_a_warning(case: Case, precision: str, engine: str) -> None:
    case("complex")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = study(precision=precision)
        dataset = made.load_data()
        train(made.plan(dataset).runs[0], dataset, engine)


def test_runs_of_complex_parameters_are_stacked(case: Case) -> None:
    case("complex")
    made = study(seeds=2, engine="stacked", compile="never")
    dataset = made.load_data()
    (choice,) = Engines(dataset, "float64", "cpu").choose(made.plan(dataset).runs)
    assert (choice.engine, choice.note) == ("stacked", "")


OWN_TYPES = '''
import torch
from torch import nn
from cx import Fourier


class Half(nn.Module):
    """A layer in half precision within an ordinary model."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16, dtype=torch.float16), nn.Linear(16, 10)

    def forward(self, x):
        return self.last(self.first(x.flatten(1).half()).to(x.dtype))


class Buffers(Fourier):
    """Buffers of several types, which all count."""

    def __init__(self):
        super().__init__()
        self.register_buffer("phase", torch.polar(torch.ones(5), torch.linspace(0, 1, 5)))
        self.register_buffer("fine", torch.full((64,), 1 + 1e-12, dtype=torch.float64))
        self.register_buffer("order", torch.arange(64).flip(0))
        self.register_buffer("mask", torch.arange(64) % 2 == 0)

    def forward(self, x):
        x = (x.flatten(1) * self.mask)[:, self.order].reshape(x.shape)
        f = torch.fft.rfft2(x[:, 0]) * self.w * self.phase
        self.types = {name: value.dtype for name, value in self.named_buffers()}
        hidden = torch.fft.irfft2(f, s=(8, 8)).flatten(1)
        return self.out((hidden * self.fine).to(x.dtype))


def brain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).bfloat16()


def double():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()


class Waves(nn.Linear):
    def __init__(self):
        super().__init__(64, 10, dtype=torch.complex64)

    def forward(self, x):
        return super().forward(x.flatten(1).to(self.weight.dtype))
'''


def own_types(case: Case, model: str, **changes: Any) -> Study:
    (case("complex") / "own_types.py").write_text(OWN_TYPES)
    problem = {"dataset": "digits", "model": {"factory": f"own_types:{model}"}}
    return study(**{"problem": problem, "precision": "float32", **changes})


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_model_keeps_the_types_it_chose(case: Case, precision: str) -> None:
    made = own_types(case, "Half", precision=precision, seeds=2, engine="stacked")
    dataset = made.load_data()
    runs = made.plan(dataset).runs
    (choice,) = Engines(dataset, precision, "cpu").choose(runs)
    assert choice.engine == "reference"
    assert "float16" in choice.note
    (trained,) = weights([runs[0]], dataset, "reference")
    assert (trained["first.weight"].dtype, trained["last.weight"].dtype) == ("float16", precision)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_buffers_keep_their_types(case: Case, engine: str) -> None:
    made = own_types(case, "Buffers")
    dataset = made.load_data()
    (trained,) = weights(list(made.plan(dataset).runs), dataset, engine)
    types = {name: str(trained[name].dtype) for name in ("phase", "fine", "order", "mask")}
    assert types == {"phase": "complex64", "fine": "float64", "order": "int64", "mask": "bool"}
    assert trained["fine"][0] == 1 + 1e-12


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("brain", "in bfloat16, which cannot be stored; build it in float32"),
        ("double", "its parameters are float64: leave them in float32"),
        ("Waves", "complex64 outputs; cross_entropy takes real numbers: take .abs()"),
    ],
)
def test_types_that_cannot_be_trained_are_refused_at_plan(
    case: Case, model: str, says: str
) -> None:
    with pytest.raises(StudyError, match=says):
        own_types(case, model).plan()


def test_complex_inputs_are_refused() -> None:
    assert "cx" not in sys.modules
    x = np.ones((20, 3), complex)
    with pytest.raises(DataError, match="complex128; they must be real numbers"):
        optrial.compare(model={"kind": "logistic"}, data=(x, np.arange(20) % 2), optimizers=["sgd"])
