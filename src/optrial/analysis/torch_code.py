"""PyTorch statements that build the optimizer of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from optrial.rules import RULES
from optrial.spec import Part, RunSpec

__all__ = ["torch_code"]

_NOTEBOOK = "notebook"
"""Module in the generated names of objects that a notebook passes."""

_CLOSURE = "# optimizer.step(closure): the closure computes loss and gradients of all the data"

_DECOUPLED = {"decoupled_weight_decay"}
_OF_DECAY = {"weight_decay", *_DECOUPLED}
"""Arguments that only a group with weight decay needs."""


class _Call(NamedTuple):
    """A class with its arguments after the parameters.

    Attributes:
        name: as it is called.
        arguments: by keyword.
        import_line: statement that imports the class; empty for classes of torch and notebooks.
        comment: what its `step` asks for, as a line of comment; empty if nothing.
    """

    name: str
    arguments: Mapping[str, Any]
    import_line: str = ""
    comment: str = ""


def torch_code(spec: RunSpec) -> str:
    """Return the statements that build the optimizer of a run for a PyTorch `model`.

    Groups of parameters become `param_groups`, and one optimizer per class. A class of another
    package than torch is imported first, on its own line. A class of a notebook is only named.
    The text is empty if a rule has no counterpart in `torch.optim`, or has modifiers. A comment
    tells if `optimizer.step` takes a closure.
    """
    if spec.as_vectors:  # no class of torch updates some matrices as vectors
        return ""
    parts = [(part, call) for part in spec.known_parts if (call := _call(part))]
    if len(parts) < len(spec.known_parts):
        return ""
    before = [line for _, call in parts for line in (call.import_line, call.comment)]
    lines = dict.fromkeys(filter(None, before))
    if spec.groups:
        return "\n".join([*lines, *_grouped(spec, parts)])
    ((_, call),) = parts
    return "\n".join([*lines, f"optimizer = {call.name}(model.parameters(){_keywords(call)})"])


def _call(part: Part) -> _Call | None:
    """Return the class that updates parameters as a rule does; None without a counterpart."""
    if part.optimizer_kind == "torch":
        return _class_call(part)
    rule = RULES.get(part.rule)
    counterpart = rule.torch_optim if rule else None
    if rule is None or counterpart is None or part.modify:
        return None
    values = {**rule.defaults, **part.hyperparameters}
    known = counterpart.arguments(values, part.weight_decay, part.decay)
    if known is None:
        return None
    if not part.weight_decay and not part.name and "l2" in counterpart.decays:
        known = {name: value for name, value in known.items() if name != "weight_decay"}
    comment = _CLOSURE if counterpart.needs_closure else ""
    return _Call(f"torch.optim.{counterpart.class_name}", known, comment=comment)


def _class_call(part: Part) -> _Call:
    module, _, name = part.rule.rpartition(":")
    decay = {"weight_decay": part.weight_decay} if part.weight_decay else {}
    arguments: Mapping[str, Any] = {**part.hyperparameters, **decay}
    if module.partition(".")[0] == "torch":
        return _Call(f"{module}.{name}", arguments)
    if module == _NOTEBOOK:
        return _Call(name.rpartition("_")[0], arguments)
    return _Call(name, arguments, f"from {module} import {name}")


def _keywords(call: _Call) -> str:
    return "".join(f", {key}={value!r}" for key, value in call.arguments.items())


def _grouped(spec: RunSpec, parts: Sequence[tuple[Part, _Call]]) -> list[str]:
    """Return the lines that divide the parameters by name and build the optimizers."""
    lines = ["named = dict(model.named_parameters())"]
    for index, group in enumerate(spec.groups):
        lines.append(f"group{index} = [  # {group.name}")
        lines.append("    named.pop(name)")
        lines.append("    for name in (")
        lines += [f"        {name!r}," for name in group.parameters]
        lines += ["    )", "]"]
        if group.freeze:
            lines += [f"for parameter in group{index}:", "    parameter.requires_grad_(False)"]
    variables = {group.parameters: f"group{i}" for i, group in enumerate(spec.groups)}
    by_class: dict[tuple[str, frozenset[str]], list[tuple[Part, _Call]]] = {}
    for part, call in parts:
        key = call.name, frozenset(call.arguments) - _OF_DECAY
        by_class.setdefault(key, []).append((part, call))
    calls = [_built(members, variables) for members in by_class.values()]
    if len(calls) == 1:
        first, *more = calls[0]
        return [*lines, f"optimizer = {first}", *more]
    indented = [f"    {line}" for call in calls for line in (*call[:-1], f"{call[-1]},")]
    return [*lines, "optimizers = [", *indented, "]"]


def _built(
    members: Sequence[tuple[Part, _Call]], variables: Mapping[tuple[str, ...], str]
) -> list[str]:
    """Return the lines of a call with a dictionary for each group of parameters.

    Args:
        members: groups that one class updates.
        variables: names of the variables that hold the parameters.
    """
    common = members[0][1].arguments
    lines = [f"{members[0][1].name}(", "    ["]
    for part, call in members:
        values = variables.get(part.parameters, "list(named.values())")
        differing = {n: v for n, v in call.arguments.items() if common.get(n) != v}
        differing |= dict.fromkeys(common.keys() & _DECOUPLED - call.arguments.keys(), False)
        shown = "".join(f", {name!r}: {value!r}" for name, value in differing.items())
        lines.append(f'        {{"params": {values}{shown}}},')
    lines.append("    ],")
    lines += [f"    {name}={value!r}," for name, value in common.items()]
    return [*lines, ")"]
