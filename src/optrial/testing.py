"""Checks for user-defined update rules.

from optrial.testing import check_rule

def test_my_rule():
    check_rule(MY_RULE)
"""

from __future__ import annotations

from typing import Any

import torch

from optrial.certifying.rule_checks import agreement_with, problems_of_rule, result_of
from optrial.rules import Rule

__all__ = ["check_rule"]


def check_rule(
    rule: Rule, *, torch_optimizer: type[torch.optim.Optimizer] | None = None, **arguments: Any
) -> None:
    """Check that a rule meets the requirements of every engine and that its entry is complete.

    A rule must change nothing in place and draw no random numbers; keep shapes and precisions;
    take the same steps alone and in a stack of runs with other hyperparameters; agree between NumPy
    and torch; compile once for all learning rates; and stay finite on a small problem. Its defaults
    must lie in their ranges, and its equations, hyperparameters and state must be explained.

    Args:
        rule: any rule, in the catalogue or not.
        torch_optimizer: an implementation that takes the same steps at the rule's defaults.
        arguments: arguments of `torch_optimizer` after the parameters.

    Raises:
        AssertionError: lists every problem.
    """
    problems = [problem for found in problems_of_rule(rule).values() for problem in found]
    if torch_optimizer:
        problems += result_of(lambda r: agreement_with(r, torch_optimizer, arguments), rule)
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise AssertionError(f"The rule '{rule.name}' fails {len(problems)} check(s):{lines}")
