"""Trains one run of each optimizer while its learning rate grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from optrial.data import Dataset
from optrial.engine import Engines, process_for
from optrial.errors import Problem, StudyError
from optrial.lr_range.curves import Floats, LrRange, RateCurve
from optrial.plan import Plan
from optrial.rules.learning_rates import sensible_rates
from optrial.spec import RunSpec

__all__ = ["measure_lr_range"]

_SEED = 2_000_000  # neither of a report nor of tuning
_LEAST_STEPS, _MOST_STEPS = 30, 100_000
_LEAST_RATE, _MOST_RATE = 1e-30, 1e30

Progress = Callable[[str, int, int], None]
"""Called with the name of an optimizer, the number of curves so far and their total."""


def measure_lr_range(
    plan: Plan,
    dataset: Dataset,
    *,
    low: float = 1e-6,
    high: float | None = None,
    steps: int = 200,
    device: str = "auto",
    progress: Progress = lambda name, done, total: None,  # noqa: ARG005
) -> LrRange:
    """Train each optimizer for some steps, with a learning rate that grows by a constant factor.

    Smith 2017 (arXiv 1506.01186), with the exponential growth of later libraries. Of the settings
    that a study varies, each is tried once, whatever its learning rate. The training split alone is
    used, with a seed that the study does not use.

    Args:
        plan: runs on one problem.
        dataset: data of that problem.
        low: learning rate of the first step.
        high: learning rate of the last step; None for 1 or 100, as the rule scales its steps.
        steps: number of steps.
        device: "auto", "cpu" or "cuda".
        progress: called before each curve.

    Raises:
        StudyError: a value is out of its range, or an optimizer has no learning rate.
    """
    _check(low, high, steps)
    runs = list(_distinct(plan))
    seed = next(s for s in range(_SEED, 2**32) if all(run.seed != s for run in plan.runs))
    engines = Engines(dataset, plan.runs[0].precision, device)
    lasts = [_last(run, low, high) for run, _ in runs]
    curves = []
    for done, ((run, setting), last) in enumerate(zip(runs, lasts, strict=True)):
        progress(run.optimizer, done, len(runs))
        rates = np.geomspace(low, last, steps)
        curves.append(RateCurve(run.optimizer, setting, rates, _losses(run, seed, rates, engines)))
    progress("", len(runs), len(runs))
    return LrRange(plan.name, seed, curves)


def _check(low: float, high: float | None, steps: int) -> None:
    problems = []
    if not _LEAST_RATE <= low < _MOST_RATE:
        allowed = f"must be a number from {_LEAST_RATE:g} to {_MOST_RATE:g}"
        problems.append(Problem("low", f"{low!r}: {allowed}; leave it out for 1e-06."))
    elif high is not None and not low < high <= _MOST_RATE:
        allowed = f"must be a number above low, {low:g}, and up to {_MOST_RATE:g}"
        problems.append(Problem("high", f"{high!r}: {allowed}; leave it out for 1 or 100."))
    if not _LEAST_STEPS <= steps <= _MOST_STEPS:
        allowed = f"must be a whole number from {_LEAST_STEPS} to {_MOST_STEPS:,}"
        problems.append(Problem("steps", f"{steps}: {allowed}."))
    if problems:
        raise StudyError(problems, source="the range test")


def _last(run: RunSpec, low: float, high: float | None) -> float:
    """Return the learning rate of the last step of a run.

    Raises:
        StudyError: it is not above that of the first step.
    """
    last = sensible_rates(run.rule)[1] if high is None else high
    if not low < last:
        reason = f"{low:g}: must be below {last:g}, where {run.optimizer} ends; or give high, too."
        raise StudyError([Problem("low", reason)], source="the range test")
    return last


def _distinct(plan: Plan) -> Iterator[tuple[RunSpec, str]]:
    """Yield one run per optimizer and setting besides the learning rate, with that setting."""
    known = set()
    for run in plan.runs:
        if "lr" not in run.hyperparameters:
            reason = f"{run.optimizer} has no lr; give it one, or leave it out."
            raise StudyError([Problem("optimizers", reason)], source="the range test")
        others = {name: v for name, v in run.hyperparameters.items() if name != "lr"}
        fields = run.as_dict() | {"hyperparameters": others, "seed": 0}
        key = json.dumps(fields, sort_keys=True)
        if key not in known:
            known.add(key)
            values = plan.settings[run.run_id].split()
            yield run, " ".join(value for value in values if not value.startswith("lr="))


def _losses(run: RunSpec, seed: int, rates: Floats, engines: Engines) -> Floats:
    """Return the losses at growing rates, up to the first that is not finite."""
    low, steps = float(rates[0]), len(rates)
    factor = float((rates[-1] / rates[0]) ** (1 / (steps - 1)))
    share = low / float(run.hyperparameters["lr"])
    groups = tuple(
        group._replace(
            hyperparameters={
                name: share * value if name == "lr" else value
                for name, value in group.hyperparameters.items()
            },
            schedule=None,
        )
        for group in run.groups
    )
    grown = replace(
        run,
        seed=seed,
        steps=steps,
        hyperparameters={**run.hyperparameters, "lr": low},
        schedule={"kind": "exponential", "factor": factor, "warmup": 0},
        groups=groups,
        loss_limit=None,
        early_stopping=None,
        budget_seconds=None,
        average=None,
        probes=None,
        save=None,
        select=None,
    )
    learner = engines.build("reference", [grown])
    with process_for(learner):
        learner.start(1)
        losses = learner.advance(steps).losses[:, 0]
    return losses[np.isfinite(losses)]
