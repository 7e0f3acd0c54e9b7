"""The stacked engine: many runs as one program.

Parameters of all runs lie in one array with two leading axes, seeds x settings. `torch.func` maps
one run's loss and gradient over both; runs with one seed share their batch, which is gathered once.
The rules of `optrial.rules` update slices of the settings, each with its own hyperparameters.
Nothing waits for the device within a step: losses go to the host after many.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, groupby
from types import FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from optrial.data import Dataset
from optrial.engine.hashing import HASHED_BATCHES, arrays_sha256, chain_batches
from optrial.engine.reference import TensorSplit
from optrial.engine.training import Floats, Steps, batch_order
from optrial.models import KeyedDropout, build_model, key_dropout, mask_key
from optrial.plan import RunSpec
from optrial.rules import Rule, apply_rule, compute_once, get_rule, initialise

__all__ = ["StackedEngine", "keep_freed_memory"]

Tensors = dict[str, Tensor]

_WIDE = 64  # inputs of a layer from which `_Linear` is the faster way round
_EVALUATED_AT_ONCE = 2**15  # samples x runs; bounds the memory of activations, not the result


@dataclass(frozen=True)
class _Group:
    """Settings side by side in the stack that one rule updates.

    Attributes:
        rule: the rule.
        decay: kind of weight decay.
        columns: where the settings lie on the axis of settings.
        hyperparameters: each (1, settings), to broadcast over seeds.
        weight_decay: (1, settings), or 0.0 where no setting has any.
    """

    rule: Rule
    decay: str
    columns: slice
    hyperparameters: Tensors
    weight_decay: Tensor | float


class StackedEngine:
    """A `Learner` of a grid of runs: every setting with every seed, as `optrial.plan.pack` cuts it.

    Args:
        specs: the runs, as `optrial.plan.arrange` orders them.
        dataset: what they train on.
        splits: the same on a device.
        compiled: whether to compile the step, which takes some seconds and pays off later.
    """

    chunk = 20

    def __init__(
        self,
        specs: Sequence[RunSpec],
        dataset: Dataset,
        splits: Mapping[str, TensorSplit],
        *,
        compiled: bool = False,
    ) -> None:
        self.specs = specs
        self.splits = splits
        self.seeds = list(dict.fromkeys(spec.seed for spec in specs))
        self.shape = (len(self.seeds), len(specs) // len(self.seeds))
        train = splits["train"]
        self.device, dtype = train.inputs.device, train.inputs.dtype
        models = [_build(spec, dataset).to(self.device, dtype) for spec in specs]
        self._base, self._params, self._buffers = _stack(models, self.shape)
        self._groups = _groups(specs[: self.shape[1]], self.device, dtype)
        self._states = [
            {
                name: initialise(group.rule, value[:, group.columns], group.hyperparameters)
                for name, value in self._params.items()
            }
            for group in self._groups
        ]
        self._alive = torch.ones(self.shape, dtype=torch.bool, device=self.device)
        self._step = torch.zeros((), dtype=dtype, device=self.device)
        self._gradients = _gradients(self._base, self._buffers)
        self._compiled_gradients, self._update = self._gradients, _update
        if compiled:
            self._compiled_gradients = _compile(_gradients(self._base, self._buffers))
            self._update = _compile(_update)
        self.threads: int | None = None
        self.facts: Mapping[str, Any] = {
            "engine": "stacked",
            "device": str(self.device),
            "compiled": compiled,
            "keeps_freed_memory": keep_freed_memory(),
        }
        self.run_facts: Sequence[Mapping[str, Any]] = self._pairing()

    def _pairing(self) -> list[dict[str, Any]]:
        """Hashes that show with which other runs each one is paired."""
        size = len(self.splits["train"])
        batches = {}
        for spec in self.specs[:: self.shape[1]]:
            chain, order = b"", batch_order(spec, size).batches()
            for step in range(1, min(HASHED_BATCHES, spec.steps) + 1):
                chain = chain_batches(chain, step, next(order))
            batches[spec.seed] = chain.hex()
        return [
            {
                "initial_parameters_sha256": initial,
                "first_batches_sha256": batches[spec.seed],
                "implementation": f"optrial.rules.{spec.rule}",
            }
            for spec, initial in zip(self.specs, self.parameters_sha256(), strict=True)
        ]

    def start(self, first_step: int) -> None:
        """Get ready to take `first_step` next."""
        size = len(self.splits["train"])
        self._batches = [
            batch_order(spec, size).batches(first_step) for spec in self.specs[:: self.shape[1]]
        ]
        self._taken = first_step - 1
        self._step.fill_(self._taken)

    def advance(self, steps: int) -> Steps:
        """Take `steps` steps; a run whose loss is not finite is frozen from that step on."""
        losses = torch.empty((steps, *self.shape), dtype=torch.float64, device=self.device)
        correct = torch.empty_like(losses)
        samples = np.empty(steps)
        self._base.train()
        for index in range(steps):
            rows = np.stack([next(order) for order in self._batches])
            samples[index] = rows.shape[1]
            losses[index], correct[index] = self._take_step(torch.from_numpy(rows))
        flat = (steps, len(self.specs))
        return Steps(losses.view(flat).cpu().numpy(), correct.view(flat).cpu().numpy(), samples)

    def _take_step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Train every run on its seed's batch, rows (seeds, batch); return losses and counts."""
        train = self.splits["train"]
        rows = rows.to(self.device, non_blocking=True)
        inputs, targets = train.inputs[rows], train.targets[rows]
        self._taken += 1
        self._set_mask_keys()
        # A short last batch would compile everything a second time for one step an epoch.
        full = rows.shape[1] == self.specs[0].batch_size
        differentiate = self._compiled_gradients if full else self._gradients
        gradients, (losses, correct) = differentiate(self._params, self._buffers, inputs, targets)
        with torch.no_grad():
            self._alive &= losses.isfinite()
            self._step += 1
            self._update(
                self._groups, self._params, gradients, self._states, self._step, self._alive
            )
        return losses.detach(), correct

    def _set_mask_keys(self) -> None:
        keys = [name for name in self._buffers if name.endswith("key")]
        if keys:
            values = torch.tensor([mask_key(seed, self._taken) for seed in self.seeds])
            for name in keys:
                self._buffers[name].copy_(values)

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[Floats, Floats]:
        """Return loss and accuracy over a split, each (runs,), in evaluation mode."""
        data = self.splits[split]
        self._base.eval()
        forward = _over_runs(_loss_and_correct(self._base), self._buffers, data_of_seeds=False)
        loss_sum = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        correct = torch.zeros_like(loss_sum)
        for chunk in range(0, len(data), _EVALUATED_AT_ONCE // len(self.specs) + 1):
            part = slice(chunk, chunk + _EVALUATED_AT_ONCE // len(self.specs) + 1)
            inputs, targets = data.inputs[part], data.targets[part]
            losses, right = forward(self._params, self._buffers, inputs, targets)
            loss_sum += losses.double() * len(targets)
            correct += right
        means = [(total / len(data)).flatten().cpu().numpy() for total in (loss_sum, correct)]
        return means[0], means[1]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return parameters, the rules' state and which runs are alive."""
        return {name: tensor.cpu().numpy().copy() for name, tensor in self._tensors()}

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Take up what `state` returned after `step` steps."""
        del step  # comes with `start`
        for name, tensor in self._tensors():
            tensor.copy_(torch.from_numpy(state[name]))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that training changes, by name."""
        yield "alive", self._alive
        for name, value in self._params.items():
            yield f"model.{name}", value
        for index, states in enumerate(self._states):
            for name, state in states.items():
                for key, value in state._asdict().items():
                    if value is not None:
                        yield f"optimizer.{index}.{name}.{key}", value

    def parameters_sha256(self) -> list[str]:
        """Return the hash of all parameters of each run."""
        flat = [value.flatten(0, 1).cpu().numpy() for value in self._params.values()]
        return [arrays_sha256(value[run] for value in flat) for run in range(len(self.specs))]


def _build(spec: RunSpec, dataset: Dataset) -> nn.Module:
    model = build_model(
        spec.model,
        spec.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        seed=spec.seed,
    )
    key_dropout(model)
    return model


def _stack(
    models: Sequence[nn.Module], shape: tuple[int, int]
) -> tuple[nn.Module, Tensors, Tensors]:
    """Return a model without weights, and the weights and buffers of all, (seeds, settings, ...).

    Mask keys are (seeds,): they depend on nothing else, so that runs with one seed draw once.
    """
    params, buffers = stack_module_state(list(models))
    params = {name: value.detach().unflatten(0, shape) for name, value in params.items()}
    buffers = {name: value.unflatten(0, shape) for name, value in buffers.items()}
    buffers = {n: v[:, 0].clone() if n.endswith("key") else v for n, v in buffers.items()}
    base = models[0].to("meta")
    for module in base.modules():
        if type(module) is nn.Linear and module.in_features >= _WIDE:
            module.__class__ = _Linear
    layers = zip(
        *([m for m in x.modules() if isinstance(m, KeyedDropout)] for x in models), strict=True
    )
    for first, *others in layers:
        first.active = first.active or any(layer.active for layer in others)
    return base, params, buffers


class _Linear(nn.Linear):
    """x W^T + b as (W x^T)^T + b, which is the faster way round for a wide layer of a stack.

    Where all settings share their input, as the first layer's do, W of all settings times x^T is
    one large matrix product instead of many small ones; so is its gradient.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map (batch, inputs) to (batch, outputs)."""
        product = (self.weight @ input.mT).mT
        return product if self.bias is None else product + self.bias


def _groups(settings: Sequence[RunSpec], device: torch.device, dtype: torch.dtype) -> list[_Group]:
    """Return the settings of a stack by rule and kind of weight decay."""
    groups, first = [], 0
    for (name, decay), members in groupby(settings, key=lambda spec: (spec.rule, spec.decay)):
        specs = list(members)
        rule = get_rule(name)

        def row(values: Sequence[float]) -> Tensor:
            return torch.tensor([values], dtype=dtype, device=device)

        decays = [spec.weight_decay for spec in specs]
        groups.append(
            _Group(
                rule=rule,
                decay=decay,
                columns=slice(first, first + len(specs)),
                hyperparameters={
                    h.name: row([float(spec.hyperparameters[h.name]) for spec in specs])
                    for h in rule.hyperparameters
                },
                weight_decay=row(decays) if any(decays) else 0.0,
            )
        )
        first += len(specs)
    return groups


def _loss_and_correct(base: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return one run's mean loss and number of right answers on a batch, as a pure function."""

    def measure(
        params: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        outputs = functional_call(base, (params, buffers), (inputs,))
        loss = nn.functional.cross_entropy(outputs, targets)
        return loss, (outputs.argmax(dim=1) == targets).sum()

    return measure


def _gradients(base: nn.Module, buffers: Tensors) -> Callable[..., Any]:
    """Return all runs' gradients, and their losses and numbers of right answers."""
    return _over_runs(grad_and_value(_loss_and_correct(base), has_aux=True), buffers)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the shapes of one stack.

    The compiler keeps what it made by code object, and gives up on one that it has met in eight
    shapes; so each stack compiles a code object of its own, which is forgotten with it.
    """

    def program(*arguments: Any) -> Any:
        return function(*arguments)

    own = FunctionType(
        program.__code__.replace(co_name=f"program_{next(_numbers)}"),
        program.__globals__,
        closure=program.__closure__,
    )
    return torch.compile(own, dynamic=False)


_numbers = count()


def _over_runs(
    function: Callable[..., Any], buffers: Tensors, *, data_of_seeds: bool = True
) -> Callable[..., Any]:
    """Map a function of (params, buffers, inputs, targets) over seeds and settings."""
    own = {name: None if name.endswith("key") else 0 for name in buffers}
    over_settings = vmap(function, in_dims=(0, own, None, None))
    data = 0 if data_of_seeds else None
    return vmap(over_settings, in_dims=(0, 0, data, data))


def _update(
    groups: Sequence[_Group],
    params: Tensors,
    gradients: Tensors,
    states: Sequence[dict[str, Any]],
    step: Tensor,
    alive: Tensor,
) -> None:
    """Take one step of every group's rule, into the arrays that are there.

    The rules stay pure; writing their results into place here spares the allocation of fresh
    arrays, most of the cost of a step. Runs that are not alive keep their parameters.
    """
    for group, state in zip(groups, states, strict=True):
        for name, whole in params.items():
            param = whole[:, group.columns]
            moved, moved_state = apply_rule(
                group.rule,
                param,
                gradients[name][:, group.columns],
                state[name],
                step,
                group.hyperparameters,
                group.weight_decay,
                group.decay,
            )
            kept = alive[:, group.columns].reshape(param.shape[:2] + (1,) * (param.ndim - 2))
            param.copy_(torch.where(kept, moved, param))
            for before, after in zip(state[name], moved_state, strict=True):
                if before is not None:
                    before.copy_(after)


@torch.library.custom_op("optrial::compute_once", mutates_args=())
def _computed_once(coefficient: Tensor) -> Tensor:
    """Copy a coefficient of each run; opaque to the compiler, which would otherwise compute it
    again for every few elements of the parameter: two powers in Adam, half the time of its step.
    """
    return coefficient.clone()


@_computed_once.register_fake
def _(coefficient: Tensor) -> Tensor:
    return torch.empty_like(coefficient)


compute_once[Tensor] = _computed_once


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step instead of returning them to the kernel.

    By default every array over 128 KiB is mapped afresh and its pages are faulted in again at each
    step, which can cost more than the arithmetic. Returns whether it was done: on glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    trim_threshold, mmap_threshold, large = -1, -3, 2**30
    return bool(mallopt(mmap_threshold, large) and mallopt(trim_threshold, large))
