"""One module and the weights of many: forward and backward of a grid of runs as one program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from optrial.engine.options import mixed_precision
from optrial.models import KeyedDropout, Objective, as_complex, as_real, trained_parameters

__all__ = ["Gradients", "StackedModel", "Tensors"]

Tensors = dict[str, Tensor]

_WIDE, _NARROW = 64, 16  # `_Linear` is faster from so many inputs on, or below so many outputs


class Gradients(NamedTuple):
    """What one batch gives, for every run.

    Attributes:
        gradients: by parameter, (seeds, settings, *shape).
        losses: (seeds, settings).
        metrics: sum of each over the batch, (seeds, settings, metrics).
        buffers: those that training changed, such as the averages of batch norm.
    """

    gradients: Tensors
    losses: Tensor
    metrics: Tensor
    buffers: Tensors


class StackedModel:
    """The weights of a grid of models, (seeds, settings, ...), and functions of all of them.

    Args:
        models: the runs' models, settings within seeds; they give up their weights. Those that
            start alike may be one object.
        shape: (seeds, settings).
        objective: what they are trained for.
        precision: of the products.

    Attributes:
        params: name of a trained parameter -> (seeds, settings, *shape); of a complex one its real
            and imaginary parts, (seeds, settings, *shape, 2).
        buffers: name of a buffer or of a parameter that is not trained -> the same.
        shared: names of the buffers that are the same for all settings, (seeds, *shape): mask keys,
            so that runs with one seed draw once, and weights that nobody trains, so that what they
            make of a batch before the first trained layer is computed once.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        shape: tuple[int, int],
        objective: Objective,
        precision: str,
    ) -> None:
        trained = trained_parameters(models[0])
        untrained = {name for name, _ in models[0].named_parameters()} - trained.keys()
        start_alike = all(model is models[i - i % shape[1]] for i, model in enumerate(models))
        self.shared = frozenset(name for name, _ in models[0].named_buffers() if _is_key(name))
        if start_alike:
            self.shared |= untrained
        tensors = [dict(_tensors_of(model)) for model in models]

        def stacked(name: str) -> Tensor:
            each = [own[name].detach() for own in tensors]
            if name in self.shared:
                return torch.stack(each[:: shape[1]])
            return torch.stack(each).view(*shape, *each[0].shape)

        self._complex = frozenset(name for name, value in trained.items() if value.is_complex())
        self.params: Tensors = {name: as_real(stacked(name)) for name in trained}
        self.buffers: Tensors = {n: stacked(n) for n in tensors[0] if n not in trained}
        self.device = next(iter(self.params.values())).device
        self.alone = shape == (1, 1)
        self.objective = objective
        self.precision = precision
        self.base = _without_weights(models[0])
        linear = [module for module in self.base.modules() if type(module) is nn.Linear]
        for module in linear if not self.alone else ():
            wide = module.in_features >= _WIDE
            if wide or module.out_features < _NARROW:
                module.__class__ = _Linear
                assert isinstance(module, _Linear)
                module.joins_settings = self.device.type != "cpu" or (wide and shape[0] > 1)
        layers = zip(
            *([m for m in x.modules() if isinstance(m, KeyedDropout)] for x in models), strict=True
        )
        for first, *others in layers:
            first.active = first.active or any(layer.active for layer in others)

    def set_mask_keys(self, keys: Tensor) -> None:
        """Tell dropout which step comes next, by one key a seed."""
        for name, value in self.buffers.items():
            if _is_key(name):
                value.copy_(keys)

    def mask_keys(self) -> list[list[int]]:
        """Return the keys of the layers that drop out, by seed."""
        seeds = len(next(iter(self.params.values())))
        dropping = {
            n for n, m in self.base.named_modules() if isinstance(m, KeyedDropout) and m.active
        }
        held = [
            self.buffers[name].tolist()
            for name in self.buffers
            if _is_key(name) and name.rpartition(".")[0] in dropping
        ]
        return [list(keys) for keys in zip(*held, strict=True)] if held else [[]] * seeds

    def differentiate(self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Gradients:
        """Return the gradients of all runs on their seed's batch, x (seeds, batch, ...).

        Runs share nothing, so that the gradient of the sum of their losses holds each one's own.
        """
        measure = self.over_runs(self._measure, buffers)
        if self.alone:  # without the axes of a stack and the mapping over them, which cost time
            measure, x, y = self._measure, x[0], y[0]
            params, buffers = self._of_one_run(params, buffers)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        with torch.enable_grad():
            losses, (metrics, changed) = measure(leaves, buffers, x, y)
            gradients = torch.autograd.grad(
                losses.sum(), list(leaves.values()), materialize_grads=True
            )

        def found(value: Tensor) -> Tensor:
            return value.detach()[None, None] if self.alone else value.detach()

        return Gradients(
            dict(zip(leaves, map(found, gradients), strict=True)),
            found(losses),
            found(metrics),
            {name: found(value) for name, value in changed.items()},
        )

    def differentiate_traced(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> Gradients:
        """The same in a form that the compiler can follow as one program; slower as it is."""
        one_run = grad_and_value(self._measure, has_aux=True)
        gradients, (losses, (metrics, changed)) = self.over_runs(one_run, buffers)(
            params, buffers, x, y
        )
        return Gradients(gradients, losses.detach(), metrics, changed)

    def evaluate(
        self, params: Tensors, x: Tensor, y: Tensor, block: tuple[slice, slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate a block of the grid on a batch that all runs share.

        Returns:
            what the batch adds to the losses of the split, (seeds, settings), and to the metrics
            that are means, (seeds, settings, metrics); and the outputs where they are needed,
            (seeds, settings, batch, ...).
        """
        if self.alone:
            loss, sums, outputs = self._measure_part(*self._of_one_run(params, self.buffers), x, y)
            return loss[None, None], sums[None, None], outputs[None, None]
        rows, columns = block
        buffers = {
            name: value[rows] if name in self.shared else value[rows, columns]
            for name, value in self.buffers.items()
        }
        params = {name: value[rows, columns] for name, value in params.items()}
        losses, sums, outputs = self.over_runs(self._measure_part, buffers, data_axis=None)(
            params, buffers, x, y
        )
        return losses, sums, outputs

    def loss(
        self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        """Return one run's mean loss."""
        return self._measure(dict(params), dict(buffers), x, y)[0]

    def _measure(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensors]]:
        """One run's mean loss, sums of metrics, and the buffers that its layers replaced."""
        # `functional_call` writes what layers assign to their buffers back into this mapping.
        state = as_complex(params, self._complex) | buffers
        outputs = self._outputs(state, x)
        loss, metrics = self.objective.measure(outputs, y)
        changed = {name: state[name] for name in buffers if state[name] is not buffers[name]}
        return loss, (metrics, changed)

    def _measure_part(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a batch adds to one run's evaluation, and its outputs where needed."""
        outputs = self._outputs(as_complex(params, self._complex) | buffers, x)
        losses, sums = self.objective.measure_part(outputs, y)
        return losses, sums, outputs if self.objective.needs_outputs else outputs.new_zeros(0)

    def _outputs(self, state: Tensors, x: Tensor) -> Tensor:
        """Return one run's outputs, its parameters and buffers being `state`."""
        with mixed_precision(self.precision, self.device):
            outputs: Tensor = functional_call(self.base, state, (x,))
        return outputs

    @contextmanager
    def without_fused_attention(self) -> Iterator[None]:
        """Compute attention as products, because PyTorch's fused kernels take one run at a time.

        Warnings of other kernels that do, or that are not compiled, are of no use to users.
        """
        if self.alone:
            yield
            return
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                warnings.filterwarnings("ignore", "Torchinductor does not support code generation")
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)

    def over_runs(
        self, function: Callable[..., Any], buffers: Mapping[str, Tensor], data_axis: int | None = 0
    ) -> Callable[..., Any]:
        """Map a function of (params, buffers, x, y) over seeds and settings.

        `data_axis` is 0 for a batch a seed, None for data that all runs share.
        """
        own = {name: None if name in self.shared else 0 for name in buffers}
        over_settings = vmap(function, in_dims=(0, own, None, None))
        return vmap(over_settings, in_dims=(0, 0, data_axis, data_axis))

    def weights(self, run: int, params: Tensors) -> Tensors:
        """Return a run's part of `params` and of the buffers that a model is saved with, as views.

        Tied ones come under each of their names, as PyTorch saves them.
        """
        place = divmod(run, next(iter(params.values())).shape[1])
        first = {id(value): name for name, value in _tensors_of(self.base)}
        held, found = self.buffers | as_complex(params, self._complex), {}
        for name, value in self.base.state_dict(keep_vars=True).items():
            if own := first.get(id(value)):  # else it is what a module adds of its own
                found[name] = held[own][place[:1] if own in self.shared else place]
        return found

    def _of_one_run(self, params: Tensors, buffers: Tensors) -> tuple[Tensors, Tensors]:
        """Take the axes of seeds and settings away."""
        own = {n: value[0] if n in self.shared else value[0, 0] for n, value in buffers.items()}
        return {name: value[0, 0] for name, value in params.items()}, own


def _is_key(name: str) -> bool:
    """Whether a buffer is the mask key of a dropout layer."""
    return name.rpartition(".")[2] == "mask_key"


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers by name, what is tied once."""
    return chain(module.named_parameters(), module.named_buffers())


def _without_weights(module: nn.Module) -> nn.Module:
    """Move a module to the meta device; what is tied stays so, which `nn.Module.to` forgets."""
    places = [
        (held, name, value)
        for owner in module.modules()
        for held in (owner._parameters, owner._buffers)
        for name, value in held.items()
        if value is not None
    ]
    module.to("meta")
    moved: dict[int, Any] = {}
    for held, name, value in places:
        held[name] = moved.setdefault(id(value), held[name])
    return module


class _Linear(nn.Linear):
    """x W^T + b as (W x^T)^T + b, the faster way round for some layers of a stack.

    Of a narrow layer, as the last often is: samples lie side by side, enough of them for the
    processor's vectors, which the outputs of one sample do not fill. Of a wide layer: the first's
    input is the same for all settings of a seed, and is laid out once for all of them. A product
    of each run's own W is the fastest then, on a CPU, but wants one x^T a run where there are
    several seeds; all settings of a seed are one product instead, as they are on a GPU.

    Attributes:
        joins_settings: whether W of all settings times their common x^T is one product.
    """

    joins_settings: bool

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map (batch, inputs) to (batch, outputs)."""
        if input.ndim != 2:
            return super().forward(input)
        if self.joins_settings:
            product = (self.weight @ input.mT).mT
        else:  # `vmap` joins what `@` multiplies, and leaves `bmm` alone
            product = torch.bmm(self.weight[None], input.mT.contiguous()[None])[0].mT
        return product if self.bias is None else product + self.bias.to(product.dtype)
