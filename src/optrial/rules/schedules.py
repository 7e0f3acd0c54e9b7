"""Learning-rate schedules: factors of lr, by step.

A study names a schedule, ``cosine``, or its kind and arguments, ``{kind: step, every: {epochs:
30}}``. Resolved for a budget, it is a plain mapping with all durations in steps, and a pure
function of the step. Factors equal those of `torch.optim.lr_scheduler`, where step t = 1 is taken
before any `scheduler.step()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from optrial.errors import Problem, StudyError, problems_of, suggest

__all__ = [
    "SCHEDULES",
    "Duration",
    "Schedule",
    "check_schedule",
    "learning_rate_factors",
    "resolve_schedule",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Duration:
    """A number of steps, a number of epochs, or a fraction of the budget."""

    count: float
    unit: Literal["steps", "epochs", "share"] = "steps"

    def in_steps(self, steps: int, steps_per_epoch: int) -> int:
        """Return the nearest number of steps in a budget of `steps`."""
        lengths = {"steps": 1, "epochs": steps_per_epoch, "share": steps}
        return round(self.count * lengths[self.unit])


def _duration(value: object) -> Duration:
    """Parse a duration, which may be 0."""
    if isinstance(value, Duration):
        return value
    unit, count = "", value
    if isinstance(value, Mapping) and len(value) == 1:
        ((unit, count),) = value.items()
    if isinstance(count, int | float) and not isinstance(count, bool) and math.isfinite(count):
        if unit in ("", "steps") and isinstance(count, int) and count >= 0:
            return Duration(count)
        if unit == "epochs" and count > 0:
            return Duration(count, "epochs")
        if unit == "" and 0 < count < 1:
            return Duration(count, "share")
    raise ValueError(
        "must be a number of steps, {steps: n}, {epochs: n}, or a share of the budget "
        "between 0 and 1, such as 0.1"
    )


def _positive_duration(value: object) -> Duration:
    """Parse a duration above 0."""
    if (duration := _duration(value)).count == 0:
        raise ValueError("must be at least one step")
    return duration


Time = Annotated[Duration, PlainValidator(_duration)]
PositiveTime = Annotated[Duration, PlainValidator(_positive_duration)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
FINAL = Field(default=0.0, description="factor of lr after the last step")


class Schedule(BaseModel):
    """A learning-rate schedule with an optional warm-up.

    During a warm-up of w steps, lr is multiplied by t / w. The kinds `step` and `multistep` count
    steps from the start of training; all others begin when the warm-up ends and span the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    counts_warmup: ClassVar[bool] = False

    warmup: Time = Field(default=Duration(0), description="duration of a linear rise from near 0")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return the factor of lr after `done` = 0, 1, ... of `total` steps."""
        raise NotImplementedError


class Constant(Schedule):
    """The same lr at every step."""

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1."""
        del total
        return np.ones_like(done)


class Step(Schedule):
    """Multiplied by `factor` at regular intervals; as StepLR."""

    counts_warmup = True

    every: PositiveTime = Field(description="interval")
    factor: Factor = Field(default=0.1, description="factor of lr at each of these times")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^floor(done / every)."""
        del total
        return np.power(self.factor, done // self.every.count)


class Multistep(Schedule):
    """Multiplied by `factor` at chosen times; as MultiStepLR."""

    counts_warmup = True

    at: list[PositiveTime] = Field(
        min_length=1, description="times after which lr is multiplied by `factor`"
    )
    factor: Factor = Field(default=0.1, description="factor of lr at each of these times")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^(number of times passed)."""
        del total
        passed = np.searchsorted(sorted(time.count for time in self.at), done, side="right")
        return np.power(self.factor, passed)


class Exponential(Schedule):
    """Multiplied by the same factor after every step; as ExponentialLR."""

    factor: Factor | None = Field(default=None, description="factor of lr per step")
    half_life: PositiveTime | None = Field(default=None, description="time in which lr is halved")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.factor is None) == (self.half_life is None):
            raise ValueError("must have either a `factor`, such as 0.999, or a `half_life`")
        return self

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^done, or 2^(-done / half_life)."""
        del total
        if self.half_life is not None:
            return np.power(2.0, -done / self.half_life.count)
        return np.power(self.factor or 1.0, done)


class Cosine(Schedule):
    """Decays to `final` along half a cosine; as CosineAnnealingLR over the whole budget."""

    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return final + (1 - final) (1 + cos(pi done / total)) / 2."""
        return _annealed(1.0, self.final, done / total, "cos")


class Linear(Schedule):
    """Decays to `final` linearly; as LinearLR over the whole budget."""

    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1 - (1 - final) done / total."""
        return _annealed(1.0, self.final, done / total, "linear")


class OneCycle(Schedule):
    """Rises to lr, then decays; as OneCycleLR with cycle_momentum=False.

    The momentum does not change. By default OneCycleLR moves it, or beta1 of Adam, opposite to lr:
    from 0.95 to 0.85 and back.
    """

    pct_start: float = Field(default=0.3, gt=0, lt=1, description="fraction of the steps that rise")
    div_factor: float = Field(default=25.0, ge=1, description="lr divided by the initial lr")
    final_div_factor: float = Field(
        default=1e4, ge=1, description="initial lr divided by the final lr"
    )
    anneal: Literal["cos", "linear"] = Field(default="cos", description="shape of rise and fall")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return a rise over pct_start·total − 1 steps, and a fall over the rest."""
        peak, last = self.pct_start * total - 1, total - 1
        first = 1 / self.div_factor
        progress = done / peak if peak > 0 else np.ones_like(done)
        rise = _annealed(first, 1.0, progress, self.anneal)
        fall = _annealed(
            1.0, first / self.final_div_factor, (done - peak) / (last - peak), self.anneal
        )
        return np.where(done <= peak, rise, fall)


class WarmupStableDecay(Schedule):
    """Rises, stays, and decays at the end: Hu et al. 2024; 1-sqrt: Hägele et al. 2024."""

    warmup: Time = Field(default=Duration(0.05, "share"), description="duration of the linear rise")
    decay: PositiveTime = Field(
        default=Duration(0.2, "share"), description="duration of the fall at the end"
    )
    anneal: Literal["linear", "1-sqrt"] = Field(default="linear", description="shape of the fall")
    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1, and a fall over the last `decay` steps."""
        progress = np.maximum(0.0, 1 - (total - done) / self.decay.count)
        return _annealed(1.0, self.final, progress, self.anneal)


def _annealed(start: float, end: float, progress: Floats, shape: str) -> Floats:
    """Interpolate from start to end at progress 0 to 1: linear, cos or 1-sqrt."""
    match shape:
        case "cos":
            weight = (1 - np.cos(np.pi * progress)) / 2
        case "1-sqrt":
            weight = np.sqrt(progress)
        case _:
            weight = progress
    return start + (end - start) * weight


SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {
        "constant": Constant,
        "step": Step,
        "multistep": Multistep,
        "exponential": Exponential,
        "cosine": Cosine,
        "linear": Linear,
        "one_cycle": OneCycle,
        "warmup_stable_decay": WarmupStableDecay,
    }
)
"""Kind of schedule -> its class; the first line of the docstring is shown by `optrial list`."""


def check_schedule(schedule: str | Mapping[str, Any]) -> list[Problem]:
    """Return every problem with a schedule that does not depend on the budget.

    Args:
        schedule: "cosine", or {"kind": "cosine", "final": 0.1, "warmup": {"epochs": 1}}.
    """
    parsed = _parsed(schedule)
    return [] if isinstance(parsed, Schedule) else parsed


def resolve_schedule(
    schedule: str | Mapping[str, Any], steps: int, steps_per_epoch: int
) -> dict[str, Any]:
    """Return the kind and arguments of a schedule, with defaults and all durations in steps.

    Args:
        schedule: as for `check_schedule`; or the result of this function.
        steps: the budget.
        steps_per_epoch: length of an epoch.

    Returns:
        Strings, numbers and lists only.

    Raises:
        StudyError: the schedule is not valid, or does not fit into the budget.
    """
    parsed = _parsed(schedule)
    if not isinstance(parsed, Schedule):
        raise StudyError(parsed, source="the schedule")

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.in_steps(steps, steps_per_epoch) if isinstance(value, Duration) else value

    arguments: dict[str, Any] = {name: plain(value) for name, value in parsed if value is not None}
    for name in {"every", "half_life", "decay"} & arguments.keys():
        arguments[name] = max(1, arguments[name])
    needed = arguments["warmup"] + arguments.get("decay", 0)
    if arguments["warmup"] >= steps or needed > steps:
        raise StudyError([Problem("schedule", _too_long(arguments, steps))])
    return {"kind": _kind(schedule), **arguments}


def learning_rate_factors(
    schedule: Mapping[str, Any], steps: NDArray[np.int64], total: int
) -> Floats:
    """Return the factor of lr at each of some steps.

    Args:
        schedule: a result of `resolve_schedule`.
        steps: t = 1, 2, ..., in any order.
        total: the budget, in steps.

    Returns:
        Factors, of the shape of `steps`, above 0 within the budget.
    """
    parsed = _parsed(schedule)
    assert isinstance(parsed, Schedule), parsed
    warmup = int(parsed.warmup.count)
    time = np.asarray(steps, dtype=np.float64)
    rise = np.minimum(1.0, time / max(warmup, 1))
    if parsed.counts_warmup:
        return rise * parsed.factors(time - 1, total)
    done = np.clip(time - 1 - warmup, 0, total - warmup)
    return rise * parsed.factors(done, total - warmup)


def _kind(schedule: str | Mapping[str, Any]) -> object:
    return schedule if isinstance(schedule, str) else schedule.get("kind")


def _parsed(schedule: str | Mapping[str, Any]) -> Schedule | list[Problem]:
    """Return the schedule, or the problems with it."""
    kind = _kind(schedule)
    if not isinstance(kind, str) or kind not in SCHEDULES:
        reason = "is required and missing." if kind is None else f"{kind!r} is not a schedule."
        known = suggest(kind if isinstance(kind, str) else "", SCHEDULES)
        return [Problem("" if isinstance(schedule, str) else "kind", f"{reason} {known}")]
    named = {} if isinstance(schedule, str) else schedule
    arguments = {name: value for name, value in named.items() if name != "kind"}
    try:
        return SCHEDULES[kind](**arguments)
    except ValidationError as error:
        return problems_of(error, SCHEDULES[kind].model_fields)


def _too_long(arguments: Mapping[str, Any], steps: int) -> str:
    parts = [f"{arguments[name]} of {name}" for name in ("warmup", "decay") if name in arguments]
    return (
        f"{' and '.join(parts)} do not fit into {steps} steps. Shorten them, write them as shares "
        "of the budget, such as 0.1, or lengthen the budget."
    )
