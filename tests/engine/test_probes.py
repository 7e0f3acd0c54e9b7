"""Probes against plain PyTorch with hooks, exact Hessians and sums by hand."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optrial.engine import Training
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import pack
from optrial.records import Segment
from optrial.spec import PROBES, RunSpec
from tests.small import MOONS, learner_for, small_plan, train, train_stack
from tests.tolerance import (
    POWER_ITERATION,
    PROBE_FLOAT64,
    STATISTIC_FLOAT64,
    THREE_DIGITS,
    TRAJECTORY_FLOAT64,
)

RATE, STEPS, SAMPLES = 0.1, 7, 100
MODEL = {"kind": "mlp", "hidden": [6, 5]}
EVERYTHING: dict[str, Any] = {
    "problem": {"dataset": MOONS | {"n_samples": SAMPLES}, "model": MODEL},
    "budget": {"steps": STEPS},
    "precision": "float64",
    "optimizers": [{"rule": "sgd", "lr": RATE}],
    "probes": {"measure": list(PROBES), "every": {"steps": 3}},
}
DUE = [1, 3, 6]


def by_hand(run: RunSpec, dataset: Any) -> dict[str, dict[int, float]]:
    """Train SGD as a script would and measure everything at every step, with hooks."""
    model = build_model(
        run.model, run.model_arguments, input_shape=(2,), classes=2, seed=run.seed
    ).double()
    train_split = dataset.splits["train"]
    inputs = torch.from_numpy(train_split.inputs).double()
    targets = torch.from_numpy(train_split.targets)
    values: dict[str, dict[int, float]] = defaultdict(dict)
    seen: dict[str, float] = {}

    def after_forward(_module: nn.Module, arguments: Any, outputs: torch.Tensor) -> None:
        seen["dead"] += (outputs == 0).all(0).sum().item()
        seen["active"] += (arguments[0] > 0).sum().item()
        seen["entries"] += arguments[0].numel()
        seen["units"] += outputs.shape[1]

    def after_backward(_module: nn.Module, gradients: Any, _outputs: Any) -> None:
        seen["squares"] += gradients[0].square().sum().item()

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(after_forward)
            module.register_full_backward_hook(after_backward)

    def gradient(rows: Any) -> torch.Tensor:
        seen.update(dead=0, units=0, squares=0, active=0, entries=0)
        loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    previous = None
    batches = batch_order(run, len(inputs)).batches()
    for step, rows in enumerate(islice(batches, STEPS), start=1):
        small = len(rows) // 8
        pieces = [gradient(rows[start : start + small]) for start in range(0, 8 * small, small)]
        weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        g = gradient(rows)
        values["gradient_norm"][step] = g.norm().item()
        values["weight_norm"][step] = weights.norm().item()
        values["update_to_weight_ratio"][step] = (RATE * g.norm() / weights.norm()).item()
        values["effective_learning_rate"][step] = RATE
        values["dead_relu_fraction"][step] = seen["dead"] / seen["units"]
        values["active_relu_fraction"][step] = seen["active"] / seen["entries"]
        values["relu_gradient_square_sum"][step] = seen["squares"]
        if previous is not None:
            values["gradient_cosine"][step] = torch.cosine_similarity(g, previous, dim=0).item()
        of_small = float(np.mean([piece.square().sum().item() for piece in pieces]))
        of_large = torch.stack(pieces).mean(0).square().sum().item()
        signal = (8 * small * of_large - small * of_small) / (7 * small)
        if signal > 0:
            noise = (of_small - of_large) / (1 / small - 1 / (8 * small))
            values["gradient_noise_scale"][step] = noise / signal
        values["hessian_eigenvalue"][step] = _largest_eigenvalue(model, inputs[rows], targets[rows])
        nn.utils.vector_to_parameters(weights - RATE * g, model.parameters())
        previous = g
    return values


def _largest_eigenvalue(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    names = [name for name, _ in model.named_parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        params = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, params, (x,)), y)

    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
    return eigenvalues[eigenvalues.abs().argmax()].item()


@pytest.fixture(scope="module")
def measured() -> tuple[RunSpec, Any, dict[str, dict[int, float]]]:
    plan, dataset = small_plan(**EVERYTHING)
    (run,) = plan.runs
    return run, dataset, by_hand(run, dataset)


@pytest.fixture(scope="module")
def trained(measured: Any) -> dict[str, Segment]:
    """The run by each engine, which measures all probes."""
    run, dataset, _ = measured
    return {engine: train(run, dataset, engine) for engine in ("reference", "stacked")}


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("probe", PROBES)
def test_probe_is_what_a_script_with_hooks_finds(
    measured: Any, trained: dict[str, Segment], probe: str, engine: str
) -> None:
    run, _, expected = measured
    curve = trained[engine].curves[probe]
    if PROBES[probe].summed:
        epochs = [range(1, 4), range(4, 7)]
        assert run.steps_per_epoch == 3
        assert curve.steps.tolist() == [3, 6]
        sums = [sum(expected[probe][step] for step in epoch) for epoch in epochs]
        assert curve.values == pytest.approx(sums, rel=STATISTIC_FLOAT64)
        return
    due = [step for step in DUE if step in expected[probe]]
    assert due
    assert [step for step in curve.steps.tolist() if step in due] == due
    tolerance = POWER_ITERATION if probe == "hessian_eigenvalue" else STATISTIC_FLOAT64
    values = dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
    for step in due:
        assert values[step] == pytest.approx(expected[probe][step], rel=tolerance), step


VARIANTS: dict[str, dict[str, Any]] = {
    "dropout and decay": {
        "problem": {"dataset": MOONS, "model": MODEL | {"dropout": [0.0, 0.5]}},
        "optimizers": [{"rule": "adam", "weight_decay": 0.1}, {"rule": "sgd", "clip": 0.1}],
        "seeds": 2,
    },
    "batch norm": {
        "problem": {"dataset": MOONS, "model": MODEL | {"batch_norm": True}},
        "drop_last": True,
    },
    "code of one's own": {
        "problem": {"dataset": MOONS, "model": {"factory": "tests.user_code:small_network"}},
    },
    "a buffer changed in place": {
        "problem": {"dataset": MOONS, "model": {"factory": "tests.user_models:centred"}},
    },
    "a function": {
        "batch_size": "full",
        "problem": {"function": "rosenbrock"},
        "optimizers": [{"rule": "sgd", "lr": 1e-4}],
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_probes_change_no_number_and_agree_between_engines(name: str) -> None:
    probes = {"measure": list(PROBES), "every": {"steps": 5}, "per_layer": True}
    common = {"precision": "float64", "budget": {"steps": 10}} | VARIANTS[name]
    plain, dataset = small_plan(**common)
    probed, _ = small_plan(**common, probes=probes)
    for stack, other in zip(
        pack(plain.runs, len(plain.runs)), pack(probed.runs, len(probed.runs)), strict=True
    ):
        with_probes = train_stack(other, dataset, "stacked")
        for without, beside in zip(
            train_stack(stack, dataset, "stacked"), with_probes, strict=True
        ):
            assert without.facts.parameters_sha256 == beside.facts.parameters_sha256
            assert set(without.curves) < set(beside.curves)
        for run, segment in zip(other, with_probes, strict=True):
            alone = train(run, dataset, "reference")
            assert set(alone.curves) == set(segment.curves)
            for metric, curve in alone.curves.items():
                assert segment.curves[metric].values == pytest.approx(
                    curve.values, rel=PROBE_FLOAT64, abs=TRAJECTORY_FLOAT64
                ), metric


def test_script_draws_the_same_with_probes() -> None:
    """The probe's dropout masks are the step's, and the generator goes on as if nothing was."""
    problem = {"dataset": MOONS, "model": MODEL | {"dropout": 0.5}}
    plain, dataset = small_plan(problem=problem, rng="script", engine="reference")
    probed, _ = small_plan(
        problem=problem,
        rng="script",
        engine="reference",
        probes=["effective_learning_rate", "relu_gradient_square_sum"],
    )
    without, beside = (train(plan.runs[0], dataset) for plan in (plain, probed))
    assert without.facts.parameters_sha256 == beside.facts.parameters_sha256
    assert beside.curves["effective_learning_rate"].values == pytest.approx(0.1, rel=THREE_DIGITS)


def test_layers_add_up() -> None:
    plan, dataset = small_plan(
        **EVERYTHING | {"probes": EVERYTHING["probes"] | {"per_layer": True}}
    )
    curves = train(plan.runs[0], dataset).curves
    for probe in ("gradient_norm", "weight_norm"):
        layers = [curves[name].values for name in curves if name.startswith(f"{probe}/")]
        assert len(layers) == 3
        assert np.sqrt(np.square(layers).sum(0)) == pytest.approx(curves[probe].values)
    dead = [curves[f"dead_relu_fraction/relu{layer}"].values for layer in (1, 2)]
    assert (6 * dead[0] + 5 * dead[1]) / 11 == pytest.approx(curves["dead_relu_fraction"].values)
    active = [curves[f"active_relu_fraction/relu{layer}"].values for layer in (1, 2)]
    whole = curves["active_relu_fraction"].values
    assert (6 * active[0] + 5 * active[1]) / 11 == pytest.approx(whole)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_resumed_run_measures_the_same(engine: str) -> None:
    plan, dataset = small_plan(
        **EVERYTHING
        | {"budget": {"steps": 12}, "optimizers": [{"rule": "adam", "lr": [0.1, 0.01]}]}
    )
    stack = pack(plan.runs, 2)[0][: 2 if engine == "stacked" else 1]
    whole = Training(stack, learner_for(stack, dataset, engine))
    for _ in whole.run():
        pass
    first = Training(stack, learner_for(stack, dataset, engine))
    next(iter(first.run(lambda step: step < 5)))
    second = Training(stack, learner_for(stack, dataset, engine))
    second.resume(first.checkpoint())
    earlier = first.segments()
    for _ in second.run():
        pass
    for one, two, together in zip(earlier, second.segments(), whole.segments(), strict=True):
        for metric, curve in together.curves.items():
            parts = [part.curves[metric].values for part in (one, two) if metric in part.curves]
            assert np.concatenate(parts).tolist() == curve.values.tolist(), metric


def test_diverged_run_is_probed_no_more() -> None:
    plan, dataset = small_plan(
        optimizers=[{"rule": "sgd", "lr": [0.1, 1e9]}],
        loss_limit=100.0,
        probes={"measure": ["gradient_norm", "relu_gradient_square_sum"], "every": {"steps": 1}},
    )
    steady, wild = train_stack(pack(plan.runs, 2)[0], dataset, "stacked")
    assert len(steady.curves["gradient_norm"].steps) == 40
    assert wild.curves["gradient_norm"].steps.max() < wild.step
    assert "relu_gradient_square_sum" not in wild.curves


@pytest.mark.parametrize(
    ("probes", "engine", "message"),
    [
        (["gradient_nrom"], "auto", "Did you mean 'gradient_norm'"),
        (["gradient_norm"], "numpy", "the numpy engine measures none"),
        ([], "auto", "empty"),
        ({"measure": ["gradient_norm"], "evry": {"steps": 3}}, "auto", "every"),
    ],
)
def test_what_cannot_be_measured_is_refused(probes: Any, engine: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        small_plan(probes=probes, engine=engine)


def test_ids_without_probes_are_those_of_before() -> None:
    plain, _ = small_plan()
    probed, _ = small_plan(probes=["gradient_norm"])
    assert plain.runs[0].probes is None
    assert plain.runs[0].run_id != probed.runs[0].run_id
    fields = probed.runs[0].as_dict()
    assert RunSpec.from_dict(fields).run_id == probed.runs[0].run_id
