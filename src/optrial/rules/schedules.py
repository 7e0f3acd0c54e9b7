"""Learning-rate schedules: what lr is multiplied by at each step.

A user names one, ``cosine``, or gives kind and arguments, ``{kind: step, every: {epochs: 30}}``.
Resolved for a budget, it is a plain mapping with all durations in steps, and then a pure function
of the step. Factors are those of `torch.optim.lr_scheduler`, where the step t = 1 is taken before
any `scheduler.step()`.
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
    """A number of steps, a number of epochs, or a share of the budget."""

    count: float
    unit: Literal["steps", "epochs", "share"] = "steps"

    def in_steps(self, steps: int, steps_per_epoch: int) -> int:
        """Return the nearest number of steps, in a budget of `steps`."""
        return round(
            self.count * {"steps": 1, "epochs": steps_per_epoch, "share": steps}[self.unit]
        )


def _duration(given: Any) -> Duration:
    """Read a duration; 0 is none."""
    if isinstance(given, Duration):
        return given
    is_named = isinstance(given, Mapping) and len(given) == 1
    unit, count = next(iter(given.items())) if is_named else ("", given)
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


def _some_time(given: Any) -> Duration:
    """Read a duration that is not 0."""
    if (duration := _duration(given)).count == 0:
        raise ValueError("must be at least one step")
    return duration


Time = Annotated[Duration, PlainValidator(_duration)]
SomeTime = Annotated[Duration, PlainValidator(_some_time)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
FINAL = Field(default=0.0, description="share of lr that is reached after the last step")


class Schedule(BaseModel):
    """A learning-rate schedule, and the warm-up that every kind may start with.

    During a warm-up of w steps lr is multiplied by t / w. A kind that counts every step, as `step`
    does, counts those too; the others start when the warm-up ends and share out what remains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    counts_warmup: ClassVar[bool] = False

    warmup: Time = Field(
        default=Duration(0), description="how long lr first rises, linearly from near 0"
    )

    def factors(self, done: Floats, total: int) -> Floats:
        """Return what lr is multiplied by after `done` = 0, 1, ... of `total` steps."""
        raise NotImplementedError


class Constant(Schedule):
    """The same lr at every step."""

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1."""
        del total
        return np.ones_like(done)


class Step(Schedule):
    """Multiplied by `factor` again and again, at equal distances; as StepLR."""

    counts_warmup = True

    every: SomeTime = Field(description="how long lr stays the same")
    factor: Factor = Field(default=0.1, description="what lr is then multiplied by")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^floor(done / every)."""
        del total
        return np.power(self.factor, done // self.every.count)


class Multistep(Schedule):
    """Multiplied by `factor` at given times; as MultiStepLR."""

    counts_warmup = True

    at: list[SomeTime] = Field(
        min_length=1, description="times after which lr is multiplied by `factor`"
    )
    factor: Factor = Field(default=0.1, description="what lr is then multiplied by")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^(number of times that have passed)."""
        del total
        passed = np.searchsorted(sorted(time.count for time in self.at), done, side="right")
        return np.power(self.factor, passed)


class Exponential(Schedule):
    """Multiplied by the same factor after every step; as ExponentialLR."""

    factor: Factor | None = Field(default=None, description="what lr is multiplied by each step")
    half_life: SomeTime | None = Field(default=None, description="after how long lr is halved")

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
    """Along half a cosine down to a share of lr; as CosineAnnealingLR over the whole budget."""

    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return final + (1 - final) (1 + cos(pi done / total)) / 2."""
        return _annealed(1.0, self.final, done / total, "cos")


class Linear(Schedule):
    """Along a straight line down to a share of lr; as LinearLR over the whole budget."""

    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1 - (1 - final) done / total."""
        return _annealed(1.0, self.final, done / total, "linear")


class OneCycle(Schedule):
    """Up from a share of lr to lr, then down; as OneCycleLR with cycle_momentum=False.

    The momentum stays as it is. OneCycleLR changes it by default, against lr: from 0.95 to 0.85 and
    back, or beta1 of Adam.
    """

    pct_start: float = Field(default=0.3, gt=0, lt=1, description="share of the steps that rise")
    div_factor: float = Field(default=25.0, ge=1, description="lr divided by where it starts")
    final_div_factor: float = Field(
        default=1e4, ge=1, description="where lr starts, divided by where it ends"
    )
    anneal: Literal["cos", "linear"] = Field(default="cos", description="shape of both ways")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return the rise over pct_start * total - 1 steps, and the fall over the rest."""
        peak, last = self.pct_start * total - 1, total - 1
        first = 1 / self.div_factor
        risen = done / peak if peak > 0 else np.ones_like(done)
        rise = _annealed(first, 1.0, risen, self.anneal)
        fall = _annealed(
            1.0, first / self.final_div_factor, (done - peak) / (last - peak), self.anneal
        )
        return np.where(done <= peak, rise, fall)


class WarmupStableDecay(Schedule):
    """Up, constant, and down at the end: Hu et al. 2024; 1-sqrt: Hägele et al. 2024."""

    warmup: Time = Field(
        default=Duration(0.05, "share"), description="how long lr first rises, linearly"
    )
    decay: SomeTime = Field(
        default=Duration(0.2, "share"), description="how long lr falls at the end"
    )
    anneal: Literal["linear", "1-sqrt"] = Field(default="linear", description="shape of the fall")
    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1, and from `decay` steps before the end on the fall."""
        progress = np.maximum(0.0, 1 - (total - done) / self.decay.count)
        return _annealed(1.0, self.final, progress, self.anneal)


def _annealed(start: float, end: float, progress: Floats, shape: str) -> Floats:
    """Return the way from start to end at progress 0 to 1: linear, cos or 1-sqrt."""
    match shape:
        case "cos":
            covered = (1 - np.cos(np.pi * progress)) / 2
        case "1-sqrt":
            covered = np.sqrt(progress)
        case _:
            covered = progress
    return start + (end - start) * covered


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
"""Kind of schedule -> its arguments; the first line of the class says what it does."""


def check_schedule(given: str | Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a schedule as a user gives it, whatever the budget.

    Args:
        given: "cosine", or {"kind": "cosine", "final": 0.1, "warmup": {"epochs": 1}}.
    """
    read = _read(given)
    return [] if isinstance(read, Schedule) else read


def resolve_schedule(
    given: str | Mapping[str, Any], steps: int, steps_per_epoch: int
) -> dict[str, Any]:
    """Return kind and arguments of a schedule, with defaults and all durations in steps.

    Args:
        given: as for `check_schedule`; or what this function returned.
        steps: the budget.
        steps_per_epoch: the length of an epoch.

    Returns:
        Strings, numbers and lists only.

    Raises:
        StudyError: the schedule is not valid, or does not fit into the budget.
    """
    read = _read(given)
    if not isinstance(read, Schedule):
        raise StudyError(read, source="the schedule")

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value.in_steps(steps, steps_per_epoch) if isinstance(value, Duration) else value

    arguments = {name: plain(value) for name, value in read if value is not None}
    for name in {"every", "half_life", "decay"} & arguments.keys():
        arguments[name] = max(1, arguments[name])
    needed = arguments["warmup"] + arguments.get("decay", 0)
    if arguments["warmup"] >= steps or needed > steps:
        raise StudyError([Problem("schedule", _too_long(arguments, steps))])
    return {"kind": _kind(given), **arguments}


def learning_rate_factors(
    resolved: Mapping[str, Any], steps: NDArray[np.int64], total: int
) -> Floats:
    """Return what lr is multiplied by at each of some steps.

    Args:
        resolved: what `resolve_schedule` returned.
        steps: t = 1, 2, ..., in any order.
        total: the budget, in steps.

    Returns:
        Factors, of the shape of `steps`, above 0 within the budget.
    """
    schedule = _read(resolved)
    assert isinstance(schedule, Schedule), schedule
    warmup = int(schedule.warmup.count)
    time = np.asarray(steps, dtype=np.float64)
    rise = np.minimum(1.0, time / max(warmup, 1))
    if schedule.counts_warmup:
        return rise * schedule.factors(time - 1, total)
    done = np.clip(time - 1 - warmup, 0, total - warmup)
    return rise * schedule.factors(done, total - warmup)


def _kind(given: str | Mapping[str, Any]) -> Any:
    return given if isinstance(given, str) else given.get("kind")


def _read(given: str | Mapping[str, Any]) -> Schedule | list[Problem]:
    """Return the schedule, or what is wrong with it."""
    kind = _kind(given)
    if not isinstance(kind, str) or kind not in SCHEDULES:
        path = "" if isinstance(given, str) else "kind"
        what = "is required and missing." if kind is None else f"{kind!r} is not a schedule."
        return [Problem(path, f"{what} {suggest(kind or '', SCHEDULES)}")]
    arguments = {} if isinstance(given, str) else {k: v for k, v in given.items() if k != "kind"}
    try:
        return SCHEDULES[kind](**arguments)
    except ValidationError as error:
        return problems_of(error, SCHEDULES[kind].model_fields)


def _too_long(arguments: Mapping[str, Any], steps: int) -> str:
    parts = [f"{arguments[name]} of {name}" for name in ("warmup", "decay") if name in arguments]
    return (
        f"{' and '.join(parts)} do not fit into {steps} steps. Shorten them, give them as shares "
        "of the budget, such as 0.1, or lengthen the budget."
    )
