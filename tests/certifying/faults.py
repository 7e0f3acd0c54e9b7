"""Faults of one line each, planted in copies of optimizers, with what a certificate should say."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

TORCH = Path(torch.optim.__file__).parent
HERE = Path(__file__).parent
SOURCES = {
    "Adam": TORCH / "adam.py",
    "SGD": TORCH / "sgd.py",
    "RMSprop": TORCH / "rmsprop.py",
    "Lion": HERE / "plain_lion.py",
    "Muon": TORCH / "_muon.py",
}


class Fault(NamedTuple):
    """A line of a source that is replaced, at its first occurrence after `after`."""

    label: str
    class_name: str
    line: str
    new: str
    name: str  # of the finding
    phrase: str  # in its sentence
    after: str = ""


SINGLE = "def _single_tensor_adam("
FAULTS = [
    Fault(
        "betas exchanged",
        "Adam",
        'beta1, beta2 = group["betas"]',
        'beta2, beta1 = group["betas"]',
        "betas",
        "beta1 and beta2 are exchanged",
    ),
    Fault(
        "decay dropped",
        "Adam",
        "if weight_decay != 0:",
        "if False:",
        "weight decay",
        "ignores weight_decay",
        SINGLE,
    ),
    Fault(
        "eps inside the root",
        "Adam",
        "denom = (exp_avg_sq.sqrt() / bias_correction2_sqrt).add_(eps)",
        "denom = (exp_avg_sq / bias_correction2).add_(eps).sqrt()",
        "epsilon",
        "adds eps inside the root",
        "step = _get_value(step_t)",
    ),
    Fault(
        "correction one step late",
        "Adam",
        "step = _get_value(step_t)",
        "step = _get_value(step_t) + 1",
        "bias correction",
        "t + 1 stands in place of t",
        SINGLE,
    ),
    Fault(
        "second moment lost",
        "Adam",
        "def __setstate__(self, state):",
        "def state_dict(self):\n"
        "        d = super().state_dict()\n"
        "        for s in d['state'].values(): s['exp_avg_sq'] = 0 * s['exp_avg_sq']\n"
        "        return d\n\n"
        "    def __setstate__(self, state):",
        "state_dict",
        'state["exp_avg_sq"] is lost',
    ),
    Fault(
        "lr read once",
        "Adam",
        'lr=group["lr"],',
        'lr=self.defaults["lr"],',
        "changing lr",
        "reads lr once",
        "adam(\n",
    ),
    Fault(
        "group ignored",
        "Adam",
        'weight_decay=group["weight_decay"],',
        'weight_decay=self.param_groups[0]["weight_decay"],',
        "groups: weight_decay",
        "ignores weight_decay of a group",
    ),
    Fault(
        "maximize ignored",
        "Adam",
        "grad = grads[i] if not maximize else -grads[i]",
        "grad = grads[i]",
        "maximize",
        "ignores maximize",
        SINGLE,
    ),
    Fault(
        "gradients changed",
        "Adam",
        "grad = grad.add(param, alpha=weight_decay)",
        "grad = grad.add_(param, alpha=weight_decay)",
        "gradients",
        "changes the gradients in place with weight_decay",
        "else:\n                    grad = grad.add(param",
    ),
    Fault(
        "momentum forgotten",
        "Adam",
        "exp_avg.lerp_(grad, 1 - device_beta1)",
        "exp_avg.zero_().lerp_(grad, 1 - device_beta1)",
        "state",
        "does not carry m from step to step",
        SINGLE,
    ),
    Fault(
        "decay of matrices only",
        "Adam",
        "if weight_decay != 0:",
        "if weight_decay != 0 and param.ndim > 1:",
        "weight decay",
        "ignores weight_decay, for vectors and scalars",
        SINGLE,
    ),
    Fault(
        "default changed",
        "Adam",
        "eps: float = 1e-8,",
        "eps: float = 1e-7,",
        "defaults",
        "has eps=1e-07 by default",
    ),
    Fault(
        "foreach differs",
        "Adam",
        "torch._foreach_add_(exp_avg_sq_sqrt, eps)",
        "torch._foreach_add_(exp_avg_sq_sqrt, 2 * eps)",
        "variant foreach",
        "takes other steps with foreach=True",
        "bias_correction2_sqrt = [",
    ),
    Fault(
        "closure called twice",
        "Adam",
        "loss = closure()",
        "loss = closure(); loss = closure()",
        "closure",
        "calls the closure 2 times",
    ),
    Fault(
        "maximum forgotten",
        "Adam",
        "torch.maximum(max_exp_avg_sqs[i], exp_avg_sq, out=max_exp_avg_sqs[i])",
        "max_exp_avg_sqs[i].copy_(exp_avg_sq)",
        "state",
        "does not carry w from step to step",
        SINGLE,
    ),
    Fault(
        "momentum averaged",
        "SGD",
        "buf.mul_(momentum).add_(grad, alpha=1 - dampening)",
        "buf.mul_(momentum).add_(grad, alpha=1 - momentum)",
        "momentum",
        "averages gradients in the velocity, which starts at the first gradient",
    ),
    Fault(
        "nesterov without momentum",
        "SGD",
        "grad = grad.add(buf, alpha=momentum)",
        "grad = grad.add(buf)",
        "momentum",
        "1 stands in place of momentum",
    ),
    Fault(
        "buffer is the gradient",
        "SGD",
        "buf = grad.detach().clone()",
        "buf = grad.detach()",
        "gradients",
        "",
    ),
    Fault(
        "sign of decay",
        "SGD",
        "grad = grad.add(param, alpha=weight_decay)",
        "grad = grad.add(param, alpha=-weight_decay)",
        "weight decay",
        "reverses the sign of weight_decay",
        "else:\n                grad = grad.add(param",
    ),
    Fault(
        "alpha complemented",
        "RMSprop",
        "square_avg.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)",
        "square_avg.mul_(1 - alpha).addcmul_(grad, grad, value=alpha)",
        "rho",
        "1 − rho stands in place of rho",
    ),
    Fault(
        "centre not squared",
        "RMSprop",
        "avg = square_avg.addcmul(grad_avg, grad_avg, value=-1).sqrt_()",
        "avg = square_avg.sub(grad_avg).abs_().sqrt_()",
        "equations",
        "departs from rmsprop",
    ),
    Fault(
        "eps ignored",
        "RMSprop",
        "avg = avg.add_(eps)",
        "avg = avg.add_(1e-8)",
        "eps",
        "ignores eps, which stays at 1e-08",
    ),
    Fault(
        "sign dropped",
        "Lion",
        'p.add_(update.sign(), alpha=-group["lr"])',
        'p.add_(update, alpha=-group["lr"])',
        "equations",
        "sign is left out",
    ),
    Fault(
        "average updated before the step",
        "Lion",
        "update = exp_avg.mul(beta1).add(grad, alpha=1 - beta1)",
        "exp_avg.lerp_(grad, 1 - beta2); update = exp_avg.lerp(grad, 1 - beta1)",
        "equations",
        "",
    ),
    Fault(
        "betas exchanged",
        "Lion",
        'beta1, beta2 = group["betas"]',
        'beta2, beta1 = group["betas"]',
        "betas",
        "beta1 and beta2 are exchanged",
    ),
    Fault(
        "decay not scaled by lr",
        "Lion",
        'p.mul_(1 - group["lr"] * group["weight_decay"])',
        'p.mul_(1 - group["weight_decay"])',
        "weight decay",
        "shrinks the weights by weight_decay, not by lr·weight_decay",
    ),
    Fault(
        "no momentum ahead",
        "Muon",
        "update = grad.lerp(buf, momentum) if nesterov else buf",
        "update = buf",
        "momentum",
        "1 stands in place of momentum",
    ),
    Fault(
        "coefficient mistyped",
        "Muon",
        "DEFAULT_B = -4.7750",
        "DEFAULT_B = -4.7570",
        "equations",
        "",
    ),
    Fault(
        "one iteration less",
        "Muon",
        "for _ in range(ns_steps):",
        "for _ in range(ns_steps - 1):",
        "equations",
        "the iteration runs 4 times, not 5",
    ),
    Fault(
        "scale of the wrong side",
        "Muon",
        "adjusted_ratio = math.sqrt(max(1, A / B))",
        "adjusted_ratio = math.sqrt(max(1, B / A))",
        "equations",
        "",
    ),
    Fault(
        "decay dropped",
        "Muon",
        "param.mul_(1 - lr * weight_decay)",
        "param.mul_(1)",
        "weight decay",
        "ignores weight_decay",
    ),
]

_numbers = itertools.count()


def planted(fault: Fault | str, folder: Path) -> tuple[str, type[torch.optim.Optimizer]]:
    """The name and the class of a copy with a fault; of a plain copy for the name of a class."""
    class_name = fault if isinstance(fault, str) else fault.class_name
    text = SOURCES[class_name].read_text(encoding="utf-8")
    text = text.replace("from .optimizer import", "from torch.optim.optimizer import")
    if isinstance(fault, Fault):
        place = text.index(fault.after) if fault.after else 0
        assert fault.line in text[place:], fault
        text = text[:place] + text[place:].replace(fault.line, fault.new, 1)
    name = f"planted_{next(_numbers)}"
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return f"{name}:{class_name}", getattr(imported(name, file), class_name)


def imported(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
