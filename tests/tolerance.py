"""The tolerances of the whole test suite, each with the reason for its size."""

from __future__ import annotations

import math

import torch

RULE_FLOAT64 = 1e-10
"""Relative error of 100 float64 steps against another implementation of the same equations: only
the order of roundings may differ."""

GRADIENT_FLOAT64 = 1e-11
"""Relative error of one float64 gradient written out by hand, against autograd."""

TRAJECTORY_FLOAT64 = 1e-9
"""Relative error between engines after a hundred float64 steps: rounding, amplified by training."""

PROBE_FLOAT64 = TRAJECTORY_FLOAT64**0.5
"""Relative error of probes between engines after float64 steps: a probe that is a difference of
nearly equal numbers, such as a curvature, loses half of the digits."""

CHAOS_FACTOR = 10
"""How much farther two engines may be from each other, after float64 steps, than a run from itself
with weights that start one last digit away: engines round at each step, and the farthest of four
such runs is one draw. Measured ratios are below 3."""

MOST_CHAOS = 1e-4
"""Relative error above which no difference between engines is excused by chaos."""

CANCELLED = 2.0**-50
"""Share of the largest gradient of a tensor below which a gradient in float64 is rounding alone: a
sum of terms that cancel, which the order of the sum decides. It is four last digits."""

PRINTED_DIGITS = 1e-10
"""Relative error of values that are rounded to twelve significant digits."""

SAMPLING_SIGMAS = 4.5
"""How many standard errors a sampled mean may lie from its expectation: one false alarm in 10^5."""


def sampled_share(share: float, draws: int) -> float:
    """Absolute error of the share of independent draws that are true, against its expectation."""
    return SAMPLING_SIGMAS * math.sqrt(share * (1 - share) / draws)


STATISTICS_FLOAT32 = 2e-6
"""Absolute error of inputs standardised in float32 (values of order 1, at most about 10) against
float64."""

METRIC_FLOAT32 = 1e-5
"""Relative error of a metric of float32 outputs against the same metric in NumPy, whose inputs were
standardised by another library, or after a few steps on another device."""

REPORTED_ACCURACY = 0.005
"""How far a replayed test accuracy may be from a published one, which another version of PyTorch
computed: 0.005 is twice the standard error of the difference at 96 % of 10,000 test images."""

LIKE_SCIKIT_LEARN = 0.02
"""How far a mean test accuracy or R^2 over three seeds may be from that of a scikit-learn network
of the same size, which starts from other weights: at least three standard errors of the difference
on the tables of the tests."""

RULE_FLOAT32_STEP = 2e-6
"""Relative error of one float32 change of a parameter against the same in float64: a dozen
roundings."""

ESTIMATE_FACTOR = 10
"""How far a planned time may be from a measured one. The plan promises about two on an idle
machine; tests share theirs with others."""

MEASURED_ESTIMATE_FACTOR = 2
"""The same for times that were measured once, on an idle GPU or by the clock of a CPU core."""

FINAL_LOSS_FLOAT32 = 1e-3
"""Relative difference of a float32 loss after up to fifty steps in engines that round
differently."""

BFLOAT16_LOSS = 0.05
"""Relative difference of a loss whose products were taken in bfloat16, which has 8 bits, after
forty steps."""

MINIMUM_FLOAT64 = 1e-12
"""How far the value of a test function at a stated minimum may be from the least: the coordinates
have sixteen digits, and values grow with the square of their error."""

MINIMUM_FOUND = 1e-4
"""How far from a stated minimum SciPy's BFGS may stop, which takes its gradients from differences
of values."""

STATISTIC_FLOAT64 = 1e-9
"""Relative error of a statistic against another implementation of the same formula: rounding, and
the accuracy of quantiles of distributions."""

RESAMPLED_LIMIT = 0.06
"""How far bootstrap limits from different resamples may be apart, as a share of the interval's
width: with 5,000 resamples the standard deviation of one limit is 0.01, of a difference 0.014."""

SIMULATION_SIGMAS = 3.0
"""How many binomial standard errors a simulated rate may be from its nominal value; the seed of
each simulation is fixed."""

POWER_APPROXIMATION = 0.03
"""How far the power of a sign-flip test, approximated by that of a t test, may be from the
simulated one, from ten pairs on."""

THREE_DECIMALS = 1e-3
"""Absolute error of a value against one published with three decimals."""

BATCH_NORM_BFLOAT16 = 0.02
"""Relative error of activations that batch norm puts out in bfloat16, whose spacing is 1/128: two
roundings and their amplification."""

RUNNING_STATISTICS = 1e-6
"""Relative error of saved weights and running averages between engines: as their trajectories, and
rounded to float32 when they are saved."""

WHOLE_NUMBER = {"rtol": 1e-6, "atol": 1e-3}
"""Relative and absolute error of a whole number computed from averages with seven digits."""

THREE_DIGITS = 1e-3
"""Relative error of a value shown with four significant digits, or measured over float32 steps."""

DRAWN_PIXEL = 0.1
"""How far a point may be from where it belongs, in pixels or in cells of a contour's grid."""

POWER_ITERATION = 1e-3
"""Largest eigenvalue after 30 power iterations against the exact one, where the gap is ordinary."""

RESIDENT_MEMORY = 0.5
"""How far a peak of resident memory may be from the arrays that have to be there, in arrays of the
parameters' size: allocators reuse some pages and keep others."""

SPLIT_METRIC = {"float32": 1e-6, "float64": 1e-12}
"""Absolute and relative error of a metric of a split against scikit-learn on float64 outputs of the
same weights, by the precision of the outputs."""

PRODUCT = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Error of a product of matrices, relative to its largest element, by type: sums of up to a few
hundred terms, rounded to 24 and to 8 bits."""

MEMORY_BELOW, MEMORY_ABOVE = 0.8, 2.0
"""Bounds on the estimated memory of a stack, as shares of the measured peak."""

DRAWN_STD = 0.1
"""Relative error of the standard deviation of a few hundred drawn weights or more."""

DRAWN_STD_OF_FEW = 0.2
"""Relative error of the standard deviation of a hundred drawn weights."""

DRAWN_NOISE = 0.5
"""Relative error of the standard deviation of a dozen drawn errors or more."""

WHOLE_WINDOWS = 0.01
"""Relative error of a number of windows: the end of each split of a text is shorter than one."""

UNMOVED = 1e-14
"""Relative change of a parameter in a step with a learning rate of 0, whose norm is restored."""

SMOOTHED_RATE = 0.7
"""Relative error of the learning rate at which a running average of losses falls fastest: the
average lags behind the losses."""

ZERO_WEIGHT = 1e-12
"""Absolute error of float64 weights of about 1 that happen to be nearly 0."""

ZERO_GRADIENT = 1e-15
"""Absolute error of float64 gradients of about 1 that cancel to 0."""
