"""Certificates: what an optimizer computes, found by replaying it beside a rule.

`certify` is imported when it is first used; certificates alone need no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from optrial.certifying.findings import Certificate, Finding, Kind, Verdict

if TYPE_CHECKING:
    from optrial.certifying.conformance import certify

__all__ = ["Certificate", "Finding", "Kind", "Verdict", "certify"]

_HOMES = {"certify": "optrial.certifying.conformance"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'optrial.certifying' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
