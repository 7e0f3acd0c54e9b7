"""What the names of update rules tell: the size of a step, and what a label promises."""

from __future__ import annotations

import re

from optrial.analysis.contenders import OptimizerRuns

__all__ = [
    "INCLUSIONS",
    "SELF_SCALED",
    "label_words",
    "rule_words",
    "sensible_rates",
    "update_scale",
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

INCLUSIONS = (
    ("momentum", "sgd", "momentum"),
    ("nesterov", "sgd", "momentum"),
    ("adam", "momentum", "eps"),
    ("adamw", "momentum", "eps"),
    ("nadam", "nesterov", "eps"),
    ("rmsprop", "sgd", "eps"),
    ("rmsprop_nesterov", "rmsprop", "momentum"),
)
"""(general, special, hyperparameter): the general rule becomes the special one in the limit of the
hyperparameter (Choi et al. 2019)."""

_IMPLIED = {
    "momentum": {"sgd"},
    "heavyball": {"momentum", "sgd"},
    "nesterov": {"momentum", "sgd", "nag"},
    "nag": {"nesterov", "momentum", "sgd"},
    "nadam": {"adam", "nesterov"},
    "amsgrad": {"adam"},
}
_WORDS = frozenset(
    {
        *("sgd", "momentum", "heavyball", "nesterov", "nag", "adagrad", "adadelta", "rmsprop"),
        *("adam", "adamw", "adamax", "nadam", "radam", "amsgrad", "lion", "lars", "lamb"),
        *("adafactor", "muon", "prodigy", "shampoo", "sophia"),
    }
)


def _plain(name: str) -> str:
    """Name of a rule or class in the catalogue's spelling: ``torch.optim:RMSprop`` is rmsprop."""
    return name.rpartition(":")[2].rpartition(".")[2].lower().replace("-", "_")


def update_scale(rule: str) -> str:
    """Return what the size of a rule's step follows; empty where its name does not tell."""
    name = _plain(rule)
    if name in _BY_GRADIENT:
        return "the gradient"
    if name in SELF_SCALED:
        return "the parameters"
    return "the learning rate alone" if name in _BY_COORDINATE else ""


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


def label_words(label: str) -> set[str]:
    """Return the names of rules that a label holds."""
    return set(re.findall(r"[a-z]+", label.lower())) & _WORDS


def rule_words(optimizer: OptimizerRuns) -> set[str]:
    """Return every name that an optimizer may rightly carry; empty for a rule of the user's own."""
    words = set(re.findall(r"[a-z]+", _plain(optimizer.rule))) & _WORDS
    settings = optimizer.reported[0].hyperparameters
    if not words:
        return set()
    if settings.get("nesterov"):
        words.add("nesterov")
    if settings.get("momentum"):
        words |= {"momentum", "heavyball"}
    if words & {"adam", "adamw"}:  # they differ in how weights decay, and in nothing else
        decoupled = optimizer.spec("decay") == "decoupled"
        decays = bool(optimizer.spec("weight_decay"))
        words |= {"adam", "adamw"} if not decays else {"adamw" if decoupled else "adam"}
    return words.union(*(_IMPLIED.get(word, set()) for word in words))
