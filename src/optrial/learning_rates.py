"""Which learning rates are worth trying, by the name of an update rule."""

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
"""Rules whose default learning rate is meant to be left alone."""

_USUAL = {"the gradient": (0.001, 1.0), "the learning rate alone": (0.0001, 0.1)}


def plain_name(rule: str) -> str:
    """Return a rule or class in the catalogue's spelling: ``torch.optim:RMSprop`` is rmsprop."""
    return rule.rpartition(":")[2].rpartition(".")[2].lower().replace("-", "_")


def update_scale(rule: str) -> str:
    """Return what the size of a rule's step follows; empty where its name does not tell."""
    name = plain_name(rule)
    if name in _BY_GRADIENT:
        return "the gradient"
    if name in SELF_SCALED:
        return "the parameters"
    return "the learning rate alone" if name in _BY_COORDINATE else ""


def usual_rates(rule: str, rate: float) -> tuple[float, float]:
    """Return the ends of the learning rates among which the best one is usually found.

    Args:
        rule: name of the rule.
        rate: in the middle of the range where the name does not tell.
    """
    return _USUAL.get(update_scale(rule), (rate / 30, rate * 30))


def sensible_rates(rule: str) -> tuple[float, float]:
    """Return the ends of the learning rates that are worth trying with data on a unit scale.

    A rule whose step is the learning rate itself moves each weight by more than its usual size
    with a rate above 1.
    """
    return 1e-8, 1.0 if update_scale(rule) == "the learning rate alone" else 100.0


def within_sensible(low: float, high: float, rule: str) -> tuple[float, float]:
    """Return a range of learning rates moved into what is sensible, and as wide if it can be."""
    least, most = sensible_rates(rule)
    down = min(1.0, most / high)
    low, high = low * down, high * down
    up = max(1.0, least / low)
    return low * up, min(most, high * up)
