"""Checks of the tuning protocol of a study whose names and values are valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optrial.config import MOST_RUNS, Studies, StudyFile, Tuning
from optrial.errors import Problem, suggest
from optrial.plan.halving import most_rungs
from optrial.plan.samplers import tpe_is_here
from optrial.plan.space import Space, space_of
from optrial.plan.tuning import halved, planned_rungs, trial_count
from optrial.spec import MetricName, undeclared

__all__ = ["check_size", "check_spaces", "check_tuning"]

_COUNTED = 10**18


def check_tuning(study: StudyFile) -> Iterator[Problem]:
    """Yield problems with the way a study chooses settings."""
    if study.tune is None:
        return
    allowed, selected = study.validation_metrics, study.tune.select
    if selected is not None and selected not in allowed:
        reason = f"'{selected}' {_why_not(selected)} {suggest(selected, allowed)}"
        yield Problem("tune.select", reason)
    elif study.selection is None:
        yield Problem("tune.select", f"{undeclared(str(selected))}; {_declared(study, selected)}.")
    if "validation" not in (study.evaluate.on or ("validation",)):
        yield Problem("evaluate.on", "tune chooses on the validation split: add validation.")
    if study.tune.sampler == "tpe" and not tpe_is_here():
        way_out = "pip install 'optrial[tune]', or use sampler: sobol"
        yield Problem("tune.sampler", f"'tpe' needs Optuna, which is not installed: {way_out}.")
    yield from _sampler_problems(study.tune)
    if study.tune.sampler == "halving":
        yield from _halving_problems(study, study.tune)


def _sampler_problems(tuning: Tuning) -> Iterator[Problem]:
    """Yield keys that go with another sampler."""
    if tuning.extend and tuning.sampler != "grid":
        reason = "extend: true needs sampler: grid; for others, widen the ranges"
        yield Problem("tune.extend", f"{reason}.")
    if tuning.sampler != "halving":
        for name in ("eta", "rungs"):
            if (value := getattr(tuning, name)) is not None:
                yield Problem(
                    f"tune.{name}", f"{value}: applies to sampler: halving; leave it out."
                )


def _halving_problems(study: StudyFile, tuning: Tuning) -> Iterator[Problem]:
    """Yield why trials or budget cannot be divided among rungs."""
    trials, eta = halved(tuning)
    most, rungs = most_rungs(trials, eta), tuning.rungs or 2
    if rungs > most:
        needed = eta ** (rungs - 1)
        reason = f"{rungs} rungs with eta {eta} need {_shown(needed)} trials, so that one is left"
        way_out = f"use rungs: {most}, or more trials"
        if most < 2:
            way_out = f"use trials: {needed}, or sampler: random"
        yield Problem("tune.trials", f"{trials}: {reason}; {way_out}.")
    seconds = study.budget.seconds
    if seconds is not None:
        reason = f"halving divides a number of steps, and budget.seconds {seconds:g} has none"
        way_out = "give the budget in steps or epochs, or use sampler: random"
        yield Problem("tune.sampler", f"{reason}; {way_out}.")


def check_size(studies: Studies) -> Iterator[Problem]:
    """Yield that a study whose names and values are valid has too many runs; lists none of them."""
    runs = sum(map(_least_runs, studies.by_name.values()))
    if runs > MOST_RUNS:
        count = _shown(runs)
        most = f"at most {MOST_RUNS:,} are allowed; give fewer values, seeds or trials"
        yield Problem("", f"the study has {count} runs; {most}.")


def _shown(count: int) -> str:
    return f"{count:,}" if count < _COUNTED else f"over {_COUNTED:,}"


def _least_runs(study: StudyFile) -> int:
    """Return the number of runs on one problem before any grid grows."""
    spaces = [space_of(study, entry) for entry in study.optimizers]
    if study.tune is None:
        return len(study.seeds) * sum(int(space.size()) for space in spaces)
    rungs = planned_rungs(study.tune)
    trials = [
        sum(rung.trials for rung in rungs)
        if rungs
        else int(space.size())
        if study.tune.sampler == "grid"
        else trial_count(study.tune, [space])
        for space in spaces
    ]
    return study.tune.seeds * sum(trials) + len(study.seeds) * len(spaces)


def _declared(study: StudyFile, metric: str | None) -> str:
    """Return what to write in the study file to declare the direction of a metric."""
    names = {entry.label: entry.name for entry in study.problem.judges}
    name = names.get(MetricName.parse(str(metric)).label)
    return f"write metrics: [{{name: {name}, better: lower}}], or higher"


def _why_not(selected: str) -> str:
    name = MetricName.parse(selected)
    if name.split == "test":
        return (
            "is measured on the test split, which is for the report alone: a setting chosen by it "
            "looks better there than it is."
        )
    if name.of_training:
        return "is measured on the training split, where the setting that overfits most looks best."
    return "is not a validation metric of this study."


def check_spaces(study: StudyFile) -> Iterator[Problem]:
    """Yield why the axes of a study, each right by itself, cannot be tried as it says."""
    spaces = [space_of(study, entry) for entry in study.optimizers]
    if study.tune is not None and study.tune.sampler != "grid":
        yield from _small_spaces(study.tune, spaces)
        return
    without_size = list(_open_axes(spaces))
    yield from without_size
    if study.tune is not None and not without_size:
        yield from _unequal_grids(study.tune, spaces)


def _open_axes(spaces: Sequence[Space]) -> Iterator[Problem]:
    """Ranges without points, where no sampler chooses from them."""
    way_out = "add points: n, or let a sampler choose with tune: {sampler: sobol}"
    paths = {
        _path(index, name): f"{{{axis.spacing}: {list(axis.values)}}}"
        for index, space in enumerate(spaces)
        for name, axis in space.axes.items()
        if axis.open
    }
    for path, written in paths.items():
        yield Problem(path, f"{written}: a grid needs a number of values; {way_out}.")


def _path(index: int, axis: str) -> str:
    """Return the path in the study file of an axis of the optimizer with this index."""
    if axis == "batch_size":
        return axis
    if axis.startswith("groups["):
        return f"optimizers[{index}].{axis}"
    unit, _, name = axis.rpartition(".")
    if unit == "model":
        return f"problem.model.{name}"
    option = name.replace("clip_", "clip.").replace("sam_", "sam.").replace("average_", "average.")
    return f"optimizers[{index}].{name if unit else option}"


def _unequal_grids(tuning: Tuning, spaces: Sequence[Space]) -> Iterator[Problem]:
    """Yield grids of different sizes, which would give optimizers different numbers of trials."""
    sizes = {space.optimizer: int(space.size()) for space in spaces}
    listed = ", ".join(f"{optimizer} {size}" for optimizer, size in sizes.items())
    most = max(sizes.values())
    if len(set(sizes.values())) > 1:
        way_out = (
            f"give each grid as many, or write ranges as {{log: [first, last]}} and use "
            f"sampler: sobol, trials: {most}, without extend"
        )
        yield Problem("tune", f"equal trials for all, but the grids have {listed}; {way_out}.")
        return
    if tuning.trials not in (None, most):
        way_out = "leave it out, or use sampler: sobol"
        yield Problem("tune.trials", f"{tuning.trials}: the grids have {most} each; {way_out}.")
    stuck = [space.optimizer for space in spaces if not space.growth]
    if tuning.extends and 0 < len(stuck) < len(spaces):
        way_out = "give it two or more values of a numeric hyperparameter, or set extend: false"
        reason = f"{stuck[0]} has nothing to refine when the grid of another grows; {way_out}"
        yield Problem("tune.extend", f"{reason}.")


def _small_spaces(tuning: Tuning, spaces: Sequence[Space]) -> Iterator[Problem]:
    """Optimizers with fewer settings than trials."""
    trials = trial_count(tuning, spaces)
    for space in spaces:
        size = space.size(sampled=True)
        if size < trials:
            has = f"{space.optimizer} has only {int(size)} setting{'s' if size > 1 else ''}"
            way_out = "write a range such as lr: {log: [1.0e-4, 1.0]}, or ask for fewer trials"
            yield Problem("tune.trials", f"{trials}: {has}; {way_out}.")
