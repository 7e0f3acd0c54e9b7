"""Limits on memory are read wherever they are set; errors that say that it ran out are known."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from optrial.memory import memory_limit, oom_kills, out_of_memory

MACHINE = "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n"
MB = 10**6


def write(root: Path, files: dict[str, str | int]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text), encoding="utf-8")
    return root


def version_2(root: Path, group: str) -> None:
    """A system with control groups of version 2, and a process in one of them."""
    mount = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
    write(
        root,
        {
            "proc/meminfo": MACHINE,
            "proc/self/cgroup": f"0::{group}\n",
            "proc/self/mountinfo": mount,
        },
    )


def group(used: int, cache: int = 0, **limits: str | int) -> dict[str, str | int]:
    files = {"memory.current": used * MB, "memory.stat": f"anon 5\ninactive_file {cache * MB}\n"}
    return files | {f"memory.{name}": v if v == "max" else v * MB for name, v in limits.items()}


def below(folder: str, files: dict[str, str | int]) -> dict[str, str | int]:
    return {f"sys/fs/cgroup/{folder}/{name}": text for name, text in files.items()}


def test_machine(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MACHINE})
    limit = memory_limit(tmp_path)
    assert (limit.name, limit.total, limit.free) == ("this machine", 8192 * MB, 6144 * MB)


def test_limit_of_a_container(tmp_path: Path) -> None:
    version_2(tmp_path, "/a/b")
    write(tmp_path, below("a/b", group(900, 300, max=1000, high="max")))
    limit = memory_limit(tmp_path)
    assert limit.name == "this container, memory.max"
    assert limit.free == 400 * MB  # cached files can be dropped


def test_high_mark_of_a_container_counts(tmp_path: Path) -> None:
    version_2(tmp_path, "/a")
    write(tmp_path, below("a", group(500, max=1000, high=700)))
    assert memory_limit(tmp_path).name == "this container, memory.high"
    assert memory_limit(tmp_path).free == 200 * MB


def test_limit_of_an_ancestor_counts(tmp_path: Path) -> None:
    version_2(tmp_path, "/a/b")
    write(tmp_path, below("a/b", group(100, max="max", high="max")))
    write(tmp_path, below("a", group(900, max=1000, high="max")))
    assert memory_limit(tmp_path).free == 100 * MB


@pytest.mark.parametrize("path", ["/", "/../../other", "/not/visible/here"])
def test_group_that_is_not_visible_is_the_mount(path: str, tmp_path: Path) -> None:
    version_2(tmp_path, path)
    write(tmp_path, below(".", group(900, max=1000, high="max")))
    assert memory_limit(tmp_path).free == 100 * MB


@pytest.mark.parametrize("mounted", ["/", "/docker/1"])
def test_version_1(mounted: str, tmp_path: Path) -> None:
    mount = (
        f"35 31 0:32 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    folder = "sys/fs/cgroup/memory" + ("/docker/1" if mounted == "/" else "")
    write(
        tmp_path,
        {
            "proc/meminfo": MACHINE,
            "proc/self/cgroup": "4:memory:/docker/1\n1:cpu:/docker/1\n0::/\n",
            "proc/self/mountinfo": mount,
            f"{folder}/memory.limit_in_bytes": 1000 * MB,
            f"{folder}/memory.usage_in_bytes": 900 * MB,
            f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {300 * MB}\n",
            f"{folder}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "proc/vmstat": "oom_kill 7\n",
        },
    )
    assert memory_limit(tmp_path).name == "this container, memory.limit_in_bytes"
    assert memory_limit(tmp_path).free == 400 * MB
    assert oom_kills(tmp_path) == 3


def test_no_limit(tmp_path: Path) -> None:
    version_2(tmp_path, "/a")
    write(tmp_path, below("a", group(900, max="max", high="max")))
    assert memory_limit(tmp_path).name == "this machine"
    write(
        tmp_path, {"proc/self/cgroup": "4:memory:/a\n", "proc/self/mountinfo": "1 2 3\n\nx - y\n"}
    )
    assert memory_limit(tmp_path).name == "this machine"


@pytest.mark.parametrize(("kind", "option"), [("AS", "-v"), ("DATA", "-d")])
def test_limit_of_the_process(kind: str, option: str) -> None:
    code = (
        "import resource; from optrial.memory import memory_limit\n"
        f"resource.setrlimit(resource.RLIMIT_{kind}, (400_000_000, 400_000_000))\n"
        "before = memory_limit(); held = bytes(100_000_000); after = memory_limit()\n"
        "print(before.name, before.total, before.free - after.free)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    *name, total, held = answer.stdout.split()
    assert " ".join(name) == f"this process, ulimit {option}"
    assert int(total) == 400_000_000
    assert 99_000_000 < int(held) < 110_000_000


def test_errors_of_libraries() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**55)
    with pytest.raises(MemoryError) as of_numpy:
        np.ones(2**55)
    with pytest.raises(RuntimeError) as of_sizes:
        torch.empty(2**40, 2**40)
    for error in (of_torch, of_numpy, of_sizes):
        assert out_of_memory(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("cc1plus: out of memory allocating 65536 bytes"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)
def test_errors_that_say_that_memory_ran_out(error: Exception) -> None:
    assert out_of_memory(error)
    wrapped = RuntimeError("the step failed")
    wrapped.__cause__ = error
    assert out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("13"),
        RuntimeError("shape mismatch"),
        KeyError("out of memory"),
        OSError(28, "no"),
    ],
)
def test_other_errors(error: Exception) -> None:
    assert not out_of_memory(error)
    error.__cause__ = error
    assert not out_of_memory(error)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say what counts")
@pytest.mark.parametrize(("kind", "size"), [("RLIMIT_AS", 8e8), ("RLIMIT_DATA", 2e8)])
def test_too_little_memory_for_pytorch_is_one_error(kind: str, size: float) -> None:
    """Without it, OpenBLAS asks for memory for ever and PyTorch aborts."""

    def limit() -> None:
        resource.setrlimit(getattr(resource, kind), (int(size), resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "optrial", "plan", "quickstart"]
    answer = subprocess.run(
        command, preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: loading PyTorch needs about")
