"""The certificate of an optimizer: all checks, and the verdict."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from optrial.certifying.checks import CHECKS
from optrial.certifying.conditions import LEAST_CASES, Case, condition_of, divided, first_late_step
from optrial.certifying.exceptions import known_exceptions
from optrial.certifying.explanation import Explanation, TrainingError, can_train, disproved, explain
from optrial.certifying.findings import Certificate, Finding, Kind
from optrial.certifying.reproducer import script_of_departure, shortest
from optrial.certifying.subject import Check, Subject
from optrial.certifying.unexplained import account_of
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, one_line
from optrial.models import kept_process
from optrial.replay.binding import Binding, bindings_of, rules_named
from optrial.replay.comparison import Departure, departures, first_of
from optrial.replay.draws import SHAPES, Draw, Setting, drawn, drawn_setting, settled, tensor_text
from optrial.replay.reference import replay
from optrial.replay.supplies import hessian_diagonal
from optrial.replay.target import Path, Target, parameters_of, step_with, train
from optrial.rules import RULES, Hyperparameter, Rule, apply_all, initialise_all
from optrial.rules.learning_rates import plain_name

__all__ = ["DRAWS", "certificate_of", "compare_equations", "versions_of", "workable"]

DRAWS = 16
LONG, LONG_STEPS = {"matrix": (2, 2)}, 130
LONGEST_STEPS = 1030
"""More than thousand, for changes after a round number of steps; of rules without matrices."""
_CONFIRMING = 1002
"""Stream of the draws that an explanation must predict, too."""
_OF_LARGE_RATE = 2  # index of the draw with a learning rate above 1
LARGE = {"large": (48, 50)}
_CHECK_EQUATIONS = "Its steps are those of the equations, in float64."
_OF_CURVATURE = (
    "is compared on losses whose Hessian is diagonal, where products with signs give the diagonal "
    "itself, whatever the signs"
)
_WAY_OUT = (
    "if it needs more than a list of parameters, write a function of the parameters that makes it, "
    "and certify that"
)
_LONGEST_STEP = 5.0
"""Seconds of a step of small tensors after which there is no certificate."""
_KINDS_OF_SHAPES: Sequence[Mapping[str, tuple[int, ...]]] = (
    SHAPES,
    *(
        {name: shape for name, shape in SHAPES.items() if name not in left_out}
        for left_out in ({"empty"}, {"wide"}, {"empty", "scalar"})
    ),
    {"matrix": (3, 2), "wide": (2, 4), "square": (3, 3)},
)
"""Shapes that classes take, from all to matrices alone; `wide` is not contiguous."""
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
    target, shapes, refusal = workable(target, _rules(target, against))
    if not shapes:
        reason = refusal
        subjects: list[Subject] = []
    else:
        subjects, reason = _subjects(target, against, shapes, seed)
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


def workable(
    target: Target, rules: Sequence[Rule]
) -> tuple[Target, dict[str, tuple[int, ...]], str]:
    """Return a class with what it asks for, the shapes that it takes, and why not the others.

    Args:
        target: the class.
        rules: those that it should compute.
    """
    curved = any(rule.needs_curvature for rule in rules)
    if missing := _required(target):
        return target, {}, missing
    reasons = []
    for is_curved in (curved, not curved):
        asking = replace(target, is_curved=is_curved, is_supplied=is_curved)
        for shapes in _KINDS_OF_SHAPES:
            try:
                with kept_process():
                    optimizer, seconds = _stepped(asking, shapes)
            except USER_CODE_ERRORS as error:
                reasons.append(one_line(error).rstrip("."))
                continue
            if seconds > _LONGEST_STEP:
                return target, {}, f"its steps take {seconds:.1f} s; a certificate has thousands."
            text = f"does not take all shapes: {reasons[0]}" if reasons else ""
            is_supplied = getattr(optimizer, "is_supplied", False)
            return replace(asking, is_supplied=is_supplied), dict(shapes), text
    reason = reasons[len(_KINDS_OF_SHAPES) - 1]
    way_out = "certificates are made on the CPU" if "cuda" in reason.lower() else _WAY_OUT
    return target, {}, f"it cannot be made, or its step fails: {reason}; {way_out}."


def _required(target: Target) -> str:
    """Return what to do about required arguments; empty if there are none, or they are known."""
    known = {"lr", *target.always, *(name for rule in RULES.values() for name in rule.defaults)}
    empty = inspect.Parameter.empty
    names = [n for n, p in target.signature.items() if p.default is empty and n not in known]
    if not names:
        return ""
    given = " ".join(f"--argument {name}=..." for name in names)
    return (
        f"it requires {' and '.join(names)}: pass {given}, in Python arguments=, or write a "
        "function of the parameters that makes the optimizer."
    )


def _stepped(
    target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[torch.optim.Optimizer, float]:
    """Return an optimizer that has taken two steps, and the seconds of the second one."""
    start = drawn(Setting({}), shapes, np.random.default_rng(0), with_missing=False).start
    parameters = list(parameters_of(start, torch.float32).values())
    needed = {} if "lr" not in target.signature else _rate(target)
    optimizer = target(parameters, needed)
    seconds = 0.0
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        start_of_step = time.perf_counter()
        optimizer.step()
        seconds = time.perf_counter() - start_of_step
    return optimizer, seconds


def _rate(target: Target) -> dict[str, Any]:
    """Return a learning rate for a class that has no default."""
    parameter = target.signature["lr"]
    has_default = isinstance(parameter.default, float | int)
    return {} if has_default else {"lr": 0.01}


def _check_drawn(target: Target, subjects: Sequence[Subject]) -> None:
    """Refuse arguments that are said to be always given, and are drawn for each training."""
    overridden = {name for subject in subjects for name in subject.arguments(0)}
    if names := sorted(overridden & target.always.keys()):
        why = "the checks choose its values; leave it out."
        raise StudyError([Problem(f"arguments.{name}", why) for name in names], "the certificate")


def _subjects(
    target: Target,
    against: Rule | Target | None,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
) -> tuple[list[Subject], str]:
    """Return the class beside each rule that it should compute, and why there is none."""
    arguments = {
        name: p.default for name, p in target.signature.items() if p.default is not p.empty
    } | {name: 0.01 for name, p in target.signature.items() if p.default is p.empty}
    if isinstance(against, Target):
        against = replace(against, is_curved=target.is_curved)
        return _beside_class(target, against, arguments, shapes, seed)
    rules = _rules(target, against)
    comparable = [rule for rule in rules if "draws" not in rule.needs]
    bindings = bindings_of(comparable, arguments, needs_switch=len(rules) > 1)
    if target.adapter:  # whose libraries have one kind of decay, and do not call it l2
        bindings = [replace(b, claims_decay=b.rule.default_decay == "decoupled") for b in bindings]
    subjects = [
        Subject(target, binding, _replayer(binding.rule), shapes, seed) for binding in bindings
    ]
    if subjects:
        return subjects, ""
    if any("draws" in rule.needs for rule in rules):
        missing = f"{rules[0].name} draws random numbers, and those of the class are others"
    elif rules and "lr" not in arguments and target.hides_arguments:
        missing = "it takes **kwargs, which hide its arguments; write a function that names them"
    elif rules:
        missing = f"its arguments are not those of {rules[0].name}"
    else:
        missing = f"no rule is called '{plain_name(target.label)}'; name one with --against"
    bare = _bare_binding(arguments)
    alone = [Subject(target, bare, None, shapes, seed)] if bare else []
    return alone, f"{missing}."


def _rules(target: Target, against: Rule | Target | None) -> list[Rule]:
    """Return the rules that a class should compute, as far as names tell."""
    if isinstance(against, Rule):
        return [against]
    named = rules_named(target.name, _bases(target))
    return named or (rules_named(against.name, _bases(against)) if against else [])


def _bases(target: Target) -> list[str]:
    mro = getattr(target.make, "__mro__", ())
    return [base.__name__ for base in mro[1:] if base.__name__ not in ("Optimizer", "object")]


def _replayer(rule: Rule) -> Callable[[Draw], Path]:
    return lambda draw: replay(rule, draw)


def _beside_class(
    target: Target,
    against: Target,
    arguments: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
) -> tuple[list[Subject], str]:
    """Return the class beside another class, with the arguments that both have."""
    theirs = {name: p.default for name, p in against.signature.items() if p.default is not p.empty}
    rules = rules_named(against.name, _bases(against)) or rules_named(target.name, _bases(target))
    subjects = []
    for mine in bindings_of(rules, arguments):
        other = bindings_of([mine.rule], theirs)
        if other and set(other[0].decays) >= set(mine.decays):
            reference = _trainer(against, other[0])
            binding = replace(mine, label=f"{against.name} ({mine.rule.name})")
            subjects.append(Subject(target, binding, reference, shapes, seed))
    if subjects:
        return subjects, ""
    common = {name: value for name, value in arguments.items() if name in theirs}
    bare = _bare_binding(common)
    if bare is None:
        return [], f"{target.name} and {against.name} have no lr in common."
    bare = replace(bare, label=against.name)
    return [Subject(target, bare, _trainer(against, bare), shapes, seed)], ""


def _trainer(against: Target, binding: Binding) -> Callable[[Draw], Path]:
    return lambda draw: train(against, binding, draw)


def _bare_binding(arguments: Mapping[str, Any]) -> Binding | None:
    """Return a binding that names the numeric arguments of a class; None without a rate."""
    numbers = {
        name: float(value)
        for name, value in arguments.items()
        if isinstance(value, float) and name not in ("weight_decay", "lr")
    }
    if "lr" not in arguments:
        return None
    declared = (
        Hyperparameter("lr", _number(arguments["lr"]), "learning rate", low_open=True, scale="log"),
        *(_described(name, value) for name, value in numbers.items()),
    )
    rule = Rule(
        name="",
        init=lambda _param, **_: None,
        update=lambda grad, state, _step, **_: (0 * grad, state),
        hyperparameters=declared,
    )
    decays: tuple[str, ...] = ("l2",) if "weight_decay" in arguments else ()

    def translate(setting: Setting) -> dict[str, Any]:
        decayed = {"weight_decay": setting.weight_decay} if decays else {}
        return {**setting.values, **decayed}

    return Binding(rule, translate, decays, numbers, claims_decay=False)


def _number(value: object) -> float:
    return float(value) if isinstance(value, float | int) else 0.01


def _described(name: str, value: float) -> Hyperparameter:
    is_share = 0 <= value < 1
    return Hyperparameter(
        name, value, "", high=1.0 if is_share else float("inf"), high_open=is_share
    )


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
        _note_outcome(outcomes, _CHECK_EQUATIONS, result)
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


def compare_equations(subject: Subject, count: int) -> tuple[list[Finding], Explanation | None]:
    """Compare drawn trainings with the reference; return findings and what explains them."""
    assert subject.reference is not None
    draws = list(_draws(subject, count))
    target, binding, reference = subject.target, subject.binding, subject.reference
    raised: list[Finding] = []
    with kept_process():
        try:
            cases, explanation = explain(target, binding, reference, draws)
        except TrainingError as error:
            text = f"raises an error in a training of a few steps: {one_line(error.raised)}"
            raised = [Finding("equations", Kind.FAULT, text, _CHECK_EQUATIONS)]
            if not (draws := [draw for draw in draws if can_train(target, binding, draw)]):
                return raised, None
            cases, explanation = explain(target, binding, reference, draws)
        if explanation and explanation.reasons and explanation.is_complete:
            with suppress(TrainingError):
                cases, explanation = _confirmed(subject, draws, cases, explanation)
    departing = [case for case in cases if case.departing()]
    if not departing:
        return raised, None if raised else explanation
    case = min(departing, key=lambda case: first_of(_departures(case)).step)
    draw, departure = shortest(target, binding, reference, case.draw)
    script = script_of_departure(target, binding, reference, draw)
    where = first_of(_departures(case))
    term = _term(subject, case.draw, where)
    reasons = explanation.reasons if explanation else ()
    if not reasons:
        sentence = (
            f"departs from {subject.binding.label} at step {where.step} in "
            f"{tensor_text(where.label, case.draw.start[where.label])}"
            + (f", first in {term}" if term else "")
            + _where(cases)
            + "; "
            + account_of(subject, cases)
        )
        reasons = (("equations", Kind.FAULT, sentence),)
    named = [
        Finding(
            name,
            kind,
            sentence,
            _CHECK_EQUATIONS,
            where.step,
            tensor_text(where.label, case.draw.start[where.label]),
            term,
            departure.difference,
            script,
        )
        for name, kind, sentence in reasons
    ]
    return [*raised, *named], None if raised else explanation


def _confirmed(
    subject: Subject, draws: Sequence[Draw], cases: list[Case], explanation: Explanation
) -> tuple[list[Case], Explanation | None]:
    """Return cases and explanation if it predicts further draws; else those with these draws."""
    assert subject.reference is not None
    target, binding = subject.target, subject.binding
    further = disproved(target, binding, explanation, list(_draws(subject, DRAWS, _CONFIRMING)))
    if not further:
        return cases, explanation
    return explain(target, binding, subject.reference, [*draws, *further])


def _where(cases: Sequence[Case]) -> str:
    """Return the tensors at which the steps depart, as the end of a clause."""
    departing, others = divided(cases)
    if step := first_late_step(departing, others):
        return f", only from step {step} on"
    condition = condition_of(departing, others, least=LEAST_CASES)
    return f", {condition.text}" if condition else ""


def _departures(case: Case) -> dict[str, Departure]:
    return departures(case.draw, case.actual, case.expected)


def _draws(subject: Subject, count: int, stream: int = 1000) -> Iterator[Draw]:
    binding, rule = subject.binding, subject.binding.rule
    random = subject.random(stream)
    is_simple = not rule.is_joint and "axes" not in rule.needs
    yield drawn(_defaults(binding), subject.shapes, random, with_missing=False)
    for index in range(count):
        setting = drawn_setting(
            rule, binding.fixed, binding.decays, random, plain=index == 0, wide=index > 1
        )
        if index == _OF_LARGE_RATE:
            setting = _with_large_rate(setting, random)
        is_apart = subject.target.takes_missing and not subject.is_joint
        missing = is_apart and index % 2 == 1
        yield drawn(setting, subject.shapes, random, with_missing=missing, wide=is_simple)
    for shapes, steps in ((LONG, LONG_STEPS), (LARGE, 3)):
        # l2 decay would feed rounding back for so many steps: it outgrows gradients of 1e-6.
        decays = [kind for kind in binding.decays if kind != "l2"] if steps > 3 else binding.decays
        setting = drawn_setting(rule, binding.fixed, decays, random)
        if steps > 3:
            setting = settled(setting, rule, binding.fixed, random)
        yield drawn(setting, shapes, random, with_missing=False, steps=steps)
    if is_simple:  # without weight decay, which would feed rounding back for so many steps
        setting = drawn_setting(rule, binding.fixed, binding.decays, random, plain=True)
        yield drawn(setting, LONG, random, with_missing=False, steps=LONGEST_STEPS)


def _with_large_rate(setting: Setting, random: np.random.Generator) -> Setting:
    rate = float(f"{10 ** random.uniform(0.1, 0.7):.3g}")
    return replace(setting, values={**setting.values, "lr": rate})


def _defaults(binding: Binding) -> Setting:
    """Return the defaults of a rule, with weight decay if the class has it."""
    rule = binding.rule
    decay = rule.default_decay if rule.default_decay in binding.decays else None
    kind = decay or (binding.decays[0] if binding.decays else rule.default_decay)
    coefficient = rule.default_weight_decay or 0.01
    values = {**rule.defaults, **binding.fixed}
    return Setting(values, coefficient if binding.decays else 0.0, kind)


def _term(subject: Subject, draw: Draw, departure: Departure) -> str:
    """Return the state of the rule that no array of the optimizer's state equals: its symbol."""
    rule = subject.binding.rule
    if rule.is_joint or not rule.state:
        return ""
    label, step = departure.label, departure.step
    parameters = parameters_of(draw.start)
    optimizer = subject.target(list(parameters.values()), subject.binding.arguments(draw.setting))
    for gradients in draw.gradients[:step]:
        step_with(optimizer, parameters, gradients)
    arrays = [
        value.detach().to(torch.float64)
        for value in optimizer.state.get(parameters[label], {}).values()
        if isinstance(value, torch.Tensor) and value.shape == draw.start[label].shape
    ]
    for name, expected in states_of(rule, draw, label, step).items():
        if name in rule.state and not any(
            torch.allclose(array, expected, rtol=1e-9, atol=1e-300) for array in arrays
        ):
            return rule.state[name].partition(",")[0]
    return "θ"


def states_of(rule: Rule, draw: Draw, label: str, step: int) -> dict[str, torch.Tensor]:
    """Return the state of a rule after some steps of one tensor, by name."""
    params = {label: draw.start[label].contiguous()}
    state = initialise_all(rule, params, dict(draw.setting.values))
    count = 0
    for gradients in draw.gradients[:step]:
        gradient = gradients[label]
        if gradient is None:
            continue
        count += 1
        setting = draw.setting
        params, state = apply_all(
            rule,
            params,
            {label: gradient.contiguous()},
            state,
            count,
            dict(setting.values),
            setting.weight_decay,
            setting.decay,
            curvature={label: hessian_diagonal(gradient)} if rule.needs_curvature else None,
        )
    return {
        name: value
        for name, value in state[label]._asdict().items()
        if isinstance(value, torch.Tensor)
    }


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
