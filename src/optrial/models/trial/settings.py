"""State of the process that user code may change, and that is the same for every run."""

from __future__ import annotations

import locale
import os
import random
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

from optrial.descriptors import kept_descriptors
from optrial.interruption import STOPPING

__all__ = ["apply_settings", "changed_settings", "kept_process", "kept_settings", "settings"]

_Setting = tuple[Callable[[], Any], Callable[[Any], object]]


def _attribute(place: object, name: str) -> _Setting:
    return lambda: getattr(place, name), lambda value: setattr(place, name, value)


def _flushes_denormals() -> bool:
    """Return whether this thread counts denormal numbers as 0."""
    return not (torch.full((1,), 2.0**-1030, dtype=torch.float64) * 1.0).item()


_SETTINGS: Mapping[str, _Setting] = {
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
    "torch.set_flush_denormal": (_flushes_denormals, torch.set_flush_denormal),
    **{
        f"torch.backends.cudnn.{name}": _attribute(torch.backends.cudnn, name)
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
    **{
        f"torch.backends.cuda.matmul.{name}": _attribute(torch.backends.cuda.matmul, name)
        for name in (
            "allow_tf32",
            "allow_fp16_reduced_precision_reduction",
            "allow_bf16_reduced_precision_reduction",
        )
    },
    "torch.backends.cuda.enable_flash_sdp": (
        torch.backends.cuda.flash_sdp_enabled,
        torch.backends.cuda.enable_flash_sdp,
    ),
    "torch.backends.cuda.enable_mem_efficient_sdp": (
        torch.backends.cuda.mem_efficient_sdp_enabled,
        torch.backends.cuda.enable_mem_efficient_sdp,
    ),
    "torch.backends.cuda.enable_math_sdp": (
        torch.backends.cuda.math_sdp_enabled,
        torch.backends.cuda.enable_math_sdp,
    ),
}


def settings() -> dict[str, Any]:
    """Return the settings of the process that change numbers, by name."""
    return {name: read() for name, (read, _) in _SETTINGS.items()}


def apply_settings(values: Mapping[str, Any]) -> None:
    """Make the settings of this process those that `settings` returned in another one."""
    for name, value in values.items():
        read, write = _SETTINGS[name]
        if read() != value:
            write(value)


def changed_settings(before: Mapping[str, Any]) -> list[str]:
    """Return one sentence per setting that is no longer as `settings` returned it."""
    return [_sentence(name) for name, (read, _) in _SETTINGS.items() if read() != before[name]]


def _sentence(name: str) -> str:
    return (
        f"changes the setting of {name} for every run in this process; restore it, or change it "
        "once, before any training, when the module is imported"
    )


@contextmanager
def kept_settings() -> Iterator[list[str]]:
    """Restore the settings on exit; yield a list that then gets one sentence per change."""
    before, changes = settings(), list[str]()
    try:
        yield changes
    finally:
        changes += changed_settings(before)
        for name, (read, write) in _SETTINGS.items():
            if read() != before[name]:
                write(before[name])


@contextmanager
def kept_process() -> Iterator[list[str]]:
    """Restore what user code changes of the process, so that other runs have their own numbers.

    That is the current folder, the environment, the import path, the streams and their
    descriptors, warning filters, the limit of recursion, NumPy's handling of errors, the locale,
    signal handlers, the generators of Python, NumPy and PyTorch on the CPU, and the settings of
    `kept_settings`, whose changes are yielded as there.
    """
    folder, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    streams = sys.stdin, sys.stdout, sys.stderr
    limit, floats = sys.getrecursionlimit(), np.geterr()
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = locale.setlocale(locale.LC_ALL)
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        with kept_descriptors(), warnings.catch_warnings(), kept_settings() as changes:
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
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if locale.setlocale(locale.LC_ALL) != words:
            locale.setlocale(locale.LC_ALL, words)
        for number, handler in handlers.items():
            if is_main and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
