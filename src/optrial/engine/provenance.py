"""Provenance of a run: versions, machine, source revision."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from optrial import __version__
from optrial.spec import RunFacts

__all__ = ["ROUNDING", "provenance"]

_HARMLESS = ("-c", "core.fsmonitor=false", "--no-optional-locks")
"""Options without which `git status` runs a program that the repository names."""

_PACKAGES = ("torch", "numpy", "scikit-learn")
ROUNDING = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that choose kernels or the order of sums, and so the last digits."""


def provenance() -> RunFacts:
    """Return the facts needed to judge or repeat a run on this machine.

    The git commit is that of the current folder; None outside a repository.
    """
    environment = {name: os.environ[name] for name in ROUNDING if name in os.environ}
    return replace(_provenance(Path.cwd()), environment=environment)


@cache
def _provenance(folder: Path) -> RunFacts:
    commit = _git(folder, "rev-parse", "HEAD")
    return RunFacts(
        versions={"python": platform.python_version(), "optrial": __version__}
        | {name: version(name) for name in _PACKAGES},
        machine=platform.machine(),
        system=platform.platform(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        host=platform.node(),
        git_commit=commit,
        git_dirty=bool(_git(folder, "status", "--porcelain")) if commit else None,
    )


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", *_HARMLESS, *arguments]
    try:
        answer = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
