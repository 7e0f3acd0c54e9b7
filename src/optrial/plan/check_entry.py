"""Checks of one optimizer of a study: its rule or class, values, groups, modifiers, schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from optrial.code import call_problems, importable, is_code, load_code
from optrial.config import GroupEntry, OptimizerEntry, belongs, other_keys
from optrial.errors import Problem, suggest
from optrial.plan.groups import check_groups, whole_entry
from optrial.plan.optimizers import rule_of, rule_of_entry
from optrial.plan.own_schedules import own_schedule_problem
from optrial.plan.warmups import warmup_problems
from optrial.rules import Rule, check_schedule, modifier_problems

__all__ = ["entry_problems"]

_TRIED_STEPS = 100


def entry_problems(entry: OptimizerEntry) -> Iterator[Problem]:
    """Yield every problem with the names and values of an optimizer."""
    wrong = list(_treatment_problems(entry, other_keys(OptimizerEntry)))
    yield from wrong
    yield from _schedule_problems(entry, entry)
    of_groups: list[Problem] = []
    for index, group in enumerate(entry.groups or () if not wrong else ()):
        path = f"groups[{index}]"
        treatment = _treatment_problems(whole_entry(entry, group), other_keys(GroupEntry))
        of_group = [problem.under(path) for problem in treatment if _is_of(problem, group)]
        yield from of_group
        of_groups += of_group
        own = _schedule_problems(group, whole_entry(entry, group)) if not of_group else ()
        yield from (problem.under(path) for problem in own)
    if not wrong:
        yield from check_groups(entry)
    for path, axis in (
        ("clip.norm", entry.clip and entry.clip.norm),
        ("clip.value", entry.clip and entry.clip.value),
        ("sam.rho", entry.sam and entry.sam.rho),
        ("adaptive_sam.rho", entry.adaptive_sam and entry.adaptive_sam.rho),
    ):
        for value in axis.values if axis else ():
            if not _is_number(value) or value <= 0:
                yield Problem(path, f"{value!r}: must be a finite number above 0.")
    if entry.average and not (wrong or of_groups):
        yield from _average_problems(entry)


def _average_problems(entry: OptimizerEntry) -> Iterator[Problem]:
    """Yield what is wrong with the average of an optimizer whose rule is right."""
    assert entry.average is not None
    for path, axis in (("ema", entry.average.ema), ("tail", entry.average.tail)):
        for value in axis.values if axis else ():
            if not _is_number(value) or not 0 < value < 1:
                yield Problem(f"average.{path}", f"{value!r}: must be a number between 0 and 1.")
    for part in entry.parts:
        if part.kind == "torch":
            switches = hasattr(load_code(part.code), "eval")
        else:
            switches = rule_of(part.kind, part.code).evaluates_elsewhere if part.kind else False
        if switches:
            reason = f"{part.code} is evaluated at its own average; leave it out."
            yield Problem("average", reason)


def _treatment_problems(entry: OptimizerEntry, keys: Sequence[str]) -> Iterator[Problem]:
    """Yield problems with the rule or class of an entry, which may have `keys` beside it."""
    return _class_problems(entry, keys) if entry.kind == "torch" else _rule_problems(entry, keys)


def _is_of(problem: Problem, group: GroupEntry) -> bool:
    """Return whether a group causes a problem that its whole entry has."""
    given = {*group.values, *(["decay"] if group.decay else [])}
    of_modify = group.modify is not None and problem.path.startswith("modify")
    return group.kind is not None or of_modify or problem.path in given


def _schedule_problems(
    part: OptimizerEntry | GroupEntry, entry: OptimizerEntry
) -> Iterator[Problem]:
    """Yield problems with the schedules of a part, whose rule is that of an entry."""
    for schedule in part.schedule or ():
        problems = check_schedule(schedule)
        if is_code(kind := str(schedule.get("kind"))) and not problems:
            reason = importable(kind)
            problems = [Problem("kind", reason)] if reason else _own_schedule_problems(schedule)
        if schedule.get("momentum") is not None and not problems and not _has_momentum(entry):
            text = f"{entry.code} has neither momentum nor beta1 to cycle; leave it out."
            problems = [Problem("momentum", text)]
        if not problems:
            problems = list(warmup_problems(schedule, part, entry))
        yield from (problem.under("schedule") for problem in problems)


def _own_schedule_problems(schedule: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of a user-defined schedule that show without a budget."""
    kind, args = str(schedule["kind"]), schedule.get("args", {})
    if problems := call_problems(load_code(kind), args, 2):
        return [problem.under("args") for problem in problems]
    reason = own_schedule_problem(kind, args, _TRIED_STEPS)
    return [Problem("kind", reason)] if reason else []


def _has_momentum(entry: OptimizerEntry) -> bool:
    """Return whether a schedule can change the momentum or beta1 of an optimizer."""
    if entry.kind == "torch":
        known = signature(load_code(entry.code)).parameters
        return not {"momentum", "betas"}.isdisjoint(known)
    try:
        rule = rule_of(entry.kind, entry.code)
    except ValueError:
        return True  # reported as another problem
    names = {hyperparameter.name for hyperparameter in rule.hyperparameters}
    return not rule.evaluates_elsewhere and not {"momentum", "beta1"}.isdisjoint(names)


def _class_problems(entry: OptimizerEntry, keys: Sequence[str]) -> Iterator[Problem]:
    """Yield problems with an optimizer class and its arguments."""
    if reason := importable(entry.code, "Class"):
        yield Problem("torch", reason)
        return
    if entry.decay is not None:
        yield Problem("decay", "applies to rules; a torch class has its own weight decay.")
    if entry.modify:
        yield Problem("modify", "applies to rules; a torch class has its own step.")
    arguments: dict[str, Any] = dict(entry.hyperparameters)
    if entry.weight_decay is not None:
        arguments["weight_decay"] = entry.weight_decay
    yield from call_problems(load_code(entry.code), arguments, 1, keys)


def _rule_problems(entry: OptimizerEntry, keys: Sequence[str]) -> Iterator[Problem]:
    """Yield problems with a rule, its hyperparameters and its weight decay."""
    for name in ("closure", "create_graph"):
        if getattr(entry, name):
            yield Problem(name, "applies to torch; a rule computes its step from the gradient.")
    try:
        plain = rule_of(entry.kind, entry.code)
    except ValueError as error:
        yield Problem(entry.kind, str(error))
        return
    if wrong := [Problem(f"modify[{i}]", text) for i, text in _modifier_problems(plain, entry)]:
        yield from wrong
        return
    rule = rule_of_entry(entry)
    known = {hyperparameter.name: hyperparameter for hyperparameter in rule.hyperparameters}
    for name, axis in entry.hyperparameters.items():
        if name not in known:
            yield Problem(name, _unknown_hyperparameter(rule, name, keys))
            continue
        for value in axis.values:
            if reason := known[name].check(value):
                yield Problem(name, reason)
    for value in entry.weight_decay.values if entry.weight_decay else ():
        if not _is_number(value) or value < 0:
            yield Problem("weight_decay", f"{value!r}: must be a finite number of 0 or more.")


def _modifier_problems(rule: Rule, entry: OptimizerEntry) -> Iterator[tuple[int, str]]:
    """Yield the index and the problem of each modifier that an entry cannot have."""
    for index, modifier in enumerate(entry.modify or ()):
        if modifier.rule is not None and modifier.name != "grafting":
            yield index, f"rule: {modifier.rule} applies only to grafting; leave it out."
            return
    yield from modifier_problems(rule, entry.modifiers)
    decays = entry.weight_decay.values if entry.weight_decay else (rule.default_weight_decay,)
    for index, name in enumerate(entry.modifiers):
        if name == "cautious_decay" and entry.decay == "l2":
            yield index, "cautious_decay is decoupled; leave decay: l2 out."
        elif name == "cautious_decay" and not any(decays):
            yield index, "cautious_decay has no effect without decay; give a weight_decay above 0."
        elif name == "hyperball" and entry.weight_decay and any(decays):
            yield (
                index,
                "hyperball fixes the norm of matrices, so weight decay has no effect on it; "
                "leave weight_decay out, or give hyperball to a group: {match: matrices, "
                "modify: [hyperball], weight_decay: 0}.",
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unknown_hyperparameter(rule: Rule, name: str, keys: Sequence[str]) -> str:
    names = [hyperparameter.name for hyperparameter in rule.hyperparameters]
    if "." in name:
        modifier, _, own = name.partition(".")
        known = [n.partition(".")[2] for n in names if n.startswith(f"{modifier}.")]
        hint = suggest(own, known) if known else f"{modifier} has none."
        return f"is not a hyperparameter of {modifier}. {hint}"
    if sentence := belongs(name, "optimizers"):
        return sentence
    meant = [known.name for known in rule.hyperparameters if name in known.aliases]
    hint = f"optrial calls it {' and '.join(meant)}. " if meant else ""
    return f"is not a hyperparameter of {rule.name}. {hint}{suggest(name, [*names, *keys])}"
