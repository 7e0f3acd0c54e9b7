"""Groups of parameters: their checks, their parameters in a model, and what they add to a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from optrial.code import code_sha256, is_code
from optrial.config import Axis, GroupEntry, ModifierEntry, OptimizerEntry, Times
from optrial.errors import Problem, listed
from optrial.models import (
    RoleOfParameter,
    build_model,
    matching,
    roles_of_parameters,
    selector_problem,
)
from optrial.plan.optimizers import rule_of, rule_of_entry
from optrial.rules import ROLES_AS_VECTORS, Rule, modifier_named
from optrial.spec import ParameterGroup

__all__ = [
    "Parameters",
    "Placement",
    "axes_of",
    "check_groups",
    "group_axes",
    "groups_of",
    "has_own_rule",
    "leaves_matrices",
    "matrix_note",
    "parameters_of",
    "placed",
    "placement_problems",
    "whole_entry",
]

Parameters = Mapping[str, RoleOfParameter]
"""The trained parameters of a model, by name."""

_TIMES = ".times"


def axes_of(entry: OptimizerEntry) -> Mapping[str, Axis]:
    """Return every hyperparameter of an entry, and its weight decay, after defaults."""
    raw: dict[str, Any] = entry.hyperparameters
    if entry.kind == "torch":
        return raw | ({"weight_decay": entry.weight_decay} if entry.weight_decay else {})
    rule = rule_of_entry(entry)
    axes = {h.name: raw.get(h.name, Axis((h.default,))) for h in rule.hyperparameters}
    return axes | {"weight_decay": entry.weight_decay or Axis((rule.default_weight_decay,))}


def has_own_rule(entry: OptimizerEntry, group: GroupEntry) -> bool:
    """Return whether a group has a rule other than that of its entry."""
    return group.kind is not None and (group.kind, group.code) != (entry.kind, entry.code)


def whole_entry(entry: OptimizerEntry, group: GroupEntry) -> OptimizerEntry:
    """Return the entry that would update all parameters as a group updates its own."""
    known = axes_of(entry)
    kind, code = entry.kind, entry.code
    values: dict[str, Axis] = {}
    if has_own_rule(entry, group) and group.kind is not None:
        kind, code = group.kind, group.code
    else:
        values = entry.hyperparameters
        values |= {"weight_decay": entry.weight_decay} if entry.weight_decay else {}
    for name, axis in group.values.items():
        if not isinstance(axis, Times):
            values[name] = axis
        elif name in known and all(map(_is_number, known[name].values)):
            products = (base * factor for base in known[name].values for factor in axis.values)
            values[name] = Axis(tuple(dict.fromkeys(products)))
    decay = group.decay or (None if has_own_rule(entry, group) else entry.decay)
    modify = modify_of(entry, group)
    if modify is not entry.modify:
        values = {n: v for n, v in values.items() if "." not in n or n in group.values}
    fields: dict[str, Any] = {kind: code, "decay": decay, "modify": modify, **values}
    return OptimizerEntry.model_construct(**fields)


def modify_of(entry: OptimizerEntry, group: GroupEntry) -> tuple[ModifierEntry, ...] | None:
    """Return the modifiers of a group: its own ones, or those of its entry if it has its rule."""
    if group.modify is not None or has_own_rule(entry, group):
        return group.modify
    return entry.modify


def group_axes(entry: OptimizerEntry, group: GroupEntry) -> dict[str, Axis]:
    """Return the values that a group sets, by name; relative ones have names such as "lr.times".

    A group with its own rule sets every hyperparameter of that rule, and one with modifiers of
    its own every hyperparameter of these.
    """
    values: Mapping[str, Axis] = group.values
    if group.freeze:
        values = {}
    elif has_own_rule(entry, group):
        values = {**axes_of(whole_entry(entry, group)), **values}
    elif group.modify is not None:
        known = axes_of(whole_entry(entry, group))
        values = {**{name: axis for name, axis in known.items() if "." in name}, **values}
    axes = {
        name + _TIMES if isinstance(axis, Times) else name: axis for name, axis in values.items()
    }
    return axes | ({"schedule": Axis(group.schedule)} if group.schedule else {})


def check_groups(entry: OptimizerEntry) -> Iterator[Problem]:
    """Yield problems with the groups of an entry that is right by itself; none needs a model."""
    groups = entry.groups or ()
    labels: dict[str, int] = {}
    for index, group in enumerate(groups):
        path = f"groups[{index}]"
        yield from (problem.under(path) for problem in _group_problems(entry, group))
        if group.label in labels:
            taken = f"'{group.label}' is already the name of groups[{labels[group.label]}]"
            yield Problem(f"{path}.name", f"{taken}; give each group a different name.")
        labels.setdefault(group.label, index)


def _group_problems(entry: OptimizerEntry, group: GroupEntry) -> Iterator[Problem]:
    if group.freeze:
        keys = ("schedule", "decay", "modify")
        given = [*group.values, *(k for k in keys if getattr(group, k) is not None)]
        for name in given + ([group.kind] if group.kind else []):
            yield Problem(name, "has no effect beside freeze: true; leave one of them out.")
        return
    if has_own_rule(entry, group):
        for name in ("closure", "create_graph"):
            if getattr(entry, name):
                text = f"is beside {name}: true, which needs one class for all parameters."
                yield Problem(group.kind or "", text)
    known = axes_of(entry)
    for name, axis in group.values.items():
        if isinstance(axis, Times):
            yield from _times_problems(entry, known, name)


def _times_problems(
    entry: OptimizerEntry, known: Mapping[str, Axis], name: str
) -> Iterator[Problem]:
    """Yield why a value of an entry cannot be multiplied."""
    if name not in known or not all(map(_is_number, known[name].values)):
        has = "sets none" if name not in known else f"has {known[name].values[0]!r}"
        reason = f"multiplies the {name} of the entry, which {has}; give the entry a number."
        yield Problem(f"{name}.times", reason)
        return
    if entry.kind == "torch" or name == "weight_decay":
        return
    (hyperparameter,) = (h for h in rule_of_entry(entry).hyperparameters if h.name == name)
    if hyperparameter.high < math.inf or hyperparameter.low < 0:
        reason = f"applies to values without an upper bound; write a value, {hyperparameter.range}."
        yield Problem(f"{name}.times", reason)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parameters_of(
    model: tuple[str, Mapping[str, Any]],
    input_shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None = None,
) -> Parameters:
    """Return the trained parameters of a model, with their roles.

    Args:
        model: its kind and its arguments.
        input_shape: shape of a sample.
        classes: number of classes or outputs.
        vocabulary: number of tokens, if inputs are tokens.
    """
    kind, arguments = model
    sha256 = code_sha256(kind) if is_code(kind) else ""
    text = json.dumps(arguments)
    return _parameters(kind, sha256, text, input_shape, classes, vocabulary)


@cache
def _parameters(
    kind: str,
    sha256: str,
    arguments: str,
    input_shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None,
) -> Parameters:
    del sha256  # part of the key
    model = build_model(
        kind,
        json.loads(arguments),
        input_shape=input_shape,
        classes=classes,
        vocabulary=vocabulary,
        seed=0,
    )
    return roles_of_parameters(model, input_shape)


class Placement(NamedTuple):
    """The parameters of a model, divided among the groups of an entry.

    Attributes:
        groups: names of the parameters of each group.
        rest: names of the parameters in no group.
        as_vectors: names of matrices that the entry's rule leaves to the update of vectors.
    """

    groups: tuple[tuple[str, ...], ...]
    rest: tuple[str, ...]
    as_vectors: tuple[str, ...]


def placed(entry: OptimizerEntry, parameters: Parameters) -> Placement:
    """Divide the parameters of a model; the first group that matches a parameter holds it."""
    groups: list[tuple[str, ...]] = []
    left = dict(parameters)
    for group in entry.groups or ():
        groups.append(tuple(matching(group.match, left)))
        left = {name: value for name, value in left.items() if name not in groups[-1]}
    roles = _roles_left_to_vectors(entry)
    named = [
        name
        for group, names in zip(entry.groups or (), groups, strict=True)
        if group.kind is not None or group.freeze
        for name in names
    ]
    as_vectors = tuple(
        name
        for name in matching(roles, parameters)
        if len(parameters[name].shape) > 1 and name not in named
    )
    return Placement(tuple(groups), tuple(left), as_vectors)


def leaves_matrices(entry: OptimizerEntry) -> bool:
    """Return whether the rule or a modifier of an entry treats some matrices as vectors."""
    return bool(_roles_left_to_vectors(entry))


def matrix_note(entry: OptimizerEntry, parameters: Parameters) -> str:
    """Return a note if a rule of matrices leaves every matrix of a model to the update of vectors.

    "" for any other rule.
    """
    if not leaves_matrices(entry):
        return ""
    placement = placed(entry, parameters)
    matrices = [name for name in parameters if len(parameters[name].shape) > 1]
    if set(matrices) - set(placement.as_vectors):
        return ""
    has_none = "the model has no matrix besides embeddings and the last linear layer"
    if not (entry.kind == "rule" and entry.code in ROLES_AS_VECTORS):
        idle = [name for name in entry.modifiers if modifier_named(name).as_vectors]
        return f"{entry.label}: {listed(idle)} has no effect, because {has_none}"
    with_adamw = "vector_lr" in rule_of(entry.kind, entry.code).defaults
    how = "as AdamW does" if with_adamw else "as vectors"
    return (
        f"{entry.label} updates all parameters {how}: {has_none}; groups: "
        f"[{{match: matrices, rule: {entry.code}}}] updates them as matrices"
    )


def _roles_left_to_vectors(entry: OptimizerEntry) -> Sequence[str]:
    of_rule = ROLES_AS_VECTORS.get(entry.code, ()) if entry.kind == "rule" else ()
    of_modifiers = (role for name in entry.modifiers for role in modifier_named(name).as_vectors)
    return tuple(dict.fromkeys((*of_rule, *of_modifiers)))


def placement_problems(entry: OptimizerEntry, parameters: Parameters) -> Iterator[Problem]:
    """Yield why the groups of an entry do not suit a model."""
    placement, groups = placed(entry, parameters), entry.groups or ()
    for index, group in enumerate(groups):
        reasons = [selector_problem(selector, parameters) for selector in group.match]
        for number, reason in enumerate(reasons):
            if reason:
                where = f"match[{number}]" if len(group.match) > 1 else "match"
                yield Problem(f"groups[{index}].{where}", reason)
        if any(reasons):
            continue
        names = matching(group.match, parameters)
        if not placement.groups[index]:
            earlier = [
                other.label
                for other, held in zip(groups[:index], placement.groups, strict=False)
                if set(held) & set(names)
            ]
            reason = (
                f"has no effect: {listed(earlier)} matches its parameters ({listed(names)}) first; "
                "move it up, or leave it out."
            )
            yield Problem(f"groups[{index}]", reason)
        elif not _differs(entry, group) and not _shields(entry, index, parameters, placement):
            reason = (
                f"has no effect: {listed(names)} would be updated in the same way without it; give "
                "it a value that differs from the entry's, or leave it out."
            )
            yield Problem(f"groups[{index}]", reason)
    if not placement.rest:
        yield from _unused_problems(entry)
    yield from _shared_state_problems(entry, placement)


def _differs(entry: OptimizerEntry, group: GroupEntry) -> bool:
    """Return whether a group may update its parameters in another way than its entry."""
    if group.freeze or has_own_rule(entry, group):
        return True
    whole, known = axes_of(whole_entry(entry, group)), axes_of(entry)
    varies = any(len(axis.values) > 1 for axis in group.values.values())
    values = {name: axis.values for name, axis in whole.items()}
    if varies or values != {name: axis.values for name, axis in known.items()}:
        return True
    if group.modify is not None and group.modifiers != entry.modifiers:
        return True
    if group.schedule is not None and group.schedule != entry.schedule:
        return True
    if entry.kind == "torch" or group.decay is None:
        return False
    return group.decay != (entry.decay or rule_of_entry(entry).default_decay)


def _shields(
    entry: OptimizerEntry, index: int, parameters: Parameters, placement: Placement
) -> bool:
    """Return whether a group keeps its parameters from a later one, or from a default of the rule.

    A group that names the rule of its entry does the latter.
    """
    held = set(placement.groups[index])
    groups = entry.groups or ()
    later = (matching(group.match, parameters) for group in groups[index + 1 :])
    if any(held & set(names) for names in later):
        return True
    matrices = {name for name in held if len(parameters[name].shape) > 1}
    roles = _roles_left_to_vectors(entry)
    return groups[index].kind is not None and bool(matrices & set(matching(roles, parameters)))


def _unused_problems(entry: OptimizerEntry) -> Iterator[Problem]:
    """Yield values of an entry that no parameter takes: groups hold all, and set their own."""
    trained = [group for group in entry.groups or () if not group.freeze]
    if not trained:
        text = "freeze every parameter of the model; leave at least one to be trained."
        yield Problem("groups", text)
        return
    taking = [group for group in trained if not has_own_rule(entry, group)]
    given = [*entry.hyperparameters, *(["weight_decay"] if entry.weight_decay else [])]
    for name in given:
        inherited = any(name not in group.values for group in taking)
        if not inherited and not any(
            isinstance(group.values.get(name), Times) for group in trained
        ):
            text = "no parameter takes it: groups hold every parameter, and none takes this value"
            yield Problem(
                name, f"{text}; leave it out, or leave some parameters out of the groups."
            )


def _shared_state_problems(entry: OptimizerEntry, placement: Placement) -> Iterator[Problem]:
    """Refuse to divide parameters of a rule whose state is one for all of its parameters."""
    first: dict[str, str] = {} if not placement.rest else {_rule_key(entry, None): "the entry"}
    for index, group in enumerate(entry.groups or ()):
        key = _rule_key(entry, group)
        rule = None if key == "" or group.freeze else _rule(entry, group)
        if rule is None or rule.model is None:
            continue
        if key in first:
            reason = (
                f"{rule.name} adapts one step size to all of its parameters, and cannot give "
                f"these and {first[key]} different values; give the group another rule."
            )
            yield Problem(f"groups[{index}]", reason)
        first.setdefault(key, f"groups[{index}]")


def _rule_key(entry: OptimizerEntry, group: GroupEntry | None) -> str:
    kind, code = entry.kind, entry.code
    if group is not None and group.kind is not None:
        kind, code = group.kind, group.code
    return "" if kind == "torch" else f"{kind} {code}"


def _rule(entry: OptimizerEntry, group: GroupEntry) -> Rule:
    return rule_of(group.kind or entry.kind, group.code if group.kind else entry.code)


def groups_of(
    entry: OptimizerEntry,
    placement: Placement,
    points: Sequence[Mapping[str, Any]],
    schedules: Sequence[Mapping[str, Any] | None],
) -> tuple[ParameterGroup, ...]:
    """Return the groups of a run.

    Args:
        entry: the optimizer.
        placement: the parameters of each group.
        points: values of each group, by the names of `group_axes`.
        schedules: schedule of each group, resolved; None for that of the entry.
    """
    groups = entry.groups or ()
    return tuple(
        _group_of_run(entry, group, names, point, schedule)
        for group, names, point, schedule in zip(
            groups, placement.groups, points, schedules, strict=True
        )
    )


def _group_of_run(
    entry: OptimizerEntry,
    group: GroupEntry,
    names: tuple[str, ...],
    point: Mapping[str, Any],
    schedule: Mapping[str, Any] | None,
) -> ParameterGroup:
    if group.freeze:
        return ParameterGroup(group.label, names, freeze=True)
    own = has_own_rule(entry, group)
    kind = group.kind if own and group.kind else entry.kind
    values = {n: v for n, v in point.items() if n != "schedule" and not n.endswith(_TIMES)}
    times = {n.removesuffix(_TIMES): float(v) for n, v in point.items() if n.endswith(_TIMES)}
    decay, weight_decay = group.decay, None
    if kind != "torch":
        coefficient = values.pop("weight_decay", None)
        weight_decay = None if coefficient is None else float(coefficient)
        values = {n: v if isinstance(v, bool) else float(v) for n, v in values.items()}
        if own:
            decay = group.decay or rule_of_entry(whole_entry(entry, group)).default_decay
    values = {name: value for name, value in values.items() if name not in times}
    return ParameterGroup(
        name=group.label,
        parameters=names,
        optimizer_kind=kind if own else None,
        rule=group.code if own else None,
        hyperparameters=values,
        times=times,
        weight_decay=None if "weight_decay" in times else weight_decay,
        decay=decay,
        schedule=schedule,
        modify=None if group.modify is None else group.modifiers,
    )
