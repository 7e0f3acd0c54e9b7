"""F: whether claims about speed rest on times that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.records import Record

__all__ = ["TIMING_RULES"]

WARM_UP = 0.05  # share of the seconds of training
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
    facts=("warm_up_seconds",),
    concerns=_claims_time,
)
def unclean_timing(context: Context) -> Iterator[Observation]:
    """The first steps compile, allocate and fill caches, which says nothing of an optimizer and
    weighs the more the shorter a training is. Recorded is by how much the first steps took longer
    than as many later ones.

    Source: PyTorch documentation of torch.compile and torch.utils.benchmark; AlgoPerf.
    Example: 22 % of the seconds of 6 runs are the warm-up of their first steps.
    Fix: `optrial timing STUDY`, which leaves out the first steps and reports the median.
    """
    shares = {
        r.run_id: (r.facts.warm_up_seconds or 0.0) / seconds.training
        for r in _timed(context)
        if (seconds := r.facts.seconds) and seconds.training
    }
    bad = [r for r in _timed(context) if shares.get(r.run_id, 0.0) > WARM_UP]
    if bad:
        most = max(shares.values())
        yield Observation(
            f"up to {most:.0%} of the seconds of {len(bad)} runs are the warm-up of their first "
            "steps",
            {"share": most, "runs": len(bad)},
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
        facts = record.facts
        conditions = {
            "device": facts.device,
            "threads": facts.threads,
            "host": facts.host,
            "machine": facts.machine,
        }
        for name, value in conditions.items():
            if value is not None:
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
    bad = [r for r in _timed(context) if r.width > 1]
    if bad:
        widest = max(r.width for r in bad)
        yield Observation(
            f"the times of {len(bad)} runs come from stacks of up to {widest}",
            {"runs": len(bad), "widest": widest},
            bad,
            _one_by_one(context, bad),
        )


TIMING_RULES = (unclean_timing, different_machines, stacked_times)
