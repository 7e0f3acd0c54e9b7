"""An audit rule: a check, with a docstring that becomes its entry in the documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Observation, Severity

Check = Callable[[Context], Iterator[Observation]]


def _every_study(context: Context) -> bool:
    del context
    return True


@dataclass(frozen=True)
class AuditRule:
    """One rule of the catalogue.

    Attributes:
        id: letter of the section and number, ``A04``.
        severity: of findings that do not set their own.
        title: what is wrong, in one line.
        check: yields what is wrong; a pure function of the records.
        facts: names of the `RunFacts` that the check needs. If no run recorded one of them, the
            rule is listed as not checked, so that silence is never mistaken for a pass.
        concerns: whether the rule applies to a study.
        root: whether its findings can cause others, and are therefore shown first.
    """

    id: str
    severity: Severity
    title: str
    check: Check
    facts: tuple[str, ...] = ()
    concerns: Callable[[Context], bool] = _every_study
    root: bool = False

    @property
    def documentation(self) -> dict[str, str]:
        """Parts of the check's docstring, one paragraph each: Why, Source, Example and Fix."""
        text = " ".join((inspect.getdoc(self.check) or "").split())
        why, *parts = re.split(r"\b(Source|Example|Fix): ", text)
        return {"Why": why.strip()} | {
            name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)
        }


def audit_rule(
    rule: str,
    severity: Severity,
    title: str,
    *,
    facts: tuple[str, ...] = (),
    concerns: Callable[[Context], bool] = _every_study,
    root: bool = False,
) -> Callable[[Check], AuditRule]:
    """Turn the decorated check into an `AuditRule`."""
    return lambda check: AuditRule(rule, severity, title, check, facts, concerns, root)
