"""Measured speeds, kept for the machine, so that the same question is timed once.

They lie in the user's cache folder, or in OPTRIAL_CACHE; a file that cannot be read or written
only means that they are measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pooch
import torch

__all__ = ["Speeds"]


class Speeds:
    """Seconds by what was timed, on this machine, by these versions of PyTorch and optrial."""

    def __init__(self, device: torch.device) -> None:
        folder = Path(os.environ.get("OPTRIAL_CACHE") or pooch.os_cache("optrial"))
        self._file = folder.expanduser() / "speeds.json"
        on_cuda = device.type == "cuda"
        self._machine = {
            "host": platform.node(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "optrial": version("optrial"),
            "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        }

    def measured(self, what: Mapping[str, Any], measure: Callable[[], list[float]]) -> list[float]:
        """Return the seconds of something JSON-able: those kept, or else measured now and kept."""
        text = json.dumps([self._machine, what], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        kept = self._read().get(key)
        if isinstance(kept, list):
            return [float(value) for value in kept]
        found = measure()
        self._write({**self._read(), key: found})
        return found

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}

    def _write(self, content: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(self._file)
