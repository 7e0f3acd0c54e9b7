"""Comparison of drawn trainings with the equations of a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from optrial.certifying.conditions import LEAST_CASES, Case, condition_of, divided, first_late_step
from optrial.certifying.explanation import Explanation, TrainingError, can_train, disproved, explain
from optrial.certifying.findings import Finding, Kind
from optrial.certifying.reproducer import script_of_departure, shortest
from optrial.certifying.subject import Subject
from optrial.certifying.unexplained import account_of
from optrial.errors import one_line
from optrial.models import kept_process
from optrial.replay.binding import Binding
from optrial.replay.comparison import Departure, departures, first_of
from optrial.replay.draws import Draw, Setting, drawn, drawn_setting, settled, tensor_text
from optrial.replay.supplies import hessian_diagonal
from optrial.replay.target import parameters_of, step_with
from optrial.rules import Rule, apply_all, initialise_all

__all__ = ["CHECK_EQUATIONS", "DRAWS", "compare_equations"]

DRAWS = 16
LONG, LONG_STEPS = {"matrix": (2, 2)}, 130
LONGEST_STEPS = 1030
"""More than thousand, for changes after a round number of steps; of rules without matrices."""
_CONFIRMING = 1002
"""Stream of the draws that an explanation must predict, too."""
_OF_LARGE_RATE = 2  # index of the draw with a learning rate above 1
LARGE = {"large": (48, 50)}
CHECK_EQUATIONS = "Its steps are those of the equations, in float64."


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
            raised = [Finding("equations", Kind.FAULT, text, CHECK_EQUATIONS)]
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
            CHECK_EQUATIONS,
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
