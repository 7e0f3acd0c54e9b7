"""Faults in a copy of RMSprop."""

# ruff: noqa: E501  lines of the sources as they are

from tests.certifying.faults.fault import Fault

FAULTS = [
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
        "scaled gradients averaged",
        "RMSprop",
        "buf.mul_(momentum).addcdiv_(grad, avg)",
        "buf.mul_(momentum).addcdiv_(grad, avg, value=1 - momentum)",
        "momentum",
        "averages gradients in the velocity, where the rule sums them",
    ),
    Fault(
        "rate squared with momentum",
        "RMSprop",
        "param.add_(buf, alpha=-lr)",
        "param.add_(buf, alpha=-lr * lr)",
        "learning rate",
        "lr·g stands in place of g",
    ),
    Fault(
        "centre ignored",
        "RMSprop",
        "if centered:",
        "if False:",
        "rho",
        "`m ← rho·m + (1 − rho)·g` is left out",
        "square_avg.mul_(alpha)",
    ),
    Fault(
        "centre averaged with another rate",
        "RMSprop",
        "grad_avg.lerp_(grad, 1 - alpha)",
        "grad_avg.lerp_(grad, alpha)",
        "equations",
        "g and m are exchanged",
    ),
    Fault(
        "squares started at one",
        "RMSprop",
        'state["square_avg"] = torch.zeros_like(',
        'state["square_avg"] = torch.ones_like(',
        "start",
        "starts r at 1",
    ),
    Fault(
        "squares forgotten",
        "RMSprop",
        "square_avg.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)",
        "square_avg.zero_().addcmul_(grad, grad, value=1 - alpha)",
        "state",
        "does not carry r from step to step",
    ),
    Fault(
        "momentum in float32",
        "RMSprop",
        'state["momentum_buffer"] = torch.zeros_like(\n                        p,',
        'state["momentum_buffer"] = torch.zeros_like(\n                        p, dtype=torch.float32,',
        "precision",
        "rounds to a narrower type",
    ),
    Fault(
        "foreach centred without square",
        "RMSprop",
        "grouped_square_avgs, grouped_grad_avgs, grouped_grad_avgs, value=-1",
        "grouped_square_avgs, grouped_grad_avgs, grouped_grad_avgs, value=-0.5",
        "variant foreach",
        "takes other steps with foreach=True",
    ),
]
