"""Optimizers without a class in PyTorch, written plainly, for faults to be planted in a copy."""

import torch


class Plain(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                s = self.state[p]
                if not s:
                    s["step"] = torch.tensor(0.0)
                    self.start(p, s, group)
                s["step"] += 1
                self.one(p, p.grad, s, group, s["step"].item())
        return loss


class Adan(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def start(self, p, s, g):
        s["m"], s["d"], s["n"] = (torch.zeros_like(p) for _ in range(3))
        s["h"] = p.grad.clone()

    def one(self, p, grad, s, g, t):
        b1, b2, b3 = g["betas"]
        diff = grad - s["h"]
        s["m"].mul_(b1).add_(grad, alpha=1 - b1)
        s["d"].mul_(b2).add_(diff, alpha=1 - b2)
        look = grad + b2 * diff
        s["n"].mul_(b3).addcmul_(look, look, value=1 - b3)
        c1, c2, c3 = 1 - b1**t, 1 - b2**t, 1 - b3**t
        denom = (s["n"] / c3).sqrt() + g["eps"]
        update = (s["m"] / c1 + b2 * s["d"] / c2) / denom
        p.sub_(g["lr"] * update)
        p.div_(1 + g["lr"] * g["weight_decay"])
        s["h"].copy_(grad)


class ADOPT(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def start(self, p, s, g):
        s["m"], s["v"] = torch.zeros_like(p), torch.zeros_like(p)

    def one(self, p, grad, s, g, t):
        b1, b2 = g["betas"]
        if g["weight_decay"]:
            grad = grad.add(p, alpha=g["weight_decay"])
        if t == 1:
            s["v"].copy_(grad * grad)
            return
        d = grad / s["v"].sqrt().clamp(min=g["eps"])
        clip = (t - 1) ** 0.25
        d = d.clamp(-clip, clip)
        s["m"].lerp_(d, 1 - b1)
        p.add_(s["m"], alpha=-g["lr"])
        s["v"].mul_(b2).addcmul_(grad, grad, value=1 - b2)


class Lamb(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def start(self, p, s, g):
        s["m"], s["v"] = torch.zeros_like(p), torch.zeros_like(p)

    def one(self, p, grad, s, g, t):
        b1, b2 = g["betas"]
        s["m"].lerp_(grad, 1 - b1)
        s["v"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
        d = (s["m"] / (1 - b1**t)) / ((s["v"] / (1 - b2**t)).sqrt() + g["eps"])
        d = d + g["weight_decay"] * p
        size, length = p.norm(), d.norm()
        ratio = size / length if size > 0 and length > 0 else 1.0
        p.sub_(g["lr"] * ratio * d)


class AdaBelief(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def start(self, p, s, g):
        s["m"], s["s"] = torch.zeros_like(p), torch.zeros_like(p)

    def one(self, p, grad, s, g, t):
        b1, b2 = g["betas"]
        p.mul_(1 - g["lr"] * g["weight_decay"])
        s["m"].mul_(b1).add_(grad, alpha=1 - b1)
        res = grad - s["m"]
        s["s"].mul_(b2).addcmul_(res, res, value=1 - b2).add_(g["eps"])
        c1, c2 = 1 - b1**t, 1 - b2**t
        denom = (s["s"] / c2).sqrt().add_(g["eps"])
        p.addcdiv_(s["m"], denom, value=-g["lr"] / c1)


class AdEMAMix(Plain):
    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999, 0.9999),
        alpha=5.0,
        eps=1e-8,
        weight_decay=0.0,
    ):
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "alpha": alpha, "eps": eps, "weight_decay": weight_decay},
        )

    def start(self, p, s, g):
        s["m"], s["s"], s["v"] = (torch.zeros_like(p) for _ in range(3))

    def one(self, p, grad, s, g, t):
        b1, b2, b3 = g["betas"]
        p.mul_(1 - g["lr"] * g["weight_decay"])
        s["m"].lerp_(grad, 1 - b1)
        s["s"].lerp_(grad, 1 - b3)
        s["v"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
        denom = (s["v"] / (1 - b2**t)).sqrt() + g["eps"]
        p.sub_(g["lr"] * (s["m"] / (1 - b1**t) + g["alpha"] * s["s"]) / denom)


class Signum(Plain):
    def __init__(self, params, lr=1e-4, momentum=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def start(self, p, s, g):
        s["m"] = torch.zeros_like(p)

    def one(self, p, grad, s, g, t):
        p.mul_(1 - g["lr"] * g["weight_decay"])
        s["m"].mul_(g["momentum"]).add_(grad, alpha=1 - g["momentum"])
        p.add_(s["m"].sign(), alpha=-g["lr"])
