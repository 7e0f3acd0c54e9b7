"""Changes of a study that several rules propose, made so that the plan accepts them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Remedy
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.learning_rates import usual_rates, within_sensible

__all__ = [
    "balanced",
    "equal_search",
    "new_seeds",
    "tune_apart",
    "validation_remedy",
    "with_validation",
]

TUNING_SEEDS = 3


def with_validation(context: Context) -> dict[str, Any]:
    """Return the setting by which the validation split is evaluated too; none if it is already."""
    splits = (context.study.get("evaluate") or {}).get("on")
    if splits and "validation" not in splits:
        return {"evaluate.on": ["validation", *splits]}
    return {}


def validation_remedy(context: Context) -> Remedy:
    """Return the remedy of a validation split; it has to be carved off, so that all is trained."""
    settings: dict[str, Any] = {"evaluate.on": ["validation", "test"]}
    if str(context.select).startswith("test"):
        settings["tune.select"] = str(context.select).replace("test", "validation")
    action = "evaluate on a validation split, and choose on it"
    return context.remedy(action, settings, len(context.records))


def new_seeds(context: Context, action: str) -> Remedy:
    """Return the remedy of reporting as many seeds as there are, none of which was used."""
    used = {record.seed for record in context.compared}
    count = max((len(set(c.seeds)) for c in context.contenders), default=1)
    first = max(used, default=-1) + 1
    fresh = list(range(first, first + count))
    return context.remedy(action, {"seeds": fresh}, count * len(context.contenders))


def equal_search(
    context: Context, optimizers: Sequence[OptimizerRuns], trials: int, action: str
) -> Remedy:
    """Return the remedy of equally many trials for all, over a range of learning rates of its own.

    Quasi-random trials, because they are equally many whatever else an optimizer varies. Where an
    optimizer has no learning rate only the action is said.
    """
    tune = dict(context.study.get("tune") or {})
    seeds = int(tune.get("seeds") or TUNING_SEEDS)
    ranges = {context.entry(o.name)[0]: _rate_range(o) for o in optimizers}
    settings: dict[str, Any] = {
        f"{path}.lr": {"log": ends} for path, ends in ranges.items() if ends
    }
    if len(settings) < len(optimizers) or "" in ranges:
        settings = {}
    else:
        settings["tune"] = {"sampler": "sobol", "trials": trials, "seeds": seeds}
        if str(tune.get("select")).startswith("validation"):
            settings["tune"]["select"] = tune["select"]
        settings |= with_validation(context)
    reported = len({seed for o in optimizers for seed in o.seeds})
    return context.remedy(action, settings, (trials * seeds + reported) * len(optimizers))


def _rate_range(optimizer: OptimizerRuns) -> list[float]:
    """Return the ends of a range of learning rates: what was tried, at least three decades."""
    tried = [rate for rate in optimizer.tuned.get("lr", []) if rate > 0]
    rate = hyperparameters(optimizer.reported[0]).get("lr")
    if tried:
        ends = (tried[0], tried[-1])
    elif isinstance(rate, int | float) and rate > 0:
        ends = usual_rates(optimizer.rule, rate)
    else:
        return []
    low, high = math.log10(ends[0]), math.log10(ends[1])
    missing = max(0.0, 3 - (high - low)) / 2
    wide = within_sensible(10 ** (low - missing), 10 ** (high + missing), optimizer.rule)
    return [float(f"{end:.3g}") for end in wide]


def tune_apart(context: Context, optimizers: Sequence[OptimizerRuns], action: str) -> Remedy:
    """Return the remedy of tuning with seeds of its own; the runs there are serve as the report."""
    sizes = {len(o.tried) for o in context.optimizers}
    if len(sizes) > 1:
        return equal_search(context, context.optimizers, max(sizes), action)
    tune: dict[str, Any] = {"seeds": TUNING_SEEDS}
    if not all(o.tuned for o in context.optimizers):
        tune["extend"] = False  # there is nothing to extend
    runs = TUNING_SEEDS * sum(len(o.tried) for o in optimizers)
    return context.remedy(action, {"tune": tune, **with_validation(context)}, runs)


def balanced(
    context: Context, optimizers: Iterable[OptimizerRuns], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return new values of hyperparameters, or nothing where grids that tune would become unequal.

    Args:
        context: the study.
        optimizers: all optimizers of a problem.
        settings: path of a hyperparameter -> its new values.
    """
    tune = context.study.get("tune")
    if not tune or tune.get("sampler", "grid") != "grid":
        return dict(settings)
    sizes = set()
    for optimizer in optimizers:
        size = float(len(optimizer.tried))
        path, _ = context.entry(optimizer.name)
        for name, values in settings.items():
            if name.startswith(f"{path}."):
                before = len(optimizer.tuned.get(name.removeprefix(f"{path}."), [0.0]))
                size = size / before * len(values)
        sizes.add(size)
    return dict(settings) if len(sizes) == 1 else {}
