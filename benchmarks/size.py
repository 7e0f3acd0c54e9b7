"""Time every command on studies of many short runs, and measure the memory that each takes.

    python benchmarks/size.py [--runs 1000 10000 100000] [--settings 25] [--folder DIR] [--new]
                              [--untrained] [--command show audit ...] [--storage URL]

The study trains a logistic model on moons for 20 steps: four rules, each with `--settings` learning
rates and as many seeds as the number of runs asks for. Each command runs as a user gives it, in a
separate process that may use one thread, and leaves its files in `--folder`, where a finished
study is reused unless `--new` asks for another one. `--untrained` stores made-up results instead of
training, which takes minutes. `--storage` keeps them in a schema of a PostgreSQL server, untrained.

Prints a Markdown table: user CPU seconds, elapsed seconds, peak resident memory and size of the
output.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

RULES = ("sgd", "momentum", "rmsprop", "adam")
SPREAD = 1e-4, 1e-1
"""Lowest and highest learning rate."""
COMMANDS = ("plan", "run", "again", "show", "runs", "audit", "report")


class Cost(NamedTuple):
    """Cost of one command.

    Attributes:
        elapsed: seconds by the clock.
        user: seconds of CPU time, without those of the system; None if unknown.
        peak_bytes: peak resident memory; None if unknown.
        output_bytes: size of what it printed or wrote; None if unknown.
    """

    elapsed: float
    user: float | None = None
    peak_bytes: int | None = None
    output_bytes: int | None = None


def study_file(runs: int, settings: int) -> str:
    """Return a study with a number of runs, in whole seeds."""
    low, high = SPREAD
    rates = [low * (high / low) ** (n / max(1, settings - 1)) for n in range(settings)]
    text = ", ".join(f"{rate:.6g}" for rate in rates)
    optimizers = "\n".join(f"  - {{rule: {rule}, lr: [{text}]}}" for rule in RULES)
    return (
        f"name: size-{runs}\nproblem: {{dataset: moons, model: logistic}}\n"
        f"batch_size: full\nbudget: {{steps: 20}}\nevaluate: {{every: {{steps: 10}}}}\n"
        f"seeds: {max(1, runs // (len(RULES) * settings))}\noptimizers:\n{optimizers}\n"
    )


def arguments(command: str, folder: Path, store: str) -> list[str]:
    """Return the arguments of `optrial` for a command."""
    study, page = (str(folder / name) for name in ("study.yaml", "page.html"))
    return {
        "plan": ["plan", study],
        "run": ["run", study, "--out", store],
        "again": ["run", study, "--out", store],
        "show": ["show", store],
        "runs": ["runs", store, "--format", "csv"],
        "audit": ["audit", store],
        "report": ["report", store, "--out", page],
    }[command]


def cost_of(command: str, folder: Path, store: str) -> Cost:
    """Run a command and return its cost.

    Raises:
        SystemExit: the command failed.
    """
    program = [sys.executable, "-m", "optrial", *arguments(command, folder, store)]
    output, errors = folder / f"{command}.txt", folder / f"{command}.err"
    started = time.perf_counter()
    with output.open("w") as stdout, errors.open("w") as stderr:
        process = subprocess.Popen(
            program, stdout=stdout, stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    text = errors.read_text(encoding="utf-8")
    if not os.WIFEXITED(status) or "Traceback" in text or "error:" in text:
        raise SystemExit(f"optrial {' '.join(program[3:])} failed:\n{text[-2000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    written = folder / "page.html" if command == "report" else output
    return Cost(elapsed, usage.ru_utime, peak, written.stat().st_size)


def run_beside(program: str, *arguments: Path | str) -> str:
    """Run a program of this folder and return what it prints.

    This process imports no large library: the peak memory of a child is at least that of its
    parent when it started.
    """
    command = [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def first_outcome(folder: Path, started: datetime) -> float:
    """Return the seconds from a start until the first outcome was stored."""
    with closing(sqlite3.connect(folder / "store" / "study.db")) as database:
        (saved_at,) = database.execute("SELECT min(saved_at) FROM outcomes").fetchone()
    return (datetime.fromisoformat(saved_at).replace(tzinfo=UTC) - started).total_seconds()


def measure(runs: int, settings: int, options: argparse.Namespace) -> Iterator[tuple[str, Cost]]:
    """Yield the cost of each command on a study of this size."""
    folder = options.folder / f"{runs}-{settings}"
    store = folder / "store"
    place = str(store)
    if options.storage:
        place = f"{options.storage}?options=-csearch_path%3Doptrial_size_{runs}_{settings}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(study_file(runs, settings), encoding="utf-8")
    if options.new:
        shutil.rmtree(store, ignore_errors=True)
    for command in COMMANDS:
        if command == "run" and (options.storage or not store.exists()):
            if options.untrained or options.storage:
                run_beside("untrained.py", folder / "study.yaml", place)
                cost_of("again", folder, place)  # makes the page and the audit, as `run` does
                continue
            started = datetime.now(UTC)
            cost = cost_of(command, folder, place)
            yield command, cost._replace(output_bytes=_size(store))
            print(f"first outcome after {first_outcome(folder, started):.1f} s", file=sys.stderr)
        elif command != "run" and command in options.command:
            yield command, cost_of(command, folder, place)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("study.db*"))


def row(runs: int, command: str, cost: Cost) -> str:
    """Return a row of the table."""
    user = "" if cost.user is None else f"{cost.user:.1f}"
    peak = "" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:,.0f}"
    output = "" if cost.output_bytes is None else f"{cost.output_bytes / 1e6:,.2f}"
    return f"| {runs:,} | {command} | {user} | {cost.elapsed:.1f} | {peak} | {output} |"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--settings", type=int, default=25, help="learning rates of each rule")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "optrial-size"))
    parser.add_argument("--command", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--new", action="store_true", help="train again, even if trained before")
    parser.add_argument("--untrained", action="store_true", help="store made-up results instead")
    parser.add_argument("--storage", metavar="URL", help="PostgreSQL server for made-up results")
    options = parser.parse_args(given)
    print(f"{run_beside('hardware.py')}, one thread, Python {platform.python_version()}\n")
    print("| runs | command | user CPU, s | elapsed, s | peak memory, MB | output, MB |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for runs in options.runs:
        for command, cost in measure(runs, options.settings, options):
            print(row(runs, command, cost), flush=True)


if __name__ == "__main__":
    main()
