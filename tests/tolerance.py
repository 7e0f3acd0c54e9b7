"""The tolerances of the whole test suite, each with the reason for its size."""

from __future__ import annotations

RULE_FLOAT64 = 1e-10
"""Relative error of 200 float64 steps against another implementation of the same equations: only
the order of roundings may differ."""

GRADIENT_FLOAT64 = 1e-11
"""Relative error of one float64 gradient, written out by hand, against automatic differentiation."""

TRAJECTORY_FLOAT64 = 1e-9
"""Relative error between engines after a hundred float64 steps: rounding, amplified by training."""
