"""Tiny studies that together use every part of a store: stacks, tuning, weights, problems."""

from __future__ import annotations

from typing import Any

MOONS = {"name": "moons", "n_samples": 60, "noise": 0.1}
MLP = {"kind": "mlp", "hidden": [4]}


def study(**changes: Any) -> dict[str, Any]:
    """Return the keys of a study.

    Stacks have at most four runs, so their width is always the same. Every scenario trains a study
    twice, so it has as few runs and steps as the kinds of faults need: two evaluations, and a
    second run.
    """
    keys: dict[str, Any] = {
        "name": "faults",
        "problem": {"dataset": MOONS, "model": MLP},
        "batch_size": 16,
        "budget": {"steps": 4},
        "evaluate": {"every": {"steps": 2}},
        "seeds": 1,
        "optimizers": [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}],
    }
    return keys | changes


LONG: dict[str, Any] = {"budget": {"steps": 8}, "evaluate": {"every": {"steps": 4}}, "seeds": 2}
"""Keys of studies whose code misbehaves at a step after those of its trial."""


def tuned(optimizers: list[dict[str, Any]], **tune: Any) -> dict[str, Any]:
    return study(optimizers=optimizers, tune={"seeds": 1, **tune}, engine="reference")


RANGES = [
    {"rule": "sgd", "lr": {"log": [0.01, 1.0]}},
    {"rule": "adam", "lr": {"log": [0.001, 0.1]}},
]

STUDIES = {
    "reference": study(engine="reference", save="final"),
    "script": study(
        engine="reference", rng="script", problem={"dataset": MOONS, "model": "logistic"}
    ),
    "stacked": study(engine="stacked", compile="never", seeds=2),
    "stacks": study(
        engine="stacked",
        compile="never",
        save="best",
        batch_size=[8, 16],
        problem={"dataset": MOONS, "model": {**MLP, "dropout": 0.2}},
        optimizers=[{"rule": "adam", "lr": [0.01, 1e30]}],
    ),
    "options": study(
        engine="stacked",
        compile="never",
        evaluate={"every": {"steps": 2}, "on": ["validation", "test"]},
        batch_size=8,
        accumulate=2,
        early_stopping=2,
        save="best",
        optimizers=[
            {
                "rule": "adam",
                "lr": 0.01,
                "groups": [{"match": "bias", "lr": {"times": 2}}, {"match": "head", "rule": "sgd"}],
                "modify": [{"name": "lookahead", "every": 2}],
                "average": {"ema": 0.9},
            },
            {"rule": "momentum", "lr": 0.1, "sam": 0.05, "schedule": "cosine"},
        ],
    ),
    "numpy": study(engine="numpy", save="final"),
    "problems": study(
        engine="stacked",
        compile="never",
        problem={
            "moons": {"dataset": MOONS, "model": "logistic"},
            "valley": {"function": "rosenbrock", "spread": 0.2, "batch_size": "full"},
        },
        optimizers=[{"rule": "sgd", "lr": 0.001}, {"rule": "adam", "lr": 0.01}],
    ),
    "user-code": study(
        **LONG | {"seeds": 1},
        engine="reference",
        problem={"dataset": MOONS, "model": "mine:Net"},
        optimizers=[{"rule": "sgd", "lr": 0.1}, {"torch": "torch.optim:Adam", "lr": 0.01}],
        save="final",
    ),
    "user-stacks": study(
        **LONG | {"seeds": 1},
        engine="stacked",
        compile="never",
        problem={"dataset": MOONS, "model": "mine:Net"},
        optimizers=[{"rule": "adam", "lr": [0.01, 1e30]}],
    ),
    "tracked": study(engine="reference", trackers="tensorboard"),
    "tune-grid": tuned([{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": [0.01, 0.1]}]),
    "tune-random": tuned(RANGES, sampler="random", trials=2),
    "tune-sobol": tuned(RANGES, sampler="sobol", trials=2),
    "tune-tpe": tuned(RANGES, sampler="tpe", trials=2),
    "tune-stacked": tuned([{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": [0.01, 0.1]}])
    | {"engine": "stacked", "compile": "never", "save": "final"},
    "fickle": study(
        **LONG,
        engine="reference",
        problem={"dataset": MOONS, "model": "logistic"},
        optimizers=[{"torch": "mine:Fickle", "lr": [0.1, 0.05]}],
        save="final",
    ),
    "greedy": study(
        **LONG | {"seeds": 1},
        engine="stacked",
        compile="never",
        problem={"dataset": MOONS, "model": "logistic"},
        optimizers=[{"rule_factory": "mine:GREEDY", "lr": [0.2, 0.1, 0.05, 0.02]}],
        save="final",
    ),
    "wide-stacks": study(
        engine="stacked",
        compile="never",
        problem={"dataset": MOONS, "model": {"kind": "mlp", "hidden": [1000, 1000]}},
        batch_size=[8, 16],
        budget={"steps": 3},
        seeds=2,
    ),
    "wide": study(  # some hundred megabytes, for limits of memory
        engine="stacked",
        compile="never",
        problem={"dataset": MOONS, "model": {"kind": "mlp", "hidden": [1000, 1000]}},
        budget={"steps": 3},
        seeds=2,
    ),
}

USER_CODE = '''
"""A model, an optimizer and a rule that misbehave when the environment says so."""

import os
import resource
import signal
import sys
import time

import torch
from torch import nn

from optrial.rules import Rule


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        misbehave(self.training)
        return self.layer(x)


class Fickle(torch.optim.SGD):
    """Misbehaves in a step if the learning rate is 0.05."""

    def step(self, closure=None):
        misbehave(self.param_groups[0]["lr"] == 0.05)
        return super().step(closure)


def descend(grad, state, step, *, lr):
    misbehave(bool((torch.as_tensor(lr) == 0.05).any()))
    return -lr * grad, state


GREEDY = Rule(
    name="greedy", init=lambda param, **_: None, update=descend, hyperparameters={"lr": 0.1}
)
kept = []


def exhaust():
    """Keep all memory that this process may have, after limiting it to half a gigabyte more."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        kept.append(torch.ones(2**24))


def misbehave(training):
    left = int(os.environ.get("FAULTS_STEPS", "0")) - training
    os.environ["FAULTS_STEPS"] = str(left)
    act = os.environ.get("FAULTS_ACT", "")
    if not training or left > 0 or (left < 0 and act != "slow"):
        return
    match act:
        case "raise":
            raise RuntimeError("the model\\x1b[31m fails\\n" + "x" * 1000)
        case "memory":
            raise MemoryError
        case "exhaust":
            exhaust()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            sys.exit(0)
        case "interrupt":
            raise KeyboardInterrupt
        case "abort":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "chdir":
            os.chdir("..")
        case "hang":
            time.sleep(1000)
        case "slow":
            time.sleep(0.2)
        case "stubborn":
            while True:
                try:
                    time.sleep(1000)
                except BaseException:
                    pass
        case "print":
            print("from the model")
        case "double":
            torch.set_default_dtype(torch.float64)
        case "seed":
            torch.manual_seed(1)
'''
