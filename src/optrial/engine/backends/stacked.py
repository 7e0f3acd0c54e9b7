"""The stacked engine: many runs as one program.

Parameters of all runs lie in one array with two leading axes, seeds x settings; `stacked_model`
maps one run's loss and gradient over both. Runs with the same seed share their batch, which is
gathered once. Each rule updates its slice of the settings. A step never waits for the device:
losses are copied to the host after many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optrial.code import is_code
from optrial.data import Dataset
from optrial.engine.backends.compiled_checks import CheckedProgram, CheckedUpdate
from optrial.engine.backends.compiling import compiled_program, traced_program
from optrial.engine.backends.cuda_graph import CapturedStep
from optrial.engine.backends.products import has_onednn
from optrial.engine.backends.stacked_average import StackedAverage
from optrial.engine.backends.stacked_model import Gradients, StackedModel, Tensors
from optrial.engine.backends.stacked_rates import StackedRates
from optrial.engine.backends.stacked_update import (
    columns,
    groups_of,
    needing_curvature,
    treatment_of,
    update,
)
from optrial.engine.backends.tensor_splits import TensorSplit, as_array
from optrial.engine.evaluation import Evaluation, SplitTotals, joined
from optrial.engine.hashing import StepHashes, arrays_sha256, module_sha256
from optrial.engine.learner import Steps
from optrial.engine.options import (
    arithmetic_facts,
    augmentation,
    batch_order,
    data_facts,
    decayed_share,
    device_facts,
    evaluation_draws,
    evaluation_extent,
    finish_of,
    gradient_facts,
    has_own_code,
    implementation_of,
    objective_of,
    sam_radii,
    storage_dtype,
)
from optrial.engine.probes import Prober, series
from optrial.engine.process import can_flush_denormals, keep_freed_memory, threads_for
from optrial.keyed import mask_key
from optrial.models import (
    build_model,
    drawn_signs,
    freeze,
    freeze_unused,
    input_dtype,
    key_dropout,
    linear_rows,
    make_stackable,
    place_model,
)
from optrial.rules import evaluation_point, initialise_all, is_estimated, uphill
from optrial.spec import RunFacts, RunSpec

__all__ = ["StackedEngine", "stackable_model"]


class StackedEngine:
    """A `Learner` of a grid of runs: every setting with every seed, as `optrial.plan.pack` cuts it.

    Args:
        specs: the runs, as `optrial.plan.arrange` orders them.
        dataset: what they train on.
        splits: the same on a device.
        compiled: whether to compile the step, which takes seconds and pays off later.
        captured: whether to capture the step once as a CUDA graph and replay it from then on;
            None captures on CUDA where possible. Uncompiled code of a user's is not captured,
            because it may copy from the host.
        onednn: whether large products go through oneDNN, if PyTorch has it.
    """

    chunk = 20

    def __init__(
        self,
        specs: Sequence[RunSpec],
        dataset: Dataset,
        splits: Mapping[str, TensorSplit],
        *,
        compiled: bool = False,
        captured: bool | None = None,
        onednn: bool = False,
    ) -> None:
        self.specs = specs
        self.splits = splits
        self.seeds = list(dict.fromkeys(spec.seed for spec in specs))
        self.shape = (len(self.seeds), len(specs) // len(self.seeds))
        self.settings = specs[: self.shape[1]]
        first, train = specs[0], splits["train"]
        self.device, dtype = train.inputs.device, storage_dtype(first.precision)
        # A store may come from another machine, or from the CPU.
        self._onednn = onednn and has_onednn() and self.device.type == "cpu"
        self._model = self._stacked_model(dataset)
        self._finishes = {name: finish_of(first, dataset, name) for name in splits}
        self._evaluated_modules: dict[str, bool] = {}
        self._params = self._model.params
        self._groups = groups_of(self.settings, self._params)
        self._states = [
            initialise_all(
                group.rule,
                columns(self._params, group),
                group.hyperparameters,
                lead=2,
                as_vectors=group.as_vectors,
            )
            for group in self._groups
        ]
        self._treatment = treatment_of(self.settings, self._params)
        self._prober = Prober(
            first.probes, self._model.loss, self._params, self._model.over_runs, lead=2
        )
        self._augment = augmentation(dataset, self.device)
        self._alive = torch.ones(self.shape, dtype=torch.bool, device=self.device)
        self._step = torch.zeros((), dtype=dtype, device=self.device)
        self._seeds = torch.tensor(self.seeds, device=self.device).unsqueeze(1)
        self._rates = StackedRates(self._groups, len(self.seeds), first.steps, self._step)
        self._average = StackedAverage(self.settings, self._model.averaged())
        self._prepare_gradients()
        self._prepare_step(compiled=compiled, captured=captured)
        self.threads = threads_for(specs, dataset)
        self._at_evaluation_point = False
        self.facts = arithmetic_facts() | data_facts(specs[0], dataset) | device_facts(self.device)
        self.facts |= RunFacts(
            engine="stacked",
            products="onednn" if self._model.uses_onednn else "default",
            compiled=compiled,
            captured=self._captured is not None,
            keeps_freed_memory=keep_freed_memory(),
            flushes_denormals=can_flush_denormals(),
        )
        self._hashes = [StepHashes(spec.steps_per_epoch) for spec in specs[:: self.shape[1]]]

    def _stacked_model(self, dataset: Dataset) -> StackedModel:
        """Return the models of all runs as one; those with the same seed and arguments start alike.

        Their hashes and the extents of their evaluations are kept.
        """
        first, inputs = self.specs[0], self.splits["train"].inputs
        starts = {_start(spec): spec for spec in self.specs}
        built = {
            start: place_model(
                stackable_model(spec, dataset), self.device, storage_dtype(spec.precision)
            )
            for start, spec in starts.items()
        }
        hashes = {start: module_sha256(model) for start, model in built.items()}
        self._initial = [hashes[_start(spec)] for spec in self.specs]
        models = [built[_start(spec)] for spec in self.specs]
        objective = objective_of(first, dataset)
        self._extents = {
            name: evaluation_extent(models[0], first, objective, split, len(self.specs))
            for name, split in self.splits.items()
        }
        return StackedModel(
            models,
            self.shape,
            objective,
            first.precision,
            linear_rows(models[0], dataset.input_shape, inputs.dtype),
            first.batch_size if self._onednn else None,
            rounds_weights=not is_code(first.model),
        )

    def _prepare_gradients(self) -> None:
        """Prepare SAM and estimates of curvature."""
        self._curved = needing_curvature(self._groups, self._params)
        self._no_curvature = {n: torch.zeros_like(self._params[n]) for n in self._curved}
        self._every = frozenset().union(*(group.every for group in self._groups))
        self._rho: Tensor | None = None
        if self.specs[0].sam_rho is not None:
            self._rho = self._step.new_tensor([[spec.sam_rho for spec in self.settings]])

    def _prepare_step(self, *, compiled: bool, captured: bool | None) -> None:
        """Compile and capture what the arguments of the constructor ask for."""
        self._differentiate: Callable[..., Gradients] = self._model.differentiate
        self._update: Callable[..., None] = update
        one_program = all(group.rule.capturable for group in self._groups)
        self._compiled = compiled and one_program
        if self.specs[0].accumulate > 1 or not one_program:
            captured = False  # a graph holds one batch, and the operations of one step
        elif captured is None and self.device.type == "cuda":
            own_code = any(map(has_own_code, self.settings))
            captured = self._compiled or not (own_code or self._model.alone)
        # A step that is compiled or captured writes to fixed arrays.
        self._in_place = self._compiled or bool(captured)
        self._checked: list[CheckedProgram | CheckedUpdate] = []
        if self._compiled:
            self._update = CheckedUpdate(
                compiled_program(update), update, lambda: {**dict(self._tensors()), "": self._step}
            )
            self._checked.append(self._update)
        # The gradient of a single run is faster in plain PyTorch.
        if compiled and not self._model.alone:
            program = (
                traced_program(self._model.differentiate)
                if self._onednn
                else compiled_program(self._model.differentiate_traced)
            )
            self._differentiate = CheckedProgram(
                program,
                self._model.differentiate,
                lambda gradients: {**gradients.gradients, "": gradients.losses},
                self.specs[0].precision,
            )
            self._checked.append(self._differentiate)
        elif captured and not self._model.alone:
            self._differentiate = self._model.differentiate_traced
        self._captured: CapturedStep | None = None
        if captured:
            self._captured = CapturedStep(self)
            self.chunk = 100  # steps are so short that waits count

    @property
    def run_facts(self) -> list[RunFacts]:
        """Hashes used to verify that runs are paired, and the implementation of the update."""
        sizes = {name: value[0, 0].numel() for name, value in self._params.items()}
        divided = [spec.parts(self._params) for spec in self.settings]
        of_settings = [
            gradient_facts(spec)
            | RunFacts(
                implementation=implementation_of(*(part.rule for part in parts)),
                decayed_share=decayed_share(parts, sizes),
            )
            for spec, parts in zip(self.settings, divided, strict=True)
        ]
        return [
            self._hashes[run // self.shape[1]].facts
            | RunFacts(initial_parameters_sha256=initial)
            | of_settings[run % self.shape[1]]
            for run, initial in enumerate(self._initial)
        ]

    def start(self, first_step: int) -> None:
        """Prepare to take `first_step` next."""
        batched = self.splits["train"].batched
        first = (first_step - 1) * self.specs[0].accumulate + 1
        self._batches = [
            batch_order(spec, *batched).batches(first) for spec in self.specs[:: self.shape[1]]
        ]
        self._taken = first_step - 1
        self._step.fill_(self._taken)

    def advance(self, steps: int) -> Steps:
        """Take `steps` steps; a run that diverges is frozen from that step on."""
        first = self.specs[0]
        losses = torch.empty((steps, *self.shape), dtype=torch.float64, device=self.device)
        count = len(self._model.objective.metrics)
        metrics = torch.empty((steps, *self.shape, count)).to(losses)
        batches = [
            [np.stack([next(order) for order in self._batches]) for _ in range(first.accumulate)]
            for _ in range(steps)
        ]
        samples = np.array([sum(rows.shape[1] for rows in parts) for parts in batches], np.float64)
        if self._model.objective.ignored is not None:
            samples = np.stack([sum(map(self._weights, parts)) for parts in batches])
        probes: list[Tensors] = []
        self._model.base.train()
        with self._model.without_fused_attention():
            for index, inputs in enumerate(self._on_device(batches)):
                probes.append({})
                losses[index], metrics[index] = self._take_step(*inputs, probes[-1])
                if self._hashes[0].wants(self._taken):
                    keys = self._model.mask_keys() if self._taken == 1 else [[]] * len(self.seeds)
                    joined_rows = np.concatenate(batches[index], axis=1)
                    for hashes, rows, key in zip(self._hashes, joined_rows, keys, strict=True):
                        hashes.add(self._taken, rows, key)
        if any(program.is_right is False for program in self._checked):
            self.facts |= RunFacts(compiled=False)
        flat = (steps, len(self.specs))
        return Steps(
            losses.view(flat).cpu().numpy(),
            metrics.view(*flat, count).cpu().numpy(),
            samples,
            series(probes, len(self.specs)),
        )

    def _on_device(
        self, batches: Sequence[Sequence[NDArray[Any]]]
    ) -> Iterator[tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor | None]]:
        """Yield the batches of steps, each as rows (seeds, batch) and mask keys (seeds,), the
        factors of rates, the shares of the weights in their average, and the distances of SAM, both
        (1, settings).

        The factors are those of every setting of every group of the update; see `Group.values`.
        They are copied to the device together, because it waits for every copy.
        """
        parts = [rows for of_step in batches for rows in of_step]
        count, first, steps = len(batches[0]), self._taken + 1, len(batches)
        numbers = range(self._taken * count + 1, self._taken * count + len(parts) + 1)
        keys = [[mask_key(seed, number) for seed in self.seeds] for number in numbers]
        rows = torch.from_numpy(np.concatenate(parts, axis=1)).to(self.device)
        split = torch.split(rows, [part.shape[1] for part in parts], dim=1)
        pairs = list(zip(split, torch.tensor(keys, device=self.device), strict=True))
        return zip(
            (pairs[start : start + count] for start in range(0, len(pairs), count)),
            self._rates.of_steps(first, steps),
            self._average.of_steps(first, steps),
            self._radii(first, steps),
            strict=True,
        )

    def _radii(self, first: int, steps: int) -> Iterable[Tensor | None]:
        """Return the distances at which SAM takes the gradient at steps, each (1, settings)."""
        if self._rho is None:
            return [None] * steps
        radii = [sam_radii(spec, first, steps) for spec in self.settings]
        return torch.from_numpy(np.stack(radii, axis=1)[:, None]).to(self._rho)

    def scale_rates(self, run: int, scales: Mapping[str, float]) -> None:
        """Multiply learning rates of a run from the next step on; see `Learner`."""
        self._rates.scale(*divmod(run, self.shape[1]), scales)

    def stop(self, run: int) -> None:
        """Keep the parameters of a run from now on."""
        self._alive[divmod(run, self.shape[1])] = False

    def _take_step(
        self,
        parts: Sequence[tuple[Tensor, Tensor]],
        factors: Tensor,
        shares: Tensor,
        radii: Tensor | None,
        probes: Tensors,
    ) -> tuple[Tensor, Tensor]:
        """Train every run on its seed's batches; return losses and metrics.

        Measured probes are added to `probes`.
        """
        self._taken += 1
        rows, keys = parts[0]
        self._signs = self._drawn_signs(keys)
        self._model.set_mask_keys(keys)
        self._rates.use(factors)
        self._average.use(shares)
        if self._rho is not None and radii is not None:
            self._rho.copy_(radii)
        inputs, targets = self._gather(rows, keys)
        probed, params = self._prober.wants(self._taken), self._params
        if probed:
            buffers = self._model.buffers
            probes |= self._prober.before(self._taken, params, buffers, inputs, targets)
        if len(parts) > 1:
            measured = self._accumulate(parts)
        # A short last batch would need its own compilation for one step per epoch.
        elif rows.shape[1] != self.specs[0].batch_size:
            measured = self.compute(inputs, targets, compiled=False)
        else:
            measured = (self._captured or self.compute)(inputs, targets)
        if probed:
            probes |= self._prober.after(self._taken, params)
        return measured

    def _drawn_signs(self, keys: Tensor) -> Tensors:
        """Return signs z of the parameters whose curvature is estimated in this step.

        `keys` are the mask keys of its first batch, (seeds,).
        """
        if not any(is_estimated(self._taken, every) for every in self._every):
            return {}
        params = {name: self._params[name] for name in self._curved}
        signs = drawn_signs(params, keys, lead=2)
        return {name: signs[name] * needed for name, needed in self._curved.items()}

    def _gather(self, rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step, each (seeds, batch, ...)."""
        inputs, targets = self.splits["train"].gather(rows)
        return self._augment(inputs, keys), targets

    def _weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the samples of a step that count for each run, (runs,)."""
        _, targets = self.splits["train"].gather(torch.from_numpy(rows).to(self.device))
        of_seeds = self._model.objective.weight(targets, lead=1).cpu().numpy()
        return np.repeat(of_seeds, self.shape[1])

    def compute(
        self, inputs: Tensor, targets: Tensor, *, compiled: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Train every run without waiting for the device; return losses and metrics."""
        differentiate = self._differentiate if compiled else self._model.differentiate
        if self._signs:
            differentiate = partial(self._model.differentiate_twice, signs=self._signs)
        buffers = self._model.buffers
        first = differentiate(self._params, buffers, inputs, targets)
        self._keep_buffers(first)
        gradients = first.gradients
        if self._rho is not None:
            with self._model.restored_buffers():
                gradients = differentiate(self._uphill(first), buffers, inputs, targets).gradients
        self._move(gradients, first, compiled=compiled)
        return first.losses, first.metrics

    def _accumulate(self, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Train every run on the mean loss over several batches; return losses and metrics."""
        first = self._mean_gradients(self._params, parts)
        gradients = first.gradients
        if self._rho is not None:
            with self._model.restored_buffers():
                gradients = self._mean_gradients(self._uphill(first), parts).gradients
        self._move(gradients, first, compiled=True)
        return first.losses, first.metrics

    def _mean_gradients(self, params: Tensors, parts: Sequence[tuple[Tensor, Tensor]]) -> Gradients:
        """Return the gradients of the mean loss over batches, and the sums of metrics.

        Args:
            params: parameters at which they are taken.
            parts: rows and mask keys of each batch.
        """
        weights = torch.stack([self._loss_weights(rows) for rows, _ in parts])
        total: Gradients | None = None
        for (rows, keys), share in zip(parts, weights / weights.sum(dim=0), strict=True):
            self._model.set_mask_keys(keys)
            full = rows.shape[1] == self.specs[0].batch_size
            differentiate = self._differentiate if full else self._model.differentiate
            if self._signs:
                differentiate = partial(self._model.differentiate_twice, signs=self._signs)
            part = differentiate(params, self._model.buffers, *self._gather(rows, keys))
            self._keep_buffers(part)
            total = part.scaled(share.unsqueeze(-1), params).added(total)
        assert total is not None
        return total

    def _loss_weights(self, rows: Tensor) -> Tensor:
        """Return the weight of a batch in the mean of the loss, (seeds,)."""
        _, targets = self.splits["train"].gather(rows)
        return torch.stack([self._model.objective.loss_weight(of_seed) for of_seed in targets])

    @torch.no_grad()
    def _uphill(self, first: Gradients) -> Tensors:
        """Return the parameters at which SAM takes its gradient."""
        assert self._rho is not None
        grads = {name: g.to(self._params[name].dtype) for name, g in first.gradients.items()}
        adaptive = self.specs[0].sam_adaptive
        return uphill(self._params, grads, self._rho, adaptive=adaptive, lead=2)

    def _keep_buffers(self, gradients: Gradients) -> None:
        """Keep the buffers that a forward pass changed."""
        with torch.no_grad():
            for name, value in gradients.buffers.items():
                self._model.buffers[name].copy_(value)

    def _move(self, gradients: Tensors, first: Gradients, *, compiled: bool) -> None:
        """Update the parameters of every run."""
        move = self._update if compiled else update
        with torch.no_grad():
            move(
                self._groups,
                self._treatment,
                self._params,
                gradients,
                first.losses,
                self._states,
                self._step,
                self._rates.factors,
                self._alive,
                self._seeds,
                self._in_place,
                first.curvature or self._no_curvature,
            )
        self._average.update(self._alive)

    @torch.no_grad()
    def evaluate(self, split: str, step: int, *, raw: bool = False) -> Evaluation:
        """Evaluate every run on a split after so many steps, in evaluation mode."""
        data, extent = self.splits[split], self._extents[split]
        params, buffers = self._evaluated(raw=raw)
        places = np.arange(len(self.specs)).reshape(self.shape)
        parts = []
        self._model.base.eval()
        with self._model.without_fused_attention():
            for block in extent.blocks(self.shape):
                runs = places[block].ravel()
                totals = SplitTotals(self._model.objective, data.targets, len(runs))
                for batch in extent.batches(len(data)):
                    losses, sums, outputs = self._model.evaluate(
                        params, buffers, data.inputs[batch], data.targets[batch], block
                    )
                    losses, sums = losses.flatten(0, 1), sums.flatten(0, 1)
                    totals.add(losses, sums, outputs.flatten(0, 1), batch)
                specs = [self.specs[run] for run in runs.tolist()]
                draws = [partial(evaluation_draws, spec, step, split) for spec in specs]
                parts.append((runs, totals.result(draws, self._finishes[split])))
        self._evaluated_modules = self.modules()
        self._model.base.train()
        return joined(parts, len(self.specs))

    def _evaluated(self, *, raw: bool = False) -> tuple[Tensors, Tensors]:
        """Return the parameters and buffers at which each run is evaluated."""
        buffers = self._model.buffers
        averages = self._average.values
        if averages and not (raw or self._at_evaluation_point):
            params = {name: averages[name] for name in self._params}
            return params, {name: averages.get(name, v) for name, v in buffers.items()}
        return self._evaluated_params(), buffers

    def _evaluated_params(self) -> Tensors:
        """Return the parameters at which each run's rule evaluates its model."""
        elsewhere = any(group.rule.evaluates_elsewhere for group in self._groups)
        if self._at_evaluation_point or not elsewhere:
            return self._params
        params = {name: value.clone() for name, value in self._params.items()}
        for group, state in zip(self._groups, self._states, strict=True):
            params_of_group = columns(self._params, group)
            point = evaluation_point(group.rule, params_of_group, state, group.hyperparameters)
            for name, value in point.items():
                params[name][:, group.columns] = value
        return params

    def state(self, *, shared: bool = False) -> dict[str, NDArray[Any]]:
        """Return parameters, state of the rules, and which runs are alive; see `Learner`."""
        arrays = {name: as_array(tensor, shared=shared) for name, tensor in self._tensors()}
        return arrays | {"hashes": np.stack([hashes.state() for hashes in self._hashes])}

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Restore the state after `step` steps."""
        del step  # `start` sets it
        for name, tensor in self._tensors():
            tensor.copy_(torch.from_numpy(state[name]))
        for hashes, stored in zip(self._hashes, state["hashes"], strict=True):
            hashes.load(stored)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield everything that training changes, by name."""
        yield "alive", self._alive
        for name, value in self._params.items():
            yield f"model.{name}", value
        for name, value in self._model.buffers.items():
            yield f"buffer.{name}", value
        for name, value in (self._treatment.piled or {}).items():
            yield f"piled.{name}", value
        for name, value in self._prober.previous.items():
            yield f"probe.{name}", value
        for name, value in self._average.values.items():
            yield f"average.{name}", value
        for index, states in enumerate(self._states):
            for name, state in states.items():
                for key, value in state._asdict().items():
                    if value is not None:
                        yield f"optimizer.{index}.{name}.{key}", value

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters of a run."""
        weights = self._model.weights(run, self._params, self._model.buffers)
        names = (name for name, _ in self._model.base.named_parameters())
        return arrays_sha256(weights[name].cpu().numpy() for name in names)

    @torch.no_grad()
    def weights(self, run: int) -> dict[str, NDArray[Any]]:
        """Return a copy of a run's parameters and buffers, by name, at the point of evaluation."""
        weights = self._model.weights(run, *self._evaluated())
        return {name: value.cpu().numpy().copy() for name, value in weights.items()}

    def modules(self) -> dict[str, bool]:
        """Return whether each module is in training mode, by name; all runs share them."""
        return {name: module.training for name, module in self._model.base.named_modules()}

    def evaluated_modules(self) -> dict[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""
        return self._evaluated_modules

    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change."""
        return arrays_sha256(value.cpu().numpy() for value in self._model.buffers.values())

    @torch.no_grad()
    def load_weights(self, run: int, weights: Mapping[str, NDArray[Any]]) -> None:
        """Restore the result of `weights`, for evaluation only."""
        weights_of = self._model.weights(run, self._params, self._model.buffers)
        for name, value in weights_of.items():
            value.copy_(torch.from_numpy(weights[name]))
        self._at_evaluation_point = True


def _start(spec: RunSpec) -> tuple[int, str]:
    """Return what determines the initial weights of a run within its stack."""
    return spec.seed, repr(spec.model_arguments)


def stackable_model(spec: RunSpec, dataset: Dataset) -> nn.Module:
    """Build a run's model with layers that can be stacked."""
    model = build_model(
        spec.model,
        spec.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        vocabulary=dataset.vocabulary,
        seed=spec.seed,
    )
    freeze(model, spec.frozen)
    key_dropout(model)
    make_stackable(model)
    if is_code(spec.model):  # catalogued models use all their parameters
        freeze_unused(model, dataset.input_shape, input_dtype(dataset.vocabulary))
    return model
