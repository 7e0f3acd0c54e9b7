"""An audit rule for tests: an even number of seeds has no median run."""

from __future__ import annotations

from collections.abc import Iterator

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule


@audit_rule("D99", Severity.ADVICE, "the number of seeds is even")
def even_seeds(context: Context) -> Iterator[Observation]:
    """With an even number of seeds, no run is the median.

    Source: none; an example.
    Example: 4 seeds.
    Fix: run one seed more.
    """
    seeds = {record.seed for record in context.records}
    if len(seeds) % 2 == 0:
        remedy = Remedy("run one seed more", {"seeds": len(seeds) + 1})
        yield Observation(f"{len(seeds)} seeds", {"seeds": len(seeds)}, context.records, remedy)
