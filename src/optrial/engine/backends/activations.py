"""Activation functions and their derivatives, by the name of the torch class they equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import erf, expit

__all__ = ["ACTIVATIONS"]

Function = Callable[[np.ndarray], np.ndarray]

_LEAK = 0.01  # slope of torch.nn.LeakyReLU below zero


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + erf(x / 2**0.5)), x.dtype)


def _normal_pdf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * x**2) / (2 * np.pi) ** 0.5, x.dtype)


ACTIVATIONS: Mapping[str, tuple[Function, Function]] = {
    "ReLU": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype)),
    "LeakyReLU": (
        lambda x: np.where(x > 0, x, _LEAK * x),
        lambda x: np.where(x > 0, 1, _LEAK).astype(x.dtype),
    ),
    "ELU": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.exp(np.minimum(x, 0)),
    ),
    "SiLU": (
        lambda x: x * expit(x),
        lambda x: expit(x) * (1 + x * (1 - expit(x))),
    ),
    "GELU": (
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * _normal_pdf(x),
    ),
    "Tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "Sigmoid": (expit, lambda x: expit(x) * (1 - expit(x))),
    "Identity": (lambda x: x, np.ones_like),
}
"""Class name -> (function, derivative), both elementwise; dtypes are kept."""
