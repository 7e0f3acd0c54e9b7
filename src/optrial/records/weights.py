"""Trained weights: one safetensors file per run, which holds arrays and no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from optrial.errors import StoreError
from optrial.files import replacing

__all__ = ["WeightFiles"]


_PAIRS = "complex"
"""Metadata key: names of the complex arrays, which are stored as pairs of numbers, (..., 2)."""


class WeightFiles:
    """The folder ``weights`` beside a study's store.

    Args:
        folder: the study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "weights"

    def path(self, run_id: str) -> Path:
        """Return the path of the weights of a run; the file may not exist."""
        return self.folder / f"{run_id}.safetensors"

    def write(self, run_id: str, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the weights of a run, by name; the file appears complete or not at all."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            arrays, pairs = dict(weights), [n for n, a in weights.items() if a.dtype.kind == "c"]
            for name in pairs:  # safetensors lacks some complex types
                arrays[name] = np.stack([arrays[name].real, arrays[name].imag], axis=-1)
            with replacing(self.path(run_id)) as partial:
                save_file(arrays, partial, {_PAIRS: json.dumps(pairs)} if pairs else None)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{self.path(run_id)} cannot be written ({error}).") from error

    def read(self, run_id: str) -> dict[str, NDArray[Any]]:
        """Return the weights of a run, by name.

        Raises:
            StoreError: no weights are saved, or the file is damaged.
        """
        path = self.path(run_id)
        if not path.exists():
            raise StoreError(
                f"no weights of run {run_id} are saved; add 'save: final' (or best) to the study "
                "and run it again."
            )
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                pairs = json.loads((file.metadata() or {}).get(_PAIRS, "[]"))
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path} cannot be read ({error}).") from error
        for name in pairs:
            kind = np.result_type(arrays[name].dtype, np.complex64)
            arrays[name] = np.ascontiguousarray(arrays[name]).view(kind)[..., 0]
        return arrays
