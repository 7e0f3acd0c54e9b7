"""Study -> run specs with content-hash ids; refuses every bad name and value at once."""

from optrial.plan.check import check_study, validation_wanted
from optrial.plan.estimate import Estimate, estimate
from optrial.plan.expand import Plan, make_plan
from optrial.plan.spec import RunSpec

__all__ = [
    "Estimate",
    "Plan",
    "RunSpec",
    "check_study",
    "estimate",
    "make_plan",
    "validation_wanted",
]
