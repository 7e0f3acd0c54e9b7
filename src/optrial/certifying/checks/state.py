"""Checks of `state_dict`, of copies, and of the memory that an optimizer keeps."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optrial.certifying.checks.common import EQUAL, finite, first_apart, reason
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import numbers
from optrial.certifying.subject import Check, Subject, Tiny
from optrial.replay.draws import tensor_text
from optrial.replay.target import parameters_of, snapshot, step_with
from optrial.rules import initialise_all

__all__ = ["STATE_CHECKS"]

StateDict = dict[str, Any]
_LOADED_AT = 0, 1, 3  # steps before the state is taken
_ELEMENTS = 4096
_SMALL = 64  # further elements that an optimizer may keep, such as a step count


def _saved(state: StateDict) -> StateDict:
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    loaded: StateDict = torch.load(stream, weights_only=True)
    return loaded


_WAYS: Mapping[str, Callable[[StateDict], StateDict]] = {
    "state_dict": lambda state: state,
    "state_dict, copied": copy.deepcopy,
    "torch.save": _saved,
}
_CODE = {
    "state_dict": "state = copy.deepcopy(first.state_dict())",
    "state_dict, copied": "state = copy.deepcopy(first.state_dict())",
    "torch.save": "stream = io.BytesIO()\ntorch.save(first.state_dict(), stream)\nstream.seek(0)\n"
    "state = torch.load(stream, weights_only=True)",
}


def resumes(subject: Subject) -> Iterator[Finding]:
    """A state that is loaded into a fresh optimizer continues to the same bits, from any step."""
    tiny, arguments = subject.tiny(30), subject.arguments(30)
    for way, carried in _WAYS.items():
        for steps in _LOADED_AT:
            finding = _resumed(subject, tiny, arguments, way, carried, steps)
            if finding is not None:
                yield finding
                return


def _resumed(
    subject: Subject,
    tiny: Tiny,
    arguments: Mapping[str, Any],
    way: str,
    carried: Callable[[StateDict], StateDict],
    steps: int,
) -> Finding | None:
    """Return what is lost when the state is carried over after some steps; None if nothing is."""
    expected = _path(subject, tiny, arguments)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    for gradients in tiny.gradients[:steps]:
        step_with(optimizer, parameters, gradients)
    copied = parameters_of(snapshot(parameters))
    other = _other_arguments(subject, arguments)
    try:
        fresh = subject.make(copied, other)
    except Exception:  # noqa: BLE001  a combination that the class refuses
        other = {**arguments, "lr": other["lr"]}
        fresh = subject.make(copied, other)
    kept = copy.deepcopy([optimizer.state.get(p, {}) for p in parameters.values()])
    try:
        fresh.load_state_dict(carried(optimizer.state_dict()))
    except Exception as error:  # noqa: BLE001  code of a user
        return Finding(
            "state_dict",
            Kind.FAULT,
            f"cannot be restored by way of {way} after {steps} steps: {reason(error)}",
            step=steps,
            reproducer=_script(subject, tiny, arguments, other, way, steps),
        )
    lost = _lost(optimizer, kept, fresh)
    for number, gradients in enumerate(tiny.gradients[steps:], start=steps + 1):
        step_with(fresh, copied, gradients)
        if result := first_apart(copied, expected[number - 1]):
            label = result[0]
            what = f": {lost} is lost" if lost else ""
            return Finding(
                "state_dict",
                Kind.FAULT,
                f"does not continue with the same bits after its state was restored by way of {way}"
                f"{what}",
                step=number,
                tensor=tensor_text(label, parameters[label]),
                term=lost,
                difference=result[1],
                reproducer=_script(subject, tiny, arguments, other, way, steps),
            )
    return None


def _path(subject: Subject, tiny: Tiny, arguments: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """Return the weights after each step without interruption."""
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    path = []
    for gradients in tiny.gradients:
        step_with(optimizer, parameters, gradients)
        path.append(snapshot(parameters))
    return path


def _other_arguments(subject: Subject, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the fresh optimizer; the loaded state replaces them.

    They are the defaults, and another learning rate; switches that choose an algorithm are kept.
    """
    switches = {
        name: value for name, value in arguments.items() if value is None or isinstance(value, bool)
    }
    required = {
        name: value
        for name, value in arguments.items()
        if name in subject.target.signature
        and subject.target.signature[name].default is inspect.Parameter.empty
    }
    return {**required, **switches, "lr": float(arguments["lr"]) / 2}


def _lost(
    optimizer: torch.optim.Optimizer,
    kept: Sequence[Mapping[str, object]],
    fresh: torch.optim.Optimizer,
) -> str:
    """Return what a restored optimizer lacks: a key of the state, of a group, or an attribute.

    Args:
        optimizer: the original.
        kept: its state of each parameter before it was saved.
        fresh: the restored optimizer.
    """
    for before, other in zip(kept, _parameters(fresh), strict=True):
        after = fresh.state.get(other, {})
        for key, value in before.items():
            if key not in after or not _same(value, after[key]):
                return f'state["{key}"]'
    groups = zip(optimizer.param_groups, fresh.param_groups, strict=True)
    for before, after in groups:
        for key, value in before.items():
            if key != "params" and (key not in after or not _same(value, after[key])):
                return f'param_groups["{key}"]'
    for key, value in vars(optimizer).items():
        if isinstance(value, int | float | Tensor) and not _same(value, vars(fresh).get(key)):
            return f"the attribute {key}"
    return ""


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    return bool(one == other)


def _script(
    subject: Subject,
    tiny: Tiny,
    arguments: Mapping[str, Any],
    other: Mapping[str, Any],
    way: str,
    steps: int,
) -> str:
    script = subject.script().imports("copy", "io")
    script.weights("whole", tiny.start["a"]).weights("a", tiny.start["a"])
    script.add(f"undisturbed = {script.call('[whole]', arguments)}")
    script.add(f"first = {script.call('[a]', arguments)}")

    def gradient(step: int) -> str:
        return f"torch.tensor({numbers(tiny.gradients[step]['a'])}, dtype=torch.float64)"

    for step in range(steps):
        script.add(f"a.grad = {gradient(step)}", "whole.grad = a.grad.clone()")
        script.add("first.step()", "undisturbed.step()")
    script.add("b = a.detach().clone().requires_grad_()")
    script.add(f"second = {script.call('[b]', other)}")
    script.add(_CODE[way], "second.load_state_dict(state)")
    for step in range(steps, steps + 3):
        script.add(f"whole.grad = {gradient(step)}", "b.grad = whole.grad.clone()")
        script.add("undisturbed.step()", "second.step()")
    return script.add("assert torch.equal(whole, b), (whole, b)").text


def copies_are_independent(subject: Subject) -> Iterator[Finding]:
    """A deep copy of optimizer and weights continues to the same bits, and apart."""
    tiny, arguments = subject.tiny(31), subject.arguments(31)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    for gradients in tiny.gradients[:2]:
        step_with(optimizer, parameters, gradients)
    try:
        copied_parameters, copied = copy.deepcopy((parameters, optimizer))
        for gradients in tiny.gradients[2:]:
            step_with(copied, copied_parameters, gradients)
    except Exception as error:  # noqa: BLE001  code of a user
        text = (
            f"cannot continue as a deep copy: {error}. Copies, as pickles, hold only defaults, "
            "state and param_groups of a torch.optim.Optimizer"
        )
        yield Finding("deepcopy", Kind.CONVENTION, text, reproducer=_copy_script(subject))
        return
    untouched = subject.trained(tiny, arguments, steps=2)
    is_apart = first_apart(parameters, untouched) is None
    for gradients in tiny.gradients[2:]:
        step_with(optimizer, parameters, gradients)
    result = first_apart(copied_parameters, parameters)
    if result is None and is_apart:
        return
    yield Finding(
        "deepcopy",
        Kind.FAULT,
        "does not continue with the same bits as a deep copy of optimizer and weights"
        if is_apart
        else "shares state with its deep copy",
        reproducer=_copy_script(subject),
    )


def _copy_script(subject: Subject) -> str:
    script = subject.script().imports("copy").weights("a", subject.tiny(31).start["a"])
    script.add(f"optimizer = {script.call('[a]', subject.arguments(31))}")
    script.add("a.grad = torch.ones_like(a)", "optimizer.step()")
    script.add("b, second = copy.deepcopy((a, optimizer))", "for _ in range(3):")
    script.add("    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)")
    script.add("    optimizer.step()", "    second.step()")
    return script.add("assert torch.equal(a, b), (a, b)").text


def keeps_state_apart(subject: Subject) -> Iterator[Finding]:
    """Parameters of the same shape have separate states."""
    known = subject.explanation.reasons if subject.explanation else ()
    if subject.is_joint or any(name == "step count" for name, _, _ in known):
        return  # a step count that all parameters share is found with the equations
    tiny, arguments = subject.tiny(33), subject.arguments(33)
    start = dict.fromkeys(("a", "b"), tiny.start["a"])
    gradients = [
        {"a": first["a"], "b": second["a"]}
        for first, second in zip(tiny.gradients, reversed(tiny.gradients), strict=True)
    ]
    together = subject.trained(Tiny(start, gradients), arguments)
    alone = {
        label: subject.trained(
            Tiny({label: start[label]}, [{label: g[label]} for g in gradients]), arguments
        )[label]
        for label in start
    }
    result = first_apart(together, alone, EQUAL)
    if result is None or not finite(alone):
        return
    script = subject.script().weights("a", tiny.start["a"])
    script.weights("b", tiny.start["a"]).weights("c", tiny.start["a"])
    script.add(f"both = {script.call('[a, b]', arguments)}")
    script.add(f"one = {script.call('[c]', arguments)}")
    script.add("for gradient in (1.0, -2.0, 0.5):")
    script.add("    a.grad = torch.full_like(a, gradient)", "    b.grad = -3 * a.grad")
    script.add("    c.grad = a.grad.clone()", "    both.step()", "    one.step()")
    script.add("assert torch.allclose(a, c, rtol=1e-12, atol=0), (a, c)")
    yield Finding(
        "state",
        Kind.FAULT,
        "takes different steps for a parameter beside another one of the same shape than alone, "
        "as if they shared a state",
        tensor=tensor_text(result[0], alone[result[0]]),
        difference=result[1],
        reproducer=script.text,
    )


def keeps_declared_memory(subject: Subject) -> Iterator[Finding]:
    """The state has as many numbers per weight as the rule declares."""
    rule = subject.binding.rule
    if subject.reference is None:
        return
    setting = subject.setting(32)
    matrix = nn.Parameter(torch.ones(64, _ELEMENTS // 64, dtype=torch.float64))
    optimizer = subject.target([matrix], subject.binding.arguments(setting))
    matrix.grad = torch.ones_like(matrix)
    optimizer.step()
    kept = {
        key: value.numel()
        for key, value in optimizer.state.get(matrix, {}).items()
        if isinstance(value, Tensor) and value.numel() > _SMALL
    }
    state = _declared(subject, setting)
    if sum(kept.values()) <= sum(state.values()) + _SMALL:
        return
    size = matrix.numel()
    actual, declared = sum(kept.values()) / size, sum(state.values()) / size
    script = subject.script().add("w = torch.ones(64, 64, requires_grad=True)")
    script.add(f"optimizer = {script.call('[w]', subject.binding.arguments(setting))}")
    script.add("w.grad = torch.ones_like(w)", "optimizer.step()")
    script.add("kept = sum(v.numel() for v in optimizer.state[w].values() if torch.is_tensor(v))")
    script.add(f"assert kept <= {sum(state.values()) + _SMALL}, kept")
    yield Finding(
        "memory",
        Kind.CONVENTION,
        f"keeps {actual:.3g} numbers per weight ({', '.join(kept)}), where {rule.name} needs "
        f"{declared:.3g}",
        term=", ".join(kept),
        reproducer=script.text,
    )


def _declared(subject: Subject, setting: Any) -> dict[str, int]:
    """Return the arrays that the rule keeps of a large matrix, with their sizes."""
    params = {"w": torch.ones(64, _ELEMENTS // 64, dtype=torch.float64)}
    states = initialise_all(subject.binding.rule, params, dict(setting.values))
    state = states["" if subject.binding.rule.as_one_vector else "w"]
    return {
        key: value.numel() for key, value in state._asdict().items() if isinstance(value, Tensor)
    }


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run)  # type: ignore[arg-type]


STATE_CHECKS = (
    _check("state_dict", resumes),
    _check("deepcopy", copies_are_independent),
    _check("state of each parameter", keeps_state_apart),
    _check("memory", keeps_declared_memory),
)
