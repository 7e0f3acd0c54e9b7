"""Checks of an optimizer: each looks at a subject and yields what it finds."""

from optrial.certifying.checks.arguments import ARGUMENT_CHECKS
from optrial.certifying.checks.groups import GROUP_CHECKS
from optrial.certifying.checks.interface import INTERFACE_CHECKS
from optrial.certifying.checks.numerics import NUMERIC_CHECKS
from optrial.certifying.checks.state import STATE_CHECKS
from optrial.certifying.checks.variants import VARIANT_CHECKS

__all__ = ["CHECKS"]

CHECKS = (
    *ARGUMENT_CHECKS,
    *INTERFACE_CHECKS,
    *GROUP_CHECKS,
    *STATE_CHECKS,
    *VARIANT_CHECKS,
    *NUMERIC_CHECKS,
)
