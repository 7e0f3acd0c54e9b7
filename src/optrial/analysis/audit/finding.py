"""Findings of an audit: a severity, the evidence, and the cheapest remedy."""

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
    """Weight of a finding."""

    ERROR = "E"
    """Blocks the claim."""
    WARNING = "W"
    """Must be disclosed beside the claim."""
    ADVICE = "I"
    """Good to know."""


@dataclass(frozen=True)
class Remedy:
    """The cheapest way to clear a finding.

    Attributes:
        action: what to do, as an imperative sentence without a full stop.
        settings: keys of the study and their new values, for `optrial run STUDY --set`; empty if no
            change of the study helps.
        studies: locations of the studies to change, if several studies are joined.
        runs: number of runs to train.
        folder: folder to run the changed study in: a new one if its protocol changes, the present
            one if the study has no name; empty for the folder that its name gives.
        at_least: whether tuning may train more runs, if other settings turn out to be the best.
        keywords: the settings as keyword arguments of `optrial.Study` and `optrial.compare`.
        seconds: estimated training time, from the recorded times of similar runs; None if none are
            recorded.
    """

    action: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 0
    seconds: float | None = 0.0
    studies: tuple[str, ...] = ()
    folder: str = ""
    at_least: bool = False
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def assignments(self) -> list[str]:
        """The settings as ``key.path=value``, with values in JSON, which is YAML too."""
        return [f"{path}={json.dumps(value)}" for path, value in self.settings.items()]

    @property
    def arguments(self) -> list[str]:
        """Folder and settings as shell-quoted arguments of ``optrial run STUDY``."""
        folder = [f"--out {shlex.quote(self.folder)}"] if self.folder else []
        return folder + [f"--set {shlex.quote(assignment)}" for assignment in self.assignments]


@dataclass(frozen=True)
class Observation:
    """Result of a check; the audit turns it into a `Finding`.

    Attributes:
        evidence: a sentence with the numbers, without a full stop.
        numbers: the same numbers as JSON-able values.
        records: the runs concerned.
        remedy: the cheapest way to clear it.
        severity: overrides that of the rule.
    """

    evidence: str
    numbers: Mapping[str, object]
    records: Iterable[Record]
    remedy: Remedy
    severity: Severity | None = None


@dataclass(frozen=True)
class Finding:
    """A problem of a comparison, or advice about it.

    Attributes:
        rule: id in `AUDIT_RULES`.
        severity: its weight.
        title: that of the rule.
        evidence: a sentence with the numbers, without a full stop.
        numbers: the same numbers as JSON-able values.
        runs: ids of the runs concerned, by optimizer and setting, ``adam lr=0.1``.
        remedy: the cheapest way to clear it.
        waived: the study's reason for waiving it; empty if it counts.
    """

    rule: str
    severity: Severity
    title: str
    evidence: str
    numbers: Mapping[str, object]
    runs: Mapping[str, tuple[str, ...]]
    remedy: Remedy
    waived: str = ""


def group_runs(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Return run ids by optimizer and setting, each once, in the order of the records."""
    groups: dict[str, dict[str, None]] = {}
    for record in records:
        name = f"{record.optimizer} {record.setting}".strip()
        groups.setdefault(name, {})[record.run_id] = None
    return {name: tuple(ids) for name, ids in groups.items()}
