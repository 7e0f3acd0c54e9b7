"""The study file as frozen values: names, types and ranges, not their meaning.

What a name stands for (a rule, a dataset, a model) is resolved by `optrial.plan`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictStr,
    model_validator,
)

from optrial.config.axis import Axis, AxisField, parse_axis, plain_values

__all__ = ["Component", "Evaluation", "OptimizerEntry", "ProblemEntry", "Span", "StudyFile"]

PositiveInt = Annotated[int, Field(strict=True, ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Component(_Frozen):
    """A dataset or a model: its catalogue name and the arguments given to it, unchecked."""

    name: StrictStr
    arguments: dict[str, Any] = {}


def _component(key: str) -> BeforeValidator:
    """Accept ``name`` or ``{key: name, argument: value, ...}``."""

    def read(given: Any) -> Any:
        if isinstance(given, str):
            return Component(name=given)
        if isinstance(given, dict) and isinstance(given.get(key), str):
            arguments = {name: value for name, value in given.items() if name != key}
            return Component(name=given[key], arguments=arguments)
        if isinstance(given, Component):
            return given
        raise ValueError(f"must be a name or a mapping with the key '{key}'")

    return BeforeValidator(read)


class ProblemEntry(_Frozen):
    """What is to be learnt: dataset, model and loss."""

    dataset: Annotated[Component, _component("name")]
    model: Annotated[Component, _component("kind")] = Component(name="mlp")
    loss: Literal["cross_entropy"] = "cross_entropy"


class Span(_Frozen):
    """A length of training: a number of steps or a number of epochs."""

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> Span:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, a whole number of 1 or more")
        return self


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must not repeat a value")
    return values


SplitName = Literal["train", "validation", "test"]


class Evaluation(_Frozen):
    """When the model is evaluated, and on which splits.

    `on` is None for the default: every split but `train` that the dataset has.
    """

    every: Span = Span(epochs=1)
    on: Annotated[tuple[SplitName, ...], AfterValidator(_distinct), Field(min_length=1)] | None = (
        None
    )


class OptimizerEntry(BaseModel):
    """A rule with its hyperparameters and weight decay; every further key is a hyperparameter."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, AxisField] = Field(init=False)

    rule: StrictStr
    name: StrictStr | None = Field(default=None, min_length=1)
    weight_decay: AxisField | None = None
    decay: Literal["l2", "decoupled"] | None = None

    @property
    def label(self) -> str:
        """The name in every table: `name`, or the rule's."""
        return self.name or self.rule

    @property
    def hyperparameters(self) -> dict[str, Axis]:
        """The hyperparameters that were given, by name."""
        return dict(self.__pydantic_extra__ or {})


def _seeds(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return given
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError("must be a count of 1 or more, or a list of seeds")
    return tuple(range(given))


def _batch_sizes(given: Any) -> Axis:
    axis = parse_axis(given)
    for value in axis.values:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value != "full" and not whole:
            raise ValueError(f"{value!r} must be a whole number of 1 or more, or 'full'")
    return axis


Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


class StudyFile(_Frozen):
    """A study as its file says it, after defaults.

    Every field but `problem`, `budget` and `optimizers` has a default. `batch_size`, the model's
    arguments, every hyperparameter and `weight_decay` may be grid axes (`optrial.config.axis`).
    """

    name: StrictStr = Field(default="study", min_length=1)
    problem: ProblemEntry
    batch_size: Annotated[Axis, PlainValidator(_batch_sizes), PlainSerializer(plain_values)] = Axis(
        (128,)
    )
    budget: Span
    evaluate: Evaluation = Evaluation()
    seeds: Annotated[
        tuple[Seed, ...], BeforeValidator(_seeds), AfterValidator(_distinct), Field(min_length=1)
    ] = (0, 1, 2)
    optimizers: tuple[OptimizerEntry, ...] = Field(min_length=1)
    engine: Literal["auto", "stacked", "reference", "numpy"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    precision: Literal["float32", "float64"] = "float32"
    rng: Literal["streams", "script"] = "streams"
    sampling: Literal["epoch", "with_replacement"] = "epoch"
    shuffle: StrictBool = True
    drop_last: StrictBool = False
    notes: StrictStr = ""
