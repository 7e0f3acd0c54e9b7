"""Products of stacks through oneDNN equal those of PyTorch's default, and are chosen if faster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap

from optrial.callbacks import Callback
from optrial.data import Dataset
from optrial.engine import Engines, Training, certificates
from optrial.engine.backends import products as products_module
from optrial.engine.backends.products import has_onednn, products
from optrial.engine.select import choice as choice_module
from optrial.engine.select.measure import Candidate, StepTime, StepTimer
from optrial.plan import Plan, pack
from optrial.spec import Status
from optrial.study import Study
from tests.small import learner_for, small_keys, small_plan, train, train_stack
from tests.tolerance import BFLOAT16_LOSS, FINAL_LOSS_FLOAT32, PRODUCT

pytestmark = [
    pytest.mark.skipif(not has_onednn(), reason="this PyTorch has no oneDNN"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),  # its own, when it compiles
]

SHAPES = [  # runs of the left and of the right matrix; rows, inner, columns
    ((), (), (300, 211, 70)),
    ((4,), (4,), (129, 65, 300)),
    ((4,), (1,), (129, 65, 300)),
    ((2, 3), (2, 1), (129, 65, 300)),
    ((2, 3), (1, 1), (129, 65, 300)),
    ((2, 3), (2, 3), (129, 65, 300)),
    ((1, 1), (2, 3), (129, 65, 300)),
    ((3,), (3,), (5, 4, 3)),
    ((3,), (1,), (5, 4, 3)),
]

WIDE = {
    "problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [140, 90], "dropout": 0.1}},
    "batch_size": 200,
    "budget": {"steps": 12},
    "evaluate": {"every": {"steps": 6}, "on": ["test"]},
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.003]}, {"rule": "sgd", "lr": [0.1, 0.2]}],
}
"""A study of layers with large products: one whose input runs of a seed share, one whose not."""


def matrices(runs: Sequence[int], rows: int, columns: int, kind: str = "dense") -> Tensor:
    """Random matrices that lie in memory as they are, transposed, or in every other column."""
    generator = torch.Generator().manual_seed(rows)
    if kind == "transposed":
        return torch.randn(*runs, columns, rows, generator=generator).mT
    values = torch.randn(*runs, rows, columns * (1 + (kind == "strided")), generator=generator)
    return values[..., ::2] if kind == "strided" else values


def close(product: Tensor, exact: Tensor) -> bool:
    assert product.shape == exact.shape
    difference = (product.double() - exact).abs().max()
    return bool(difference <= PRODUCT[product.dtype] * exact.abs().max())


@pytest.mark.one_in(11)
@pytest.mark.parametrize("dtype", PRODUCT)
@pytest.mark.parametrize(
    "kinds", [("dense", "transposed"), ("transposed", "dense"), ("strided",) * 2]
)
@pytest.mark.parametrize(("lefts", "rights", "sizes"), SHAPES)
def test_products_and_their_gradients_equal_those_in_double_precision(
    lefts: tuple[int, ...],
    rights: tuple[int, ...],
    sizes: tuple[int, int, int],
    kinds: tuple[str, str],
    dtype: torch.dtype,
) -> None:
    rows, inner, columns = sizes
    factors = [
        matrices(lefts, rows, inner, kinds[0]).to(dtype).requires_grad_(),
        matrices(rights, inner, columns, kinds[1]).to(dtype).requires_grad_(),
    ]
    exact = [factor.detach().double().requires_grad_() for factor in factors]
    product, expected = products(*factors), exact[0] @ exact[1]
    assert close(product, expected)
    weights = matrices(product.shape[:-2], rows, columns, "transposed").to(dtype)
    gradients = torch.autograd.grad(product, factors, weights)
    for gradient, right in zip(
        gradients, torch.autograd.grad(expected, exact, weights.double()), strict=True
    ):
        assert close(gradient, right)


def test_products_are_mapped_over_seeds_and_settings() -> None:
    weights, inputs = matrices((2, 3), 140, 64), matrices((2,), 200, 64)

    def one_run(weight: Tensor, samples: Tensor) -> Tensor:
        return products(weight, samples.mT)

    mapped = vmap(vmap(one_run, in_dims=(0, None)))(weights, inputs)
    assert close(mapped, weights.double() @ inputs[:, None].double().mT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("runs", [(1,), (3,)])
def test_what_is_not_finite_stays_in_its_row_and_its_run(value: float, runs: tuple[int]) -> None:
    weights, inputs = matrices((3,), 129, 300), matrices(runs, 300, 200)
    clean = products(weights, inputs)
    weights[1, 5, 7] = value
    product, expected = products(weights, inputs), weights @ inputs
    assert torch.equal(product.isnan(), expected.isnan())
    assert torch.equal(product.isposinf(), expected.isposinf())
    product[1, 5] = clean[1, 5]
    assert torch.equal(product, clean)


def test_denormal_numbers_are_kept_or_flushed_as_by_the_default() -> None:
    left, right = torch.full((300, 300), 1e-30), torch.full((300, 200), 1e-10)
    assert close(products(left, right), left.double() @ right.double())
    torch.set_flush_denormal(True)
    try:
        assert not products(left, right * 1e-5).any()
        assert not (left @ (right * 1e-5)).any()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.slow
def test_products_do_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from optrial.engine.backends.products import products\n"
        "factor = torch.ones(3, 8, 8, requires_grad=True)\n"
        "torch.func.vmap(products)(factor, factor).sum().backward()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def wide_plan(**changes: Any) -> tuple[Plan, Dataset]:
    return small_plan(**(WIDE | {"seeds": 2} | changes))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "engine", ["stacked+onednn", pytest.param("compiled+onednn", marks=pytest.mark.slow)]
)
def test_a_stack_equals_the_reference_and_names_its_products(
    engine: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, dataset = wide_plan(precision=precision)
    (stack,) = pack(plan.runs, len(plan.runs))
    calls, onednn = [], products_module._onednn

    def counted(left: Tensor, right: Tensor) -> Tensor:
        calls.append(left.shape)
        return onednn(left, right)

    monkeypatch.setattr(products_module, "_onednn", counted)
    segments = train_stack(stack, dataset, engine)
    assert bool(calls) is (precision == "float32"), "no product went through oneDNN"
    calls.clear()
    default = train_stack(stack, dataset, "stacked")
    tolerance = {"float32": FINAL_LOSS_FLOAT32, "bfloat16": BFLOAT16_LOSS}[precision]
    for run, segment, other in zip(stack, segments, default, strict=True):
        alone = train(run, dataset, "reference").curves["test_loss"].values
        assert segment.curves["test_loss"].values == pytest.approx(alone, rel=tolerance)
        assert (segment.facts.products, other.facts.products) == ("onednn", "default")
    assert not calls


def test_positions_count_as_rows() -> None:
    """The products of a transformer are large because every sample has many positions."""
    plan, dataset = small_plan(
        problem={
            "dataset": {"name": "coriolanus", "context": 64, "validation_fraction": 0.0},
            "model": {"kind": "transformer", "width": 64, "depth": 1},
        },
        batch_size=4,
        budget={"steps": 2},
        evaluate={"every": {"steps": 2}, "on": ["test"]},
        optimizers=[{"rule": "adam", "lr": [0.001, 0.003]}],
    )
    segments = train_stack(plan.runs, dataset, "stacked+onednn")
    for run, segment in zip(plan.runs, segments, strict=True):
        alone = train(run, dataset, "reference").curves["test_loss"].values
        assert segment.curves["test_loss"].values == pytest.approx(alone, rel=FINAL_LOSS_FLOAT32)
        assert segment.facts.products == "onednn"


@pytest.mark.parametrize(
    "engine", ["stacked+onednn", pytest.param("compiled+onednn", marks=pytest.mark.slow)]
)
def test_repetition_and_resumption_give_the_same_bits(engine: str) -> None:
    plan, dataset = wide_plan()
    (stack,) = pack(plan.runs, len(plan.runs))
    whole, again = (train_stack(stack, dataset, engine) for _ in range(2))
    first = Training(stack, learner_for(stack, dataset, engine))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < 7):
        pass
    second = Training(stack, learner_for(stack, dataset, engine))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    for one, two, resumed in zip(whole, again, second.segments(), strict=True):
        hashes = [part.facts.parameters_sha256 for part in (one, two, resumed)]
        assert len(set(hashes)) == 1


def test_a_neighbour_changes_no_bit() -> None:
    def bits(rate: float) -> list[str | None]:
        optimizers = [{"rule": "sgd", "lr": [0.1, rate]}, {"rule": "adam"}]
        plan, dataset = wide_plan(optimizers=optimizers)
        (stack,) = pack(plan.runs, len(plan.runs))
        segments = train_stack(stack, dataset, "stacked+onednn")
        kept = [run.hyperparameters["lr"] != rate for run in stack]
        assert [s.status is Status.DIVERGED for s in segments] == [rate > 1 and not k for k in kept]
        return [s.facts.parameters_sha256 for s, k in zip(segments, kept, strict=True) if k]

    assert bits(0.2) == bits(1e30)


def test_a_training_is_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.engine.checks.certificate._LEAST_STEPS", 1)
    monkeypatch.setattr("optrial.engine.checks.certificate._LEAST_SECONDS", 0.0)
    plan, dataset = wide_plan()
    (stack,) = pack(plan.runs, len(plan.runs))
    training = Training(stack, learner_for(stack, dataset, "stacked+onednn"))
    for _ in training.run():
        pass
    facts = certificates(training, lambda run: learner_for([run], dataset, "reference"))
    checks = [
        check
        for fact in facts.values()
        for check in (fact.stack_certificate, fact.stack_neighbour)
        if check is not None
    ]
    assert len(checks) == 2 + len(stack) - 1
    assert not any(check.fails for check in checks)
    assert {fact.replicate_difference for fact in facts.values()} == {0.0}


PROBES = ["gradient_norm", "gradient_noise_scale", "hessian_eigenvalue", "dead_relu_fraction"]


def test_probes_are_those_of_the_default_products() -> None:
    plan, dataset = wide_plan(
        probes={"measure": PROBES, "every": {"steps": 1}}, budget={"steps": 1}
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    for one, other in zip(
        *(train_stack(stack, dataset, engine) for engine in ("stacked", "stacked+onednn")),
        strict=True,
    ):
        for name in PROBES:
            assert one.curves[name].values == pytest.approx(
                other.curves[name].values, rel=FINAL_LOSS_FLOAT32
            )


@pytest.mark.parametrize("seconds", [0.5, 1.2])
@pytest.mark.parametrize("compile_", ["never", "always"])
def test_the_faster_products_are_chosen(
    seconds: float, compile_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def times(_: StepTimer, *candidates: Candidate, within: float) -> list[StepTime]:
        del within
        asked.extend(engine for engine, _ in candidates)
        return [
            StepTime(seconds / 1000 if engine.endswith("+onednn") else 1 / 1000, 0.0)
            for engine, _ in candidates
        ]

    monkeypatch.setattr(StepTimer, "times", times)
    monkeypatch.setattr(choice_module, "can_compile", lambda: True)
    plan, dataset = wide_plan(engine="stacked", compile=compile_)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    kind = {"never": "stacked", "always": "compiled"}[compile_]
    assert choice.engine == (f"{kind}+onednn" if seconds < 1 else kind)
    assert "stacked+onednn" in asked


@pytest.mark.parametrize("changes", [{"precision": "float64"}, {"batch_size": 2}])
def test_onednn_is_not_tried_where_it_cannot_help(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(_: StepTimer, *candidates: Candidate, within: float) -> list[StepTime]:
        del within
        assert not any(engine.endswith("onednn") for engine, _ in candidates)
        return [StepTime(1.0, 0.0) for _ in candidates]

    monkeypatch.setattr(StepTimer, "times", times)
    plan, dataset = wide_plan(engine="stacked", compile="never", **changes)
    (choice,) = Engines(dataset, plan.runs[0].precision, "cpu").choose(plan.runs)
    assert choice.engine == "stacked"


def test_a_resumed_study_keeps_its_products(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prefers(library: str) -> None:
        monkeypatch.setattr(
            StepTimer,
            "times",
            lambda _, *pairs, within: [
                StepTime(1e-4 if library in e else 1e-3, 0.0) for e, _ in pairs
            ],
        )

    class Stop(Callback):
        def on_step(self, count: int) -> None:
            raise RuntimeError(f"stopped after {count} steps")

    study = Study(**small_keys(**WIDE, engine="stacked", compile="never"))
    prefers("+onednn")
    with study.run(tmp_path / "whole") as results:
        wanted = {record.run_id: record.facts.parameters_sha256 for record in results.records}
    with pytest.raises(RuntimeError, match="stopped"):
        study.run(tmp_path / "resumed", callbacks=[Stop()])
    prefers("nothing")
    with study.run(tmp_path / "resumed") as results:
        assert {record.facts.products for record in results.records} == {"onednn"}
        assert all(record.stack.engine == "stacked+onednn" for record in results.records)
        assert wanted == {r.run_id: r.facts.parameters_sha256 for r in results.records}


def test_a_stack_from_another_machine_is_trained_without_onednn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("optrial.engine.backends.stacked.has_onednn", lambda: False)
    plan, dataset = wide_plan(budget={"steps": 5})
    (stack,) = pack(plan.runs, len(plan.runs))
    trained, default = (train_stack(stack, dataset, e) for e in ("stacked+onednn", "stacked"))
    assert {segment.facts.products for segment in trained} == {"default"}
    hashes = [[s.facts.parameters_sha256 for s in segments] for segments in (trained, default)]
    assert hashes[0] == hashes[1]
