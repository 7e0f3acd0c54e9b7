"""Checks of narrow types, of extreme gradients, and of symmetries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from optrial.certifying.checks.common import apart, reason
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import numbers, script_of_departure
from optrial.certifying.subject import Check, Subject
from optrial.replay.draws import Draw, Setting, tensor_text
from optrial.replay.target import Path, no_rounding, parameters_of, step_with, train

__all__ = ["NUMERIC_CHECKS"]

_TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_WORSE = 30.0
"""Allowed error in a narrow type, as a multiple of the error of the rule's own steps there."""


def computes_in_narrow_types(subject: Subject) -> Iterator[Finding]:
    """In float32 and bfloat16, errors are of the size that the rule's own steps have there."""
    if subject.reference is None or subject.explanation is None:
        return
    if no_rounding in subject.explanation.contexts:
        return  # it rounds anyway, which is reported
    setting = subject.setting(50, decayed=subject.knows_decay)
    draw = _benign(subject, setting)
    exact = subject.explanation.predict(draw)
    for dtype, type_name in _TYPES.items():
        try:
            path = train(subject.target, subject.binding, draw, dtype=dtype)
        except Exception as error:  # noqa: BLE001  code of a user
            text = reason(error)
            yield Finding(f"{type_name} weights", Kind.NOTE, f"refuses {type_name} weights: {text}")
            continue
        try:
            ours = subject.replayed(draw, dtype)
        except NotImplementedError:  # PyTorch lacks eigenvalues in narrow types
            continue
        unit = torch.finfo(dtype).eps
        for label in draw.start:
            size = float(draw.start[label].abs().max()) if draw.start[label].numel() else 0.0
            gap = apart(path[-1][label], exact[-1][label])
            expected = apart(ours[-1][label], subject.reference(draw)[-1][label])
            moved = apart(exact[-1][label], draw.start[label])
            if gap <= _WORSE * max(expected, unit * draw.steps * (1 + moved)) or not size:
                continue
            if path[-1][label].dtype != dtype:
                continue  # reported by the check of weights
            is_known = _is_known(subject, setting) and not bool(path[-1][label].isfinite().all())
            yield Finding(
                f"{type_name} weights",
                Kind.CONVENTION if is_known else Kind.FAULT,
                f"has an error of {gap:.1e} after {draw.steps} steps in {type_name}, where the "
                f"same equations have {expected:.1e}",
                step=draw.steps,
                tensor=tensor_text(label, draw.start[label]),
                difference=gap,
                reproducer=_script_of_type(subject, draw, label, type_name, exact, gap),
            )
            break


def _benign(subject: Subject, setting: Setting) -> Draw:
    """Return a training of 20 steps with gradients of order 1 that do not cancel."""
    draw = subject.draw(50, setting)
    random = subject.random(51)
    signs = {
        label: torch.tensor(random.choice([-1.0, 1.0], tuple(t.shape)))
        for label, t in draw.start.items()
    }
    gradients = [
        {
            label: signs[label]
            * torch.tensor(random.uniform(0.5, 1.5, tuple(t.shape)), dtype=torch.float64)
            for label, t in draw.start.items()
        }
        for _ in range(20)
    ]
    start = {
        label: torch.empty_like(t).copy_(-signs[label] * (t.abs() + 1))
        for label, t in draw.start.items()
    }
    # Numbers that all types hold, so that only the steps are rounded.
    rounded = [{n: g.bfloat16().double() for n, g in step.items()} for step in gradients]
    return replace(draw, gradients=rounded, start={n: _rounded(t) for n, t in start.items()})


def _rounded(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor).copy_(tensor.bfloat16().double())


def _script_of_type(
    subject: Subject, draw: Draw, label: str, type_name: str, exact: Path, error: float
) -> str:
    script = subject.script().add(
        f"w = torch.tensor({numbers(draw.start[label])}, dtype=torch.{type_name}, "
        "requires_grad=True)"
    )
    script.add(f"optimizer = {script.call('[w]', subject.binding.arguments(draw.setting))}")
    listed = [numbers(g[label]) for g in draw.gradients if g[label] is not None]  # type: ignore[arg-type]
    script.add("for gradient in (", *(f"    {text}," for text in listed), "):")
    script.add("    w.grad = torch.tensor(gradient, dtype=w.dtype)", "    optimizer.step()")
    script.add(f"expected = torch.tensor({numbers(exact[-1][label])}, dtype=torch.float64)")
    script.add("error = ((w.double() - expected).abs().max() / expected.abs().max()).item()")
    script.add(f"assert error < {error / 2:.1e}, error")
    return script.text


@dataclass(frozen=True)
class _Extreme:
    """Gradients that may overflow, underflow or cancel."""

    text: str
    values: Callable[[Tensor, int], Tensor]
    steps: int = 12
    dtype: torch.dtype = torch.float64


def _constant(tensor: Tensor, step: int) -> Tensor:
    del step
    count = max(tensor.numel(), 1)
    return torch.linspace(0.1, 1.0, count, dtype=torch.float64).reshape(tensor.shape)


_EXTREMES = (
    _Extreme("gradients of 0", lambda t, _: torch.zeros_like(t)),
    _Extreme("gradients of 1e100", lambda t, _: torch.full_like(t, 1e100)),
    _Extreme("gradients of 1e-200", lambda t, _: torch.full_like(t, 1e-200)),
    _Extreme(
        "gradients of 1e30 that alternate in sign",
        lambda t, step: torch.full_like(t, (-1.0) ** step * 1e30),
    ),
    _Extreme("a gradient that stays the same", _constant, steps=100),
    _Extreme(
        "gradients of 1e-30 in float32",
        lambda t, _: torch.full_like(t, 1e-30),
        dtype=torch.float32,
    ),
    _Extreme(
        "gradients of 1e15 in float32",
        lambda t, _: torch.full_like(t, 1e15),
        dtype=torch.float32,
    ),
)
_STEADY_SIZE = 100


def stays_finite(subject: Subject) -> Iterator[Finding]:
    """Weights stay finite wherever the rule's do: huge, tiny, zero, steady gradients."""
    if subject.reference is None:
        return
    for extreme in _EXTREMES:
        for variant, setting in enumerate(_settings(subject)):
            finding = _not_finite(subject, extreme, setting)
            if finding is not None:
                yield finding
                break
            if extreme.steps > 20 and variant > 2:
                break


def _settings(subject: Subject) -> Iterator[Setting]:
    """Yield the defaults, and a few drawn settings, some with fast averages."""
    rule, binding = subject.binding.rule, subject.binding
    decay = binding.decays[0] if binding.decays else rule.default_decay
    yield Setting({**rule.defaults, **binding.fixed}, 0.0, decay)
    for stream in range(52, 55):
        setting = subject.setting(stream, decayed=False)
        yield setting
        switches = {h.name: True for h in rule.hyperparameters if h.scale == "switch"}
        if switches and not switches.keys() & binding.fixed.keys():
            halves = {name: 0.5 for name in ("rho",) if name in setting.values}
            plain = {n: 0.0 for n in ("momentum",) if n in setting.values}
            yield replace(setting, values={**setting.values, **switches, **halves, **plain})


def _not_finite(subject: Subject, extreme: _Extreme, setting: Setting) -> Finding | None:
    shape = (_STEADY_SIZE // 10, 10) if subject.matrices_only else (_STEADY_SIZE,)
    start = {"w": torch.ones(shape, dtype=torch.float64)}
    gradients = [{"w": extreme.values(start["w"], step)} for step in range(extreme.steps)]
    draw = Draw(start, gradients, setting)
    expected = subject.replayed(draw, extreme.dtype)
    try:
        path = train(subject.target, subject.binding, draw, dtype=extreme.dtype)
    except Exception as error:  # noqa: BLE001  code of a user
        text = reason(error)
        return Finding("stability", Kind.FAULT, f"raises an error with {extreme.text}: {text}")
    for step, (one, other) in enumerate(zip(path, expected, strict=True), start=1):
        bad = ~one["w"].isfinite() & other["w"].isfinite()
        if not bool(bad.any()):
            continue
        index = int(bad.reshape(-1).nonzero()[0])
        value = "NaN" if bool(one["w"].reshape(-1)[index].isnan()) else "infinite"
        is_known = _is_known(subject, setting) or _is_rounding(subject, draw, extreme)
        return Finding(
            "stability",
            Kind.CONVENTION if is_known else Kind.FAULT,
            f"makes a weight {value} with {extreme.text}, where the rule stays finite"
            + (
                " (centered: rounding leaves a negative variance)"
                if setting.values.get("centered")
                else ""
            ),
            step=step,
            tensor=tensor_text("w", start["w"]),
            reproducer=_script_of_extreme(subject, draw, step, index, extreme),
        )
    return None


def _is_known(subject: Subject, setting: Setting) -> bool:
    """Return whether the rule names this instability of other implementations."""
    return bool(setting.values.get("centered")) and "NaN" in subject.binding.rule.conventions


def _is_rounding(subject: Subject, draw: Draw, extreme: _Extreme) -> bool:
    """Return whether the weights stay finite if the class does not round to a narrower type."""
    if extreme.dtype != torch.float64:
        return False
    with no_rounding():
        path = train(subject.target, subject.binding, draw)
    return bool(path[-1]["w"].isfinite().all())


def _script_of_extreme(
    subject: Subject, draw: Draw, step: int, index: int, extreme: _Extreme
) -> str:
    dtype = str(extreme.dtype)
    gradient = draw.gradients[0]["w"]
    assert gradient is not None
    if subject.matrices_only:
        text = f"torch.full({tuple(gradient.shape)}, {gradient.reshape(-1)[index].item()!r}"
        first = f"w = torch.ones({tuple(gradient.shape)}, dtype={dtype}, requires_grad=True)"
    else:
        text = f"torch.full((1,), {gradient.reshape(-1)[index].item()!r}"
        first = f"w = torch.ones(1, dtype={dtype}, requires_grad=True)"
    sign = " * (-1) ** step" if "alternate" in extreme.text else ""
    script = subject.script().add(first)
    script.add(f"optimizer = {script.call('[w]', subject.binding.arguments(draw.setting))}")
    script.add(f"for step in range({step}):", f"    w.grad = {text}, dtype={dtype}){sign}")
    return script.add("    optimizer.step()", "assert w.isfinite().all(), w").text


def passes_on_nan(subject: Subject) -> Iterator[Finding]:
    """A NaN in a gradient shows in the weights as in the rule: neither hidden nor spread."""
    if subject.reference is None or subject.explanation is None:
        return
    draw = subject.draw(56, subject.setting(56, decayed=subject.knows_decay))
    label = next(label for label, tensor in draw.start.items() if tensor.numel() > 1)
    gradients = [dict(step) for step in draw.gradients]
    spoiled = gradients[1][label]
    assert spoiled is not None
    spoiled = spoiled.clone()
    spoiled.reshape(-1)[0] = float("nan")
    gradients[1][label] = spoiled
    for step in gradients:
        for name, gradient in step.items():
            if gradient is not None and name != label and gradient.numel():
                step[name] = torch.ones_like(gradient)
    draw = replace(draw, gradients=gradients)
    try:
        actual = train(subject.target, subject.binding, draw)
        expected = subject.explanation.predict(draw)
    except (RuntimeError, ValueError) as error:
        text = f"refuses NaN gradients: {reason(error)}"
        yield Finding("NaN gradients", Kind.NOTE, text)
        return
    for step_number, (one, other) in enumerate(zip(actual, expected, strict=True), start=1):
        for name in draw.start:
            hidden = name == label and bool(
                (other[name].reshape(-1)[:1].isnan() & ~one[name].reshape(-1)[:1].isnan()).any()
            )
            if not hidden and not bool((one[name].isnan() & ~other[name].isnan()).any()):
                continue
            text = (
                "hides a NaN of the gradient: the weights stay finite where the rule's are NaN"
                if hidden
                else "spreads a NaN of the gradient to weights that the rule leaves finite"
            )
            small = Draw(
                {name: draw.start[name]},
                [{name: step[name]} for step in gradients[:step_number]],
                draw.setting,
            )
            reproducer = ""
            if name == label:
                reproducer = script_of_departure(
                    subject.target, subject.binding, subject.explanation.predict, small
                )
            yield Finding(
                "NaN gradients",
                Kind.CONVENTION if _may_treat_nan_otherwise(subject) else Kind.FAULT,
                text,
                step=step_number,
                tensor=tensor_text(name, draw.start[name]),
                reproducer=reproducer,
            )
            return


def _may_treat_nan_otherwise(subject: Subject) -> bool:
    """Return whether the rule takes signs, which are NaN or 0 by library, or norms of tensors."""
    rule = subject.binding.rule
    return "sign" in " ".join(rule.equations) or "axes" in rule.needs


@dataclass(frozen=True)
class _Symmetry:
    """A change of the problem that changes the path in a known way."""

    text: str
    start: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    weights: Callable[[Tensor], Tensor]


_SYMMETRIES: Mapping[str, _Symmetry] = {
    "sign": _Symmetry(
        "reversing all signs of weights and gradients", torch.neg, torch.neg, torch.neg
    ),
    "order": _Symmetry(
        "reversing the order of the coordinates",
        lambda t: t.flip(tuple(range(t.ndim))),
        lambda t: t.flip(tuple(range(t.ndim))),
        lambda t: t.flip(tuple(range(t.ndim))),
    ),
    "shift": _Symmetry("adding 1 to all weights", lambda t: t + 1, lambda t: t, lambda t: t + 1),
    "scale": _Symmetry("multiplying all gradients by 8", lambda t: t, lambda t: 8 * t, lambda t: t),
}


def has_symmetries(subject: Subject) -> Iterator[Finding]:
    """Symmetries of the rule are symmetries of the class: signs, order, shift, gradient scale."""
    if subject.reference is None:
        return
    rule = subject.binding.rule
    for name, symmetry in _SYMMETRIES.items():
        setting = subject.setting(57, decayed=name in ("sign", "order"))
        if name == "scale" and "eps" in setting.values:
            if rule.hyperparameters[-1].name != "eps" or rule.hyperparameters[-1].check(0.0):
                continue
            setting = replace(setting, values={**setting.values, "eps": 0.0})
        draw = _benign(subject, setting)
        changed = Draw(
            {n: symmetry.start(t) for n, t in draw.start.items()},
            [
                {n: None if g is None else symmetry.gradient(g) for n, g in step.items()}
                for step in draw.gradients
            ],
            setting,
        )
        predict = subject.explanation.predict if subject.explanation else subject.reference
        if not _symmetric(predict(draw), predict(changed), symmetry):
            continue
        try:
            actual = train(subject.target, subject.binding, draw)
            other = train(subject.target, subject.binding, changed)
        except Exception:  # noqa: BLE001  a class may refuse an eps of 0
            continue
        if not _symmetric(actual, other, symmetry, 1e-6):
            yield Finding(
                f"symmetry: {name}",
                Kind.FAULT,
                f"lacks a symmetry of {rule.name}: its steps after {symmetry.text}",
            )


def _symmetric(path: Path, other: Path, symmetry: _Symmetry, tolerance: float = 1e-9) -> bool:
    return all(
        apart(other[-1][name], symmetry.weights(tensor)) <= tolerance
        for name, tensor in path[-1].items()
    )


_NARROW_COUNTS = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.uint8: 255, torch.int8: 127}
"""Types that hold no larger number of steps."""


def counts_far(subject: Subject) -> Iterator[Finding]:
    """The type of a step count, in float64 and in bfloat16, holds the steps of a long training."""
    if subject.is_joint:
        return
    tiny, arguments = subject.tiny(58, steps=3), subject.arguments(58, decayed=False)
    for dtype in (torch.float64, torch.bfloat16):
        parameters = parameters_of(tiny.start, dtype)
        seen: dict[str, list[float]] = {}
        try:
            optimizer = subject.make(parameters, arguments)
            for gradients in tiny.gradients:
                step_with(optimizer, parameters, gradients)
                for key, value in optimizer.state.get(parameters["a"], {}).items():
                    if isinstance(value, Tensor) and value.numel() == 1:
                        seen.setdefault(key, []).append(float(value))
        except Exception:  # noqa: BLE001  reported by the check of narrow types
            return
        for key, values in seen.items():
            counter = optimizer.state[parameters["a"]][key]
            if values != [1.0, 2.0, 3.0] or counter.dtype not in _NARROW_COUNTS:
                continue
            yield _narrow_count(subject, key, counter.dtype, dtype, arguments)
            return


def _narrow_count(
    subject: Subject,
    key: str,
    kind: torch.dtype,
    dtype: torch.dtype,
    arguments: Mapping[str, Any],
) -> Finding:
    most, name = _NARROW_COUNTS[kind], str(kind).removeprefix("torch.")
    shape = "2, 2" if subject.matrices_only else "2"
    script = subject.script().add(f"w = torch.ones({shape}, dtype={dtype}, requires_grad=True)")
    script.add(f"optimizer = {script.call('[w]', arguments)}")
    script.add(f"for _ in range({most + 4}):", "    w.grad = torch.ones_like(w)")
    script.add("    optimizer.step()")
    script.add(f'assert int(optimizer.state[w]["{key}"]) == {most + 4}')
    return Finding(
        "step count",
        Kind.FAULT,
        f"counts steps in {name}, which ends at {most}",
        term=key,
        reproducer=script.text,
    )


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run, of_torch=False)  # type: ignore[arg-type]


NUMERIC_CHECKS = (
    _check("narrow types", computes_in_narrow_types),
    _check("type of the step count", counts_far),
    _check("stability", stays_finite),
    _check("NaN gradients", passes_on_nan),
    _check("symmetries", has_symmetries),
)
