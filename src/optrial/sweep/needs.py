"""Memory that runs need, and the engines that know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from optrial.engine import Engines
from optrial.errors import USER_CODE_ERRORS
from optrial.memory import MemoryLimit, needs_memory
from optrial.spec import RunSpec

__all__ = ["Needs"]


class Needs:
    """Memory that runs need on this machine.

    Args:
        engines: engines by hash of the dataset.
    """

    def __init__(self, engines: Mapping[str, Engines]) -> None:
        self.by_dataset = engines

    def engines(self, specs: Sequence[RunSpec]) -> Engines:
        """Return the engines of the dataset of some runs."""
        return self.by_dataset[specs[0].dataset_sha256]

    def memory(self, specs: Sequence[RunSpec]) -> int:
        """Return the bytes that runs need as a stack; 0 if their model cannot be built."""
        with suppress(*USER_CODE_ERRORS):
            return self.engines(specs).needed_bytes(specs)
        return 0

    def limit(self, specs: Sequence[RunSpec]) -> MemoryLimit:
        """Return the tightest limit on the memory of runs."""
        return self.engines(specs).memory_limit

    def text(self, subject: str, specs: Sequence[RunSpec]) -> str:
        """Return a clause on the memory that runs need, what is free, and the way out."""
        return needs_memory(subject, self.memory(specs), self.limit(specs))
