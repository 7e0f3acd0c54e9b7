"""Provenance, timings and checks that a run records beside its curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import repeat
from operator import attrgetter, call
from typing import TYPE_CHECKING, Any

__all__ = [
    "HASHED_STEPS",
    "Certificate",
    "EvaluationCheck",
    "RunFacts",
    "Scale",
    "Scales",
    "Seconds",
    "TrainingCheck",
]


HASHED_STEPS = 10
"""Number of first steps whose batches are hashed together; a shorter run has another hash."""


@dataclass(frozen=True)
class Seconds:
    """Seconds that a stack of runs took.

    Attributes:
        training: spent on training steps.
        evaluation: spent on evaluations.
    """

    training: float
    evaluation: float

    @property
    def total(self) -> float:
        """Seconds of training and evaluation."""
        return self.training + self.evaluation


@dataclass(frozen=True)
class Certificate:
    """Difference between two computations that should agree.

    Attributes:
        difference: largest difference; None if it is not finite.
        tolerance: the difference that rounding explains.
        steps: number of steps that were compared.
        against: name of the implementation that was compared.
    """

    difference: float | None
    tolerance: float
    steps: int | None = None
    against: str | None = None

    @property
    def fails(self) -> bool:
        """True if the difference exceeds the tolerance or is not finite."""
        return self.difference is None or not self.difference <= self.tolerance


@dataclass(frozen=True)
class TrainingCheck:
    """State of the model during training.

    Attributes:
        evaluation_modules: modules that were in evaluation mode.
    """

    evaluation_modules: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationCheck:
    """State of the model and the process around an evaluation.

    Attributes:
        training_modules: modules that were in training mode during the evaluation.
        buffers_sha256: hash of the buffers before and after.
        generators_sha256: hash of the random generators before and after.
    """

    training_modules: tuple[str, ...]
    buffers_sha256: tuple[str, str]
    generators_sha256: tuple[str, str]

    @property
    def changes_buffers(self) -> bool:
        """True if the evaluation changed the buffers."""
        before, after = self.buffers_sha256
        return before != after

    @property
    def uses_generators(self) -> bool:
        """True if the evaluation drew from the random generators."""
        before, after = self.generators_sha256
        return before != after


@dataclass(frozen=True)
class Scale:
    """Scale of an array of training data.

    Attributes:
        mean: largest absolute mean of a feature.
        std: largest standard deviation of a feature.
        whole: whether all values are whole numbers.
    """

    mean: float
    std: float
    whole: bool


@dataclass(frozen=True)
class Scales:
    """Scales of the training data; None for arrays that are not floating-point."""

    inputs: Scale | None = None
    targets: Scale | None = None


class _Shared:
    """Slots of `RunFacts` that are no facts: where facts come from that are not set yet.

    Attributes:
        _others: other facts.
        _read: returns those that replace some of them; None once all are set.
    """

    __slots__ = ("_others", "_read")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts(_Shared):
    """Facts that a run records beside its curves; None for a fact that was not recorded.

    Attributes:
        versions: version of Python and of each package, by name.
        machine: processor architecture.
        system: operating system.
        cpu_capability: the vector instructions that PyTorch uses, such as "AVX2".
        environment: the environment variables that are set and can change rounding, by name.
        host: name of the machine.
        git_commit: commit of the current folder.
        git_dirty: whether the current folder had uncommitted changes.
        engine: the engine that trained the run.
        device: "cpu" or a CUDA device.
        gpu: the model of that CUDA device, such as "NVIDIA H100 80GB HBM3".
        implementation: the code that computed the update rule.
        threads: number of CPU threads.
        stack_width: number of runs in the stack.
        seconds: time that the whole stack took.
        warm_up_seconds: training time of the first steps beyond their share.
        products: library of the large matrix products of a stack: "onednn", or "default" for
            the one that PyTorch chooses.
        compiled: whether the steps were compiled.
        captured: whether the steps were replayed as a CUDA graph.
        keeps_freed_memory: whether freed memory stayed with the process.
        flushes_denormals: whether denormal numbers counted as 0.
        float32_products: PyTorch's precision of float32 matrix products.
        deterministic_algorithms: whether PyTorch used deterministic algorithms only.
        cudnn_benchmark: whether cuDNN chose its algorithms by timing them.
        input_shape: shape of one sample.
        input_parts: several inputs that are packed into one array; see `PackedShape.as_dict`.
        outputs: number of classes, or of values per sample.
        vocabulary: number of tokens, if inputs are tokens.
        bytes_per_token: mean length of the tokens of a text in bytes, by split.
        split_sizes: number of samples by split.
        split_overlap: number of samples of the second split that are in the first, by
            ``first and second``.
        scale: scales of the training data.
        constant_answer: what the best constant answer scores, by metric; see
            `optrial.engine.constant_answer`.
        decayed_share: share of the parameters that weight decay applies to.
        gradients_per_step: number of gradients of a batch that a step computes for each of its
            batches, on average; a product with the Hessian counts as one.
        initial_parameters_sha256: hash of the initial parameters.
        parameters_sha256: hash of the final parameters.
        first_batches_sha256: hash of the first batches.
        epoch_batches_sha256: hash of the first batches of each of the first epochs.
        first_masks_sha256: hash of the first dropout masks.
        training: state of the model during training.
        evaluation: state of the model and the process around an evaluation.
        timeout: limit, in seconds, that the run has exceeded.
        not_finite: reasons why metrics have no value, by metric.
        load: largest load of the machine during a run with a budget in seconds: processes that
            wanted a core, averaged over a minute, per core.
        stopped_early: the step after which early stopping ended the run.
        saved_step: the step from which the weights were saved.
        weights_sha256: hash of the file of the saved weights.
        evaluation_difference: largest difference between two evaluations of the same weights.
        replicate_difference: largest difference of a loss between two repetitions of some steps.
        stack_certificate: a run of the stack beside the same run trained alone.
        stack_neighbour: a run beside itself with a neighbour whose weights are not finite.
        parity: the update rule beside its counterpart in `torch.optim`.
    """

    versions: Mapping[str, str] | None = None
    machine: str | None = None
    system: str | None = None
    cpu_capability: str | None = None
    environment: Mapping[str, str] | None = None
    host: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    engine: str | None = None
    device: str | None = None
    gpu: str | None = None
    implementation: str | None = None
    threads: int | None = None
    stack_width: int | None = None
    seconds: Seconds | None = None
    warm_up_seconds: float | None = None
    products: str | None = None
    compiled: bool | None = None
    captured: bool | None = None
    keeps_freed_memory: bool | None = None
    flushes_denormals: bool | None = None
    float32_products: str | None = None
    deterministic_algorithms: bool | None = None
    cudnn_benchmark: bool | None = None
    input_shape: tuple[int, ...] | None = None
    input_parts: Mapping[str, Any] | None = None
    outputs: int | None = None
    vocabulary: int | None = None
    bytes_per_token: Mapping[str, float] | None = None
    split_sizes: Mapping[str, int] | None = None
    split_overlap: Mapping[str, int] | None = None
    scale: Scales | None = None
    constant_answer: Mapping[str, float] | None = None
    decayed_share: float | None = None
    gradients_per_step: float | None = None
    initial_parameters_sha256: str | None = None
    parameters_sha256: str | None = None
    first_batches_sha256: str | None = None
    epoch_batches_sha256: tuple[str, ...] | None = None
    first_masks_sha256: str | None = None
    training: TrainingCheck | None = None
    evaluation: EvaluationCheck | None = None
    timeout: float | None = None
    not_finite: Mapping[str, str] | None = None
    load: float | None = None
    stopped_early: int | None = None
    saved_step: int | None = None
    weights_sha256: str | None = None
    evaluation_difference: float | None = None
    replicate_difference: float | None = None
    stack_certificate: Certificate | None = None
    stack_neighbour: Certificate | None = None
    parity: Certificate | None = None

    def deferred(self, read: Callable[[], Mapping[str, object]]) -> RunFacts:
        """Return these facts, replaced by those of `read`, which is called at the first use."""
        facts = object.__new__(RunFacts)
        _SET_OTHERS(facts, self)
        _SET_READ(facts, read)
        return facts

    if not TYPE_CHECKING:  # else every name would pass for a fact

        def __getattr__(self, name: str) -> Any:
            """Set all facts: Python asks here for one that is not set yet."""
            if name not in _SETTER_OF:
                raise AttributeError(f"no fact is called {name!r}", name=name, obj=self)
            values = self._read()
            others = _values(self._others)
            any(map(call, _SETTER_OF.values(), repeat(self), others))  # no setter returns anything
            for own, value in values.items():
                _SETTER_OF[own](self, value)
            _SET_READ(self, None)  # frees the text
            return getattr(self, name)

    @property
    def device_name(self) -> str | None:
        """The model of the GPU, or the device."""
        return self.gpu or self.device

    def __or__(self, other: RunFacts) -> RunFacts:
        """Return these facts, replaced by those that `other` has."""
        values = ((name, getattr(other, name)) for name in _SETTER_OF)
        known = {name: value for name, value in values if value is not None}
        return replace(self, **known)


_SET_READ = _Shared._read.__set__  # type: ignore[attr-defined]
_SET_OTHERS = _Shared._others.__set__  # type: ignore[attr-defined]
_SETTER_OF = {field.name: getattr(RunFacts, field.name).__set__ for field in fields(RunFacts)}
_values = attrgetter(*_SETTER_OF)
