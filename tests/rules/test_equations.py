"""The printed equations, executed as they stand, take the steps that the code takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from optrial.rules import RULES, Rule, apply_all, initialise_all
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT64

IN_WORDS = {
    *("adafactor", "adam_mini", "muon", "normuon", "scion", "shampoo", "soap", "psgd_kron"),
    *("adahessian", "sophia_h", "lbfgs"),
}
"""Rules whose equations have rows, columns, matrix products or words; see test_against_papers and
test_curvature."""

VALUES = [{}, {"eps": 0.1, "momentum": 0.7, "beta1": 0.6, "beta2": 0.8, "rho": 0.7}]
SWITCHES = {"lr": 0.03, "lr_decay": 0.1, "centered": True, "d_coef": 0.5, "d0": 0.01}
STEPS = 12

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt,
    "sign": np.sign,
    "max": np.maximum,
    "min": np.minimum,
    "exp": np.exp,
    "log": np.log,
    "norm": np.linalg.norm,
    "norm1": lambda array: np.abs(array).sum(),
    "dot": lambda one, other: (one * other).sum(),
}
NOTATION = {
    "Σ lr²": "(t * lr**2)",
    r"√(\w+)": r"sqrt(\1)",
    "√": "sqrt",
    r"‖(\w+)‖₁": r"norm1(\1)",
    r"‖(\w+)‖": r"norm(\1)",
    r"\|(\w+)\|": r"abs(\1)",
    "⟨": "dot(",
    "⟩": ")",
    "²": "**2",
    r"\^": "**",
    "′": "_next",
    "₀": "_0",
    "−": "-",
    "·": "*",
    "←": "=",
}
"""Pattern in an equation -> Python. lr is constant here: the sum of its squares is t·lr²."""


def python(equation: str) -> str:
    for pattern, replacement in NOTATION.items():
        equation = re.sub(pattern, replacement, equation)
    return equation


def take_step(equations: Sequence[str], names: dict[str, Any]) -> None:
    """Execute the equations of one step; a remark says when a line holds."""
    holds = False
    for line in equations:
        equation, *remarks = re.split(r"\s{3,}", line)
        remark = remarks[0] if remarks else ""
        if condition := re.fullmatch(r"if (.+?)(?:, otherwise (.+))?", remark):
            holds = eval(condition[1], names)
            equation = equation if holds else condition[2] or ""
        elif remark == "otherwise" and holds:
            continue
        exec(python(equation), names)


@pytest.mark.parametrize("name", sorted(set(RULES) - IN_WORDS))
@pytest.mark.parametrize("values", VALUES, ids=["defaults", "others"])
def test_equations_are_those_of_the_code(name: str, values: dict[str, Any]) -> None:
    check(RULES[name], RULES[name].equations, SWITCHES | values)


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].plain_equations])
def test_plain_equations_are_those_of_the_defaults(name: str) -> None:
    check(RULES[name], RULES[name].plain_equations, {})


def check(rule: Rule, equations: Sequence[str], values: dict[str, Any]) -> None:
    """The equations take the steps of the code at some values."""
    values = rule.defaults | {k: v for k, v in values.items() if k in rule.defaults}
    param, *grads = np.random.default_rng(7).standard_normal((STEPS + 1, 4, 3))
    decay = (0.1, rule.own_decay) if rule.own_decay else (0.0, "l2")
    names = dict.fromkeys(rule.symbols, 0.0) | FUNCTIONS | values
    names |= {"θ": param, "θ_0": param, "z": param, "p": 1.0, "weight_decay": decay[0]}
    for start in re.findall(r"\s{3,}from (\w+ = \w+)", "\n".join(rule.equations)):
        exec(start, names)
    params, state = {"w": param}, initialise_all(rule, {"w": param}, values)
    with np.errstate(invalid="ignore"):  # radam's c before it is used
        for step, grad in enumerate(grads, start=1):
            params, state = apply_all(rule, params, {"w": grad}, state, step, values, *decay)
            names |= {"g": grad, "t": step}
            take_step(equations, names)
            assert relative_error([names["θ"]], [params["w"]]) <= RULE_FLOAT64
