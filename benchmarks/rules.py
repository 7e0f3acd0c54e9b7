"""Time one step of every rule and modifier per parameter, beside Adam.

    python benchmarks/rules.py [--engine stacked|numpy] [--rounds 9] [NAME ...]

A step of a transformer's layer of 512 × 512 with its bias, one thread, float32, without forward and
backward pass: `stacked` in PyTorch as in a stack of one run, `numpy` on arrays. Modifiers are timed
with Adam as their rule. Rounds alternate between all of them; the fastest round of CPU time counts,
because other programs can only slow a round down.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from optrial.engine.process import keep_freed_memory
from optrial.explain.cost import kept_arrays
from optrial.rules import MODIFIERS, RULES, Rule, apply_all, initialise_all, modified

SHAPES = {"weight": (512, 512), "bias": (512,)}
PARAMETERS = 512 * 512 + 512
STEPS = 10  # a multiple of the steps between updates of SOAP's bases


def contenders() -> Iterator[tuple[str, Rule]]:
    """Yield every rule, and Adam with every modifier, by name; Adam first."""
    yield "adam", RULES["adam"]
    yield from ((name, rule) for name, rule in RULES.items() if name != "adam")
    for name in MODIFIERS:
        code = "grafting(sgd)" if name == "grafting" else name
        yield f"adam + {code}", modified(RULES["adam"], (code,))


def steps_of(rule: Rule, engine: str) -> Callable[[], None]:
    """Return a function that takes a few steps with the rule, updating its state."""
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    stacked = engine == "stacked"
    params = {n: torch.tensor(a)[None, None] if stacked else a for n, a in arrays.items()}
    grads = {name: 0.1 * param for name, param in params.items()}
    values: dict[str, Any] = rule.defaults
    lead = 2 if stacked else 0
    if stacked:
        values = {name: torch.full((1, 1), float(value)) for name, value in values.items()}
    state = initialise_all(rule, params, values, lead=lead)
    decay = 0.01 if rule.default_decay == "decoupled" else 0.0
    taken = 0

    def take() -> None:
        nonlocal params, state, taken
        for _ in range(STEPS):
            taken += 1
            step = torch.tensor(float(taken)) if stacked else taken
            params, state = apply_all(
                rule,
                params,
                grads,
                state,
                step,
                values,
                decay,
                rule.default_decay,
                lead=lead,
                curvature=grads,
            )

    return take


def measure(rules: dict[str, Rule], engine: str, rounds: int) -> dict[str, list[float]]:
    """Return seconds per step of each rule in every round."""
    runs = {name: steps_of(rule, engine) for name, rule in rules.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for number in range(rounds + 1):
        for name, take in runs.items():
            start = time.thread_time()
            take()
            if number:  # the first round warms up
                seconds[name].append((time.thread_time() - start) / STEPS)
    return seconds


def main() -> None:
    """Print nanoseconds per parameter, the ratio to Adam and the numbers kept per parameter."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="rules and modifiers; all by default")
    parser.add_argument("--engine", choices=["stacked", "numpy"], default="stacked")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in a training
    known = dict(contenders())
    wanted = {name for name in known if name.rpartition(" + ")[2] in arguments.names}
    rules = {n: rule for n, rule in known.items() if not wanted or n in {*wanted, "adam"}}
    seconds = measure(rules, arguments.engine, arguments.rounds)
    print("rule                        ns per parameter    × adam    kept per parameter")
    for name, rule in rules.items():
        ratio = min(seconds[name]) / min(seconds["adam"])
        nanoseconds = 1e9 * min(seconds[name]) / PARAMETERS
        print(f"{name:<28}{nanoseconds:>16.2f}{ratio:>10.2f}{kept_arrays(rule):>22.2f}")


if __name__ == "__main__":
    main()
