"""Hyperparameters and symbols that several rules share."""

from __future__ import annotations

from optrial.rules.rule import Hyperparameter

__all__ = ["GRADIENT", "PARAMETER", "STEP", "average_decay", "epsilon", "learning_rate", "momentum"]

PARAMETER = {"θ": "the parameter"}
GRADIENT = {"g": "gradient of the mini-batch's loss at θ, with l2 weight decay added"}
STEP = {"t": "number of the step: 1, 2, ..."}


def learning_rate(default: float) -> Hyperparameter:
    """Return `lr`."""
    return Hyperparameter(
        name="lr",
        default=default,
        meaning="learning rate: the size of a step",
        low_open=True,
        scale="log",
        aliases=("learning_rate", "eta", "step_size"),
    )


def momentum(default: float) -> Hyperparameter:
    """Return `momentum`: 0 for none, towards 1 for a long memory."""
    return Hyperparameter(
        name="momentum",
        default=default,
        meaning="share of the velocity kept from step to step",
        high=1.0,
        high_open=True,
        aliases=("mu", "gamma", "beta"),
    )


def average_decay(
    name: str,
    default: float,
    of: str,
    aliases: tuple[str, ...] = (),
    one_allowed: bool = False,
) -> Hyperparameter:
    """Return the share of a running average `of` something that is kept from step to step."""
    return Hyperparameter(
        name=name,
        default=default,
        meaning=f"share of the running {of} kept from step to step",
        high=1.0,
        high_open=not one_allowed,
        aliases=aliases,
    )


def epsilon(default: float) -> Hyperparameter:
    """Return `eps`, which may be 0 where no gradient is ever exactly 0."""
    return Hyperparameter(
        name="eps",
        default=default,
        meaning="small number that keeps the division finite",
        scale="log",
        aliases=("epsilon", "delta"),
    )
