"""Changes of a study that several rules propose, in a form that the plan accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from optrial.analysis.audit.context import Context, optimizer_name
from optrial.analysis.audit.finding import Remedy
from optrial.analysis.audit.grids import MOST_WIDER, decades
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.records import Record
from optrial.rules.learning_rates import usual_rates, within_sensible
from optrial.spec import MetricName, Scale, Scales, Status, ordered_alike

TUNING_SEEDS = 3
POINTS = 5  # trials needed per tuned hyperparameter, for up to two of them
DECADES = 3.0  # least width of the learning rates of a search
LARGE_FEATURES = 10.0  # mean or standard deviation; curvature grows with its square
LARGE_TARGETS = 100.0
SMALL_TARGETS = 0.01  # standard deviation
SCALE_FIRST = "scale the data first (E19), which moves the best rates"
SCALE_FREE_LOSSES = ("cross_entropy", "focal", "poisson", "mean_output")
"""Losses of targets that need no scaling: labels, counts or none."""


def validation_remedy(context: Context) -> Remedy:
    """Return the remedy of a validation split; every run is trained again on the rest.

    A grid without `tune` chooses by accuracy, or else by loss. Where another metric is reported, it
    is tuned by that.
    """
    settings: dict[str, Any] = {"evaluate.on": ["validation", "test"]}
    select = MetricName.parse(context.select or "")
    action = "evaluate on a validation split, and choose on it"
    if select.split == "test":
        settings["tune.select"] = str(MetricName(select.label, "validation"))
    elif not context.study.get("tune") and _select(context):
        return tune_apart(context, action)
    if context.study.get("folds"):  # whose validation samples are test samples of other folds
        settings["folds"] = None
        action += ", in a study without folds"
    return context.remedy(action, settings, len(context.records))


def new_seeds(context: Context, action: str) -> Remedy:
    """Return the remedy of reporting as many seeds as now, all of them unused."""
    used = {record.seed for record in context.records}
    count = max((len(set(c.seeds)) for c in context.contenders), default=1)
    first = max(used, default=-1) + 1
    seeds = list(range(first, first + count))
    return context.on_seeds(seeds, seeds, action)


def equal_search(
    context: Context,
    optimizers: Sequence[OptimizerRuns],
    trials: int,
    action: str,
    holding: Mapping[str, Sequence[float]] | None = None,
) -> Remedy:
    """Return the remedy of equally many trials for all, each over its own range of learning rates.

    The trials are quasi-random, so their number does not depend on which other hyperparameters an
    optimizer varies. A range holds what was tried and what is usual for the rule; so does that of a
    group, where several of its rates were tried. A search is the same for all problems of a study:
    its ranges hold the rates tried on any of them, and it has at least as many trials as the
    largest search there. It has five at least: the best of fewer would often lie at the edge of its
    range (A01). Where the learning rate joins other hyperparameters, enough trials for those remain
    enough for both (A05).
    If an optimizer has no learning rate, the remedy has no settings. Data that is not on a unit
    scale comes first.

    Args:
        context: the study.
        optimizers: all optimizers of a problem.
        trials: the least number of trials of each.
        action: what the remedy does.
        holding: path of a learning rate -> further rates that its range holds.
    """
    tune = dict(context.study.get("tune") or {})
    seeds = int(tune.get("seeds") or TUNING_SEEDS)
    seeds = TUNING_SEEDS if seeds == 1 else seeds  # a choice on one seed is a finding (A13)
    everyone = searched(context, optimizers)
    searching = {optimizer.problem for optimizer in everyone}
    if any(unscaled_parts(p.records) for p in context.problems if p.name in searching):
        return context.remedy(SCALE_FIRST)
    if everyone is not optimizers:
        trials = max(trials, *(len(o.tried) for o in everyone))
    enough = [o for o in everyone if o.tuned and len(o.tried) >= trials_needed(o.tuned)]
    trials = max(trials, *(trials_needed({*o.tuned, "lr"}) for o in enough), POINTS)
    ranges = _search_ranges(context, everyone, holding or {})
    settings: dict[str, Any] = {}
    if ranges:
        settings = {path: {"log": [min(r), max(r)]} for path, r in ranges.items()}
        settings["tune"] = {"sampler": "sobol", "trials": trials, "seeds": seeds}
        settings["tune"] |= _select(context)
        settings |= _with_validation(context)
    reported: dict[str, set[int]] = {}
    for optimizer in everyone:
        reported.setdefault(optimizer.problem, set()).update(optimizer.seeds)
    runs = sum(trials * seeds + len(reported[o.problem]) for o in everyone)
    if context.sources:  # every joined study is tuned, or none
        runs *= len(context.problems)
    return context.remedy(action, settings, runs)


def trials_needed(names: Collection[str]) -> int:
    """Return how many trials these hyperparameters need, one or several."""
    return POINTS * (POINTS if len(names) > 1 else 1)


def searched(context: Context, optimizers: Sequence[OptimizerRuns]) -> Sequence[OptimizerRuns]:
    """Return the optimizers that a search concerns, besides those of a problem: of all problems.

    Joined studies are changed one by one.
    """
    several = len(context.problems) > 1 and not context.sources
    return context.optimizers if several else optimizers


def _select(context: Context) -> dict[str, str]:
    """Return the key of `tune` that selects by the reported metric, where the usual one differs."""
    now = str((context.study.get("tune") or {}).get("select"))
    if MetricName.parse(now).split == "validation":
        return {"select": now}
    reported = MetricName.parse(context.report_metric)
    recorded = map(MetricName.parse, context.metrics)
    usual = context.directions.selection(
        str(MetricName(name.label, "validation")) for name in recorded if name.evaluated
    )
    evaluated = reported.split in ("test", "validation")
    if not (usual and evaluated and context.directions.better(context.report_metric)):
        return {}
    if chooses_alike(context, usual.metric, context.report_metric):
        return {}
    return {"select": str(MetricName(reported.label, "validation"))}


def chooses_alike(context: Context, selecting: str, reported: str) -> bool:
    """Return whether one metric orders settings as another does."""
    spec = context.records[0].spec
    loss = "" if spec.loss_arguments else spec.loss
    return ordered_alike(MetricName.parse(selecting).label, MetricName.parse(reported).label, loss)


def _with_validation(context: Context) -> dict[str, Any]:
    """Return the setting that adds the validation split, if it is not evaluated yet."""
    evaluated = context.records[0].spec.evaluate_on
    splits = (context.study.get("evaluate") or {}).get("on") or evaluated
    if splits and "validation" not in splits:
        return {"evaluate.on": ["validation", *splits]}
    return {}


def _search_ranges(
    context: Context, optimizers: Sequence[OptimizerRuns], holding: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Return path -> learning rates that its range holds; empty if an optimizer has no rate.

    No range is much wider than another (A07), and each has `DECADES` at least.
    """
    tuned = [(o, name) for o in optimizers for name in dict.fromkeys(("lr", *o.tuned_rates))]
    paths = [context.value_path(o, name) for o, name in tuned]
    ends = [
        _usual_ends(o, name, holding.get(path, ()))
        for (o, name), path in zip(tuned, paths, strict=True)
    ]
    if not all(ends) or not all(context.path(o.name) for o in optimizers):
        return {}
    least = max(DECADES, *(decades(rates) / MOST_WIDER for rates in ends))
    ranges: dict[str, list[float]] = {}
    for (optimizer, name), path, rates in zip(tuned, paths, ends, strict=True):
        wide = _range_around(optimizer, name, rates, least)
        ranges[path] = [*ranges.get(path, []), *wide]
    return ranges


def _usual_ends(optimizer: OptimizerRuns, name: str, others: Sequence[float]) -> list[float]:
    """Return the ends of what a range holds: rates around those that were tried, and usual ones."""
    tried = [rate for rate in (*optimizer.tuned.get(name, []), *others) if rate > 0]
    rates = list(_widened(min(tried), max(tried), DECADES)) if tried else []
    rate = hyperparameters(optimizer.reported[0]).get(name)
    if name.endswith("lr") and _is_positive(rate):
        rates += usual_rates(optimizer.rule_of(name), rate)
    return [min(rates), max(rates)] if rates else []


def _range_around(
    optimizer: OptimizerRuns, name: str, ends: Sequence[float], least: float
) -> list[float]:
    """Return the ends of a range around these, at least so many decades wide.

    It is shifted into the sensible range, unless that would leave out a rate that was reported and
    did not fail, or the range is one of factors of another rate.
    """
    wide = _widened(ends[0], ends[1], least)
    if name.endswith("lr"):
        sensible = within_sensible(*wide, optimizer.rule_of(name))
        rate = hyperparameters(optimizer.reported[0]).get(name)
        works = any(record.status is Status.DONE for record in optimizer.reported)
        if not (_is_positive(rate) and works and not sensible[0] <= rate <= sensible[1]):
            wide = sensible
    return [_outward(wide[0], -1), _outward(wide[1], 1)]


def _outward(end: float, side: int) -> float:
    """Return an end of a range with three digits, such that the range still holds it."""
    short = float(f"{end:.3g}")
    unit = 10.0 ** (math.floor(math.log10(end)) - 2)
    return short if side * (short - end) >= -1e-9 * end else float(f"{short + side * unit:.3g}")


def _widened(low: float, high: float, least: float) -> tuple[float, float]:
    """Return a range that is at least so many decades wide, with the same middle."""
    missing = max(0.0, least - math.log10(high / low)) / 2
    return low * 10**-missing, high * 10**missing


def _is_positive(rate: object) -> TypeGuard[int | float]:
    return isinstance(rate, int | float) and rate > 0


def tune_apart(context: Context, action: str) -> Remedy:
    """Return the remedy of tuning on separate seeds; existing runs serve as the report."""
    sizes = {len(o.tried) for o in context.optimizers}
    if len(sizes) > 1:
        return equal_search(context, context.optimizers, max(sizes), action)
    tune = {
        "seeds": TUNING_SEEDS,
        "extend": False,
        **_select(context),
    }  # A01 proposes values that are missing
    runs = TUNING_SEEDS * sum(len(o.tried) for o in context.optimizers)
    validation = _with_validation(context)
    if validation:  # the results are then those of other training samples
        runs += sum(len(o.seeds) for o in context.optimizers)
    return context.remedy(action, {"tune": tune, **validation}, runs)


def added_runs(optimizer: OptimizerRuns, name: str, values: Sequence[float]) -> int:
    """Return how many trials are new if a hyperparameter takes these values."""
    tried = optimizer.tuned[name]
    return len(set(values) - set(tried)) * len(optimizer.trials) // len(tried)


def balanced(
    context: Context, optimizers: Iterable[OptimizerRuns], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return new values of hyperparameters, or nothing if they make grids of a tuning unequal.

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
        path = context.path(optimizer.name)
        tried = {context.value_path(optimizer, name): v for name, v in optimizer.tuned.items()}
        for name, values in settings.items():
            if name.startswith(f"{path}."):
                size = size / len(tried.get(name, [0.0])) * len(values)
        sizes.add(size)
    return dict(settings) if len(sizes) == 1 else {}


def scaling_remedy(context: Context, records: Sequence[Record]) -> Remedy | None:
    """Return the remedy of scaling the data of runs; None if it is on a unit scale."""
    unscaled = unscaled_parts(records)
    if not unscaled:
        return None
    settings: dict[str, Any] = {}
    if "targets" in unscaled:
        settings["problem.dataset.standardize_targets"] = True
    if "features" in unscaled:
        arguments = records[0].spec.dataset_arguments
        fixed = [key for key in ("mean", "std") if arguments.get(key) is not None]
        settings |= {f"problem.dataset.{key}": None for key in fixed}
        settings["problem.dataset.scale"] = "standardize"
    unit = ", with losses and metrics in standard deviations of the targets"
    action = f"standardize the {' and the '.join(unscaled)}{unit * ('targets' in unscaled)}"
    action += "; the best rates change, so audit again"
    remedy = context.remedy(action, settings, len(records), records)
    problem = next(p for p in context.problems if p.name == records[0].problem)
    return context.with_enough_seeds(remedy, problem)


def unscaled_parts(records: Sequence[Record]) -> dict[str, Scale]:
    """Return the scales of features and targets of one problem that are far from 1."""
    scales = next((r.facts.scale for r in records if r.facts.scale), Scales())
    inputs, targets = scales.inputs, scales.targets
    unscaled = {}
    tokens = inputs and inputs.whole and ":" in records[0].spec.model
    if inputs and not tokens and max(inputs.mean, inputs.std) > LARGE_FEATURES:
        unscaled["features"] = inputs
    if targets and _depends_on_scale(records) and _is_unscaled(targets):
        unscaled["targets"] = targets
    return unscaled


def _is_unscaled(targets: Scale) -> bool:
    return max(targets.mean, targets.std) > LARGE_TARGETS or 0 < targets.std < SMALL_TARGETS


def _depends_on_scale(records: Sequence[Record]) -> bool:
    """Return True if the scale of targets matters; for a user-defined loss, if runs diverged."""
    loss = records[0].spec.loss
    if ":" in loss:
        return any(record.status is Status.DIVERGED for record in records)
    return loss not in SCALE_FREE_LOSSES


def on_problems(context: Context, remedy: Remedy, records: Iterable[Record]) -> Remedy:
    """Return a remedy whose settings change the problems of some runs.

    Of joined studies, the remedy names those to change. In a study of several problems, a path
    begins with ``problem.NAME`` where the problem has its own key, or where an optimizer
    changes on some of the problems only. A search is the same for all problems.
    """
    entries = context.study.get("problem") or {}
    affected = dict.fromkeys(record.problem for record in records)
    if context.sources:
        return _on_studies(remedy, context.sources, affected or context.sources)
    if "tune" in remedy.settings:
        affected = {}
    names = [name for name in affected or entries if isinstance(entries.get(name), Mapping)]
    if len(context.problems) < 2 or not names:
        return remedy
    settings = {
        place: value
        for path, value in remedy.settings.items()
        for place in _places(context, path, names)
    }
    return replace(remedy, settings=settings)


def _on_studies(remedy: Remedy, sources: Mapping[str, str], problems: Iterable[str]) -> Remedy:
    """Return a remedy of joined studies, with settings if each of them can have these.

    A study of several problems needs other paths, and claims are about problems that are renamed.
    """
    studies = tuple(dict.fromkeys(sources[problem] for problem in problems))
    of_one_problem = all(list(sources.values()).count(study) == 1 for study in studies)
    settings = remedy.settings if of_one_problem and "claims" not in remedy.settings else {}
    return replace(remedy, settings=settings, studies=studies)


def _places(context: Context, path: str, names: Sequence[str]) -> Iterator[str]:
    """Yield where a study of several problems has the setting of a study of one."""
    entries = context.study["problem"]
    key = re.split(r"[.\[]", path, maxsplit=1)[0]
    replacing = [entry for entry in entries.values() if key in entry]
    if key == "optimizers":
        optimizer, _, name = path.removeprefix(key).rpartition(".")
        if index := re.fullmatch(r"\[(\d+)\]", optimizer):
            optimizer = f"[{optimizer_name(context.study['optimizers'][int(index[1])])}]"
        label = optimizer.strip(".[]")
        replacing = [e for e in replacing if name in e["optimizers"].get(label, ())]
        if len(names) < len(entries) or replacing:
            path = f"optimizers{optimizer}.{name}"
            replacing = list(entries.values())
    for problem in names if replacing or key == "problem" else ():
        plain = re.fullmatch(r"[^.\[\]=]+", problem)
        root = f"problem.{problem}" if plain else f"problem[{problem}]"
        yield f"{root}{path.removeprefix('problem')}" if key == "problem" else f"{root}.{path}"
    if not replacing and key != "problem":
        yield path
