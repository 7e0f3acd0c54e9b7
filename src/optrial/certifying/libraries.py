"""Rules with norms and matrices as well-known libraries compute them.

The equations of these rules are no programs whose parts could be exchanged, so each way in which
libraries differ is written out here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from optrial.certifying.findings import Kind
from optrial.replay.draws import Draw
from optrial.replay.reference import Clock, replay
from optrial.replay.target import Path
from optrial.rules import Rule
from optrial.rules.muon import orthogonalise

__all__ = ["ROUNDING", "Deviation", "Library", "libraries_of"]

Values = Mapping[str, Any]
ROUNDING = 1e-7
"""Relative difference that rounding explains: roots of matrices and estimates amplify it."""


@dataclass(frozen=True)
class Deviation:
    """A way in which libraries compute a rule differently.

    Attributes:
        key: a word for it.
        name: what it concerns.
        sentence: what a library does, after its name.
    """

    key: str
    name: str
    sentence: str
    kind: Kind = Kind.CONVENTION


@dataclass(frozen=True, eq=False)
class Library:
    """A rule with some of its deviations.

    Attributes:
        deviations: those that it has.
        path: draw and step numbers -> the weights after each step.
    """

    deviations: tuple[Deviation, ...]
    path: Callable[[Draw, Clock], Path]


def libraries_of(rule: Rule) -> Iterator[Library]:
    """Yield all combinations of the deviations that are known of a rule, the fewest first."""
    deviations, path = _KNOWN.get(rule.name, ((), _unchanged))
    for count in range(1, len(deviations) + 1):
        for chosen in combinations(deviations, count):
            keys = {deviation.key for deviation in chosen}
            yield Library(chosen, lambda draw, clock, keys=keys: path(rule, draw, keys, clock))  # type: ignore[misc]


def _unchanged(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    del keys
    return replay(rule, draw, clock=clock)


def _lars(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    del keys  # there is one

    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        if len(values["axes"]) > 1:
            result: tuple[Tensor, Any] = rule.update(grad, state, step, **values)
            return result
        velocity = values["momentum"] * state.velocity + values["lr"] * grad
        return -velocity, type(state)(velocity)

    return replay(replace(rule, update=update), draw, clock=clock)


def _lamb(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        beta1, beta2, eps = (values[name] for name in ("beta1", "beta2", "eps"))
        decay, param, shrinkage = values["weight_decay"], values["param"], 0 * grad
        if "decay" in keys:
            shrinkage, decay = values["lr"] * decay * param, 0.0
        param = param - shrinkage
        mean = beta1 * state.mean + (1 - beta1) * grad
        square = beta2 * state.square + (1 - beta2) * grad * grad
        corrections = (1.0, 1.0) if "bias" in keys else (1 - beta1**step, 1 - beta2**step)
        direction = mean / corrections[0] / ((square / corrections[1]).sqrt() + eps)
        direction = direction + decay * param
        size, length = param.norm(), direction.norm()
        if "bound" in keys:
            size = size.clamp(max=10)
        ratio = size / (length + eps * ("eps" in keys)) if size > 0 and length > 0 else 1.0
        rate = values["lr"] / (1 - beta1**step if "rate" in keys else 1.0)
        return -rate * ratio * direction - shrinkage, type(state)(mean, square)

    return replay(replace(rule, update=update), draw, clock=clock)


def _adafactor(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        decay, param = values.pop("weight_decay"), values.pop("param")
        # The rate of the rule is the smaller one of lr and the root; the change is in proportion.
        bounded = min(values["lr"], step**-0.5)
        rate = values["lr"] if "rate" in keys else bounded
        scale = max(float(param.square().mean().sqrt()), values["eps"]) if param.numel() else 0.0
        shrinkage = (rate * scale if "decay" in keys else values["lr"]) * decay * param
        measured = param - shrinkage if "after" in keys else param
        if "coordinates" in keys and len(values["axes"]) > 1:
            change, state = _unfactored(rule, grad, state, step, param=measured, **values)
        else:
            change, state = rule.update(grad, state, step, param=measured, **values)
        return change * (rate / bounded) - shrinkage, state

    needs = (*rule.needs, "weight_decay")
    changed = replace(rule, update=update, needs=needs, own_decay="decoupled")
    return replay(changed, draw, clock=clock)


def _unfactored(
    rule: Rule, grad: Tensor, state: Any, step: float, *, param: Tensor, **values: Any
) -> tuple[Tensor, Any]:
    """Return the step of Adafactor that takes a matrix for a vector."""
    square = torch.zeros_like(grad) if state.square is None else state.square
    flat = state._replace(square=square.reshape(-1))
    values["axes"] = (0,)
    change, flat = rule.update(grad.reshape(-1), flat, step, param=param.reshape(-1), **values)
    return change.reshape(grad.shape), state._replace(square=flat.square.reshape(grad.shape))


def _shampoo(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        momentum, decay = values["momentum"], values["weight_decay"] * values["param"]
        if "blend" in keys:
            before = grad if step == 1 else state.velocity
            grad = (1 - momentum) * grad + momentum * before
        grad = grad + decay
        axes = len(values["axes"])
        if "vectors" in keys and axes < 2:
            direction, square = _of_vector(grad, state.square, values["eps"])
            after = state._replace(square=square)
        else:
            rest = {name: values[name] for name in ("axes", "lr", "eps")}
            change, after = rule.update(
                grad, state._replace(velocity=0 * grad), step, momentum=0.0, **rest
            )
            direction = -change / values["lr"]
        velocity = direction if "blend" in keys else momentum * state.velocity + direction
        return -values["lr"] * velocity, after._replace(velocity=velocity)

    needs = (*rule.needs, "param", "weight_decay")
    changed = replace(rule, update=update, needs=needs, own_decay="l2")
    return replay(changed, draw, clock=clock)


def _of_vector(grad: Tensor, sums: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return a vector multiplied by the inverse root of a full matrix, and the sums."""
    if grad.ndim == 0:
        return grad, sums
    if sums.ndim == 1:  # the first step: the rule starts with a diagonal
        sums = torch.zeros((len(grad), len(grad)), dtype=grad.dtype)
    sums = sums + torch.outer(grad, grad)
    values, vectors = torch.linalg.eigh(sums + eps * torch.eye(len(grad), dtype=grad.dtype))
    return (vectors * values.clamp(min=eps) ** -0.5) @ vectors.mT @ grad, sums


def _prodigy(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    """Return the steps of the authors' library, which reads the new estimate of d beside eps."""
    del rule, keys, clock
    params = dict(draw.start)
    zeros = {label: torch.zeros_like(tensor) for label, tensor in params.items()}
    mean, square, weighted = dict(zeros), dict(zeros), dict(zeros)
    d, progress = float(draw.setting.values["d0"]), 0.0
    path: Path = []
    for gradients, setting in zip(draw.gradients, draw.settings(), strict=True):
        values = setting.values
        lr, beta1, beta2 = (float(values[name]) for name in ("lr", "beta1", "beta2"))
        progress *= beta2**0.5
        for label, given in gradients.items():
            grad = zeros[label] if given is None else given
            progress += lr * d * d * float((grad * (draw.start[label] - params[label])).sum())
            mean[label] = beta1 * mean[label] + (1 - beta1) * d * grad
            square[label] = beta2 * square[label] + (1 - beta2) * d * d * grad * grad
            weighted[label] = beta2**0.5 * weighted[label] + lr * d * d * grad
        total = sum(float(tensor.abs().sum()) for tensor in weighted.values())
        before, d = d, max(d, float(values["d_coef"]) * progress / total) if total else d
        for label, tensor in params.items():
            step = mean[label] / (square[label].sqrt() + d * float(values["eps"]))
            params[label] = tensor - lr * before * (step + setting.weight_decay * tensor)
        path.append(dict(params))
    return path


_ADAM_DECAY = 0.004
"""Default of adam_weight_decay in Keras."""


def _muon(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        decay, param = values.pop("weight_decay"), values.pop("param")
        axes = len(values["axes"])
        is_vector = axes < 2 or ("kernels" in keys and axes > 2)
        if is_vector and state.square is None:
            state = state._replace(square=torch.zeros_like(grad))
        change, after = rule.update(grad, state, step, **values)
        if is_vector and "decay" in keys:
            decay = _ADAM_DECAY
        if is_vector and "root" in keys:
            corrections = [1 - values[name] ** step for name in ("beta1", "beta2")]
            root = (after.square.sqrt() + values["eps"]) / corrections[1] ** 0.5
            change = -values["lr"] * values["vector_lr"] * after.mean / corrections[0] / root
        if not is_vector and "sum" in keys:
            change = _of_sums(grad, after.mean, values)
        return change - values["lr"] * decay * param, after

    needs = (*rule.needs, "param", "weight_decay")
    changed = replace(rule, update=update, needs=needs, own_decay="decoupled")
    return replay(changed, draw, clock=clock)


def _of_sums(grad: Tensor, mean: Tensor, values: Values) -> Tensor:
    """Return the step of Muon with sums of gradients, whose norms are greater by 1e-7."""
    momentum = values["momentum"]
    ahead: Tensor = grad + momentum * mean / (1 - momentum)
    flat = ahead.reshape(len(ahead), -1)
    direction = orthogonalise(flat / (flat.norm() + 1e-7), 1.0).reshape(grad.shape)
    step: Tensor = -0.2 * values["lr"] * max(flat.shape) ** 0.5 * direction
    return step


def _adahessian(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    def update(grad: Tensor, state: Any, step: float, **values: Any) -> tuple[Tensor, Any]:
        if "kernels" in keys:
            values["axes"] = values["axes"][-2:]
        change, after = rule.update(grad, state, step, **values)
        if "count" not in keys:
            return change, after
        root = (after.square / (1 - values["beta2"] ** step)).sqrt() + values["eps"]
        return -values["lr"] * after.mean / (1 - values["beta1"] ** step) / root, after

    return replay(replace(rule, update=update), draw, clock=clock)


def _soap(rule: Rule, draw: Draw, keys: Collection[str], clock: Clock) -> Path:
    """Return the steps of the authors' code, by the operations of pytorch_optimizer.

    Eigenvectors of equal eigenvalues are rounding errors, and these are the same only if all
    operations are.
    """
    del rule, keys
    paths = {label: _soap_of(draw, label, clock(draw, label)) for label in draw.start}
    return [{label: path[step] for label, path in paths.items()} for step in range(draw.steps)]


def _soap_of(draw: Draw, label: str, times: Sequence[float]) -> list[Tensor]:
    param, path = draw.start[label], []
    state: _SoapState | None = None
    for gradients, setting, time in zip(draw.gradients, draw.settings(), times, strict=True):
        if (grad := gradients[label]) is not None:
            if state is None:
                state = _SoapState(grad, setting.values)
                state.measure(grad, time - 1)
            if time > 1:
                lr = float(setting.values["lr"])
                param = param - lr * state.direction(grad, setting.values, time - 1)
                param = param * (1 - setting.weight_decay * lr)
                state.measure(grad, time - 1)
        path.append(param)
    return path


class _SoapState:
    """The averages and bases of one tensor."""

    def __init__(self, grad: Tensor, values: Values) -> None:
        self.mean, self.square = torch.zeros_like(grad), torch.zeros_like(grad)
        lengths = grad.shape if grad.ndim > 1 else ()
        self.products = [torch.zeros(n, n, dtype=grad.dtype) for n in lengths]
        self.bases: list[Tensor] = []
        self.beta2, self.every = values["beta2"], values["precondition_frequency"]

    def measure(self, grad: Tensor, step: float) -> None:
        """Average the products of gradients, and turn the bases at some steps."""
        for axis, product in enumerate(self.products):
            others = [*range(axis), *range(axis + 1, grad.ndim)]
            product.lerp_(torch.tensordot(grad, grad, dims=[others] * 2), 1.0 - self.beta2)
        if not self.bases:
            tiny = [1e-30 * torch.eye(len(m), dtype=m.dtype) for m in self.products]
            damped = [m + t for m, t in zip(self.products, tiny, strict=True)]
            self.bases = [torch.linalg.eigh(m)[1].flip([1]) for m in damped]
        if step > 0 and step % self.every == 0:
            for axis, (product, basis) in enumerate(zip(self.products, self.bases, strict=True)):
                images = product @ basis
                order = torch.argsort((basis * images).sum(0), descending=True)
                self.square = self.square.index_select(axis, order)
                self.bases[axis] = torch.linalg.qr(images.index_select(1, order))[0]

    def direction(self, grad: Tensor, values: Values, step: float) -> Tensor:
        """Return the step of Adam in the coordinates of the bases."""
        beta1, beta2, eps = (float(values[name]) for name in ("beta1", "beta2", "eps"))
        self.mean.lerp_(grad, 1.0 - beta1)
        self.square.lerp_(self._turned(grad, 0).square(), 1.0 - beta2)
        result = self._turned(self._turned(self.mean, 0) / (self.square.sqrt() + eps), 1)
        scale: float = (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        return scale * result

    def _turned(self, array: Tensor, side: int) -> Tensor:
        for basis in self.bases:
            array = torch.tensordot(array, basis, dims=[[0], [side]])
        return array


_Changed = Callable[[Rule, Draw, Collection[str], Clock], Path]
_KNOWN: Mapping[str, tuple[Sequence[Deviation], _Changed]] = {
    "lars": (
        (
            Deviation(
                "vectors",
                "vectors",
                "takes the steps of SGD with momentum for vectors and scalars, without weight "
                "decay and without a ratio of norms; for matrices, those of the rule",
            ),
        ),
        _lars,
    ),
    "lamb": (
        (
            Deviation("bias", "bias correction", "corrects no average for its bias"),
            Deviation("bound", "ratio of norms", "bounds the norm of the weights by 10"),
            Deviation("eps", "epsilon", "adds eps to the norm of the step as well"),
            Deviation("rate", "learning rate", "divides lr by 1 − beta1^t"),
            Deviation(
                "decay",
                "weight decay",
                "shrinks the weights by lr·weight_decay before the step (decoupled), where the "
                "rule adds the decay to what it scales by the ratio of norms",
            ),
        ),
        _lamb,
    ),
    "adafactor": (
        (
            Deviation("rate", "learning rate", "does not bound lr by 1 / √t"),
            Deviation(
                "decay",
                "weight decay",
                "scales weight decay by the scale of the weights, as it does the step",
            ),
            Deviation(
                "after",
                "weight decay",
                "takes the scale of the weights after weight decay, not before it",
            ),
            Deviation(
                "coordinates",
                "matrices",
                "averages every squared coordinate of small matrices, and not their rows and "
                "columns",
            ),
        ),
        _adafactor,
    ),
    "shampoo": (
        (
            Deviation(
                "blend",
                "momentum",
                "averages the gradient with the preconditioned gradient of the step before, in "
                "place of a velocity",
            ),
            Deviation(
                "vectors",
                "vectors",
                "multiplies vectors by the inverse root of a whole matrix, and scalars by nothing",
            ),
        ),
        _shampoo,
    ),
    "prodigy": (
        (
            Deviation(
                "eps",
                "epsilon",
                "multiplies eps by the new estimate of the distance, and the rest by the one "
                "before, as the authors' library does",
            ),
        ),
        _prodigy,
    ),
    "adahessian": (
        (
            Deviation(
                "kernels", "kernels", "does not average estimates over the places of a kernel"
            ),
            Deviation(
                "count",
                "bias correction",
                "corrects the average of squares by the number of steps, not of estimates",
            ),
        ),
        _adahessian,
    ),
    "muon": (
        (
            Deviation(
                "kernels", "kernels", "takes the kernels of convolutions for vectors, with AdamW"
            ),
            Deviation(
                "sum",
                "epsilon",
                "sums gradients and adds 1e-7 to the norm of the sum, where the rule averages them "
                "and takes the maximum of eps and the norm",
            ),
            Deviation(
                "root", "epsilon", "adds eps to the root of AdamW before its bias correction"
            ),
            Deviation(
                "decay",
                "weight decay",
                "shrinks vectors by lr times a separate argument, which stays at 0.004, where the "
                "rule uses weight_decay",
            ),
        ),
        _muon,
    ),
    "soap": (
        (
            Deviation(
                "authors",
                "weight decay and eigenvectors",
                "decays the weights after the step, and not in the first one; takes the "
                "eigenvectors of equal eigenvalues as they come, and adds nothing to the diagonal "
                "before the QR step; all as the authors' code does",
            ),
        ),
        _soap,
    ),
}
