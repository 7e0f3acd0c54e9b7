"""Engine name -> learners: the one place that knows every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from optrial.data import Dataset
from optrial.engine.numpy_backprop import NumpyEngine
from optrial.engine.reference import ReferenceEngine, tensor_splits
from optrial.engine.solo import Solo
from optrial.engine.stacked import StackedEngine
from optrial.engine.training import Learner
from optrial.errors import EngineError
from optrial.plan import RunSpec

__all__ = ["learner_factory"]


def learner_factory(
    engine: str, dataset: Dataset, precision: str, device: str = "auto"
) -> Callable[[Sequence[RunSpec]], Learner]:
    """Put the data where an engine wants it and return what builds a learner for each stack.

    Args:
        engine: "reference", "stacked" or "numpy".
        dataset: shared by all runs.
        precision: "float32" or "float64".
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        EngineError: CUDA was asked for where there is none, or of the numpy engine.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise EngineError(f"device '{device}' is unknown; use auto, cpu or cuda.")
    if engine == "numpy":
        if device == "cuda":
            raise EngineError("device 'cuda': the numpy engine runs on the CPU only; use cpu.")
        return lambda specs: Solo(NumpyEngine(_only(specs), dataset))
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise EngineError("device 'cuda': PyTorch finds no CUDA device here; use auto or cpu.")
    place = "cuda" if available and device != "cpu" else "cpu"
    splits = tensor_splits(dataset, precision, place)
    if engine == "stacked":
        return lambda specs: StackedEngine(specs, dataset, splits)
    return lambda specs: Solo(ReferenceEngine(_only(specs), dataset, splits))


def _only(specs: Sequence[RunSpec]) -> RunSpec:
    (spec,) = specs
    return spec
