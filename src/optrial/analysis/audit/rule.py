"""An audit rule: a check, and a docstring from which its entry in the docs is made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Observation, Severity

__all__ = ["AuditRule", "Check", "audit_rule"]

Check = Callable[[Context], Iterator[Observation]]
SECTIONS = ("Source", "Example", "Fix")


def _always(context: Context) -> bool:
    del context
    return True


@dataclass(frozen=True)
class AuditRule:
    """One rule of the catalogue.

    Attributes:
        id: section letter and number, ``A04``.
        severity: of its findings, unless one says otherwise.
        title: what is wrong where it fires, in one line.
        check: yields what it saw; pure, from records only.
        facts: names of the `RunFacts` it reads. Where no run recorded one of them the rule is
            listed as not checked, so that silence is never mistaken for a pass.
        concerns: whether the rule means anything for a study.
        root: whether what it finds may cause other findings, so that it is shown before them.
    """

    id: str
    severity: Severity
    title: str
    check: Check
    facts: tuple[str, ...] = ()
    concerns: Callable[[Context], bool] = _always
    root: bool = False

    @property
    def documentation(self) -> dict[str, str]:
        """The docstring of the check by part: Why, Source, Example and Fix, each one paragraph."""
        text = " ".join((inspect.getdoc(self.check) or "").split())
        why, *parts = re.split(rf"\b({'|'.join(SECTIONS)}): ", text)
        return {"Why": why.strip()} | {
            name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)
        }


def audit_rule(
    rule: str,
    severity: Severity,
    title: str,
    *,
    facts: tuple[str, ...] = (),
    concerns: Callable[[Context], bool] = _always,
    root: bool = False,
) -> Callable[[Check], AuditRule]:
    """Make an `AuditRule` of the check that it decorates."""
    return lambda check: AuditRule(rule, severity, title, check, facts, concerns, root)
