"""Learning-rate schedules: factors of lr, by step; and warm-ups of other hyperparameters.

A study names a schedule, ``cosine``, or its kind and arguments, ``{kind: step, every: {epochs:
30}}``. Resolved for a budget, it is a plain mapping with all durations in steps, and a pure
function of the step. Factors equal those of `torch.optim.lr_scheduler`, where step t = 1 is taken
before any `scheduler.step()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from optrial.errors import Problem, StudyError, counted, problems_of, suggest

__all__ = [
    "SCHEDULES",
    "Duration",
    "OwnFunction",
    "Schedule",
    "check_schedule",
    "learning_rate_factors",
    "needs_steps",
    "resolve_schedule",
    "scheduled_values",
    "warmup_starts",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Duration:
    """A number of steps, a number of epochs, or a fraction of the budget."""

    count: float
    unit: Literal["steps", "epochs", "share"] = "steps"

    def in_steps(self, steps: int, steps_per_epoch: int, divisor: int = 1) -> int:
        """Return the nearest number of steps in a budget of `steps`.

        Args:
            steps: the budget.
            steps_per_epoch: length of an epoch.
            divisor: number by which the budget and all durations but shares of it are divided.
        """
        lengths = {"steps": 1 / divisor, "epochs": steps_per_epoch / divisor, "share": steps}
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


class Warmup(BaseModel):
    """A linear change of a hyperparameter from a first value to its own, which it then keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    first: float = Field(default=0.0, alias="from", description="value at the first step")
    over: Annotated[Duration, PlainValidator(_positive_duration)] = Field(
        description="duration of the change"
    )

    def values(self, value: float, done: Floats) -> Floats:
        """Return from + (value - from) done / over, and `value` from then on."""
        progress = done / self.over.count
        return np.where(progress < 1, self.first + (value - self.first) * progress, value)


def _warmups(value: object) -> object:
    """Read a mapping of warm-ups; a duration stands for one that starts at 0."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            "must map hyperparameters to durations, such as {weight_decay: 0.1}, or to "
            "{from: value, over: duration}"
        )
    return {name: _warmup(name, one) for name, one in value.items()}


def _warmup(name: object, value: object) -> object:
    keys = value.keys() if isinstance(value, Mapping) else set()
    if keys.isdisjoint({"from", "over"}):
        return {"over": value}
    if unknown := [key for key in keys if key not in ("from", "over")]:
        raise ValueError(f"{name} takes `from` and `over`, not {unknown[0]!r}")
    return value


Time = Annotated[Duration, PlainValidator(_duration)]
PositiveTime = Annotated[Duration, PlainValidator(_positive_duration)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
FINAL = Field(default=0.0, description="factor of lr after the last step")


class Schedule(BaseModel):
    """A learning-rate schedule with an optional warm-up.

    During a warm-up of w steps, lr is multiplied by t / w. The kinds `step` and `multistep` count
    steps from the start of training; all others begin when the warm-up ends and span the rest.
    `warmup_of` maps other hyperparameters, ``weight_decay`` and ``sam.rho`` to warm-ups of their
    own: at the first step they have the value `from`, and after w steps that of the optimizer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    counts_warmup: ClassVar[bool] = False
    spans_budget: ClassVar[bool] = True  # whether factors depend on the number of steps

    warmup: Time = Field(default=Duration(0), description="duration of a linear rise from near 0")
    warmup_of: Annotated[dict[str, Warmup], BeforeValidator(_warmups)] | None = Field(
        default=None, description="warm-ups of other hyperparameters, by name"
    )

    def factors(self, done: Floats, total: int) -> Floats:
        """Return the factor of lr after `done` = 0, 1, ... of `total` steps."""
        raise NotImplementedError

    def momenta(self, done: Floats, total: int) -> Floats | None:
        """Return the momentum at the same steps; None for a schedule that does not change it."""
        del done, total
        return None


class Constant(Schedule):
    """The same lr at every step."""

    spans_budget = False

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1."""
        del total
        return np.ones_like(done)


class Step(Schedule):
    """Multiplied by `factor` at regular intervals; as StepLR."""

    counts_warmup = True
    spans_budget = False

    every: PositiveTime = Field(description="interval")
    factor: Factor = Field(default=0.1, description="factor of lr at each of these times")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return factor^floor(done / every)."""
        del total
        return np.power(self.factor, done // self.every.count)


class Multistep(Schedule):
    """Multiplied by `factor` at chosen times; as MultiStepLR."""

    counts_warmup = True
    spans_budget = False

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

    spans_budget = False

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


class CosineRestarts(Schedule):
    """Decays along half cosines that restart at lr; as CosineAnnealingWarmRestarts."""

    period: PositiveTime = Field(description="duration of the first half cosine")
    growth: Annotated[int, Field(ge=1)] = Field(
        default=1, description="duration of each half cosine divided by that before it"
    )
    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return final + (1 - final) (1 + cos(pi since / length)) / 2."""
        length = self.period.count
        lengths, starts = [length], [0.0]
        while starts[-1] + lengths[-1] <= total:
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.growth)
        at = np.searchsorted(starts, done, side="right") - 1
        progress = (done - np.array(starts)[at]) / np.array(lengths)[at]
        return _annealed(1.0, self.final, progress, "cos")


class Polynomial(Schedule):
    """Decays to `final` as a power of the remaining time; as PolynomialLR over the whole budget."""

    power: Factor = Field(default=1.0, description="exponent; 1 is linear")
    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return final + (1 - final) (1 - done / total)^power."""
        return self.final + (1 - self.final) * (1 - done / total) ** self.power


class InverseSqrt(Schedule):
    """Rises during the warm-up of w steps, then decays as sqrt(w / t): Vaswani et al. 2017."""

    counts_warmup = True
    spans_budget = False

    warmup: Time = Field(default=Duration(0.1, "share"), description="duration of the linear rise")

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1 in the first w steps, and sqrt(w / t) after them, with w at least 1."""
        del total
        warmup = max(1.0, self.warmup.count)
        return np.sqrt(warmup / np.maximum(warmup, done + 1))


class Linear(Schedule):
    """Decays to `final` linearly; as LinearLR over the whole budget."""

    final: Share = FINAL

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1 - (1 - final) done / total."""
        return _annealed(1.0, self.final, done / total, "linear")


class OneCycle(Schedule):
    """Rises to lr, then decays; as OneCycleLR, without momentum as with cycle_momentum=False.

    With `momentum`, the hyperparameter momentum or beta1 moves opposite to lr. OneCycleLR does that
    by default, between 0.85 and 0.95.
    """

    pct_start: float = Field(default=0.3, gt=0, lt=1, description="fraction of the steps that rise")
    div_factor: float = Field(default=25.0, ge=1, description="lr divided by the initial lr")
    final_div_factor: float = Field(
        default=1e4, ge=1, description="initial lr divided by the final lr"
    )
    anneal: Literal["cos", "linear"] = Field(default="cos", description="shape of rise and fall")
    momentum: Annotated[list[Momentum], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="momentum at the peak of lr, and at the start and the end"
    )

    def factors(self, done: Floats, total: int) -> Floats:
        """Return a rise over pct_start·total − 1 steps, and a fall over the rest."""
        first = 1 / self.div_factor
        return self._cycle((first, 1.0, first / self.final_div_factor), done, total)

    def momenta(self, done: Floats, total: int) -> Floats | None:
        """Return a fall and a rise at the same steps."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        return self._cycle((high, low, high), done, total)

    def _cycle(self, values: tuple[float, float, float], done: Floats, total: int) -> Floats:
        """Move from the first value to the second and on to the third."""
        start, middle, end = values
        peak, last = self.pct_start * total - 1, total - 1
        progress = done / peak if peak > 0 else np.ones_like(done)
        there = _annealed(start, middle, progress, self.anneal)
        back = _annealed(middle, end, (done - peak) / (last - peak), self.anneal)
        return np.where(done <= peak, there, back)


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


class Plateau(Schedule):
    """Multiplied by `factor` when validation stops improving; as ReduceLROnPlateau.

    `factors` leaves this out: it depends on the evaluations of a run.
    """

    spans_budget = False

    metric: str = Field(default="validation_loss", description="metric of the validation split")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="factor of lr at each of these times"
    )
    patience: Count = Field(default=10, description="evaluations without improvement before it")
    threshold: Annotated[float, Field(ge=0)] = Field(
        default=1e-4, description="improvement that does not count"
    )
    threshold_mode: Literal["rel", "abs"] = Field(
        default="rel", description="whether `threshold` is a share of the best value"
    )
    cooldown: Count = Field(default=0, description="evaluations after it that do not count")
    final: Share = Field(default=0.0, description="least factor of lr")
    better: Literal["lower", "higher"] | None = Field(
        default=None, description="values of the metric that are better, if not as declared"
    )

    def factors(self, done: Floats, total: int) -> Floats:
        """Return 1."""
        del total
        return np.ones_like(done)


class OwnFunction(Schedule):
    """Your own function (steps done, all steps) to a factor; as LambdaLR."""

    args: dict[str, Any] = Field(default={}, description="further arguments of the function")

    def of(self, function: Callable[..., float], done: Floats, total: int) -> Floats:
        """Return the factors that the function returns."""
        values = (float(function(int(step), total, **self.args)) for step in done.ravel())
        return np.fromiter(values, np.float64, done.size).reshape(done.shape)


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
        "cosine_restarts": CosineRestarts,
        "linear": Linear,
        "polynomial": Polynomial,
        "inverse_sqrt": InverseSqrt,
        "one_cycle": OneCycle,
        "warmup_stable_decay": WarmupStableDecay,
        "plateau": Plateau,
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


def needs_steps(schedule: Mapping[str, Any]) -> bool:
    """Return whether a valid schedule depends on the number of steps of the training."""
    parsed = _valid(schedule)
    values: list[object] = [value for _, value in parsed]
    values += [warmup.over for warmup in (parsed.warmup_of or {}).values()]
    values += [item for value in values if isinstance(value, list) for item in value]
    shares = (value for value in values if isinstance(value, Duration) and value.unit == "share")
    return parsed.spans_budget or any(True for _ in shares)


def resolve_schedule(
    schedule: str | Mapping[str, Any], steps: int, steps_per_epoch: int, divisor: int = 1
) -> dict[str, Any]:
    """Return the kind and arguments of a schedule, with defaults and all durations in steps.

    Args:
        schedule: as for `check_schedule`; or the result of this function.
        steps: the budget.
        steps_per_epoch: length of an epoch.
        divisor: number by which the budget was divided; durations in steps and epochs are divided
            by it too, so that the schedule keeps its shape.

    Returns:
        Strings, numbers, lists and mappings only.

    Raises:
        StudyError: the schedule is not valid, or does not fit into the budget.
    """
    parsed = _parsed(schedule)
    if not isinstance(parsed, Schedule):
        raise StudyError(parsed, source="the schedule")

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, Duration):
            return value.in_steps(steps, steps_per_epoch, divisor)
        if isinstance(value, Mapping):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, Warmup):
            over = max(1, value.over.in_steps(steps, steps_per_epoch, divisor))
            return {"from": value.first, "over": over}
        return value

    arguments: dict[str, Any] = {"kind": _kind(schedule)}
    arguments |= {name: plain(value) for name, value in parsed if value is not None}
    for name in {"every", "half_life", "decay", "period"} & arguments.keys():
        arguments[name] = max(1, arguments[name])
    if divisor > 1:
        arguments |= _rounded_to_fit(arguments, steps, divisor)
    for name, warmup in arguments.get("warmup_of", {}).items():
        if divisor > 1:
            warmup["over"] = max(1, min(warmup["over"], steps - 1))
        elif warmup["over"] >= steps:
            durations = {f"warm-up of {name}": warmup["over"]}
            raise StudyError([Problem("schedule", _too_long(durations, steps))])
    needed = arguments["warmup"] + arguments.get("decay", 0)
    if arguments["warmup"] >= steps or needed > steps:
        raise StudyError([Problem("schedule", _too_long(arguments, steps))])
    return arguments


def _rounded_to_fit(arguments: Mapping[str, Any], steps: int, divisor: int) -> dict[str, Any]:
    """Return the arguments that change besides durations as a budget is divided into few steps.

    Durations that fit into the whole budget still do; a factor per step acts as often as before.
    """
    changed: dict[str, Any] = {}
    if "decay" in arguments:
        changed["decay"] = min(arguments["decay"], steps)
    room = steps - changed.get("decay", 1)
    changed["warmup"] = min(arguments["warmup"], room)
    if "at" in arguments:
        changed["at"] = [max(1, time) for time in arguments["at"]]
    if arguments["kind"] == "exponential" and "factor" in arguments:
        changed["factor"] = arguments["factor"] ** divisor
    return changed


def learning_rate_factors(
    schedule: Mapping[str, Any],
    steps: NDArray[np.int64],
    total: int,
    load: Callable[[str], Callable[..., float]] | None = None,
) -> Floats:
    """Return the factor of lr at each of some steps.

    Args:
        schedule: a result of `resolve_schedule`.
        steps: t = 1, 2, ..., in any order.
        total: the budget, in steps.
        load: returns the function of a kind ``module:function``.

    Returns:
        Factors, of the shape of `steps`, above 0 within the budget.
    """
    parsed = _valid(schedule)
    done, length, rise = _phase(parsed, steps, total)
    if isinstance(parsed, OwnFunction):
        assert load is not None
        return rise * parsed.of(load(str(_kind(schedule))), done, length)
    return rise * parsed.factors(done, length)


def scheduled_values(
    schedule: Mapping[str, Any], known: Mapping[str, Any], steps: NDArray[np.int64], total: int
) -> dict[str, Floats]:
    """Return what a schedule changes besides lr: hyperparameter -> its values at some steps.

    Args:
        schedule: a result of `resolve_schedule`.
        known: hyperparameter -> its value without the schedule; others do not change. A weight
            decay of 0 stays 0.
        steps: t = 1, 2, ..., in any order.
        total: the budget, in steps.
    """
    parsed = _valid(schedule)
    time = np.asarray(steps, dtype=np.float64)
    values = {
        name: warmup.values(float(known[name]), time - 1)
        for name, warmup in (parsed.warmup_of or {}).items()
        if name in known and not (name == "weight_decay" and known[name] == 0)
    }
    done, length, _ = _phase(parsed, steps, total)
    momenta = parsed.momenta(done, length)
    if momenta is not None and (cycled := _cycled(known)):
        values[cycled] = momenta
    return values


def warmup_starts(schedule: str | Mapping[str, Any]) -> dict[str, float]:
    """Return the hyperparameters that a valid schedule warms up besides lr, with first values."""
    parsed = _parsed(schedule)
    assert isinstance(parsed, Schedule), parsed
    return {name: warmup.first for name, warmup in (parsed.warmup_of or {}).items()}


def _cycled(known: Mapping[str, Any]) -> str:
    """Return the hyperparameter that a cycle of the momentum changes; "" if there is none."""
    return next((name for name in ("beta1", "momentum") if name in known), "")


def _valid(schedule: Mapping[str, Any]) -> Schedule:
    parsed = _parsed(schedule)
    assert isinstance(parsed, Schedule), parsed
    return parsed


def _phase(schedule: Schedule, steps: NDArray[np.int64], total: int) -> tuple[Floats, int, Floats]:
    """Return the steps done and all steps as a schedule counts them, and the warm-up's factors."""
    warmup = int(schedule.warmup.count)
    time = np.asarray(steps, dtype=np.float64)
    rise = np.minimum(1.0, time / max(warmup, 1))
    if schedule.counts_warmup:
        return time - 1, total, rise
    return np.clip(time - 1 - warmup, 0, total - warmup), total - warmup, rise


def _kind(schedule: str | Mapping[str, Any]) -> object:
    return schedule if isinstance(schedule, str) else schedule.get("kind")


def _parsed(schedule: str | Mapping[str, Any]) -> Schedule | list[Problem]:
    """Return the schedule, or the problems with it."""
    kind = _kind(schedule)
    own = isinstance(kind, str) and ":" in kind
    if not isinstance(kind, str) or not (own or kind in SCHEDULES):
        reason = "is required and missing." if kind is None else f"{kind!r} is not a schedule."
        known = suggest(kind if isinstance(kind, str) else "", SCHEDULES)
        known += " Or module:function."
        return [Problem("" if isinstance(schedule, str) else "kind", f"{reason} {known}")]
    named = {} if isinstance(schedule, str) else schedule
    arguments = {name: value for name, value in named.items() if name != "kind"}
    model = OwnFunction if own else SCHEDULES[kind]
    try:
        return model.model_validate(arguments)  # keys may be no texts
    except ValidationError as error:
        return problems_of(error, model.model_fields)


def _too_long(arguments: Mapping[str, Any], steps: int) -> str:
    known = {name: arguments[name] for name in ("warmup", "decay") if name in arguments}
    parts = [f"{counted(count, 'step')} of {name}" for name, count in (known or arguments).items()]
    return (
        f"{' and '.join(parts)} do not fit into {steps} steps. Shorten them, write them as shares "
        "of the budget, such as 0.1, or lengthen the budget."
    )
