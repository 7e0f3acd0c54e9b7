"""What a worker needs before its first stack: code, settings, and the engines of each dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from optrial.code import Transfer
from optrial.data import Dataset
from optrial.engine import Engines
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Update
from optrial.models import apply_settings, settings

__all__ = ["WorkerSetup"]


@dataclass(frozen=True)
class WorkerSetup:
    """Everything that all stacks of a study share, except the data.

    Attributes:
        code: user code.
        settings: settings of PyTorch that change numbers, by name.
        precision: "float32", "bfloat16" or "float64".
        device: "auto", "cpu" or "cuda".
        timeout: seconds that a run may take; None for no limit.
    """

    code: Transfer
    settings: Mapping[str, Any]
    precision: str
    device: str
    timeout: float | None

    @classmethod
    def of(
        cls, code: Mapping[str, str], precision: str, device: str, timeout: float | None
    ) -> Self:
        """Return the setup of workers that train as this process would."""
        return cls(Transfer.of(code), settings(), precision, device, timeout)

    def trainer(self, datasets: Sequence[Dataset], tell: Callable[[Update], object]) -> Trainer:
        """Prepare this process, and return what trains stacks in it.

        Args:
            datasets: the datasets of the study.
            tell: see `Trainer`.

        Raises:
            EngineError: user code here is other code, or the device is missing.
        """
        self.code.receive()
        apply_settings(self.settings)
        engines = {d.sha256: Engines(d, self.precision, self.device) for d in datasets}
        return Trainer(engines, self.timeout, tell)
