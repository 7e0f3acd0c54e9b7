"""Learning rates worth trying, by the name of an update rule."""

from __future__ import annotations

__all__ = [
    "SELF_SCALED",
    "plain_name",
    "sensible_rates",
    "update_scale",
    "usual_rates",
    "within_sensible",
]

_BY_GRADIENT = frozenset({"sgd", "momentum", "nesterov", "schedule_free_sgd"})
_BY_COORDINATE = frozenset(
    {
        *("adam", "adamw", "amsgrad", "adamax", "nadam", "radam", "rmsprop", "rmsprop_nesterov"),
        *("adagrad", "lion", "schedule_free_adamw"),
    }
)
SELF_SCALED = frozenset({"adadelta", "prodigy", "adafactor"})
"""Rules whose default learning rate needs no tuning."""

_USUAL = {"the gradient": (0.001, 1.0), "the learning rate alone": (0.0001, 0.1)}


def plain_name(rule: str) -> str:
    """Return the name of a rule or class as the catalogue spells it: "rmsprop" for RMSprop."""
    return rule.rpartition(":")[2].rpartition(".")[2].lower().replace("-", "_")


def update_scale(rule: str) -> str:
    """Return the quantity that sets the size of a rule's step; empty if the name does not tell."""
    name = plain_name(rule)
    if name in _BY_GRADIENT:
        return "the gradient"
    if name in SELF_SCALED:
        return "the parameters"
    return "the learning rate alone" if name in _BY_COORDINATE else ""


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
