"""The certificate of an optimizer: all checks, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata

from optrial.certifying.checks import CHECKS
from optrial.certifying.exceptions import known_exceptions
from optrial.certifying.findings import Certificate, Finding, Kind
from optrial.certifying.pairing import rules_of, subjects_of
from optrial.certifying.step_comparison import CHECK_EQUATIONS, DRAWS, compare_equations
from optrial.certifying.subject import Check, Subject
from optrial.certifying.workable import workable
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, one_line
from optrial.models import kept_process
from optrial.replay.draws import SHAPES
from optrial.replay.target import Target
from optrial.rules import Rule

__all__ = ["certificate_of", "versions_of"]

_OF_CURVATURE = (
    "is compared on losses whose Hessian is diagonal, where products with signs give the diagonal "
    "itself, whatever the signs"
)
_ORDER = {Kind.FAULT: 0, Kind.CONVENTION: 1, Kind.NOTE: 2}


def certificate_of(
    target: Target,
    against: Rule | Target | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    compiled: bool = False,
    source: str = "",
) -> Certificate:
    """Check an optimizer class against a rule or another class.

    Args:
        target: the class.
        against: what it should compute; None for the rule of its name.
        seed: seed of all draws.
        draws: number of short trainings that are compared with the reference, per rule.
        compiled: whether to try the step under `torch.compile` too, which takes seconds.
        source: where the class comes from.

    Raises:
        StudyError: the target always gets an argument whose values are drawn.
    """
    start = time.perf_counter()
    findings: list[Finding] = []
    outcomes: dict[str, str] = {}
    reason = ""
    names: list[str] = []
    target, shapes, refusal = workable(target, rules_of(target, against))
    if not shapes:
        reason = refusal
        subjects: list[Subject] = []
    else:
        subjects, reason = subjects_of(target, against, shapes, seed)
        _check_drawn(target, subjects)
        if refusal and len(shapes) < len(SHAPES):
            findings.append(Finding("shapes", Kind.NOTE, refusal))
        if target.is_curved:
            findings.append(Finding("curvature", Kind.NOTE, _OF_CURVATURE))
    for subject in subjects:
        if subject.reference is not None:
            names.append(subject.binding.label)
        subject = replace(subject, options={"compile": compiled})  # noqa: PLW2901
        findings += _findings(subject, draws, outcomes)
    return Certificate(
        target=target.name,
        against=tuple(names),
        findings=tuple(_sorted(_merged(findings))),
        checks=outcomes,
        versions=versions_of(target.name.partition(":")[0].partition(".")[0]),
        seed=seed,
        draws=draws,
        seconds=time.perf_counter() - start,
        source=source,
        reason=reason,
    )


def _check_drawn(target: Target, subjects: Sequence[Subject]) -> None:
    """Refuse arguments that are said to be always given, and are drawn for each training."""
    overridden = {name for subject in subjects for name in subject.arguments(0)}
    if names := sorted(overridden & target.always.keys()):
        why = "the checks choose its values; leave it out."
        raise StudyError([Problem(f"arguments.{name}", why) for name in names], "the certificate")


def _findings(subject: Subject, draws: int, outcomes: dict[str, str]) -> list[Finding]:
    """Return the findings about one rule; outcomes of the checks are added to `outcomes`."""
    findings: list[Finding] = []
    if random := [finding for finding in _random_steps(subject) if finding.name == "determinism"]:
        _note_outcome(outcomes, random[0].check, random)
        return random
    if subject.reference is not None:
        result, explanation = compare_equations(subject, draws)
        findings += result
        subject = replace(subject, explanation=explanation)
        _note_outcome(outcomes, CHECK_EQUATIONS, result)
    for check in CHECKS:
        if check.of_torch and subject.target.adapter:
            continue
        try:
            result = _found(check, subject)
        except USER_CODE_ERRORS as error:
            text = f"raises an error in the check '{check.name}': {one_line(error)}"
            result = [Finding(check.name, Kind.FAULT, text, check.sentence)]
        result = known_exceptions(subject.target, result)
        findings += result
        _note_outcome(outcomes, check.sentence, result)
    return findings


def _random_steps(subject: Subject) -> list[Finding]:
    """Return whether steps are random, in which case every other comparison fails too.

    A step that raises an error is left to the checks, which report it.
    """
    determinism = [check for check in CHECKS if check.name == "determinism"]
    try:
        return [finding for check in determinism for finding in _found(check, subject)]
    except USER_CODE_ERRORS:
        return []


def _found(check: Check, subject: Subject) -> list[Finding]:
    """Return what a check finds; the process is as before afterwards."""
    with kept_process():
        return [replace(finding, check=check.sentence) for finding in check.run(subject)]


def _note_outcome(outcomes: dict[str, str], check: str, result: Sequence[Finding]) -> None:
    kinds = {finding.kind for finding in result}
    outcome = "failed" if Kind.FAULT in kinds else "passed"
    if Kind.CONVENTION in kinds and outcome == "passed":
        outcome = "convention"
    ranks = ("passed", "convention", "failed")
    outcomes[check] = max(outcomes.get(check, "passed"), outcome, key=ranks.index)


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Return each finding once, also if several rules of one class led to it."""
    unique: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        unique.setdefault((finding.name, finding.sentence), finding)
    return list(unique.values())


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: _ORDER[finding.kind])


def versions_of(package: str) -> dict[str, str]:
    """Return the versions of optrial, torch and a package, as far as they are installed."""
    versions = {}
    for name in dict.fromkeys(["optrial", "torch", package]):
        with suppress(metadata.PackageNotFoundError, ValueError):
            versions[name] = metadata.version(name)
    return versions
