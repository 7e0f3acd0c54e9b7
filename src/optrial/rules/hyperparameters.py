"""Hyperparameters and symbols shared by several rules."""

from __future__ import annotations

from optrial.rules.rule import Hyperparameter

__all__ = [
    "GRADIENT",
    "PARAMETER",
    "RAW_GRADIENT",
    "STEP",
    "average_decay",
    "epsilon",
    "learning_rate",
    "momentum",
]

PARAMETER = {"θ": "the parameter"}
GRADIENT = {"g": "gradient of the mini-batch loss at θ, plus l2 weight decay"}
RAW_GRADIENT = {"g": "gradient of the mini-batch loss at θ, without weight decay"}
STEP = {"t": "step number: 1, 2, ..."}


def learning_rate(default: float, meaning: str = "learning rate") -> Hyperparameter:
    """Return `lr`."""
    return Hyperparameter(
        name="lr",
        default=default,
        meaning=meaning,
        symbol="η",
        letters=("α", "ε"),
        low_open=True,
        scale="log",
        aliases=("learning_rate", "eta", "step_size"),
    )


def momentum(default: float, meaning: str = "decay rate of the velocity") -> Hyperparameter:
    """Return `momentum`; 0 turns it off."""
    return Hyperparameter(
        name="momentum",
        default=default,
        meaning=meaning,
        symbol="μ",
        letters=("γ", "β", "α"),
        high=1.0,
        high_open=True,
        aliases=("mu", "gamma", "beta"),
    )


def average_decay(
    name: str,
    default: float,
    meaning: str,
    symbol: str,
    *aliases: str,
    letters: tuple[str, ...] = (),
    one_allowed: bool = False,
) -> Hyperparameter:
    """Return the decay rate of an exponential moving average."""
    return Hyperparameter(
        name=name,
        default=default,
        meaning=meaning,
        symbol=symbol,
        letters=letters,
        high=1.0,
        high_open=not one_allowed,
        aliases=aliases,
    )


def epsilon(default: float) -> Hyperparameter:
    """Return `eps`; 0 is allowed if no gradient is ever exactly 0."""
    return Hyperparameter(
        name="eps",
        default=default,
        meaning="small constant that prevents division by zero",
        symbol="ε",
        letters=("δ",),
        scale="log",
        aliases=("epsilon", "delta"),
    )
