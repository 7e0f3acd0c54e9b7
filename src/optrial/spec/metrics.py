"""The catalogue of metrics and probes, and the directions of the metrics of a study.

A direction is never read from a name: `METRICS` holds those of the catalogue, and a study declares
those of user functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

__all__ = [
    "METRICS",
    "PROBES",
    "TRAINING_SECONDS",
    "Direction",
    "Directions",
    "Metric",
    "Probe",
    "Selection",
    "catalogued",
    "default_metrics",
    "label_of",
    "metric_label",
    "probe_of",
    "recorded_as",
    "undeclared",
]

Direction = Literal["lower", "higher"]
"""Which values of a metric are better."""


class Metric(NamedTuple):
    """A metric of the catalogue; `optrial.models.objective` computes it.

    Attributes:
        about: what it is, in a line.
        better: which values are better.
        targets: what it is computed from: class labels or values to predict; "any" for both.
        whole_split: whether it needs all outputs of a split at once; otherwise it is a mean over
            samples, which batches add up to.
        percent: whether it is a fraction that is shown in percent.
    """

    about: str
    better: Direction
    targets: Literal["labels", "values", "any"]
    whole_split: bool = True
    percent: bool = False


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(
        "fraction of samples whose class is predicted", "higher", "labels", False, percent=True
    ),
    "balanced_accuracy": Metric(
        "mean of the recalls of all classes", "higher", "labels", percent=True
    ),
    "f1": Metric("harmonic mean of precision and recall, of class 1 of two", "higher", "labels"),
    "f1_macro": Metric("mean of the F1 scores of all classes", "higher", "labels"),
    "f1_micro": Metric("F1 score of all decisions together", "higher", "labels"),
    "f1_weighted": Metric("mean of the F1 scores, weighted by class size", "higher", "labels"),
    "precision": Metric("precision of class 1 of two", "higher", "labels"),
    "precision_macro": Metric("mean of the precisions of all classes", "higher", "labels"),
    "recall": Metric("recall of class 1 of two", "higher", "labels"),
    "recall_macro": Metric("mean of the recalls of all classes", "higher", "labels"),
    "roc_auc": Metric(
        "area under the ROC curve; of several classes the mean, each against the rest",
        "higher",
        "labels",
    ),
    "average_precision": Metric(
        "area under the precision-recall curve; of several classes the mean, each against the rest",
        "higher",
        "labels",
    ),
    "matthews": Metric("Matthews correlation coefficient", "higher", "labels"),
    "cohen_kappa": Metric("Cohen's kappa", "higher", "labels"),
    "log_loss": Metric("mean cross entropy of the predicted probabilities", "lower", "labels"),
    "brier": Metric("mean squared error of the predicted probabilities", "lower", "labels"),
    "mse": Metric("mean squared error", "lower", "any", False),
    "mae": Metric("mean absolute error", "lower", "any", False),
    "rmse": Metric("root of the mean squared error", "lower", "values"),
    "r2": Metric("coefficient of determination", "higher", "values"),
    "explained_variance": Metric("explained variance", "higher", "values"),
    "mape": Metric("mean absolute error relative to the target", "lower", "values"),
    "msle": Metric("mean squared error of log(1 + value)", "lower", "values"),
    "rmsle": Metric("root of the mean squared error of log(1 + value)", "lower", "values"),
    "median_absolute_error": Metric("median of the absolute errors", "lower", "values"),
    "max_error": Metric("largest absolute error", "lower", "values"),
}
"""Besides these, ``top_5_accuracy`` and the like for any number, and ``module:function``."""

_TOP = re.compile(r"top_([1-9]\d*)_accuracy")
_SPLIT = re.compile(r"(train_eval|train|validation|test)_")


def default_metrics(loss: str) -> tuple[str, ...]:
    """Return the metrics that go with a loss where a study names none."""
    return ("accuracy",) if loss == "cross_entropy" else ()


def metric_label(name: str) -> str:
    """Return the name of a metric in curves and tables: of ``module:function`` the function's."""
    return name.rpartition(":")[2].rpartition(".")[2]


def label_of(metric: str) -> str:
    """Return the label of a recorded metric: ``f1`` of ``test_f1`` and of ``train_f1_epoch``."""
    split = _SPLIT.match(metric)
    label = metric[split.end() :] if split else metric
    return label.removesuffix("_epoch") if split and split[1] == "train" else label


def catalogued(label: str) -> Metric | None:
    """Return the catalogue's metric of a name, ``top_5_accuracy`` included, or None."""
    if top := _TOP.fullmatch(label):
        about = f"fraction of samples whose class is among the {top[1]} largest outputs"
        return Metric(about, "higher", "labels", False, percent=True)
    return METRICS.get(label)


TRAINING_SECONDS = "training_seconds"
"""How long a run was trained: no curve, but what every run that is done can be asked for."""


class Selection(NamedTuple):
    """The metric that selects: settings in tuning, and the weights that `save: best` keeps.

    Attributes:
        metric: name of the metric, on the validation split.
        better: which values of it are better.
    """

    metric: str
    better: Direction

    def merit(self, value: float | None) -> float | None:
        """Return a merit, larger is better; None for a value that is missing or not finite."""
        if value is None or not math.isfinite(value):
            return None
        return value if self.better == "higher" else -value


@dataclass(frozen=True)
class Directions:
    """Directions of the metrics of a study, and the metric that selects.

    Attributes:
        own: label -> declared direction of each metric that is a user function; None where the
            study declares none.
        select: the metric named by ``tune.select``; None for the default.
    """

    own: Mapping[str, Direction | None] = field(default_factory=dict)
    select: str | None = None

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> Directions:
        """Return the directions of a study as a store holds it."""
        problem = study.get("problem") or {}
        is_one = not {"dataset", "metrics"}.isdisjoint(problem)
        entries: list[Mapping[str, Any]] = [
            {"name": entry} if isinstance(entry, str) else entry
            for one in ([problem] if is_one else problem.values())
            for entry in one.get("metrics") or ()
        ]
        own: dict[str, Direction | None] = {
            metric_label(entry["name"]): entry.get("better")
            for entry in entries
            if ":" in entry["name"]
        }
        return cls(own, (study.get("tune") or {}).get("select"))

    def label(self, metric: str) -> str:
        """Return the label of a recorded metric; labels of user functions take precedence."""
        return next((own for own in self.own if metric in recorded_as(own)), label_of(metric))

    def better(self, metric: str) -> Direction | None:
        """Return the direction of a recorded metric; None where nothing declares one."""
        label = self.label(metric)
        if label in self.own:
            return self.own[label]
        if metric == TRAINING_SECONDS or label == "loss":
            return "lower"
        entry = catalogued(label)
        return entry.better if entry else None

    def percent(self, metric: str) -> bool:
        """Whether a metric is an accuracy of the catalogue, a fraction shown in percent."""
        label = self.label(metric)
        entry = None if label in self.own else catalogued(label)
        return entry is not None and entry.percent

    def selection(self, recorded: Iterable[str]) -> Selection | None:
        """Return the metric that selects, or None without one on the validation split.

        The metric is `select`, else the catalogue's accuracy, else the loss.

        Args:
            recorded: names of the metrics of the study.
        """
        known = set(recorded)
        usual = ("validation_accuracy", "validation_loss")
        default = (m for m in usual if m in known and self.label(m) not in self.own)
        metric = self.select or next(default, None)
        better = self.better(metric) if metric else None
        return Selection(metric, better) if metric and better else None

    def declaring(self, metric: str, better: Direction) -> Directions:
        """Return a copy that also declares the direction of one metric.

        Raises:
            ValueError: the metric is known to have the other direction.
        """
        known = self.better(metric)
        if known not in (None, better):
            raise ValueError(f"{metric} is better when {known}, not when {better}")
        return self if known else replace(self, own={**self.own, self.label(metric): better})


def undeclared(metric: str) -> str:
    """Return the start of an error about a metric without a direction; the way out follows."""
    return f"nothing declares whether lower or higher values of {metric} are better"


def recorded_as(label: str) -> set[str]:
    """Return every name under which a metric can be recorded."""
    splits = ("train", "train_eval", "validation", "test")
    return {f"train_{label}_epoch", *(f"{split}_{label}" for split in splits)}


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
