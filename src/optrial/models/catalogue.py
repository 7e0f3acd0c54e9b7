"""The catalogue of models: checks names and arguments, and builds modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from pydantic import ValidationError
from torch import nn

from optrial.code import is_code
from optrial.errors import Problem, StudyError, problems_of, suggest
from optrial.input_parts import parts_of
from optrial.memory import memory_limit, shortage
from optrial.models.arguments import ModelArguments, Shape
from optrial.models.autoencoder import AutoencoderArguments
from optrial.models.cnn import CNNArguments
from optrial.models.convnet import ConvNetArguments
from optrial.models.draws import seeded_draws
from optrial.models.factory import build_from_factory, check_factory
from optrial.models.functions import FunctionArguments
from optrial.models.logistic import LogisticArguments
from optrial.models.mlp import MLPArguments
from optrial.models.resnet import ResNetArguments
from optrial.models.rnn import RNNArguments
from optrial.models.transformer import TransformerArguments
from optrial.models.vit import VisionTransformerArguments

__all__ = [
    "MODELS",
    "ModelEntry",
    "build_model",
    "check_input_shape",
    "check_model",
    "resolve_model",
]

_WEIGHT_BYTES = 4  # float32
_SMALL_BYTES = 100_000_000  # models below are built without looking at the free memory


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        name: key in `MODELS`.
        summary: one line for `optrial list models`.
        arguments: class of its arguments, which builds the model.
        stackable: arguments that may differ between the runs of a stack.
    """

    name: str
    summary: str
    arguments: type[ModelArguments]
    stackable: frozenset[str]


_ENTRIES = (
    ModelEntry(
        "mlp",
        "multi-layer perceptron: hidden sizes, activation, dropout, batch or layer norm, residual "
        "blocks",
        MLPArguments,
        frozenset({"dropout", "input_dropout", "initialization"}),
    ),
    ModelEntry(
        "logistic",
        "multinomial logistic regression: one linear layer, bias",
        LogisticArguments,
        frozenset({"initialization"}),
    ),
    ModelEntry(
        "cnn",
        "VGG-like network for images: widths of its 3x3 convolutions, pooling, batch norm, dropout",
        CNNArguments,
        frozenset({"dropout", "initialization"}),
    ),
    ModelEntry(
        "convnet",
        "small network for images: widths of its 3x3 convolutions, norm, mean over all pixels",
        ConvNetArguments,
        frozenset({"dropout", "initialization"}),
    ),
    ModelEntry(
        "resnet",
        "residual network for small images: 18, or 20 to 110 layers; batch, group or no norm",
        ResNetArguments,
        frozenset({"initialization"}),
    ),
    ModelEntry(
        "vit",
        "vision transformer: patch, width, depth, heads, mean over patches or class token",
        VisionTransformerArguments,
        frozenset({"dropout", "initialization"}),
    ),
    ModelEntry(
        "autoencoder",
        "passes inputs through a code and predicts them (targets: inputs): hidden layers, code, "
        "convolutions",
        AutoencoderArguments,
        frozenset({"initialization"}),
    ),
    ModelEntry(
        "rnn",
        "recurrent network for sequences or rows of images: hidden units, cell, dropout",
        RNNArguments,
        frozenset({"dropout", "initialization"}),
    ),
    ModelEntry(
        "transformer",
        "decoder that predicts the next token at every position, or encoder that classifies: "
        "width, depth, heads",
        TransformerArguments,
        frozenset({"dropout", "initialization"}),
    ),
    ModelEntry(
        "function",
        "a function of two variables to descend: problem: {function: rosenbrock}",
        FunctionArguments,
        frozenset({"start", "spread"}),
    ),
)

MODELS: Mapping[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def check_model(
    kind: str, arguments: Mapping[str, object], also: Iterable[str] = ()
) -> list[Problem]:
    """Return everything that is wrong with the name and the arguments of a model.

    Args:
        kind: name of the model.
        arguments: its arguments.
        also: keys that are allowed beside the arguments.
    """
    if is_code(kind):
        return check_factory(kind, arguments)
    if kind not in MODELS:
        return [Problem("kind", f"'{kind}' is not a model. {suggest(kind, MODELS)}")]
    schema = MODELS[kind].arguments
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return problems_of(error, [*schema.model_fields, *also])
    return []


def check_input_shape(
    kind: str,
    arguments: Mapping[str, object],
    input_shape: Shape,
    vocabulary: int | None = None,
    outputs: int | None = None,
) -> list[Problem]:
    """Return why a model of the catalogue cannot be built for samples of a shape.

    Reasons are the shape itself, tokens for a model of numbers or the reverse, the number of
    `outputs` that the targets need, if given, and weights that do not fit into memory. User-defined
    models are not checked. The arguments must be valid.
    """
    if kind not in MODELS:
        return []
    if parts := parts_of(input_shape):
        names = ", ".join(part.name for part in parts)
        reason = f"the model {kind} takes one input, and samples have several: {names}"
        return [Problem("kind", f"{reason}; use your own model, which gets them by name.")]
    model = _parsed(kind, arguments)
    if model.takes_tokens != (vocabulary is not None):
        return [_wrong_inputs(kind, vocabulary)]
    problems = model.check_input(input_shape)
    if not problems and outputs is not None:
        problems = model.check_outputs(input_shape, outputs)
    return problems or _check_size(model.weight_count(input_shape))


def _wrong_inputs(kind: str, vocabulary: int | None) -> Problem:
    """Return the problem of a model that takes tokens instead of numbers, or the reverse."""
    if vocabulary is None:
        way_out = "use a dataset of tokens, such as text or coriolanus, or say inputs: tokens"
        return Problem("kind", f"the model {kind} takes tokens, and inputs are numbers; {way_out}.")
    way_out = "use the model transformer, or your own"
    return Problem("kind", f"the model {kind} takes numbers, and inputs are tokens; {way_out}.")


def _check_size(weights: int) -> list[Problem]:
    """Refuse weights that do not fit into the memory that is free."""
    needed = _WEIGHT_BYTES * weights
    if needed < _SMALL_BYTES or needed < (limit := memory_limit()).free:
        return []
    return [
        Problem(
            "",
            f"the model has at least {weights:,} weights, and {shortage(needed, limit)}. Use fewer "
            "units or layers.",
        )
    ]


def resolve_model(kind: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return all arguments of a model after defaults, as plain values.

    Raises:
        StudyError: `check_model` finds problems.
    """
    if problems := check_model(kind, arguments):
        raise StudyError(problems, f"model '{kind}'")
    return dict(arguments) if is_code(kind) else _parsed(kind, arguments).model_dump(mode="json")


def build_model(
    kind: str,
    arguments: Mapping[str, object],
    *,
    input_shape: Shape,
    classes: int,
    seed: int | None,
    vocabulary: int | None = None,
) -> nn.Module:
    """Build a model in float32 with freshly drawn weights.

    Args:
        kind: a name in `MODELS`, or ``module:function`` for a user-defined model.
        arguments: arguments of the model; missing ones take their defaults.
        input_shape: shape of one sample.
        classes: number of outputs.
        seed: seed of the weights, see `seeded_draws`; None draws from the global generators as they
            stand.
        vocabulary: number of tokens, if inputs are tokens.

    Raises:
        StudyError: the model does not take such samples, or user code failed.
    """
    if problems := check_input_shape(kind, arguments, input_shape, vocabulary, classes):
        raise StudyError(problems, f"model '{kind}'")
    with nullcontext() if seed is None else seeded_draws(seed):
        if is_code(kind):
            return build_from_factory(kind, arguments, input_shape, classes, vocabulary)
        return _parsed(kind, arguments).build_for(input_shape, classes, vocabulary)


def _parsed(kind: str, arguments: Mapping[str, object]) -> ModelArguments:
    return MODELS[kind].arguments.model_validate(dict(arguments))
