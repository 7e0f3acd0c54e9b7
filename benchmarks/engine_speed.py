"""Time a run's training step: optrial against honest alternatives, side by side.

    scripts/bench [--workload W1 ...] [--device cuda] [--precision bfloat16] [--json FILE]
    scripts/bench --busy             the same beside other programs, against an idle machine
    scripts/bench --workers          ours also in one process of one thread per core
    scripts/bench --threads          steps on one thread and on all, by their work
    scripts/bench --memory           peak memory of a stack against the planner's estimate
    scripts/bench --workload W6      a whole study on MNIST through the command line

For each workload, interleaved, medians of several repeats, without compilation:

    plain      an expert's loop: tensors in memory, index batches, fused Adam
    script     a homework script: a DataLoader that transforms samples one by one
    lightning  a LightningModule with all options off, if Lightning is installed
    ours       a compiled stack of runs with different learning rates, with the faster products;
               for W5 optrial's choice
    workers    ours in a process of one thread per core, each with its part of the runs (--workers)
    floor      no training: the products of ours and one fused Adam update alone, for MLPs

Prints microseconds per run and step, the speed of ours as a multiple of each, and the fraction of
the measured rate of float32 matrix products that each reaches. The others always use float32.

With --busy, each contender also runs beside a PyTorch training loop with default threads and beside
a process that spins on one core, alternately.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import hardware
import memory
import threads
import torch
import whole_study
from contenders import Step, chosen, lightning, plain, script, stack, timed
from floor import floor
from neighbours import NEIGHBOURS, Neighbours
from workers import Workers
from workloads import WORKLOADS, Precision, Workload

from optrial.data import Dataset
from optrial.engine.backends.products import has_onednn

WIDTHS = (4, 8, 16, 32, 256)
OTHERS = {"plain": plain, "script": script, "lightning": lightning}
Contender = tuple[Step, int]
"""Takes steps; the number of runs that they train."""
LABELS = (*OTHERS, "ours", "workers", "floor")


def seconds_per_step(step: Step, seconds: float = 0.5) -> float:
    """Return the seconds per step, from steps that take about `seconds`."""
    elapsed, steps, count = 0.0, 0, 1
    while elapsed < seconds:
        elapsed += step(count)
        steps += count
        count = min(2 * count, 64)
    return elapsed / steps


def matrix_product_limit(device: str) -> float:
    """Operations per second of float32 matrix products, 2048 x 2048, or 8192 x 8192 on CUDA."""
    size = 8192 if device == "cuda" else 2048
    matrix = torch.ones(size, size, device=device)

    def multiply(count: int) -> None:
        for _ in range(count):
            matrix @ matrix

    return 2 * size**3 / seconds_per_step(timed(multiply, device))


def contenders_of(name: str, options: argparse.Namespace) -> tuple[dict[str, Contender], str]:
    """Return the contenders of a workload, stacks at their best width, and the engine of ours."""
    workload, device = WORKLOADS[name], options.device
    dataset = workload.data()
    contenders: dict[str, Contender] = {}
    for label, prepare in OTHERS.items():
        if step := prepare(workload, dataset, device):
            contenders[label] = (step, 1)
    if workload.stacked:
        step, width, engine = best_stack(workload, dataset, options)
    else:
        step, width, engine = chosen(workload, dataset, device, options.precision)
        step(1)  # warms up, compiles
    contenders["ours"] = (step, width)
    if bare := floor(workload, width, device):
        contenders["floor"] = (bare, width)
    return contenders, engine


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time one workload."""
    workload = WORKLOADS[name]
    contenders, engine = contenders_of(name, options)
    workers = Workers(name, options.precision, engine) if options.workers else None
    if workers is not None:
        contenders["workers"] = (workers.step, workers.runs)
    times: dict[str, list[float]] = {label: [] for label in contenders}
    limits = []
    for _ in range(options.repeats):
        limits.append(matrix_product_limit(options.device))
        for label, (step, runs) in contenders.items():
            times[label].append(seconds_per_step(step) / runs)
    if workers is not None:
        workers.end()
    width = contenders["ours"][1]
    row = {"workload": name, "about": workload.about, "engine": engine, "width": width}
    return row | figures(workload, times, limits)


def best_stack(
    workload: Workload, dataset: Dataset, options: argparse.Namespace
) -> tuple[Step, int, str]:
    """Return the steps of the fastest compiled stack, its width and engine.

    The library of large products is chosen first, by steps of the widest stack uncompiled.
    """
    place = workload, dataset, options.device, options.precision
    wanted = sorted({min(width, workload.runs) for width in options.width or WIDTHS})
    library = faster_library(*place, wanted[-1])
    engine = f"compiled{library}"
    stacks = [stack(*place, width, engine) for width in wanted]
    for step, _ in stacks:
        step(3)  # compiles
    step, width = min(stacks, key=lambda pair: seconds_per_step(pair[0]) / pair[1])
    return step, width, engine


def faster_library(
    workload: Workload, dataset: Dataset, device: str, precision: Precision, width: int
) -> str:
    """Return the suffix of the engine with the faster products, by uncompiled steps."""
    if device != "cpu" or not has_onednn():
        return ""
    default, onednn = (
        stack(workload, dataset, device, precision, width, engine)[0]
        for engine in ("stacked", "stacked+onednn")
    )
    ratios = [seconds_per_step(onednn) / seconds_per_step(default) for _ in range(5)]
    return "+onednn" if statistics.median(ratios) < 0.97 else ""


def measure_busy(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time one workload on an idle machine and beside each neighbour, alternately."""
    contenders, engine = contenders_of(name, options)
    contenders = {label: contenders[label] for label in ("plain", "ours")}
    states = ("", *NEIGHBOURS)
    times: dict[str, dict[str, list[float]]] = {
        label: {state: [] for state in states} for label in contenders
    }
    neighbours = Neighbours()
    try:
        for _ in range(options.repeats):
            for state in states:
                with neighbours.beside(state):
                    for label, (step, runs) in contenders.items():
                        times[label][state].append(seconds_per_step(step) / runs)
    finally:
        neighbours.end()
    row = {"workload": name, "about": WORKLOADS[name].about, "engine": engine}
    return row | {"width": contenders["ours"][1]} | busy_figures(times)


def busy_figures(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return medians, ratios to the idle machine, and the speed of ours beside each neighbour."""
    row: dict[str, Any] = {}
    for label, by_state in times.items():
        for state, values in by_state.items():
            key = f"{label}_{state or 'idle'}"
            row[f"{key}_us"] = 1e6 * statistics.median(values)
            row[f"{key}_times_idle"] = _ratio(values, by_state[""])
            row[f"{key}_times_ours"] = _ratio(values, times["ours"][state])
    return row


def _ratio(values: list[float], others: list[float]) -> float:
    """Return the median of the ratios of values of the same turn."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def show_busy(row: dict[str, Any]) -> None:
    """Print the result of one workload on a busy machine."""
    together = f"{row['engine']}, {row['width']} at a time"
    print(f"{row['workload']} {row['about']}; ours: {together}")
    for state in ("idle", *NEIGHBOURS):
        plain, ours = (f"{label}_{state}" for label in ("plain", "ours"))
        line = f"  {state:9} plain {row[f'{plain}_us']:10.1f} us"
        line += f" ({row[f'{plain}_times_idle']:.2f} x idle)"
        line += f"  ours {row[f'{ours}_us']:9.1f} us ({row[f'{ours}_times_idle']:.2f} x idle)"
        print(f"{line}  ours is {row[f'{plain}_times_ours']:.3g} x as fast", flush=True)


def figures(
    workload: Workload, times: dict[str, list[float]], limits: list[float]
) -> dict[str, Any]:
    """Return medians, and medians of the ratios of adjacent times."""
    limit, flops = statistics.median(limits), workload.flops()
    found: dict[str, Any] = {"runs": workload.runs, "limit_gflops": limit / 1e9}
    for label, values in times.items():
        median = statistics.median(values)
        found[f"{label}_us"] = 1e6 * median
        found[f"{label}_share_of_limit"] = flops / median / limit
        found[f"times_{label}"] = _ratio(values, times["ours"])
        if "workers" in times:
            found[f"workers_times_{label}"] = _ratio(values, times["workers"])
        if workload.steps:
            found[f"{label}_minutes"] = median * workload.runs * workload.steps / 60
    return found


def show(row: dict[str, Any]) -> None:
    """Print the result of one workload."""
    together = f"{row['engine']}, {row['width']} at a time"
    print(f"{row['workload']} {row['about']}; ours: {together}", flush=True)
    limit = row["limit_gflops"]
    for label in LABELS:
        if f"{label}_us" not in row:
            if label in OTHERS:
                print(f"  {label:10} is not installed")
            continue
        share = 100 * row[f"{label}_share_of_limit"]
        line = f"  {label:10}{row[f'{label}_us']:10.1f} us per run and step"
        line += f"  {share:5.1f} % of {limit:.0f} GFLOP/s"
        if label == "floor":
            line += f"  ours takes {1 / row['times_floor']:.2f} times as long"
        elif label != "ours":
            line += f"  ours is {row[f'times_{label}']:.3g} x as fast"
            if label != "workers" and "workers_us" in row:
                line += f", in workers {row[f'workers_times_{label}']:.3g} x"
        if f"{label}_minutes" in row:
            steps = WORKLOADS[row["workload"]].steps
            line += (
                f"  ({row[f'{label}_minutes']:.0f} min for {row['runs']} runs of {steps:,} steps)"
            )
        print(line, flush=True)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workload", action="extend", nargs="+", choices=[*WORKLOADS, "W6"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", action="append", type=int, help="stack widths to try")
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    parser.add_argument("--workers", action="store_true", help="time ours in workers too")
    parser.add_argument("--threads", action="store_true", help="measure what threads save")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--executor", nargs="+", default=["auto"], help="W6: executors to try")
    parser.add_argument("--full", action="store_true", help="W6: train every run by plain loops")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.precision == "bfloat16" and not hardware.has_bfloat16_units(options.device):
        print("This processor has no units for bfloat16: products in it are emulated, and slow.")
    usual = [n for n, w in WORKLOADS.items() if options.device == "cuda" or not w.cuda_only]
    names = options.workload or [n for n in usual if not options.memory or n != "W5"]
    if options.busy and not options.workload:
        names = ["W1", "W2", "W3"]
    os.environ["OPTRIAL_CACHE"] = tempfile.mkdtemp()  # speeds measured earlier must not decide
    print(hardware.processor(), flush=True)
    rows: list[dict[str, Any]] = []
    if options.threads:
        rows, names = threads.measure(options.repeats, options.precision), []
        threads.show(rows)
    for name in names:
        if options.memory:
            row = memory.compare(name)
            memory.show(row)
        elif name == "W6":
            row = whole_study.measure(options)
            whole_study.show(row)
        elif options.busy:
            row = measure_busy(name, options)
            show_busy(row)
        else:
            row = measure(name, options)
            show(row)
        rows.append(row)
    if options.json:
        content = {"about": hardware.about(options.device), "rows": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
