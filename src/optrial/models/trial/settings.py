"""State of the process that user code may change, and that is the same for every run."""

from __future__ import annotations

import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch

from optrial.descriptors import kept_descriptors
from optrial.interruption import STOPPING

__all__ = [
    "Snapshot",
    "apply_settings",
    "float32_products",
    "kept_process",
    "kept_settings",
    "settings",
]

_Setting = tuple[Callable[[], Any], Callable[[Any], object]]


def _attribute(place: object, name: str) -> _Setting:
    return lambda: getattr(place, name), lambda value: setattr(place, name, value)


def _older(setting: _Setting) -> _Setting:
    """Return a setting of precision that cannot be read, and is None, after `fp32_precision`."""
    read, write = setting

    def value() -> Any:
        with suppress(RuntimeError):
            return read()
        return None

    return value, lambda value: None if value is None else write(value)


def _flushes_denormals() -> bool:
    """Return whether this thread counts denormal numbers as 0."""
    return not (torch.full((1,), 2.0**-1030, dtype=torch.float64, device="cpu") * 1.0).item()


def _default_device() -> torch.device:
    """Return the default device, also if it is a GPU that is not here."""
    try:
        return torch.get_default_device()
    except (AssertionError, RuntimeError):
        return torch.device("cuda")


def _autocasts() -> int:
    """Return the number of autocast blocks that were entered and not left."""
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _leave_autocasts(number: int) -> None:
    while _autocasts() > number:
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


_CUDNN: Any = torch.backends.cudnn
_MKLDNN: Any = torch.backends.mkldnn

_SETTINGS: Mapping[str, _Setting] = {
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device": (_default_device, torch.set_default_device),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    # The older settings of precision write the newer ones, which therefore come after them.
    "torch.set_float32_matmul_precision": _older(
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    ),
    "torch.backends.cudnn.allow_tf32": _older(_attribute(torch.backends.cudnn, "allow_tf32")),
    "torch.backends.cuda.matmul.allow_tf32": _older(
        _attribute(torch.backends.cuda.matmul, "allow_tf32")
    ),
    **{
        f"torch.backends{name}.fp32_precision": _attribute(place, "fp32_precision")
        for name, place in {
            "": torch.backends,
            ".cuda.matmul": torch.backends.cuda.matmul,
            ".cudnn": _CUDNN,
            ".cudnn.conv": _CUDNN.conv,
            ".cudnn.rnn": _CUDNN.rnn,
            ".mkldnn": _MKLDNN,
            ".mkldnn.matmul": _MKLDNN.matmul,
            ".mkldnn.conv": _MKLDNN.conv,
            ".mkldnn.rnn": _MKLDNN.rnn,
        }.items()
    },
    "torch.autocast": (_autocasts, _leave_autocasts),
    **{
        f"torch.set_autocast_enabled({device!r})": (
            partial(torch.is_autocast_enabled, device),
            partial(torch.set_autocast_enabled, device),
        )
        for device in ("cpu", "cuda")
    },
    **{
        f"torch.set_autocast_dtype({device!r})": (
            partial(torch.get_autocast_dtype, device),
            partial(torch.set_autocast_dtype, device),
        )
        for device in ("cpu", "cuda")
    },
    **{
        f"torch.backends.mkldnn.{name}": _attribute(_MKLDNN, name)
        for name in ("enabled", "deterministic")
    },
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
        for name in ("enabled", "benchmark", "deterministic")
    },
    **{
        f"torch.backends.cuda.matmul.{name}": _attribute(torch.backends.cuda.matmul, name)
        for name in (
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


def float32_products() -> str:
    """Return PyTorch's precision of float32 matrix products: highest, high or medium.

    If code set `fp32_precision`, which the older setting cannot express, it is the lowest of those
    of CPU and GPU.
    """
    products = _SETTINGS["torch.set_float32_matmul_precision"][0]()
    if products is not None:
        return str(products)
    backends = torch.backends.cuda.matmul, _MKLDNN.matmul
    chosen = {backend.fp32_precision for backend in backends}
    return "medium" if "bf16" in chosen else "high" if "tf32" in chosen else "highest"


# Places whose functions code may replace, and the names of these functions.
_PLACES: Mapping[str, Any] = {
    "torch": torch,
    "torch.Tensor": torch.Tensor,
    "torch.nn.functional": torch.nn.functional,
    "torch.nn.init": torch.nn.init,
    "torch.nn.Module": torch.nn.Module,
    "torch.optim.Optimizer": torch.optim.Optimizer,
    "time": time,
}
_SET_BY_PYTORCH = {"Storage"}  # with the default type
_NAMES: Mapping[str, Set[str]] = {
    place: {name for name in dir(holder) if callable(getattr(holder, name, None))} - _SET_BY_PYTORCH
    for place, holder in _PLACES.items()
}
# Functions that are called beside those of every module or optimizer.
_HOOKS: Mapping[str, dict[int, Any]] = {
    f"{module.__name__}.{name}": hooks
    for module in map(import_module, ("torch.nn.modules.module", "torch.optim.optimizer"))
    for name, hooks in vars(module).items()
    if name.startswith("_global_") and isinstance(hooks, dict)
}


class Snapshot:
    """State of the process that user code may change for other runs: settings, functions and global
    hooks of PyTorch, and functions of `time`.
    """

    def __init__(self) -> None:
        self._settings = settings()
        self._functions = {place: dict(vars(holder)) for place, holder in _PLACES.items()}
        self._hooks = {name: dict(hooks) for name, hooks in _HOOKS.items()}

    def changes(self) -> list[str]:
        """Return one sentence per change since then."""
        read = {name: read() for name, (read, _) in _SETTINGS.items()}
        changed = [n for n, value in read.items() if value not in (None, self._settings[n])]
        return [
            *(f"changes the setting of {name} {_FOR_ALL}" for name in changed),
            *(f"replaces {place}.{name} {_FOR_ALL}" for place, name in self._replaced()),
            *(f"changes {name} {_FOR_ALL}" for name in self._hooked()),
        ]

    def restore(self) -> None:
        """Undo every change since then."""
        for name, (read, write) in _SETTINGS.items():
            if read() != self._settings[name]:
                write(self._settings[name])
        for place, name in self._replaced():
            if name in self._functions[place]:
                setattr(_PLACES[place], name, self._functions[place][name])
            else:
                delattr(_PLACES[place], name)
        for name in self._hooked():
            _HOOKS[name].clear()
            _HOOKS[name].update(self._hooks[name])

    def _replaced(self) -> list[tuple[str, str]]:
        replaced = []
        for place, before in self._functions.items():
            now = vars(_PLACES[place])
            if now != before:  # names that are added do not count
                names = sorted(_NAMES[place] & (before.keys() | now.keys()))
                changed = [name for name in names if now.get(name) is not before.get(name)]
                replaced += [(place, name) for name in changed if not _is_pytorchs(now.get(name))]
        return replaced

    def _hooked(self) -> list[str]:
        return [name for name, hooks in _HOOKS.items() if hooks != self._hooks[name]]


def _is_pytorchs(function: object) -> bool:
    """Return whether PyTorch defines a function; when it compiles, it wraps some of its own."""
    scope = function.__globals__ if isinstance(function, FunctionType) else {}
    return str(scope.get("__name__")).partition(".")[0] == torch.__name__


_FOR_ALL = (
    "for every run in this process; restore it, or change it once, before any training, when the "
    "module is imported"
)


@contextmanager
def kept_settings() -> Iterator[list[str]]:
    """Restore the settings on exit; yield a list that then gets one sentence per change."""
    before, changes = Snapshot(), list[str]()
    try:
        yield changes
    finally:
        changes += before.changes()
        before.restore()


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
