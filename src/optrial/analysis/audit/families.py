"""What the names of update rules promise, and which rules are special cases of others."""

from __future__ import annotations

import re

from optrial.analysis.contenders import OptimizerRuns
from optrial.learning_rates import plain_name

__all__ = [
    "INCLUSIONS",
    "label_words",
    "rule_words",
]

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


def label_words(label: str) -> set[str]:
    """Return the names of rules that a label holds."""
    return set(re.findall(r"[a-z]+", label.lower())) & _WORDS


def rule_words(optimizer: OptimizerRuns) -> set[str]:
    """Return every name that an optimizer may rightly carry; empty for a rule of the user's own."""
    words = set(re.findall(r"[a-z]+", plain_name(optimizer.rule))) & _WORDS
    settings = optimizer.reported[0].hyperparameters
    if not words:
        return set()
    if settings.get("nesterov"):
        words.add("nesterov")
    if settings.get("momentum"):
        words |= {"momentum", "heavyball"}
    if words & {"adam", "adamw"}:  # they differ in how weights decay, and in nothing else
        decoupled = optimizer.spec.decay == "decoupled"
        decays = optimizer.spec.weight_decay > 0
        words |= {"adam", "adamw"} if not decays else {"adamw" if decoupled else "adam"}
    return words.union(*(_IMPLIED.get(word, set()) for word in words))
