"""F: whether claims about speed rest on comparable times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.reproducibility import mixed_values, mixed_values_text
from optrial.analysis.audit.rule import audit_rule
from optrial.errors import counted
from optrial.records import Record
from optrial.spec import Status

WARM_UP = 0.05  # largest share of warm-up in the training time
BUSY = 1.0  # processes per core above which a machine is shared


def _claims_time(context: Context) -> bool:
    return bool(context.time_claims)


def _timed(context: Context) -> list[Record]:
    """Return the runs behind claims about speed."""
    runs = {
        record.run_id: record
        for claim in context.time_claims
        for record in context.claimed_runs(claim)
    }
    return list(runs.values())


def _timed_alone(context: Context, records: Sequence[Record]) -> Remedy:
    action = "time each optimizer alone: optrial timing STUDY"
    return context.remedy(action, {"engine": "reference"}, len(records), records)


@audit_rule(
    "F01",
    Severity.WARNING,
    "times include warm-up",
    facts=("warm_up_seconds",),
    concerns=_claims_time,
)
def unclean_timing(context: Context) -> Iterator[Observation]:
    """The first steps compile, allocate and fill caches. This says nothing about the optimizer, and
    weighs more the shorter the training is. Records hold how much longer the first steps took than
    the same number of later ones.

    Source: PyTorch documentation of torch.compile and torch.utils.benchmark; AlgoPerf.
    Example: warm-up takes up to 22 % of the training time of 6 runs.
    Fix: `optrial timing STUDY` leaves out the first steps and reports the median.
    """
    shares = {
        r.run_id: (r.facts.warm_up_seconds or 0.0) / seconds.training
        for r in _timed(context)
        if (seconds := r.facts.seconds) and seconds.training
    }
    bad = [r for r in _timed(context) if shares.get(r.run_id, 0.0) > WARM_UP]
    if bad:
        most, runs = max(shares.values()), counted(len(bad), "run")
        yield Observation(
            f"warm-up takes up to {100 * most:.0f} % of the training time of {runs}",
            {"share": most, "runs": len(bad)},
            bad,
            _timed_alone(context, bad),
        )


@audit_rule(
    "F02",
    Severity.ERROR,
    "times come from different machines or loads",
    facts=("device", "threads", "host"),
    concerns=_claims_time,
)
def different_machines(context: Context) -> Iterator[Observation]:
    """Times are comparable only on the same device, with the same number of threads and the same
    load.

    Source: Dahl et al. 2023 (AlgoPerf, fixed hardware).
    Example: threads is 1 or 8.
    Fix: time all runs on one otherwise idle machine.
    """
    timed = _timed(context)
    mixed = mixed_values(
        timed,
        lambda r: {
            "device": r.facts.device_name,
            "threads": r.facts.threads,
            "host": r.facts.host,
            "machine": r.facts.machine,
        },
    )
    if mixed:
        yield Observation(
            mixed_values_text(mixed), {"conditions": mixed}, timed, _timed_alone(context, timed)
        )


@audit_rule(
    "F03",
    Severity.ERROR,
    "times come from stacked runs",
    facts=("stack_width",),
    concerns=_claims_time,
)
def stacked_times(context: Context) -> Iterator[Observation]:
    """The runs of a stack are trained as one program. They share its time, which says nothing about
    a single optimizer.

    Source: Wang et al. 2021 (HFTA).
    Example: the times of 6 runs come from stacks of up to 6 runs.
    Fix: `optrial timing STUDY` times each optimizer alone.
    """
    bad = [r for r in _timed(context) if r.width > 1]
    if bad:
        widest = max(r.width for r in bad)
        yield Observation(
            f"the times of {counted(len(bad), 'run')} come from stacks of up to {widest} runs",
            {"runs": len(bad), "widest": widest},
            bad,
            _timed_alone(context, bad),
        )


def _in_seconds(context: Context) -> bool:
    return any(record.spec.budget_seconds for record in context.records)


@audit_rule(
    "F04",
    Severity.ADVICE,
    "optimizers are compared after equal times",
    facts=("host", "load"),
    concerns=_in_seconds,
)
def compared_by_time(context: Context) -> Iterator[Observation]:
    """With a budget in seconds, an optimizer with cheaper steps takes more of them. The result
    holds for this machine, its load and this implementation, and other runs of the study give other
    numbers. A warning if runs were trained on different machines, or if other programs used the
    machine.

    Source: Dahl et al. 2023 (AlgoPerf, fixed hardware).
    Example: each run trained for 60 s on one machine (node1, cpu, 1 thread), with a load of 0.5 to
    0.6 per core.
    Fix: say so beside the claim, or give the budget in steps.
    """
    runs = [r for r in context.compared if r.spec.budget_seconds and r.status is Status.DONE]
    runs = [record for record in runs if record.facts.host is not None]
    loads = [record.facts.load for record in runs if record.facts.load is not None]
    if not loads:
        return
    places = list(dict.fromkeys(map(_place, runs)))
    budgets = sorted({record.spec.budget_seconds or 0.0 for record in runs})
    length = " or ".join(f"{seconds:g}" for seconds in budgets)
    where = f"on one machine ({places[0]})" if len(places) == 1 else f"on {names(places)}"
    load = f"with a load of {min(loads):.2g} to {max(loads):.2g} per core"
    busy = len(places) > 1 or max(loads) > BUSY
    yield Observation(
        f"each run trained for {length} s {where}, {load}",
        {"seconds": budgets, "places": places, "load": [min(loads), max(loads)]},
        runs,
        context.remedy("say so beside the claim, or give the budget in steps"),
        Severity.WARNING if busy else Severity.ADVICE,
    )


def _place(record: Record) -> str:
    """Return the machine, device and threads of a run."""
    facts = record.facts
    return f"{facts.host}, {facts.device_name}, {counted(facts.threads or 1, 'thread')}"
