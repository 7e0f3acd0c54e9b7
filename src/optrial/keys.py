"""Types of the keys of a study, for editors and type checkers.

A mapping with other keys is accepted by the type checker too: the arguments of a dataset, a model
or an optimizer depend on its name. `optrial.Study` checks all of them before any data is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Required, TypeAlias, TypedDict

__all__ = [
    "AxisValues",
    "BudgetKeys",
    "DatasetValue",
    "Evaluation",
    "Folding",
    "Function",
    "Length",
    "Metric",
    "ModelValue",
    "Optimizer",
    "OptimizerKeys",
    "Probes",
    "Problem",
    "ProblemKeys",
    "Trackers",
    "Tuning",
]

Function: TypeAlias = Callable[..., Any]
"""A function or class of the user."""

Keys: TypeAlias = Mapping[str, object]
"""A name and its arguments, such as ``{"name": "moons", "noise": 0.2}``."""

AxisValues: TypeAlias = bool | int | float | str | Sequence[object] | Keys
"""One value, a list of values, or a range such as ``{"log": [0.001, 1.0], "points": 4}``."""

DatasetValue: TypeAlias = str | Keys
ModelValue: TypeAlias = str | Keys


class MetricKeys(TypedDict, total=False):
    """A metric and the direction of a user-defined one."""

    name: Required[str | Function]
    better: Literal["lower", "higher"]
    whole_split: bool


Metric: TypeAlias = str | Function | MetricKeys


class ProblemKeys(TypedDict, total=False):
    """Dataset, model, loss and metrics."""

    dataset: Required[DatasetValue]
    model: ModelValue
    loss: str | Keys
    metrics: Sequence[Metric] | None


Problem: TypeAlias = ProblemKeys | Keys


class Length(TypedDict, total=False):
    """A length of training: one of the keys."""

    steps: int
    epochs: int
    samples: int
    tokens: int


class BudgetKeys(Length, total=False):
    """A length of training, or its seconds: one of the keys."""

    seconds: float


class Evaluation(TypedDict, total=False):
    """Interval and splits of the evaluation."""

    every: Length
    on: Sequence[Literal["train", "validation", "test"]]
    start: bool
    batch_metrics: bool


class GroupKeys(TypedDict, total=False):
    """Parameters of the model that are updated with their own values, and these values."""

    match: Required[str | Sequence[str]]
    rule: str
    torch: str | Function
    rule_factory: str | Function
    name: str
    weight_decay: AxisValues
    decay: Literal["l2", "decoupled"]
    schedule: AxisValues
    modify: Sequence[str | Keys]
    freeze: bool


class OptimizerKeys(TypedDict, total=False):
    """An optimizer: one of `rule`, `torch` and `rule_factory`, its options and hyperparameters."""

    rule: str
    torch: str | Function
    rule_factory: str | Function
    name: str
    weight_decay: AxisValues
    decay: Literal["l2", "decoupled"]
    schedule: AxisValues
    clip: AxisValues
    average: Keys
    sam: AxisValues
    adaptive_sam: AxisValues
    modify: Sequence[str | Keys]
    closure: bool
    create_graph: bool
    groups: Sequence[GroupKeys | Keys]


Optimizer: TypeAlias = OptimizerKeys | Keys


class Tuning(TypedDict, total=False):
    """Choice of each optimizer's setting in trials, before it runs with the study's seeds."""

    select: str
    seeds: int
    sampler: Literal["grid", "random", "sobol", "tpe", "halving"]
    trials: int
    eta: int
    rungs: int
    extend: bool
    seed: int


class Folding(TypedDict, total=False):
    """Cross-validation: number of folds, and how samples are divided."""

    k: Required[int]
    repeats: int
    stratified: bool
    shuffle: bool
    seed: int


class Stopping(TypedDict, total=False):
    """End of a run once validation has not improved for a while."""

    patience: Required[int]
    metric: str
    min_delta: float


class ProbingKeys(TypedDict, total=False):
    """Probes, and the interval at which they are measured."""

    measure: Required[Sequence[str]]
    every: Length
    per_layer: bool


Probes: TypeAlias = Sequence[str] | ProbingKeys
Trackers: TypeAlias = str | Keys | Sequence[str | Keys]
