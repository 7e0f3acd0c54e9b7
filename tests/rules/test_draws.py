"""Draws of rules are the same in every library and stack, and have their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from optrial.rules import RULES, apply_all, initialise_all
from optrial.rules.draws import draws_of
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT64

SHAPE = (4, 3)


def test_normal_draws_are_normal_and_independent_over_everything_that_keys_them() -> None:
    param = np.zeros((40, 50))
    drawn = [
        draws_of(seed, step, name, param, 0).normal(stream)
        for seed, step, name, stream in [
            *((0, 1, "w", 0), (1, 1, "w", 0), (0, 2, "w", 0), (0, 1, "b", 0), (0, 1, "w", 1)),
        ]
    ]
    for one in drawn:
        assert stats.kstest(one.ravel(), "norm").pvalue > 1e-3
    correlations = np.corrcoef([one.ravel() for one in drawn]) - np.eye(len(drawn))
    assert np.abs(correlations).max() < 0.1
    again = draws_of(0, 1, "w", param, 0).normal()
    np.testing.assert_array_equal(again, drawn[0])


def test_uniform_draws_are_uniform_and_those_of_all_parameters() -> None:
    param = np.zeros(SHAPE)
    drawn = [draws_of(7, step, "w", param, 0).uniform().item() for step in range(2000)]
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert drawn[5] == draws_of(7, 5, "b", np.zeros(2), 0).uniform()


@pytest.mark.parametrize("shape", [(), (3,), SHAPE])
def test_draws_of_a_run_are_those_of_its_place_in_a_stack(shape: tuple[int, ...]) -> None:
    """With seeds and steps as arrays, in NumPy and torch."""
    seeds = np.array([[3], [2**31 - 1]])  # (seeds, 1), with two settings
    for step in (5, np.array(5.0), np.full((2, 1), 5.0)):
        stack = draws_of(seeds, step, "w", np.zeros((2, 2, *shape)), 2)
        tensors = torch.tensor(seeds), torch.tensor(step), "w", torch.zeros(2, 2, *shape).double()
        on_torch = draws_of(*tensors, 2)
        for place, seed in enumerate((3, 2**31 - 1)):
            alone = draws_of(seed, 5, "w", np.zeros(shape), 0)
            for setting in (0, 1):
                for draws in (stack.normal(), on_torch.normal().numpy()):
                    assert relative_error([draws[place, setting]], [alone.normal()]) <= RULE_FLOAT64
            for number in (stack.uniform(), on_torch.uniform().numpy()):
                assert number[place].ravel()[0] == alone.uniform()


def test_runs_of_a_stack_draw_by_their_own_seeds() -> None:
    rule, values = RULES["psgd_kron"], RULES["psgd_kron"].defaults
    starts = np.random.default_rng(1).standard_normal((2, *SHAPE))
    seeds = np.array([4, 9])

    def follow(params: np.ndarray, seeds: int | np.ndarray, lead: int) -> np.ndarray:
        model = {"w": params}
        state = initialise_all(rule, model, values, lead=lead)
        for step in range(1, 30):
            model, state = apply_all(
                rule, model, model, state, step, values, lead=lead, seeds=seeds
            )
        return model["w"]

    together = follow(starts, seeds, 1)
    for run, seed in enumerate(seeds.tolist()):
        assert relative_error([together[run]], [follow(starts[run], seed, 0)]) <= RULE_FLOAT64
    assert relative_error([follow(starts[0], 5, 0)], [together[0]]) > RULE_FLOAT64
