"""Short scripts that show a finding, and the search for the shortest one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optrial.replay.binding import Binding
from optrial.replay.comparison import Departure, departures, first_of
from optrial.replay.draws import Draw, Setting
from optrial.replay.target import Arguments, Path, Target, train

__all__ = ["Script", "numbers", "script_of_departure", "shortest"]


_LONG = 30
"""Steps of a training that is not shortened, since each try repeats it."""


def numbers(tensor: Tensor) -> str:
    """Return the numbers of a tensor as nested lists."""
    return repr(tensor.detach().tolist())


class Script:
    """A script that makes an optimizer of the target and ends with a failing assertion."""

    def __init__(self, target: Target) -> None:
        module, _, attribute = target.name.partition(":")
        self._target = target
        self._call = attribute
        self._lines = ["import torch"]
        if module and attribute and module != "notebook":
            top = attribute.partition(".")[0]
            self._lines.append(f"from {module} import {top}")
        if target.adapter:
            self._lines.append(f"from {target.adapter} import adapted")
            self._call = f"adapted({attribute})"
        if target.is_supplied:
            self._lines.append("from optrial.replay.supplies import supplied")
        self._lines.append("")

    def add(self, *lines: str) -> Script:
        """Append lines."""
        self._lines += lines
        return self

    def imports(self, *modules: str) -> Script:
        """Import further modules."""
        self._lines[0] = "\n".join(f"import {name}" for name in sorted({*modules, "torch"}))
        return self

    def weights(self, label: str, tensor: Tensor) -> Script:
        """Define a leaf tensor, contiguous or not."""
        dtype = f", dtype={tensor.dtype}"
        if tensor.ndim > 1 and not tensor.is_contiguous():
            rows = numbers(tensor.mT)
            return self.add(f"{label} = torch.tensor({rows}{dtype}).mT.requires_grad_()")
        return self.add(f"{label} = torch.tensor({numbers(tensor)}{dtype}, requires_grad=True)")

    @property
    def name(self) -> str:
        """The name of the class in the script."""
        return self._call

    def call(self, parameters: str, arguments: Arguments) -> str:
        """Return the text that makes an optimizer."""
        text = f"{self._call}({parameters}{self._keywords(arguments)})"
        if not self._target.is_supplied:
            return text
        return f"supplied({text}{', curvature=True' if self._target.is_curved else ''})"

    def _keywords(self, arguments: Arguments) -> str:
        everything = {**self._target.always, **arguments}
        defaults = {name: p.default for name, p in self._target.signature.items()}
        kept = {
            name: value
            for name, value in everything.items()
            if name not in defaults or not _is_equal(defaults[name], value)
        }
        return "".join(f", {name}={_text(value)}" for name, value in kept.items())

    @property
    def text(self) -> str:
        """The whole script."""
        return "\n".join(self._lines) + "\n"


def _text(value: object) -> str:
    return f"torch.tensor({value.tolist()!r})" if isinstance(value, Tensor) else repr(value)


def _is_equal(one: object, other: object) -> bool:
    try:
        return bool(one == other) and type(one) is type(other)
    except (RuntimeError, ValueError, TypeError):
        return False


def shortest(
    target: Target, binding: Binding, reference: Callable[[Draw], Path], draw: Draw
) -> tuple[Draw, Departure]:
    """Return the smallest training derived from a draw that still departs, and where it does.

    Fewest tensors and steps, smallest shapes, hyperparameters at their defaults, round numbers.
    """
    first = departure_of(target, binding, reference, draw)
    best = draw if first is None else _cut(draw, first.step)
    for candidates in (
        _fewer_tensors,
        _fewer_steps,
        _smaller,
        _at_defaults,
        _rounder,
        _fewer_steps,
    ):
        progress = True
        while progress:
            progress = False
            for candidate in candidates(best, binding):
                if departure_of(target, binding, reference, candidate) is not None:
                    best, progress = candidate, True
                    break
    departure = departure_of(target, binding, reference, best)
    assert departure is not None
    return _cut(best, departure.step), departure


def departure_of(
    target: Target, binding: Binding, reference: Callable[[Draw], Path], draw: Draw
) -> Departure | None:
    """Return where the target first departs in a draw; None if it does not."""
    try:
        result = departures(draw, train(target, binding, draw), reference(draw))
    except Exception:  # noqa: BLE001  a smaller training may be one that the target refuses
        return None
    return first_of(result) if result else None


def _cut(draw: Draw, steps: int) -> Draw:
    changes = {step: setting for step, setting in draw.changes.items() if step <= steps}
    return replace(draw, gradients=draw.gradients[:steps], changes=changes)


def _fewer_tensors(draw: Draw, binding: Binding) -> Iterator[Draw]:
    del binding
    labels = list(draw.start)
    if len(labels) == 1:
        return
    subsets = [[label] for label in labels]
    subsets += [[one for one in labels if one != label] for label in labels]
    for subset in subsets:
        yield replace(
            draw,
            start={label: draw.start[label] for label in subset},
            gradients=[{label: g[label] for label in subset} for g in draw.gradients],
        )


def _fewer_steps(draw: Draw, binding: Binding) -> Iterator[Draw]:
    del binding
    if draw.steps > _LONG:
        return
    for steps in range(1, draw.steps):
        yield _cut(draw, steps)
    if draw.changes:
        return
    for step in range(draw.steps):
        kept = [g for index, g in enumerate(draw.gradients) if index != step]
        if kept:
            yield replace(draw, gradients=kept)


def _smaller(draw: Draw, binding: Binding) -> Iterator[Draw]:
    del binding
    for label, tensor in draw.start.items():
        for axis, size in enumerate(tensor.shape):
            if size > 1:
                yield _mapped(draw, label, lambda t, axis=axis: t.narrow(axis, 0, 1).clone())  # type: ignore[misc]


def _mapped(draw: Draw, label: str, change: Callable[[Tensor], Tensor]) -> Draw:
    def of(gradient: Tensor | None) -> Tensor | None:
        return None if gradient is None else change(gradient)

    return replace(
        draw,
        start={**draw.start, label: change(draw.start[label])},
        gradients=[{**g, label: of(g[label])} for g in draw.gradients],
    )


def _at_defaults(draw: Draw, binding: Binding) -> Iterator[Draw]:
    if draw.changes:
        return
    setting = draw.setting
    if setting.weight_decay:
        yield replace(draw, setting=replace(setting, weight_decay=0.0))
    for name, default in binding.rule.defaults.items():
        if setting.values[name] != default and name not in binding.fixed:
            values = {**setting.values, name: default}
            yield replace(draw, setting=Setting(values, setting.weight_decay, setting.decay))


def _rounder(draw: Draw, binding: Binding) -> Iterator[Draw]:
    del binding
    for label, tensor in draw.start.items():
        if not bool((tensor == 1).all()):
            yield replace(draw, start={**draw.start, label: torch.ones_like(tensor)})
    if draw.steps > _LONG:
        return
    for label in draw.start:
        for step, gradients in enumerate(draw.gradients):
            gradient = gradients[label]
            if gradient is None or bool((gradient == 1).all()):
                continue
            for value in (torch.ones_like(gradient), (gradient * 10).round() / 10):
                if not torch.equal(value, gradient):
                    changed = list(draw.gradients)
                    changed[step] = {**gradients, label: value}
                    yield replace(draw, gradients=changed)


def script_of_departure(
    target: Target, binding: Binding, reference: Callable[[Draw], Path], draw: Draw
) -> str:
    """Return a script that trains a draw and asserts what the reference predicts."""
    expected = reference(draw)[-1]
    actual = train(target, binding, draw)[-1]
    script = Script(target)
    labels = {label: f"w{index or ''}" for index, label in enumerate(draw.start)}
    for label, tensor in draw.start.items():
        script.weights(labels[label], tensor)
    arguments = binding.arguments(draw.setting)
    listed = ", ".join(labels.values())
    script.add(f"optimizer = {script.call(f'[{listed}]', arguments)}")
    settings = draw.settings()
    before: Mapping[str, Any] = arguments
    for gradients, setting in zip(draw.gradients, settings, strict=True):
        after = binding.arguments(setting)
        for key, value in after.items():
            if value != before.get(key):
                script.add(f'optimizer.param_groups[0]["{key}"] = {value!r}')
        before = after
        for label, gradient in gradients.items():
            value_text = _gradient_text(gradient)
            script.add(f"{labels[label]}.grad = {value_text}")
        script.add("optimizer.step()")
    departing = [label for label in draw.start if not torch.equal(actual[label], expected[label])]
    label = (departing or list(draw.start))[0]
    apart = (actual[label] - expected[label]).abs().nan_to_num(1.0)
    script.add(
        f"expected = torch.tensor({_nan_text(numbers(expected[label]))}, dtype=torch.float64)",
        f"assert (({labels[label]} - expected).abs() <= {float(apart.max()) / 2:.1e}).all(), "
        f"{labels[label]}",
    )
    return script.text


def _gradient_text(gradient: Tensor | None) -> str:
    if gradient is None:
        return "None"
    return f"torch.tensor({_nan_text(numbers(gradient))}, dtype=torch.float64)"


def _nan_text(text: str) -> str:
    return text.replace("nan", 'float("nan")').replace("inf", 'float("inf")')
