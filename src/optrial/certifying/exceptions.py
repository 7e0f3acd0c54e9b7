"""Known exceptions of PyTorch's own classes: reported like every finding, not counted as faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from optrial.certifying.findings import Finding, Kind
from optrial.replay.target import Target

__all__ = ["known_exceptions"]

_NEXT_RATE = "the rate of a step is computed at the end of the step before"
_RESTORED = "is kept in float32 and restored in the type of the weights"
_KNOWN: Mapping[str, Mapping[str, str]] = {
    "Adafactor": {"defaults": "the signature holds"},
    "Adagrad": {
        "groups: initial_accumulator": "initial_accumulator_value is an argument of the whole "
        "optimizer",
    },
    "ASGD": {
        "changing lr": _NEXT_RATE,
        "changing lambd": _NEXT_RATE,
        "changing alpha": _NEXT_RATE,
        "schedulers": _NEXT_RATE,
        "state_dict": f"eta {_RESTORED}",
    },
    "LBFGS": {"changing history": "the state has room for the pairs of the first history_size"},
    "NAdam": {"state_dict": f"mu_product {_RESTORED}"},
    "Rprop": {"changing lr": "step sizes are kept in the state"},
}
"""Class of `torch.optim` -> name of a finding -> its cause."""


def known_exceptions(target: Target, findings: Sequence[Finding]) -> list[Finding]:
    """Return findings, those that are known of PyTorch's own class as conventions."""
    is_original = getattr(torch.optim, target.label, None) is target.make
    known = _KNOWN.get(target.label, {}) if is_original else {}
    return [
        replace(
            finding,
            kind=Kind.CONVENTION,
            sentence=f"{finding.sentence}. A known exception of torch.optim: {known[finding.name]}",
        )
        if finding.kind is Kind.FAULT and finding.name in known
        else finding
        for finding in findings
    ]
