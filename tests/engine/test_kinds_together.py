"""Kinds of training at once, in every engine, against a plain PyTorch script.

Groups with several rules, accumulation, clipping, schedules, SAM, lookahead and averages of the
weights; tied embeddings, whole numbers as inputs, and labels that do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optrial.data import Dataset
from optrial.engine import Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.models import build_model
from optrial.plan import arrange, pack
from optrial.records import Segment
from optrial.spec import RunSpec
from tests.small import learner_for, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own
STEPS, EVERY, PARTS, CLIP, WORDS, IGNORED = 12, 4, 3, 0.3, 9, 7
PULL, SYNCHRONIZED = 0.6, 5

Curves = dict[str, list[float]]
Named = Mapping[str, nn.Parameter]


def words() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random tokens, each of which is to be repeated at the next position; some do not count."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, WORDS, (110, 6))
    tokens[0, 0] = tokens[84, 0] = WORDS - 1
    targets = np.roll(tokens, 1, axis=1)
    targets[(random.random(targets.shape) < 0.4) & (np.arange(6) > 0)] = IGNORED
    return {"train": (tokens[:84], targets[:84]), "test": (tokens[84:], targets[84:])}


NUMBERS: dict[str, Any] = {
    "dataset": {"name": "moons", "n_samples": 105, "noise": 0.2},
    "model": {"kind": "mlp", "hidden": [8, 6]},
}
TOKENS: dict[str, Any] = {
    "dataset": {"name": f"{__name__}:words", "inputs": "tokens"},
    "model": {"kind": "transformer", "width": 8, "depth": 1, "heads": 2, "tied": True},
    "loss": {"name": "cross_entropy", "ignore_index": IGNORED},
}
"""Both have 84 samples for training: three batches of 28, whose labels may count differently."""

HEAD_BY_MOMENTUM = {
    **{"rule": "adamw", "lr": [0.02, 0.01], "weight_decay": 0.1, "schedule": "cosine"},
    "groups": [
        {"match": "head", "rule": "momentum", "lr": 0.05},
        {"match": "vectors", "weight_decay": 0},
    ],
}
ENTRIES: dict[str, dict[str, Any]] = {
    "sam and ema": HEAD_BY_MOMENTUM | {"sam": 0.1, "average": {"ema": 0.7}, "clip": CLIP},
    "adaptive sam and tail": HEAD_BY_MOMENTUM | {"adaptive_sam": 0.5, "average": {"tail": 0.5}},
    "lookahead and ema": HEAD_BY_MOMENTUM
    | {
        "modify": [{"name": "lookahead", "every": SYNCHRONIZED, "pull": PULL}],
        "average": {"ema": 0.7},
    },
}


def optimizers_of(named: Named, rate: float) -> list[torch.optim.Optimizer]:
    """The optimizers of `HEAD_BY_MOMENTUM` as a script builds them."""
    last = [name for name, value in named.items() if value.ndim == 2][-1]
    tied = "embedding.weight" in named
    head = ["embedding.weight"] if tied else [last, last.replace("weight", "bias")]
    matrices = [v for name, v in named.items() if v.ndim == 2 and name not in head]
    vectors = [v for name, v in named.items() if v.ndim < 2 and name not in head]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return [
        torch.optim.AdamW(groups, lr=rate, weight_decay=0.1),
        torch.optim.SGD([named[name] for name in head], lr=0.05, momentum=0.9),
    ]


class Lookahead:
    """Pulls slow weights towards fast ones, every few steps, and the fast ones to the slow."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.fast = [p for group in optimizer.param_groups for p in group["params"]]
        self.slow = [p.detach().clone() for p in self.fast]

    @torch.no_grad()
    def step(self, number: int) -> None:
        if number % SYNCHRONIZED == 0:
            for slow, fast in zip(self.slow, self.fast, strict=True):
                slow.lerp_(fast, PULL)
                fast.copy_(slow)


class Uphill:
    """SAM: moves parameters along their gradients, and back."""

    def __init__(self, parameters: list[nn.Parameter], rho: float, adaptive: bool) -> None:
        self.parameters, self.rho, self.adaptive = parameters, rho, adaptive

    @torch.no_grad()
    def climb(self) -> None:
        self.before = [p.clone() for p in self.parameters]
        scales = [p.abs() if self.adaptive else torch.ones_like(p) for p in self.parameters]
        pairs = list(zip(self.parameters, scales, strict=True))
        norm = math.sqrt(sum((scale * p.grad).square().sum().item() for p, scale in pairs))
        for p, scale in pairs:
            p.add_(scale.square() * p.grad, alpha=self.rho / norm)

    @torch.no_grad()
    def back(self) -> None:
        for p, before in zip(self.parameters, self.before, strict=True):
            p.copy_(before)


def entropy(outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross entropy of labels, or of those at each position that count."""
    classes = outputs.shape[-1]
    ignore = IGNORED if targets.ndim > 1 else -100
    flat = outputs.reshape(-1, classes), targets.flatten()
    return functional.cross_entropy(*flat, ignore_index=ignore, reduction=reduction)


def model_of(run: RunSpec, data: Dataset) -> nn.Module:
    return build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        vocabulary=data.vocabulary, seed=run.seed,
    ).double()  # fmt: skip


def script(run: RunSpec, data: Dataset) -> Curves:
    """Losses of a plain loop: of each step, and of the test split at weights and average."""
    model = model_of(run, data)
    splits = tensor_splits(data, "float64", "cpu")
    train, test = splits["train"], splits["test"]
    optimizers = optimizers_of(dict(model.named_parameters()), run.hyperparameters["lr"])
    rates = [group["lr"] for o in optimizers for group in o.param_groups]
    lookahead = Lookahead(optimizers[0]) if run.modify else None
    sam = None
    if run.sam_rho is not None:
        sam = Uphill(list(model.parameters()), run.sam_rho, run.sam_adaptive)
    assert run.average is not None
    tail = run.average.kind == "tail"
    first = STEPS - round(run.average.value * STEPS) + 1 if tail else 1
    rule = None if tail else get_ema_multi_avg_fn(run.average.value)
    averaged = AveragedModel(model, multi_avg_fn=rule, use_buffers=True)
    batches = batch_order(run, len(train)).batches(1)
    curves: Curves = {"train_loss": [], "test_loss": [], "test_loss_raw": []}

    def differentiate(parts: list[np.ndarray]) -> float:
        model.zero_grad()
        counts = [int((train.targets[rows] != IGNORED).sum()) for rows in parts]
        total = 0.0
        for rows in parts:
            summed = entropy(model(train.inputs[rows]), train.targets[rows], "sum")
            (summed / sum(counts)).backward()
            total += summed.item() / sum(counts)
        return total

    for step in range(1, STEPS + 1):
        parts = [next(batches) for _ in range(PARTS)]
        curves["train_loss"].append(differentiate(parts))
        if sam:
            sam.climb()
            differentiate(parts)
            sam.back()
        if run.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), run.clip_norm)
        factor = (1 + math.cos(math.pi * (step - 1) / STEPS)) / 2
        groups = [group for o in optimizers for group in o.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        for optimizer in optimizers:
            optimizer.step()
        if lookahead:
            lookahead.step(step)
        if step >= first:
            averaged.update_parameters(model)
        if step % EVERY == 0:
            with torch.no_grad():
                point = averaged if step >= first else model
                curves["test_loss"].append(entropy(point(test.inputs), test.targets).item())
                curves["test_loss_raw"].append(entropy(model(test.inputs), test.targets).item())
    return curves


def trained(
    problem: dict[str, Any], entry: dict[str, Any], engine: str
) -> Iterator[tuple[RunSpec, Dataset, Segment]]:
    """Yield runs of two rates and, in one stack, of two seeds."""
    wide = engine in ("stacked", "compiled")
    plan, data = small_plan(
        problem=problem,
        precision="float64",
        batch_size=28,
        accumulate=PARTS,
        budget={"steps": STEPS},
        evaluate={"every": {"steps": EVERY}, "on": ["test"]},
        seeds=[0, 1] if wide else [0],
        optimizers=[entry],
    )
    for stack in pack(arrange(plan.runs), len(plan.runs) if wide else 1):
        assert not wide or len(stack) == len(plan.runs)
        training = Training(stack, learner_for(stack, data, engine))
        for _ in training.run():
            pass
        for run, segment in zip(stack, training.segments(), strict=True):
            yield run, data, segment


ENGINES = [
    *(
        (NUMBERS, engine, entry)
        for engine in ("reference", "stacked", "numpy")
        for entry in ENTRIES
    ),
    *((TOKENS, engine, entry) for engine in ("reference", "stacked") for entry in ENTRIES),
    pytest.param(NUMBERS, "compiled", "sam and ema", marks=pytest.mark.slow),
]


@pytest.mark.one_in(9)
@pytest.mark.parametrize(("problem", "engine", "entry"), ENGINES)
def test_all_at_once_are_those_of_a_plain_script(
    problem: dict[str, Any], engine: str, entry: str
) -> None:
    for run, data, segment in trained(problem, ENTRIES[entry], engine):
        for name, losses in script(run, data).items():
            values = segment.curves[name].values
            assert values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64), name
