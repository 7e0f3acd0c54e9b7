"""Forward and backward pass of a grid of runs as one program: one module, many weights."""

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

from optrial.engine.backends.products import is_large, products
from optrial.models import (
    KeyedDropout,
    Objective,
    as_complex,
    as_real,
    hessian_products,
    mixed_precision,
    trained_parameters,
    twice_differentiable,
)

__all__ = ["Gradients", "StackedModel", "Tensors"]

Tensors = dict[str, Tensor]

_WIDE, _NARROW = 64, 16  # `_Linear` is faster from so many inputs on, or below so many outputs


class Gradients(NamedTuple):
    """Gradients and losses of every run on one batch.

    Attributes:
        gradients: by parameter, (seeds, settings, *shape).
        losses: (seeds, settings).
        metrics: sums over the batch, (seeds, settings, metrics).
        buffers: buffers that the step changed, such as the averages of batch norm.
        curvature: estimates of the diagonal of the Hessian, by parameter; empty without.
    """

    gradients: Tensors
    losses: Tensor
    metrics: Tensor
    buffers: Tensors
    curvature: Tensors

    def scaled(self, share: Tensor, params: Tensors) -> Gradients:
        """Return losses and derivatives times a share, (seeds, 1), in the types of parameters."""

        def times(values: Tensors) -> Tensors:
            own = {name: value.to(params[name].dtype) for name, value in values.items()}
            return {n: v * share.to(v.dtype).view(-1, *[1] * (v.ndim - 1)) for n, v in own.items()}

        return self._replace(
            gradients=times(self.gradients),
            losses=self.losses * share.to(self.losses.dtype),
            curvature=times(self.curvature),
        )

    def added(self, other: Gradients | None) -> Gradients:
        """Return the sums with another batch."""
        if other is None:
            return self
        return self._replace(
            gradients={n: other.gradients[n] + value for n, value in self.gradients.items()},
            losses=other.losses + self.losses,
            metrics=other.metrics + self.metrics,
            curvature={n: other.curvature[n] + value for n, value in self.curvature.items()},
        )


class StackedModel:
    """The weights of a grid of models, (seeds, settings, ...), and functions of all of them.

    Args:
        models: models of the runs, settings within seeds. They lose their weights; runs with equal
            initial weights may share one object.
        shape: (seeds, settings).
        objective: loss and metrics.
        precision: precision of matrix products.
        rows: rows that each linear layer multiplies per sample, by name; see `linear_rows`.
        onednn_batch: number of samples of a step whose large products go through oneDNN; None
            leaves all products to PyTorch.
        rounds_weights: whether weights of linear layers are used for products only. In bfloat16,
            those of large products are then rounded once per step, and so are their gradients.

    Attributes:
        params: trained parameters by name, (seeds, settings, *shape); a complex one as its real and
            imaginary parts, (seeds, settings, *shape, 2).
        buffers: buffers and frozen parameters by name, of the same shapes.
        shared: names of buffers with the same value for all settings, (seeds, *shape). These are
            mask keys, so that runs with one seed draw once, and frozen weights, so that layers
            before the first trained one are computed once.
        uses_onednn: whether products of any layer go through oneDNN.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        shape: tuple[int, int],
        objective: Objective,
        precision: str,
        rows: Mapping[str, int],
        onednn_batch: int | None = None,
        *,
        rounds_weights: bool = False,
    ) -> None:
        trained = trained_parameters(models[0])
        untrained = {name for name, _ in models[0].named_parameters()} - trained.keys()
        start_alike = all(model is models[i - i % shape[1]] for i, model in enumerate(models))
        self.shared = frozenset(name for name, _ in models[0].named_buffers() if _is_key(name))
        if start_alike:
            self.shared |= untrained
        tensors = [dict(_tensors_of(model)) for model in models]

        def stacked(name: str) -> Tensor:
            values = [named[name].detach() for named in tensors]
            if name in self.shared:
                return torch.stack(values[:: shape[1]])
            return torch.stack(values).view(*shape, *values[0].shape)

        self._complex = frozenset(name for name, value in trained.items() if value.is_complex())
        self.params: Tensors = {name: as_real(stacked(name)) for name in trained}
        self.buffers: Tensors = {n: stacked(n) for n in tensors[0] if n not in trained}
        self.device = next(iter(self.params.values())).device
        self.alone = shape == (1, 1)
        self.objective = objective
        self.precision = precision
        self.base = _without_weights(models[0])
        samples = (onednn_batch or 0) * len(models)
        self.uses_onednn = False
        linear = {name: m for name, m in self.base.named_modules() if type(m) is nn.Linear}
        for name, module in linear.items() if not self.alone else ():
            # Positions have their own inputs in each run, and transposing them costs more.
            wide = module.in_features >= _WIDE and rows[name] == 1
            narrow = module.out_features < _NARROW
            if is_large(module, samples * rows[name]):
                module.__class__ = _OnednnLinear
                self.uses_onednn = True
            elif wide or narrow:
                module.__class__ = _Linear
                assert isinstance(module, _Linear)
                module.joins_settings = self.device.type != "cpu" or (wide and shape[0] > 1)
        rounds = rounds_weights and precision == "bfloat16"
        self._rounded = [
            f"{name}.weight"
            for name, module in self.base.named_modules()
            if isinstance(module, _OnednnLinear) and rounds
        ]
        layers = zip(
            *([m for m in x.modules() if isinstance(m, KeyedDropout)] for x in models), strict=True
        )
        for first, *others in layers:
            first.active = first.active or any(layer.active for layer in others)

    def averaged(self) -> Tensors:
        """Return what an average of the weights includes, by name: parameters and statistics."""
        buffers = self.buffers.items()
        statistics = {n: v for n, v in buffers if v.is_floating_point() and n not in self.shared}
        return self.params | statistics

    @contextmanager
    def restored_buffers(self) -> Iterator[None]:
        """Restore the buffers afterwards, which forward passes replace or change in place."""
        frozen = {name for name, _ in self.base.named_parameters()}
        before = {n: value.clone() for n, value in self.buffers.items() if n not in frozen}
        yield
        for name, value in before.items():
            self.buffers[name].copy_(value)

    def set_mask_keys(self, keys: Tensor) -> None:
        """Set the mask keys of the next step, one per seed."""
        for name, value in self.buffers.items():
            if _is_key(name):
                value.copy_(keys)

    def mask_keys(self) -> list[list[int]]:
        """Return the keys of the active dropout layers, by seed."""
        seeds = len(next(iter(self.params.values())))
        dropping = {
            n for n, m in self.base.named_modules() if isinstance(m, KeyedDropout) and m.active
        }
        by_layer = [
            self.buffers[name].tolist()
            for name in self.buffers
            if _is_key(name) and name.rpartition(".")[0] in dropping
        ]
        return [list(keys) for keys in zip(*by_layer, strict=True)] if by_layer else [[]] * seeds

    def differentiate(self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Gradients:
        """Return the gradients of all runs on their seed's batch, x (seeds, batch, ...).

        Weights that only products use may be rounded first; their gradients are rounded, too.
        Runs share no parameters, so the gradient of the sum of losses holds that of each run.
        """
        measure = self.over_runs(self._measure, buffers)
        if self.alone:  # the axes of a stack and the mapping over them cost time
            measure, x, y = self._measure, x[0], y[0]
            params, buffers = self._of_one_run(params, buffers)
        leaves = {name: value.detach() for name, value in params.items()}
        leaves |= {name: leaves[name].bfloat16() for name in self._rounded}
        for leaf in leaves.values():
            leaf.requires_grad_()
        with torch.enable_grad():
            losses, (metrics, changed) = measure(leaves, buffers, x, y)
            gradients = torch.autograd.grad(
                losses.sum(), list(leaves.values()), materialize_grads=True
            )

        def with_axes(value: Tensor) -> Tensor:
            return value.detach()[None, None] if self.alone else value.detach()

        return Gradients(
            dict(zip(leaves, map(with_axes, gradients), strict=True)),
            with_axes(losses),
            with_axes(metrics),
            {name: with_axes(value) for name, value in changed.items()},
            {},
        )

    def differentiate_twice(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, signs: Tensors
    ) -> Gradients:
        """Return gradients and estimates of the diagonal of the Hessian of all runs.

        Args:
            params: parameters, (seeds, settings, *shape).
            buffers: buffers.
            x: inputs, (seeds, batch, ...).
            y: targets, (seeds, batch, ...).
            signs: z of some parameters, (seeds, settings, *shape); 0 where a run needs none.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        measure = self.over_runs(self._measure, buffers)
        with torch.enable_grad(), self._with_plain_products(), twice_differentiable(self.base):
            losses, (metrics, changed) = measure(leaves, buffers, x, y)
            gradients = dict(
                zip(
                    leaves,
                    torch.autograd.grad(
                        losses.sum(),
                        list(leaves.values()),
                        create_graph=True,
                        materialize_grads=True,
                    ),
                    strict=True,
                )
            )
            products = hessian_products(
                [gradients[name] for name in signs],
                [leaves[name] for name in signs],
                list(signs.values()),
            )
        return Gradients(
            {name: value.detach() for name, value in gradients.items()},
            losses.detach(),
            metrics.detach(),
            {name: value.detach() for name, value in changed.items()},
            {n: signs[n] * product for n, product in zip(signs, products, strict=True)},
        )

    def differentiate_traced(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> Gradients:
        """The same, in a form that compiles to one program; slower uncompiled."""
        one_run = grad_and_value(self._measure, has_aux=True)
        gradients, (losses, (metrics, changed)) = self.over_runs(one_run, buffers)(
            params, buffers, x, y
        )
        return Gradients(gradients, losses.detach(), metrics, changed, {})

    def evaluate(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, block: tuple[slice, slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate a block of the grid on a batch that all runs share.

        Returns:
            the batch's contribution to the losses of the split, (seeds, settings), and to the
            metrics that are means, (seeds, settings, metrics); and the outputs, (seeds, settings,
            batch, ...), if the objective needs them.
        """
        if self.alone:
            loss, sums, outputs = self._measure_part(*self._of_one_run(params, buffers), x, y)
            return loss[None, None], sums[None, None], outputs[None, None]
        rows, columns = block
        buffers = {
            name: value[rows] if name in self.shared else value[rows, columns]
            for name, value in buffers.items()
        }
        params = {name: value[rows, columns] for name, value in params.items()}
        losses, sums, outputs = self.over_runs(self._measure_part, buffers, data_axis=None)(
            params, buffers, x, y
        )
        return losses, sums, outputs

    def loss(
        self, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        """Return one run's mean loss, in a form that can be differentiated in any way.

        Buffers that the model changes in place are changed in copies only.
        """
        copies = {name: value.clone() for name, value in buffers.items()}
        with self._with_plain_products():
            return self._measure(dict(params), copies, x, y)[0]

    @contextmanager
    def _with_plain_products(self) -> Iterator[None]:
        """Leave all products to PyTorch, which has derivatives of any order."""
        layers = [layer for layer in self.base.modules() if isinstance(layer, _OnednnLinear)]
        for layer in layers:
            layer.paused = True
        try:
            yield
        finally:
            for layer in layers:
                layer.paused = False

    def _measure(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensors]]:
        """Return one run's mean loss, sums of metrics, and the buffers that its layers replaced."""
        # `functional_call` writes buffers that layers assign back into this mapping.
        state = as_complex(params, self._complex) | buffers
        outputs = self._outputs(state, x)
        loss, metrics = self.objective.measure(outputs, y)
        changed = {name: state[name] for name in buffers if state[name] is not buffers[name]}
        return loss, (metrics, changed)

    def _measure_part(
        self, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch's contribution to one run's evaluation, and its outputs if needed."""
        outputs = self._outputs(as_complex(params, self._complex) | buffers, x)
        losses, sums = self.objective.measure_part(outputs, y)
        return losses, sums, outputs if self.objective.needs_outputs else outputs.new_zeros(0)

    def _outputs(self, state: Tensors, x: Tensor) -> Tensor:
        """Return one run's outputs with `state` as its parameters and buffers."""
        with mixed_precision(self.precision, self.device):
            outputs: Tensor = functional_call(self.base, state, (x,))
        return outputs

    @contextmanager
    def without_fused_attention(self) -> Iterator[None]:
        """Compute attention as products, because PyTorch's fused kernels take one run at a time.

        Warnings about other such kernels are hidden because users cannot act on them.
        """
        if self.alone:
            yield
            return
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)

    def over_runs(
        self, function: Callable[..., Any], buffers: Mapping[str, Tensor], data_axis: int | None = 0
    ) -> Callable[..., Any]:
        """Map a function of (params, buffers, x, y) over seeds and settings.

        `data_axis` is 0 for one batch per seed, None for data that all runs share.
        """
        setting_axes = {name: None if name in self.shared else 0 for name in buffers}
        over_settings = vmap(function, in_dims=(0, setting_axes, None, None))
        return vmap(over_settings, in_dims=(0, 0, data_axis, data_axis))

    def weights(self, run: int, params: Tensors, buffers: Tensors) -> Tensors:
        """Return views of a run's parameters and saved buffers.

        Tied ones appear under each of their names, as PyTorch saves them.
        """
        place = divmod(run, next(iter(params.values())).shape[1])
        first = {id(value): name for name, value in _tensors_of(self.base)}
        stacks, weights = buffers | as_complex(params, self._complex), {}
        for name, value in self.base.state_dict(keep_vars=True).items():
            if source := first.get(id(value)):  # else a module added it to its `state_dict`
                weights[name] = stacks[source][place[:1] if source in self.shared else place]
        return weights

    def _of_one_run(self, params: Tensors, buffers: Tensors) -> tuple[Tensors, Tensors]:
        """Remove the axes of seeds and settings."""
        one = {n: value[0] if n in self.shared else value[0, 0] for n, value in buffers.items()}
        return {name: value[0, 0] for name, value in params.items()}, one


def _is_key(name: str) -> bool:
    """Return whether a buffer is the mask key of a dropout layer."""
    return name.rpartition(".")[2] == "mask_key"


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers by name; tied ones once."""
    return chain(module.named_parameters(), module.named_buffers())


def _without_weights(module: nn.Module) -> nn.Module:
    """Move a module to the meta device and keep ties, which `nn.Module.to` would break."""
    places = [
        (tensors, name, value)
        for owner in module.modules()
        for tensors in (owner._parameters, owner._buffers)
        for name, value in tensors.items()
        if value is not None
    ]
    module.to("meta")
    moved: dict[int, Any] = {}
    for tensors, name, value in places:
        tensors[name] = moved.setdefault(id(value), tensors[name])
    return module


class _Linear(nn.Linear):
    """x W^T + b computed as (W x^T)^T + b, which is faster for some layers of a stack.

    In a narrow layer, often the last one, samples then lie side by side and fill the processor's
    vectors, which the outputs of one sample do not. In a wide layer, often the first one, the input
    is the same for all settings of a seed and is transposed once. On a CPU, one product per run is
    fastest then, but with several seeds it needs one x^T per run; there, and on a GPU, all settings
    of a seed are one product.

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
        else:  # `vmap` would join products by `@`, but not those by `bmm`
            product = torch.bmm(self.weight[None], input.mT.contiguous()[None])[0].mT
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _OnednnLinear(nn.Linear):
    """x W^T + b, whose product goes through oneDNN in a stack.

    It is computed as (W x^T)^T for the reasons of `_Linear`.

    Attributes:
        paused: whether PyTorch computes the product instead, which has derivatives of any order.
    """

    paused = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map (..., inputs) to (..., outputs)."""
        if self.paused:
            return super().forward(input)
        weight, device = self.weight, self.weight.device.type
        if torch.is_autocast_enabled(device):
            rounded = torch.get_autocast_dtype(device)
            weight, input = weight.to(rounded), input.to(rounded)  # noqa: A001
        if input.ndim == 2:
            product: Tensor = products(weight, input.mT).mT
        else:
            rows = products(input.reshape(-1, self.in_features), weight.mT)
            product = rows.reshape(*input.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias.to(product.dtype)
