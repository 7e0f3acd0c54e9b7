"""The kinds of faults: each draws a study, a fault and its moment, and returns how it ended."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from optrial.errors import StoreError
from optrial.records import Store
from optrial.spec import Status
from tests.faults.bench import (
    BAD_INPUT,
    INTERRUPTED,
    RESULTS,
    Bench,
    Reference,
    Result,
    answer_of,
    complaints,
    contents,
    differences,
    errors,
    findings,
    last_line,
    stored_rows,
)
from tests.faults.damage import damage
from tests.faults.power import cut
from tests.faults.process import NO_FAULT, Fault, limit_memory
from tests.faults.server import Server
from tests.faults.shim import CHANGES, Action, Operation
from tests.faults.studies import STUDIES

Kind = Callable[[Bench, random.Random], Result]
KINDS: dict[str, Kind] = {}

TUNINGS = [name for name, study in STUDIES.items() if "tune" in study]
SPECIAL = ("wide", "wide-stacks", "fickle", "greedy")
"""Studies that only some kinds use."""
GROWING = Operation.OPEN | Operation.WRITE | Operation.MKDIR
"""Operations that need space on the disk."""
SIGNALLED = [Action.SIGNAL_BEFORE, Action.SIGNAL_AFTER, Action.SIGNAL_HALFWAY]


def kind(function: Kind) -> Kind:
    KINDS[function.__name__.replace("_", "-")] = function
    return function


def disturb(bench: Bench, study: str, fault: Fault, chance: random.Random) -> Result:
    """Run a study with a fault, and again without."""
    folder = bench.folder(study)
    disturbed = bench.run(folder, fault)
    result = bench.resumed(study, folder, disturbed, chance)
    bench.discard(folder)
    return result


def any_study(chance: random.Random) -> str:
    return chance.choice([name for name in sorted(STUDIES) if name not in SPECIAL])


def signalled(number: int, bench: Bench, chance: random.Random) -> Result:
    study = any_study(chance)
    moment = chance.randint(1, bench.reference(study).operations())
    return disturb(bench, study, Fault(moment, chance.choice(SIGNALLED), number), chance)


@kind
def killed(bench: Bench, chance: random.Random) -> Result:
    """The process is killed before, after or halfway through the n-th operation on a file."""
    return signalled(signal.SIGKILL, bench, chance)


@kind
def killed_twice(bench: Bench, chance: random.Random) -> Result:
    """The process is killed, and the next one too."""
    study = any_study(chance)
    folder, reference = bench.folder(study), bench.reference(study)
    for _ in range(2):
        moment = chance.randint(1, reference.operations())
        disturbed = bench.run(folder, Fault(moment, chance.choice(SIGNALLED), signal.SIGKILL))
    result = bench.resumed(study, folder, disturbed, chance)
    if any("2 processes died while they trained this run" in text for text in result.wrong):
        result = bench.resumed(study, folder, disturbed, chance)  # which tries the run again
    bench.discard(folder)
    return result


@kind
def terminated(bench: Bench, chance: random.Random) -> Result:
    """SIGTERM at the n-th operation."""
    return signalled(signal.SIGTERM, bench, chance)


@kind
def interrupted(bench: Bench, chance: random.Random) -> Result:
    """Ctrl-C at the n-th operation."""
    return signalled(signal.SIGINT, bench, chance)


@kind
def interrupted_in_python(bench: Bench, chance: random.Random) -> Result:
    """Ctrl-C at the n-th call of a Python function."""
    study = any_study(chance)
    moment = chance.randint(1, bench.reference(study).python_calls)
    act = partial(bench.act, "python", moment, _interrupt)
    return disturb(bench, study, Fault(prepare=act), chance)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@kind
def killed_while_training(bench: Bench, chance: random.Random) -> Result:
    """The process is killed after the n-th step."""
    study = any_study(chance)
    moment = chance.randint(1, bench.reference(study).steps)
    return disturb(bench, study, Fault(prepare=partial(bench.act, "step", moment, _kill)), chance)


@kind
def interrupted_wave(bench: Bench, chance: random.Random) -> Result:
    """Ctrl-C as a wave of a tuning begins, or some steps later."""
    study = chance.choice(TUNINGS)
    reference = bench.reference(study)
    if chance.random() < 0.5:
        hook, moment = "wave", chance.randint(1, reference.waves)
    else:
        hook, moment = "step", chance.randint(1, reference.steps)
    folder = bench.folder(study)
    options = [] if chance.random() < 0.7 else ["--seeds", "2"]  # not quiet: its report is written
    disturbed = bench.run(
        folder, Fault(prepare=partial(bench.act, hook, moment, _interrupt)), *options
    )
    result = bench.resumed(study, folder, disturbed, chance)
    if disturbed.status not in (INTERRUPTED, reference.status):
        result |= [f"exit status {disturbed.status}"]
    bench.discard(folder)
    return result


def failing(number: int, operations: Operation, bench: Bench, chance: random.Random) -> Result:
    study = any_study(chance)
    reference = bench.reference(study)
    moment = chance.randint(1, reference.operations(operations))
    forever = chance.random() < 0.5
    return disturb(bench, study, Fault(moment, Action.FAIL, number, operations, forever), chance)


@kind
def disk_full(bench: Bench, chance: random.Random) -> Result:
    """ENOSPC or EDQUOT at the n-th operation that needs space, once or from then on."""
    number = chance.choice([errno.ENOSPC, errno.ENOSPC, errno.EDQUOT])
    return failing(number, GROWING, bench, chance)


@kind
def disk_failing(bench: Bench, chance: random.Random) -> Result:
    """EIO at the n-th operation, reading included, once or from then on."""
    return failing(errno.EIO, chance.choice([CHANGES, Operation(255)]), bench, chance)


@kind
def not_permitted(bench: Bench, chance: random.Random) -> Result:
    """From the n-th operation on, files may not be opened, changed or renamed."""
    number = chance.choice([errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE])
    operations = Operation.OPEN | Operation.MKDIR | Operation.RENAME | Operation.UNLINK
    return failing(number, operations, bench, chance)


@kind
def output_lost(bench: Bench, chance: random.Random) -> Result:
    """Nothing can be printed: the disk of the output is full, or its reader is gone."""
    streams = chance.choice([(1,), (2,), (1, 2)])
    lose = partial(chance.choice([_fill, _close]), streams)
    study = any_study(chance)
    folder = bench.folder(study)
    options = chance.choice([["--quiet"], ["--device", "cpu"]])
    disturbed = bench.run(folder, Fault(prepare=lose), *options)
    result = bench.resumed(study, folder, disturbed, chance)
    bench.discard(folder)
    return result


def _fill(streams: Sequence[int]) -> None:
    for stream in streams:
        os.dup2(os.open("/dev/full", os.O_WRONLY), stream)


def _close(streams: Sequence[int]) -> None:
    for stream in streams:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, stream)


@kind
def second_process(bench: Bench, chance: random.Random) -> Result:
    """Another command reads, or trains into, the same folder while a study is trained."""
    study = any_study(chance)
    reference, folder = bench.reference(study), bench.folder(study)
    command = chance.choice(
        [
            ["run", "study.yaml", "--out", RESULTS, "--quiet"],
            ["run", "study.yaml", "--out", RESULTS, "--quiet", "--restart"],
            *(["show", RESULTS], ["audit", RESULTS], ["report", RESULTS, "--out", "page.html"]),
        ]
    )
    outcomes = []

    def meanwhile() -> None:
        impatient = Fault(prepare=_be_impatient)
        outcomes.append(bench.runner.unarmed(command, folder, impatient))

    moment = chance.randint(1, reference.operations())
    fault = Fault(moment, chance.choice(SIGNALLED[:2]), signal.SIGSTOP)
    disturbed = bench.run(folder, fault, stopped=meanwhile)
    result = bench.resumed(study, folder, disturbed, chance)
    result |= [f"second {problem}" for outcome in outcomes for problem in complaints(outcome)]
    bench.discard(folder)
    return result


def _be_impatient() -> None:
    from optrial.records import database

    database.BUSY_SECONDS = 0.1


@kind
def short_write(bench: Bench, chance: random.Random) -> Result:
    """The n-th write, or each from then on, writes half of what it should."""
    study = any_study(chance)
    moment = chance.randint(1, bench.reference(study).operations(Operation.WRITE))
    fault = Fault(moment, Action.SHORT, 0, Operation.WRITE, forever=chance.random() < 0.5)
    return disturb(bench, study, fault, chance)


@kind
def clock_set(bench: Bench, chance: random.Random) -> Result:
    """The clock is set back or forward, by seconds or years, at the n-th operation."""
    study = any_study(chance)
    reference = bench.reference(study)
    shift = chance.choice([-1, 1]) * int(10 ** chance.uniform(0, 8.3))
    moment = chance.randint(1, reference.operations())
    folder = bench.folder(study)
    disturbed = bench.run(folder, Fault(clock=shift, clock_at=moment))
    audit = bench.call(folder, "audit", "--format", "json")
    result = bench.resumed(study, folder, disturbed, chance)
    wrong = complaints(audit)
    if not wrong:
        other = set(findings(audit.out)).symmetric_difference(reference.findings)
        wrong += [f"audit differs: {finding}" for finding in sorted(other)]
    result |= wrong
    bench.discard(folder)
    return result


@kind
def little_memory(bench: Bench, chance: random.Random) -> Result:
    """The address space may grow by little, from the start or from the n-th step on."""
    study = chance.choice(["wide", any_study(chance)])
    more = int(10 ** chance.uniform(5, 8.5))
    if chance.random() < 0.5:
        fault = Fault(memory=more)
    else:
        moment = chance.randint(1, bench.reference(study).steps)
        limit = partial(limit_memory, more)
        fault = Fault(prepare=partial(bench.act, "step", moment, limit))
    folder = bench.folder(study)
    planned = bench.runner.run(["plan", "study.yaml"], folder, Fault(memory=more))
    disturbed = bench.run(folder, fault)
    reasons = failures(folder / RESULTS)
    result = bench.resumed(study, folder, disturbed, chance)
    result |= [f"plan: {problem}" for problem in complaints(planned)]
    result |= [f"not because of memory: {text}" for text in reasons if "memory" not in text]
    bench.discard(folder)
    return result


def failures(location: Path) -> list[str]:
    """Return why runs failed, of a store that may not exist."""
    if not (location / "study.db").exists():
        return []
    try:
        with Store.open(location) as store:
            return [r.reason for r in store.runs() if r.status is Status.ERROR]
    except StoreError:
        return []


def forward_pass(chance: random.Random) -> str:
    """Draw the forward pass at which a model misbehaves: in its trial, or in each training.

    A trial takes six of them in training mode, a run eight; each run starts to count again.
    """
    return str(chance.randint(1, 6) if chance.random() < 0.3 else chance.randint(7, 8))


@kind
def hostile_code(bench: Bench, chance: random.Random) -> Result:
    """The model misbehaves at its n-th forward pass in training, alone or in a stack."""
    act = chance.choice(
        ["raise", "memory", "exit", "interrupt", "abort", "chdir", "print", "double", "seed"]
    )
    environment = {"FAULTS_ACT": act, "FAULTS_STEPS": forward_pass(chance)}
    study = chance.choice(["user-code", "user-stacks"])
    return disturb(bench, study, Fault(environment=environment), chance)


@kind
def hanging_code(bench: Bench, chance: random.Random) -> Result:
    """The model hangs at its n-th forward pass; Ctrl-C twice ends the study."""
    environment = {"FAULTS_ACT": "hang", "FAULTS_STEPS": forward_pass(chance)}
    fault = Fault(environment=environment, prepare=_interrupt_twice)
    return disturb(bench, "user-code", fault, chance)


def _interrupt_twice() -> None:
    """Start a process that sends two signals to this one, after it had time to hang."""
    signals = f"sleep 3; kill -INT {os.getpid()}; sleep 1; kill -INT {os.getpid()}"
    subprocess.Popen(["sh", "-c", signals], stderr=subprocess.DEVNULL)


@kind
def restart_disturbed(bench: Bench, chance: random.Random) -> Result:
    """`--restart` is killed, or the disk fills up: the former study is never lost."""
    study = any_study(chance)
    reference = bench.reference(study)
    folder = bench.finished(study)
    moment = chance.randint(1, 40 if chance.random() < 0.7 else reference.operations())
    full = Fault(moment, Action.FAIL, errno.ENOSPC, GROWING | Operation.RENAME, forever=True)
    kill = Fault(moment, chance.choice(SIGNALLED), signal.SIGKILL)
    disturbed = bench.run(folder, chance.choice([full, kill]), "--restart", "--quiet")
    kept = False
    for place in (folder / RESULTS, *(folder / RESULTS).glob("backup-*")):
        try:
            kept |= contents(place) == reference.contents
        except StoreError:
            continue
    result = bench.resumed(study, folder, disturbed, chance)
    result |= [] if kept else ["the former study is lost"]
    bench.discard(folder)
    return result


TIMED = ("--rounds", "3", "--no-memory", "--quiet")
EXPORTS = [
    ("report", RESULTS, "--out", "page.html"),
    ("report", RESULTS),
    ("figures", RESULTS, "--out", "drawn", "--format", "png"),
    ("figures", RESULTS, "--out", "drawn", "--format", "svg"),
    *(("runs", RESULTS, "--format", name, "--out", f"new.{name}") for name in ("csv", "parquet")),
    ("curves", RESULTS, "--metric", "train_loss", "--format", "json", "--out", "new.json"),
    ("timing", "study.yaml", *TIMED, "--figure", "times.pdf", "--out", "new.json"),
]
"""Commands that write files; they refuse to replace those that are called new."""


@kind
def export_disturbed(bench: Bench, chance: random.Random) -> Result:
    """A page, figure or table is written while the disk is full or fails, or is killed."""
    study, command = any_study(chance), chance.choice(EXPORTS)
    reference, folder = bench.reference(study), bench.finished(study)
    if chance.random() < 0.3:
        bench.runner.run(command, folder)
        remove_new(folder)
    before = outputs(folder)
    moment, forever = chance.randint(1, 20), chance.random() < 0.5
    number = chance.choice([errno.ENOSPC, errno.ENOSPC, errno.EDQUOT, errno.EIO])
    fail = Fault(moment, Action.FAIL, number, GROWING, forever)
    short = Fault(moment, Action.SHORT, 0, Operation.WRITE, forever)
    kill = Fault(moment, chance.choice(SIGNALLED), signal.SIGKILL)
    fault = chance.choice([fail, fail, short, kill])
    disturbed = bench.runner.run(command, folder, fault)
    wrong = [*complaints(disturbed), *differences(folder / RESULTS, reference)]
    after = outputs(folder)
    wrong += [f"{name} is cut" for name, content in after.items() if not is_whole(name, content)]
    wrong += [f"{name} is gone" for name in before.keys() - after.keys()]
    if fault is fail and disturbed.status == BAD_INPUT:
        wrong += left_behind(folder)
        named = last_line(disturbed)
        if not any(name in named for name in ("'", "study.db", Path(command[-1]).name)):
            wrong.append(f"no file is named: {last_line(disturbed)}")
    remove_new(folder)
    again = bench.runner.run(command, folder)
    wrong += [f"again: {problem}" for problem in complaints(again)]
    final = outputs(folder)
    wrong += [f"again: {n} is cut" for n, content in final.items() if not is_whole(n, content)]
    wrong += [f"{n} differs" for n in ("new.csv",) if n in after and after[n] != final.get(n)]
    if again.status != 0 or not final:
        wrong.append(f"again: exit status {again.status}: {last_line(again)}")
    bench.discard(folder)
    return Result(answer_of(disturbed, again), tuple(wrong), last_line(disturbed), disturbed.err)


ENDS = {
    ".html": b"</html>",
    ".png": b"IEND\xaeB`\x82",
    ".pdf": b"%%EOF",
    ".svg": b"</svg>",
    ".json": b"}",
    ".csv": b"",
    ".parquet": b"PAR1",
}
"""How the content of a file ends, by its suffix."""


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the files that commands wrote into a working folder, by path."""
    files = (file for file in folder.rglob("*") if file.suffix in ENDS and file.name[0] != ".")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def is_whole(name: str, content: bytes) -> bool:
    """Return whether a file is complete."""
    return content.rstrip(b"]\r\n ").endswith(ENDS[Path(name).suffix]) and bool(content)


def remove_new(folder: Path) -> None:
    for file in folder.glob("new.*"):
        file.unlink()


def left_behind(folder: Path) -> list[str]:
    """Return that temporary files were left in a folder, if they were."""
    return [f"{file.name} is left behind" for file in folder.rglob(".optrial-*")]


@kind
def tracker_disturbed(bench: Bench, chance: random.Random) -> Result:
    """The logs of TensorBoard cannot be written: the study ends as it would without them."""
    reference, folder = bench.reference("tracked"), bench.folder("tracked")
    number = chance.choice([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
    moment, forever = chance.randint(1, 12), chance.random() < 0.7
    below = chance.choice(["tensorboard", "tensorboard", "study.db-trackers"])
    fail = Fault(moment, Action.FAIL, number, GROWING, forever, below=f"{RESULTS}/{below}")
    disturbed = bench.run(folder, fail, "--device", "cpu")
    wrong = differences(folder / RESULTS, reference)
    result = bench.resumed("tracked", folder, disturbed, chance)
    if disturbed.status != reference.status or errors(disturbed):
        wrong.append(f"exit status {disturbed.status}: {last_line(disturbed)}")
    if disturbed.fired and "tensorboard failed" not in disturbed.err:
        wrong.append(f"nothing is said of TensorBoard: {last_line(disturbed)}")
    bench.discard(folder)
    return result | wrong


@kind
def timeout(bench: Bench, chance: random.Random) -> Result:
    """A step hangs, or a run takes too long; then it is trained without a limit."""
    act = chance.choice(["hang", "hang", "hang", "slow", "slow", "stubborn"])
    study = chance.choice(["user-code", "user-stacks"])
    environment = {"FAULTS_ACT": act, "FAULTS_STEPS": str(chance.randint(1, 8))}
    begin = partial(os.environ.update, environment)  # not while the model is tried
    folder = bench.folder(study)
    fault = Fault(prepare=partial(bench.act, "wave", 1, begin))
    disturbed = bench.run(folder, fault, "--quiet", "--set", "timeout=0.5")
    result = bench.resumed(study, folder, disturbed, chance)
    bench.discard(folder)
    return result


def damaged(names: list[str], bench: Bench, chance: random.Random) -> Result:
    """Damage one file of a study, which is then refused or ends as undisturbed."""
    with_weights = [name for name, study in STUDIES.items() if "save" in study]
    study = chance.choice(with_weights) if "weights" in names[0] else any_study(chance)
    reference, folder = bench.reference(study), bench.folder(study)
    if chance.random() < 0.5:
        moment = chance.randint(30, reference.operations())
        bench.run(folder, Fault(moment, Action.SIGNAL_BEFORE, signal.SIGKILL))
    else:
        reference.copy_to(folder)
    files = sorted(file for name in names for file in (folder / RESULTS).glob(name))
    if not files:
        bench.discard(folder)
        return Result("unaffected")
    how = damage(chance.choice(files), chance)
    verified = bench.call(folder, "verify")
    shown = bench.call(folder, chance.choice(["show", "audit", "report"]))
    again = bench.run(folder)
    wrong = [*complaints(verified), *complaints(shown), *complaints(again)]
    unlike = differences(folder / RESULTS, reference)
    answer = answer_of(again, reference)
    message = last_line(again if answer == "message" else verified)
    if unlike and answer != "message" and verified.status == 0:
        wrong += [f"silently: {line}" for line in unlike]
    if unlike:
        answer = "message"
        wrong += repaired(bench, folder, reference)
    bench.discard(folder)
    wrong = [f"{how}: {line}" for line in wrong]
    return Result(answer, tuple(wrong), f"{how}: {message}", again.err)


def repaired(bench: Bench, folder: Path, reference: Reference) -> list[str]:
    """Repair damaged files, or start over if that is refused; return what is wrong afterwards."""
    repair = bench.call(folder, "verify", "--repair")
    wrong = complaints(repair)
    options = ["--restart"] * (repair.status == BAD_INPUT)
    again = bench.run(folder, NO_FAULT, "--quiet", *options)
    wrong += [*complaints(again), *differences(folder / RESULTS, reference)]
    return [f"{' '.join(options) or 'repaired'}: {problem}" for problem in wrong]


@kind
def damaged_store(bench: Bench, chance: random.Random) -> Result:
    """The database or its log is damaged between two commands."""
    return damaged(["study.db", "study.db-wal"], bench, chance)


@kind
def damaged_weights(bench: Bench, chance: random.Random) -> Result:
    """Saved weights are damaged between two commands."""
    return damaged(["weights/*"], bench, chance)


@kind
def power_cut(bench: Bench, chance: random.Random) -> Result:
    """The power fails: what was not synced is lost, in part."""
    study = any_study(chance)
    reference, folder = bench.reference(study), bench.folder(study)
    between_commits = chance.random() < 0.5
    if between_commits:
        moment = chance.randint(1, reference.steps)
        fault = Fault(prepare=partial(bench.act, "step", moment, _kill))
    else:
        moment = chance.randint(1, reference.operations())
        fault = Fault(moment, chance.choice(SIGNALLED), signal.SIGKILL)
    journal = bench.root / f"{folder.name}.journal"
    file = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    disturbed = bench.run(folder, fault, journal=file)
    os.close(file)
    committed = stored_rows(folder)
    cut(folder / RESULTS, journal, chance)
    lost = committed - stored_rows(folder)
    result = bench.resumed(study, folder, disturbed, chance)
    if between_commits and lost:
        result |= [f"{len(lost)} committed rows are lost"]
    bench.discard(folder)
    return result


SERVED = [
    name
    for name, study in STUDIES.items()
    if not {"save", "trackers"} & study.keys() and not name.startswith(("user", "wide-"))
]


def served(
    bench: Bench,
    chance: random.Random,
    action: Action,
    number: int = 0,
    stopped: Callable[[Server], None] | None = None,
) -> Result:
    """Run a study on a PostgreSQL server with a fault at an operation on the connection."""
    server = bench.server
    if server is None:
        return Result("skipped")
    study = chance.choice(SERVED)
    reference, folder, url = bench.reference(study), bench.folder(study), server.schema()
    command = ["run", "study.yaml", "--out", url, "--quiet"]
    moment = chance.randint(1, reference.socket_operations)
    fault = Fault(moment, action, number, Operation.SOCKET)
    disturbed = bench.runner.run(
        command,
        folder,
        fault,
        port=server.port,
        stopped=partial(stopped, server) if stopped else None,
    )
    wrong = complaints(disturbed)
    server.wait_for_end_of_connections()
    again = bench.runner.run(command, folder)
    wrong += [f"again: {problem}" for problem in complaints(again)]
    if again.status != reference.status:
        wrong.append(f"again: exit status {again.status}: {last_line(again)}")
    wrong += differences(url, reference)
    bench.discard(folder)
    return Result(
        answer_of(disturbed, reference), tuple(wrong), last_line(disturbed), disturbed.err
    )


@kind
def client_killed(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the process is killed at the n-th operation on its connection."""
    return served(bench, chance, chance.choice(SIGNALLED[:2]), signal.SIGKILL)


@kind
def connection_cut(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the connection breaks at the n-th operation on it."""
    return served(bench, chance, Action.CUT)


@kind
def backend_ended(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the server ends the connection at the n-th operation on it."""
    return served(bench, chance, Action.SIGNAL_BEFORE, signal.SIGSTOP, Server.end_connections)


@kind
def server_restarted(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the server crashes and starts again at the n-th operation on the connection."""
    return served(bench, chance, Action.SIGNAL_BEFORE, signal.SIGSTOP, Server.restart)
