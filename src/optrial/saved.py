"""Saved weights: loaded into modules, or evaluated again."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.code import Trust, Unidentifiable, code_sha256, is_code
from optrial.config import Studies, stored_study
from optrial.data import Dataset
from optrial.engine import Engines, Learner, process_for, storage_dtype
from optrial.errors import USER_CODE_ERRORS, DataError, StoreError, reason_of, suggest
from optrial.input_parts import PackedShape
from optrial.models import build_model, kept_process, place_model
from optrial.plan import arrange, code_in, datasets_of, tokenizer_in
from optrial.records import Record, StoreReader, WeightFiles, no_weights
from optrial.spec import MetricName, StackId, Status, metric_label
from optrial.supervision import imported, supervised, watched

__all__ = ["Evaluated", "Predictions", "evaluate_saved", "saved_model", "saved_predictions"]

_PREDICTED_AT_ONCE = 512


@dataclass(frozen=True)
class Evaluated:
    """One metric of a run's saved weights, evaluated again.

    Attributes:
        record: the run.
        metric: such as "test_accuracy".
        value: value computed now.
        recorded: value recorded at the step of the saved weights; None if there is none.
    """

    record: Record
    metric: str
    value: float
    recorded: float | None

    @property
    def differs(self) -> bool:
        """True if the value is not the recorded one; NaN equals NaN."""
        both_nan = (
            self.recorded is not None and math.isnan(self.value) and math.isnan(self.recorded)
        )
        return not both_nan and self.recorded not in (None, self.value)


class Predictions(NamedTuple):
    """Classes that a run's saved weights predict.

    Attributes:
        record: the run.
        inputs: samples of the split, (samples, ...).
        targets: their classes, (samples,).
        predicted: the predicted classes, (samples,).
        names: names of the classes 0, 1, ...
        predict: maps further inputs, (samples, ...), to their predicted classes, (samples,).
    """

    record: Record
    inputs: NDArray[Any]
    targets: NDArray[Any]
    predicted: NDArray[np.int64]
    names: tuple[str, ...]
    predict: Callable[[NDArray[Any]], NDArray[np.int64]]


def saved_predictions(
    store: StoreReader,
    folder: Path,
    run_ids: Collection[str],
    split: str,
    trust: Trust,
    *,
    data_dir: Path | None = None,
) -> Iterator[Predictions]:
    """Predict the classes of a split with the saved weights of some runs, on the CPU.

    Raises:
        StoreError: no weights are saved, the code or the data of a run has changed, the code raises
            an error, or targets are not classes.
        DataError: the dataset has no such split.
    """
    records = {record.run_id: record for record in store.runs()}
    without = (r for r in records.values() if r.run_id in run_ids and r.spec.loss == "mean_output")
    for record in without:  # before weights are asked for, which would not help
        raise _no_classes(record, records.values())
    saved, datasets = _saved_runs(store, split, trust, data_dir)
    for run_id, record in saved.items():
        if run_id not in run_ids:
            continue
        dataset = _data_of(record, datasets)
        if dataset.kind != "labels":
            raise _no_classes(record, records.values())
        model = saved_model(store, folder, run_id, trust)
        predict = partial(_classes, model, record)
        data = dataset.splits[split]
        names = [entry.name for entry in dataset.summary.classes]
        names = names or [str(label) for label in range(max(2, dataset.classes))]
        predicted = predict(data.inputs)
        yield Predictions(record, data.inputs, data.targets, predicted, tuple(names), predict)


def _no_classes(record: Record, records: Iterable[Record]) -> StoreError:
    """Return the error that the samples of a run have no classes, with the way out."""
    others = len({other.problem for other in records}) > 1
    return StoreError(
        f"{record.problem} has no class per sample, so none is predicted."
        + " Name another problem (--problem)." * others
    )


def _classes(model: nn.Module, record: Record, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the classes that a model predicts: the largest output, or the sign of a single one.

    Raises:
        StoreError: the model raises an error.
    """
    dtype = storage_dtype(record.spec.precision)
    at_once = len(inputs) if "model" in record.spec.whole_split else _PREDICTED_AT_ONCE
    parts = []
    try:
        with torch.no_grad(), supervised("predicting with saved weights"):
            tensor = torch.from_numpy(inputs)
            tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
            for part in torch.split(tensor, at_once):
                outputs = model(part)
                single = outputs.numel() == len(part)
                classes = outputs.reshape(-1) > 0 if single else outputs.argmax(dim=1)
                parts.append(classes.long().numpy())
    except USER_CODE_ERRORS as error:
        reason = reason_of(error)
        raise StoreError(f"run {record.run_id} cannot predict: {reason}.") from error
    return np.concatenate(parts)


def saved_model(store: StoreReader, folder: Path, run_id: str, trust: Trust) -> nn.Module:
    """Return the module of a run with its saved weights, on the CPU, in evaluation mode.

    Raises:
        StoreError: there is no such run, its weights were not saved, or its code has changed.
    """
    records = {record.run_id: record for record in store.runs(everything=True)}
    if run_id not in records:
        raise StoreError(f"there is no run '{run_id}'. {suggest(run_id, records)}")
    record = records[run_id]
    weights = WeightFiles(folder).read(record)
    spec = record.spec
    _check_trust([record], trust)
    _check_code(record)
    input_shape, outputs = record.facts.input_shape, record.facts.outputs
    assert input_shape is not None  # both are recorded before any weights are saved
    assert outputs is not None
    if record.facts.input_parts:
        input_shape = PackedShape.from_dict(record.facts.input_parts)
    with supervised("building the model"):
        model = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=input_shape,
            classes=outputs,
            vocabulary=record.facts.vocabulary,
            seed=spec.seed,
        )
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    place_model(model, "cpu", storage_dtype(spec.precision))
    model.load_state_dict(tensors)
    model.eval()
    return model


def evaluate_saved(
    store: StoreReader,
    folder: Path,
    split: str,
    trust: Trust,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
) -> list[Evaluated]:
    """Evaluate the saved weights of every completed run of the plan on a split.

    Each run is evaluated in its stack, so that the values equal the recorded ones bit for bit if
    the split was evaluated during training.

    Raises:
        StoreError: no weights are saved, the code or the data of a run has changed, or the code
            raises an error.
        DataError: the dataset has no such split.
    """
    with watched("evaluating saved weights"):
        return list(_evaluations(store, folder, split, trust, data_dir, device))


def _evaluations(
    store: StoreReader, folder: Path, split: str, trust: Trust, data_dir: Path | None, device: str
) -> Iterator[Evaluated]:
    files = WeightFiles(folder)
    saved, datasets = _saved_runs(store, split, trust, data_dir)
    stacks: dict[StackId, list[Record]] = {}
    for record in store.runs(everything=True):
        stacks.setdefault(record.stack, []).append(record)
    for stack in dict.fromkeys(record.stack for record in saved.values()):
        for record in stacks[stack]:
            _check_code(record)
            dataset = _data_of(record, datasets)
        specs = arrange(record.spec for record in stacks[stack])
        places = {i: saved[s.run_id] for i, s in enumerate(specs) if s.run_id in saved}
        with kept_process():
            learner = Engines(dataset, specs[0].precision, device).build(stack.engine, specs)
            learner.threads = stacks[stack][0].facts.threads or learner.threads
            for index, record in places.items():
                learner.load_weights(index, files.read(record))
            evaluated = list(_evaluated(learner, places, split))
        for record, metric, value in evaluated:
            yield Evaluated(record, metric, value, _recorded(store, record, metric))


def _saved_runs(
    store: StoreReader, split: str, trust: Trust, data_dir: Path | None
) -> tuple[dict[str, Record], Mapping[str, Dataset]]:
    """Return the completed runs of the plan with saved weights, and their data by problem.

    Raises:
        StoreError: no weights are saved.
        DataError: the dataset has no such split.
    """
    done = [record for record in store.runs() if record.status is Status.DONE]
    saved = {record.run_id: record for record in done if record.spec.save is not None}
    if not saved:
        raise no_weights(done[0].run_id if done else "")
    studies = stored_study(store.study())
    _check_trust(store.runs(everything=True), trust, studies)
    with supervised("loading the data"):
        datasets = datasets_of(studies, data_dir)
    for dataset in datasets.values():
        if split not in dataset.splits:
            known = suggest(split, dataset.splits)
            raise DataError(f"the dataset {dataset.name} has no split '{split}'. {known}")
    return saved, datasets


def _evaluated(
    learner: Learner, places: Mapping[int, Record], split: str
) -> Iterator[tuple[Record, str, float]]:
    """Yield run, metric and value for the runs at some places of a stack.

    Raises:
        StoreError: the user's code raises an error.
    """
    steps = {index: _step_of_draws(record) for index, record in places.items()}
    try:
        with process_for(learner):
            evaluations = {step: learner.evaluate(split, step) for step in set(steps.values())}
    except USER_CODE_ERRORS as error:
        names = ", ".join(record.run_id for record in places.values())
        reason = reason_of(error)
        raise StoreError(f"{names} cannot be evaluated on {split}: {reason}.") from error
    for index, record in places.items():
        evaluation = evaluations[steps[index]]
        labels = ["loss", *map(metric_label, record.spec.metrics)]
        values = [evaluation.losses[index], *evaluation.metrics[index]]
        for label, value in zip(labels, values, strict=True):
            yield record, str(MetricName.evaluation(label, split)), float(value)


def _check_trust(records: Iterable[Record], trust: Trust, studies: Studies | None = None) -> None:
    """Import the code that runs, and the study of a store, may run.

    Raises:
        StoreError: they name other code, too.
    """
    names: dict[str, None] = {}
    for study in studies.by_name.values() if studies else ():
        names |= dict.fromkeys(code_in(study).values())
    for spec in (record.spec for record in records):
        tokenizer = tokenizer_in(spec.dataset, spec.dataset_arguments)
        used = (
            spec.dataset,
            tokenizer,
            spec.model,
            spec.loss,
            *spec.metrics,
            spec.rule,
            *spec.code,
        )
        names |= dict.fromkeys(filter(is_code, used))
    if refusals := imported(names, trust):
        raise StoreError("the saved runs cannot be evaluated: " + " ".join(refusals.values()))


def _check_code(record: Record) -> None:
    """Check that model, loss and metrics are still the code that a run used.

    Raises:
        StoreError: the code has changed or cannot be imported.
    """
    spec = record.spec
    for name in {spec.model, spec.loss, *spec.metrics} & spec.code.keys():
        try:
            changed = code_sha256(name) != spec.code[name]
        except (ImportError, Unidentifiable) as error:
            raise StoreError(f"run {record.run_id} cannot be evaluated: {error}.") from error
        if changed:
            python = (record.facts.versions or {}).get("python", "another version")
            raise StoreError(
                f"'{name}' is not the code that run {record.run_id} used, with Python {python}; "
                "restore it, or train again."
            )


def _data_of(record: Record, datasets: Mapping[str, Dataset]) -> Dataset:
    """Return the data that a run used, bit for bit.

    Raises:
        StoreError: the data has changed.
    """
    dataset = datasets[record.problem]
    version = dataset.with_sha256(record.spec.dataset_sha256)
    if version is None:
        raise StoreError(
            f"'{dataset.name}' does not give the data that run {record.run_id} used: the file, "
            "the function or a library that prepares it has changed; restore it, or train again."
        )
    return version


def _step_of_draws(record: Record) -> int:
    """Return the step whose random draws the evaluation repeats; only user code draws any."""
    return _saved_step(record) if record.spec.code else 0


def _saved_step(record: Record) -> int:
    """Return the step from which the weights were saved."""
    return record.step if record.facts.saved_step is None else record.facts.saved_step


def _recorded(store: StoreReader, record: Record, metric: str) -> float | None:
    """Return the value recorded for a metric at the step of the saved weights."""
    if metric not in record.metrics:
        return None
    curve = store.curves(metric, [record.run_id]).get((record.run_id, metric))
    if curve is None:
        return None
    at = (curve.steps == _saved_step(record)).nonzero()[0]
    return float(curve.values[at[0]]) if len(at) else None
