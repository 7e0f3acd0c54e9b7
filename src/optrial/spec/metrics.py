"""Metrics and probes: their catalogue, the names of their records, and which values are better.

A direction is never guessed from a name: `METRICS` holds the directions of the catalogue, and a
study declares those of user functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean
from typing import Any, ClassVar, Literal, NamedTuple

__all__ = [
    "METRICS",
    "PER_TOKEN",
    "PROBES",
    "RUNNING_MEAN",
    "TRAINING_SECONDS",
    "UNBOUNDED",
    "Direction",
    "Directions",
    "Metric",
    "MetricName",
    "Probe",
    "Selection",
    "SettingScore",
    "catalogued",
    "has_units",
    "metric_label",
    "metric_title",
    "top_count",
    "undeclared",
]

Direction = Literal["lower", "higher"]
"""Values of a metric that are better."""

UNBOUNDED = -math.inf, math.inf
"""Least and greatest value of a metric whose bounds are not known."""


class Metric(NamedTuple):
    """A metric of the catalogue; `optrial.models.objective` computes it.

    Attributes:
        about: description in one line.
        targets: targets that it accepts: class labels, values to predict, or "any".
        whole_split: whether it needs all outputs of a split at once; otherwise it is a mean over
            samples, summed batch by batch.
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
        "area under the ROC curve; with several classes, the one-vs-rest mean",
        "higher",
        "labels",
    ),
    "average_precision": Metric(
        "area under the precision-recall curve; with several classes, the one-vs-rest mean",
        "higher",
        "labels",
    ),
    "matthews": Metric("Matthews correlation coefficient", "higher", "labels"),
    "cohen_kappa": Metric("Cohen's kappa", "higher", "labels"),
    "log_loss": Metric("mean cross entropy of the predicted probabilities", "lower", "labels"),
    "brier": Metric("mean squared error of the predicted probabilities", "lower", "labels"),
    "perplexity": Metric(
        "exponential of the mean cross entropy per position", "lower", "labels", False
    ),
    "bits_per_token": Metric("mean cross entropy per position in bits", "lower", "labels", False),
    "bits_per_byte": Metric(
        "cross entropy of a text in bits, divided by its bytes", "lower", "labels", False
    ),
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
    "poisson_deviance": Metric("mean Poisson deviance", "lower", "values"),
}
"""The named metrics; ``top_k_accuracy`` (any k) and ``module:function`` are metrics, too."""

PER_TOKEN = ("perplexity", "bits_per_token", "bits_per_byte")
"""Metrics that are computed from the mean cross entropy over positions."""

RUNNING_MEAN = "_running_mean"
"""End of the name of a mean over all steps so far, which some scripts print: of ``train_loss``,
``train_loss_running_mean``."""

_ORDERED_ALIKE = (
    ("cross_entropy", "log_loss", *PER_TOKEN),
    ("mse", "rmse"),
    ("msle", "rmsle"),
)
"""Losses and metrics that increase with each other, so that they order runs in the same way."""


def ordered_alike(first: str, second: str, loss: str) -> bool:
    """Return whether two metrics order runs in the same way.

    Args:
        first: the label of a metric, or "loss".
        second: another one.
        loss: name of the loss; empty if it has arguments, which give it another order.
    """
    labels = {loss if label == "loss" else label for label in (first, second)}
    return len(labels) == 1 or any(labels <= set(alike) for alike in _ORDERED_ALIKE)


_TOP = re.compile(r"top_([1-9]\d*)_accuracy")


_WITHOUT_UNITS = ("r2", "explained_variance")


def has_units(name: str) -> bool:
    """Return whether a metric of the catalogue depends on the units of the values."""
    metric = catalogued(name)
    return metric is not None and metric.targets != "labels" and name not in _WITHOUT_UNITS


def metric_label(name: str) -> str:
    """Return the label of a metric in curves and tables: ``f1`` for ``module:f1``."""
    return name.rpartition(":")[2].rpartition(".")[2]


def top_count(label: str) -> int | None:
    """Return the 5 of ``top_5_accuracy``; None for another metric."""
    top = _TOP.fullmatch(label)
    return int(top[1]) if top else None


def catalogued(label: str) -> Metric | None:
    """Return the metric of the catalogue with this label (``top_5_accuracy``, too), or None."""
    if top := top_count(label):
        about = f"fraction of samples whose class is among the {top} largest outputs"
        return Metric(about, "higher", "labels", False, percent=True)
    return METRICS.get(label)


_SPELLED = {
    "auc": "AUC",
    "f1": "F1",
    "mae": "MAE",
    "mape": "MAPE",
    "mse": "MSE",
    "msle": "MSLE",
    "r2": "R²",
    "relu": "ReLU",
    "rmse": "RMSE",
    "rmsle": "RMSLE",
    "roc": "ROC",
}


def _words(label: str) -> str:
    """Return the label of a metric or probe of the catalogue in words; others as they are."""
    if label == TRAINING_SECONDS:
        return "training time (s)"
    if top := top_count(label):
        return f"top-{top} accuracy"
    if label not in METRICS and label not in PROBES:
        return label
    return " ".join(_SPELLED.get(word, word) for word in label.split("_"))


TRAINING_SECONDS = "training_seconds"
"""Seconds of training; a value of every completed run, without a curve."""

MetricSplit = Literal["train", "train_eval", "validation", "test"]
"""Samples that a metric is measured on: ``train`` are the batches of training, each before its
update; the others are whole splits, evaluated with fixed weights."""


@dataclass(frozen=True, slots=True)
class MetricName:
    """The name under which a metric or a probe is recorded; `str` gives it as text.

    Attributes:
        label: ``loss``, or the label of a metric; without a split, the whole name: a probe
            (``probe`` or ``probe/layer``) or ``training_seconds``.
        split: the samples; None for probes and ``training_seconds``.
        epoch_mean: whether it is the mean over the batches of an epoch.
        raw: whether it was evaluated at the weights of a run that is evaluated at their average.
    """

    _SPLITS: ClassVar[tuple[MetricSplit, ...]] = ("train_eval", "train", "validation", "test")

    label: str
    split: MetricSplit | None = None
    epoch_mean: bool = False
    raw: bool = False

    def __str__(self) -> str:
        start = f"{self.split}_" if self.split else ""
        return f"{start}{self.label}{'_epoch' * self.epoch_mean}{'_raw' * self.raw}"

    @classmethod
    def parse(cls, text: str, user_labels: Iterable[str] = ()) -> MetricName:
        """Return the name that a text stands for.

        Args:
            text: such as ``test_f1``, ``train_f1_epoch`` or ``gradient_norm/layer``.
            user_labels: labels of user functions, which take precedence: with ``eval_f1`` among
                them, ``train_eval_f1`` is a metric of batches.
        """
        names = (name for label in user_labels for name in cls.possible(label))
        if known := next((name for name in names if str(name) == text), None):
            return known
        return cls._catalogued(text)

    @classmethod
    @lru_cache(1024)  # analyses parse the names of every run
    def _catalogued(cls, text: str) -> MetricName:
        for split in cls._SPLITS:
            label = text.removeprefix(f"{split}_")
            if label != text:
                if split == "train":
                    mean = label.endswith("_epoch")
                    return cls(label.removesuffix("_epoch"), split, mean)
                return cls(label.removesuffix("_raw"), split, raw=label.endswith("_raw"))
        return cls(text)

    @classmethod
    def evaluation(cls, label: str, split: str, *, raw: bool = False) -> MetricName:
        """Return the name of a metric evaluated on a split of the dataset."""
        # "train_loss" is the loss of each batch, so the whole training split has another name.
        recorded = "train_eval" if split == "train" else split
        return cls(label, next(known for known in cls._SPLITS if known == recorded), raw=raw)

    @classmethod
    def possible(cls, label: str) -> list[MetricName]:
        """Return every name under which a metric with this label can be recorded."""
        plain = [cls(label, split) for split in cls._SPLITS]
        raw = [cls(label, split, raw=True) for split in cls._SPLITS if split != "train"]
        return [cls(label, "train", epoch_mean=True), *plain, *raw]

    @property
    def title(self) -> str:
        """The name for people: ``training loss (epoch mean)``, ``test ROC AUC``."""
        if self.split is None:
            name, _, layer = self.label.partition("/")
            return _words(name) + (f" ({layer})" if layer else "")
        split = "training" if self.of_training else self.split
        label = self.label.removesuffix(RUNNING_MEAN) if self.of_batches else self.label
        batches = "epoch mean" if self.epoch_mean else "per batch"
        kinds = {
            "train": f" ({batches if label == self.label else 'running mean'})",
            "train_eval": " (evaluated)",
        }
        weights = " (raw weights)" * self.raw
        return f"{split} {_words(label)}{kinds.get(self.split, '')}{weights}"

    @property
    def is_loss(self) -> bool:
        """True for the loss of the study."""
        return self.label == "loss"

    @property
    def evaluated(self) -> bool:
        """True if it was evaluated on a whole split."""
        return self.split is not None and not self.of_batches

    @property
    def of_batches(self) -> bool:
        """True if it was measured on training batches, or is a mean over these."""
        return self.split == "train"

    @property
    def of_training(self) -> bool:
        """True if it was measured on training samples."""
        return self.split in ("train", "train_eval")

    @property
    def probe(self) -> str | None:
        """Name of the probe, without the layer; None for a metric."""
        name = self.label.partition("/")[0]
        return name if self.split is None and name in PROBES else None


class Selection(NamedTuple):
    """The metric that selects settings in tuning, and the weights that `save: best` keeps.

    Attributes:
        metric: name of the metric, on the validation split.
        better: which values of it are better.
    """

    metric: str
    better: Direction

    def score(self, value: float | None) -> float | None:
        """Return the score of a value, higher is better; None if it is missing or not finite."""
        if value is None or not math.isfinite(value):
            return None
        return value if self.better == "higher" else -value


class SettingScore(NamedTuple):
    """Score of a setting over its runs; higher is better. One more success outweighs any mean.

    Attributes:
        succeeded: number of runs that have a score.
        mean: mean of their scores; 0 if there are none.
    """

    succeeded: int
    mean: float

    @classmethod
    def of(cls, scores: Iterable[float | None]) -> SettingScore:
        """Return the score of a setting from those of its runs; None for a run without one."""
        finite = [score for score in scores if score is not None]
        return cls(len(finite), fmean(finite) if finite else 0.0)


@dataclass(frozen=True)
class Directions:
    """Directions of the metrics of a study, and the metric that selects.

    Attributes:
        user_metrics: label -> direction of each metric that is a user function; None if the study
            declares no direction.
        select: the metric named by ``tune.select``; None for the default.
    """

    user_metrics: Mapping[str, Direction | None] = field(default_factory=dict)
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
        user_metrics: dict[str, Direction | None] = {
            metric_label(entry["name"]): entry.get("better")
            for entry in entries
            if ":" in entry["name"]
        }
        return cls(user_metrics, (study.get("tune") or {}).get("select"))

    def parse(self, metric: str) -> MetricName:
        """Return the name of a recorded metric; labels of user functions take precedence."""
        return MetricName.parse(metric, self.user_metrics)

    def better(self, metric: str) -> Direction | None:
        """Return the direction of a recorded metric, or None if it is unknown."""
        name = self.parse(metric)
        if name.label in self.user_metrics:
            return self.user_metrics[name.label]
        if metric == TRAINING_SECONDS or name.is_loss:
            return "lower"
        entry = catalogued(name.label)
        return entry.better if entry else None

    def percent(self, metric: str) -> bool:
        """Return True for an accuracy of the catalogue, a fraction shown in percent."""
        label = self.parse(metric).label
        entry = None if label in self.user_metrics else catalogued(label)
        return entry is not None and entry.percent

    def bounds(self, metric: str) -> tuple[float, float]:
        """Return the least and greatest possible value of a metric."""
        return (0.0, 1.0) if self.percent(metric) else UNBOUNDED

    def title(self, metric: str) -> str:
        """Return the name of a recorded metric for people, without its unit."""
        return self.parse(metric).title

    def heading(self, metric: str) -> str:
        """Return the name of a recorded metric with its unit, for an axis or a column."""
        return self.title(metric) + " (%)" * self.percent(metric)

    def shown(self, metric: str, value: float) -> str:
        """Return a value of a metric with four digits and its unit: ``97.1 %``."""
        return f"{100 * value:.4g} %" if self.percent(metric) else f"{value:.4g}"

    def selection(self, recorded: Iterable[str]) -> Selection | None:
        """Return the metric that selects: `select`, else the accuracy, else the validation loss.

        None if the study does not evaluate on the validation split, or if the direction of `select`
        is unknown.

        Args:
            recorded: names of the metrics of the study.
        """
        known = set(recorded)
        usual = ("validation_accuracy", "validation_loss")
        default = (m for m in usual if m in known and self.parse(m).label not in self.user_metrics)
        metric = self.select or next(default, None)
        better = self.better(metric) if metric else None
        return Selection(metric, better) if metric and better else None

    def declaring(self, metric: str, better: Direction) -> Directions:
        """Return a copy that also declares the direction of one metric.

        Raises:
            ValueError: the metric has the other direction.
        """
        known = self.better(metric)
        if known not in (None, better):
            raise ValueError(f"{metric} is better when {known}, not when {better}")
        if known:
            return self
        return replace(self, user_metrics={**self.user_metrics, self.parse(metric).label: better})


def metric_title(metric: str) -> str:
    """Return the name of a recorded metric for people; see `MetricName.title`."""
    return MetricName.parse(metric).title


def undeclared(metric: str) -> str:
    """Return the start of an error about a metric without a direction."""
    return f"the study does not declare whether lower or higher values of {metric} are better"


class Probe(NamedTuple):
    """A diagnostic that can be measured during training; `optrial.engine.probes` computes it.

    Attributes:
        about: description in one line.
        gradients: cost of a measurement, in gradients of a batch.
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
    "active_relu_fraction": Probe("fraction of the inputs of ReLUs that are above 0", 0.3),
    "relu_gradient_square_sum": Probe(
        "sum over an epoch of the squared gradient that arrives at the inputs of ReLUs", 1.3, True
    ),
    "hessian_eigenvalue": Probe(
        "eigenvalue of largest magnitude of the batch loss's Hessian: 30 power iterations", 60
    ),
}
