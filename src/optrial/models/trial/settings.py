"""State of the process that user code may change, and that is the same for every run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["kept_process", "kept_settings"]

_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device": (torch.get_default_device, torch.set_default_device),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.set_float32_matmul_precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "torch.use_deterministic_algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch.autograd.set_detect_anomaly": (
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
    ),
}


@contextmanager
def kept_settings() -> Iterator[list[str]]:
    """Restore the settings on exit; yield a list that then gets one sentence per change."""
    before = {name: read() for name, (read, _) in _SETTINGS.items()}
    changes: list[str] = []
    try:
        yield changes
    finally:
        for name, (read, write) in _SETTINGS.items():
            if read() != before[name]:
                write(before[name])
                changes.append(
                    f"changes the setting of {name} for every run in this process; restore it, or "
                    "change it once, before any training, when the module is imported"
                )


@contextmanager
def kept_process() -> Iterator[list[str]]:
    """Restore what user code changes of the process, so that other runs have their own numbers.

    That is the current folder, the environment, the import path, the streams, warning filters, the
    limit of recursion, NumPy's handling of errors, signal handlers, and the settings of
    `kept_settings`, whose changes are yielded as there.
    """
    folder, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    streams = sys.stdin, sys.stdout, sys.stderr
    limit, floats = sys.getrecursionlimit(), np.geterr()
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings(), kept_settings() as changes:
            yield changes
    finally:
        with suppress(OSError):  # the folder may have been removed
            os.chdir(folder)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.setrecursionlimit(limit)
        np.seterr(**floats)
        for number, handler in handlers.items():
            if is_main and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
