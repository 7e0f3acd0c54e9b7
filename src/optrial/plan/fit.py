"""Check that a study fits its data, and that its models and code take them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from optrial.code import is_code
from optrial.config import OptimizerEntry, StudyFile
from optrial.data import Dataset
from optrial.errors import Problem, counted
from optrial.models import (
    TrialProblem,
    check_input_shape,
    output_note,
    resolve_model,
    second_derivative_problem,
    try_batch,
    try_code,
    varying,
)
from optrial.plan.evaluation import metric_problems
from optrial.plan.fields import batches_of_epoch, metric_names, training_steps
from optrial.plan.groups import (
    Parameters,
    leaves_matrices,
    matrix_note,
    parameters_of,
    placement_problems,
)
from optrial.plan.losses import loss_problems
from optrial.plan.optimizers import rule_of, rule_of_entry
from optrial.plan.space import model_axes
from optrial.plan.trial import trial_problem
from optrial.plan.tuning import planned_rungs

__all__ = ["data_problems", "group_problems", "matrix_notes", "output_notes", "tried_batch"]

_TRIED_SAMPLES = 32  # user-defined code is tried on so many


def data_problems(study: StudyFile, dataset: Dataset) -> list[Problem]:
    """Return every reason why a study cannot be trained on a dataset, or on any of its folds."""
    problems = [p for version in dataset.versions for p in _size_problems(study, version)]
    sizes = {version.batched.size for version in dataset.versions}
    problems += [p for size in sizes for p in _vector_problems(study, size)]
    problems += _split_problems(study, dataset)
    problems += [p for version in dataset.versions for p in _rung_problems(study, version)]
    problems += metric_problems(study, dataset)
    unfit = [p for version in dataset.versions for p in loss_problems(study, version)]
    problems += unfit
    for version in {version.batched.size: version for version in dataset.versions}.values():
        problems += () if unfit else _model_problems(study, version)
    return list(dict.fromkeys(problems))


def _size_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield what the number of training samples rules out."""
    size = dataset.batched.size
    for value in study.batch_size.values:
        if value != "full" and value > size:
            limit = f"the training split has {counted(size, 'sample')}; use at most that, or 'full'"
            yield Problem("batch_size", f"{value}: {limit}.")
            continue
        count = batches_of_epoch(study, size, size if value == "full" else value)
        if count % study.accumulate:
            yield Problem("accumulate", f"{study.accumulate}: {_undivided(study, size, value)}.")


def _undivided(study: StudyFile, size: int, batch_size: int | Literal["full"]) -> str:
    """Return that `accumulate` does not divide the batches of an epoch, and the way out.

    `size` is that of the training split.
    """
    samples = size if batch_size == "full" else batch_size
    count, whole = batches_of_epoch(study, size, samples), size // samples
    if count == 1:
        return "an epoch has one batch; leave it out, or use a smaller batch_size"
    reason = f"does not divide the {count} batches of {batch_size} samples of an epoch"
    divisors = [str(d) for d in range(2, count + 1) if count % d == 0]
    way_out = f"use {' or '.join(divisors[:3])}, or another batch_size"
    if 0 < whole < count and whole % study.accumulate == 0:
        way_out += ", or drop_last: true"
    return f"{reason}; {way_out}"


def _rung_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield that the first rung of successive halving has no step."""
    rungs = planned_rungs(study.tune) if study.tune else ()
    sizes = [dataset.batched.size if v == "full" else v for v in study.batch_size.values]
    fewest = min((training_steps(study, dataset, size) for size in sizes if rungs), default=0)
    if 0 < fewest < rungs[0].divisor:
        count = f"{rungs[0].total} rungs train the first trials for {rungs[0].share}"
        way_out = "use fewer rungs, a smaller eta or a larger budget"
        yield Problem("tune.rungs", f"{count}, and it has only {fewest} steps; {way_out}.")


def _split_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield what the splits and inputs of a dataset rule out."""
    for split in study.evaluate.on or ():
        if split not in dataset.splits:
            has = ", ".join(dataset.splits)
            yield Problem("evaluate.on", f"'{split}': the dataset has only {has}.")
    if study.early_stopping and "validation" not in dataset.splits:
        has = ", ".join(dataset.splits)
        yield Problem("early_stopping", f"needs a validation split; the dataset has only {has}.")
    if study.tune and "validation" not in dataset.splits:
        has = ", ".join(dataset.splits)
        yield Problem("tune", f"chooses on the validation split; the dataset has only {has}.")
    spans = {
        "budget": study.budget,
        "evaluate.every": study.evaluate.every,
        "probes.every": study.probes and study.probes.every,
    }
    for path, span in spans.items():
        if span and span.tokens is not None and dataset.vocabulary is None:
            way_out = "inputs are numbers; use samples, epochs or steps"
            yield Problem(f"{path}.tokens", f"{span.tokens}: {way_out}.")
    if dataset.splits["train"].text is not None and study.rng == "script":
        yield Problem("rng", "'script' cannot draw windows of a text; use rng: streams.")


def _vector_problems(study: StudyFile, size: int) -> Iterator[Problem]:
    """Refuse mini-batches for rules that compare the gradients of successive steps."""
    names = [entry.code for entry in _as_one_vector(study)]
    for value in study.batch_size.values if names else ():
        samples = size if value == "full" else value
        steps = batches_of_epoch(study, size, samples) / study.accumulate
        if steps > 1 or (study.drop_last and size % samples):
            reason = f"{names[0]} compares the gradients of its steps, which need the same samples"
            yield Problem("batch_size", f"{value}: {reason}; use batch_size: full.")


def _as_one_vector(study: StudyFile) -> list[OptimizerEntry]:
    """Return the entries whose rule updates all parameters as one vector."""
    return [e for e in study.optimizers if e.kind != "torch" and rule_of_entry(e).as_one_vector]


def group_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield why groups of parameters do not suit a model of the study."""
    distinct: dict[Problem, None] = {}
    for index, entry in enumerate(study.optimizers):
        for parameters in _models(study, dataset) if entry.groups else ():
            wrong = placement_problems(entry, parameters)
            distinct |= dict.fromkeys(p.under(f"optimizers[{index}]") for p in wrong)
    yield from distinct


def matrix_notes(study: StudyFile, dataset: Dataset) -> Iterator[str]:
    """Yield a note for each entry whose rule or modifiers find no matrix to work on."""
    for entry in study.optimizers:
        for parameters in _models(study, dataset) if leaves_matrices(entry) else ():
            if note := matrix_note(entry, parameters):
                yield note


def output_notes(study: StudyFile, dataset: Dataset) -> Iterator[str]:
    """Yield notes on outputs of the user's model that are probably not meant."""
    axes, batch = model_axes(study.problem.model), tried_batch(dataset, study.precision)
    notes: dict[str, None] = {}
    for values in itertools.product(*(axis.values for axis in axes.values())):
        arguments = dict(zip(axes, values, strict=True))
        if is_code(study.problem.model.name):
            notes[output_note(trial_problem(study, dataset, batch, arguments))] = None
    yield from filter(None, notes)


def _models(study: StudyFile, dataset: Dataset) -> Iterator[Parameters]:
    """Yield the parameters of each model of a study."""
    kind, axes = study.problem.model.name, model_axes(study.problem.model)
    for values in itertools.product(*(axis.values for axis in axes.values())):
        arguments = resolve_model(kind, dict(zip(axes, values, strict=True)))
        yield parameters_of(
            (kind, arguments), dataset.input_shape, dataset.classes, dataset.vocabulary
        )


def _model_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield problems of every grid point of the model with samples of this shape."""
    axes, loss = model_axes(study.problem.model), study.problem.loss
    kind = study.problem.model.name
    metrics = metric_names(study)
    own_code = any(map(is_code, (kind, loss.name, *metrics)))
    # Models of the catalogue are known to return one output per class or value, and no more.
    tried = own_code or dataset.kind == "positions" or dataset.vocabulary is not None
    tried |= dataset.splits["train"].targets.ndim > 2
    batch = tried_batch(dataset, study.precision)
    sizes = [small for small in _small_batches(study, dataset) if own_code or small.samples == 1]
    distinct: dict[Problem, None] = {}
    for values in itertools.product(*(axis.values for axis in axes.values())):
        model = (kind, dict(zip(axes, values, strict=True)))
        unfit = check_input_shape(*model, dataset.input_shape, dataset.vocabulary, dataset.classes)
        wrong = [fault.under("model") for fault in unfit]
        problem = trial_problem(study, dataset, batch, model[1])
        if tried and not wrong:
            wrong = try_code(problem, metrics, keyed=study.rng != "script")
        distinct |= dict.fromkeys(_curvature_problems(study, problem) if not wrong else ())
        if not wrong and (entries := _as_one_vector(study)) and (text := varying(problem)):
            reason = f"{entries[0].code} needs the same function in every step, and {text}"
            text = f"{reason}; leave that out, or use another rule."
            distinct[Problem("problem.model", text)] = None
        distinct |= dict.fromkeys(fault.under("problem") for fault in wrong)
        for small in sizes if not wrong else ():
            if reason := try_batch(problem.first(small.samples)):
                distinct[small.problem(reason, dataset.batched.size)] = None
    yield from distinct


def _curvature_problems(study: StudyFile, problem: TrialProblem) -> Iterator[Problem]:
    """Yield the optimizers that need a second derivative that a model or loss does not have."""
    parts = [
        (
            f"optimizers[{index}]" + (f".groups[{place - 1}]" if place else "") + f".{part.kind}",
            part,
        )
        for index, entry in enumerate(study.optimizers)
        for place, part in enumerate(entry.parts)
        if part.kind not in (None, "torch") and rule_of(part.kind, part.code).needs_curvature
    ]
    if parts and (reason := second_derivative_problem(problem)):
        for path, part in parts:
            text = f"'{part.code}' needs second derivatives, and {reason}; use another rule."
            yield Problem(path, text)


class _SmallBatch(NamedTuple):
    """A batch that has fewer samples than `try_code` gets."""

    batch_size: int
    samples: int

    def problem(self, reason: str, size: int) -> Problem:
        """Return why a training split of a size cannot be cut into such batches."""
        count = "one" if self.samples == 1 else str(self.samples)
        if self.samples == self.batch_size:
            text = f"a batch has {count} of {size} samples, {reason}; use a larger one."
        else:
            text = (
                f"the last batch of an epoch has {count} of {size} samples, {reason}; use "
                "drop_last: true or another size."
            )
        return Problem("batch_size", f"{self.batch_size}: {text}")


def _small_batches(study: StudyFile, dataset: Dataset) -> Iterator[_SmallBatch]:
    """Yield the batches, full ones and last ones, that are smaller than the one tried."""
    size, tried = dataset.batched.size, _tried_samples(dataset)
    cut = study.sampling == "epoch" and not study.drop_last
    for value in study.batch_size.values:
        if value != "full" and value <= size:
            for samples in (value, size % value if cut else 0):
                if 0 < samples < tried:
                    yield _SmallBatch(value, samples)


def _tried_samples(dataset: Dataset) -> int:
    """Return on how many samples code is tried: no other dimension of the data is as long."""
    train = dataset.splits["train"]
    taken = {*train.inputs.shape[1:], *train.targets.shape[1:], dataset.classes}
    free = (n for n in range(_TRIED_SAMPLES, 1, -1) if n not in taken)
    return min(next(free, _TRIED_SAMPLES), len(train.targets))


def tried_batch(dataset: Dataset, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Return some training samples as a model gets them, the largest label among them."""
    split = dataset.splits["train"]
    rows = np.arange(_tried_samples(dataset))
    inputs, targets = split.inputs, split.targets
    if targets.dtype.kind == "i":
        rows[-1] = targets.reshape(len(targets), -1).max(axis=1).argmax()
    dtype = np.float64 if precision == "float64" else np.float32

    def as_trained(values: np.ndarray) -> np.ndarray:
        return values if values.dtype.kind == "i" else values.astype(dtype)

    return as_trained(inputs[rows]), as_trained(targets[rows])
