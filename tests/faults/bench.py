"""Undisturbed studies, and the requirements on a disturbed one."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from optrial.errors import StoreError
from optrial.records import Store, WeightFiles
from optrial.report.progress import ProgressBar
from optrial.spec import Status
from tests.faults.process import CACHE, HANGS, NO_FAULT, Fault, Outcome, Runner
from tests.faults.server import Server
from tests.faults.shim import CHANGES, Operation, counted
from tests.faults.studies import STUDIES, USER_CODE
from tests.tolerance import FINAL_LOSS_FLOAT32

RESULTS = "results"
RAY = {"executor": "ray", "n_jobs": 2, "retries": 1}  # each further death takes seconds
BAD_INPUT, HUNG, INTERRUPTED, TERMINATED = 2, 124, 130, 143
HASHES = ("initial_parameters_sha256", "parameters_sha256", "first_batches_sha256")
CRASHES = (
    "Traceback",
    "Exception ignored",
    "Fatal Python error",
    "core dumped",
    "terminate called",
)


class Reference:
    """An undisturbed study; each number is counted when it is first asked for.

    Attributes:
        contents: see `contents`.
        status: exit status.
        steps: number of times that steps were reported.
        waves: number of waves.
        speeds: the cache of measured speeds afterwards.
    """

    def __init__(self, bench: Bench, study: str) -> None:
        self._bench, self._study = bench, study
        self._folder = bench.new_folder(study)
        outcome = bench.run(self._folder, Fault(prepare=partial(bench.count, "step", "wave")))
        self.steps, self.waves = bench.counts("step", "wave")
        assert outcome.status in (0, 1), outcome
        assert not complaints(outcome), outcome
        self.contents = contents(self._folder / RESULTS)
        self.status = outcome.status
        speeds = self._folder / CACHE / "speeds.json"
        self.speeds = speeds.read_bytes() if speeds.exists() else b"{}"
        self._operations = outcome.operations

    def operations(self, kinds: Operation = CHANGES) -> int:
        """Return the number of operations of some kinds; by default, of those that change files."""
        return counted(self._operations, kinds)

    @cached_property
    def findings(self) -> list[str]:
        """Findings of the audit."""
        return findings(self._bench.call(self._folder, "audit", "--format", "json").out)

    @cached_property
    def python_calls(self) -> int:
        """Number of calls of Python functions, rounded down to thousands."""
        bench = self._bench
        bench.run(bench.new_folder(self._study), Fault(prepare=partial(bench.count, "python")))
        return bench.counts("python")[0]

    @cached_property
    def socket_operations(self) -> int:
        """Number of operations on connections, of the study on a server."""
        server = self._bench.server
        assert server is not None
        command = ["run", "study.yaml", "--out", server.schema(), "--quiet"]
        folder = self._bench.new_folder(self._study)
        outcome = self._bench.runner.run(command, folder, port=server.port)
        assert outcome.status == self.status, outcome
        return counted(outcome.operations, Operation.SOCKET)

    def copy_to(self, folder: Path) -> None:
        """Copy the results of the undisturbed study into a working folder."""
        shutil.copytree(self._folder / RESULTS, folder / RESULTS)


@dataclass(frozen=True)
class Result:
    """End of a scenario.

    Attributes:
        answer: of the disturbed command: "unaffected", "died" or "message".
        wrong: what is wrong; empty if the study ended as the undisturbed one.
        message: the error that the disturbed command printed.
        printed: everything that it printed to standard error.
    """

    answer: str
    wrong: tuple[str, ...] = ()
    message: str = ""
    printed: str = ""

    def __or__(self, problems: list[str]) -> Result:
        return replace(self, wrong=(*self.wrong, *problems))


class Bench:
    """Runs each study in a new folder.

    Args:
        runner: starts the commands.
        root: an empty folder.
        server: a PostgreSQL server, if there is one.

    Attributes:
        measuring: whether commands measure speeds first; otherwise they know those of the
            undisturbed study, which takes a third less time.
    """

    def __init__(self, runner: Runner, root: Path, server: Server | None = None) -> None:
        self.runner = runner
        self.root = root
        self.server = server
        self.measuring = False
        self.folders = 0
        self.references: dict[str, Reference] = {}

    def folder(self, study: str) -> Path:
        """Make the working folder of a study, with the cache of its speeds unless `measuring`."""
        folder = self.new_folder(study)
        if not self.measuring:
            (folder / CACHE).mkdir()
            (folder / CACHE / "speeds.json").write_bytes(self.reference(study).speeds)
        return folder

    def new_folder(self, study: str) -> Path:
        """Make the working folder of a study, with its file, its code, and the keys of Ray."""
        self.folders += 1
        folder = self.root / f"{study}-{self.folders}"
        folder.mkdir()
        (folder / "study.yaml").write_text(json.dumps(STUDIES[study]))
        (folder / "mine.py").write_text(USER_CODE)
        (folder / "ray.yaml").write_text(json.dumps(RAY))
        return folder

    def finished(self, study: str) -> Path:
        """Make the working folder of a study that was trained undisturbed."""
        reference, folder = self.reference(study), self.folder(study)
        reference.copy_to(folder)
        return folder

    def discard(self, folder: Path) -> None:
        """Delete a working folder and the output of its commands."""
        shutil.rmtree(folder)
        for log in self.root.glob(f"{folder.name}.*"):
            log.unlink()

    def run(self, folder: Path, fault: Fault = NO_FAULT, *options: str, **watch: Any) -> Outcome:
        """Run the study of a folder."""
        command = ["run", "study.yaml", "--out", RESULTS, *(options or ["--quiet"])]
        return self.runner.run(command, folder, fault, **watch)

    def call(self, folder: Path, *command: str, fault: Fault = NO_FAULT) -> Outcome:
        """Run a command on the results of a folder."""
        name, *options = command
        return self.runner.run([name, RESULTS, *options], folder, fault)

    def reference(self, study: str) -> Reference:
        """Return the undisturbed study, run at the first call."""
        if study not in self.references:
            self.references[study] = Reference(self, study)
        return self.references[study]

    def count(self, *hooks: str) -> None:
        """Count the calls of hooks in this process."""
        for hook in hooks:
            self.act(hook)

    def act(self, hook: str, at: int = 0, act: Callable[[], None] | None = None) -> None:
        """Count the calls of a hook in this process, and act at one of them."""
        counts, number = self.runner.control.calls, list(HOOKS).index(hook)
        counts[number] = 0
        HOOKS[hook](partial(counts.__setitem__, number), at, act)

    def counts(self, *hooks: str) -> list[int]:
        """Return the numbers of calls of hooks in the last command that counted them."""
        names = list(HOOKS)
        return [int(self.runner.control.calls[names.index(hook)]) for hook in hooks]

    def resumed(
        self, study: str, folder: Path, disturbed: Outcome, chance: random.Random
    ) -> Result:
        """Check a disturbed command, run a reader and the study again, and compare."""
        reference = self.reference(study)
        wrong = complaints(disturbed)
        kept = stored_rows(folder)
        if chance.random() < 0.3:
            command = chance.choice([("show",), ("audit",), ("runs",), ("report",)])
            reading = self.call(folder, *command, *["--out", "r.html"] * (command == ("report",)))
            wrong += [f"then {problem}" for problem in complaints(reading)]
        again = self.run(folder)
        wrong += [f"again: {problem}" for problem in complaints(again)]
        if again.status != reference.status:
            wrong.append(f"again: exit status {again.status}: {last_line(again)}")
        wrong += differences(folder / RESULTS, reference)
        wrong += [f"lost: {row}" for row in sorted(kept - stored_rows(folder))[:1]]
        return Result(
            answer_of(disturbed, reference), tuple(wrong), last_line(disturbed), disturbed.err
        )


def result_of(disturbed: Outcome, reference: Reference, wrong: list[str]) -> Result:
    """Return how a scenario ended in which one command was disturbed."""
    answer = answer_of(disturbed, reference)
    return Result(answer, tuple(wrong), last_line(disturbed), disturbed.err)


def answer_of(outcome: Outcome, reference: Reference | Outcome) -> str:
    """Return how a disturbed command ended, compared with an undisturbed one."""
    if outcome.status < 0:
        return "died"
    same = outcome.status == reference.status and not errors(outcome)
    return "unaffected" if same else "message"


def errors(outcome: Outcome) -> list[str]:
    """Return the errors that a command printed."""
    return [line for line in outcome.err.splitlines() if line.startswith("error: ")]


def last_line(outcome: Outcome) -> str:
    """Return the end of what a command printed to standard error."""
    return (errors(outcome) or outcome.err.strip().splitlines() or [""])[-1][:300]


def complaints(outcome: Outcome) -> list[str]:
    """Return what is wrong with the way in which a command ended."""
    name, printed = " ".join(outcome.command[:1]), outcome.out + outcome.err
    if outcome.status == HANGS:
        return [f"{name} hangs"]
    wrong = [f"{name}: {crash}: {_crash(printed)}" for crash in CRASHES if crash in printed][:1]
    if outcome.status < 0:
        return wrong
    count = len(errors(outcome))
    if outcome.status not in (0, 1, BAD_INPUT, 3, HUNG, INTERRUPTED, TERMINATED):
        wrong.append(f"{name}: exit status {outcome.status}")
    readable = bool(outcome.err.strip())  # standard error itself may be what is lost
    if outcome.status == BAD_INPUT and readable and count != 1 and name != "audit":
        wrong.append(f"{name}: exit status 2 with {count} errors: {last_line(outcome)}")
    if outcome.status != BAD_INPUT and count:
        wrong.append(f"{name}: exit status {outcome.status} with error: {last_line(outcome)}")
    if outcome.status == HUNG and "cannot be interrupted" not in outcome.err:
        wrong.append(f"{name}: exit status {HUNG} without a word")
    stopped = outcome.status in (INTERRUPTED, TERMINATED)
    if stopped and not re.search("interrupt|terminat", outcome.err):
        wrong.append(f"{name}: interrupted without a word")
    if "\x1b" in printed:
        wrong.append(f"{name}: prints an escape sequence")
    return wrong


def _crash(printed: str) -> str:
    places = re.findall(r'File "[^"]*?(\w+/\w+\.py)", line (\d+)', printed)
    where = " < ".join(f"{name}:{line}" for name, line in places[:-4:-1])
    return f"{printed.strip().splitlines()[-1][:200]} [{where}]"


def contents(location: Path | str) -> dict[str, Any]:
    """Return everything about every run that must not depend on faults."""
    entries: dict[str, Any] = {}
    weights = WeightFiles(Path(location))
    with Store.open(location) as store:
        for record in store.runs():
            hashes = {name: getattr(record.facts, name) for name in HASHES}
            ended = (record.problem, record.setting, record.phase, record.status, record.step)
            entries[record.run_id, "ended"] = (*ended, record.reason)
            entries[record.run_id, "stack"] = record.stack
            entries[record.run_id, "values"] = (dict(record.metrics), hashes)
            if record.spec.save and record.status is Status.DONE:
                entries[record.run_id, "weights"] = [
                    (name, array.dtype.str, array.shape, array.tobytes())
                    for name, array in sorted(weights.read(record).items())
                ]
        for key, curve in store.curves().items():
            entries[key] = (curve.steps.tolist(), curve.values.tolist())
    return entries


def differences(
    location: Path | str, reference: Reference, leaving_out: Collection[str] = ()
) -> list[str]:
    """Return how the contents of a store differ from the undisturbed ones, if they do.

    Args:
        leaving_out: ids of runs that are not compared.
    """
    try:
        stored = contents(location)
    except StoreError as error:
        return [f"cannot be read: {error}"]
    entries, expected = (
        {key: value for key, value in all_entries.items() if key[0] not in leaving_out}
        for all_entries in (stored, reference.contents)
    )
    missing = expected.keys() ^ entries.keys()
    wrong = [f"{len(missing)} runs, curves or weights are missing or added"] * bool(missing)
    other = {key for key in entries.keys() - missing if entries[key] != expected[key]}
    # The bits of a run are those of its stack; one that memory did not hold was halved.
    halved = {run_id for run_id, name in other if name == "stack"}
    other -= {key for key in other if key[0] in halved and _alike(key, entries, expected)}
    if other:
        key = sorted(other, key=str)[0]
        values = f"{entries[key]} != {expected[key]}"[:300]
        wrong.append(f"{len(other)} runs, curves or weights differ: {key}: {values}")
    return wrong


def _alike(key: tuple[str, str], entries: Mapping[Any, Any], expected: Mapping[Any, Any]) -> bool:
    """Return whether an entry of a run is, but for rounding, that of the run in another stack."""
    if not key[1].endswith("loss"):
        return key[1] != "ended"
    (steps, values), (expected_steps, expected_values) = entries[key], expected[key]
    alike = np.allclose(values, expected_values, rtol=FINAL_LOSS_FLOAT32)
    return steps == expected_steps and alike


def stored_rows(folder: Path) -> set[tuple[Any, ...]]:
    """Return the curves that a store holds, read from a copy: opening it would repair it."""
    copy = folder.parent / f"{folder.name}.copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in (folder / RESULTS).glob("study.db*"):
        shutil.copy(file, copy)
    rows: set[tuple[Any, ...]] = set()
    if (copy / "study.db").exists():
        query = "select id, run_id, metric, first_step, count, values_blob from curves"
        with closing(sqlite3.connect(copy / "study.db")) as connection:
            tables = connection.execute("select 1 from sqlite_master where name = 'curves'")
            if tables.fetchone():
                for *row, values in connection.execute(query):
                    rows.add((*row, hashlib.sha256(values).hexdigest()))
    shutil.rmtree(copy)
    return rows


def findings(text: str) -> list[str]:
    """Return the findings of an audit in JSON."""
    return [f"{finding['rule']} {finding['evidence']}" for finding in json.loads(text)["findings"]]


Say = Callable[[int], None]
"""Tells how many calls there were."""


def _count_python(say: Say, at: int, act: Callable[[], None] | None) -> None:
    """Count calls of Python functions, in thousands unless something happens at one of them."""
    number = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal number
        if event != "call":
            return
        number += 1
        if act and number == at:
            sys.setprofile(None)
            act()
        elif not act and number % 1000 == 0:
            say(number)

    sys.setprofile(called)


def _count_method(name: str, say: Say, at: int, act: Callable[[], None] | None) -> None:
    """Count calls of a hook of the progress bar."""
    original, number = getattr(ProgressBar, name), 0

    def called(*arguments: Any, **named: Any) -> None:
        nonlocal number
        original(*arguments, **named)
        number += 1
        say(number)
        if act and number == at:
            act()

    setattr(ProgressBar, name, called)


HOOKS: Mapping[str, Callable[[Say, int, Callable[[], None] | None], None]] = {
    "python": _count_python,
    "step": partial(_count_method, "on_step"),
    "wave": partial(_count_method, "on_plan"),
}
