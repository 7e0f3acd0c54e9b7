"""How large a model is at work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["activation_count"]


@torch.no_grad()
def activation_count(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return how many numbers a model's layers put out for one sample, its inputs included.

    It is measured with one sample of zeros; a model that will not take them counts as its inputs.
    """
    counted = torch.Size(input_shape).numel()
    parameter = next(model.parameters(), torch.zeros(()))
    inputs = torch.zeros((1, *input_shape), device=parameter.device, dtype=parameter.dtype)
    leaves = [module for module in model.modules() if not list(module.children())]

    def count(_module: nn.Module, _inputs: object, outputs: object) -> None:
        nonlocal counted
        if isinstance(outputs, Tensor):
            counted += outputs.numel()

    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    was_training = model.training
    model.eval()
    try:
        model(inputs)
    except Exception:  # noqa: BLE001  the user's model; training will say what is wrong
        pass
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return counted
