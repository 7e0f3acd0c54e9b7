"""The study file as frozen values: names, types and ranges, not their meaning.

What a name stands for (a rule, a dataset, a model) is resolved by `optrial.plan`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictStr,
    model_serializer,
    model_validator,
)

from optrial.config.axis import Axis, parse_axis, plain_values
from optrial.config.optimizers import OptimizerEntry
from optrial.config.short_forms import ShortForm, each_named, keyed
from optrial.errors import shown
from optrial.spec import Direction, Directions, MetricName, Selection, catalogued, metric_label

__all__ = [
    "FUNCTION_KEYS",
    "MOST_RUNS",
    "MOST_STEPS",
    "UNITS",
    "Component",
    "Evaluation",
    "Folding",
    "MetricEntry",
    "Probing",
    "ProblemEntry",
    "Span",
    "Stopping",
    "StudyFile",
    "Tuning",
]

MOST_RUNS = 1_000_000
"""Most runs of a study."""

_MOST_SEEDS = 100_000
MOST_STEPS = 10**9
"""Most steps of a run; products with the number of batches stay exact."""

_MOST_SECONDS = 10**7

_MOST_FOLDS = 1_000

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
PositiveInt = Annotated[int, Field(strict=True, ge=1, le=MOST_STEPS)]
TwoOrMore = Annotated[int, Field(strict=True, ge=2, le=MOST_STEPS)]
Rungs = Annotated[int, Field(strict=True, ge=2, le=30)]
_Many = Annotated[int, Field(strict=True, ge=1, le=10**15)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Component(_Frozen):
    """A dataset or a model: its catalogue name and the arguments given to it, unchecked."""

    name: StrictStr
    arguments: dict[str, Any] = {}


def _as_component(key: str, raw: Any) -> Any:
    """Read ``{key: name, argument: value, ...}``, the long form of a name."""
    if isinstance(raw, dict) and {"name", "arguments"} <= set(raw):  # as a store holds it
        changed = {name: v for name, v in raw.items() if name not in ("name", "arguments")}
        return Component(name=raw["name"], arguments={**raw["arguments"], **changed})
    if isinstance(raw, dict) and isinstance(raw.get(key), str):
        arguments = {name: value for name, value in raw.items() if name != key}
        return Component(name=raw[key], arguments=arguments)
    if isinstance(raw, Component):
        return raw
    raise ValueError(f"must be a name or a mapping with the key '{key}'")


NamedComponent = Annotated[
    Component, BeforeValidator(partial(_as_component, "name")), keyed("name")
]


def _model(raw: Any) -> Any:
    """Read ``{kind: name, ...}`` or ``{factory: module:function, args: {...}}``."""
    if isinstance(raw, dict) and "factory" in raw:
        if extra := set(raw) - {"factory", "args"}:
            key = shown(min(extra, key=str))
            raise ValueError(f"{key} cannot be combined with factory; use args: {{...}}")
        arguments = raw.get("args", {})
        if not isinstance(raw["factory"], str) or not isinstance(arguments, dict):
            raise ValueError("is written {factory: module:function, args: {name: value}}")
        return Component(name=raw["factory"], arguments=arguments)
    return _as_component("kind", raw)


class MetricEntry(_Frozen):
    """A metric that judges a model.

    Attributes:
        name: of the catalogue, or ``module:function``.
        better: which values of a user-defined metric are better; None if unknown.
        whole_split: whether a user-defined metric takes all outputs of a split at once.
    """

    name: StrictStr
    better: Direction | None = None
    whole_split: StrictBool = False

    @property
    def is_code(self) -> bool:
        """True for a user-defined metric."""
        return ":" in self.name

    @property
    def label(self) -> str:
        """Name of the metric in curves and tables."""
        return metric_label(self.name)

    @property
    def direction(self) -> Direction | None:
        """Direction of the catalogue, or the declared one; None if unknown."""
        metric = None if self.is_code else catalogued(self.name)
        return metric.better if metric else self.better


def short_name(name: str) -> str:
    """Return the last part of a name: ``iris`` for ``data/iris.csv``, ``f`` for ``module:f``."""
    return re.split(r"[:/\\]", name)[-1].partition(".")[0] or name


_NOISE_KEYS = ("noise", "n_samples")
FUNCTION_KEYS = (*_NOISE_KEYS, "metrics")
"""Keys beside a function that are no arguments of it as a model."""


class ProblemEntry(_Frozen):
    """Dataset, model, loss and metrics.

    A `model` whose name has a colon is user-defined. `metrics` is None for the default: accuracy
    with cross entropy and focal loss, only the loss otherwise.
    """

    @model_validator(mode="before")
    @classmethod
    def _of_function(cls, raw: Any) -> Any:
        """Accept ``{function: rosenbrock, start: [-1, 1], noise: 0.1, ...}``, without data."""
        if not isinstance(raw, dict) or "function" not in raw:
            return raw
        if beside := {"dataset", "model", "loss"} & set(raw):
            raise ValueError(f"function also sets {sorted(beside)[0]}; give only one of them")
        of_data = {name: raw[name] for name in _NOISE_KEYS if name in raw}
        of_model = {name: v for name, v in raw.items() if name not in FUNCTION_KEYS}
        return {
            "dataset": {"name": "displacements", **of_data},
            "model": {"kind": "function", **of_model},
            "loss": "mean_output",
            "metrics": raw.get("metrics"),
        }

    dataset: NamedComponent
    model: Annotated[Component, BeforeValidator(_model), keyed("kind")] = Field(
        default="mlp", validate_default=True
    )
    loss: NamedComponent = Field(default="cross_entropy", validate_default=True)
    metrics: tuple[Annotated[MetricEntry, keyed("name")], ...] | None = None

    @property
    def name(self) -> str:
        """Short name of the dataset, or of the function."""
        function = self.model.arguments.get("function")
        if self.model.name == "function" and isinstance(function, str):
            return function
        return short_name(self.dataset.name)

    @property
    def judges(self) -> tuple[MetricEntry, ...]:
        """The metrics; by default the accuracy with losses of classes, otherwise none."""
        if self.metrics is not None:
            return self.metrics
        of_labels = self.loss.name in ("cross_entropy", "focal")
        return (MetricEntry(name="accuracy"),) if of_labels else ()


UNITS = ("steps", "epochs", "samples", "tokens")
"""Units of the length of a training; one of them is given."""


class Span(_Frozen):
    """A length of training: a number of steps, epochs, samples or tokens.

    Samples and tokens are rounded up to whole steps.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    samples: _Many | None = Field(default=None, exclude_if=lambda samples: samples is None)
    tokens: _Many | None = Field(default=None, exclude_if=lambda tokens: tokens is None)

    @model_validator(mode="after")
    def _one_unit(self) -> Span:
        if sum(getattr(self, unit) is not None for unit in UNITS) != 1:
            raise ValueError(
                "give one of steps, epochs, samples and tokens, a whole number of 1 or more"
            )
        return self


class Budget(Span):
    """Length of the training, or its seconds without evaluation and compilation.

    No steps leave the initial weights, which can be evaluated.
    """

    steps: Annotated[int, Field(strict=True, ge=0, le=MOST_STEPS)] | None = None
    seconds: (
        Annotated[float, Field(strict=True, gt=0, le=_MOST_SECONDS, allow_inf_nan=False)] | None
    ) = Field(default=None, exclude_if=lambda seconds: seconds is None)

    @model_validator(mode="after")
    def _one_unit(self) -> Budget:
        if sum(getattr(self, unit) is not None for unit in (*UNITS, "seconds")) != 1:
            raise ValueError("give one of steps, epochs, samples, tokens and seconds")
        return self


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must not repeat a value")
    return values


SplitName = Literal["train", "validation", "test"]


class Evaluation(_Frozen):
    """Steps and splits of evaluation.

    `on` is None for the default: every split of the dataset but `train`. `start` also evaluates
    the initial weights, at step 0. `batch_metrics` records the metrics of each training batch, in
    addition to its loss.
    """

    every: Span = Span(epochs=1)
    start: StrictBool = False
    on: Annotated[tuple[SplitName, ...], AfterValidator(_distinct), Field(min_length=1)] | None = (
        None
    )
    batch_metrics: StrictBool = False


class Probing(_Frozen):
    """Diagnostics of training, measured at the first step and every `every` after it.

    `every` is None for the steps of evaluation. `per_layer` also records the value of each layer.
    """

    measure: Annotated[tuple[StrictStr, ...], AfterValidator(_distinct), Field(min_length=1)]
    every: Span | None = None
    per_layer: StrictBool = False


class Stopping(_Frozen):
    """End of a run before its budget.

    Attributes:
        patience: evaluations in a row without improvement after which a run ends.
        metric: validation metric; None for the one that selects.
        min_delta: improvement over the best value that does not count.
    """

    patience: PositiveInt
    metric: StrictStr | None = None
    min_delta: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0


class Folding(_Frozen):
    """Cross-validation: every sample is in the test split of one fold per repetition.

    Attributes:
        k: number of folds.
        repeats: number of divisions into folds.
        stratified: whether folds keep the proportions of the classes; None for the rule by which
            the dataset chooses its test split.
        shuffle: whether samples are shuffled before they are divided.
        seed: seed of the shuffling.
    """

    k: Annotated[int, Field(strict=True, ge=2, le=_MOST_FOLDS)]
    repeats: Annotated[int, Field(strict=True, ge=1, le=_MOST_FOLDS)] = 1
    stratified: StrictBool | None = None
    shuffle: StrictBool = True
    seed: Seed = 0

    @model_validator(mode="after")
    def _repeats_differ(self) -> Folding:
        if self.repeats > 1 and not self.shuffle:
            raise ValueError("repeats without shuffle are equal; use shuffle: true or repeats: 1")
        return self

    @property
    def count(self) -> int:
        """Number of folds of all repetitions."""
        return self.k * self.repeats


def _number_of_folds(value: Any) -> Any:
    return _counted("k", value, Folding)


def _patience(value: Any) -> Any:
    return _counted("patience", value, Stopping)


def _counted(key: str, value: Any, long_form: type) -> Any:
    """Return the long form of what a whole number may stand for."""
    if isinstance(value, Mapping | long_form):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number, or a mapping with the key {key}")
    return {key: value}


def _names_of_probes(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("must be a list of names, or {measure: [name, ...], every: ...}")
    return {"measure": value} if isinstance(value, list | tuple) else value


def _seeds(raw: Any) -> Any:
    if isinstance(raw, list | tuple):
        return raw
    if not isinstance(raw, int) or isinstance(raw, bool) or not 1 <= raw <= _MOST_SEEDS:
        raise ValueError(f"must be a count from 1 to {_MOST_SEEDS:,}, or a list of seeds")
    return list(range(raw))


def _batch_sizes(raw: Any) -> Axis:
    axis = parse_axis(raw)
    for value in axis.values:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value != "full" and not whole:
            raise ValueError(f"{shown(value)} must be a whole number of 1 or more, or 'full'")
    return axis


class Tuning(_Frozen):
    """Search for each optimizer's setting, before it is trained with the study's seeds.

    Attributes:
        select: metric that selects, on the validation split at the end of training; None for
            accuracy if the study has it, else the loss.
        seeds: number of runs per trial, with seeds that the report does not use.
        sampler: "grid" tries every setting; "random", "sobol" and "tpe" draw `trials` of them;
            "halving" draws as "random" does, and trains the best of them longer, rung by rung.
        trials: number of settings that each optimizer tries; for grids, the size of each grid.
        eta: factor by which training gets longer, and settings fewer, from rung to rung; None means
            3.
        rungs: number of rungs, the last with the whole budget; None for as many as leave it two
            trials.
        extend: whether a grid grows when its best value is at its edge; None means yes.
        seed: seed of the sampler.
    """

    select: StrictStr | None = None
    seeds: PositiveInt = 3
    sampler: Literal["grid", "random", "sobol", "tpe", "halving"] = "grid"
    trials: PositiveInt | None = None
    eta: TwoOrMore | None = None
    rungs: Rungs | None = None
    extend: StrictBool | None = None
    seed: Seed = 0

    @model_serializer(mode="wrap")
    def _without_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys of halving where it is not used: the plans of other studies stay equal."""
        values: dict[str, Any] = write(self)
        unused = set() if self.sampler == "halving" else {"eta", "rungs"}
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def extends(self) -> bool:
        """True if grids grow."""
        return self.sampler == "grid" and self.extend is not False


def _each_once(raw: tuple[Component, ...]) -> tuple[Component, ...]:
    _distinct(tuple(entry.name for entry in raw))
    return raw


def _target(raw: Any) -> Any:
    if not _is_finite(raw):
        raise ValueError("must be a finite number")
    return raw


def _published(raw: Any) -> Any:
    """Check a published value, a list of several runs' values, or values by epoch or by step."""
    if _is_finite(raw):
        return float(raw)
    if isinstance(raw, list | tuple) and raw and all(map(_is_finite, raw)):
        return [float(value) for value in raw]
    if not isinstance(raw, Mapping):
        raise ValueError(
            "must be a finite number; give times in seconds (485 for 8:05), and values during "
            "training as {epochs: {1: 2.66}} or {steps: {500: 0.35}}"
        )
    if len(raw) != 1 or not raw.keys() <= {"epochs", "steps"}:
        raise ValueError("must have one key, epochs or steps, with values such as {1: 2.66}")
    ((unit, values),) = raw.items()
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{unit}: must map {unit} to values, such as {{1: 2.66, 2: 1.77}}")
    for at, value in values.items():
        if not str(at).isdecimal():
            raise ValueError(f"{unit}: {at!r} must be a whole number, 0 for the initial weights")
        numbers = value if isinstance(value, list | tuple) else [value]
        if not numbers or not all(map(_is_finite, numbers)):
            raise ValueError(f"{unit}.{at}: must be a finite number, or a list of several runs'")
    return {unit: {str(at): value for at, value in values.items()}}


def _is_finite(raw: object) -> bool:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return False
    return abs(raw) <= sys.float_info.max


Targets = dict[StrictStr, Annotated[float, BeforeValidator(_target)]]
Published = Annotated[
    float | list[float] | dict[str, dict[str, float | list[float]]], PlainValidator(_published)
]
Reported = dict[StrictStr, dict[StrictStr, Published]]

Trackers = Annotated[tuple[NamedComponent, ...], AfterValidator(_each_once), each_named("name")]


class StudyFile(_Frozen):
    """A study on one problem, after defaults.

    Every field but `problem`, `budget` and `optimizers` has a default. `batch_size`, the model's
    arguments, every hyperparameter, `weight_decay`, `schedule` and `clip` may be grid axes
    (`optrial.config.axis`). `accumulate` averages the gradients of several batches in a
    step. `zero_grad: false` lets gradients pile up from step to step. A run
    whose loss passes `loss_limit` counts as diverged; one that takes more than `timeout` seconds
    ends with an error, which is no part of its id. With `tune`, all that varies is chosen for
    each optimizer in trials, and `seeds` are those of the chosen settings. `claims` is what the
    study is to show, and `waive` maps audit rules to the reason why they do not apply. `save` keeps
    the weights of each run after its last step, or those with the best validation result.
    `folds` trains and tests every run on each fold of a cross-validation.
    `early_stopping` ends a run once validation has not improved for a while.
    `probes` are diagnostics of training. `targets` are values of metrics to reach, whose time is
    reported.
    `trackers` are services that runs are sent to while they train, by name and with arguments.
    `reported` holds published values by metric, then by optimizer, followed by the setting if it
    has several (`adam lr=0.01`): the final value, or values by epoch or step. Its key `seconds`
    holds times.
    """

    @model_validator(mode="before")
    @classmethod
    def _full_batches_of_functions(cls, raw: Any) -> Any:
        """A function that is descended has no samples to batch unless a study says so."""
        problem = raw.get("problem") if isinstance(raw, dict) else None
        if isinstance(problem, dict) and "function" in problem:
            return {"batch_size": "full", **raw}
        return raw

    name: StrictStr = Field(default="study", min_length=1)
    problem: ProblemEntry
    batch_size: Annotated[Axis, PlainValidator(_batch_sizes), PlainSerializer(plain_values)] = Axis(
        (128,)
    )
    budget: Budget
    evaluate: Evaluation = Evaluation()
    seeds: Annotated[
        tuple[Seed, ...], AfterValidator(_distinct), Field(min_length=1), ShortForm(_seeds)
    ] = (0, 1, 2)
    folds: Annotated[Folding, ShortForm(_number_of_folds)] | None = None
    optimizers: tuple[OptimizerEntry, ...] = Field(min_length=1)
    tune: Tuning | None = None
    targets: Targets = {}
    claims: tuple[StrictStr, ...] = ()
    waive: dict[str, Any] = {}
    engine: Literal["auto", "stacked", "reference", "numpy"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    rng: Literal["streams", "script"] = "streams"
    sampling: Literal["epoch", "with_replacement"] = "epoch"
    shuffle: StrictBool = True
    drop_last: StrictBool = False
    accumulate: PositiveInt = 1
    zero_grad: StrictBool = True
    loss_limit: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    timeout: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    save: Literal["final", "best"] | None = None
    early_stopping: Annotated[Stopping, ShortForm(_patience)] | None = None
    probes: Annotated[Probing, ShortForm(_names_of_probes)] | None = None
    trackers: Trackers = ()
    reported: Reported = {}
    notes: StrictStr = ""

    @property
    def directions(self) -> Directions:
        """Directions of the metrics."""
        declared = {entry.label: entry.better for entry in self.problem.judges if entry.is_code}
        return Directions(declared, self.tune.select if self.tune else None)

    @property
    def validation_metrics(self) -> list[str]:
        """The metrics that may select, the usual ones first."""
        judges = [entry.label for entry in self.problem.judges]
        labels = sorted(["loss", *judges], key=lambda label: label != "accuracy")
        return [str(MetricName(label, "validation")) for label in labels]

    @property
    def selection(self) -> Selection | None:
        """The metric that selects; None where `tune.select` names one of unknown direction."""
        return self.directions.selection(self.validation_metrics)
