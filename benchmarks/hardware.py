"""Facts about the machine of a measurement."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

import optrial

BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # Intel, AMD; ARM


def about(device: str) -> dict[str, Any]:
    """Return processor, versions and device, for the JSON file."""
    cpu, flags = _processor()
    return {
        "processor": cpu,
        "cores": torch.get_num_threads(),
        "matrix_flags": sorted(flag for flag in flags if "bf16" in flag or "amx" in flag),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda_available": torch.cuda.is_available(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optrial": optrial.__version__,
        "float32_products": torch.get_float32_matmul_precision(),
    }


def has_bfloat16_units(device: str) -> bool:
    """Return whether the hardware computes products in bfloat16 without emulation."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(flag in BFLOAT16_FLAGS for flag in _processor()[1])


def processor() -> str:
    """Return the name of the processor and the number of PyTorch's threads."""
    threads = torch.get_num_threads()
    return f"{_processor()[0]}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> tuple[str, set[str]]:
    """Return the name and the flags of the processor, if the system reports them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    name = fields.get("model name", platform.machine())
    return name, set((fields.get("flags") or fields.get("Features", "")).split())


if __name__ == "__main__":
    print(_processor()[0])
