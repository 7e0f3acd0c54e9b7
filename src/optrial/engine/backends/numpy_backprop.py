"""The NumPy engine: the forward and backward pass of an MLP written out by hand.

It shares no code with automatic differentiation, which makes it an independent oracle, and it is
the engine to read to learn how training works. Weights, batch order and dropout masks are those of
the other engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import scipy  # imports its modules when they are first used
import torch
from torch import nn

from optrial.data import Dataset
from optrial.engine.averages import average_shares
from optrial.engine.backends.solo import Batch, Measured, SoloEngine
from optrial.engine.evaluation import Evaluation, Extent, SplitTotals
from optrial.engine.hashing import arrays_sha256
from optrial.engine.options import (
    augmentation,
    batch_order,
    changed_values,
    data_facts,
    decayed_share,
    evaluation_draws,
    finish_of,
    gradient_facts,
    implementation_of,
    objective_of,
    sam_radii,
)
from optrial.engine.process import threads_for
from optrial.keyed import mask_key
from optrial.models import build_model, drop_threshold, keep_mask
from optrial.plan import rule_of
from optrial.rules import apply_all, clip_all, evaluation_point, initialise_all, uphill
from optrial.spec import Part, RunFacts, RunSpec

__all__ = ["Network", "NumpyEngine", "cross_entropy", "mse"]

Array = np.ndarray
Function = Callable[[Array], Array]

_LEAK = 0.01  # slope of torch.nn.LeakyReLU below zero


def _normal_cdf(x: Array) -> Array:
    return np.asarray(0.5 * (1 + scipy.special.erf(x / 2**0.5)), x.dtype)


def _sigmoid(x: Array) -> Array:
    return np.asarray(scipy.special.expit(x))


def _normal_pdf(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x**2) / (2 * np.pi) ** 0.5, x.dtype)


ACTIVATIONS: Mapping[str, tuple[Function, Function]] = {
    "ReLU": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype)),
    "LeakyReLU": (
        lambda x: np.where(x > 0, x, _LEAK * x),
        lambda x: np.where(x > 0, 1, _LEAK).astype(x.dtype),
    ),
    "ELU": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.exp(np.minimum(x, 0)),
    ),
    "SiLU": (
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
    ),
    "GELU": (
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * _normal_pdf(x),
    ),
    "Tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "Sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "Identity": (lambda x: x, np.ones_like),
}
"""Name of the torch class -> (function, derivative), both elementwise and dtype-preserving."""

_EVALUATION_BATCH = 2048  # samples; bounds the memory of activations, not the result


class Layer(Protocol):
    """A layer whose `forward` stores what `backward` needs."""

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Map (batch, n_in) to (batch, n_out); `key` is the step's mask key, None in evaluation."""

    def backward(self, gradient: Array) -> Array:
        """Map the gradient at the outputs, (batch, n_out), to that at the inputs."""


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
    """An elementwise function of `ACTIVATIONS`."""

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
        self._scale: Array = np.ones(())  # of the current batch

    def forward(self, inputs: Array, key: int | None) -> Array:
        """Drop and rescale in training; return the inputs in evaluation."""
        if key is None or not self.rate:
            return inputs
        self.key = key
        positions = np.arange(inputs.size).reshape(inputs.shape)
        keep: Array = keep_mask(key, self.layer, positions, drop_threshold(self.rate))
        self._scale = keep.astype(inputs.dtype) / (1 - self.rate)
        return inputs * self._scale

    def backward(self, gradient: Array) -> Array:
        """Pass the gradient through where the activation was kept."""
        inputs_gradient: Array = gradient * self._scale
        return inputs_gradient


class Network:
    """An MLP as a list of layers, with the weights of its torch twin."""

    def __init__(self, twin: nn.Module, precision: str) -> None:
        self.layers: list[Layer] = []
        for module in twin.children():
            match module:
                case nn.Flatten():
                    continue  # inputs arrive flat
                case nn.Linear():
                    weights = [p.detach().numpy().astype(precision) for p in module.parameters()]
                    self.layers.append(Linear(weights))
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
        """Return the gradient of every parameter from that of the logits."""
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return [gradient for layer in self.linear for gradient in layer.gradients]


def cross_entropy(
    logits: Array, targets: Array, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    """Return the mean cross entropy of (batch, classes) logits and its gradient.

    loss = -mean(sum(q log softmax(z))); d loss / d z = (softmax(z) - q) / batch, where
    q = (1 - label_smoothing) one_hot(label) + label_smoothing / classes.
    """
    rows, classes = np.arange(len(targets)), logits.shape[1]
    q = np.full_like(logits, label_smoothing / classes)
    q[rows, targets] += 1 - label_smoothing
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(q * log_probability).sum(axis=1).mean()
    return float(loss), (np.exp(log_probability) - q) / len(targets)


def mse(outputs: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean squared error over batch and outputs, and its gradient.

    Integer targets are labels and are converted to one-hot vectors.
    """
    error = outputs - _values(outputs, targets)
    return float((error**2).mean()), 2 * error / error.size


def mae(outputs: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean absolute error over batch and outputs, and its gradient."""
    error = outputs - _values(outputs, targets)
    return float(np.abs(error).mean()), np.sign(error) / error.size


def huber(outputs: Array, targets: Array, delta: float = 1.0) -> tuple[float, Array]:
    """Return the mean Huber loss over batch and outputs, and its gradient."""
    error = outputs - _values(outputs, targets)
    size = np.abs(error)
    losses = np.where(size <= delta, error**2 / 2, delta * (size - delta / 2))
    return float(losses.mean()), np.clip(error, -delta, delta) / error.size


def poisson(outputs: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean of exp(z) - y z over batch and outputs z, and its gradient."""
    rates, counts = np.exp(outputs), _values(outputs, targets)
    return float((rates - counts * outputs).mean()), (rates - counts) / rates.size


def _values(outputs: Array, targets: Array) -> Array:
    """Return targets in the shape and type of the outputs; labels as one-hot vectors."""
    if targets.dtype.kind == "i":
        targets = np.eye(outputs.shape[1], dtype=outputs.dtype)[targets]
    return targets.astype(outputs.dtype, copy=False).reshape(outputs.shape)


_LOSSES: Mapping[str, Callable[..., tuple[float, Array]]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "poisson": poisson,
}


class NumpyEngine(SoloEngine):
    """One MLP and one rule on NumPy arrays."""

    def __init__(self, spec: RunSpec, dataset: Dataset) -> None:
        super().__init__(spec)
        self.dataset = dataset
        twin = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=spec.seed,
        )
        self.network = Network(twin, spec.precision)
        self.names = [name for name, _ in twin.named_parameters()]
        self.objective = objective_of(spec, dataset)
        self.augment = augmentation(dataset, torch.device("cpu"))
        self.threads = threads_for([spec], dataset)
        self._parts = [
            (part, rule_of(part.optimizer_kind, part.rule, part.modify))
            for part in spec.parts(self.names)
        ]
        self.rule_states = [
            initialise_all(rule, self._of(part), part.hyperparameters, as_vectors=spec.as_vectors)
            for part, rule in self._parts
        ]
        self.piled = {
            name: np.zeros_like(value)
            for name, value in self._parameters().items()
            if name not in spec.frozen
        }
        self._at_evaluation_point = False
        self._average: dict[str, Array] = {}
        self.facts = (
            data_facts(spec, dataset)
            | gradient_facts(spec)
            | RunFacts(
                engine="numpy",
                device="cpu",
                implementation=implementation_of(*(part.rule for part, _ in self._parts)),
                decayed_share=decayed_share(
                    (part for part, _ in self._parts),
                    {name: value.size for name, value in self._parameters().items()},
                ),
                flushes_denormals=False,  # cannot be set for the threads of NumPy's products
            )
        )
        self.initial_sha256 = self.parameters_sha256(0)

    def _parameters(self) -> dict[str, Array]:
        return dict(zip(self.names, self.network.parameters, strict=True))

    def _of(self, part: Part) -> dict[str, Array]:
        """Return the parameters that a rule updates."""
        params = self._parameters()
        return {name: params[name] for name in part.parameters}

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield the batches with the numbers `first`, `first` + 1, ... without end."""
        train = self.dataset.splits["train"]
        order = batch_order(self.spec, *train.batched)
        for rows in order.batches(first):
            yield Batch(rows, train.inputs[rows], train.targets[rows])

    def step(self, batches: Sequence[Batch], step: int) -> Measured:
        """Train on the batches of a step; return the mean loss before the update, and metrics."""
        spec = self.spec
        with np.errstate(all="ignore"):  # divergence shows in the loss
            loss, metrics, gradients = self._gradients(batches, step)
            if spec.sam_rho is not None:
                before = self._parameters()
                (rho,) = sam_radii(spec, step, 1).tolist()
                moved = uphill(before, gradients, rho, adaptive=spec.sam_adaptive)
                self.network.parameters = [moved[name] for name in self.names]
                *_, gradients = self._gradients(batches, step)
                self.network.parameters = list(before.values())
            if not spec.zero_grad:
                gradients = {name: self.piled[name] + g for name, g in gradients.items()}
            gradients = dict(clip_all(gradients, spec.clip_norm, spec.clip_value, lead=0))
            self.piled = gradients if not spec.zero_grad else self.piled
            moved = self._parameters()
            for index, (part, rule) in enumerate(self._parts):
                values = {**part.hyperparameters, "weight_decay": part.weight_decay}
                if part.schedule is not None:
                    changed = changed_values(part.schedule, values, spec.steps, step)
                    values["lr"] *= self.rate_factor(part.schedule, step)
                    values |= changed
                weight_decay = values.pop("weight_decay")
                moved_part, self.rule_states[index] = apply_all(
                    rule,
                    self._of(part),
                    gradients,
                    self.rule_states[index],
                    step,
                    values,
                    weight_decay,
                    part.decay,
                    as_vectors=spec.as_vectors,
                    seeds=spec.seed,
                )
                moved |= moved_part
        self.network.parameters = [moved[name] for name in self.names]
        if spec.average is not None:
            share = average_shares(spec.average, spec.steps, step, 1)[0]
            if share == 1.0:
                self._average = dict(moved)
            for name, value in self._average.items():
                change = value.dtype.type(share) * (moved[name] - value)
                self._average[name] = value + change
        return Measured(loss, metrics)

    def _gradients(
        self, batches: Sequence[Batch], step: int
    ) -> tuple[float, list[float], dict[str, Array]]:
        """Return the mean loss over batches, the sums of metrics, and gradients by name."""
        size = sum(len(batch.targets) for batch in batches)
        total, metrics = 0.0, [0.0] * len(self.objective.metrics)
        gradients: dict[str, Array] = {}
        for place, batch in enumerate(batches):
            key = mask_key(self.spec.seed, self.part_number(step, place))
            inputs = self.augment(torch.from_numpy(batch.inputs), key).numpy()
            outputs = self.network.forward(self._flat(inputs), key)
            loss, gradient = self._loss(outputs, batch.targets)
            share = len(batch.targets) / size
            total += share * loss
            of_batch = self._metrics(outputs, batch.targets)
            metrics = [a + b for a, b in zip(metrics, of_batch, strict=True)]
            backward = zip(self.names, self.network.backward(gradient), strict=True)
            for name, value in backward:
                if name not in self.spec.frozen:
                    part = value if share == 1.0 else value * value.dtype.type(share)
                    gradients[name] = gradients[name] + part if name in gradients else part
        return total, metrics, gradients

    def mask_keys(self) -> list[int]:
        """Return the keys of the dropout layers in the last step."""
        return [layer.key for layer in self.network.layers if isinstance(layer, Dropout)]

    def _loss(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        return _LOSSES[self.spec.loss](outputs, targets, **self.spec.loss_arguments)

    def _metrics(self, outputs: Array, targets: Array) -> list[float]:
        """Return the sum of each metric over a batch, computed as in the other engines."""
        tensors = torch.from_numpy(outputs), torch.from_numpy(targets)
        return [float(metric(*tensors)) for metric in self.objective.metrics]

    def evaluate(self, split: str, step: int, *, raw: bool = False) -> Evaluation:
        """Evaluate a whole split; see `Learner`."""
        data, trained = self.dataset.splits[split], self.network.parameters
        totals = SplitTotals(self.objective, torch.from_numpy(data.targets), runs=1)
        if not raw:
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
        finish = finish_of(self.spec, self.dataset, split)
        return totals.result([partial(evaluation_draws, self.spec, step, split)], finish)

    def _evaluation_point(self) -> Mapping[str, Array]:
        if self._at_evaluation_point:
            return self._parameters()
        if self._average:
            return self._average
        point = self._parameters()
        for (part, rule), state in zip(self._parts, self.rule_states, strict=True):
            point |= evaluation_point(rule, self._of(part), state, part.hyperparameters)
        return point

    def state(self, *, shared: bool = False) -> dict[str, Array]:
        """Return parameters and the rule's state; see `Learner`."""
        arrays = {f"model.{name}": array for name, array in self._parameters().items()}
        arrays |= {f"piled.{name}": array for name, array in self.piled.items()}
        arrays |= {f"average.{name}": array for name, array in self._average.items()}
        for index, states in enumerate(self.rule_states):
            for name, state in states.items():
                for key, value in state._asdict().items():
                    if value is not None:
                        arrays[_state_name(index, key, name)] = np.asarray(value)
        if not shared:
            arrays = {name: array.copy() for name, array in arrays.items()}
        return arrays | super().state()

    def load(self, state: Mapping[str, Array], step: int) -> None:
        """Restore the state after `step` steps."""
        super().load(state, step)
        self.network.parameters = [state[f"model.{name}"] for name in self.names]
        self.piled = {name: state[f"piled.{name}"] for name in self.piled}
        if self.spec.average is not None and step:
            self._average = {name: state[f"average.{name}"] for name in self.names}
        for index, states in enumerate(self.rule_states):
            for name, part in states.items():
                arrays = {
                    key: state[_state_name(index, key, name)]
                    for key, value in part._asdict().items()
                    if value is not None
                }
                states[name] = part._replace(**arrays)

    def weights(self, run: int) -> dict[str, Array]:
        """Return a copy of the parameters, by name, at the point of evaluation."""
        del run
        return {name: np.array(value) for name, value in self._evaluation_point().items()}

    def modules(self) -> dict[str, bool]:
        """Return no modes: dropout is active exactly if a layer gets a mask key."""
        return {}

    def evaluated_modules(self) -> dict[str, bool]:
        """Return no modes."""
        return {}

    def buffers_sha256(self) -> str:
        """Return the hash of no buffers: an MLP has none."""
        return arrays_sha256([])

    def load_weights(self, run: int, weights: Mapping[str, Array]) -> None:
        """Restore the result of `weights`, for evaluation only."""
        del run
        self.network.parameters = [weights[name] for name in self.names]
        self._at_evaluation_point = True

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters, from input to output."""
        del run
        return arrays_sha256(self.network.parameters)

    def _flat(self, inputs: Array) -> Array:
        """Flatten samples and convert them to the run's precision."""
        return inputs.reshape(len(inputs), -1).astype(self.spec.precision, copy=False)


def _state_name(part: int, key: str, parameter: str) -> str:
    """Return the name of an array of the state of a rule; that of the first has no number."""
    return f"optimizer.{part}.{key}.{parameter}" if part else f"optimizer.{key}.{parameter}"
