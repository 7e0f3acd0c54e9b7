"""Groups of parameters in every engine, against `torch.optim` with `param_groups`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optrial.analysis.torch_code import torch_code
from optrial.data import Dataset
from optrial.engine import Learner
from optrial.models import build_model
from optrial.plan import pack
from optrial.spec import RunSpec, Status
from tests.small import learner_for, resumed, small_plan, train
from tests.tolerance import RULE_FLOAT64

STEPS = 40
MODEL = {"kind": "mlp", "hidden": [8, 6]}

Named = Mapping[str, nn.Parameter]
Optimizers = Callable[[Named], list[torch.optim.Optimizer]]


def weights(named: Named) -> list[nn.Parameter]:
    return [value for name, value in named.items() if name.endswith("weight")]


def biases(named: Named) -> list[nn.Parameter]:
    return [value for name, value in named.items() if name.endswith("bias")]


def no_decay(named: Named) -> list[torch.optim.Optimizer]:
    groups = [{"params": weights(named)}, {"params": biases(named), "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)]


def by_layer(named: Named) -> list[torch.optim.Optimizer]:
    *others, weight, bias = named.values()
    first = {"params": others[:2], "lr": 0.02}
    last = {"params": [weight, bias], "lr": 0.005, "momentum": 0.5}
    return [torch.optim.SGD([first, {"params": others[2:]}, last], lr=0.01, momentum=0.9)]


def two_rules(named: Named) -> list[torch.optim.Optimizer]:
    *others, weight, bias = named.values()
    return [
        torch.optim.RMSprop(others, lr=0.003, alpha=0.99, eps=1e-8),
        torch.optim.AdamW([weight, bias], lr=0.02, weight_decay=0.05),
    ]


def frozen(named: Named) -> list[torch.optim.Optimizer]:
    first, *others = named.values()
    first.requires_grad_(False)
    return [torch.optim.Adam(others, lr=0.01)]


CASES: dict[str, tuple[dict[str, Any], Optimizers]] = {
    "no decay": (
        {
            **{"rule": "adamw", "lr": 0.01, "weight_decay": 0.1},
            "groups": [{"match": "bias", "weight_decay": 0}],
        },
        no_decay,
    ),
    "by layer": (
        {
            **{"rule": "momentum", "lr": 0.01, "momentum": 0.9},
            "groups": [
                {"match": "1.*", "lr": {"times": 2}},
                {"match": "head", "lr": {"times": 0.5}, "momentum": 0.5},
            ],
        },
        by_layer,
    ),
    "two rules": (
        {
            **{"rule": "rmsprop", "lr": 0.003},
            "groups": [{"match": "head", "rule": "adamw", "lr": 0.02, "weight_decay": 0.05}],
        },
        two_rules,
    ),
    "frozen": (
        {"rule": "adam", "lr": 0.01, "groups": [{"match": "1.weight", "freeze": True}]},
        frozen,
    ),
}
"""An entry, and the same in PyTorch."""


def planned(entries: list[dict[str, Any]], **changes: Any) -> tuple[tuple[RunSpec, ...], Dataset]:
    keys: dict[str, Any] = {
        "problem": {"dataset": {"name": "moons", "n_samples": 200}, "model": MODEL},
        "precision": "float64",
        "budget": {"steps": STEPS},
        "optimizers": [{"name": f"o{n}", **entry} for n, entry in enumerate(entries)],
    }
    plan, dataset = small_plan(**keys | changes)
    return plan.runs, dataset


def in_pytorch(
    run: RunSpec,
    dataset: Dataset,
    optimizers: Optimizers,
    clip: float | None = None,
    factors: Callable[[int], list[float]] | None = None,
) -> dict[str, np.ndarray]:
    """Weights after plain PyTorch steps; `factors` of the rate by group at step 0, 1, ..."""
    model = build_model("mlp", run.model_arguments, input_shape=(2,), classes=2, seed=run.seed)
    model.double()
    built = optimizers(dict(model.named_parameters()))
    groups = [group for optimizer in built for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    batches = learner_for([run], dataset, "reference").batches(1)
    for step in range(STEPS):
        batch = next(batches)
        if factors:
            for group, rate, factor in zip(groups, rates, factors(step), strict=True):
                group["lr"] = rate * factor
        model.zero_grad()
        inputs, targets = torch.as_tensor(batch.inputs), torch.as_tensor(batch.targets)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        for optimizer in built:
            optimizer.step()
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def trained(learner: Learner, run: int = 0) -> dict[str, np.ndarray]:
    learner.start(1)
    learner.advance(STEPS)
    return learner.weights(run)


def assert_alike(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert np.abs(ours[name] - value).max() <= RULE_FLOAT64 * np.abs(value).max(), name


@pytest.mark.one_in(5)
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
@pytest.mark.parametrize("case", CASES)
def test_groups_are_those_of_torch(case: str, engine: str, clip: float | None) -> None:
    """Gradients of all groups are clipped together, without those of frozen parameters."""
    entry, optimizers = CASES[case]
    runs, dataset = planned([entry | ({"clip": clip} if clip else {})])
    ours = trained(learner_for(runs, dataset, engine))
    assert_alike(ours, in_pytorch(runs[0], dataset, optimizers, clip))


PASTED: dict[str, dict[str, Any]] = {
    **{name: entry for name, (entry, _) in CASES.items()},
    "kinds of decay": {
        **{"rule": "adam", "lr": 0.01, "weight_decay": 0.1, "decay": "decoupled"},
        "groups": [
            {"match": "bias", "weight_decay": 0},
            {"match": "head", "decay": "l2", "rule": "adam", "lr": 0.02, "weight_decay": 0.05},
        ],
    },
    "a class without momentum": {
        **{"rule": "sgd", "lr": 0.01},
        "groups": [{"match": "head", "rule": "momentum", "lr": 0.02}],
    },
    "a class of torch": {
        **{"torch": "torch.optim:SGD", "lr": 0.01, "momentum": 0.9},
        "groups": [{"match": "bias", "lr": {"times": 2}}, {"match": "1.weight", "freeze": True}],
    },
    "no parameter left": {
        **{"rule": "adamw", "lr": 0.01},
        "groups": [{"match": "vectors", "lr": 0.02}, {"match": "matrices", "weight_decay": 0.1}],
    },
}


@pytest.mark.parametrize("case", PASTED)
def test_the_recommended_code_trains_alike(case: str) -> None:
    runs, dataset = planned([PASTED[case]])

    def pasted(named: Named) -> list[torch.optim.Optimizer]:
        names: dict[str, Any] = {"torch": torch, "model": Pasted(named)}
        exec(torch_code(runs[0]), names)
        return names.get("optimizers") or [names["optimizer"]]

    ours = trained(learner_for(runs, dataset, "reference"))
    assert_alike(ours, in_pytorch(runs[0], dataset, pasted))


class Pasted:
    """Names parameters as a module does."""

    def __init__(self, named: Named) -> None:
        self.named = named

    def named_parameters(self) -> Any:
        return self.named.items()


def test_one_stack_holds_runs_with_other_groups() -> None:
    """A stack of rules with and without groups, seeds and grid axes of a group."""
    grid = {"rule": "adam", "lr": 0.01, "groups": [{"match": "head", "lr": [0.1, 0.01, 0.001]}]}
    together = [name for name in CASES if name != "frozen"]
    entries = [*(CASES[name][0] for name in together), grid, {"rule": "sgd"}]
    runs, dataset = planned(entries, seeds=2)
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "stacked")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))
    for name in together:
        (place,) = (
            n
            for n, run in enumerate(specs)
            if run.seed == 1 and run.optimizer == f"o{together.index(name)}"
        )
        theirs = in_pytorch(specs[place], dataset, CASES[name][1])
        assert_alike(learner.weights(place), theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_compiled_stacks_know_groups() -> None:
    runs, dataset = planned([CASES[name][0] for name in CASES if name != "frozen"], seeds=2)
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "compiled")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
def test_a_group_has_a_schedule_of_its_own(engine: str) -> None:
    entry = {
        **{"rule": "adamw", "lr": 0.01, "weight_decay": 0.1, "schedule": "cosine"},
        "groups": [{"match": "bias", "weight_decay": 0, "schedule": "constant"}],
    }
    runs, dataset = planned([entry])

    def factors(step: int) -> list[float]:
        return [(1 + math.cos(math.pi * step / STEPS)) / 2, 1.0]

    ours = trained(learner_for(runs, dataset, engine))
    assert_alike(ours, in_pytorch(runs[0], dataset, no_decay, factors=factors))


@pytest.mark.parametrize("rng", ["streams", "script"])
def test_a_torch_class_gets_param_groups(rng: str) -> None:
    entry = {
        **{"torch": "torch.optim:AdamW", "lr": 0.01, "weight_decay": 0.1},
        "groups": [{"match": "bias", "weight_decay": 0}, {"match": "head", "lr": {"times": 0.5}}],
    }
    runs, dataset = planned([entry], rng=rng)
    learner = learner_for(runs, dataset, "reference")
    groups = learner.optimizer.param_groups  # type: ignore[attr-defined]
    assert [len(group["params"]) for group in groups] == [2, 3, 1]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        *((0.01, 0.1), (0.01, 0), (0.005, 0.1)),
    ]


def test_rules_and_classes_go_together() -> None:
    entry = {
        **{"rule": "rmsprop", "lr": 0.003},
        "groups": [
            {"match": "head", "torch": "torch.optim:AdamW", "lr": 0.02, "weight_decay": 0.05}
        ],
    }
    runs, dataset = planned([entry])
    ours = trained(learner_for(runs, dataset, "reference"))
    assert_alike(ours, in_pytorch(runs[0], dataset, two_rules))
    other = {
        **{"torch": "torch.optim:RMSprop", "lr": 0.003},
        "groups": [{"match": "head", "rule": "adamw", "lr": 0.02, "weight_decay": 0.05}],
    }
    runs, dataset = planned([other])
    ours = trained(learner_for(runs, dataset, "reference"))
    assert_alike(ours, in_pytorch(runs[0], dataset, two_rules))


RESUMED = [
    *(CASES[name][0] for name in CASES),
    {"rule": "schedule_free_adamw", "groups": [{"match": "bias", "rule": "adam"}]},
    {"rule": "muon", "groups": [{"match": "bias", "rule": "lion"}]},
    {"rule": "prodigy", "groups": [{"match": "head", "rule": "adamw", "schedule": "cosine"}]},
]
OF_TORCH = [
    {"torch": "torch.optim:Adam", "groups": [{"match": "head", "rule": "muon"}]},
    {"torch": "torch.optim:Adam", "groups": [{"match": "head", "torch": "torch.optim:SGD"}]},
    {"torch": "torch.optim:Adam", "groups": [{"match": "head", "lr": 0.1}]},
]


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("engine", "entry"),
    [
        *((engine, entry) for engine in ("reference", "numpy", "stacked") for entry in RESUMED),
        *(("reference", entry) for entry in OF_TORCH),
    ],
)
def test_resumed_to_the_bit(engine: str, entry: dict[str, Any]) -> None:
    runs, dataset = planned([entry], zero_grad="torch" in entry)
    whole = train(runs[0], dataset, engine)
    ((_, segment),) = resumed(runs, dataset, engine, STEPS // 2)
    assert segment.status is Status.DONE
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


@pytest.mark.one_in(3)
@pytest.mark.parametrize("engine", ["numpy", "stacked"])
@pytest.mark.parametrize("entry", RESUMED)
def test_engines_agree(engine: str, entry: dict[str, Any]) -> None:
    """At the point of evaluation too, for rules that evaluate elsewhere."""
    runs, dataset = planned([entry])
    expected = trained(learner_for(runs, dataset, "reference"))
    assert_alike(trained(learner_for(runs, dataset, engine)), expected)


def test_muon_leaves_embeddings_and_the_head_to_adamw() -> None:
    """A group that names the rule uses it for all of its matrices."""
    runs, dataset = planned(
        [{"rule": "muon"}, {"rule": "muon", "groups": [{"match": "head", "rule": "muon"}]}]
    )
    assert runs[0].as_vectors == ("7.weight",)
    assert runs[1].as_vectors == ()
    by_torch = {
        **{"rule": "muon", "lr": 0.001},
        "groups": [
            {
                **{"match": "head", "rule": "adamw", "lr": 0.001, "eps": 1e-7},
                **{"beta2": 0.95, "weight_decay": 0.1},
            }
        ],
    }
    grouped, _ = planned([by_torch])
    ours = trained(learner_for(runs[:1], dataset, "reference"))
    assert_alike(ours, trained(learner_for(grouped, dataset, "reference")))
    with pytest.raises(AssertionError):
        assert_alike(ours, trained(learner_for(runs[1:], dataset, "reference")))


@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
def test_the_share_that_decays_is_recorded(engine: str) -> None:
    runs, dataset = planned([CASES["no decay"][0]])
    facts = train(runs[0], dataset, engine).facts
    of_weights, of_biases = 2 * 8 + 8 * 6 + 6 * 2, 8 + 6 + 2
    assert facts.decayed_share == of_weights / (of_weights + of_biases)
