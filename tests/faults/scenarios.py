"""Scenarios by seed, and the count of how they ended."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import optuna
import pyarrow.parquet
import torch._dynamo
import typer

from optrial import cli
from optrial.engine.select import speeds
from optrial.study import Study
from optrial.trackers import tensorboard
from tests.faults import shim
from tests.faults.bench import RESULTS, Bench, Result
from tests.faults.executors import EXECUTOR_KINDS
from tests.faults.kinds import KINDS, TIMED
from tests.faults.process import Runner
from tests.faults.server import started

del optuna, pyarrow, torch, tensorboard  # imported once, for all commands

ALL_KINDS = KINDS | EXECUTOR_KINDS
ANSWERS = ("unaffected", "died", "message", "skipped")


@contextmanager
def bench_in(root: Path) -> Iterator[Bench]:
    """Make a bench in a folder that is deleted afterwards."""
    assert Study.run.__kwdefaults__ is not None
    Study.run.__kwdefaults__["checkpoint_seconds"] = 0.0  # a commit at every pause
    speeds.LEAST_CPU_SHARE = 0.0  # kept on a busy machine, too
    sys.dont_write_bytecode = True
    root.chmod(0o755)  # the server runs as another user
    try:
        with started(root / "postgresql") as server:
            yield Bench(Runner(shim.control()), root, server)
    finally:
        shutil.rmtree(root, ignore_errors=True)


WARM_UP = (
    *(("run", study) for study in ("reference", "tune-stacked", "tune-sobol", "problems", "numpy")),
    *(("show",), ("figures",), ("runs", "--format", "parquet", "--out", "runs.parquet")),
    ("timing",),
)
"""Commands after which nothing more is imported; those without a study use the last one."""


def warm_up(bench: Bench) -> None:
    """Do in this process what every command does first, so that no child has to."""
    cli.app = typer.main.get_command(cli.app)
    out, before, arguments = os.dup(1), Path.cwd(), sys.argv
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for name, *options in WARM_UP:
        if name == "run":
            os.chdir(bench.new_folder(*options))
        on_study = ["study.yaml", "--out", RESULTS] if name == "run" else ["study.yaml", *TIMED]
        of_results = [RESULTS, *options]
        sys.argv = ["optrial", name, *(on_study if name in ("run", "timing") else of_results)]
        with suppress(SystemExit), redirect_stderr(StringIO()):
            cli.main()
    sys.stdout.flush()
    os.chdir(before)
    os.dup2(out, 1)
    sys.argv = arguments
    gc.collect()
    gc.freeze()


def scenario(bench: Bench, seed: int, kinds: Sequence[str] | None = None) -> tuple[str, Result]:
    """Run the scenario of a seed; return its kind and how it ended.

    Args:
        kinds: the kinds, by default those of one process. The other choices are those of the seed
            and the kind.
    """
    names = sorted(kinds or KINDS)
    name = names[seed % len(names)]
    bench.measuring = random.Random(f"measuring {seed}").random() < 0.1
    try:
        return name, ALL_KINDS[name](bench, random.Random(f"{name} {seed}"))
    except Exception as error:  # noqa: BLE001 - the others go on
        where = "".join(traceback.format_exception(error))
        return name, Result("message", (f"the scenario fails: {error!r}",), printed=where)


class Tally:
    """Counts scenarios by kind."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.wrong = 0
        self.last = ""
        self.last_printed = ""
        self.last_is_wrong = False

    def add(self, seed: int, kind: str, result: Result) -> None:
        self.last_is_wrong = bool(result.wrong)
        self.wrong += self.last_is_wrong
        self.counts[kind][result.answer] += 1
        self.counts[kind]["wrong"] += self.last_is_wrong
        self.last = f"{seed} {kind}: {result.answer}: {result.message}"
        self.last += "".join(f"\n    wrong: {problem}" for problem in result.wrong)
        self.last_printed = result.printed

    def table(self) -> str:
        """Return a Markdown table of the counts."""
        header = ["kind", "tried", *ANSWERS, "wrong"]
        rows = [[kind, *self._row(count)] for kind, count in sorted(self.counts.items())]
        rows.append(["all", *self._row(sum(self.counts.values(), Counter()))])
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    @staticmethod
    def _row(count: Counter[str]) -> list[int]:
        return [sum(count[name] for name in ANSWERS), *(count[n] for n in (*ANSWERS, "wrong"))]
