"""A run beside one that changes the process gives the bits that it gives alone."""

from __future__ import annotations

import locale
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optrial.errors import StudyError
from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys

WITHIN: dict[str, Any] = {}
"""How the process was before, and what the misbehaving optimizer does in its fifth step."""


class Misbehaving(torch.optim.SGD):
    """Changes the process in its fifth step."""

    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.calls += 1
        if self.calls == 5:
            WITHIN["act"]()


def close_streams() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def close_descriptors() -> None:
    for number in range(3):
        os.close(number)


ACTS = {
    "descriptors": close_descriptors,
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(OMP_NUM_THREADS="7", MISBEHAVING="1"),
    "path": sys.path.clear,
    "streams": close_streams,
    "filters": lambda: warnings.simplefilter("error"),
    "recursion": lambda: sys.setrecursionlimit(300),
    "floats": lambda: np.seterr(all="raise"),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "threads": lambda: torch.set_num_threads(2),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "denormals": lambda: torch.set_flush_denormal(True),
    "cudnn": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "attention": lambda: torch.backends.cuda.enable_math_sdp(False),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "seeds": lambda: (torch.manual_seed(7), np.random.seed(7)),
    "device": lambda: torch.set_default_device("meta"),
    "missing device": lambda: torch.set_default_device("cuda"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16).__enter__(),
    "mkldnn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "precision": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "products": lambda: torch.set_float32_matmul_precision("medium"),
    "method": lambda: setattr(torch.Tensor, "relu", torch.Tensor.sin),
    "function": lambda: setattr(torch.nn.init, "kaiming_uniform_", lambda it, **of: it),
    "clock": lambda: setattr(time, "monotonic", float),
    "hook": lambda: torch.nn.modules.module.register_module_forward_hook(lambda *of: 2 * of[-1]),
}


def state() -> list[object]:
    return [
        *(locale.setlocale(locale.LC_ALL), torch.backends.cudnn.benchmark),
        *(torch.backends.cuda.math_sdp_enabled(), torch.tensor(2.0**-140).mul(1).item()),
        *(Path.cwd(), dict(os.environ), list(sys.path), sys.stdout, sys.stderr),
        *(sys.getrecursionlimit(), np.geterr(), torch.get_default_dtype(), list(warnings.filters)),
        *(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()),
        *(torch.is_grad_enabled(), torch.is_anomaly_enabled()),
        *(os.fstat(number).st_ino for number in range(3)),
        *(torch.get_default_device(), torch.is_autocast_enabled("cpu"), torch.Tensor.relu),
        *(torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()),  # type: ignore[attr-defined]
        *(torch.backends.cuda.matmul.fp32_precision, torch.nn.init.kaiming_uniform_),
        *(len(torch.nn.modules.module._global_forward_hooks), time.monotonic),
    ]


def outcome(results: Results) -> tuple[object, ...]:
    """The outcome of the last run, and its weights."""
    with results:
        record = results.records[-1]
        weights = results.store.curve(record.run_id, "train_loss").values.tobytes()
        return record.status, record.metrics, record.facts.parameters_sha256, weights


@pytest.mark.one_in(9)
@pytest.mark.parametrize("act", ACTS)
def test_a_run_is_the_same_beside_one_that_changes_the_process(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(WITHIN, "act", ACTS[act])
    quiet = {"rule": "adam", "lr": 0.01}
    loud = {"torch": "tests.test_misbehaving_code:Misbehaving", "lr": 0.1}
    alone = Study(**small_keys(optimizers=[quiet], save="final"))
    beside = Study(**small_keys(optimizers=[loud, quiet], save="final"))
    expected = outcome(alone.run("alone"))
    assert expected[0] is Status.DONE
    before = state()
    assert outcome(beside.run("beside")) == expected
    assert state() == before
    assert len(list((tmp_path / "beside" / "weights").iterdir())) >= 1


CHANGED = {
    "dtype": "torch.set_default_dtype",
    "threads": "torch.set_num_threads",
    "cudnn": "torch.backends.cudnn.benchmark",
    "autocast": "torch.autocast",
    "precision": "torch.backends.fp32_precision",
    "products": "torch.set_float32_matmul_precision",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("act", CHANGED)
def test_a_run_that_changes_a_setting_on_its_way_is_refused(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued from a checkpoint, it would lack the change."""
    monkeypatch.setitem(WITHIN, "act", ACTS[act])
    loud = {"torch": "tests.test_misbehaving_code:Misbehaving", "lr": 0.1}
    with Study(**small_keys(optimizers=[loud])).run(tmp_path) as results:
        (record,) = results.records
    assert record.status is Status.ERROR
    assert f"Misbehaving changes the setting of {CHANGED[act]} for every run" in record.reason


@pytest.mark.parametrize(
    ("act", "name"), [("method", "torch.Tensor.relu"), ("clock", "time.monotonic")]
)
def test_a_run_that_replaces_a_function_is_refused(
    act: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WITHIN, "act", ACTS[act])
    loud = {"torch": "tests.test_misbehaving_code:Misbehaving", "lr": 0.1}
    with Study(**small_keys(optimizers=[loud])).run(tmp_path) as results:
        (record,) = results.records
    assert record.status is Status.ERROR
    assert f"Misbehaving replaces {name} for every run" in record.reason


@pytest.mark.parametrize(
    ("place", "value", "products"),
    [
        (torch.backends, "ieee", "highest"),
        (torch.backends, "tf32", "high"),
        (torch.backends.cuda.matmul, "tf32", "high"),
        (torch.backends.cudnn.conv, "ieee", "highest"),  # type: ignore[attr-defined]
        (torch.backends.mkldnn.matmul, "bf16", "medium"),  # type: ignore[attr-defined]
    ],
)
def test_a_program_may_set_the_precision_of_pytorch_in_the_newer_way(
    place: Any, value: str, products: str, tmp_path: Path
) -> None:
    """PyTorch then refuses to read the older settings."""
    before = place.fp32_precision
    place.fp32_precision = value
    try:
        with Study(**small_keys()).run(tmp_path) as results:
            (record,) = results.records
        assert place.fp32_precision == value
    finally:
        place.fp32_precision = before
    assert record.status is Status.DONE
    assert record.facts.float32_products == products


class Restless(torch.nn.Module):
    """Changes a setting in its 40th call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Linear(width, 2))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 40:
            torch.set_default_dtype(torch.float64)
        return self.layers(x)


def test_a_stack_that_changes_a_setting_stores_no_numbers(tmp_path: Path) -> None:
    problem = {
        "dataset": {"name": "moons", "n_samples": 200},
        "model": {"factory": "tests.test_misbehaving_code:Restless", "args": {"width": 4}},
    }
    keys = small_keys(problem=problem, engine="stacked", seeds=2)
    with Study(**keys).run(tmp_path) as results:
        assert {record.status for record in results.records} == {Status.ERROR}
        assert all("torch.set_default_dtype" in record.reason for record in results.records)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_a_module_that_sets_the_default_device_is_refused(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU, PyTorch cannot even say that the default device is one."""
    monkeypatch.chdir(tmp_path)
    Path("elsewhere.py").write_text(
        f"import torch\ntorch.set_default_device({device!r})\n"
        "def net():\n    return torch.nn.Linear(2, 2)\n"
    )
    problem = {**small_keys()["problem"], "model": {"factory": "elsewhere:net"}}
    try:
        with pytest.raises(StudyError, match=r"elsewhere:net.*default device .* --device names"):
            Study(**small_keys(problem=problem)).plan()
    finally:
        torch.set_default_device(None)
        sys.modules.pop("elsewhere", None)
