"""Study -> run specs with content-hash ids; refuses every bad name and value at once."""

from optrial.plan.check import check_study, validation_wanted
from optrial.plan.estimate import Estimate, estimate
from optrial.plan.expand import Plan, make_plan
from optrial.plan.spec import RunSpec
from optrial.plan.stacks import arrange, pack, stack_id

__all__ = [
    "Estimate",
    "Plan",
    "RunSpec",
    "arrange",
    "check_study",
    "estimate",
    "make_plan",
    "pack",
    "stack_id",
    "validation_wanted",
]
