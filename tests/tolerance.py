"""The tolerances of the whole test suite, each with the reason for its size."""

from __future__ import annotations

RULE_FLOAT64 = 1e-10
"""Relative error of 200 float64 steps against another implementation of the same equations: only
the order of roundings may differ."""

GRADIENT_FLOAT64 = 1e-11
"""Relative error of one float64 gradient, written out by hand, against automatic differentiation."""

TRAJECTORY_FLOAT64 = 1e-9
"""Relative error between engines after a hundred float64 steps: rounding, amplified by training."""

PRINTED_DIGITS = 1e-10
"""Relative error of values that are rounded to twelve significant digits."""

SAMPLING_SIGMAS = 4.5
"""How many standard errors a sampled mean may lie from its expectation: one false alarm in 10^5."""
