"""`compare`: a study from one cell of a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Literal

from optrial.callbacks import Callback
from optrial.config import belongs
from optrial.errors import Problem, StudyError, shown, suggest
from optrial.keys import (
    AxisValues,
    BudgetKeys,
    DatasetValue,
    Evaluation,
    Folding,
    Function,
    Metric,
    ModelValue,
    Optimizer,
    Probes,
    Stopping,
    Trackers,
    Tuning,
)
from optrial.results import Results
from optrial.rules import Rule
from optrial.study import Study
from optrial.user_objects import dataset_name, optimizer_entry

__all__ = ["compare"]


def compare(
    *,
    model: ModelValue | Function = "mlp",
    data: DatasetValue | object = "digits",
    optimizers: Iterable[str | Optimizer | Function | Rule],
    epochs: int | None = None,
    steps: int | None = None,
    loss: str | Mapping[str, object] | Function = "cross_entropy",
    metrics: Sequence[Metric] | None = None,
    name: str | None = None,
    batch_size: AxisValues | None = None,
    evaluate: Evaluation | None = None,
    seeds: int | Sequence[int] = 3,
    folds: int | Folding | None = None,
    tune: Tuning | None = None,
    targets: Mapping[str, float] | None = None,
    claims: Sequence[str] = (),
    waive: Mapping[str, str] | None = None,
    engine: Literal["auto", "stacked", "reference", "numpy"] = "auto",
    compile: Literal["auto", "always", "never"] = "auto",  # noqa: A002  the study's key
    precision: Literal["float32", "bfloat16", "float64"] = "float32",
    rng: Literal["streams", "script"] = "streams",
    sampling: Literal["epoch", "with_replacement"] = "epoch",
    shuffle: bool = True,
    drop_last: bool = False,
    accumulate: int = 1,
    zero_grad: bool = True,
    loss_limit: float | None = None,
    threads: int | None = None,
    timeout: float | None = None,
    save: Literal["final", "best"] | None = None,
    early_stopping: int | Stopping | None = None,
    probes: Probes | None = None,
    trackers: Trackers = (),
    reported: Mapping[str, Mapping[str, float]] | None = None,
    notes: str = "",
    out: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    executor: Literal["auto", "local", "processes", "ray"] | None = None,
    n_jobs: int | Literal["auto"] | None = None,
    parallel: str | Path | Mapping[str, object] | None = None,
    **unknown: object,
) -> Results:
    """Train a model with several optimizers and return the results.

        results = optrial.compare(
            model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
            data=(inputs, targets),
            optimizers=["sgd", {"rule": "adam", "lr": [0.001, 0.01]}, torch.optim.RAdam],
            epochs=5,
        )

    Arguments that are not described here are those of `Study`.

    Args:
        model: as in a study file, or a function or class that returns a module and may take
            `input_shape` and `classes`.
        data: as in a study file; or arrays: ``{"train": (inputs, targets), "test": ...}``,
            ``(inputs, targets)``, or a `torch.utils.data.Dataset`; as ``{"name": arrays}`` with
            further keys of a dataset, such as ``"inputs": "tokens"`` for token numbers.
        optimizers: names of rules, entries as in a study file, `Rule` objects,
            `torch.optim.Optimizer` classes, and functions that take parameters and return an
            optimizer; the keys ``torch`` and ``rule_factory`` of an entry may hold the object.
        epochs: length of training; 5 if neither this nor `steps` is given.
        steps: length of training in steps.
        loss: a name, a name with arguments, or a function of outputs and targets.
        metrics: names, functions, or ``{"name": function, "better": "lower"}``.
        out: folder of the results or a ``postgresql://`` URL; ``studies/<name>`` by default.
        callbacks: follow training; see `Callback`.
        progress: whether to show progress; see `Study.run`.
        executor: where runs are trained; see `Study.run`.
        n_jobs: number of stacks of runs that are trained at once; see `Study.run`.
        parallel: further keys of the execution; see `Study.run`.
        unknown: refused, with the argument that was probably meant.

    Raises:
        StudyError, DataError: bad input, before any training.
    """
    if problems := list(_argument_problems(optimizers, unknown)):
        raise StudyError(problems, "the comparison")
    if not isinstance(data, str) and not (isinstance(data, Mapping) and "name" in data):
        data = dataset_name(data)
    study = Study(
        problem={
            "dataset": data,
            "model": model,
            "loss": loss,
            "metrics": metrics,
        },
        budget=_budget(epochs, steps),
        optimizers=[optimizer_entry(f"optimizers[{i}]", o) for i, o in enumerate(optimizers)],
        name=name,
        batch_size=batch_size,
        evaluate=evaluate,
        seeds=seeds,
        folds=folds,
        tune=tune,
        targets=targets,
        claims=claims,
        waive=waive,
        engine=engine,
        compile=compile,
        precision=precision,
        rng=rng,
        sampling=sampling,
        shuffle=shuffle,
        drop_last=drop_last,
        accumulate=accumulate,
        zero_grad=zero_grad,
        loss_limit=loss_limit,
        threads=threads,
        timeout=timeout,
        save=save,
        early_stopping=early_stopping,
        probes=probes,
        trackers=trackers,
        reported=reported,
        notes=notes,
    )
    return study.run(
        out,
        callbacks=callbacks,
        progress=progress,
        executor=executor,
        n_jobs=n_jobs,
        parallel=parallel,
    )


def _budget(epochs: int | None, steps: int | None) -> BudgetKeys:
    budget: BudgetKeys = {"epochs": 5} if epochs is None and steps is None else {}
    if steps is not None:
        budget["steps"] = steps
    if epochs is not None:
        budget["epochs"] = epochs
    return budget


_ELSEWHERE = {"problem": "model, data, loss and metrics", "budget": "steps or epochs"}


def _argument_problems(optimizers: object, unknown: Mapping[str, object]) -> Iterator[Problem]:
    """Yield the problems with arguments that `Study` does not check."""
    is_list = isinstance(optimizers, Iterable) and not isinstance(optimizers, str | Mapping | Set)
    if not is_list or callable(optimizers):
        way_out = "such as ['sgd', {'rule': 'adam', 'lr': [0.001, 0.01]}]"
        yield Problem(
            "optimizers", f"{shown(optimizers)}: must be a list of optimizers, {way_out}."
        )
    for key in unknown:
        if key in _ELSEWHERE:
            yield Problem(key, f"is given as {_ELSEWHERE[key]} here; or use optrial.Study(...).")
        else:
            unknown_argument = f"unknown argument. {suggest(key, _ARGUMENTS)}"
            yield Problem(key, belongs(key, "problem") or unknown_argument)


_ARGUMENTS = [key for key in compare.__annotations__ if key not in ("unknown", "return")]
