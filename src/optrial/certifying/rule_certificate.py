"""The certificate of a rule: the requirements of every engine, and an implementation beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from optrial.certifying.certificate import versions_of
from optrial.certifying.findings import Certificate, Finding, Kind
from optrial.certifying.hypotheses import follows
from optrial.certifying.rule_checks import problems_of_rule
from optrial.certifying.step_comparison import compare_equations
from optrial.certifying.subject import Subject
from optrial.certifying.workable import workable
from optrial.replay.binding import Binding, bindings_of, implemented_by_torch
from optrial.replay.comparison import scale_of
from optrial.replay.draws import drawn, drawn_setting
from optrial.replay.equations import program_of
from optrial.replay.reference import moments_of, own_steps, replay
from optrial.replay.target import Target
from optrial.rules import Rule

__all__ = ["certificate_of_rule", "equations_are_the_update"]

_EQUATIONS = "Its equations, read as a program, give the steps of its update."
_MATRICES = {"matrix": (3, 2), "wide": (2, 4), "square": (3, 3)}


def certificate_of_rule(
    rule: Rule, against: Rule | Target | None, *, seed: int, draws: int
) -> Certificate:
    """Check a rule by the requirements of every engine, and beside an implementation.

    Args:
        rule: the rule.
        against: a class; None for that of `torch.optim` that computes the rule, if there is one.
        seed: seed of all draws.
        draws: number of drawn trainings.
    """
    start = time.perf_counter()
    result = {
        sentence: [Finding("rule", Kind.FAULT, problem, sentence) for problem in problems]
        for sentence, problems in problems_of_rule(rule).items()
    }
    if (original := implemented_by_torch(rule)) is not None and against is None:
        against = Target(f"torch.optim:{original.__name__}", original, {})
    if isinstance(against, Target):
        sentence = f"Its steps are those of {against.name}, in float64."
        result[sentence] = _beside(rule, against, seed, draws)
    is_same = equations_are_the_update(rule, seed)
    text = "its equations, as written, do not give the steps of its update"
    result[_EQUATIONS] = [] if is_same else [Finding("equations", Kind.NOTE, text, _EQUATIONS)]
    findings = [finding for of_check in result.values() for finding in of_check]
    return Certificate(
        target=rule.name,
        against=(against.name,)
        if isinstance(against, Target)
        else ("the requirements of engines",),
        findings=tuple(findings),
        checks={sentence: _outcome(of_check) for sentence, of_check in result.items()},
        versions=versions_of("torch"),
        seed=seed,
        draws=draws,
        seconds=time.perf_counter() - start,
    )


def _outcome(findings: Sequence[Finding]) -> str:
    kinds = {finding.kind for finding in findings}
    if Kind.FAULT in kinds:
        return "failed"
    return "convention" if Kind.CONVENTION in kinds else "passed"


def _beside(rule: Rule, against: Target, seed: int, draws: int) -> list[Finding]:
    """Compare with an implementation; its conventions are those of the implementation."""
    if "draws" in rule.needs:
        text = f"cannot be compared: {rule.name} draws random numbers, and those of a class differ"
        return [Finding("equations", Kind.FAULT, text)]
    against, shapes, refusal = workable(against, [rule])
    if not shapes:
        return [Finding("equations", Kind.FAULT, f"cannot be compared: {against.name}: {refusal}")]
    defaults = {n: p.default for n, p in against.signature.items() if p.default is not p.empty}
    bindings: Sequence[Binding] = bindings_of([rule], defaults)
    if not bindings:
        text = f"cannot be compared: {against.name} lacks arguments of {rule.name}"
        return [Finding("equations", Kind.FAULT, text)]
    subject = Subject(against, bindings[0], lambda draw: replay(rule, draw), shapes, seed)
    findings, _ = compare_equations(subject, draws)
    return [
        Finding(
            f.name,
            f.kind,
            f"{against.name} {f.sentence}",
            f.check,
            f.step,
            f.tensor,
            f.term,
            f.difference,
            f.reproducer,
        )
        for f in findings
    ]


def equations_are_the_update(rule: Rule, seed: int) -> bool:
    """Return whether equations, evaluated as they are written, give the steps of the update.

    True for a rule whose equations hold words, which have no value.
    """
    random = np.random.default_rng((seed, 2000))
    for decay in ("l2", "decoupled"):
        program = program_of(rule, decay)
        if program is None:
            return True
        shapes = _MATRICES if program.needs_matrix else {"vector": (3,), "matrix": (3, 2)}
        for _ in range(4):
            draw = drawn(drawn_setting(rule, {}, (decay,), random), shapes, random)
            expected = replay(rule, draw)
            for label, tensor in draw.start.items():
                moments = moments_of(draw, label, own_steps(draw, label))
                try:
                    with np.errstate(all="ignore"):
                        path = program.path(tensor.numpy(), moments)
                        scale = float(scale_of(tensor, expected, label))
                        if not follows(path, expected, label, scale):
                            return False
                except (KeyError, ValueError, TypeError):
                    return True
    return True
