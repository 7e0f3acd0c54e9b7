"""Trained weights: one safetensors file a run, which holds arrays and nothing that could run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from optrial.errors import StoreError

__all__ = ["WeightFiles"]


class WeightFiles:
    """The folder ``weights`` beside a study's store.

    Args:
        folder: the study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "weights"

    def path(self, run_id: str) -> Path:
        """Return where the weights of a run are, or would be."""
        return self.folder / f"{run_id}.safetensors"

    def write(self, run_id: str, weights: Mapping[str, NDArray[Any]]) -> None:
        """Write the weights of a run, by name; the file appears whole or not at all."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self.path(run_id).with_suffix(f".{os.getpid()}")
            save_file(dict(weights), partial)
            partial.replace(self.path(run_id))
        except OSError as error:
            raise StoreError(f"{self.path(run_id)} cannot be written ({error}).") from error

    def read(self, run_id: str) -> dict[str, NDArray[Any]]:
        """Return the weights of a run, by name.

        Raises:
            StoreError: none are saved, or the file is damaged.
        """
        path = self.path(run_id)
        if not path.exists():
            raise StoreError(
                f"no weights of run {run_id} are saved; add 'save: final' (or best) to the study "
                "and run it again."
            )
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path} cannot be read ({error}).") from error
