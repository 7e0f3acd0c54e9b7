"""The reference engine: the plain PyTorch loop a reader would write.

It is the yardstick of correctness and of speed. With ``rng: script`` it is that script to the last
bit: one global generator seeded before the model is built, an ordinary shuffling `DataLoader`, the
`torch.optim` class of the rule where there is one, and a `DataLoader` for evaluation, which, as in
any script, draws from the global generator too.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from optrial.data import Dataset as Arrays
from optrial.engine.backends.optimizer_state import load_optimizer, optimizer_arrays
from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.engine.backends.solo import Batch, Measured
from optrial.engine.evaluation import Evaluation, Extent, SplitTotals
from optrial.engine.hashing import module_sha256
from optrial.engine.options import (
    arithmetic_facts,
    augmentation,
    data_facts,
    evaluation_draws,
    evaluation_extent,
    implementation_of,
    mixed_precision,
    rate_factors,
    storage_dtype,
)
from optrial.engine.probes import Prober, per_run
from optrial.engine.process import can_flush_denormals, keep_freed_memory, threads_for
from optrial.engine.training import batch_order
from optrial.keyed import mask_key
from optrial.models import (
    as_complex,
    as_real,
    backward,
    build_model,
    build_objective,
    build_optimizer,
    clip_gradients,
    forget_gradients,
    key_dropout,
    needs_closure,
    place_model,
    seeded_draws,
    set_mask_key,
    step_optimizer,
    trained_parameters,
)
from optrial.plan import rule_of
from optrial.spec import RunSpec

__all__ = ["ReferenceEngine", "TensorSplit", "tensor_splits"]


class TensorSplit(Dataset[Batch]):
    """A split as tensors on a device; whole batches are gathered by one indexing."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return Batch(index, self.inputs[index], self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather a batch; `DataLoader` calls this instead of one `__getitem__` a sample."""
        rows = torch.as_tensor(indices)
        return Batch(indices, self.inputs[rows], self.targets[rows])


def tensor_splits(dataset: Arrays, precision: str, device: str) -> dict[str, TensorSplit]:
    """Return every split on a device, real numbers in the given precision, labels as int64."""
    dtype = storage_dtype(precision)
    return {
        name: TensorSplit(
            torch.from_numpy(split.inputs).to(device, dtype),
            torch.from_numpy(split.targets).to(
                device, dtype if split.targets.dtype.kind == "f" else torch.int64
            ),
        )
        for name, split in dataset.splits.items()
    }


def _as_fetched(batch: Any) -> Any:
    """Leave a batch as `TensorSplit` gathered it."""
    return batch


class ReferenceEngine:
    """One model and one optimizer, trained by ordinary PyTorch."""

    def __init__(self, spec: RunSpec, dataset: Arrays, splits: Mapping[str, TensorSplit]) -> None:
        self.spec = spec
        self.splits = splits
        self.script = spec.rng == "script"
        first = splits["train"].inputs
        if self.script:
            torch.manual_seed(spec.seed)
            np.random.seed(spec.seed % 2**32)
            random.seed(spec.seed)
        built = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=None if self.script else spec.seed,
        )
        self.model = place_model(built, first.device, first.dtype)
        self.dropout = [] if self.script else key_dropout(self.model)
        self.objective = build_objective(
            spec.loss, spec.loss_arguments, spec.metrics, spec.whole_split
        )
        self.augment = augmentation(dataset, first.device)
        self.optimizer, implementation = _build_optimizer(spec, self.model)
        self._base_rates = [float(group.get("lr", 1)) for group in self.optimizer.param_groups]
        self._takes_closure = spec.closure or needs_closure(self.optimizer)
        self._at_evaluation_point = False
        self._evaluated_modules: dict[str, bool] = {}
        self._extents: dict[int, Extent] = {}  # by split: they are measured once
        self.facts: Mapping[str, Any] = {
            "engine": "reference",
            **arithmetic_facts(),
            **data_facts(dataset),
            "device": str(first.device),
            "implementation": implementation,
            "decayed_share": _decayed_share(self.optimizer),
            "keeps_freed_memory": keep_freed_memory(),
            # A script computes with all numbers, as slow as some of them may be.
            "flushes_denormals": not self.script and can_flush_denormals(),
        }
        self.loss_limit = spec.loss_limit or math.inf
        # A script runs with PyTorch's own number of threads.
        self.threads = None if self.script else threads_for(spec, dataset)
        self._rng_at_epoch = self._rng_at_step = torch.get_rng_state()
        self._rng_resumed: torch.Tensor | None = None
        trained = trained_parameters(self.model)
        self._complex = frozenset(n for n, value in trained.items() if value.is_complex())
        self._prober = Prober(spec.probes, self._loss, self._real_parameters(), per_run, lead=0)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield batches from an ordinary `DataLoader`; see `SoloEngine`."""
        if self.script:
            return self._script_batches(first_step)
        order = batch_order(self.spec, len(self.splits["train"]))
        return iter(
            DataLoader(
                self.splits["train"],
                batch_sampler=order.batches(first_step),  # type: ignore[arg-type]
                collate_fn=_as_fetched,
                generator=torch.Generator(),  # its base seed must not come from the global one
            )
        )

    def _script_batches(self, first_step: int) -> Iterator[Batch]:
        spec = self.spec
        loader = DataLoader(
            self.splits["train"],
            batch_size=spec.batch_size,
            shuffle=spec.shuffle,
            drop_last=spec.drop_last,
            collate_fn=_as_fetched,
        )
        skipped = (first_step - 1) % spec.steps_per_epoch
        if self._rng_resumed is not None:
            # Deal the cards of the interrupted epoch again, then go on where it stood.
            torch.set_rng_state(self._rng_at_epoch if skipped else self._rng_resumed)
        while True:
            self._rng_at_epoch = torch.get_rng_state()
            epoch = iter(loader)
            if skipped:
                for _ in islice(epoch, skipped):
                    pass
                skipped = 0
                assert self._rng_resumed is not None
                torch.set_rng_state(self._rng_resumed)
            yield from epoch

    def step(self, batch: Batch, step: int) -> Measured:
        """Train on one batch; see `SoloEngine`."""
        spec = self.spec
        set_mask_key(self.dropout, spec.seed, step)
        if self.script or not spec.code:
            return self._probed_step(batch, step)
        # User code draws by seed and step, like everything else.
        with seeded_draws(mask_key(spec.seed, step)):
            return self._probed_step(batch, step)

    def _probed_step(self, batch: Batch, step: int) -> Measured:
        """Take a step, with probes before and after it where they are due."""
        if not self._prober.wants(step):
            return self._take_step(batch, step)
        self.model.train()
        self._rng_at_step = torch.get_rng_state()
        inputs = self.augment(batch.inputs, mask_key(self.spec.seed, step))
        params = self._real_parameters()
        buffers = dict(self.model.named_buffers())
        found = self._prober.before(step, params, buffers, inputs, batch.targets)
        measured = self._take_step(batch, step)
        return measured._replace(probes=found | self._prober.after(step, params))

    def _real_parameters(self) -> dict[str, torch.Tensor]:
        """Return views of the trained parameters, complex ones as real and imaginary parts."""
        trained = trained_parameters(self.model)
        return {name: as_real(value.detach()) for name, value in trained.items()}

    def _loss(
        self,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        inputs: torch.Tensor,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of the step under way, for probes: it draws what the step will draw."""
        with torch.random.fork_rng(devices=[]), mixed_precision(self.spec.precision, inputs.device):
            torch.set_rng_state(self._rng_at_step)
            # Batch norm writes its averages in place: into copies made here, as transforms want.
            own = {name: value.clone() for name, value in buffers.items()}
            state = as_complex(params, self._complex) | own
            outputs = torch.func.functional_call(self.model, state, (inputs,))
        return self.objective.measure(outputs, targets)[0]

    def _take_step(self, batch: Batch, step: int) -> Measured:
        spec = self.spec
        self.model.train()
        set_training_mode(self.optimizer, True)
        inputs = self.augment(batch.inputs, mask_key(spec.seed, step))
        self._set_learning_rate(step)
        measured: list[tuple[torch.Tensor, torch.Tensor]] = []
        drawn = _Draws(inputs.device) if self._takes_closure and not self.script else None

        def differentiate() -> torch.Tensor:
            if spec.zero_grad:
                forget_gradients(self.optimizer, self.model)
            again = drawn.repeated() if drawn and measured else nullcontext()
            with again, mixed_precision(spec.precision, inputs.device):
                outputs = self.model(inputs)
            loss, sums = self.objective.measure(outputs, batch.targets)
            backward(loss, create_graph=spec.create_graph)
            if spec.optimizer_kind != "torch":
                _make_dense(self.model)
            clip_gradients(self.model, spec.clip_norm, spec.clip_value)
            measured.append((loss.detach(), sums))
            return loss

        trained = trained_parameters(self.model).values()
        step_optimizer(self.optimizer, differentiate, trained, closure=self._takes_closure)
        if spec.create_graph:  # whose graph refers to the parameters, and they to it
            forget_gradients(self.optimizer, self.model)
        loss, sums = measured[0]
        return Measured(loss.item(), sums.tolist())

    def mask_keys(self) -> list[int]:
        """Return the keys that the dropout layers had in the last step."""
        return [int(layer.mask_key) for layer in self.dropout if layer.active]

    def _set_learning_rate(self, step: int) -> None:
        if self.spec.schedule is None:
            return
        for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * float(rate_factors(self.spec, step, 1)[0])

    @torch.no_grad()
    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a whole split; see `SoloEngine`."""
        data = self.splits[split]
        totals = SplitTotals(self.objective, data.targets, runs=1)
        draws = partial(evaluation_draws, self.spec, step, split)
        with draws(), self._evaluating():
            for place, batch in self._evaluation_batches(data):
                with mixed_precision(self.spec.precision, batch.inputs.device):
                    outputs = self.model(batch.inputs)
                loss, sums = self.objective.measure_part(outputs, batch.targets)
                totals.add(loss[None], sums[None], outputs[None], place)
            self._evaluated_modules = self.modules()
        return totals.result([draws])

    def _evaluation_batches(self, data: TensorSplit) -> Iterator[tuple[slice, Batch]]:
        """Yield the batches of a split with their places; a script's come from a `DataLoader`."""
        if not self.script:
            extent = self._extents.get(id(data)) or evaluation_extent(
                self.model, self.spec, self.objective, data, 1
            )
            self._extents[id(data)] = extent
            for place in extent.batches(len(data)):
                yield place, Batch(place, data.inputs[place], data.targets[place])
            return
        start = 0
        for batch in DataLoader(data, batch_size=self.spec.batch_size, collate_fn=_as_fetched):
            yield slice(start, start + len(batch.targets)), batch
            start += len(batch.targets)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the model into evaluation mode, at the point where its optimizer wants it.

        Then back into training mode, in which layers outside it that it shares were built.
        """
        self.model.eval()
        if not self._at_evaluation_point:
            set_training_mode(self.optimizer, False)
        point, ours = None, self.optimizer
        moved = isinstance(ours, RuleOptimizer) and ours.rule.evaluates_elsewhere
        if isinstance(ours, RuleOptimizer) and moved and not self._at_evaluation_point:
            point = ours.evaluation_point()
            trained = {name: value.clone() for name, value in self._real_parameters().items()}
            _overwrite(self.model, point)
        try:
            yield
        finally:
            self.model.train()
            if point is not None:
                _overwrite(self.model, trained)

    def state(self) -> dict[str, np.ndarray]:
        """Return parameters, buffers, optimizer state and, for a script, generator states."""
        arrays = {f"model.{name}": _array(t) for name, t in self._numbers().items()}
        kept = optimizer_arrays(self.optimizer, self.model)
        arrays |= {f"optimizer.{name}": array for name, array in kept.items()}
        if not self.spec.zero_grad:
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None:
                    arrays[f"gradient.{name}"] = _array(parameter.grad)
        previous = self._prober.previous
        arrays |= {f"probe.{name}": _array(value) for name, value in previous.items()}
        if self.script:
            arrays["rng.now"] = torch.get_rng_state().numpy()
            arrays["rng.epoch"] = self._rng_at_epoch.numpy()
        return arrays

    def load(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Take up what `state` returned after `step` steps."""
        device = self.splits["train"].inputs.device
        parts: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for name, array in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        self._load_numbers(parts["model"], device)
        load_optimizer(self.optimizer, self.model, parts["optimizer"])
        named = dict(self.model.named_parameters())
        for name, array in parts["gradient"].items():
            named[name].grad = torch.from_numpy(array.copy()).to(device)
        for name, array in parts["probe"].items():
            self._prober.previous[name].copy_(torch.from_numpy(array))
        if isinstance(self.optimizer, RuleOptimizer):
            self.optimizer.steps_taken = step
        if self.script:
            self._rng_resumed = torch.from_numpy(state["rng.now"])
            self._rng_at_epoch = torch.from_numpy(state["rng.epoch"])

    def _numbers(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers, also those that a model is not saved with."""
        return dict(chain(self.model.named_parameters(), self.model.named_buffers()))

    @torch.no_grad()
    def _load_numbers(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        """Take up what `_numbers` returned, buffers that a forward pass made among them."""
        known = self._numbers()
        for name, array in arrays.items():
            value, (owner, _, own) = torch.from_numpy(array.copy()), name.rpartition(".")
            if name in known and known[name].shape == value.shape:
                known[name].copy_(value)
            else:
                setattr(self.model.get_submodule(owner), own, value.to(device))

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of parameters and buffers, by name, as they would be evaluated."""
        with self._evaluating():
            return {name: _array(t) for name, t in self.model.state_dict().items()}

    def modules(self) -> dict[str, bool]:
        """Return whether each module is in training mode, by name."""
        return {name: module.training for name, module in self.model.named_modules()}

    def evaluated_modules(self) -> dict[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""
        return self._evaluated_modules

    def buffers(self) -> list[np.ndarray]:
        """Return what evaluation might change: averages of batch norm, ..."""
        return [_array(buffer) for buffer in self.model.buffers()]

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take up what `weights` returned, to evaluate."""
        self.model.load_state_dict({n: torch.from_numpy(array) for n, array in weights.items()})
        self._at_evaluation_point = True

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters, in the order of the model."""
        return module_sha256(self.model)


def _decayed_share(optimizer: torch.optim.Optimizer) -> float:
    """Return the share of the parameters on which weight decay acts."""
    if isinstance(optimizer, RuleOptimizer):  # a rule decays all or none
        return float(optimizer.weight_decay > 0)
    sizes = [(sum(p.numel() for p in g["params"]), g) for g in optimizer.param_groups]
    decayed = sum(size for size, group in sizes if group.get("weight_decay"))
    return float(decayed / sum(size for size, _ in sizes))


def _build_optimizer(spec: RunSpec, model: nn.Module) -> tuple[torch.optim.Optimizer, str]:
    """Return the optimizer and a line for the records that says what it is."""
    parameters = list(trained_parameters(model).values())
    if spec.optimizer_kind == "torch":
        built = build_optimizer(spec.rule, spec.hyperparameters, parameters)
        return built, _shown(spec.rule, spec.hyperparameters)
    rule = rule_of(spec.optimizer_kind, spec.rule)
    if spec.rng == "script" and rule.torch_optim:
        arguments = rule.torch_optim.arguments(spec.hyperparameters, spec.weight_decay, spec.decay)
        if arguments is not None:
            name = rule.torch_optim.class_name
            built = getattr(torch.optim, name)(parameters, **arguments)
            return built, _shown(f"torch.optim.{name}", arguments)
    ours = RuleOptimizer(
        trained_parameters(model),
        rule,
        spec.hyperparameters,
        spec.weight_decay,
        spec.decay,
    )
    return ours, implementation_of(spec)


def _shown(name: str, arguments: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({text})"


def _make_dense(model: nn.Module) -> None:
    """Turn sparse gradients, of `nn.Embedding(sparse=True)`, into the dense ones of rules."""
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


class _Draws:
    """The generators of a device as a step finds them, so that all its passes draw the same."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        self._state = torch.get_rng_state()
        self._cuda_states = [torch.cuda.get_rng_state(device) for device in self._cuda]

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draw from the start of the step; then go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=self._cuda):
            torch.set_rng_state(self._state)
            for device, state in zip(self._cuda, self._cuda_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def set_training_mode(optimizer: torch.optim.Optimizer, training: bool) -> None:
    """Tell optimizers that train and evaluate at different points (schedule-free ones) which."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if callable(switch):
        switch()


@torch.no_grad()
def _overwrite(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        as_real(model.get_parameter(name)).copy_(value)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor to a NumPy array."""
    return tensor.detach().cpu().resolve_conj().numpy().copy()
