"""The NumPy engine: forward and backward of an MLP written out by hand.

The oracle that shares no code with automatic differentiation, and the engine to read when learning
how training works. Weights, batch order and dropout masks are those of the other engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from optrial.data import Dataset
from optrial.engine.backends.activations import ACTIVATIONS
from optrial.engine.backends.solo import Batch, Measured
from optrial.engine.evaluation import Evaluation, Extent, SplitTotals
from optrial.engine.hashing import arrays_sha256
from optrial.engine.options import (
    augmentation,
    data_facts,
    evaluation_draws,
    implementation_of,
    rate_factors,
)
from optrial.engine.process import threads_for
from optrial.engine.training import batch_order
from optrial.keyed import mask_key
from optrial.models import build_model, build_objective, drop_threshold, keep_mask
from optrial.plan import rule_of
from optrial.rules import apply_all, clip_all, evaluation_point, initialise_all
from optrial.spec import RunSpec

__all__ = ["Network", "NumpyEngine", "cross_entropy", "mse"]

Array = np.ndarray

_EVALUATION_BATCH = 2048  # samples; bounds the memory of activations, not the result


class Layer(Protocol):
    """A layer that remembers in `forward` what `backward` needs."""

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Map (batch, n_in) to (batch, n_out); `key` is the step's mask key, None to evaluate."""

    def backward(self, gradient: Array) -> Array:
        """Turn the gradient at the outputs, (batch, n_out), into that at the inputs."""


class Linear:
    """y = x W^T + b, with W of shape (n_out, n_in) as in torch."""

    def __init__(self, parameters: list[Array]) -> None:
        self.parameters = parameters
        self.gradients: list[Array] = []

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Apply weight and bias."""
        del key
        self._inputs = inputs
        outputs: Array = inputs @ self.parameters[0].T
        return outputs + self.parameters[1] if len(self.parameters) > 1 else outputs

    def backward(self, gradient: Array) -> Array:
        """dW = g^T x, db = sum of g over the batch, dx = g W."""
        self.gradients = [gradient.T @ self._inputs, gradient.sum(axis=0)][: len(self.parameters)]
        inputs_gradient: Array = gradient @ self.parameters[0]
        return inputs_gradient


class Activation:
    """An elementwise function of `optrial.engine.backends.activations`."""

    def __init__(self, name: str) -> None:
        self.function, self.derivative = ACTIVATIONS[name]

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Apply the function."""
        del key
        self._inputs = inputs
        return self.function(inputs)

    def backward(self, gradient: Array) -> Array:
        """Multiply by the derivative at the inputs."""
        return gradient * self.derivative(self._inputs)


class Dropout:
    """Inverted dropout with the masks of `optrial.models.keep_mask`."""

    def __init__(self, rate: float, layer: int) -> None:
        self.rate = rate
        self.layer = layer
        self.key = 0  # of the last training step
        self._scale: Array = np.ones(())  # of the batch under way

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Drop and rescale while training; pass on while evaluating."""
        if key is None or not self.rate:
            return inputs
        self.key = key
        positions = np.arange(inputs.size).reshape(inputs.shape)
        keep: Array = keep_mask(key, self.layer, positions, drop_threshold(self.rate))
        self._scale = keep.astype(inputs.dtype) / (1 - self.rate)
        return inputs * self._scale

    def backward(self, gradient: Array) -> Array:
        """Let gradient through where the activation was kept."""
        kept: Array = gradient * self._scale
        return kept


class Network:
    """An MLP as a list of layers, with the weights of its torch twin."""

    def __init__(self, twin: nn.Module, precision: str) -> None:
        self.layers: list[Layer] = []
        for module in twin.children():
            match module:
                case nn.Flatten():
                    continue  # inputs arrive flat
                case nn.Linear():
                    drawn = [p.detach().numpy().astype(precision) for p in module.parameters()]
                    self.layers.append(Linear(drawn))
                case nn.Dropout():
                    number = sum(isinstance(layer, Dropout) for layer in self.layers)
                    self.layers.append(Dropout(module.p, number))
                case _:
                    self.layers.append(Activation(type(module).__name__))
        self.linear = [layer for layer in self.layers if isinstance(layer, Linear)]

    @property
    def parameters(self) -> list[Array]:
        """All weights and biases, from input to output."""
        return [parameter for layer in self.linear for parameter in layer.parameters]

    @parameters.setter
    def parameters(self, values: list[Array]) -> None:
        remaining = iter(values)
        for layer in self.linear:
            layer.parameters = [next(remaining) for _ in layer.parameters]

    def forward(self, inputs: Array, key: int | None = None) -> Array:
        """Map (batch, features) to logits (batch, classes)."""
        for layer in self.layers:
            inputs = layer.forward(inputs, key)
        return inputs

    def backward(self, gradient: Array) -> list[Array]:
        """Return the gradient of every parameter, given that of the logits."""
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return [gradient for layer in self.linear for gradient in layer.gradients]


def cross_entropy(
    logits: Array, targets: Array, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    """Return the mean cross entropy of (batch, classes) logits and its gradient.

    loss = -mean(sum(q log softmax(z))); d loss / d z = (softmax(z) - q) / batch, where q is the
    one-hot label, mixed with the uniform distribution by a share of `label_smoothing`.
    """
    rows, classes = np.arange(len(targets)), logits.shape[1]
    wanted = np.full_like(logits, label_smoothing / classes)
    wanted[rows, targets] += 1 - label_smoothing
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(wanted * log_probability).sum(axis=1).mean()
    return float(loss), (np.exp(log_probability) - wanted) / len(targets)


def mse(outputs: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean squared error over batch and outputs, and its gradient.

    Integer targets are labels and count as one-hot vectors.
    """
    if targets.dtype.kind == "i":
        targets = np.eye(outputs.shape[1], dtype=outputs.dtype)[targets]
    error = outputs - targets.astype(outputs.dtype, copy=False)
    return float((error**2).mean()), 2 * error / error.size


_LOSSES: Mapping[str, Callable[..., tuple[float, Array]]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
}


class NumpyEngine:
    """One MLP and one rule on NumPy arrays."""

    def __init__(self, spec: RunSpec, dataset: Dataset) -> None:
        self.spec = spec
        self.dataset = dataset
        self.rule = rule_of(spec.optimizer_kind, spec.rule)
        twin = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=spec.seed,
        )
        self.network = Network(twin, spec.precision)
        self.names = [name for name, _ in twin.named_parameters()]
        self.objective = build_objective(
            spec.loss, spec.loss_arguments, spec.metrics, spec.whole_split
        )
        self.augment = augmentation(dataset, torch.device("cpu"))
        self.loss_limit = spec.loss_limit or math.inf
        self.threads = threads_for(spec, dataset)
        self.rule_state = initialise_all(self.rule, self._parameters(), spec.hyperparameters)
        self.piled = {name: np.zeros_like(value) for name, value in self._parameters().items()}
        self._at_evaluation_point = False
        self.facts: Mapping[str, Any] = {
            "engine": "numpy",
            "device": "cpu",
            **data_facts(dataset),
            "implementation": implementation_of(spec),
            "decayed_share": float(spec.weight_decay > 0),
            "flushes_denormals": False,  # the threads of NumPy's products cannot be told to
        }

    def _parameters(self) -> dict[str, Array]:
        return dict(zip(self.names, self.network.parameters, strict=True))

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of the shared order; see `SoloEngine`."""
        train = self.dataset.splits["train"]
        order = batch_order(self.spec, len(train.targets))
        for rows in order.batches(first_step):
            yield Batch(rows, train.inputs[rows], train.targets[rows])

    def step(self, batch: Batch, step: int) -> Measured:
        """Train on one batch; see `SoloEngine`."""
        spec = self.spec
        # What augmentation does to images is written for torch and NumPy alike; labels stay.
        inputs = self.augment(torch.from_numpy(batch.inputs), mask_key(spec.seed, step)).numpy()
        with np.errstate(all="ignore"):  # divergence is found in the loss and recorded
            outputs = self.network.forward(self._flat(inputs), mask_key(spec.seed, step))
            loss, gradient = self._loss(outputs, batch.targets)
            gradients = dict(zip(self.names, self.network.backward(gradient), strict=True))
            if not spec.zero_grad:
                gradients = {name: self.piled[name] + g for name, g in gradients.items()}
            gradients = dict(clip_all(gradients, spec.clip_norm, spec.clip_value, lead=0))
            self.piled = gradients if not spec.zero_grad else self.piled
            hyperparameters = dict(spec.hyperparameters)
            if spec.schedule is not None:
                hyperparameters["lr"] *= float(rate_factors(spec, step, 1)[0])
            moved, self.rule_state = apply_all(
                self.rule,
                self._parameters(),
                gradients,
                self.rule_state,
                step,
                hyperparameters,
                spec.weight_decay,
                spec.decay,
            )
        self.network.parameters = [moved[name] for name in self.names]
        return Measured(loss, self._metrics(outputs, batch.targets))

    def mask_keys(self) -> list[int]:
        """Return the keys that the dropout layers had in the last step."""
        return [layer.key for layer in self.network.layers if isinstance(layer, Dropout)]

    def _loss(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        return _LOSSES[self.spec.loss](outputs, targets, **self.spec.loss_arguments)

    def _metrics(self, outputs: Array, targets: Array) -> list[float]:
        """Return the sum of each metric over a batch, by the functions of the other engines."""
        tensors = torch.from_numpy(outputs), torch.from_numpy(targets)
        return [float(metric(*tensors)) for metric in self.objective.metrics]

    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a whole split; see `SoloEngine`."""
        data, trained = self.dataset.splits[split], self.network.parameters
        totals = SplitTotals(self.objective, torch.from_numpy(data.targets), runs=1)
        self.network.parameters = list(self._evaluation_point().values())
        for batch in Extent(_EVALUATION_BATCH, 1).batches(len(data.targets)):
            targets = data.targets[batch]
            with np.errstate(all="ignore"):
                outputs = self.network.forward(self._flat(data.inputs[batch]))
                loss = self._loss(outputs, targets)[0] * len(targets)
                sums = self._metrics(outputs, targets)
            row = torch.tensor([loss, *sums], dtype=torch.float64)[None]
            totals.add(row[:, 0], row[:, 1:], torch.from_numpy(outputs)[None], batch)
        self.network.parameters = trained
        return totals.result([partial(evaluation_draws, self.spec, step, split)])

    def _evaluation_point(self) -> Mapping[str, Array]:
        if self._at_evaluation_point:
            return self._parameters()
        return evaluation_point(
            self.rule, self._parameters(), self.rule_state, self.spec.hyperparameters
        )

    def state(self) -> dict[str, Array]:
        """Return parameters and the rule's state."""
        arrays = {f"model.{name}": array.copy() for name, array in self._parameters().items()}
        arrays |= {f"piled.{name}": array.copy() for name, array in self.piled.items()}
        for name, state in self.rule_state.items():
            for key, value in state._asdict().items():
                if value is not None:
                    arrays[f"optimizer.{key}.{name}"] = np.array(value)
        return arrays

    def load(self, state: Mapping[str, Array], step: int) -> None:
        """Take up what `state` returned."""
        del step
        self.network.parameters = [state[f"model.{name}"] for name in self.names]
        self.piled = {name: state[f"piled.{name}"] for name in self.names}
        for name, part in self.rule_state.items():
            stored = {
                key: state[f"optimizer.{key}.{name}"]
                for key, value in part._asdict().items()
                if value is not None
            }
            self.rule_state[name] = part._replace(**stored)

    def weights(self) -> dict[str, Array]:
        """Return a copy of the parameters, by name, as they would be evaluated."""
        return {name: np.array(value) for name, value in self._evaluation_point().items()}

    def modules(self) -> dict[str, bool]:
        """Return nothing: there are no modes to forget, dropout needs the key of a step."""
        return {}

    def evaluated_modules(self) -> dict[str, bool]:
        """Return nothing, as `modules`."""
        return {}

    def buffers(self) -> list[Array]:
        """Return nothing: an MLP has none."""
        return []

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Take up what `weights` returned, to evaluate."""
        self.network.parameters = [weights[name] for name in self.names]
        self._at_evaluation_point = True

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters, from input to output."""
        return arrays_sha256(self.network.parameters)

    def _flat(self, inputs: Array) -> Array:
        """Flatten samples and bring them to the run's precision."""
        return inputs.reshape(len(inputs), -1).astype(self.spec.precision, copy=False)
