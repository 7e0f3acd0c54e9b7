"""What the name of a metric says: whether large is good, how people read it, what a probe is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PROBES", "TRAINING_SECONDS", "Probe", "higher_is_better", "is_accuracy", "probe_of"]

TRAINING_SECONDS = "training_seconds"
"""How long a run was trained: no curve, but what every run that is done can be asked for."""

_LOWER_IS_BETTER = {
    *("loss", "error", "mse", "rmse", "mae", "perplexity"),
    *("seconds", "time", "to"),  # as in steps_to_target
}


def higher_is_better(metric: str) -> bool:
    """Whether a metric is better when it is larger: no word of its name is a cost."""
    return _LOWER_IS_BETTER.isdisjoint(metric.split("_"))


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a fraction that people read in percent."""
    return "accuracy" in metric.split("_")


class Probe(NamedTuple):
    """A diagnostic that can be measured during training; `optrial.engine.probes` computes it.

    Attributes:
        about: what it is, in a line.
        gradients: what measuring it costs, in gradients of a batch.
        summed: whether it is measured at every step and summed over each epoch.
    """

    about: str
    gradients: float
    summed: bool = False


PROBES: Mapping[str, Probe] = {
    "gradient_norm": Probe("||g||, of the batch's loss, before clipping and weight decay", 1),
    "weight_norm": Probe("||w||, of all parameters, before the step", 0),
    "update_to_weight_ratio": Probe("||change of w|| / ||w||, of one step", 0),
    "effective_learning_rate": Probe(
        "||change of w|| / ||g||: the rate at which plain SGD would go as far", 1
    ),
    "gradient_cosine": Probe("cosine of the angle between this gradient and the step's before", 2),
    "gradient_noise_scale": Probe(
        "trace of the gradients' covariance / ||g||^2, from eighths of the batch: the batch size "
        "beyond which larger ones gain little (McCandlish et al. 2018, B_simple)",
        3,
    ),
    "dead_relu_fraction": Probe("fraction of ReLU units that are 0 for the whole batch", 0.3),
    "relu_gradient_square_sum": Probe(
        "sum over an epoch of the squared gradient that arrives at the inputs of ReLUs", 1.3, True
    ),
    "hessian_eigenvalue": Probe(
        "eigenvalue of largest magnitude of the batch loss's Hessian: 30 power iterations", 60
    ),
}


def probe_of(metric: str) -> Probe | None:
    """Return the probe that recorded a metric, as a whole or of one layer (``probe/layer``)."""
    return PROBES.get(metric.partition("/")[0])
