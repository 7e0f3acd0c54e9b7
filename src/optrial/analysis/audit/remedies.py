"""Changes of a study that several rules propose, made so that the plan accepts them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optrial.analysis.audit.context import Contender, Context, hyperparameters
from optrial.analysis.audit.families import update_scale
from optrial.analysis.audit.finding import Remedy

__all__ = ["balanced", "equal_search", "tune_apart", "with_validation"]

TUNING_SEEDS = 3
_USUAL = {"the gradient": (0.001, 1.0), "the learning rate alone": (0.0001, 0.1)}


def with_validation(context: Context) -> dict[str, Any]:
    """Return the setting by which the validation split is evaluated too; none if it is already."""
    splits = (context.study.get("evaluate") or {}).get("on")
    if splits and "validation" not in splits:
        return {"evaluate.on": ["validation", *splits]}
    return {}


def equal_search(
    context: Context, contenders: Sequence[Contender], trials: int, action: str
) -> Remedy:
    """Return the remedy of equally many trials for all, over a range of learning rates of its own.

    Quasi-random trials, because they are equally many whatever else an optimizer varies. Where an
    optimizer has no learning rate only the action is said.
    """
    tune = dict(context.study.get("tune") or {})
    seeds = int(tune.get("seeds") or TUNING_SEEDS)
    ranges = {context.entry(c.optimizer)[0]: _rate_range(c) for c in contenders}
    settings: dict[str, Any] = {
        f"{path}.lr": {"log": ends} for path, ends in ranges.items() if ends
    }
    if len(settings) < len(contenders) or "" in ranges:
        settings = {}
    else:
        settings["tune"] = {"sampler": "sobol", "trials": trials, "seeds": seeds}
        if str(tune.get("select")).startswith("validation"):
            settings["tune"]["select"] = tune["select"]
        settings |= with_validation(context)
    reported = len({seed for c in contenders for seed in c.seeds})
    return context.remedy(action, settings, (trials * seeds + reported) * len(contenders))


def _rate_range(contender: Contender) -> list[float]:
    """Return the ends of a range of learning rates: what was tried, at least three decades."""
    tried = [rate for rate in contender.tuned.get("lr", []) if rate > 0]
    rate = hyperparameters(contender.reported[0]).get("lr")
    if tried:
        ends = (tried[0], tried[-1])
    elif isinstance(rate, int | float) and rate > 0:
        ends = _USUAL.get(update_scale(contender.rule), (rate / 30, rate * 30))
    else:
        return []
    low, high = math.log10(ends[0]), math.log10(ends[1])
    missing = max(0.0, 3 - (high - low)) / 2
    return [float(f"{10**end:.3g}") for end in (low - missing, high + missing)]


def tune_apart(context: Context, contenders: Sequence[Contender], action: str) -> Remedy:
    """Return the remedy of tuning with seeds of its own; the runs there are serve as the report."""
    sizes = {len(c.tried) for c in context.contenders}
    if len(sizes) > 1:
        return equal_search(context, context.contenders, max(sizes), action)
    tune: dict[str, Any] = {"seeds": TUNING_SEEDS}
    if not all(c.tuned for c in context.contenders):
        tune["extend"] = False  # there is nothing to extend
    runs = TUNING_SEEDS * sum(len(c.tried) for c in contenders)
    return context.remedy(action, {"tune": tune, **with_validation(context)}, runs)


def balanced(
    context: Context, contenders: Iterable[Contender], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return new values of hyperparameters, or nothing where grids that tune would become unequal.

    Args:
        context: the study.
        contenders: all optimizers of a problem.
        settings: path of a hyperparameter -> its new values.
    """
    tune = context.study.get("tune")
    if not tune or tune.get("sampler", "grid") != "grid":
        return dict(settings)
    sizes = set()
    for contender in contenders:
        size = float(len(contender.tried))
        path, _ = context.entry(contender.optimizer)
        for name, values in settings.items():
            if name.startswith(f"{path}."):
                before = len(contender.tuned.get(name.removeprefix(f"{path}."), [0.0]))
                size = size / before * len(values)
        sizes.add(size)
    return dict(settings) if len(sizes) == 1 else {}
