"""F: whether claims about speed rest on times that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optrial.analysis.audit.context import Context, fact, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record

__all__ = ["TIMING_RULES"]

ALONE = "measure each optimizer alone: optrial timing STUDY"


def _claims_time(context: Context) -> bool:
    return bool(context.time_claims)


def _timed(context: Context) -> list[Record]:
    """Return the runs behind claims about speed."""
    found = {
        record.run_id: record
        for claim in context.time_claims
        for record in context.claimed_runs(claim)
    }
    return list(found.values())


def _one_by_one(context: Context, records: list[Record]) -> Remedy:
    return context.remedy(ALONE, {"engine": "reference"}, len(records), records)


@audit_rule(
    "F01",
    Severity.WARNING,
    "times include what is not the optimizer's",
    facts=("synchronised", "warm_up_steps"),
    concerns=_claims_time,
)
def unclean_timing(context: Context) -> Iterator[Observation]:
    """A GPU works on while the clock is read, and the first steps compile and allocate. Without
    waiting for the device, and without steps that are not counted, a time says little.

    Source: PyTorch documentation of torch.compile and torch.utils.benchmark; AlgoPerf.
    Example: times of 6 runs were taken without waiting for the device.
    Fix: wait for the device at both ends, leave out the first steps, report the median.
    """
    bad = [
        r
        for r in _timed(context)
        if fact(r, "synchronised") is False or fact(r, "warm_up_steps") == 0
    ]
    if bad:
        unsynchronised = sum(fact(r, "synchronised") is False for r in bad)
        cold = sum(fact(r, "warm_up_steps") == 0 for r in bad)
        said = [f"{unsynchronised} without waiting for the device"] * bool(unsynchronised)
        said += [f"{cold} with their first steps"] * bool(cold)
        yield Observation(
            f"of {len(bad)} runs that were timed, {' and '.join(said)}",
            {"unsynchronised": unsynchronised, "without_warm_up": cold},
            bad,
            _one_by_one(context, bad),
        )


@audit_rule(
    "F02",
    Severity.ERROR,
    "times come from different machines or loads",
    facts=("device", "threads", "host"),
    concerns=_claims_time,
)
def different_machines(context: Context) -> Iterator[Observation]:
    """Times compare only on the same device, with as many threads, beside the same other work.

    Source: Dahl et al. 2023 (AlgoPerf, fixed hardware).
    Example: threads is 1 for adam and 8 for sgd.
    Fix: time all on one machine that does nothing else.
    """
    seen: dict[str, set[Any]] = {}
    for record in _timed(context):
        for name in ("device", "threads", "host", "machine", "concurrent_runs"):
            if (value := fact(record, name)) is not None:
                seen.setdefault(name, set()).add(value)
    mixed = {name: sorted(map(str, values)) for name, values in seen.items() if len(values) > 1}
    if mixed:
        yield Observation(
            names(f"{name} is {' and '.join(values)}" for name, values in mixed.items()),
            {"conditions": mixed},
            _timed(context),
            _one_by_one(context, _timed(context)),
        )


@audit_rule(
    "F03",
    Severity.ERROR,
    "times were taken from stacked runs",
    facts=("stack_width",),
    concerns=_claims_time,
)
def stacked_times(context: Context) -> Iterator[Observation]:
    """Runs of a stack are trained as one program: its time is shared by all of them, and says
    nothing of one optimizer's.

    Source: Wang et al. 2021 (HFTA).
    Example: the times of 6 runs come from stacks of up to 6.
    Fix: `optrial timing STUDY` measures each optimizer alone.
    """
    bad = [r for r in _timed(context) if (fact(r, "stack_width") or 1) > 1]
    if bad:
        widest = max(fact(r, "stack_width") for r in bad)
        yield Observation(
            f"the times of {len(bad)} runs come from stacks of up to {widest}",
            {"runs": len(bad), "widest": widest},
            bad,
            _one_by_one(context, bad),
        )


@audit_rule(
    "F04",
    Severity.WARNING,
    "times cover different parts of the work",
    facts=("seconds",),
    concerns=_claims_time,
)
def different_scopes(context: Context) -> Iterator[Observation]:
    """Evaluation, compilation and loading have to be in all times or in none.

    Source: Dahl et al. 2023 (AlgoPerf, what the timer covers).
    Example: the seconds of adam cover training and evaluation, those of sgd training only.
    Fix: time all with the same software.
    """
    scopes: dict[str, set[str]] = {}
    for record in _timed(context):
        if parts := fact(record, "seconds"):
            scopes.setdefault(", ".join(sorted(parts)), set()).add(record.optimizer)
    if len(scopes) > 1:
        yield Observation(
            "seconds cover "
            + names(f"{parts} ({', '.join(sorted(who))})" for parts, who in scopes.items()),
            {"scopes": {parts: sorted(who) for parts, who in scopes.items()}},
            _timed(context),
            _one_by_one(context, _timed(context)),
        )


TIMING_RULES = (unclean_timing, different_machines, stacked_times, different_scopes)
