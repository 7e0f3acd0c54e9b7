"""Trained weights: one safetensors file per run, which holds arrays and no code."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from optrial.errors import StoreError
from optrial.files import flush, make_folder, replacing
from optrial.records.record import Record
from optrial.spec import Status

__all__ = ["WeightFiles", "no_weights"]


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

    def write(self, run_id: str, weights: Mapping[str, NDArray[Any]]) -> str:
        """Write the weights of a run, by name, to the disk, and return the SHA-256 of the file.

        The file appears complete or not at all.

        Raises:
            StoreError: the file cannot be written, as on a full disk.
        """
        try:
            if not self.folder.exists():
                make_folder(self.folder)
                flush(self.folder.parent)
            arrays, pairs = dict(weights), [n for n, a in weights.items() if a.dtype.kind == "c"]
            for name in pairs:  # safetensors lacks some complex types
                arrays[name] = np.stack([arrays[name].real, arrays[name].imag], axis=-1)
            with replacing(self.path(run_id)) as partial:
                save_file(arrays, partial, {_PAIRS: json.dumps(pairs)} if pairs else None)
                return _sha256(partial)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{self.path(run_id)} cannot be written ({error}). Nothing stored so far is lost: "
                f"{self._way_out(error)} and run again to continue."
            ) from error

    def _way_out(self, error: Exception) -> str:
        if self.folder.exists() and not self.folder.is_dir():
            return f"move {self.folder}, which is not a folder, out of the way"
        is_full = not isinstance(error, OSError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "make room" if is_full else "remove the cause"

    def damage(self, run_id: str, sha256: str | None) -> str:
        """Return what is wrong with the weights of a run that saved some, or an empty string.

        Args:
            run_id: id of the run.
            sha256: hash of the file; None if it is not recorded.
        """
        path = self.path(run_id)
        try:
            if not path.exists():
                return "are missing"
            if sha256 is not None and _sha256(path) != sha256:
                return "are not those that it saved"
            with safe_open(path, framework="numpy"):
                return ""
        except (OSError, SafetensorError) as error:
            return f"cannot be read ({error})"

    def read(self, record: Record) -> dict[str, NDArray[Any]]:
        """Return the weights of a run, by name.

        Raises:
            StoreError: the run saved no weights, or the file is missing, damaged or another one.
        """
        if record.spec.save is None or record.status is not Status.DONE:
            raise no_weights(record.run_id)
        path = self.path(record.run_id)
        if problem := self.damage(record.run_id, record.facts.weights_sha256):
            raise StoreError(
                f"the weights of run {record.run_id} {problem}: {path}. Restore the file, or train "
                f"the run again: optrial verify '{self.folder.parent}' --repair"
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


def no_weights(run_id: str) -> StoreError:
    """Return the error that no weights of a run are saved, with the way out."""
    return StoreError(
        f"no weights of run {run_id} are saved; add 'save: final' (or best) to the study and run "
        "it again."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
