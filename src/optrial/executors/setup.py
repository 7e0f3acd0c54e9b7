"""Setup of a worker before its first stack: code, settings, and the engines of each dataset."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cloudpickle

from optrial.code import Transfer
from optrial.data import Dataset
from optrial.engine import ROUNDING, Engines
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
        environment: environment variables that can change rounding, by name.
    """

    code: Transfer
    settings: Mapping[str, Any]
    precision: str
    device: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, code: Mapping[str, str], precision: str, device: str) -> Self:
        """Return the setup of workers that train as this process would."""
        environment = {name: os.environ[name] for name in ROUNDING if name in os.environ}
        return cls(Transfer.of(code), settings(), precision, device, environment)

    def dumps(self) -> bytes:
        """Return the setup as bytes; see `loads`."""
        return bytes(cloudpickle.dumps(self))

    @staticmethod
    def loads(data: bytes) -> WorkerSetup:
        """Return the setup that `dumps` wrote."""
        setup = pickle.loads(data)
        assert isinstance(setup, WorkerSetup)
        return setup

    def engines(self, datasets: Sequence[Dataset]) -> dict[str, Engines]:
        """Prepare this process, and return the engines of each dataset, by its hash.

        Raises:
            EngineError: user code here is other code, or the device is missing.
        """
        self.code.receive()
        apply_settings(self.settings)
        for name in set(ROUNDING) - self.environment.keys():
            os.environ.pop(name, None)  # set by what started this process
        os.environ.update(self.environment)
        return {d.sha256: Engines(d, self.precision, self.device) for d in datasets}
