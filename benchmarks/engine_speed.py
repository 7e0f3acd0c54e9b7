"""Time a run's training step: optrial's stacked engine against honest alternatives, side by side.

    scripts/bench [--workload W1 --workload W2 ...] [--repeats N] [--json FILE]

For each workload, interleaved, medians of several repeats, compilation left out:

    plain    an expert's loop: tensors in memory, index batches, fused Adam
    script   a DataLoader over samples with a transform each, as published homework scripts have it
    ours     one stack of the stacked engine, compiled, with runs of different learning rates

Printed are microseconds per run and step, how many times faster ours is, and how much of this
machine's measured rate of matrix products each reaches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from optrial.data import Dataset as Arrays
from optrial.data import Split
from optrial.engine import StackedEngine, tensor_splits
from optrial.plan import make_plan, pack
from optrial.study import Study

Step = Callable[[int], None]  # takes so many steps

SAMPLES = 10_000  # more would only cost memory: each step gathers a batch of them


@dataclass(frozen=True)
class Workload:
    """An MLP, a batch size, and how many runs of it a study has."""

    about: str
    sizes: tuple[int, int, int]
    batch_size: int
    runs: int

    @property
    def flops(self) -> int:
        """Operations of the matrix products of one run's step; inputs need no gradient."""
        inputs, hidden, classes = self.sizes
        return self.batch_size * (4 * inputs * hidden + 6 * hidden * classes)


WORKLOADS = {
    "W1": Workload("moons MLP 2-20-2", (2, 20, 2), 128, 256),
    "W2": Workload("MNIST MLP 784-100-10", (784, 100, 10), 100, 32),
    "W3": Workload("CIFAR-10 MLP 3072-1000-10", (3072, 1000, 10), 128, 10),
}


def data(workload: Workload) -> Arrays:
    """Random samples of the workload's shape; speed does not depend on their values."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(SAMPLES, workload.sizes[0])).astype(np.float32)
    targets = generator.integers(0, workload.sizes[2], SAMPLES)
    split = Split(inputs, targets)
    return Arrays("random", {"train": split, "test": split}, workload.sizes[2], "0" * 64)


def model(workload: Workload) -> nn.Sequential:
    """The workload's MLP as anybody would write it."""
    inputs, hidden, classes = workload.sizes
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def plain(workload: Workload, arrays: Arrays) -> Step:
    """Tensors in memory, one permutation an epoch, fused Adam."""
    inputs, targets = (torch.from_numpy(a) for a in vars(arrays.splits["train"]).values())
    network = model(workload)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    order = iter(torch.randperm(SAMPLES).split(workload.batch_size))

    def take(steps: int) -> None:
        nonlocal order
        for _ in range(steps):
            rows = next(order, None)
            if rows is None or len(rows) < workload.batch_size:
                order = iter(torch.randperm(SAMPLES).split(workload.batch_size))
                rows = next(order)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()

    return take


class Transformed(Dataset[tuple[torch.Tensor, int]]):
    """Samples with a transform each, as torchvision's data sets deliver them."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = torch.from_numpy(self.split.inputs[index])
        return (sample - 0.5) / 0.5, int(self.split.targets[index])


def script(workload: Workload, arrays: Arrays) -> Step:
    """DataLoader, transform, Adam, and the loss printed: a `.item()` each step."""
    loader = DataLoader(
        Transformed(arrays.splits["train"]),
        batch_size=workload.batch_size,
        shuffle=True,
        drop_last=True,
    )
    network = model(workload)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def take(steps: int) -> None:
        for _ in range(steps):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()

    return take


def ours(workload: Workload, arrays: Arrays, width: int) -> Step:
    """One stack of `width` runs of Adam with different learning rates."""
    study = Study(
        problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [workload.sizes[1]]}},
        batch_size=workload.batch_size,
        budget={"steps": 10**9},
        drop_last=True,
        seeds=1,
        engine="stacked",
        optimizers=[{"rule": "adam", "lr": {"log": [1e-4, 1e-2], "points": workload.runs}}],
    )
    stack = pack(make_plan(study.config, arrays).runs, width)[0]
    engine = StackedEngine(stack, arrays, tensor_splits(arrays, "float32", "cpu"), compiled=True)
    engine.start(1)

    def take(steps: int) -> None:
        engine.advance(steps)

    return take


def seconds_per_step(step: Step, seconds: float = 0.5) -> float:
    """Time steps for about so long."""
    started, steps, count = time.perf_counter(), 0, 1
    while (elapsed := time.perf_counter() - started) < seconds:
        step(count)
        steps += count
        count = min(2 * count, 64)
    return elapsed / steps


def matrix_product_limit() -> float:
    """Operations a second of float32 matrix products of 2048 x 2048 on this machine."""
    matrix = torch.ones(2048, 2048)

    def multiply(count: int) -> None:
        for _ in range(count):
            matrix @ matrix

    return 2 * 2048**3 / seconds_per_step(multiply)


def measure(name: str, repeats: int, widths: list[int]) -> dict[str, float | int | str]:
    """Time one workload; ours at the best of `widths`."""
    workload, limits = WORKLOADS[name], []
    arrays = data(workload)
    contenders = {"plain": (plain(workload, arrays), 1), "script": (script(workload, arrays), 1)}
    stacks = {width: ours(workload, arrays, width) for width in widths if width <= workload.runs}
    for step in stacks.values():
        step(3)  # compiles
    width = min(stacks, key=lambda w: seconds_per_step(stacks[w]) / w)
    contenders["ours"] = (stacks[width], width)
    times: dict[str, list[float]] = {label: [] for label in contenders}
    for _ in range(repeats):
        limits.append(matrix_product_limit())
        for label, (step, runs) in contenders.items():
            times[label].append(seconds_per_step(step) / runs)
    limit = statistics.median(limits)
    row: dict[str, float | int | str] = {"workload": name, "about": workload.about, "width": width}
    for label, values in times.items():
        median = statistics.median(values)
        row[f"{label}_us"] = 1e6 * median
        row[f"{label}_share_of_limit"] = workload.flops / median / limit
    for label in ("plain", "script"):
        pairs = zip(times[label], times["ours"], strict=True)
        row[f"times_{label}"] = statistics.median(other / own for other, own in pairs)
    return row | {"limit_gflops": limit / 1e9, "runs": workload.runs}


def main() -> None:
    """Measure the workloads asked for, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workload", action="append", choices=WORKLOADS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", action="append", type=int, help="stack widths to try")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.workload or WORKLOADS:
        row = measure(name, options.repeats, options.width or [8, 16, 32, 256])
        rows.append(row)
        print(f"{name} {row['about']}, stacks of {row['width']}", flush=True)
        for label in ("plain", "script", "ours"):
            share = 100 * float(row[f"{label}_share_of_limit"])
            times = row.get(f"times_{label}")
            ratio = f"  ours is {float(times):.1f} x as fast" if times else ""
            print(f"  {label:7}{float(row[f'{label}_us']):9.1f} us a run and step", end="")
            print(
                f"  {share:5.1f} % of {float(row['limit_gflops']):.0f} GFLOP/s{ratio}", flush=True
            )
    if options.json:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
