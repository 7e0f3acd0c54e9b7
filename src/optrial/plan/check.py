"""Checks of a study that need no data: names, values and their combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optrial.code import identity_problem, is_code, load_code
from optrial.config import (
    FUNCTION_KEYS,
    ONE_VALUE,
    Component,
    GroupEntry,
    OptimizerEntry,
    ProblemEntry,
    StudyFile,
)
from optrial.data import DATASETS, check_dataset
from optrial.errors import Problem, listed, shown, suggest
from optrial.functions import FUNCTIONS
from optrial.models import MODELS, check_loss, check_metric, check_model, requires_closure
from optrial.plan.check_entry import entry_problems
from optrial.plan.optimizers import rule_of
from optrial.plan.protocol import check_spaces, check_tuning
from optrial.plan.space import model_axes
from optrial.plan.warmups import script_problems
from optrial.rules import needs_steps
from optrial.spec import PROBES, MetricName, catalogued, undeclared
from optrial.target_kinds import IGNORE_INDEX, Targets, targets_of

__all__ = [
    "check_study",
    "code_in",
    "ignore_index",
    "schedules_in",
    "targets_wanted",
    "tokenizer_in",
    "validation_wanted",
]


def check_study(study: StudyFile) -> list[Problem]:
    """Return every problem with the names and values of a study on one problem."""
    problems = [problem.under("problem.dataset") for problem in _dataset_problems(study)]
    problems += [problem.under("problem.model") for problem in _model_problems(study.problem.model)]
    problems += _objective_problems(study.problem)
    problems += _noise_problems(study.problem)
    labels: dict[str, int] = {}
    for index, entry in enumerate(study.optimizers):
        path = f"optimizers[{index}]"
        problems += [problem.under(path) for problem in entry_problems(entry)]
        if entry.label in labels:
            taken = f"'{entry.label}' is already the name of optimizers[{labels[entry.label]}]"
            problems.append(Problem(f"{path}.name", f"{taken}; give each entry its own name."))
        labels.setdefault(entry.label, index)
    problems += _identity_problems(study)
    problems += _probe_problems(study)
    problems += _combination_problems(study)
    problems += _fold_problems(study)
    problems += _seconds_problems(study) if not problems else ()
    problems += _script_problems(study) if not problems else ()
    problems += check_tuning(study)
    return problems or list(check_spaces(study))  # which have to be sound to be compared


def _dataset_problems(study: StudyFile) -> Iterator[Problem]:
    name, arguments = study.problem.dataset.name, study.problem.dataset.arguments

    def problems_with(replaced: Mapping[str, Any]) -> list[Problem]:
        return check_dataset(name, {**arguments, **replaced}, targets=targets_wanted(study))

    for problem in problems_with({}):
        key = problem.path
        values = arguments.get(key)
        if isinstance(values, list) and len(values) > 1:
            others = [wrong.path for value in values for wrong in problems_with({key: value})]
            if key not in others:
                yield Problem(key, f"{shown(values)}: {ONE_VALUE}.")
                continue
        yield problem


def code_in(study: StudyFile) -> dict[str, str]:
    """Return the names of user code, by their place in the study."""
    problem = study.problem
    names = {
        "problem.dataset.name": problem.dataset.name,
        "problem.dataset.tokens": tokenizer_in(problem.dataset.name, problem.dataset.arguments),
        "problem.model.factory": problem.model.name,
        "problem.loss.name": problem.loss.name,
        **{f"problem.metrics[{i}]": entry.name for i, entry in enumerate(problem.metrics or ())},
        **{f"optimizers[{i}].{entry.kind}": entry.code for i, entry in enumerate(study.optimizers)},
        **{
            f"optimizers[{i}].groups[{n}].{group.kind}": group.code
            for i, entry in enumerate(study.optimizers)
            for n, group in enumerate(entry.groups or ())
        },
        **{f"{path}.kind": str(s.get("kind")) for path, s in schedules_in(study).items()},
    }
    return {path: name for path, name in names.items() if is_code(name)}


def tokenizer_in(dataset: str, arguments: Mapping[str, object]) -> str:
    """Return the name of the tokenizer of a text, or ""."""
    return str(arguments.get("tokens", "")) if dataset in DATASETS else ""


def _identity_problems(study: StudyFile) -> Iterator[Problem]:
    """Refuse code that cannot be identified: different runs would share an id."""
    names = {"problem.model.factory": study.problem.model.name}
    names["problem.loss.name"] = study.problem.loss.name
    names |= {f"problem.metrics[{i}]": m.name for i, m in enumerate(study.problem.metrics or ())}
    names |= {path: name for path, name in code_in(study).items() if path.endswith(".torch")}
    for path, name in names.items():
        if is_code(name) and (reason := identity_problem(name)):
            yield Problem(path, reason)


def _probe_problems(study: StudyFile) -> Iterator[Problem]:
    if study.probes is None:
        return
    if study.engine == "numpy":
        yield Problem("probes", "the numpy engine measures none; use engine: auto or reference.")
    for index, name in enumerate(study.probes.measure):
        if name not in PROBES:
            known = suggest(name, PROBES)
            yield Problem(f"probes.measure[{index}]", f"'{name}' is not a probe. {known}")
        elif PROBES[name].gradients and study.accumulate > 1:
            reason = f"{name} is measured on one batch, and a step has {study.accumulate}"
            yield Problem(f"probes.measure[{index}]", f"{reason}; use accumulate: 1.")


def targets_wanted(study: StudyFile) -> Targets:
    """Return the targets that the loss takes; for a user-defined loss, those of the metrics."""
    of_loss = targets_of(study.problem.loss.name)
    metrics = [catalogued(entry.name) for entry in study.problem.metrics or ()]
    taken = {metric.targets for metric in metrics if metric}
    if of_loss != "any" or not taken & {"labels", "values"}:
        return of_loss
    return "classes" if "labels" in taken else "values"


def ignore_index(study: StudyFile) -> int:
    """Return the label of the positions that do not count."""
    index = study.problem.loss.arguments.get("ignore_index", IGNORE_INDEX)
    return index if isinstance(index, int) else IGNORE_INDEX


def validation_wanted(study: StudyFile) -> bool:
    """Return whether the study needs a validation split."""
    named = "validation" in (study.evaluate.on or ())
    used = (study.save == "best", study.tune is not None, study.early_stopping is not None)
    return named or any(used) or bool(_plateaus(study))


def _model_problems(model: Component) -> list[Problem]:
    if model.name not in MODELS and not is_code(model.name):
        return check_model(model.name, {})
    try:
        axes = model_axes(model)
    except ValueError as error:
        return [Problem("", f"{error}.")]
    if is_code(model.name):
        return check_model(model.name, {name: axis.values[0] for name, axis in axes.items()})
    problems: dict[Problem, None] = {}
    firsts = {name: axis.values[0] for name, axis in axes.items()}
    also = FUNCTION_KEYS if model.name == "function" else ()
    for name, axis in axes.items():
        others = {other: value for other, value in firsts.items() if other != name}
        of_others = check_model(model.name, others)
        wrong = [
            problem
            for value in axis.values
            for problem in check_model(model.name, {**firsts, name: value}, also)
            if problem not in of_others
        ]
        if wrong and all(problem.message.endswith("must be a list.") for problem in wrong):
            # Not values of an axis: a list of the right kind with something wrong in it.
            wrong = check_model(model.name, {name: model.arguments[name]})
        problems |= dict.fromkeys(wrong)
    return list(problems)


def _noise_problems(problem: ProblemEntry) -> Iterator[Problem]:
    """Refuse a function that is defined with noise but is given none."""
    name = problem.model.arguments.get("function")
    function = FUNCTIONS.get(name) if isinstance(name, str) else None
    if function and function.noise and "noise" not in problem.dataset.arguments:
        usual = f"give noise: {function.noise:g} and n_samples: 1000, and the study a batch_size: 1"
        yield Problem("problem.noise", f"'{name}' is defined with noise; {usual}.")


def _objective_problems(problem: ProblemEntry) -> Iterator[Problem]:
    for message in check_loss(problem.loss.name, problem.loss.arguments):
        yield message.under("problem.loss")
    taken = dict.fromkeys(_possible_names("loss"), "the loss")
    for index, entry in enumerate(problem.metrics or ()):
        path = f"problem.metrics[{index}]"
        if reason := check_metric(entry.name):
            yield Problem(path, reason)
            continue
        names = _possible_names(entry.label)
        if both := sorted(names & taken.keys()):
            yield Problem(
                path,
                f"'{entry.label}' and {taken[both[0]]} would both be recorded as {both[0]}; rename "
                "the function, or leave one of them out.",
            )
        taken |= dict.fromkeys(names, f"'{entry.label}' of problem.metrics[{index}]")
        if entry.better and not entry.is_code:
            yield Problem(
                f"{path}.better", f"{entry.name} is better {entry.direction} anyway; leave it out."
            )


def _possible_names(label: str) -> set[str]:
    return {str(name) for name in MetricName.possible(label)}


def _script_problems(study: StudyFile) -> Iterator[Problem]:
    for index, entry in enumerate(study.optimizers if study.rng == "script" else ()):
        yield from (problem.under(f"optimizers[{index}]") for problem in script_problems(entry))


def _combination_problems(study: StudyFile) -> Iterator[Problem]:
    """Yield values that are valid alone but not together."""
    if study.budget.steps == 0 and not study.evaluate.start:
        yield Problem(
            "budget.steps",
            "0: trains nothing; give 1 or more, or evaluate the initial weights with "
            "evaluate: {start: true}.",
        )
    without = {"tune": "tune: null", "claims": "claims: []"}
    asked = [key for key in without if getattr(study, key)]
    if study.budget.steps == 0 and asked:
        yield Problem(
            "budget.steps",
            f"0: trains nothing, so that {' and '.join(asked)} would say nothing of an optimizer; "
            f"give 1 or more, or {' and '.join(without[key] for key in asked)}.",
        )
    if study.rng == "script":
        if study.engine not in ("auto", "reference"):
            yield Problem("rng", f"'script' needs engine: reference, not {study.engine}.")
        if study.sampling == "with_replacement":
            yield Problem("sampling", "'with_replacement' needs rng: streams, not script.")
        if "augment" in study.problem.dataset.arguments:
            yield Problem("problem.dataset.augment", "needs rng: streams, not script.")
    if study.sampling == "with_replacement" and not study.shuffle:
        yield Problem("shuffle", "false needs sampling: epoch; drawing with replacement is random.")
    for index, entry in enumerate(study.optimizers):
        yield from _sam_problems(study, entry, index)
        yield from _curvature_problems(study, entry, index)
        yield from _vector_problems(study, entry, index)
        if entry.create_graph and not study.zero_grad:
            message = (
                "true needs zero_grad: true; gradients that add up keep the graph of every step."
            )
            yield Problem(f"optimizers[{index}].create_graph", message)
    if study.save == "best" and "validation" not in (study.evaluate.on or ("validation",)):
        yield Problem(
            "save", "'best' means best on the validation split: add validation to evaluate.on."
        )
    yield from _validation_problems(study)
    points = study.problem.dataset.arguments.get("n_samples", 1)
    if study.problem.model.name == "function" and validation_wanted(study) and points == 1:
        message = "1: a validation split needs 2 points or more, and noise that displaces them."
        yield Problem("problem.n_samples", message)
    if study.engine == "numpy":
        yield from _beyond_numpy(study)


def _fold_problems(study: StudyFile) -> Iterator[Problem]:
    """Yield what does not go with a cross-validation."""
    if study.folds is None:
        return
    written = f"{study.folds.count}"
    if study.problem.model.name == "function":
        yield Problem("folds", f"{written}: a function has no samples to divide; remove folds.")
    if study.tune is not None:
        yield Problem(
            "folds",
            f"{written}: a setting tuned on all folds has seen the test samples of each; "
            "tune in a study without folds, and give the chosen settings here.",
        )
    if study.targets:
        yield Problem(
            "folds",
            f"{written}: times to targets are tested over independent seeds, and folds share "
            "training samples; remove targets or folds.",
        )
    if "test" not in (study.evaluate.on or ("test",)):
        yield Problem("evaluate.on", "folds are compared on their test splits: add test.")


def _seconds_problems(study: StudyFile) -> Iterator[Problem]:
    """Yield what does not go with a budget in seconds, whose number of steps is not known."""
    seconds = study.budget.seconds
    if seconds is None:
        return
    written = f"{seconds:g}"
    if study.engine == "stacked":
        reason = "runs of a stack share its time; use engine: reference, which auto means here"
        yield Problem(
            "engine", f"stacked cannot be combined with budget.seconds {written}: {reason}."
        )
    for path, schedule in schedules_in(study).items():
        if needs_steps(schedule):
            reason = f"needs a number of steps, and budget.seconds {written} has none"
            way_out = "use constant, step, multistep, exponential, inverse_sqrt or plateau with "
            way_out += "times in steps or epochs, or a budget in steps"
            yield Problem(path, f"{schedule.get('kind')}: {reason}; {way_out}.")
    for index, entry in enumerate(study.optimizers):
        if entry.average is not None and entry.average.tail is not None:
            reason = f"is a share of the steps, and budget.seconds {written} has no number of them"
            yield Problem(f"optimizers[{index}].average.tail", f"{reason}; use ema.")


_LOSSES_OF_NUMPY = ("cross_entropy", "mse", "mae", "huber", "poisson")


def _sam_problems(study: StudyFile, entry: OptimizerEntry, index: int) -> Iterator[Problem]:
    """Yield what a second gradient per step does not go with."""
    key = "adaptive_sam" if entry.adaptive_sam else "sam"
    if not (entry.sam or entry.adaptive_sam):
        return
    path = f"optimizers[{index}].{key}"
    if not study.zero_grad:
        yield Problem(path, "needs zero_grad: true; its gradients are those of one step.")
    for name in ("closure", "create_graph"):
        if getattr(entry, name):
            yield Problem(path, f"cannot be combined with {name}: true; leave one of them out.")
    if entry.kind == "torch" and requires_closure(load_code(entry.code)):
        yield Problem(path, f"{entry.code} computes its gradients itself; use another optimizer.")


def _curvature_problems(study: StudyFile, entry: OptimizerEntry, index: int) -> Iterator[Problem]:
    """Yield what estimates of curvature do not go with."""
    for place, part in enumerate(entry.parts):
        if not _needs_curvature(part):
            continue
        path = f"optimizers[{index}]"
        for name in ("sam", "adaptive_sam"):
            if getattr(entry, name):
                reason = (
                    f"cannot be combined with {part.code}, which needs curvature at the weights"
                )
                yield Problem(f"{path}.{name}", f"{reason}; leave one of them out.")
        if not study.zero_grad:
            reason = (
                f"false cannot be combined with {part.code}, which needs the curvature of one step"
            )
            yield Problem("zero_grad", f"{reason}; leave it out.")
        if study.engine == "numpy":
            where = f"{path}.groups[{place - 1}]" if place else path
            reason = f"'{part.code}' needs second derivatives, which engine: numpy does not have"
            yield Problem(f"{where}.{part.kind}", f"{reason}; use engine: reference or auto.")


def _vector_problems(study: StudyFile, entry: OptimizerEntry, index: int) -> Iterator[Problem]:
    """Yield what a rule of all parameters as one vector, which compares gradients, excludes."""
    path = f"optimizers[{index}]"
    for place, group in enumerate(entry.groups or ()):
        if group.kind not in (None, "torch") and _as_one_vector(group):
            where = f"{path}.groups[{place}].{group.kind}"
            yield Problem(where, f"'{group.code}' updates all parameters; move it to the entry.")
    if entry.kind == "torch" or not _as_one_vector(entry):
        return
    name = entry.code
    for key in ("sam", "adaptive_sam", "clip"):
        if getattr(entry, key):
            reason = f"cannot be combined with {name}, which compares the gradients of its steps"
            yield Problem(f"{path}.{key}", f"{reason}; leave it out.")
    if any(not group.freeze for group in entry.groups or ()):
        reason = f"cannot be combined with {name}, which updates all parameters as one vector"
        yield Problem(f"{path}.groups", f"{reason}; leave them out, or give them freeze: true.")
    if entry.decay == "decoupled":
        reason = f"decoupled cannot be combined with {name}, which minimizes one function"
        yield Problem(f"{path}.decay", f"{reason}; use decay: l2.")
    if not study.zero_grad:
        yield Problem("zero_grad", f"false cannot be combined with {name}; leave it out.")
    if study.sampling != "epoch":
        yield Problem(
            "sampling", f"{study.sampling} cannot be combined with {name}; {_FULL_BATCH}."
        )
    if "augment" in study.problem.dataset.arguments:
        reason = f"changes the function that {name} minimizes from step to step"
        yield Problem("problem.dataset.augment", f"{reason}; leave one of them out.")


_FULL_BATCH = "its steps need the same samples: use batch_size: full and sampling: epoch"


def _as_one_vector(part: OptimizerEntry | GroupEntry) -> bool:
    try:
        return part.kind is not None and rule_of(part.kind, part.code).as_one_vector
    except ValueError:
        return False  # reported as another problem


def _needs_curvature(part: OptimizerEntry | GroupEntry) -> bool:
    """Return whether a part names a rule that needs estimates of curvature."""
    if part.kind in (None, "torch"):
        return False
    try:
        return rule_of(part.kind, part.code).needs_curvature
    except ValueError:
        return False  # reported as another problem


def _validation_problems(study: StudyFile) -> Iterator[Problem]:
    """Yield why early stopping and plateaus cannot follow a metric of the validation split."""
    followed = {path: schedule.get("metric", "validation_loss") for path, schedule in
                _plateaus(study).items()}  # fmt: skip
    if study.early_stopping is not None:
        followed["early_stopping"] = study.early_stopping.metric
    for path, metric in followed.items():
        if "validation" not in (study.evaluate.on or ("validation",)):
            yield Problem(path, "follows the validation split: add validation to evaluate.on.")
        elif metric is not None and metric not in study.validation_metrics:
            known = suggest(str(metric), study.validation_metrics)
            yield Problem(f"{path}.metric", f"{metric!r} is not a validation metric. {known}")
        elif metric is not None and study.directions.better(metric) is None:
            yield Problem(f"{path}.metric", f"{undeclared(metric)}; write better: lower there.")


def _plateaus(study: StudyFile) -> dict[str, Mapping[str, Any]]:
    """Return the schedules of the kind `plateau`, by their place in the study."""
    return {
        path: schedule
        for path, schedule in schedules_in(study).items()
        if schedule.get("kind") == "plateau"
    }


def schedules_in(study: StudyFile) -> dict[str, Mapping[str, Any]]:
    """Return every schedule of a study by its place."""
    parts = {f"optimizers[{i}]": entry for i, entry in enumerate(study.optimizers)}
    groups = {
        f"{path}.groups[{index}]": group
        for path, entry in parts.items()
        for index, group in enumerate(entry.groups or ())
    }
    return {
        f"{path}.schedule" + (f"[{index}]" if len(part.schedule or ()) > 1 else ""): schedule
        for path, part in {**parts, **groups}.items()
        for index, schedule in enumerate(part.schedule or ())
    }


def _beyond_numpy(study: StudyFile) -> Iterator[Problem]:
    """Yield what the NumPy engine, which is written for MLPs, cannot train."""
    way_out = "use engine: reference or auto"
    model = study.problem.model
    beyond = any(model.arguments.get(name) for name in ("batch_norm", "layer_norm", "residual"))
    if model.name not in ("mlp", "logistic") or beyond:
        reason = "numpy trains MLPs without norms and residual blocks only"
        yield Problem("engine", f"{reason}; {way_out}.")
    if study.problem.loss.name not in _LOSSES_OF_NUMPY:
        known = listed(_LOSSES_OF_NUMPY)
        yield Problem("engine", f"numpy supports only {known}; {way_out}.")
    if "weight" in study.problem.loss.arguments:
        yield Problem("engine", f"numpy has no weights of classes; {way_out}.")
    if {"class_axis", "ignore_index"} & study.problem.loss.arguments.keys():
        yield Problem("engine", f"numpy has no labels per position; {way_out}.")
    if study.precision == "bfloat16":
        yield Problem("precision", "bfloat16 is not a type of NumPy; use float32 or float64.")
    for index, entry in enumerate(study.optimizers):
        for part in entry.parts:
            if part.kind == "torch":
                message = f"engine: numpy has no torch optimizers; {way_out}."
                yield Problem(f"optimizers[{index}].torch", message)
                break
