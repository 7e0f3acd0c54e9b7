"""Checks of the interface of `torch.optim`: gradients, closures, `zero_grad`, `maximize`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from optrial.certifying.checks.common import EQUAL, apart, first_apart, identical
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import Script, numbers
from optrial.certifying.subject import Check, Subject, Tiny
from optrial.errors import all_listed
from optrial.models import kept_process
from optrial.replay.draws import tensor_text
from optrial.replay.target import parameters_of, snapshot, step_with

__all__ = ["INTERFACE_CHECKS"]


def _one_tensor(subject: Subject, tiny: Tiny, arguments: dict[str, object]) -> Script:
    """Return a script with one tensor `w` and its optimizer."""
    script = subject.script().weights("w", tiny.start["a"])
    return script.add(f"optimizer = {script.call('[w]', arguments)}")


def _gradient(tiny: Tiny, step: int) -> str:
    return f"torch.tensor({numbers(tiny.gradients[step]['a'])}, dtype=torch.float64)"


def is_deterministic(subject: Subject) -> Iterator[Finding]:
    """Two fresh optimizers take the same steps, bit for bit."""
    tiny, arguments = subject.tiny(1), subject.arguments(1)
    with _generators_restored():
        torch.manual_seed(subject.seed + 1)
        before = torch.get_rng_state()
        once, twice = (subject.trained(tiny, arguments) for _ in range(2))
        is_moved = not torch.equal(before, torch.get_rng_state())
    if identical(once, twice):
        if is_moved and not subject.target.is_curved:  # which draws the signs of its estimates
            yield _moved_generator(subject, tiny, arguments)
        return
    if subject.reference is None and identical(*(_seeded(subject, tiny, arguments) for _ in "12")):
        yield Finding(
            "determinism",
            Kind.NOTE,
            "draws random numbers: its steps repeat where PyTorch, NumPy and `random` are seeded, "
            "and nothing else was checked",
        )
        return
    script = subject.script().add("results = []", "for _ in range(2):")
    script.add(f"    w = torch.tensor({numbers(tiny.start['a'])}, requires_grad=True)")
    script.add(f"    optimizer = {script.call('[w]', arguments)}", "    for _ in range(5):")
    script.add("        w.grad = torch.ones_like(w)", "        optimizer.step()")
    script.add("    results.append(w.detach())", "assert torch.equal(*results), results")
    yield Finding(
        "determinism",
        Kind.FAULT,
        "takes different steps when trained again with the same gradients: it draws random numbers "
        "or keeps state outside the object",
        reproducer=script.text,
    )


@contextmanager
def _generators_restored() -> Iterator[None]:
    """Give PyTorch's, NumPy's and Python's random numbers back as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _seeded(subject: Subject, tiny: Tiny, arguments: dict[str, object]) -> Mapping[str, Tensor]:
    """Return the weights after a training that begins with seeded random numbers."""
    with _generators_restored():
        torch.manual_seed(subject.seed)
        np.random.seed(subject.seed)
        random.seed(subject.seed)
        return subject.trained(tiny, arguments)


def _moved_generator(subject: Subject, tiny: Tiny, arguments: dict[str, object]) -> Finding:
    script = _one_tensor(subject, tiny, arguments)
    script.add(f"torch.manual_seed({subject.seed + 1})")
    script.add("before = torch.get_rng_state()", "w.grad = torch.ones_like(w)", "optimizer.step()")
    script.add("assert torch.equal(torch.get_rng_state(), before)")
    return Finding(
        "random state",
        Kind.FAULT,
        "changes the state of PyTorch's random numbers, which dropout and shuffling use, though "
        "its steps do not depend on it",
        reproducer=script.text,
    )


def leaves_gradients_alone(subject: Subject) -> Iterator[Finding]:
    """A step does not change the gradients."""
    tiny, decayed = subject.tiny(2), subject.setting(2)
    every_kind = [replace(decayed, decay=kind) for kind in subject.binding.decays]
    settings = [subject.arguments(2, decayed=False), *map(subject.binding.arguments, every_kind)]
    if "maximize" in subject.target.signature:
        settings.append({**subject.arguments(3, decayed=False), "maximize": True})
    for arguments in settings:
        parameters = parameters_of(tiny.start)
        optimizer = subject.make(parameters, arguments)
        for step, gradients in enumerate(tiny.gradients[:3], start=1):
            step_with(optimizer, parameters, gradients)
            for label, parameter in parameters.items():
                if parameter.grad is None or not torch.equal(parameter.grad, gradients[label]):
                    script = _one_tensor(subject, tiny, arguments)
                    for index in range(step):
                        script.add(f"w.grad = {_gradient(tiny, index)}")
                        script.add("before = w.grad.clone()", "optimizer.step()")
                    script.add("assert w.grad is not None and torch.equal(w.grad, before), w.grad")
                    with_text = "maximize=True" if arguments.get("maximize") else ""
                    if not with_text and arguments.get("weight_decay"):
                        with_text = f"weight_decay={arguments['weight_decay']!r}"
                    yield Finding(
                        "gradients",
                        Kind.FAULT,
                        "changes the gradients in place"
                        + (f" with {with_text}" if with_text else "")
                        + ", so that gradients that are accumulated, logged or clipped afterwards "
                        "are wrong",
                        step=step,
                        tensor=tensor_text(label, parameter),
                        reproducer=script.text,
                    )
                    return


def keeps_no_gradient(subject: Subject) -> Iterator[Finding]:
    """Gradients that are overwritten in place after a step have no effect on later steps."""
    tiny = subject.tiny(4)
    arguments = subject.arguments(4, decayed=False)
    fresh = subject.trained(tiny, arguments)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    for gradients in tiny.gradients:
        for label, parameter in parameters.items():
            if parameter.grad is None:
                return  # reported by the check of gradients
            parameter.grad.copy_(gradients[label])
        optimizer.step()
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()
    if first_apart(parameters, fresh, EQUAL) is None:
        return
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    for label in "ab":
        script.add(f"of_{label} = {script.call(f'[{label}]', arguments)}")
    script.add("a.grad = torch.zeros_like(a)")
    for step in range(3):
        script.add(f"gradient = {_gradient(tiny, step)}", "a.grad.copy_(gradient)")
        script.add("b.grad = gradient.clone()", "of_a.step()", "of_b.step()")
        script.add("a.grad.zero_()")
    script.add("assert torch.allclose(a, b, rtol=1e-12, atol=0), (a, b)")
    yield Finding(
        "gradients",
        Kind.FAULT,
        "keeps the gradient tensor itself instead of a copy: with zero_grad(set_to_none=False) "
        "its state is overwritten",
        reproducer=script.text,
    )


def skips_missing_gradients(subject: Subject) -> Iterator[Finding]:
    """A parameter without a gradient does not move, and no other parameter notices."""
    if subject.is_joint:
        return
    yield from _skips_first(subject)
    yield from _keeps_state(subject)
    tiny, arguments = subject.tiny(5), subject.arguments(5)
    alone = parameters_of({"a": tiny.start["a"]})
    both = parameters_of(tiny.start)
    of_alone, of_both = (subject.make(p, arguments) for p in (alone, both))
    for step, gradients in enumerate(tiny.gradients, start=1):
        step_with(of_alone, alone, {"a": gradients["a"]})
        step_with(of_both, both, {"a": gradients["a"]})
        if not torch.equal(both["b"], tiny.start["b"]):
            script = _one_tensor(subject, tiny, arguments)
            script.add("before = w.detach().clone()", "optimizer.step()")
            script.add("assert torch.equal(w, before), w")
            yield Finding(
                "missing gradients",
                Kind.FAULT,
                "moves a parameter that has no gradient",
                step=step,
                tensor=tensor_text("b", both["b"]),
                reproducer=script.text,
            )
            return
        if apart(both["a"], alone["a"]) > EQUAL:
            script = subject.script().weights("a", tiny.start["a"])
            script.weights("b", tiny.start["b"]).weights("c", tiny.start["a"])
            script.add(f"both = {script.call('[a, b]', arguments)}")
            script.add(f"alone = {script.call('[c]', arguments)}")
            for index in range(step):
                script.add(f"a.grad = {_gradient(tiny, index)}", "c.grad = a.grad.clone()")
                script.add("both.step()", "alone.step()")
            script.add("assert torch.allclose(a, c, rtol=1e-12, atol=0), (a, c)")
            yield Finding(
                "missing gradients",
                Kind.FAULT,
                "updates a parameter differently beside another parameter that has no gradient",
                step=step,
                tensor=tensor_text("a", both["a"]),
                reproducer=script.text,
            )
            return


def _skips_first(subject: Subject) -> Iterator[Finding]:
    """Report that a parameter is not updated where the one before it has no gradient."""
    tiny, arguments = subject.tiny(5), subject.arguments(5)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    for gradients in tiny.gradients:
        step_with(optimizer, parameters, {"b": gradients["b"]})
    is_moved = not torch.equal(parameters["b"], tiny.start["b"])
    if is_moved or identical(subject.trained(tiny, arguments), tiny.start):
        return
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["b"])
    script.add(f"optimizer = {script.call('[a, b]', arguments)}", "before = b.detach().clone()")
    text = f"b.grad = torch.tensor({numbers(tiny.gradients[0]['b'])}, dtype=torch.float64)"
    script.add(text, "optimizer.step()", "assert not torch.equal(b, before), b")
    yield Finding(
        "missing gradients",
        Kind.FAULT,
        "does not move a parameter where the one before it has no gradient",
        tensor=tensor_text("b", parameters["b"]),
        reproducer=script.text,
    )


def _keeps_state(subject: Subject) -> Iterator[Finding]:
    """Report that the state of a parameter changes in a step in which it has no gradient."""
    tiny, arguments = subject.tiny(5), subject.arguments(5)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    for gradients in tiny.gradients[:2]:
        step_with(optimizer, parameters, gradients)
    before = _arrays(optimizer, parameters["b"])
    step_with(optimizer, parameters, {"a": tiny.gradients[2]["a"]})
    after = _arrays(optimizer, parameters["b"])
    changed = [key for key, value in before.items() if not _is_kept(value, after.get(key))]
    if not changed:
        return
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["b"])
    script.add(f"optimizer = {script.call('[a, b]', arguments)}")
    script.add("a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)", "optimizer.step()")
    script.add("optimizer.step()", f'before = optimizer.state[b]["{changed[0]}"].clone()')
    script.add("b.grad = None", "optimizer.step()")
    script.add(f'after = optimizer.state[b].get("{changed[0]}")')
    script.add("assert after is not None and torch.equal(after, before), after")
    is_lost = not any(key in after and bool(after[key].any()) for key in changed)
    what = all_listed([f'state["{key}"]' for key in changed])
    yield Finding(
        "missing gradients",
        Kind.FAULT,
        f"{'loses' if is_lost else 'changes'} {what} of a parameter in a step in which it has no "
        "gradient",
        step=3,
        tensor=tensor_text("b", parameters["b"]),
        term=changed[0],
        reproducer=script.text,
    )


def _arrays(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return copies of the arrays of a parameter's state; step counts are left out."""
    state = optimizer.state.get(parameter, {})
    return {
        key: value.detach().clone()
        for key, value in state.items()
        if isinstance(value, Tensor) and value.numel() > 1
    }


def _is_kept(before: Tensor, after: Tensor | None) -> bool:
    return after is not None and identical({"": after}, {"": before})


def keeps_parameters_apart(subject: Subject) -> Iterator[Finding]:
    """Each parameter takes the steps that it would take alone."""
    if subject.is_joint:
        return
    tiny, arguments = subject.tiny(6), subject.arguments(6)
    together = subject.trained(tiny, arguments)
    for label in tiny.start:
        parameters = parameters_of({label: tiny.start[label]})
        optimizer = subject.make(parameters, arguments)
        for gradients in tiny.gradients:
            step_with(optimizer, parameters, {label: gradients[label]})
        if apart(together[label], parameters[label]) <= EQUAL:
            continue
        script = subject.script().weights("a", tiny.start["a"])
        script.weights("b", tiny.start["b"]).weights("c", tiny.start[label])
        script.add(f"both = {script.call('[a, b]', arguments)}")
        script.add(f"alone = {script.call('[c]', arguments)}")
        for gradients in tiny.gradients:
            for one in ("a", "b"):
                text = numbers(gradients[one])
                script.add(f"{one}.grad = torch.tensor({text}, dtype=torch.float64)")
            script.add(f"c.grad = {label}.grad.clone()", "both.step()", "alone.step()")
        script.add(f"assert torch.allclose({label}, c, rtol=1e-12, atol=0), ({label}, c)")
        yield Finding(
            "parameters",
            Kind.FAULT,
            "updates a parameter differently beside another one: they share state, a step count or "
            "another number",
            tensor=tensor_text(label, together[label]),
            reproducer=script.text,
        )
        return


def calls_closure_once(subject: Subject) -> Iterator[Finding]:
    """A closure is called once, with gradients enabled, and its loss is returned."""
    tiny, arguments = subject.tiny(7), subject.arguments(7)
    plain = subject.trained(tiny, arguments, steps=3)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    calls, enabled, returned = 0, True, []
    problem = ""
    for gradients in tiny.gradients[:3]:

        def closure(gradients: dict[str, Tensor] = gradients) -> Tensor:  # type: ignore[assignment]
            nonlocal calls, enabled
            calls += 1
            enabled = enabled and torch.is_grad_enabled()
            for label, parameter in parameters.items():
                parameter.grad = gradients[label].clone()
            return torch.tensor(2.5)

        for parameter in parameters.values():
            parameter.grad = None
        try:
            returned.append(optimizer.step(closure))  # type: ignore[arg-type]  # the stub is narrow
        except TypeError as error:
            problem = f"does not take a closure in step: {error}"
            break
    if not problem and calls != 3:
        problem = f"calls the closure {calls / 3:g} times per step"
    elif not problem and not enabled:
        problem = "calls the closure with gradients disabled, so backward() in it fails"
    elif not problem and not all(value is not None and float(value) == 2.5 for value in returned):
        problem = "does not return the loss of the closure"
    elif not problem and first_apart(parameters, plain, EQUAL):
        problem = "takes another step with a closure than without"
    if not problem:
        return
    script = _one_tensor(subject, tiny, arguments).add(
        "calls = 0",
        "def closure():",
        "    global calls",
        "    calls += 1",
        "    assert torch.is_grad_enabled()",
        "    optimizer.zero_grad()",
        "    loss = (w * w).sum()",
        "    loss.backward()",
        "    return loss",
        "expected = (w.detach() ** 2).sum()",
        "loss = optimizer.step(closure)",
        "assert calls == 1, calls",
        "assert loss is not None and torch.allclose(loss.detach(), expected), loss",
    )
    is_meant = calls > 3 and subject.target.is_supplied  # a method of several evaluations
    kind = Kind.CONVENTION if is_meant else Kind.FAULT
    yield Finding("closure", kind, problem, reproducer=script.text)


def zeroes_gradients(subject: Subject) -> Iterator[Finding]:
    """`zero_grad` removes all gradients, or sets them to zero."""
    tiny, arguments = subject.tiny(8), subject.arguments(8)
    for to_none in (True, False):
        parameters = parameters_of(tiny.start)
        optimizer = subject.make(parameters, arguments)
        step_with(optimizer, parameters, tiny.gradients[0])
        for label, parameter in parameters.items():  # steps may have cleared them
            parameter.grad = tiny.gradients[0][label].clone()
        before = snapshot(parameters)
        try:
            optimizer.zero_grad(set_to_none=to_none)
        except TypeError as error:
            text = f"does not take set_to_none in zero_grad: {error}"
            yield Finding("zero_grad", Kind.FAULT, text)
            return
        problem = _not_zeroed([p.grad for p in parameters.values()], to_none=to_none)
        if not problem and identical(parameters, before):
            continue
        script = _one_tensor(subject, tiny, arguments)
        script.add(f"w.grad = {_gradient(tiny, 0)}", f"optimizer.zero_grad(set_to_none={to_none})")
        wanted = "w.grad is None" if to_none else "w.grad is not None and not w.grad.any()"
        script.add(f"assert {wanted}, w.grad")
        yield Finding(
            "zero_grad",
            Kind.FAULT,
            f"{problem or 'moves the weights'} in zero_grad(set_to_none={to_none})",
            reproducer=script.text,
        )
        return


def _not_zeroed(gradients: Sequence[Tensor | None], *, to_none: bool) -> str:
    """Return what `zero_grad` did wrong, as a clause; empty if nothing."""
    if any(gradient is not None and gradient.any() for gradient in gradients):
        return "leaves gradients as they are"
    if to_none and any(gradient is not None for gradient in gradients):
        return "sets gradients to zero, not to None,"
    if not to_none and any(gradient is None for gradient in gradients):
        return "sets gradients to None, not to zero,"
    return ""


def keeps_tensors_in_place(subject: Subject) -> Iterator[Finding]:
    """Weights change in place: same object, memory and type, still a leaf that needs gradients."""
    tiny, arguments = subject.tiny(9), subject.arguments(9)
    parameters = parameters_of(tiny.start)
    optimizer = subject.make(parameters, arguments)
    pointers = {label: p.data_ptr() for label, p in parameters.items()}
    for gradients in tiny.gradients[:2]:
        step_with(optimizer, parameters, gradients)
    for label, parameter in parameters.items():
        problems = {
            "moves the weights to other memory, so views of them are stale": (
                parameter.data_ptr() != pointers[label]
            ),
            "changes the type of the weights": parameter.dtype != torch.float64,
            "turns off requires_grad of the weights": not parameter.requires_grad,
            "makes the weights part of a graph": parameter.grad_fn is not None,
        }
        problem = next((text for text, is_so in problems.items() if is_so), "")
        if problem:
            script = _one_tensor(subject, tiny, arguments)
            script.add(f"w.grad = {_gradient(tiny, 0)}", "memory = w.data_ptr()")
            script.add("optimizer.step()", "assert w.data_ptr() == memory")
            script.add("assert w.dtype == torch.float64 and w.requires_grad and w.is_leaf")
            yield Finding("weights", Kind.FAULT, problem, reproducer=script.text)
            return


def maximizes(subject: Subject) -> Iterator[Finding]:
    """`maximize=True` takes the steps that the negated gradients give."""
    if "maximize" not in subject.target.signature:
        return
    for stream, decayed in ((10, False), (11, True)):
        tiny, arguments = subject.tiny(stream), subject.arguments(stream, decayed=decayed)
        negated = Tiny(
            tiny.start, [{label: -g for label, g in step.items()} for step in tiny.gradients]
        )
        minimized = subject.trained(negated, arguments)
        maximized = subject.trained(tiny, {**arguments, "maximize": True})
        if first_apart(maximized, minimized, EQUAL) is None:
            continue
        ignored = subject.trained(tiny, arguments)
        if first_apart(maximized, ignored, EQUAL) is None:
            problem = "ignores maximize=True"
        elif decayed:
            problem = (
                "takes different steps with maximize=True than with negated gradients if there is "
                "weight decay: the sign of the decay changes too"
            )
        else:
            problem = "takes different steps with maximize=True than with negated gradients"
        script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
        script.add(f"up = {script.call('[a]', {**arguments, 'maximize': True})}")
        script.add(f"down = {script.call('[b]', arguments)}")
        for step in range(2):
            script.add(f"a.grad = {_gradient(tiny, step)}", "b.grad = -a.grad")
            script.add("up.step()", "down.step()")
        script.add("assert torch.allclose(a, b, rtol=1e-12, atol=0), (a, b)")
        yield Finding("maximize", Kind.FAULT, problem, reproducer=script.text)
        return


_SETTINGS = (
    "torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()",
    "torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()",
    "torch.get_float32_matmul_precision(), torch.is_anomaly_enabled()",
    "torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic",
)


def leaves_settings_alone(subject: Subject) -> Iterator[Finding]:
    """The settings of PyTorch are the same after the steps."""
    with kept_process() as changes:
        subject.trained(subject.tiny(12), subject.arguments(12))
    if not changes:
        return
    script = _one_tensor(subject, subject.tiny(12), subject.arguments(12))
    script.add("def settings():", "    return [", *(f"        {line}," for line in _SETTINGS))
    script.add("    ]", "before = settings()", "w.grad = torch.ones_like(w)", "optimizer.step()")
    script.add("assert settings() == before, settings()")
    for problem in changes:
        yield Finding("settings", Kind.FAULT, problem, reproducer=script.text)


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run)  # type: ignore[arg-type]


INTERFACE_CHECKS = (
    _check("determinism", is_deterministic),
    _check("gradients left alone", leaves_gradients_alone),
    _check("gradient buffers", keeps_no_gradient),
    _check("missing gradients", skips_missing_gradients),
    _check("parameters apart", keeps_parameters_apart),
    _check("closure", calls_closure_once),
    _check("zero_grad", zeroes_gradients),
    _check("weights in place", keeps_tensors_in_place),
    _check("maximize", maximizes),
    _check("settings", leaves_settings_alone),
)
