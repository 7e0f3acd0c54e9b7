"""Model name -> module: the catalogue, its checks and the one place that builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import nn

from optrial.code import is_code
from optrial.errors import Problem, StudyError, problems_of, suggest
from optrial.models.cnn import CNNArguments, check_cnn_input, cnn
from optrial.models.draws import seeded_draws
from optrial.models.factory import build_from_factory, check_factory
from optrial.models.functions import FunctionArguments, function_model
from optrial.models.initialization import Initialization, initialize
from optrial.models.logistic import LogisticArguments, logistic
from optrial.models.mlp import MLPArguments, mlp
from optrial.models.rnn import RNNArguments, check_rnn_input, rnn

__all__ = [
    "MODELS",
    "ModelEntry",
    "build_model",
    "check_input_shape",
    "check_model",
    "resolve_model",
]


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        summary: one line for `optrial list models`.
        arguments: a frozen pydantic model; its field `initialization` is applied by `build_model`.
        stackable: arguments in which runs that are trained as one stack may differ.
        build: maps (arguments, input shape without batch, number of classes) to a module.
        check_input: maps (arguments, input shape without batch) to why they do not go together.
    """

    name: str
    summary: str
    arguments: type[BaseModel]
    stackable: frozenset[str]
    build: Callable[[Any, tuple[int, ...], int], nn.Module]
    check_input: Callable[[Any, tuple[int, ...]], list[Problem]] = lambda *_: []


MODELS: Mapping[str, ModelEntry] = {
    "mlp": ModelEntry(
        "mlp",
        "multi-layer perceptron: hidden sizes, activation, input and hidden dropout, batch norm",
        MLPArguments,
        frozenset({"dropout", "input_dropout", "initialization"}),
        mlp,
    ),
    "logistic": ModelEntry(
        "logistic",
        "multinomial logistic regression: one linear layer, bias",
        LogisticArguments,
        frozenset({"initialization"}),
        logistic,
    ),
    "cnn": ModelEntry(
        "cnn",
        "VGG-like network for images: widths of its 3x3 convolutions, pooling, batch norm, dropout",
        CNNArguments,
        frozenset({"dropout", "initialization"}),
        cnn,
        check_cnn_input,
    ),
    "rnn": ModelEntry(
        "rnn",
        "recurrent network for sequences or rows of images: hidden units, cell, dropout",
        RNNArguments,
        frozenset({"dropout", "initialization"}),
        rnn,
        check_rnn_input,
    ),
    "function": ModelEntry(
        "function",
        "a function of two variables to descend: problem: {function: rosenbrock}",
        FunctionArguments,
        frozenset({"start", "spread"}),
        function_model,
    ),
}


def check_model(kind: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a model's name and arguments."""
    if is_code(kind):
        return check_factory(kind, arguments)
    if kind not in MODELS:
        return [Problem("kind", f"'{kind}' is not a model. {suggest(kind, MODELS)}")]
    schema = MODELS[kind].arguments
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return problems_of(error, schema.model_fields)
    return []


def check_input_shape(
    kind: str, arguments: Mapping[str, Any], input_shape: tuple[int, ...]
) -> list[Problem]:
    """Return why a model cannot be built for samples of a shape; its arguments must be valid.

    A model of the user's own, which is not in `MODELS`, is not checked.
    """
    if kind not in MODELS:
        return []
    entry = MODELS[kind]
    return entry.check_input(entry.arguments.model_validate(dict(arguments)), input_shape)


def resolve_model(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a model after defaults, as plain values.

    Raises:
        StudyError: for what `check_model` finds.
    """
    if problems := check_model(kind, arguments):
        raise StudyError(problems, f"model '{kind}'")
    if is_code(kind):
        return dict(arguments)
    return MODELS[kind].arguments.model_validate(dict(arguments)).model_dump(mode="json")


def build_model(
    kind: str,
    arguments: Mapping[str, Any],
    *,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int | None,
) -> nn.Module:
    """Build a model in float32 with freshly drawn weights.

    Args:
        kind: a name in `MODELS`, or ``module:function`` of the user's own.
        arguments: its arguments; those left out take their defaults.
        input_shape: shape of one sample.
        classes: number of outputs.
        seed: draws the weights, by `seeded_draws`; None draws them from the global generators as
            they stand.

    Raises:
        StudyError: for what `check_input_shape` finds.
    """
    if problems := check_input_shape(kind, arguments, input_shape):
        raise StudyError(problems, f"model '{kind}'")
    with nullcontext() if seed is None else seeded_draws(seed):
        if is_code(kind):
            return build_from_factory(kind, arguments, input_shape, classes)
        entry = MODELS[kind]
        parsed = entry.arguments.model_validate(dict(arguments))
        model = entry.build(parsed, input_shape, classes)
        initialization: Initialization = parsed.initialization  # type: ignore[attr-defined]
        initialize(model, initialization)
    return model
