"""Checks of groups of parameters, and of values that change between steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from optrial.certifying.checks.common import EQUAL, apart, finite, first_apart, reason
from optrial.certifying.conditions import Case, Item
from optrial.certifying.conventions import running_products
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.hypotheses import Hypothesis, Search
from optrial.certifying.reproducer import numbers, script_of_departure, shortest
from optrial.certifying.subject import Check, Subject, Tiny
from optrial.errors import USER_CODE_ERRORS
from optrial.replay.comparison import departures, first_of
from optrial.replay.draws import Draw, Setting, tensor_text
from optrial.replay.target import parameters_of, step_with, train

__all__ = ["GROUP_CHECKS"]

_STILL = "groups"
"""Name of the finding that a group does not move, whatever its values."""
_NO_EFFECT_LATER = {("rprop", "lr"), ("shampoo", "eps")}
"""Rules and hyperparameters that their best-known implementation reads in the first step only."""


def _changed(subject: Subject, setting: Setting, name: str) -> Setting | None:
    """Return a setting with another value of one hyperparameter; None without another one."""
    if name == "weight_decay":
        return replace(setting, weight_decay=0.3)
    h = next(h for h in subject.binding.rule.hyperparameters if h.name == name)
    value = float(setting.values[name])
    for candidate in (value / 2, 2 * value, value + 1, 0.3):
        if candidate != value and h.check(candidate) is None:
            return replace(setting, values={**setting.values, name: candidate})
    return None


def _keys(subject: Subject, before: Setting, after: Setting) -> dict[str, Any]:
    """Return the arguments that differ between two settings."""
    old, new = (subject.binding.arguments(setting) for setting in (before, after))
    return {key: value for key, value in new.items() if value != old.get(key)}


def respects_groups(subject: Subject) -> Iterator[Finding]:
    """Each group of parameters is updated with its own values."""
    if subject.is_joint:
        return
    tiny, setting = subject.tiny(20), subject.setting(20)
    arguments = subject.binding.arguments(setting)
    variants = [
        (name, _keys(subject, setting, changed))
        for name in subject.binding.adjustable()
        if (changed := _changed(subject, setting, name)) is not None
    ]
    variants += [(key, {key: not value}) for key, value in _switches(subject, arguments)]
    for name, keys in variants:
        if not keys or not _is_of_group(subject, tiny, arguments, keys):
            continue
        for special in ("b", "a"):
            for finding in _group(subject, tiny, arguments, name, keys, special):
                yield finding
                if finding.name == _STILL:
                    return


def _switches(subject: Subject, arguments: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return switches of the class that change its steps, with their values."""
    known = ("maximize", "nesterov", "amsgrad", "centered")
    defaults = subject.target.signature
    return [
        (key, bool(arguments.get(key, defaults[key].default)))
        for key in known
        if key in defaults and isinstance(defaults[key].default, bool)
    ]


def _is_of_group(
    subject: Subject, tiny: Tiny, arguments: Mapping[str, Any], keys: Mapping[str, Any]
) -> bool:
    """Return whether all values are kept in `param_groups`, where a group may have others."""
    parameters = parameters_of(tiny.start)
    try:
        subject.make(parameters, {**arguments, **keys})
        group = subject.make(parameters, arguments).param_groups[0]
    except Exception:  # noqa: BLE001  a combination that the class refuses
        return False
    return keys.keys() <= group.keys()


def _group(
    subject: Subject,
    tiny: Tiny,
    arguments: dict[str, Any],
    name: str,
    keys: Mapping[str, Any],
    special: str,
) -> Iterator[Finding]:
    """Compare two groups, one of them with other values, with two optimizers."""
    parameters = parameters_of(tiny.start)
    groups: list[dict[str, Any]] = [
        {"params": [parameter], **(keys if label == special else {})}
        for label, parameter in parameters.items()
    ]
    optimizer = subject.target(groups, arguments)
    own = {label: {**arguments, **(keys if label == special else {})} for label in tiny.start}
    expected = {label: _alone(subject, tiny, label, own[label]) for label in tiny.start}
    same = {label: _alone(subject, tiny, label, arguments) for label in tiny.start}
    for gradients in tiny.gradients:
        step_with(optimizer, parameters, gradients)
    result = first_apart(parameters, expected, EQUAL)
    if result is None:
        return
    departing, key = result[0], next(iter(keys))
    problem = (
        f"ignores {name} of a group and uses one value for all"
        if first_apart(parameters, same, EQUAL) is None
        else f"updates a group with values of another one if their {name} differs"
    )
    is_still = torch.equal(parameters[departing], tiny.start[departing])
    if is_still:
        problem = "does not move the weights of one of two groups"
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["b"])
    script.weights("c", tiny.start[departing])
    text = ", ".join(
        "{" + f'"params": [{label}]' + _entries(keys if label == special else {}) + "}"
        for label in tiny.start
    )
    script.add(f"optimizer = {script.call(f'[{text}]', arguments)}")
    script.add(f"alone = {script.call('[c]', own[departing])}")
    for gradients in tiny.gradients:
        for label in tiny.start:
            script.add(
                f"{label}.grad = torch.tensor({numbers(gradients[label])}, dtype=torch.float64)"
            )
        script.add(f"c.grad = {departing}.grad.clone()", "optimizer.step()", "alone.step()")
    script.add(f"assert torch.allclose({departing}, c, rtol=1e-12, atol=0), ({departing}, c)")
    yield Finding(
        _STILL if is_still else f"groups: {name}",
        Kind.FAULT,
        problem,
        tensor=tensor_text(departing, parameters[departing]),
        term=key,
        difference=result[1],
        reproducer=script.text,
    )


def _entries(keys: Mapping[str, Any]) -> str:
    return "".join(f', "{key}": {value!r}' for key, value in keys.items())


def _alone(subject: Subject, tiny: Tiny, label: str, arguments: Mapping[str, Any]) -> torch.Tensor:
    parameters = parameters_of({label: tiny.start[label]})
    optimizer = subject.make(parameters, arguments)
    for gradients in tiny.gradients:
        step_with(optimizer, parameters, {label: gradients[label]})
    return parameters[label].detach()


def adds_groups(subject: Subject) -> Iterator[Finding]:
    """A group that `add_param_group` adds later starts as in a fresh optimizer."""
    if subject.is_joint:
        return
    tiny, arguments = subject.tiny(21), subject.arguments(21)
    parameters = parameters_of(tiny.start)
    optimizer = subject.target([parameters["a"]], arguments)
    late_rate = float(arguments["lr"]) / 2
    for gradients in tiny.gradients[:2]:
        step_with(optimizer, {"a": parameters["a"]}, gradients)
    had_state = bool(optimizer.state.get(parameters["a"]))
    try:
        optimizer.add_param_group({"params": [parameters["b"]], "lr": late_rate})
    except Exception as error:  # noqa: BLE001  code of a user
        text = f"fails in add_param_group after two steps: {error}"
        yield Finding("add_param_group", Kind.FAULT, text)
        return
    is_lost = had_state and not optimizer.state.get(parameters["a"])
    for gradients in tiny.gradients[2:]:
        step_with(optimizer, parameters, gradients)
    expected = {"a": _alone(subject, tiny, "a", arguments)}
    late = parameters_of({"b": tiny.start["b"]})
    of_late = subject.make(late, {**arguments, "lr": late_rate})
    for gradients in tiny.gradients[2:]:
        step_with(of_late, late, {"b": gradients["b"]})
    expected["b"] = late["b"].detach()
    result = first_apart(parameters, expected, EQUAL)
    if result is None:
        return
    label = result[0]
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["b"])
    script.weights("c", tiny.start[label])
    script.add(f"optimizer = {script.call('[a]', arguments)}")
    own = {**arguments, "lr": late_rate} if label == "b" else arguments
    script.add(f"alone = {script.call('[c]', own)}")
    for step, gradients in enumerate(tiny.gradients):
        if step == 2:
            group = f'{{"params": [b], "lr": {late_rate!r}}}'
            script.add(f"optimizer.add_param_group({group})")
        for one in ("a", "b") if step >= 2 else ("a",):
            script.add(f"{one}.grad = torch.tensor({numbers(gradients[one])}, dtype=torch.float64)")
        script.add("optimizer.step()")
        if label == "a" or step >= 2:
            script.add(f"c.grad = {label}.grad.clone()", "alone.step()")
    script.add(f"assert torch.allclose({label}, c, rtol=1e-12, atol=0), ({label}, c)")
    what = "starts the new group" if label == "b" else "continues the first group"
    moves = f"{what} with different steps than alone after add_param_group"
    is_still = torch.equal(parameters[label], tiny.start[label])
    cause = ": the step count is shared" if _counts_per_group(subject) and not is_still else ""
    if is_lost and label == "a":
        cause = ": the state is lost"
    yield Finding(
        "add_param_group",
        Kind.FAULT,
        ("does not move the weights of a group that was added" if is_still else moves) + cause,
        tensor=tensor_text(label, parameters[label]),
        reproducer=script.text,
    )


def _counts_per_group(subject: Subject) -> bool:
    tiny = subject.tiny(21)
    optimizer = subject.make(parameters_of(tiny.start), subject.arguments(21))
    return any(type(value) is int for value in vars(optimizer).values())


def reads_values_at_each_step(subject: Subject) -> Iterator[Finding]:
    """A value that is changed in `param_groups` between steps counts from the next step on."""
    setting = subject.setting(22, decayed=subject.knows_decay)
    for name in subject.binding.adjustable():
        changed = _changed(subject, setting, name)
        if changed is None or _is_start_value(subject, name):
            continue
        if name == "weight_decay" and not subject.knows_decay:
            continue
        draw = replace(subject.draw(23, setting), changes={3: changed})
        keys = _keys(subject, setting, changed)
        group = subject.make(
            parameters_of(draw.start), subject.binding.arguments(setting)
        ).param_groups[0]
        if not keys.keys() <= group.keys():
            if name == "lr":
                yield _not_in_groups(subject)
            continue
        try:
            yield from _change(subject, draw, name)
        except USER_CODE_ERRORS as error:
            text = f"raises an error after {name} was changed in param_groups: {reason(error)}"
            yield Finding(f"changing {name}", Kind.FAULT, text, step=3, term=name)


def _is_start_value(subject: Subject, name: str) -> bool:
    """Return whether a hyperparameter counts before the first step only, as an initial value."""
    return subject.reference is not None and name in ("initial_accumulator", "d0")


def _not_in_groups(subject: Subject) -> Finding:
    script = subject.script().weights("w", torch.ones(1))
    script.add(f"optimizer = {script.call('[w]', subject.arguments(22))}")
    script.add('assert "lr" in optimizer.param_groups[0]')
    return Finding(
        "learning rate",
        Kind.FAULT,
        "does not keep lr in param_groups, where schedulers change it",
        reproducer=script.text,
    )


def _change(subject: Subject, draw: Draw, name: str) -> Iterator[Finding]:
    """Compare the steps after a change with the prediction, or with steps without the change."""
    unchanged = replace(draw, changes={})
    actual = train(subject.target, subject.binding, draw)
    if subject.reference is not None and subject.explanation is None:
        return  # what it computes is unknown
    if subject.explanation is not None and subject.reference is not None:
        case = subject.explanation.case(subject.target, subject.binding, draw)
        result = departures(draw, case.actual, case.expected)
        if not result:
            return
    elif departures(draw, actual, train(subject.target, subject.binding, unchanged), 0.0):
        return
    else:
        result = {}
    has_no_effect = not departures(
        draw, actual, train(subject.target, subject.binding, unchanged), EQUAL
    )
    is_known = (subject.binding.rule.name, name) in _NO_EFFECT_LATER
    sentence = (
        f"reads {name} once: changing it in param_groups has no effect on later steps"
        if has_no_effect
        else f"takes different steps from its rule after {name} was changed in param_groups"
    )
    first = first_of(result) if result else None
    kind = Kind.CONVENTION if is_known and has_no_effect else Kind.FAULT
    if not has_no_effect and name == "lr" and subject.binding.rule.state:
        sentence += ": a learning rate of earlier steps is kept in the state"
        kind = Kind.CONVENTION
    elif result and _corrects_by_products(subject, case):
        sentence += ": it corrects averages by the product of their decay rates at all steps"
        kind = Kind.CONVENTION
    yield Finding(
        f"changing {name}",
        kind,
        sentence,
        step=first.step if first else 3,
        tensor=tensor_text(first.label, draw.start[first.label]) if first else "",
        term=name,
        difference=first.difference if first else 0.0,
        reproducer=_script_of_change(subject, draw),
    )


def _corrects_by_products(subject: Subject, case: Case) -> bool:
    """Return whether bias corrections by products explain the steps after a change."""
    items = [Item(case, label) for label in case.draw.start]
    search, by_products = Search(subject.binding, items), Hypothesis(change=running_products)
    return all(search.predicts(by_products, item) for item in items)


def _script_of_change(subject: Subject, draw: Draw) -> str:
    reference = subject.explanation.predict if subject.explanation else None
    if reference is None:
        return ""
    small, _ = shortest(subject.target, subject.binding, reference, draw)
    return script_of_departure(subject.target, subject.binding, reference, small)


def follows_schedulers(subject: Subject) -> Iterator[Finding]:
    """A scheduler of `torch.optim.lr_scheduler` has the effect of the same values set by hand."""
    tiny, arguments = subject.tiny(24), subject.arguments(24)
    rate = float(arguments["lr"])
    by_hand, scheduled = (parameters_of(tiny.start) for _ in range(2))
    of_hand, of_schedule = (subject.make(p, arguments) for p in (by_hand, scheduled))
    if "lr" not in of_hand.param_groups[0]:
        return  # reported by the check of values that change
    try:
        scheduler = torch.optim.lr_scheduler.ExponentialLR(of_schedule, gamma=0.5)
    except Exception as error:  # noqa: BLE001  code of a user
        yield Finding("schedulers", Kind.FAULT, f"does not work with a scheduler: {error}")
        return
    for step, gradients in enumerate(tiny.gradients):
        for group in of_hand.param_groups:
            group["lr"] = rate * 0.5**step
        step_with(of_hand, by_hand, gradients)
        step_with(of_schedule, scheduled, gradients)
        scheduler.step()
    if (result := first_apart(scheduled, by_hand, EQUAL)) is None:
        return
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"scheduled = {script.call('[a]', arguments)}")
    script.add(f"by_hand = {script.call('[b]', arguments)}")
    script.add("scheduler = torch.optim.lr_scheduler.ExponentialLR(scheduled, gamma=0.5)")
    script.add(
        "for step in range(4):", "    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)"
    )
    script.add(f'    by_hand.param_groups[0]["lr"] = {rate!r} * 0.5**step')
    script.add("    scheduled.step()", "    by_hand.step()", "    scheduler.step()")
    script.add("assert torch.allclose(a, b, rtol=1e-12, atol=0), (a, b)")
    yield Finding(
        "schedulers",
        Kind.FAULT,
        "takes different steps with a scheduler than with the same learning rates set by hand",
        tensor=tensor_text(result[0], scheduled[result[0]]),
        difference=result[1],
        reproducer=script.text,
    )


def rests_at_rate_zero(subject: Subject) -> Iterator[Finding]:
    """A learning rate of 0 leaves the weights alone."""
    if _reference_moves(subject):
        return
    tiny, arguments = subject.tiny(25), {**subject.arguments(25), "lr": 0.0}
    try:
        parameters = subject.trained(tiny, arguments)
    except Exception:  # noqa: BLE001  a class may refuse a rate of 0
        return
    result = first_apart(parameters, tiny.start)
    if result is None:
        return
    decays = subject.binding.decays
    without = {**subject.arguments(25, decayed=False), "lr": 0.0}
    is_decay = bool(decays) and first_apart(subject.trained(tiny, without), tiny.start) is None
    script = subject.script().weights("w", tiny.start["a"])
    script.add(f"optimizer = {script.call('[w]', arguments)}", "before = w.detach().clone()")
    script.add("w.grad = torch.ones_like(w)", "optimizer.step()", "w.grad = torch.ones_like(w)")
    script.add("optimizer.step()", "assert torch.equal(w, before), w")
    yield Finding(
        "learning rate of 0",
        Kind.CONVENTION if is_decay and _explains_decay(subject) else Kind.FAULT,
        "shrinks the weights at a learning rate of 0: weight decay is not scaled by lr"
        if is_decay
        else "moves the weights at a learning rate of 0"
        if finite(parameters)
        else "makes the weights NaN at a learning rate of 0",
        tensor=tensor_text(result[0], parameters[result[0]]),
        reproducer=script.text,
    )


def _explains_decay(subject: Subject) -> bool:
    reasons: Sequence[tuple[str, Kind, str]] = (
        subject.explanation.reasons if subject.explanation else ()
    )
    return any("weight decay" in name and kind is Kind.CONVENTION for name, kind, _ in reasons)


def _reference_moves(subject: Subject) -> bool:
    """Return whether the rule itself moves weights at a learning rate of 0, or has no such step."""
    if subject.reference is None:
        return False
    setting = subject.setting(25)
    draw = subject.draw(25, replace(setting, values={**setting.values, "lr": 0.0}))
    try:
        last = subject.reference(draw)[-1]
    except ZeroDivisionError:
        return True
    return any(apart(last[label], tensor) > 0 for label, tensor in draw.start.items())


def _check(name: str, run: object, *, of_torch: bool = True) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run, of_torch)  # type: ignore[arg-type]


GROUP_CHECKS = (
    _check("groups", respects_groups),
    _check("add_param_group", adds_groups),
    _check("changed values", reads_values_at_each_step),
    _check("schedulers", follows_schedulers),
    _check("learning rate of 0", rests_at_rate_zero, of_torch=False),
)
