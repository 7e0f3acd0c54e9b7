"""The reference engine: the plain PyTorch loop a reader would write.

Other engines are compared with it, in correctness and in speed. With ``rng: script`` it reproduces
that script to the last bit: one global generator, seeded before the model is built; an ordinary
shuffling `DataLoader`; the `torch.optim` class of the rule, if there is one; and a `DataLoader` for
evaluation, which draws from the global generator too.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import nn

from optrial.data import Dataset
from optrial.engine.backends.joint_optimizer import JointOptimizer
from optrial.engine.backends.loaders import ScriptBatches, evaluation_batches, keyed_batches
from optrial.engine.backends.optimizer_state import load_optimizer, optimizer_arrays
from optrial.engine.backends.optimizers import (
    densify_gradients,
    set_training_mode,
    updates_of,
)
from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.engine.backends.solo import Batch, Measured, SoloEngine
from optrial.engine.backends.tensor_splits import TensorSplit, as_array
from optrial.engine.evaluation import Evaluation, Extent, SplitTotals
from optrial.engine.hashing import arrays_sha256, module_sha256
from optrial.engine.options import (
    arithmetic_facts,
    augmentation,
    data_facts,
    evaluation_draws,
    evaluation_extent,
    finish_of,
    mixed_precision,
    rate_factors,
    storage_dtype,
)
from optrial.engine.probes import Prober, per_run
from optrial.engine.process import can_flush_denormals, keep_freed_memory, threads_for
from optrial.keyed import mask_key
from optrial.models import (
    as_complex,
    as_real,
    backward,
    build_model,
    build_objective,
    clip_gradients,
    forget_gradients,
    freeze,
    key_dropout,
    needs_closure,
    place_model,
    seeded_draws,
    set_mask_key,
    step_optimizer,
    trained_parameters,
)
from optrial.spec import RunFacts, RunSpec

__all__ = ["ReferenceEngine"]


class ReferenceEngine(SoloEngine):
    """One model and one optimizer, trained by ordinary PyTorch.

    Args:
        spec: the run.
        dataset: its data.
        splits: the same on a device.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, splits: Mapping[str, TensorSplit]) -> None:
        super().__init__(spec)
        self.splits = splits
        self._finish = partial(finish_of, spec, dataset)
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
            vocabulary=dataset.vocabulary,
            seed=None if self.script else spec.seed,
        )
        self.model = place_model(built, first.device, storage_dtype(spec.precision))
        freeze(self.model, spec.frozen)
        self.dropout = [] if self.script else key_dropout(self.model)
        self.objective = build_objective(
            spec.loss, spec.loss_arguments, spec.metrics, spec.whole_split, dataset.ignored
        )
        self.augment = augmentation(dataset, first.device)
        updates = updates_of(spec, self.model)
        self.optimizer, self._schedules = updates.optimizer, updates.schedules
        self._base_rates = [float(group.get("lr", 1)) for group in self.optimizer.param_groups]
        self._takes_closure = spec.closure or needs_closure(self.optimizer)
        self._at_evaluation_point = False
        self._evaluated_modules: dict[str, bool] = {}
        self._extents: dict[str, Extent] = {}  # by split, measured once
        self.facts = arithmetic_facts() | data_facts(spec, dataset)
        self.facts |= RunFacts(
            engine="reference",
            device=str(first.device),
            implementation=updates.implementation,
            decayed_share=updates.decayed_share,
            keeps_freed_memory=keep_freed_memory(),
            # A script computes with denormal numbers too, slow as they are.
            flushes_denormals=not self.script and can_flush_denormals(),
        )
        self.threads = threads_for([spec], dataset)
        self._rng_at_step = torch.get_rng_state()
        self._script_batches = ScriptBatches(spec, splits["train"])
        trained = trained_parameters(self.model)
        self._complex = frozenset(n for n, value in trained.items() if value.is_complex())
        self._prober = Prober(spec.probes, self._loss, self._real_parameters(), per_run, lead=0)
        self.initial_sha256 = self.parameters_sha256(0)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step`, `first_step` + 1, ... without end."""
        if self.script:
            return self._script_batches.batches(first_step)
        return keyed_batches(self.spec, self.splits["train"], first_step)

    def step(self, batch: Batch, step: int) -> Measured:
        """Train on a batch; return its loss before the update and the sums of its metrics."""
        spec = self.spec
        set_mask_key(self.dropout, spec.seed, step)
        if self.script or not spec.code:
            return self._probed_step(batch, step)
        # Draws of user code depend on seed and step only, like all others.
        with seeded_draws(mask_key(spec.seed, step)):
            return self._probed_step(batch, step)

    def _probed_step(self, batch: Batch, step: int) -> Measured:
        """Take a step, with probes before and after it if they are due."""
        if not self._prober.wants(step):
            return self._take_step(batch, step)
        self.model.train()
        self._rng_at_step = torch.get_rng_state()
        inputs = self.augment(batch.inputs, mask_key(self.spec.seed, step))
        params = self._real_parameters()
        buffers = dict(self.model.named_buffers())
        before = self._prober.before(step, params, buffers, inputs, batch.targets)
        measured = self._take_step(batch, step)
        return measured._replace(probes=before | self._prober.after(step, params))

    def _real_parameters(self) -> dict[str, torch.Tensor]:
        """Return views of the trained parameters; complex ones as real and imaginary parts."""
        trained = trained_parameters(self.model)
        return {name: as_real(value.detach()) for name, value in trained.items()}

    def _loss(
        self,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        inputs: torch.Tensor,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of the current step for probes; it draws what the step will draw."""
        with torch.random.fork_rng(devices=[]), mixed_precision(self.spec.precision, inputs.device):
            torch.set_rng_state(self._rng_at_step)
            # Batch norm updates in place, which transforms allow only for copies made here.
            copies = {name: value.clone() for name, value in buffers.items()}
            state = as_complex(params, self._complex) | copies
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
            if not spec.uses_torch or spec.groups:
                densify_gradients(spec, self.model)
            clip_gradients(self.model, spec.clip_norm, spec.clip_value)
            measured.append((loss.detach(), sums))
            return loss

        trained = trained_parameters(self.model).values()
        step_optimizer(self.optimizer, differentiate, trained, closure=self._takes_closure)
        if spec.create_graph:  # breaks the cycle between the graph and the parameters
            forget_gradients(self.optimizer, self.model)
        loss, sums = measured[0]
        weight = None
        if self.objective.ignored is not None:
            weight = float(self.objective.weight(batch.targets))
        return Measured(loss.item(), sums.tolist(), weight=weight)

    def mask_keys(self) -> list[int]:
        """Return the keys of the active dropout layers in the last step."""
        return [int(layer.mask_key) for layer in self.dropout if layer.active]

    def _set_learning_rate(self, step: int) -> None:
        groups = zip(self.optimizer.param_groups, self._base_rates, self._schedules, strict=True)
        for group, rate, schedule in groups:
            if schedule is not None:
                group["lr"] = rate * float(rate_factors(schedule, self.spec.steps, step, 1)[0])

    @torch.no_grad()
    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a whole split; see `Learner`."""
        totals = SplitTotals(self.objective, self.splits[split].targets, runs=1)
        draws = partial(evaluation_draws, self.spec, step, split)
        with draws(), self._evaluating():
            for place, batch in self._evaluation_batches(split):
                with mixed_precision(self.spec.precision, batch.inputs.device):
                    outputs = self.model(batch.inputs)
                loss, sums = self.objective.measure_part(outputs, batch.targets)
                totals.add(loss[None], sums[None], outputs[None], place)
            self._evaluated_modules = self.modules()
        return totals.result([draws], self._finish(split))

    def _evaluation_batches(self, split: str) -> Iterator[tuple[slice, Batch]]:
        """Yield the batches of a split with their places in it."""
        data = self.splits[split]
        if self.script:
            yield from evaluation_batches(data, self.spec.batch_size)
            return
        if split not in self._extents:
            self._extents[split] = evaluation_extent(self.model, self.spec, self.objective, data, 1)
        for place in self._extents[split].batches(len(data)):
            yield place, Batch(place, data.inputs[place], data.targets[place])

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the model into evaluation mode, at the point where its optimizer evaluates.

        Afterwards it is in training mode again, the mode of layers that it shares with user code.
        """
        self.model.eval()
        if not self._at_evaluation_point:
            set_training_mode(self.optimizer, False)
        point, ours = None, self.optimizer
        rules = ours if isinstance(ours, RuleOptimizer | JointOptimizer) else None
        if rules and rules.evaluates_elsewhere and not self._at_evaluation_point:
            point = rules.evaluation_point()
            trained = {name: value.clone() for name, value in self._real_parameters().items()}
            _overwrite(self.model, point)
        try:
            yield
        finally:
            self.model.train()
            if point is not None:
                _overwrite(self.model, trained)

    def state(self, *, shared: bool = False) -> dict[str, np.ndarray]:
        """Return parameters, buffers, state of the optimizer and of a script's generators."""
        array = partial(as_array, shared=shared)
        arrays = {f"model.{name}": array(t) for name, t in self._numbers().items()}
        optimizer = optimizer_arrays(self.optimizer, self.model, shared=shared)
        arrays |= {f"optimizer.{name}": stored for name, stored in optimizer.items()}
        if not self.spec.zero_grad:
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None:
                    arrays[f"gradient.{name}"] = array(parameter.grad)
        previous = self._prober.previous
        arrays |= {f"probe.{name}": array(value) for name, value in previous.items()}
        if self.script:
            arrays |= self._script_batches.state()
        return arrays | super().state()

    def load(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Restore the state after `step` steps."""
        super().load(state, step)
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
        ours = self.optimizer
        for rule in ours.rules if isinstance(ours, JointOptimizer) else [ours]:
            if isinstance(rule, RuleOptimizer):
                rule.steps_taken = step
        if self.script:
            self._script_batches.load(state)

    def _numbers(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers, including those that are not saved with the model."""
        return dict(chain(self.model.named_parameters(), self.model.named_buffers()))

    @torch.no_grad()
    def _load_numbers(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        """Restore the result of `_numbers`, including buffers that a forward pass created."""
        known = self._numbers()
        for name, array in arrays.items():
            value, (owner, _, buffer) = torch.from_numpy(array.copy()), name.rpartition(".")
            if name in known and known[name].shape == value.shape:
                known[name].copy_(value)
            else:
                setattr(self.model.get_submodule(owner), buffer, value.to(device))

    def weights(self, run: int) -> dict[str, np.ndarray]:
        """Return a copy of parameters and buffers, by name, at the point of evaluation."""
        del run
        with self._evaluating():
            return {name: as_array(t) for name, t in self.model.state_dict().items()}

    def modules(self) -> dict[str, bool]:
        """Return whether each module is in training mode, by name."""
        return {name: module.training for name, module in self.model.named_modules()}

    def evaluated_modules(self) -> dict[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""
        return self._evaluated_modules

    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change, such as averages of batch norm."""
        return arrays_sha256(as_array(buffer) for buffer in self.model.buffers())

    def load_weights(self, run: int, weights: Mapping[str, np.ndarray]) -> None:
        """Restore the result of `weights`, for evaluation only."""
        del run
        self.model.load_state_dict({n: torch.from_numpy(array) for n, array in weights.items()})
        self._at_evaluation_point = True

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters, in the order of the model."""
        del run
        return module_sha256(self.model)


class _Draws:
    """State of the generators at the start of a step, so that all its passes draw the same."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        self._state = torch.get_rng_state()
        self._cuda_states = [torch.cuda.get_rng_state(device) for device in self._cuda]

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draw as at the start of the step, then continue as if nothing had been drawn."""
        with torch.random.fork_rng(devices=self._cuda):
            torch.set_rng_state(self._state)
            for device, state in zip(self._cuda, self._cuda_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


@torch.no_grad()
def _overwrite(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        as_real(model.get_parameter(name)).copy_(value)
