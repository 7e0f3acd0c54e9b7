"""Findings of a certificate, and the verdict that they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

__all__ = ["Certificate", "Finding", "Kind", "Verdict"]


class Kind(StrEnum):
    """Kinds of findings."""

    FAULT = "fault"
    CONVENTION = "convention"
    NOTE = "note"


class Verdict(StrEnum):
    """Outcomes of a certificate."""

    CONFORMS = "conforms"
    CONVENTIONS = "conforms with conventions"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not comparable"

    @property
    def exit_status(self) -> int:
        """Exit status of the command: 0, 1 or 2."""
        return {Verdict.DIFFERS: 1, Verdict.NOT_COMPARABLE: 2}.get(self, 0)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        name: what it concerns, as "weight decay" or "state_dict".
        kind: a fault, a known convention, or a note that does not count against the optimizer.
        sentence: what was found.
        check: the requirement that was checked, as a sentence.
        step: first step at which it shows, from 1; 0 if that does not apply.
        tensor: the tensor at which it shows first, as "matrix (3, 2)".
        term: the quantity that departs first: a symbol of the equations, or a key of the state.
        difference: relative difference there.
        reproducer: the shortest script that shows it; it ends with an `assert` that fails.
    """

    name: str
    kind: Kind
    sentence: str
    check: str = ""
    step: int = 0
    tensor: str = ""
    term: str = ""
    difference: float = 0.0
    reproducer: str = ""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Result of all checks of an optimizer.

    Attributes:
        target: its name, as ``torch.optim:Adam``.
        against: names of the references; empty without any.
        findings: faults first, then conventions, then notes.
        checks: name of a check -> "passed", "failed", or the reason why it was not made.
        versions: package -> version.
        seed: seed of all draws.
        draws: number of short trainings that were compared with the reference.
        seconds: duration.
        source: file of the target with its hash, or the name and version of its package.
    """

    target: str
    against: tuple[str, ...]
    findings: tuple[Finding, ...]
    checks: dict[str, str]
    versions: dict[str, str]
    seed: int
    draws: int
    seconds: float = 0.0
    source: str = ""
    reason: str = field(default="")

    @property
    def verdict(self) -> Verdict:
        """The outcome."""
        if self.of_kind(Kind.FAULT):
            return Verdict.DIFFERS
        if not self.against:
            return Verdict.NOT_COMPARABLE
        return Verdict.CONVENTIONS if self.of_kind(Kind.CONVENTION) else Verdict.CONFORMS

    def of_kind(self, kind: Kind) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind is kind]

    @property
    def faults(self) -> Sequence[Finding]:
        """The faults."""
        return self.of_kind(Kind.FAULT)

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        against = " and ".join(self.against)
        match self.verdict:
            case Verdict.CONFORMS:
                return f"{self.target} conforms to {against}."
            case Verdict.CONVENTIONS:
                return f"{self.target} conforms to {against}, with different conventions."
            case Verdict.DIFFERS:
                whole = f" from {against}" if against else " from what optimizers promise"
                return f"{self.target} differs{whole}."
        return f"{self.target} is not comparable: {self.reason}"

    def as_dict(self) -> dict[str, object]:
        """Return everything as JSON takes it."""
        return {
            "target": self.target,
            "against": list(self.against),
            "verdict": self.verdict.value,
            "summary": self.summary,
            "source": self.source,
            "seed": self.seed,
            "draws": self.draws,
            "seconds": round(self.seconds, 3),
            "versions": self.versions,
            "checks": self.checks,
            "findings": [asdict(finding) for finding in self.findings],
        }
