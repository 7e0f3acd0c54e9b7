"""F: whether claims about speed rest on comparable times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.reproducibility import mixed_values, mixed_values_text
from optrial.analysis.audit.rule import audit_rule
from optrial.errors import counted
from optrial.records import Record

WARM_UP = 0.05  # largest share of warm-up in the training time


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
            "device": r.facts.device,
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
