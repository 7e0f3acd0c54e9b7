"""Trained weights, back from their files: as modules, and evaluated once more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from optrial.code import Unidentifiable, code_sha256
from optrial.config import stored_study
from optrial.data import Dataset
from optrial.engine import Engines, process_for, storage_dtype
from optrial.errors import USER_CODE_ERRORS, DataError, StoreError, reason_of, suggest
from optrial.models import build_model, place_model
from optrial.plan import arrange, datasets_of
from optrial.records import Record, Store, WeightFiles
from optrial.spec import RunSpec, StackId, Status, metric_label

__all__ = ["Evaluated", "evaluate_saved", "saved_model"]


@dataclass(frozen=True)
class Evaluated:
    """One metric of one run's saved weights.

    Attributes:
        record: the run.
        metric: such as "test_accuracy".
        value: as evaluated now.
        recorded: as recorded at the step the weights are from, None where that was not evaluated.
    """

    record: Record
    metric: str
    value: float
    recorded: float | None

    @property
    def differs(self) -> bool:
        """Whether the value is not the recorded one; NaN equals NaN."""
        both_nan = (
            self.recorded is not None and math.isnan(self.value) and math.isnan(self.recorded)
        )
        return not both_nan and self.recorded not in (None, self.value)


def saved_model(store: Store, folder: Path, run_id: str) -> nn.Module:
    """Return the module of a run with its saved weights, on the CPU, in evaluation mode.

    Raises:
        StoreError: there is no such run, no weights of it are saved, or its code has changed.
    """
    records = {record.run_id: record for record in store.runs(everything=True)}
    if run_id not in records:
        raise StoreError(f"there is no run '{run_id}'. {suggest(run_id, records)}")
    weights = WeightFiles(folder).read(run_id)
    record = records[run_id]
    spec = record.spec
    _check_code(record, spec)
    input_shape, outputs = record.facts.input_shape, record.facts.outputs
    assert input_shape is not None  # both are recorded before any weights are saved
    assert outputs is not None
    model = build_model(
        spec.model,
        spec.model_arguments,
        input_shape=input_shape,
        classes=outputs,
        seed=spec.seed,
    )
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    place_model(model, "cpu", storage_dtype(spec.precision))
    model.load_state_dict(tensors)
    model.eval()
    return model


def evaluate_saved(
    store: Store, folder: Path, split: str, *, data_dir: Path | None = None, device: str = "auto"
) -> Iterator[Evaluated]:
    """Evaluate the saved weights of every finished run of the plan on a split.

    Each is evaluated in the stack it was trained in, so that the numbers are those recorded, to the
    last bit, where the split was evaluated then.

    Raises:
        StoreError: no weights are saved, or the code or the data of a run has changed, or
            the code raises.
        DataError: the dataset has no such split.
    """
    files = WeightFiles(folder)
    planned = [record for record in store.runs() if record.status is Status.DONE]
    saved = {record.run_id for record in planned if files.path(record.run_id).exists()}
    if not saved:
        files.read(planned[0].run_id if planned else "")  # says what to do
    datasets = datasets_of(stored_study(store.study()), data_dir)
    for dataset in datasets.values():
        if split not in dataset.splits:
            known = suggest(split, dataset.splits)
            raise DataError(f"the dataset {dataset.name} has no split '{split}'. {known}")
    stacks: dict[StackId, list[Record]] = {}
    for record in store.runs(everything=True):
        stacks.setdefault(record.stack, []).append(record)
    for stack in dict.fromkeys(r.stack for r in planned if r.run_id in saved):
        members = {record.run_id: record for record in stacks[stack]}
        specs = arrange(record.spec for record in members.values())
        dataset = datasets[next(r.problem for r in planned if r.stack == stack)]
        for spec in specs:
            _check_code(members[spec.run_id], spec)
            _check_data(members[spec.run_id], spec, dataset)
        learner = Engines(dataset, specs[0].precision, device).build(stack.engine, specs)
        for index, spec in enumerate(specs):
            if spec.run_id in saved:
                learner.load_weights(index, files.read(spec.run_id))
        own = [index for index, spec in enumerate(specs) if spec.run_id in saved]
        steps = {index: _draws_step(specs[index], members[specs[index].run_id]) for index in own}
        try:
            with process_for(learner):
                evaluations = {step: learner.evaluate(split, step) for step in set(steps.values())}
        except USER_CODE_ERRORS as error:
            names = ", ".join(specs[index].run_id for index in own)
            raise StoreError(
                f"{names} cannot be evaluated on {split}: {reason_of(error)}."
            ) from error
        labels = ["loss", *map(metric_label, specs[0].metrics)]
        prefix = "train_eval" if split == "train" else split
        for index in own:
            record, evaluation = members[specs[index].run_id], evaluations[steps[index]]
            values = [evaluation.losses[index], *evaluation.metrics[index]]
            for label, value in zip(labels, values, strict=True):
                metric = f"{prefix}_{label}"
                yield Evaluated(record, metric, float(value), _recorded(store, record, metric))


def _check_code(record: Record, spec: RunSpec) -> None:
    """Refuse weights whose model, loss or metrics are no longer what the run used.

    Raises:
        StoreError: the code has changed or cannot be imported.
    """
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


def _check_data(record: Record, spec: RunSpec, dataset: Dataset) -> None:
    """Refuse data that is not, bit for bit, what the run used.

    Raises:
        StoreError: the data has changed.
    """
    if dataset.sha256 != spec.dataset_sha256:
        raise StoreError(
            f"'{dataset.name}' does not give the data that run {record.run_id} used: the file, "
            "the function or a library that prepares it has changed; restore it, or train again."
        )


def _draws_step(spec: RunSpec, record: Record) -> int:
    """Return the step whose draws an evaluation repeats; any will do where nothing is drawn."""
    return _saved_step(record) if spec.code else 0


def _saved_step(record: Record) -> int:
    """Return the step from which the weights were saved."""
    return record.facts.saved_step or record.step


def _recorded(store: Store, record: Record, metric: str) -> float | None:
    """Return what was recorded of a metric at the step from which the weights are."""
    if metric not in record.metrics:
        return None
    curve = store.curve(record.run_id, metric)
    at = (curve.steps == _saved_step(record)).nonzero()[0]
    return float(curve.values[at[0]]) if len(at) else None
