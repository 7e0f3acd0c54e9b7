"""Checks of variants that should take the same steps: foreach, fused, capturable, compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from optrial.certifying.checks.arguments import other_values
from optrial.certifying.checks.common import apart, first_apart, identical, reason
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import numbers
from optrial.certifying.subject import STEPS, Check, Subject, Tiny
from optrial.replay.draws import tensor_text
from optrial.replay.target import (
    float64_scalars,
    no_rounding,
    parameters_of,
    quiet,
    step_with,
)

__all__ = ["VARIANT_CHECKS"]

_SAME = 1e-10
"""Relative difference of variants in float64: other orders of the same operations."""

_VARIANTS = "foreach", "fused", "capturable", "differentiable"
_COMBINED = ({"foreach": True, "capturable": True},)


def agrees_with_variants(subject: Subject) -> Iterator[Finding]:
    """foreach, fused, capturable and differentiable variants take the plain steps."""
    keys = [key for key in _VARIANTS if key in subject.target.signature]
    variants = [{key: True} for key in keys]
    variants += [both for both in _COMBINED if both.keys() <= set(keys)]
    plain_key = {"foreach": False} if "foreach" in keys else {}
    settings = list(_settings(subject))
    for variant in variants:
        for tiny, known, further in settings:
            arguments = {**known, **further}
            with float64_scalars():
                plain = _plain(subject, tiny, {**arguments, **plain_key}, is_tried=bool(further))
                if plain is None:
                    continue
                try:
                    other = _trained(subject, tiny, {**arguments, **variant})
                except Exception as error:  # noqa: BLE001  code of a user
                    yield from _refusal(variant, error)
                    break
            result = first_apart(other, plain, _SAME)
            if result is None:
                continue
            text = ", ".join(f"{key}=True" for key in variant)
            with float64_scalars(), no_rounding():
                exact = subject.trained(tiny, {**arguments, **plain_key})
                other = _trained(subject, tiny, {**arguments, **variant})
            is_rounding = first_apart(other, exact, _SAME) is None
            yield Finding(
                f"variant {' and '.join(variant)}",
                Kind.CONVENTION if is_rounding else Kind.FAULT,
                f"takes different steps with {text} than without"
                + "".join(f" if {key}={value!r}" for key, value in further.items())
                + (": it rounds to a narrower type at other places" if is_rounding else ""),
                tensor=tensor_text(result[0], plain[result[0]]),
                difference=result[1],
                reproducer=_script(
                    subject, tiny, {**arguments, **plain_key}, arguments, variant, result[0]
                ),
            )
            break


def _settings(subject: Subject) -> Iterator[tuple[Tiny, dict[str, Any], dict[str, Any]]]:
    """Yield small trainings, their arguments, and further ones that the rule does not know.

    They are without weight decay, with each kind, of maximization, and with each further argument.
    """
    binding = subject.binding
    yield subject.tiny(40), subject.arguments(40, decayed=False), {}
    for number, decay in enumerate(binding.decays, start=41):
        setting = replace(subject.setting(number), decay=decay)
        yield subject.tiny(number), binding.arguments(setting), {}
    tiny, arguments = subject.tiny(43), subject.arguments(43)
    if "maximize" in subject.target.signature:
        yield tiny, arguments, {"maximize": True}
    for name, value in other_values(subject, arguments):
        yield tiny, arguments, {name: value}


def _plain(
    subject: Subject, tiny: Tiny, arguments: dict[str, Any], *, is_tried: bool
) -> Mapping[str, Tensor] | None:
    """Return the weights of the plain variant; None if it refuses a value that is only tried."""
    try:
        return subject.trained(tiny, arguments)
    except Exception:
        if is_tried:
            return None
        raise


def _trained(subject: Subject, tiny: Tiny, arguments: dict[str, Any]) -> Mapping[str, Tensor]:
    """Return the weights after some steps of a variant, on the CPU wherever its code allows it."""
    if not arguments.get("differentiable"):
        with _as_when_compiled(arguments.get("capturable", False)):
            return subject.trained(tiny, arguments)
    leaves = parameters_of(tiny.start)
    weights = {label: leaf.clone() for label, leaf in leaves.items()}
    optimizer = subject.target(list(weights.values()), arguments)
    for gradients in tiny.gradients:
        step_with(optimizer, weights, gradients)
    return weights


@contextmanager
def _as_when_compiled(is_capturable: bool) -> Iterator[None]:
    """Let PyTorch's capturable code run on the CPU, as it does under torch.compile."""
    before = torch.compiler.is_compiling
    if is_capturable:
        torch.compiler.is_compiling = lambda: True
    try:
        yield
    finally:
        torch.compiler.is_compiling = before


def _refusal(variant: Mapping[str, bool], error: Exception) -> Iterator[Finding]:
    """Report a variant that fails; one that needs another device is no fault."""
    text, names = reason(error), " and ".join(variant)
    is_excused = isinstance(error, RuntimeError | AssertionError | ValueError | NotImplementedError)
    kind = Kind.NOTE if is_excused else Kind.FAULT
    yield Finding(f"variant {names}", kind, f"refuses {names}=True here: {text}")


def _script(
    subject: Subject,
    tiny: Tiny,
    plain: Mapping[str, Any],
    arguments: Mapping[str, Any],
    variant: Mapping[str, bool],
    label: str,
) -> str:
    script = subject.script().add("torch.set_default_dtype(torch.float64)")
    script.weights("a", tiny.start[label]).weights("b", tiny.start[label])
    b = "c" if "differentiable" in variant else "b"
    if "differentiable" in variant:
        script.add("c = b.clone()")
    script.add(f"plain = {script.call('[a]', plain)}")
    script.add(f"other = {script.call(f'[{b}]', {**arguments, **variant})}")
    if "capturable" in variant:
        script.add("compiling = torch.compiler.is_compiling")
    for gradients in tiny.gradients:
        script.add(f"a.grad = torch.tensor({numbers(gradients[label])}, dtype=torch.float64)")
        script.add(f"{b}.grad = a.grad.clone()", "plain.step()")
        if "capturable" in variant:
            script.add("torch.compiler.is_compiling = lambda: True  # allows it on the CPU")
        script.add("other.step()")
        if "capturable" in variant:
            script.add("torch.compiler.is_compiling = compiling")
    return script.add(f"assert torch.allclose(a, {b}, rtol=1e-10, atol=0), (a, {b})").text


def accepts_other_layouts(subject: Subject) -> Iterator[Finding]:
    """Gradients may be stored in another order than their weights."""
    tiny, arguments = subject.tiny(49), subject.arguments(49)
    columns_first = replace(
        tiny,
        gradients=[{label: _columns_first(g) for label, g in gs.items()} for gs in tiny.gradients],
    )
    keys = [key for key in ("foreach", "fused") if key in subject.target.signature]
    plain = {"foreach": False} if "foreach" in keys else {}
    for variant in (plain, *({key: True} for key in keys)):
        given = {**arguments, **variant}
        text = "".join(f" with {key}=True" for key, value in variant.items() if value)
        with float64_scalars(), no_rounding():
            try:
                expected = _with_equal_draws(subject, tiny, given)
            except Exception:  # noqa: BLE001  code of a user; `agrees_with_variants` reports it
                continue
            try:
                actual = _with_equal_draws(subject, columns_first, given)
            except Exception as error:  # noqa: BLE001  code of a user
                refused = f"refuses gradients stored in another order than their weights{text}"
                yield Finding("gradient layout", Kind.NOTE, f"{refused}: {reason(error)}")
                continue
        if (result := first_apart(actual, expected, _SAME)) is None:
            continue
        script = subject.script().add("torch.set_default_dtype(torch.float64)")
        script.weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
        script.add(f"one = {script.call('[a]', given)}", f"other = {script.call('[b]', given)}")
        script.add(f"a.grad = torch.tensor({numbers(tiny.gradients[0]['a'])})")
        script.add("b.grad = a.grad.mT.contiguous().mT", "one.step()", "other.step()")
        script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
        sentence = f"moves the wrong elements{text} if a gradient is stored in another order than "
        sentence += "its weight"
        if variant.get("fused"):
            sentence += ", as PyTorch's fused kernels do on the CPU; backward() stores them alike"
        yield Finding(
            "gradient layout",
            Kind.NOTE if variant.get("fused") else Kind.FAULT,
            sentence,
            tensor=tensor_text(result[0], expected[result[0]]),
            difference=result[1],
            reproducer=script.text,
        )


def _columns_first(array: Tensor) -> Tensor:
    return array.mT.contiguous().mT if array.ndim > 1 else array


def _with_equal_draws(
    subject: Subject, tiny: Tiny, arguments: dict[str, Any]
) -> Mapping[str, Tensor]:
    """Return the weights after a training that starts from fixed random generators."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return subject.trained(tiny, arguments)


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
        yield from _follows_written_rates(subject, tiny, {**arguments, **extra})
        return
    script = subject.script().add("torch.set_default_dtype(torch.float64)")
    script.weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"plain = {script.call('[a]', {**arguments, **extra})}")
    script.add(f"other = {script.call('[b]', {**arguments, **extra, 'lr': rate})}")
    script.add(
        f"for _ in range({STEPS}):",
        "    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)",
        "    plain.step()",
        "    other.step()",
    )
    script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
    yield Finding(
        "learning rate as a tensor",
        Kind.FAULT,
        "takes different steps if lr is a tensor than if it is the same number",
        tensor=tensor_text(result[0], plain[result[0]]),
        difference=result[1],
        reproducer=script.text,
    )


def _follows_written_rates(
    subject: Subject, tiny: Tiny, arguments: dict[str, Any]
) -> Iterator[Finding]:
    """Report that a number written into the tensor of the learning rate has no effect."""
    value = float(arguments["lr"])
    rate = torch.tensor(value, dtype=torch.float64)
    steady, written = (parameters_of(tiny.start) for _ in range(2))
    with float64_scalars():
        of_steady = subject.make(steady, arguments)
        of_written = subject.make(written, {**arguments, "lr": rate})
        rate.fill_(value / 2)
        for gradients in tiny.gradients:
            step_with(of_steady, steady, gradients)
            step_with(of_written, written, gradients)
    if first_apart(written, steady, _SAME) is not None or identical(steady, tiny.start):
        return
    script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
    script.add(f"rate = torch.tensor({value!r}, dtype=torch.float64)")
    others = {name: argument for name, argument in arguments.items() if name != "lr"}
    script.add(f"of_a = {script.call('[a], lr=rate', others)}")
    script.add(f"of_b = {script.call(f'[b], lr={value!r}', others)}")
    script.add("rate.fill_(rate / 2)", "a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)")
    script.add("of_a.step()", "of_b.step()", "assert not torch.allclose(a, b, rtol=1e-12), (a, b)")
    yield Finding(
        "learning rate as a tensor",
        Kind.FAULT,
        "copies a learning rate that is a tensor: numbers written into it later have no effect",
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
        "takes different steps under torch.compile than without",
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
        sparse["a"].grad = _in_two_parts(gradient)
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
            script.add("    a.grad[step % 2] = 0", "    half = a.grad.to_sparse(1) / 2")
            script.add("    places = torch.cat([half.indices()] * 2, dim=1)")
            script.add("    values = torch.cat([half.values()] * 2)")
            script.add(
                "    b.grad = torch.sparse_coo_tensor("
                "places, values, b.shape, check_invariants=False)"
            )
            script.add("    dense.step()", "    sparse.step()")
            script.add("assert torch.allclose(a, b, rtol=1e-10, atol=0), (a, b)")
            yield Finding(
                "sparse gradients",
                Kind.FAULT if step == 1 else Kind.CONVENTION,
                "takes different steps with sparse gradients than with the same dense ones"
                + ("" if step == 1 else ": it leaves rows without a gradient alone"),
                step=step,
                tensor=tensor_text("a", dense["a"]),
                reproducer=script.text,
            )
            return


def _in_two_parts(gradient: Tensor) -> Tensor:
    """Return a gradient as a sparse sum of two halves with the same places, as embeddings have."""
    half = gradient.to_sparse(1) / 2
    places, values = torch.cat([half.indices()] * 2, dim=1), torch.cat([half.values()] * 2)
    return torch.sparse_coo_tensor(places, values, gradient.shape, check_invariants=False)


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
        "updates complex weights differently from their real and imaginary parts",
        reproducer=script.text,
    )


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run)  # type: ignore[arg-type]


VARIANT_CHECKS = (
    _check("variants", agrees_with_variants),
    _check("gradient layout", accepts_other_layouts),
    _check("learning rate as a tensor", accepts_tensor_rates),
    _check("compiled", agrees_when_compiled),
    _check("sparse gradients", treats_sparse_gradients),
    _check("complex weights", treats_complex_weights),
)
