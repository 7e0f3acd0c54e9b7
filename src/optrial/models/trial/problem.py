"""The problem on which user code is tried: a model, a loss and a few samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optrial.errors import one_line
from optrial.input_parts import InputPart, PackedShape
from optrial.models.arguments import Shape
from optrial.models.catalogue import build_model
from optrial.models.draws import seeded_draws
from optrial.models.objective.combined import Objective, build_objective, widened
from optrial.models.parameters import place_model
from optrial.models.precision import mixed_precision

__all__ = ["Named", "TrialProblem", "error_text", "on_any_device"]

Named: TypeAlias = tuple[str, Mapping[str, object]]
"""A name and its arguments."""

Outcome = TypeVar("Outcome")


class TrialProblem(NamedTuple):
    """A model, a loss and samples.

    Attributes:
        model: name and arguments.
        loss: name and arguments.
        inputs: (samples, *input_shape), in the type in which models get them.
        targets: (samples, ...).
        classes: number of outputs that the data needs; see `optrial.data.Dataset`.
        vocabulary: number of tokens, if inputs are tokens.
        ignored: label of positions that do not count, if there are any.
        precision: "float32", "bfloat16" or "float64".
        parts: the inputs that are packed into one array; none for a single input.
    """

    model: Named
    loss: Named
    inputs: NDArray[np.generic]
    targets: NDArray[np.generic]
    classes: int
    vocabulary: int | None = None
    ignored: int | None = None
    precision: str = "float32"
    parts: tuple[InputPart, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """Shape of one sample."""
        return PackedShape(self.parts) if self.parts else self.inputs.shape[1:]

    def first(self, samples: int) -> TrialProblem:
        """Return the same problem with fewer samples."""
        return self._replace(inputs=self.inputs[:samples], targets=self.targets[:samples])

    def tensors(self, device: str) -> tuple[Tensor, Tensor]:
        """Return inputs and targets on a device."""
        return torch.from_numpy(self.inputs).to(device), torch.from_numpy(self.targets).to(device)

    def outputs(self, model: nn.Module, inputs: Tensor) -> Any:
        """Return what a model returns for inputs in the precision of the training."""
        with mixed_precision(self.precision, inputs.device):
            outputs = model(inputs)
        lower = self.precision == "bfloat16" and isinstance(outputs, Tensor)
        return widened(outputs) if lower else outputs

    def build_model(self, device: str) -> nn.Module:
        """Build the model from seed 0, on a device and in the precision of the inputs."""
        name, arguments = self.model
        inputs = torch.from_numpy(self.inputs)
        built = build_model(
            name,
            arguments,
            input_shape=self.input_shape,
            classes=self.classes,
            vocabulary=self.vocabulary,
            seed=0,
        )
        of_tokens = torch.float64 if self.precision == "float64" else torch.float32
        return place_model(built, device, inputs.dtype if self.vocabulary is None else of_tokens)

    def objective(self, *metrics: str) -> Objective:
        """Return the loss with metrics."""
        return build_objective(*self.loss, metrics, ignored=self.ignored)


def on_any_device(attempt: Callable[[str], Outcome], failed: Callable[[Outcome], bool]) -> Outcome:
    """Return the outcome on the CPU or, if it failed there, on a GPU if there is one.

    Each attempt draws the same numbers from the global generators.
    """
    outcome = _drawing_alike(attempt, "cpu")
    if failed(outcome) and torch.cuda.is_available():
        return _drawing_alike(attempt, "cuda")
    return outcome


def _drawing_alike(attempt: Callable[[str], Outcome], device: str) -> Outcome:
    with seeded_draws(0):
        return attempt(device)


def error_text(error: BaseException) -> str:
    """Return the type and the message of an error, without a full stop."""
    return one_line(error).rstrip(".")
