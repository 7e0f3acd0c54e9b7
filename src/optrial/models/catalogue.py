"""Model name -> module: the catalogue, its checks and the one place that builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from optrial.errors import Problem, StudyError, problems_of, suggest
from optrial.models.initialization import Initialization, initialize
from optrial.models.mlp import MLPArguments, mlp

__all__ = ["MODELS", "ModelEntry", "build_model", "check_model", "resolve_model"]


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        summary: one line for `optrial list models`.
        arguments: a frozen pydantic model; its field `initialization` is applied by `build_model`.
        stackable: arguments in which runs that are trained as one stack may differ.
        build: maps (arguments, input shape without batch, number of classes) to a module.
    """

    name: str
    summary: str
    arguments: type[BaseModel]
    stackable: frozenset[str]
    build: Callable[[Any, tuple[int, ...], int], nn.Module]


MODELS: Mapping[str, ModelEntry] = {
    "mlp": ModelEntry(
        "mlp",
        "multi-layer perceptron: hidden sizes, activation, input and hidden dropout, bias",
        MLPArguments,
        frozenset({"dropout", "input_dropout", "initialization"}),
        mlp,
    ),
}


def check_model(kind: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a model's name and arguments."""
    if kind not in MODELS:
        return [Problem("kind", f"'{kind}' is not a model. {suggest(kind, MODELS)}")]
    schema = MODELS[kind].arguments
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return problems_of(error, schema.model_fields)
    return []


def resolve_model(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a model after defaults, as plain values.

    Raises:
        StudyError: for what `check_model` finds.
    """
    if problems := check_model(kind, arguments):
        raise StudyError(problems, f"model '{kind}'")
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
        kind: a name in `MODELS`.
        arguments: its arguments; those left out take their defaults.
        input_shape: shape of one sample.
        classes: number of outputs.
        seed: draws the weights under ``torch.manual_seed(seed)`` and puts the global generator
            back as it was; None draws from the global generator as it stands.
    """
    entry = MODELS[kind]
    parsed = entry.arguments.model_validate(dict(arguments))
    initialization: Initialization = parsed.initialization  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = entry.build(parsed, input_shape, classes)
        initialize(model, initialization)
    return model
