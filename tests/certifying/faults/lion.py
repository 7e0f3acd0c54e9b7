"""Faults in a copy of Lion."""

# ruff: noqa: E501  lines of the sources as they are

from tests.certifying.faults.fault import Fault

FAULTS = [
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
        "beta2",
        "is carried out twice",
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
        "sign of the average",
        "Lion",
        "update = exp_avg.mul(beta1).add(grad, alpha=1 - beta1)",
        "update = exp_avg.mul(beta2).add(grad, alpha=1 - beta2)",
        "betas",
        "beta2 stands in place of beta1",
    ),
    Fault(
        "decay after the step",
        "Lion",
        'p.mul_(1 - group["lr"] * group["weight_decay"])\n                update = exp_avg.mul(beta1).add(grad, alpha=1 - beta1)\n                p.add_(update.sign(), alpha=-group["lr"])',
        'update = exp_avg.mul(beta1).add(grad, alpha=1 - beta1)\n                p.add_(update.sign(), alpha=-group["lr"])\n                p.mul_(1 - group["lr"] * group["weight_decay"])',
        "weight decay",
        "after the step",
    ),
    Fault(
        "zero has a sign",
        "Lion",
        'p.add_(update.sign(), alpha=-group["lr"])',
        'p.add_(torch.where(update >= 0, 1.0, -1.0), alpha=-group["lr"])',
        "equations",
        "takes 1 for the sign of 0",
    ),
    Fault(
        "tanh for sign",
        "Lion",
        'p.add_(update.sign(), alpha=-group["lr"])',
        'p.add_(update.tanh(), alpha=-group["lr"])',
        "equations",
        "departs from lion",
    ),
    Fault(
        "average in the gradient's memory",
        "Lion",
        'state["exp_avg"] = torch.zeros_like(p)',
        'state["exp_avg"] = grad.mul_(0)',
        "gradients",
        "changes the gradients in place",
    ),
    Fault(
        "average forgotten", "Lion", "if not state:", "if True:", "beta1", "computes with beta1 = 0"
    ),
    Fault(
        "average of signs",
        "Lion",
        "exp_avg.mul_(beta2).add_(grad, alpha=1 - beta2)",
        "exp_avg.mul_(beta2).add_(grad.sign(), alpha=1 - beta2)",
        "equations",
        "sign(g) stands in place of g",
    ),
    Fault(
        "lr not kept in groups",
        "Lion",
        '{"lr": lr, "betas": betas, "weight_decay": weight_decay}',
        '{"lr": 1e-4, "betas": betas, "weight_decay": weight_decay}',
        "learning rate",
        "ignores lr",
    ),
    Fault(
        "decay at the first rate",
        "Lion",
        'p.mul_(1 - group["lr"] * group["weight_decay"])',
        'p.mul_(1 - group.get("initial_lr", group["lr"]) * group["weight_decay"])',
        "schedulers",
        "takes different steps with a scheduler",
    ),
    Fault(
        "missing gradients end the step",
        "Lion",
        "continue",
        "return loss",
        "missing gradients",
        "does not move a parameter where the one before it has no gradient",
    ),
    Fault(
        "decay towards 1",
        "Lion",
        'p.mul_(1 - group["lr"] * group["weight_decay"])',
        'p.sub_(p - 1, alpha=group["lr"] * group["weight_decay"])',
        "weight decay",
        "takes different steps from the rule with decoupled weight decay",
    ),
]
