"""Roles of the parameters of a model, and the selection of parameters by role or name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from optrial.errors import USER_CODE_ERRORS, suggest
from optrial.models.arguments import Shape
from optrial.models.parameters import trained_parameters

__all__ = ["ROLES", "RoleOfParameter", "matching", "roles_of_parameters", "selector_problem"]

ROLES = {
    "embedding": "tables of embeddings",
    "head": "weight and bias of the last linear layer",
    "norm": "scales and shifts of normalization layers",
    "bias": "biases, those of normalization layers included",
    "vectors": "parameters with fewer than two dimensions",
    "matrices": "parameters with two dimensions",
    "convolutions": "kernels of convolutions",
}
"""Role -> the parameters that have it."""

_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class RoleOfParameter:
    """A trained parameter of a model.

    Attributes:
        name: dotted name in the model.
        shape: its shape.
        roles: its roles, in the order of `ROLES`.
        names: every name of tied weights, the first one included.
    """

    name: str
    shape: tuple[int, ...]
    roles: tuple[str, ...]
    names: tuple[str, ...]


def roles_of_parameters(model: nn.Module, input_shape: Shape) -> dict[str, RoleOfParameter]:
    """Return the trained parameters of a model by name.

    The last linear layer is the last one that is called; of a model that does not take zeros, the
    last one in the order of the modules. Tied weights are one parameter, with the roles of all its
    places.

    Args:
        model: the model, which is left in evaluation mode.
        input_shape: shape of one sample.
    """
    trained = trained_parameters(model)
    names = {id(parameter): name for name, parameter in trained.items()}
    roles: dict[str, set[str]] = {name: set() for name in trained}
    tied: dict[str, list[str]] = {name: [] for name in trained}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            tied[names[id(parameter)]].append(name)
    head = _last_linear(model, input_shape)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in names:
                roles[names[id(parameter)]] |= _roles(module, name, parameter)
                roles[names[id(parameter)]] |= {"head"} if module is head else set()
    return {
        name: RoleOfParameter(
            name,
            tuple(parameter.shape),
            tuple(role for role in ROLES if role in roles[name]),
            tuple(tied[name]),
        )
        for name, parameter in trained.items()
    }


def _roles(module: nn.Module, name: str, parameter: nn.Parameter) -> set[str]:
    """Return the roles of a parameter in one of its modules."""
    kind = type(module).__name__.lower()
    is_vector = parameter.ndim < 2
    tests = {
        "embedding": "embedding" in kind and not is_vector,
        "norm": "norm" in kind and is_vector,
        "bias": is_vector and "bias" in name.split("_"),
        "vectors": is_vector,
        "matrices": parameter.ndim == 2,
        "convolutions": parameter.ndim > 2 and "conv" in kind,
    }
    return {role for role, holds in tests.items() if holds}


def _last_linear(model: nn.Module, input_shape: Shape) -> nn.Module | None:
    """Return the last linear layer that a sample of zeros, or of the token 0, passes."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    called: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: called.append(module)) for module in linear
    ]
    model.eval()  # batch norm takes one sample only then
    for dtype in (torch.float32, torch.int64):
        called.clear()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                model(torch.zeros((1, *input_shape), dtype=dtype))
            break
        except USER_CODE_ERRORS:  # trials of the model report what is wrong
            called.clear()
    for hook in hooks:
        hook.remove()
    return next(reversed(called or linear), None)


def matching(selectors: Iterable[str], parameters: Mapping[str, RoleOfParameter]) -> list[str]:
    """Return the names of the parameters that any of some selectors matches, in their order."""
    selectors = tuple(selectors)
    return [
        name
        for name, parameter in parameters.items()
        if any(_matches(selector, parameter) for selector in selectors)
    ]


def _matches(selector: str, parameter: RoleOfParameter) -> bool:
    if selector in ROLES:
        return selector in parameter.roles
    return any(fnmatchcase(name, selector) for name in parameter.names)


def selector_problem(selector: str, parameters: Mapping[str, RoleOfParameter]) -> str:
    """Return why a selector matches no parameter, with what it could match; "" if it does."""
    if matching([selector], parameters):
        return ""
    names = ", ".join(parameters)
    has = sorted({role for parameter in parameters.values() for role in parameter.roles})
    if selector in ROLES:
        reason = f"no parameter of the model has the role '{selector}'"
    elif _WILDCARDS & set(selector):
        reason = f"no name of a parameter matches '{selector}'"
    elif any(name.startswith(f"{selector}.") for name in parameters):
        reason = f"'{selector}' is a module; write '{selector}.*' for its parameters"
    else:
        known = suggest(selector, [*ROLES, *parameters])
        return f"'{selector}' is neither a role nor a parameter. {known}"
    present = ", ".join(role for role in ROLES if role in has) or "none"
    return f"{reason}; roles in this model: {present}; parameters: {names}."
