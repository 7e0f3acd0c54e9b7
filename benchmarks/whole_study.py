"""Time a whole study through the command line against the sum of plain loops.

Nine rules, five learning rates and three seeds on MNIST: 135 runs of 600 steps of an MLP
784-100-10 with batches of 100, tested every 200 steps. `optrial run` starts cold:
no measured speeds, no compiled programs. The plain loop is an expert's: tensors in memory, the
class of `torch.optim`, fused if it can be, tested as often. One run of each rule is trained before
the study and one after, and their mean stands for fifteen runs; `--full` trains all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from neighbours import NEIGHBOURS, Neighbours
from torch import nn

import optrial
from optrial.data import Dataset
from optrial.rules import get_rules
from optrial.study import Study

RULES = (
    *("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop"),
    *("adam", "adamax", "nadam"),
)
RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
SEEDS, STEPS, TESTED_EVERY, BATCH_SIZE = 3, 600, 200, 100
RUNS_OF_A_RULE = len(RATES) * SEEDS
STUDY: dict[str, Any] = {
    "problem": {"dataset": "mnist", "model": {"kind": "mlp", "hidden": [100]}},
    "batch_size": BATCH_SIZE,
    "budget": {"steps": STEPS},
    "evaluate": {"every": {"steps": TESTED_EVERY}, "on": ["test"]},
    "seeds": SEEDS,
    "optimizers": [{"rule": rule, "lr": RATES} for rule in RULES],
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways; return their seconds, and those of the parts of ours.

    With several executors, the first one is compared. With `--busy`, its study also runs beside
    each neighbour.

    Raises:
        SystemExit: OPTRIAL_DATA is not set.
    """
    if "OPTRIAL_DATA" not in os.environ:
        raise SystemExit("W6 needs MNIST: set OPTRIAL_DATA to the folder that holds it.")
    dataset = Study(**STUDY).load_data()
    count = RUNS_OF_A_RULE if options.full else 2
    plain = [sum(plain_run(rule, dataset) for rule in RULES) for _ in range(count // 2)]
    first, *others = (study_by_command_line(executor) for executor in options.executor)
    plain += [sum(plain_run(rule, dataset) for rule in RULES) for _ in range(count - count // 2)]
    seconds = sum(plain) / count * RUNS_OF_A_RULE
    return {
        "workload": "W6",
        "about": f"MNIST study, {len(RULES) * RUNS_OF_A_RULE} runs of {STEPS} steps, cold",
        "plain_seconds": seconds,
        "plain_runs_measured": count * len(RULES),
        "times_plain": seconds / first["wall_seconds"],
        **first,
        "others": others,
        "busy": _busy(options.executor[0]) if options.busy else {},
    }


def _busy(executor: str) -> dict[str, dict[str, Any]]:
    """Return what the study took beside each neighbour."""
    neighbours, rows = Neighbours(), {}
    try:
        for name in NEIGHBOURS:
            with neighbours.beside(name):
                rows[name] = study_by_command_line(executor)
    finally:
        neighbours.end()
    return rows


def show(row: dict[str, Any]) -> None:
    """Print both times, and the parts of ours."""
    measured = row["plain_runs_measured"]
    whole = "all runs" if measured == len(RULES) * RUNS_OF_A_RULE else f"from {measured} runs"
    print(f"{row['workload']} {row['about']}; ours: {', '.join(row['engines'])}")
    print(f"  plain     {row['plain_seconds']:8.1f} s ({whole})")
    print(
        f"  ours      {row['wall_seconds']:8.1f} s  {row['times_plain']:.2f} x as fast, "
        f"executor {row['executor']}"
    )
    _show_parts(row)
    for other in row["others"]:
        ratio = row["wall_seconds"] / other["wall_seconds"]
        print(
            f"  executor {other['executor']}: {other['wall_seconds']:.1f} s, {ratio:.2f} x as fast"
        )
    for name, busy in row["busy"].items():
        ratio = busy["wall_seconds"] / row["wall_seconds"]
        print(f"  beside {NEIGHBOURS[name]}: {busy['wall_seconds']:.1f} s, {ratio:.2f} x idle")
        _show_parts(busy)


def _show_parts(row: dict[str, Any]) -> None:
    for part, seconds in row["parts"].items():
        share = 100 * seconds / row["wall_seconds"]
        print(f"    {part:11}{seconds:6.1f} s{share:6.1f} %", flush=True)


def study_by_command_line(executor: str) -> dict[str, Any]:
    """Run the study in a fresh process; return its seconds, in all and by part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold = {"OPTRIAL_CACHE": folder / "cache", "TORCHINDUCTOR_CACHE_DIR": folder / "inductor"}
        environment = os.environ | {key: str(path) for key, path in cold.items()}
        (folder / "study.yaml").write_text(json.dumps(STUDY), encoding="utf-8")  # JSON is YAML
        program = [sys.executable, str(Path(__file__).with_name("timed_parts.py")), "parts.json"]
        command = [*program, "run", "study.yaml", "--out", "results"]
        command += ["--executor", executor]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - started
        parts: dict[str, float] = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
        with optrial.load(folder / "results") as results:
            stacks = {record.stack for record in results.records}
    return {
        "executor": executor,
        "wall_seconds": wall,
        "parts": parts | {"rest": wall - sum(parts.values())},
        "stacks": len(stacks),
        "engines": sorted({stack.engine for stack in stacks}),
    }


def plain_run(rule: str, dataset: Dataset) -> float:
    """Train and test one run as an expert would write it; return its seconds."""
    started = time.perf_counter()
    train, test = (
        (torch.from_numpy(split.inputs), torch.from_numpy(split.targets))
        for split in (dataset.splits["train"], dataset.splits["test"])
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = _optimizer(rule, network)
    rows_of_steps = torch.randperm(len(train[0])).split(BATCH_SIZE)[:STEPS]
    losses = []
    for step, rows in enumerate(rows_of_steps, start=1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(train[0][rows]), train[1][rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step % TESTED_EVERY == 0:
            _test(network, *test)
    assert len(losses) == STEPS
    return time.perf_counter() - started


@torch.no_grad()
def _test(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Return loss and accuracy on the test set."""
    logits = network(inputs)
    loss = nn.functional.cross_entropy(logits, targets).item()
    return loss, (logits.argmax(dim=1) == targets).float().mean().item()


def _optimizer(name: str, network: nn.Module) -> torch.optim.Optimizer:
    """Return the rule's class of `torch.optim`, fused if possible."""
    (rule,) = get_rules([name])
    assert rule.torch_optim is not None
    optimizer = getattr(torch.optim, rule.torch_optim.class_name)
    arguments = rule.torch_optim.arguments(rule.defaults | {"lr": 1e-3}, 0.0, rule.default_decay)
    assert arguments is not None
    try:
        return optimizer(network.parameters(), **arguments, fused=True)  # type: ignore[no-any-return]
    except TypeError:  # it has no fused form
        return optimizer(network.parameters(), **arguments)  # type: ignore[no-any-return]
