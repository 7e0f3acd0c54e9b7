"""The NumPy engine: forward and backward of an MLP written out by hand.

The oracle that shares no code with automatic differentiation, and the engine to read when learning
how training works. Weights, batch order and dropout masks are those of the other engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from torch import nn

from optrial.data import Dataset
from optrial.engine.activations import ACTIVATIONS
from optrial.engine.hashing import arrays_sha256
from optrial.engine.solo import Batch
from optrial.engine.threads import threads_for
from optrial.engine.training import batch_order
from optrial.models import build_model, drop_threshold, keep_mask, mask_key
from optrial.plan import RunSpec
from optrial.rules import apply_rule, get_rule, initialise

__all__ = ["Network", "NumpyEngine", "cross_entropy"]

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
    """An elementwise function of `optrial.engine.activations`."""

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
        self._scale: Array = np.ones(())  # of the batch under way

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Drop and rescale while training; pass on while evaluating."""
        if key is None or not self.rate:
            return inputs
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


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean cross entropy of (batch, classes) logits and its gradient.

    loss = -mean(log softmax(z)[target]); d loss / d z = (softmax(z) - one_hot(target)) / batch.
    """
    rows = np.arange(len(targets))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_probability)
    gradient[rows, targets] -= 1
    return float(-log_probability[rows, targets].mean()), gradient / len(targets)


class NumpyEngine:
    """One MLP and one rule on NumPy arrays."""

    def __init__(self, spec: RunSpec, dataset: Dataset) -> None:
        self.spec = spec
        self.dataset = dataset
        self.rule = get_rule(spec.rule)
        twin = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=spec.seed,
        )
        self.network = Network(twin, spec.precision)
        self.threads = threads_for(spec, twin)
        self.states = [
            initialise(self.rule, parameter, spec.hyperparameters)
            for parameter in self.network.parameters
        ]
        self.facts: Mapping[str, Any] = {
            "engine": "numpy",
            "device": "cpu",
            "implementation": f"optrial.rules.{self.rule.name}",
        }

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of the shared order; see `SoloEngine`."""
        train = self.dataset.splits["train"]
        order = batch_order(self.spec, len(train.targets))
        for rows in order.batches(first_step):
            yield Batch(rows, self._flat(train.inputs[rows]), train.targets[rows])

    def step(self, batch: Batch, step: int) -> tuple[float, int]:
        """Train on one batch; see `SoloEngine`."""
        spec = self.spec
        with np.errstate(all="ignore"):  # divergence is found in the loss and recorded
            logits = self.network.forward(batch.inputs, mask_key(spec.seed, step))
            loss, gradient = cross_entropy(logits, batch.targets)
            moved = [
                apply_rule(
                    self.rule,
                    parameter,
                    parameter_gradient,
                    state,
                    step,
                    spec.hyperparameters,
                    spec.weight_decay,
                    spec.decay,
                )
                for parameter, parameter_gradient, state in zip(
                    self.network.parameters,
                    self.network.backward(gradient),
                    self.states,
                    strict=True,
                )
            ]
        self.network.parameters = [parameter for parameter, _ in moved]
        self.states = [state for _, state in moved]
        return loss, int((logits.argmax(axis=1) == batch.targets).sum())

    def evaluate(self, split: str) -> tuple[float, float]:
        """Return mean loss and accuracy over a whole split; see `SoloEngine`."""
        data = self.dataset.splits[split]
        loss_sum, correct = 0.0, 0
        for start in range(0, len(data.targets), _EVALUATION_BATCH):
            chunk = slice(start, start + _EVALUATION_BATCH)
            targets = data.targets[chunk]
            with np.errstate(all="ignore"):
                logits = self.network.forward(self._flat(data.inputs[chunk]))
                loss_sum += cross_entropy(logits, targets)[0] * len(targets)
            correct += int((logits.argmax(axis=1) == targets).sum())
        return loss_sum / len(data.targets), correct / len(data.targets)

    def state(self) -> dict[str, Array]:
        """Return parameters and the rule's state."""
        arrays = {f"model.{i}": array.copy() for i, array in enumerate(self.network.parameters)}
        for index, state in enumerate(self.states):
            for key, value in state._asdict().items():
                if value is not None:
                    arrays[f"optimizer.{index}.{key}"] = np.array(value)
        return arrays

    def load(self, state: Mapping[str, Array], step: int) -> None:
        """Take up what `state` returned."""
        del step
        count = len(self.states)
        self.network.parameters = [state[f"model.{index}"] for index in range(count)]
        for index in range(count):
            prefix = f"optimizer.{index}."
            stored = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self.states[index] = self.states[index]._replace(**stored)

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters, from input to output."""
        return arrays_sha256(self.network.parameters)

    def _flat(self, inputs: Array) -> Array:
        """Flatten samples and bring them to the run's precision."""
        return inputs.reshape(len(inputs), -1).astype(self.spec.precision, copy=False)
