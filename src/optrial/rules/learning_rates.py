"""Learning rates worth trying, by the name of an update rule or of a class of that name."""

from __future__ import annotations

from optrial.rules.catalogue import RULES
from optrial.rules.rule import StepScale

__all__ = [
    "needs_tuning",
    "plain_name",
    "sensible_rates",
    "update_scale",
    "usual_rates",
    "within_sensible",
]

_USUAL: dict[StepScale, tuple[float, float]] = {
    "the gradient": (0.001, 1.0),
    "the learning rate alone": (0.0001, 0.1),
}


def plain_name(rule: str) -> str:
    """Return the name of a rule or class as the catalogue spells it: "rmsprop" for RMSprop."""
    return rule.rpartition(":")[2].rpartition(".")[2].lower().replace("-", "_")


def update_scale(rule: str) -> StepScale:
    """Return the quantity that sets the size of a rule's step; empty for an unknown rule."""
    known = RULES.get(plain_name(rule))
    return known.step_scale if known else ""


def needs_tuning(rule: str) -> bool:
    """Return False for a rule that scales its steps by itself, so that its default rate may do."""
    return update_scale(rule) != "the parameters"


def usual_rates(rule: str, rate: float) -> tuple[float, float]:
    """Return the range that usually contains the best learning rate, as (low, high).

    Args:
        rule: name of the rule.
        rate: middle of the range for a rule that is not known here.
    """
    return _USUAL.get(update_scale(rule), (rate / 30, rate * 30))


def sensible_rates(rule: str) -> tuple[float, float]:
    """Return the range of learning rates worth trying on data of unit scale, as (low, high).

    If the learning rate alone sets the step, a rate above 1 moves every weight by more than its
    usual size.
    """
    return 1e-8, 1.0 if update_scale(rule) == "the learning rate alone" else 100.0


def within_sensible(low: float, high: float, rule: str) -> tuple[float, float]:
    """Shift a range of learning rates into the sensible range, keeping its width if possible."""
    least, most = sensible_rates(rule)
    down = min(1.0, most / high)
    low, high = low * down, high * down
    up = max(1.0, least / low)
    return low * up, min(most, high * up)
