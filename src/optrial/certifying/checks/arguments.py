"""Checks of arguments: defaults, and hyperparameters without effect or with the wrong one."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from optrial.certifying.checks.common import EQUAL, finite, first_apart
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.subject import Check, Subject
from optrial.replay.binding import implemented_by_torch
from optrial.replay.draws import Draw, Setting, tensor_text
from optrial.replay.target import parameters_of, train

__all__ = ["ARGUMENT_CHECKS", "other_values"]


_EFFECTS = 61, 64, 65, 66
"""Draws in which a hyperparameter may have an effect; in the last, steps that seldom show one."""
_LONG_STEPS = 130
_OPPOSITE = -0.5
"""Cosine of two effects below which one of them reverses the other."""
_Weights = Mapping[str, torch.Tensor]


class _Effect(NamedTuple):
    """Weights after a training with one value of a hyperparameter, and with another."""

    draw: Draw
    changed: Setting
    actual: tuple[_Weights, _Weights]
    expected: tuple[_Weights, _Weights]


def has_documented_defaults(subject: Subject) -> Iterator[Finding]:
    """Defaults are those of the docstring, and those of the rule."""
    signature = {name: p.default for name, p in subject.target.signature.items()}
    documented = _documented(inspect.getdoc(subject.target.make) or "")
    for name, value in documented.items():
        default = signature.get(name, inspect.Parameter.empty)
        if default is inspect.Parameter.empty or _equal(default, value):
            continue
        script = subject.script().imports("inspect")
        script.add(f"default = inspect.signature({script.name}).parameters['{name}'].default")
        script.add(f"assert default == {value!r}, default")
        yield Finding(
            "defaults",
            Kind.FAULT,
            f"has {name}={default!r} by default, where its documentation says {value!r}",
            term=name,
            reproducer=script.text,
        )
    yield from _other_than_rule(subject, signature, documented)


def _other_than_rule(
    subject: Subject, signature: Mapping[str, Any], documented: Mapping[str, Any]
) -> Iterator[Finding]:
    """Report defaults that are not those of the rule."""
    if subject.reference is None:
        return
    binding, rule = subject.binding, subject.binding.rule
    decay = rule.default_decay if rule.default_decay in binding.decays else None
    setting = Setting(
        {**rule.defaults, **binding.fixed},
        rule.default_weight_decay if binding.decays else 0.0,
        decay or (binding.decays[0] if binding.decays else rule.default_decay),
    )
    usual = binding.arguments(setting)
    original = implemented_by_torch(rule)
    if original is not None:
        parameters = inspect.signature(original).parameters
        usual = {key: parameters[key].default for key in usual if key in parameters}
    is_copy = original is not None and _same_arguments(subject, original)
    for key, value in usual.items():
        default = signature.get(key, inspect.Parameter.empty)
        if default is inspect.Parameter.empty or default is None or _equal(default, value):
            continue
        if key in documented or isinstance(value, bool) or callable(value):
            continue
        origin = f"torch.optim.{original.__name__}" if original is not None else rule.name
        yield Finding(
            "defaults",
            Kind.CONVENTION if is_copy else Kind.NOTE,
            f"has {key}={default!r} by default, where {origin} has {value!r}",
            term=key,
        )


def _same_arguments(subject: Subject, original: type) -> bool:
    names = set(inspect.signature(original).parameters) - {"params"}
    return names <= set(subject.target.signature)


_DOCUMENTED = re.compile(
    r"^\s*(?P<name>\w+)\s*(?:\([^\n]*\))?\s*:(?P<text>(?:(?!^\s*\w+\s*(?:\([^\n]*\))?\s*:).*\n?)*)",
    re.MULTILINE,
)
_DEFAULT = re.compile(r"\(?\bdefault(?:s to|:| is| =)\s*`{0,2}(?P<value>[^\s`;]+(?:,\s*[^\s`;]+)*)")


def _documented(text: str) -> dict[str, Any]:
    """Return the defaults that a docstring states for its arguments."""
    result: dict[str, Any] = {}
    for match in _DOCUMENTED.finditer(text):
        stated = _DEFAULT.search(match["text"])
        if stated is not None and (value := _literal(stated["value"])) is not None:
            result.setdefault(match["name"], value)
    return result


def _literal(text: str) -> Any:
    """Return the Python value that a text starts with; None without one."""
    text = text.rstrip(".,")
    while text:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            text = text[:-1].rstrip() if text.endswith((")", ".", ",", "]")) else ""
    return None


def _equal(one: object, other: object) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, bool) != isinstance(other, bool):
        return one == other
    return bool(one == other)


def uses_every_hyperparameter(subject: Subject) -> Iterator[Finding]:
    """Every hyperparameter has an effect where it has one in the rule."""
    if subject.reference is None:
        return
    for name in subject.binding.adjustable():
        effect = _effect(subject, name)
        if effect is None:
            continue
        one, two = effect.actual
        if first_apart(two, one, EQUAL) is None:
            binding, start = subject.binding, subject.tiny(61).start["a"]
            script = subject.script().weights("a", start).weights("b", start)
            script.add(f"one = {script.call('[a]', binding.arguments(effect.draw.setting))}")
            script.add(f"two = {script.call('[b]', binding.arguments(effect.changed))}")
            script.add(f"for step in range({effect.draw.steps}):")
            script.add("    a.grad = torch.full_like(a, (1.0, -2.0, 0.5, 1.0)[step % 4])")
            script.add("    b.grad = a.grad.clone()", "    one.step()", "    two.step()")
            yield Finding(
                f"no effect: {name}",
                Kind.FAULT,
                f"ignores {name}: its value has no effect on the steps",
                term=name,
                reproducer=script.add("assert not torch.equal(a, b), a").text,
            )
        elif name in ("lr", "weight_decay"):
            yield from _direction(subject, name, effect)


def _effect(subject: Subject, name: str) -> _Effect | None:
    """Return the last weights with one value of a hyperparameter and with another.

    They are of the first draw in which it has an effect in both the class and the rule; without
    one, of a draw in which it has an effect in the rule alone. None if it has none there either, or
    if weights are not finite, since the equations differ then, which is found elsewhere.
    """
    assert subject.reference is not None
    found: _Effect | None = None
    for stream in _EFFECTS:
        is_last = stream == _EFFECTS[-1]
        setting = subject.setting(60, is_settled=is_last)
        if "eps" in setting.values:
            setting = replace(setting, values={**setting.values, "eps": 0.1})
        changed = _moved(subject, setting, name)
        if changed is None:
            continue
        draw = subject.draw(stream, setting, steps=_LONG_STEPS if is_last else None)
        draws = draw, replace(draw, setting=changed)
        expected, wanted = (subject.reference(each)[-1] for each in draws)
        if first_apart(wanted, expected, 1e-9) is None:
            continue
        one, two = (train(subject.target, subject.binding, each)[-1] for each in draws)
        if not finite(one, two):
            continue
        found = _Effect(draw, changed, (one, two), (expected, wanted))
        if first_apart(two, one, EQUAL) is not None:
            break
    return found


def _direction(subject: Subject, name: str, effect: _Effect) -> Iterator[Finding]:
    """Report an effect that is about opposite to the one in the rule."""
    real, ideal = (
        torch.cat([(two[label] - one[label]).flatten() for label in one])
        for one, two in (effect.actual, effect.expected)
    )
    if float(torch.cosine_similarity(real, ideal, dim=0)) < _OPPOSITE:
        yield Finding(
            f"wrong sign: {name}",
            Kind.FAULT,
            f"reverses the effect of a larger {name} in {subject.binding.rule.name}",
            term=name,
        )


def _moved(subject: Subject, setting: Setting, name: str) -> Setting | None:
    if name == "weight_decay":
        return replace(setting, weight_decay=0.3)
    h = next(h for h in subject.binding.rule.hyperparameters if h.name == name)
    value = float(setting.values[name])
    for candidate in (value * 1.5, value / 2, value + 1, 0.3):
        if candidate != value and h.check(candidate) is None:
            return replace(setting, values={**setting.values, name: candidate})
    return None


def further_arguments_have_an_effect(subject: Subject) -> Iterator[Finding]:
    """Numeric arguments that the rule does not know have an effect, too."""
    arguments = subject.arguments(62)
    tiny = subject.tiny(62)
    plain = subject.trained(tiny, arguments)
    for name, parameter in subject.target.signature.items():
        default = parameter.default
        if name in arguments or isinstance(default, bool) or not isinstance(default, float):
            continue
        try:
            optimizer = subject.make(parameters_of(tiny.start), {**arguments, name: default})
            del optimizer
            other = [
                subject.trained(tiny, {**arguments, name: value})
                for value in (default * 2 + 0.05, default / 2 + 0.02)
            ]
        except Exception:  # noqa: BLE001  values that the class refuses
            continue
        if finite(plain) and all(first_apart(changed, plain) is None for changed in other):
            yield Finding(
                f"no effect: {name}",
                Kind.NOTE,
                f"shows no effect of {name} with the other arguments that were tried",
                term=name,
            )


_VARIANTS = ("foreach", "fused", "capturable", "differentiable", "maximize")


def agrees_with_original(subject: Subject) -> Iterator[Finding]:
    """With arguments that the rule does not know, a copy of PyTorch's class takes its steps."""
    original = getattr(torch.optim, subject.target.label, None)
    if not isinstance(original, type) or original is subject.target.make:
        return
    if not _same_arguments(subject, original):
        return
    theirs = replace(subject, target=replace(subject.target, make=original))
    arguments, tiny = subject.arguments(63), subject.tiny(63)
    if first_apart(subject.trained(tiny, arguments), theirs.trained(tiny, arguments), EQUAL):
        return  # the equations differ, which is found elsewhere
    for name, value in other_values(subject, arguments):
        changed = {**arguments, name: value}
        try:
            expected = theirs.trained(tiny, changed)
        except Exception:  # noqa: BLE001  values that PyTorch refuses
            continue
        actual = subject.trained(tiny, changed)
        if (result := first_apart(actual, expected, EQUAL)) is None:
            continue
        is_ignored = first_apart(actual, subject.trained(tiny, arguments), EQUAL) is None
        script = subject.script().weights("a", tiny.start["a"]).weights("b", tiny.start["a"])
        script.add(f"copy = {script.call('[a]', changed)}")
        script.add(f"original = torch.optim.{script.call('[b]', changed)}")
        script.add("for gradient in (1.0, -2.0, 0.5, 1.0):")
        script.add("    a.grad = torch.full_like(a, gradient)", "    b.grad = a.grad.clone()")
        script.add("    copy.step()", "    original.step()")
        script.add("assert torch.allclose(a, b, rtol=1e-12, atol=0), (a, b)")
        yield Finding(
            f"argument {name}",
            Kind.FAULT,
            (f"ignores {name}" if is_ignored else f"takes different steps with {name}={value!r}")
            + f": torch.optim.{original.__name__} does not",
            tensor=tensor_text(result[0], actual[result[0]]),
            term=name,
            reproducer=script.text,
        )


def other_values(subject: Subject, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield arguments that the rule does not know, with another value than their default."""
    for name, parameter in subject.target.signature.items():
        default = parameter.default
        if name in arguments or name in _VARIANTS:
            continue
        if isinstance(default, bool):
            yield name, not default
        elif isinstance(default, int):
            yield name, default + 1 if default else 0.3  # a share is not its own complement
        elif isinstance(default, float):
            yield name, default * 2 + 0.05
        elif isinstance(default, tuple) and all(isinstance(v, float) for v in default):
            yield name, tuple(v * 1.1 for v in default)


def _check(name: str, run: object) -> Check:
    sentence = (run.__doc__ or "").splitlines()[0]
    return Check(name, sentence, run, of_torch=False)  # type: ignore[arg-type]


ARGUMENT_CHECKS = (
    _check("defaults", has_documented_defaults),
    _check("effect of hyperparameters", uses_every_hyperparameter),
    _check("further arguments", further_arguments_have_an_effect),
    _check("arguments of the original", agrees_with_original),
)
