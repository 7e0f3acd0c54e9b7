"""Claims: what a study is meant to show, fixed before its runs, and the verdicts on them."""

from optrial.analysis.claims.language import Amount, Claim, ClaimKind, parse_claims, parse_target
from optrial.analysis.claims.verdicts import (
    Arrivals,
    ClaimCase,
    ClaimResult,
    ClaimVerdict,
    evaluate_cases,
)

__all__ = [
    "Amount",
    "Arrivals",
    "Claim",
    "ClaimCase",
    "ClaimKind",
    "ClaimResult",
    "ClaimVerdict",
    "evaluate_cases",
    "parse_claims",
    "parse_target",
]
