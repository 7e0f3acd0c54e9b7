"""Fuzzers: mutations of valid inputs, which end in a result or in an error of optrial.

`target` holds the targets and judges one input, `mutation` changes inputs, `past` holds every input
that failed once. ``python -m tests.fuzz --inputs 1000000`` runs as many as wanted; the number of an
input and the name of its target reproduce it.
"""

from __future__ import annotations

import os

# The others reserve more address space than an input may take.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
