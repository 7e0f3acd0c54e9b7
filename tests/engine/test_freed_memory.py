"""What a training keeps for its next step does not grow without end."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = """
import itertools, resource, sys, time
import torch
from optrial.engine.process import FreedMemory, keep_freed_memory
from optrial.memory import limits_address_space, resident_memory

limited = sys.argv[1] == "limited"
if limited:
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.RLIM_INFINITY))
assert limits_address_space() == limited
assert not (keep_freed_memory() and limited)
time.monotonic = itertools.count().__next__  # a second per step
freed, kept = FreedMemory(), []
for step in range(80):
    a, b = torch.ones(2_000_000), torch.ones(2_000_000)
    c = a * b
    kept += [torch.ones(300) for _ in range(20)]  # such as what is recorded
    d = c + a
    del a, b
    e = d * 2
    del c, d, e
    freed.limit()
print(resident_memory())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("space", [pytest.param("limited", marks=pytest.mark.slow), "unlimited"])
def test_freed_memory_is_limited(space: str) -> None:
    command = [sys.executable, "-c", STEPS, space]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) < 1.5e9  # 3 GB without a limit, with glibc 2.36
