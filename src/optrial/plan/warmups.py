"""Checks of the warm-ups of hyperparameters other than lr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

from optrial.code import load_code
from optrial.config import GroupEntry, OptimizerEntry
from optrial.errors import Problem, suggest
from optrial.models import known_values
from optrial.plan.groups import whole_entry
from optrial.plan.optimizers import rule_of, rule_of_entry
from optrial.rules import Hyperparameter, Rule, warmup_starts

__all__ = ["script_problems", "warmup_problems"]

_NO_CHANGE = "starts at the value of the optimizer, and changes nothing; give another `from`."


def warmup_problems(
    schedule: Mapping[str, Any], part: OptimizerEntry | GroupEntry, entry: OptimizerEntry
) -> Iterator[Problem]:
    """Yield problems with the warm-ups of a valid schedule besides that of lr."""
    for name, start in warmup_starts(schedule).items():
        if name == "lr":
            reason: str | None = "is warmed up by `warmup`, from near 0; use that key."
        elif name in ("momentum", "beta1") and schedule.get("momentum") is not None:
            reason = "is cycled by the schedule; leave one of them out."
        elif name in ("sam.rho", "adaptive_sam.rho"):
            reason = _sam_reason(name, start, part)
        elif name == "weight_decay":
            reason = _decay_reason(start, entry)
        elif entry.kind == "torch":
            reason = _argument_reason(name, start, entry)
        else:
            reason = _hyperparameter_reason(name, start, entry)
        if reason:
            yield Problem(f"warmup_of.{name}", reason)


def _sam_reason(name: str, start: float, part: OptimizerEntry | GroupEntry) -> str | None:
    key = name.partition(".")[0]
    if isinstance(part, GroupEntry):
        return "is for all groups together; move it to the schedule of the entry."
    if getattr(part, key) is None:
        return f"the optimizer has no {key}; give it one, or leave this out."
    return None if start >= 0 else f"from {start!r}: must be a finite number of 0 or more."


def _decay_reason(start: float, entry: OptimizerEntry) -> str | None:
    given = entry.weight_decay.values if entry.weight_decay else ()
    if entry.kind != "torch" and not entry.weight_decay:
        try:
            given = (rule_of(entry.kind, entry.code).default_weight_decay,)
        except ValueError:
            return None  # reported as another problem
    if start < 0:
        return f"from {start!r}: must be a finite number of 0 or more."
    if given and not any(given):
        return "the optimizer has no weight decay; give it a weight_decay above 0."
    return None


def _argument_reason(name: str, start: float, entry: OptimizerEntry) -> str | None:
    known = {n: p.default for n, p in signature(load_code(entry.code)).parameters.items()}
    given = entry.hyperparameters
    known |= {n: axis.values[0] for n, axis in given.items() if len(axis.values) == 1}
    others = {name: None for name in known if name not in ("betas", "params")}
    known = {n: v for n, v in (others | known_values(known)).items() if n != "lr"}
    if name not in known:
        return f"is not an argument of '{entry.code}'. {suggest(name, known)}"
    return _NO_CHANGE if known[name] == start else None


def _hyperparameter_reason(name: str, start: float, entry: OptimizerEntry) -> str | None:
    try:
        rule = rule_of_entry(entry)
    except ValueError:
        return None  # reported as another problem
    known = {hyperparameter.name: hyperparameter for hyperparameter in rule.hyperparameters}
    if name not in known:
        others = [*(n for n in known if n != "lr"), "weight_decay", "sam.rho"]
        return f"is not a hyperparameter of {rule.name}. {suggest(name, others)}"
    if reason := _why_constant(rule, known[name]):
        return reason
    given = entry.hyperparameters.get(name)
    if (given.values if given else (known[name].default,)) == (start,):
        return _NO_CHANGE
    wrong = known[name].check(start)
    return wrong and f"from {wrong}"


def _why_constant(rule: Rule, hyperparameter: Hyperparameter) -> str:
    """Return why a hyperparameter of a rule cannot be warmed up; "" if it can."""
    if rule.evaluates_elsewhere:
        reason = "is part of the average at which the model is evaluated, and cannot change"
        return f"{reason}; {rule.name} takes a warmup of lr, or of weight_decay."
    if hyperparameter.scale == "switch" or hyperparameter.whole:
        return "has no values between; only numbers that may be fractions are warmed up."
    if hyperparameter.at_start:
        return "is used only before the first step, so a warm-up has no effect; leave it out."
    return ""


def script_problems(entry: OptimizerEntry) -> Iterator[Problem]:
    """Yield warm-ups of an entry that a class of `torch.optim`, in place of its rule, lacks."""
    for part in (entry, *(whole_entry(entry, group) for group in entry.groups or ())):
        rule = None if part.kind == "torch" else rule_of_entry(part)
        if rule is None or rule.torch_optim is None:
            continue
        arguments = rule.torch_optim.keywords(**rule.defaults)
        known = {*known_values(arguments), "weight_decay", "sam.rho", "adaptive_sam.rho"}
        for schedule in part.schedule or ():
            for name in warmup_starts(schedule).keys() - known:
                reason = (
                    f"rng: script trains with torch.optim.{rule.torch_optim.class_name}, which has "
                    "no such argument; use rng: streams."
                )
                yield Problem(f"schedule.warmup_of.{name}", reason)
