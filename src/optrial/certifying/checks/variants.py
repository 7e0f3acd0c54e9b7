"""Checks of variants that should take the same steps: foreach, fused, capturable, compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from optrial.certifying.checks.common import apart, first_apart, reason
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import numbers
from optrial.certifying.subject import Check, Subject, Tiny
from optrial.replay.draws import tensor_text
from optrial.replay.target import float64_scalars, parameters_of, quiet, step_with

__all__ = ["VARIANT_CHECKS"]

_SAME = 1e-10
"""Relative difference of variants in float64: other orders of the same operations."""

_VARIANTS = "foreach", "fused", "capturable", "differentiable"
_NEEDS_DEVICE = "capturable", "supported device", "cuda", "fused=True requires"


def agrees_with_variants(subject: Subject) -> Iterator[Finding]:
    """foreach, fused, capturable and differentiable variants take the plain steps."""
    keys = [key for key in _VARIANTS if key in subject.target.signature]
    if not keys:
        return
    plain_key = {"foreach": False} if "foreach" in keys else {}
    settings = [
        (subject.tiny(40 + number), subject.arguments(40 + number, decayed=bool(number)))
        for number in range(2)
    ]
    if "maximize" in subject.target.signature:
        settings.append((subject.tiny(43), {**subject.arguments(43), "maximize": True}))
    for key in keys:
        for tiny, arguments in settings:
            with float64_scalars():
                plain = subject.trained(tiny, {**arguments, **plain_key})
                try:
                    other = subject.trained(tiny, {**_without(arguments, keys), key: True})
                except Exception as error:  # noqa: BLE001  code of a user
                    yield from _refusal(key, error)
                    break
            result = first_apart(other, plain, _SAME)
            if result is None:
                continue
            yield Finding(
                f"variant {key}",
                Kind.FAULT,
                f"takes other steps with {key}=True than without"
                + (" if maximize=True" if arguments.get("maximize") else ""),
                tensor=tensor_text(result[0], plain[result[0]]),
                difference=result[1],
                reproducer=_script(subject, tiny, {**arguments, **plain_key}, arguments, key),
            )
            break


def _without(arguments: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in keys}


def _refusal(key: str, error: Exception) -> Iterator[Finding]:
    """Report a variant that fails; one that needs another device is no fault."""
    text = reason(error)
    is_excused = isinstance(error, RuntimeError | AssertionError | ValueError | NotImplementedError)
    kind = Kind.NOTE if is_excused else Kind.FAULT
    yield Finding(f"variant {key}", kind, f"refuses {key}=True here: {text}")


def _script(
    subject: Subject,
    tiny: Tiny,
    plain: Mapping[str, Any],
    arguments: Mapping[str, Any],
    key: str,
) -> str:
    script = subject.script().add("torch.set_default_dtype(torch.float64)")
    script.weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"plain = {script.call('[a]', plain)}")
    script.add(f"other = {script.call('[b]', {**arguments, key: True})}")
    for gradients in tiny.gradients[:4]:
        script.add(f"a.grad = torch.tensor({numbers(gradients['a'])}, dtype=torch.float64)")
        script.add("b.grad = a.grad.clone()", "plain.step()", "other.step()")
    return script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)").text


def accepts_tensor_rates(subject: Subject) -> Iterator[Finding]:
    """A learning rate that is a tensor has the effect of the number."""
    tiny, arguments = subject.tiny(44), subject.arguments(44)
    rate = torch.tensor(float(arguments["lr"]), dtype=torch.float64)
    extra = {"foreach": False} if "foreach" in subject.target.signature else {}
    with float64_scalars():
        plain = subject.trained(tiny, {**arguments, **extra})
        try:
            other = subject.trained(tiny, {**arguments, **extra, "lr": rate})
        except Exception:  # noqa: BLE001  code of a user; tensors are no must
            return
    if (result := first_apart(other, plain, _SAME)) is None:
        return
    script = subject.script().add("torch.set_default_dtype(torch.float64)")
    script.weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"plain = {script.call('[a]', {**arguments, **extra})}")
    script.add(f"other = {script.call('[b]', {**arguments, **extra, 'lr': rate})}")
    script.add("for _ in range(3):", "    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)")
    script.add("    plain.step()", "    other.step()")
    script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
    yield Finding(
        "learning rate as a tensor",
        Kind.FAULT,
        "takes other steps if lr is a tensor than if it is the same number",
        tensor=tensor_text(result[0], plain[result[0]]),
        difference=result[1],
        reproducer=script.text,
    )


def agrees_when_compiled(subject: Subject) -> Iterator[Finding]:
    """A step under torch.compile is the plain step."""
    tiny, arguments = subject.tiny(45, steps=2), subject.arguments(45)
    if not subject.options.get("compile"):
        return
    with float64_scalars():
        plain = subject.trained(tiny, arguments)
        parameters = parameters_of(tiny.start)
        optimizer = subject.make(parameters, arguments)
        torch.compiler.reset()
        step = torch.compile(lambda: optimizer.step(), backend="eager")  # noqa: PLW0108  a bound method is not traced
        try:
            for gradients in tiny.gradients:
                for label, parameter in parameters.items():
                    parameter.grad = gradients[label].clone()
                step()
        except Exception as error:  # noqa: BLE001  code of a user
            text = reason(error)
            yield Finding("compiled", Kind.NOTE, f"cannot be compiled here: {text}")
            return
        finally:
            torch.compiler.reset()
    result = first_apart(parameters, plain, _SAME)
    if result is None:
        return
    script = subject.script().add("torch.set_default_dtype(torch.float64)")
    script.weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"plain = {script.call('[a]', arguments)}")
    script.add(f"other = {script.call('[b]', arguments)}")
    script.add('compiled = torch.compile(lambda: other.step(), backend="eager")')
    script.add("for _ in range(2):", "    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)")
    script.add("    plain.step()", "    compiled()")
    script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
    yield Finding(
        "compiled",
        Kind.FAULT,
        "takes other steps under torch.compile than without",
        tensor=tensor_text(result[0], plain[result[0]]),
        difference=result[1],
        reproducer=script.text,
    )


def treats_sparse_gradients(subject: Subject) -> Iterator[Finding]:
    """Sparse gradients are refused, or have the effect of dense ones."""
    if subject.is_joint:
        return
    tiny, arguments = subject.tiny(46), subject.arguments(46, decayed=False)
    dense, sparse = (parameters_of({"a": tiny.start["a"]}) for _ in range(2))
    of_dense, of_sparse = (subject.make(p, arguments) for p in (dense, sparse))
    for step, gradients in enumerate(tiny.gradients, start=1):
        gradient = gradients["a"].clone()
        gradient[step % 2] = 0.0
        step_with(of_dense, dense, {"a": gradient})
        sparse["a"].grad = gradient.to_sparse(1)
        try:
            with quiet():
                of_sparse.step()
        except Exception as error:  # noqa: BLE001  code of a user
            text = reason(error)
            yield Finding("sparse gradients", Kind.NOTE, f"refuses sparse gradients: {text}")
            return
        if apart(sparse["a"], dense["a"]) > _SAME:
            script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
            script.add(f"dense = {script.call('[a]', arguments)}")
            script.add(f"sparse = {script.call('[b]', arguments)}")
            script.add(f"for step in range({step}):", "    a.grad = torch.ones_like(a)")
            script.add("    a.grad[step % 2] = 0", "    b.grad = a.grad.to_sparse(1)")
            script.add("    dense.step()", "    sparse.step()")
            script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
            yield Finding(
                "sparse gradients",
                Kind.CONVENTION,
                "takes other steps with sparse gradients than with the same dense ones",
                step=step,
                tensor=tensor_text("a", dense["a"]),
                reproducer=script.text,
            )
            return


def treats_complex_weights(subject: Subject) -> Iterator[Finding]:
    """Complex weights are refused, or updated as their real and imaginary parts."""
    if subject.is_joint or subject.matrices_only or "axes" in subject.binding.rule.needs:
        return
    tiny, arguments = subject.tiny(47), subject.arguments(47)
    pairs = {"a": torch.stack([tiny.start["a"], tiny.start["a"].flip(0)], dim=-1).contiguous()}
    gradients = [
        {"a": torch.stack([g["a"], -g["a"].flip(1)], dim=-1).contiguous()} for g in tiny.gradients
    ]
    real, whole = parameters_of(pairs), {"w": nn.Parameter(torch.view_as_complex(pairs["a"]))}
    try:
        of_real, of_whole = (subject.make(p, arguments) for p in (real, whole))
        for gradient in gradients:
            step_with(of_real, real, gradient)
            whole["w"].grad = torch.view_as_complex(gradient["a"].clone())
            of_whole.step()
    except Exception as error:  # noqa: BLE001  code of a user
        text = reason(error)
        yield Finding("complex weights", Kind.NOTE, f"refuses complex weights: {text}")
        return
    if apart(torch.view_as_real(whole["w"].detach()), real["a"]) <= _SAME:
        return
    script = subject.script().add("pairs = torch.tensor([[0.5, -1.0], [2.0, 1.5]]).double()")
    script.add("a = pairs.clone().requires_grad_()")
    script.add("b = torch.view_as_complex(pairs.clone()).requires_grad_()")
    script.add(f"real = {script.call('[a]', arguments)}")
    script.add(f"whole = {script.call('[b]', arguments)}")
    script.add(
        "for step in range(3):", "    a.grad = torch.tensor([[1.0, -0.5], [0.3, 2.0]]).double()"
    )
    script.add("    b.grad = torch.view_as_complex(a.grad.clone())", "    real.step()")
    script.add("    whole.step()", "c = torch.view_as_real(b.detach())")
    script.add("assert torch.allclose(a, c, rtol=1e-10, atol=0), (a, c)")
    yield Finding(
        "complex weights",
        Kind.CONVENTION,
        "updates complex weights in another way than their real and imaginary parts",
        reproducer=script.text,
    )


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run)  # type: ignore[arg-type]


VARIANT_CHECKS = (
    _check("variants", agrees_with_variants),
    _check("learning rate as a tensor", accepts_tensor_rates),
    _check("compiled", agrees_when_compiled),
    _check("sparse gradients", treats_sparse_gradients),
    _check("complex weights", treats_complex_weights),
)
