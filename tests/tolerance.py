"""The tolerances of the whole test suite, each with the reason for its size."""

from __future__ import annotations

RULE_FLOAT64 = 1e-10
"""Relative error of 200 float64 steps against another implementation of the same equations: only
the order of roundings may differ."""

GRADIENT_FLOAT64 = 1e-11
"""Relative error of one float64 gradient written out by hand, against autograd."""

TRAJECTORY_FLOAT64 = 1e-9
"""Relative error between engines after a hundred float64 steps: rounding, amplified by training."""

PRINTED_DIGITS = 1e-10
"""Relative error of values that are rounded to twelve significant digits."""

SAMPLING_SIGMAS = 4.5
"""How many standard errors a sampled mean may lie from its expectation: one false alarm in 10^5."""

STATISTICS_FLOAT32 = 2e-6
"""Absolute error of inputs standardised in float32 (values of order 1, at most about 10) against
float64."""

REPORTED_ACCURACY = 0.005
"""How far a replayed test accuracy may be from a published one, which another version of PyTorch
computed: 0.005 is twice the standard error of the difference at 96 % of 10,000 test images."""

RULE_FLOAT32_STEP = 2e-6
"""Relative error of one float32 change of a parameter against the same in float64: a dozen
roundings."""

ESTIMATE_FACTOR = 10
"""How far a planned time may be from a measured one. The plan promises about two on an idle
machine; tests share theirs with others."""

FINAL_LOSS_FLOAT32 = 1e-3
"""Relative difference of a float32 loss after fifty steps in engines that round differently."""
