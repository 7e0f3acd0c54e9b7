"""The reference engine: the plain PyTorch loop a reader would write.

Other engines are compared with it, in correctness and in speed. With ``rng: script`` it reproduces
that script to the last bit: one global generator, seeded before the model is built; an ordinary
shuffling `DataLoader`; the `torch.optim` class of the rule, if there is one; and a `DataLoader` for
evaluation, which draws from the global generator too.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import nn

from optrial.code import is_code
from optrial.data import Dataset
from optrial.engine.averages import average_shares
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
    changed_values,
    data_facts,
    device_facts,
    evaluation_draws,
    evaluation_extent,
    finish_of,
    gradient_facts,
    objective_of,
    sam_radii,
    storage_dtype,
)
from optrial.engine.probes import Prober, per_run
from optrial.engine.process import can_flush_denormals, keep_freed_memory, threads_for
from optrial.keyed import mask_key
from optrial.models import (
    as_complex,
    as_real,
    backward,
    backward_twice,
    build_model,
    check_parameters,
    clip_gradients,
    drawn_signs,
    forget_gradients,
    freeze,
    key_dropout,
    known_values,
    mixed_precision,
    needs_closure,
    place_model,
    seeded_draws,
    set_mask_key,
    set_values,
    step_optimizer,
    trained_parameters,
    twice_differentiable,
)
from optrial.rules import uphill
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
        self.objective = objective_of(spec, dataset)
        self.augment = augmentation(dataset, first.device)
        updates = updates_of(spec, self.model)
        self.optimizer, self._schedules = updates.optimizer, updates.schedules
        self._curved = [rule for rule in _rules(self.optimizer) if rule.rule.needs_curvature]
        self._base_rates = [float(group.get("lr", 1)) for group in self.optimizer.param_groups]
        self._known = [known_values(group) for group in self.optimizer.param_groups]
        self._takes_closure = spec.closure or needs_closure(self.optimizer)
        self._at_evaluation_point = False
        self._average: dict[str, torch.Tensor] = {}
        self._evaluated_modules: dict[str, bool] = {}
        self._extents: dict[str, Extent] = {}  # by split, measured once
        self.facts = arithmetic_facts() | data_facts(spec, dataset) | gradient_facts(spec)
        self.facts |= device_facts(first.device)
        self.facts |= RunFacts(
            engine="reference",
            implementation=updates.implementation,
            decayed_share=updates.decayed_share,
            keeps_freed_memory=keep_freed_memory(),
            # A script computes with denormal numbers too, slow as they are.
            flushes_denormals=not self.script and can_flush_denormals(),
        )
        self.threads = threads_for([spec], dataset)
        self._rng_at_step = torch.get_rng_state()
        self._script_batches = ScriptBatches(spec, splits["train"])
        self._trained = trained_parameters(self.model)
        self._complex = frozenset(n for n, value in self._trained.items() if value.is_complex())
        self._prober = Prober(spec.probes, self._loss, self._real_parameters(), per_run, lead=0)
        self.initial_sha256 = self.parameters_sha256(0)

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield the batches with the numbers `first`, `first` + 1, ... without end."""
        if self.script:
            return self._script_batches.batches(first)
        return keyed_batches(self.spec, self.splits["train"], first)

    def step(self, batches: Sequence[Batch], step: int) -> Measured:
        """Train on the batches of a step; return the mean loss before the update, and metrics."""
        spec = self.spec
        if self.script or not spec.code:
            return self._probed_step(batches, step)
        # Draws of user code depend on seed and step only, like all others.
        with seeded_draws(mask_key(spec.seed, step)):
            return self._probed_step(batches, step)

    def _probed_step(self, batches: Sequence[Batch], step: int) -> Measured:
        """Take a step, with probes before and after it if they are due."""
        if not self._prober.wants(step):
            return self._take_step(batches, step)
        self.model.train()
        batch, number = batches[0], self.part_number(step, 0)
        set_mask_key(self.dropout, self.spec.seed, number)
        self._rng_at_step = torch.get_rng_state()
        inputs = self.augment(batch.inputs, mask_key(self.spec.seed, number))
        params = self._real_parameters()
        buffers = dict(self.model.named_buffers())
        before = self._prober.before(step, params, buffers, inputs, batch.targets)
        measured = self._take_step(batches, step)
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

    def _take_step(self, batches: Sequence[Batch], step: int) -> Measured:
        spec = self.spec
        self.model.train()
        set_training_mode(self.optimizer, True)
        self._set_learning_rate(step)
        measured: list[tuple[torch.Tensor, torch.Tensor]] = []
        repeats = (self._takes_closure or spec.sam_rho is not None) and not self.script
        drawn: list[_Draws] | None = [] if repeats else None

        def differentiate() -> torch.Tensor:
            if spec.zero_grad:
                forget_gradients(self.optimizer, self.model)
            loss, sums = self._gradients(batches, step, drawn)
            if spec.sam_rho is not None:
                with self._uphill(step):
                    forget_gradients(self.optimizer, self.model)
                    self._gradients(batches, step, drawn)
            clip_gradients(self.model, spec.clip_norm, spec.clip_value)
            measured.append((loss.detach(), sums))
            return loss

        step_optimizer(
            self.optimizer, differentiate, self._trained.values(), closure=self._takes_closure
        )
        if is_code(spec.model):
            check_parameters(self.model, self._trained)
        self._update_average(step)
        if spec.create_graph:  # breaks the cycle between the graph and the parameters
            forget_gradients(self.optimizer, self.model)
        loss, sums = measured[0]
        weight = None
        if self.objective.ignored is not None:
            weight = sum(float(self.objective.weight(batch.targets)) for batch in batches)
        return Measured(loss.item(), sums.tolist(), weight=weight)

    def _gradients(
        self, batches: Sequence[Batch], step: int, drawn: list[_Draws] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradients of the mean loss over batches; return it and the sums of metrics.

        Args:
            batches: batches of a step.
            step: number of the step.
            drawn: draws of the model for each batch, which are kept at first and then repeated;
                None for new draws.
        """
        spec, shares, signs = self.spec, [1.0], self._signs(step)
        estimates = {name: torch.zeros_like(sign) for name, sign in signs.items()}
        if len(batches) > 1:
            weights = [float(self.objective.loss_weight(batch.targets)) for batch in batches]
            shares = [weight / sum(weights) for weight in weights]
        losses, sums = [], []
        for place, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            number = self.part_number(step, place)
            set_mask_key(self.dropout, spec.seed, number)
            inputs = self.augment(batch.inputs, mask_key(spec.seed, number))
            again = _repeated(drawn, place, inputs.device)
            kernels = twice_differentiable(self.model) if signs else nullcontext()
            with kernels, again, mixed_precision(spec.precision, inputs.device):
                outputs = self.model(inputs)
            loss, of_batch = self.objective.measure(outputs, batch.targets)
            losses.append(loss if len(batches) == 1 else share * loss)
            sums.append(of_batch)
            if signs:
                trained = trained_parameters(self.model)
                for name, estimate in backward_twice(losses[-1], trained, signs).items():
                    estimates[name] += estimate
            else:
                backward(losses[-1], create_graph=spec.create_graph)
        for rule in self._curved:
            rule.curvature = {name: estimates[name] for name in rule.parameters if signs}
        if not spec.uses_torch or spec.groups:
            densify_gradients(spec, self.model)
        return (losses[0], sums[0]) if len(losses) == 1 else (_total(losses), _total(sums))

    def _signs(self, step: int) -> dict[str, torch.Tensor]:
        """Return signs for the parameters whose rules need curvature, if one does at this step."""
        if not any(rule.estimates_curvature(step) for rule in self._curved):
            return {}
        values = self._real_parameters()
        curved = {name: values[name] for rule in self._curved for name in rule.parameters}
        return drawn_signs(curved, mask_key(self.spec.seed, self.part_number(step, 0)))

    @contextmanager
    def _uphill(self, step: int) -> Iterator[None]:
        """Move the parameters to where SAM takes its gradient; restore them and all buffers."""
        trained = trained_parameters(self.model)
        before = {name: value.detach().clone() for name, value in trained.items()}
        buffers = [
            (module, name, buffer, buffer.clone())
            for module in self.model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        grads = {name: as_real(p.grad) for name, p in trained.items() if p.grad is not None}
        (rho,) = sam_radii(self.spec, step, 1).tolist()
        moved = uphill(self._real_parameters(), grads, rho, adaptive=self.spec.sam_adaptive)
        _overwrite(self.model, moved)
        yield
        with torch.no_grad():
            for name, value in before.items():
                trained[name].copy_(value)
            for module, name, buffer, kept in buffers:
                setattr(module, name, buffer.copy_(kept))  # which the model may have replaced

    def mask_keys(self) -> list[int]:
        """Return the keys of the active dropout layers in the last step."""
        return [int(layer.mask_key) for layer in self.dropout if layer.active]

    def _set_learning_rate(self, step: int) -> None:
        groups = self.optimizer.param_groups
        if len(groups) > len(self._schedules) and any(self._schedules):
            raise ValueError(
                "the optimizer added a group of parameters while it trained, which the schedule "
                "does not know; make all groups at first, or leave schedule out"
            )
        # Without a schedule, an optimizer may add groups.
        start = zip(groups, self._base_rates, self._known, self._schedules, strict=False)
        for group, rate, known, schedule in start:
            if schedule is not None:
                group["lr"] = rate * self.rate_factor(schedule, step)
                set_values(group, changed_values(schedule, known, self.spec.steps, step))

    @torch.no_grad()
    def evaluate(self, split: str, step: int, *, raw: bool = False) -> Evaluation:
        """Evaluate a whole split; see `Learner`."""
        totals = SplitTotals(self.objective, self.splits[split].targets, runs=1)
        draws = partial(evaluation_draws, self.spec, step, split)
        # A script that evaluates the average of its weights draws for that alone.
        apart = torch.random.fork_rng(devices=[]) if self.script and raw else nullcontext()
        with draws(), apart, self._evaluating(raw=raw):
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
    def _evaluating(self, *, raw: bool = False) -> Iterator[None]:
        """Put the model into evaluation mode, at the point where its optimizer evaluates.

        That is the average of a run that has one, unless `raw`.

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
        averaged = self._average if not (raw or self._at_evaluation_point) else {}
        kept = {name: self._numbers()[name].detach().clone() for name in averaged}
        self._set_numbers(averaged)
        try:
            yield
        finally:
            self.model.train()
            if point is not None:
                _overwrite(self.model, trained)
            self._set_numbers(kept)

    @torch.no_grad()
    def _set_numbers(self, values: Mapping[str, torch.Tensor]) -> None:
        """Set parameters and buffers by name."""
        numbers = self._numbers() if values else {}
        for name, value in values.items():
            numbers[name].copy_(value)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        """Move the average of a run that has one towards the weights after a step."""
        average, total = self.spec.average, self.spec.steps
        if average is None:
            return
        (share,) = average_shares(average, total, step, 1).tolist()
        for name, value in self._numbers().items():
            if not (value.is_floating_point() or value.is_complex()):
                continue
            if share == 1.0:
                self._average[name] = value.detach().clone()
            else:
                self._average[name] += share * (value - self._average[name])

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
        arrays |= {f"average.{name}": array(value) for name, value in self._average.items()}
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
        self._average = {
            name: torch.from_numpy(array.copy()).to(device)
            for name, array in parts["average"].items()
        }
        for name, array in parts["probe"].items():
            self._prober.previous[name].copy_(torch.from_numpy(array))
        for rule in _rules(self.optimizer):
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


def _rules(optimizer: torch.optim.Optimizer) -> list[RuleOptimizer]:
    """Return the optimizers of a run that apply rules."""
    if isinstance(optimizer, JointOptimizer):
        return optimizer.rules
    return [optimizer] if isinstance(optimizer, RuleOptimizer) else []


def _total(values: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([value.detach() for value in values]).sum(dim=0)


def _repeated(
    drawn: list[_Draws] | None, place: int, device: torch.device
) -> AbstractContextManager[None]:
    """Return the context of a forward pass that draws as an earlier one of the same batch."""
    if drawn is None:
        return nullcontext()
    if place < len(drawn):
        return drawn[place].repeated()
    drawn.append(_Draws(device))
    return nullcontext()


class _Draws:
    """State of the generators before a forward pass, so that others draw the same."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        self._state = torch.get_rng_state()
        self._cuda_states = [torch.cuda.get_rng_state(device) for device in self._cuda]

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draw as at that time, then continue as if nothing had been drawn."""
        with torch.random.fork_rng(devices=self._cuda):
            torch.set_rng_state(self._state)
            for device, state in zip(self._cuda, self._cuda_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


@torch.no_grad()
def _overwrite(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        as_real(model.get_parameter(name)).copy_(value)
