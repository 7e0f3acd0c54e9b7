"""Claims decided from values, as the audit decides those of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optrial.analysis.claims import Arrivals, Claim, ClaimCase, ClaimResult, evaluate_cases
from optrial.analysis.statistics import Values
from optrial.analysis.targets import Target, Unit


def evaluate_claims(
    claims: Sequence[Claim],
    values: Mapping[str, Mapping[str, Values]],
    arrivals: Mapping[tuple[Target, Unit], Arrivals] | None = None,
) -> list[ClaimResult]:
    """Decide claims about one problem."""
    return evaluate_cases([ClaimCase(claim, values, arrivals or {}) for claim in claims])
