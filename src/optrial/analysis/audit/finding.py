"""What an audit finds: a severity, the evidence, and the cheapest way to clear it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from optrial.records import Record

__all__ = ["Finding", "Observation", "Remedy", "Severity", "group_runs"]


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "E"
    """It blocks the claim."""
    WARNING = "W"
    """It must be disclosed beside the claim."""
    ADVICE = "I"
    """It is good to know."""


@dataclass(frozen=True)
class Remedy:
    """The cheapest way to clear a finding.

    Attributes:
        action: what to do, one sentence.
        settings: keys of the study and their new values, which `optrial run STUDY --set` takes;
            empty where no change of the study helps.
        runs: number of runs that are to be trained anew.
        seconds: about how long that takes, from the recorded seconds of similar runs; None if none
            are recorded.
    """

    action: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 0
    seconds: float | None = 0.0

    @property
    def assignments(self) -> list[str]:
        """The settings as ``key.path=value``, the values in JSON, which is YAML too."""
        return [f"{path}={json.dumps(value)}" for path, value in self.settings.items()]

    @property
    def arguments(self) -> list[str]:
        """The settings as arguments of ``optrial run STUDY``, quoted for a shell."""
        return [f"--set {shlex.quote(each)}" for each in self.assignments]


@dataclass(frozen=True)
class Observation:
    """What the check of a rule saw; the audit makes a finding of it.

    Attributes:
        evidence: the numbers in a sentence, without a full stop.
        numbers: the same as data, JSON-able.
        records: the runs concerned.
        remedy: what would clear it.
        severity: where it is not the rule's own.
    """

    evidence: str
    numbers: Mapping[str, Any]
    records: Iterable[Record]
    remedy: Remedy
    severity: Severity | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a comparison, or good to know about it.

    Attributes:
        rule: id in `AUDIT_RULES`.
        severity: how much it weighs.
        title: what the rule is about.
        evidence: the numbers in a sentence, without a full stop.
        numbers: the same as data, JSON-able.
        runs: ids of the runs concerned, by optimizer and setting, ``adam lr=0.1``.
        remedy: the cheapest experiment that would clear it.
        waived: the reason that the study gives for not counting it; empty if it counts.
    """

    rule: str
    severity: Severity
    title: str
    evidence: str
    numbers: Mapping[str, Any]
    runs: Mapping[str, tuple[str, ...]]
    remedy: Remedy
    waived: str = ""


def group_runs(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Return run ids by optimizer and setting, in the order of the records."""
    groups: dict[str, list[str]] = {}
    for record in records:
        groups.setdefault(f"{record.optimizer} {record.setting}".strip(), []).append(record.run_id)
    return {name: tuple(ids) for name, ids in groups.items()}
