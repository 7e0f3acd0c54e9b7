"""Memory and operations of each rule."""

from __future__ import annotations

import pytest

from optrial.explain.cost import count_operations, kept_arrays
from optrial.plan.optimizers import further_values
from optrial.rules import RULES


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        # -lr g, and the addition to the parameter.
        ("sgd", {"multiplication": 1, "addition": 1}),
        # momentum u + g, -lr u, and the addition.
        ("momentum", {"multiplication": 2, "addition": 2}),
        # sign(b1 m + (1 - b1) g), -lr d, b2 m + (1 - b2) g, and the addition.
        ("lion", {"multiplication": 5, "addition": 3, "sign": 1}),
        # Counted by hand in the five lines of `adam`; 1 - beta^t and lr over it are numbers.
        ("adam", {"multiplication": 6, "addition": 4, "division": 2, "square root": 1}),
        # The same, and the parameter times 1 - lr weight_decay.
        ("adamw", {"multiplication": 7, "addition": 4, "division": 2, "square root": 1}),
    ],
)
def test_operations_are_those_counted_by_hand(name: str, operations: dict[str, int]) -> None:
    assert count_operations(RULES[name]) == operations


@pytest.mark.parametrize("name", RULES)
def test_memory_is_what_the_catalogue_says(name: str) -> None:
    # Beyond whole arrays and a matrix per axis, only rows, columns and numbers may be kept.
    rule = RULES[name]
    declared = rule.state_size + further_values(rule, ((32, 32),)) / 32**2
    assert declared <= kept_arrays(rule) < declared + 0.1
