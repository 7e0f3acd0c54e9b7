"""Certificates of correct and of faulty optimizers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import optrial
from optrial.certifying import Certificate, Finding, Kind, Verdict, certificate, workable
from optrial.certifying.checks import arguments
from optrial.certifying.checks.interface import leaves_gradients_alone
from optrial.certifying.conditions import Case, Item, condition_of
from optrial.certifying.conventions import CONVENTIONS
from optrial.certifying.edits import single_edits
from optrial.certifying.explanation import Explanation, disproved, explain
from optrial.certifying.fitting import fitted
from optrial.certifying.rule_certificate import equations_are_the_update
from optrial.certifying.subject import Subject
from optrial.certifying.text import badge, certificate_text
from optrial.certifying.unexplained import account_of
from optrial.cli.certify import _arguments as arguments_of
from optrial.cli.certify import _text as text_of
from optrial.errors import StudyError
from optrial.replay.binding import bindings_of
from optrial.replay.comparison import departures
from optrial.replay.draws import SHAPES, Draw, Setting, drawn_setting
from optrial.replay.equations import program_of
from optrial.replay.reference import replay
from optrial.replay.target import Target, train
from optrial.rules import RULES, Rule
from tests.certifying.faults import FAULTS, OF_PYTORCH, SOURCES, Fault, planted

QUICK = {"decay not scaled by lr", "mean of all tensors of one shape"}
"""Faults that are planted in the normal tests, too."""
MENDED = {
    "dampening in place of its complement",
    "dampening ignored in foreach",
    "velocity scaled",
    "no scale",
    "step sizes bounded before they grow",
    "gradient kept where it turned",
    "scale taken after decay",
    "coefficients exchanged",
    "norm of rows",
    "root mean square",
    "product of the wrong side",
    "spectral norm squared",
    "fourth root",
    "small decay ignored",
    "averages of copies",
    "first 1024 weights",
    "gradients left in zero_grad",
    "state cleared by new groups",
    "rate as a tensor copied",
    "correction of ten steps",
    "missing gradients end the step",
    "match of sizes ignored",
    "start squared",
    "root of the maximum left out",
    "squares around the average",
    "norm of all gradients clipped",
    "gradients clipped in place",
    "beta2 fixed",
    "first gradient left out",
    "shares exchanged",
    "one velocity for all tensors",
    "centre not averaged",
    "average changed in place",
    "average of averages",
    "third root",
    "eps outside one root",
    "correction of the other term",
    "gradient without average",
    "corrected twice",
    "former gradient forgotten",
    "rate left out of the schedule",
}
"""Faults that were missed, or had another name, once."""
SHARE = 6
"""Every sixth fault is planted here; `python -m tests.certifying --faults` plants all."""
CASES = [
    pytest.param(
        fault,
        id=f"{fault.class_name}: {fault.label}",
        marks=() if fault.label in QUICK else pytest.mark.slow,
    )
    for number, fault in enumerate(FAULTS)
    if number % SHARE == 0 or fault.label in QUICK | MENDED
]


def lines(certificate: Certificate) -> str:
    """What a failed assertion shows."""
    return "\n".join(f"{f.kind} {f.name}: {f.sentence}" for f in certificate.findings)


@contextmanager
def float32_afterwards() -> Iterator[None]:
    """Scripts may change the default type."""
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("fault", CASES)
def test_a_planted_fault_is_named_and_reproduced(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most faults are named by the comparison with the equations, without further checks."""
    _, optimizer = planted(fault, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(certificate, "CHECKS", ())
        result = optrial.certify(optimizer, draws=8)
    if not any(map(fault.is_named, result.findings)):
        result = optrial.certify(optimizer, draws=1)
    found = next(filter(fault.is_named, result.findings), None)
    assert found is not None, lines(result)
    assert result.verdict in (Verdict.DIFFERS, Verdict.CONVENTIONS)
    assert found.reproducer
    with pytest.raises(AssertionError), float32_afterwards():
        exec(found.reproducer, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("step number of the first tensor", "its steps are those of"),
        ("norm of all gradients clipped", "shared a state"),
        ("average summed", "ignores"),
        ("centre not averaged", "sums gradients"),
    ],
)
def test_a_planted_fault_has_no_wrong_name(label: str, text: str, tmp_path: Path) -> None:
    (fault,) = (fault for fault in FAULTS if fault.label == label)
    result = optrial.certify(planted(fault, tmp_path)[1], seed=7)
    assert result.verdict is Verdict.DIFFERS
    assert not any(text in finding.sentence for finding in result.findings), lines(result)


def _draws_of(values: Sequence[float]) -> list[Draw]:
    """Trainings of one weight that differ in beta."""
    weights, gradients = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return [
        Draw({"w": weights}, [{"w": gradients}], Setting({"lr": 0.1, "beta": value}))
        for value in values
    ]


def _items_of(values: Sequence[float]) -> list[Item]:
    return [Item(Case(draw, [draw.start], [draw.start]), "w") for draw in _draws_of(values)]


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("average", "(m + weight_decay·θ) / (1 − beta1^t)"),
        ("corrected average", "(m / (1 − beta1^t) + weight_decay·θ)"),
    ],
)
def test_decay_is_added_to_an_average_that_the_step_reads(text: str, step: str) -> None:
    (convention,) = (c for c in CONVENTIONS if f"to the {text} of gradients" in c.sentence)
    adam, sgd = (program_of(RULES[name], "l2") for name in ("adam", "sgd"))
    assert adam is not None
    assert sgd is not None
    changed = convention.change(adam)
    assert changed is not None
    assert step in str(changed.lines[-1])
    assert len(changed.lines) == len(adam.lines) - 1
    assert convention.change(sgd) is None


def test_a_bound_that_may_be_chance_is_not_named() -> None:
    high, low = _items_of([0.4, 0.5, 0.6, 0.7]), _items_of([0.1, 0.2, 0.3])
    found = condition_of(high, low, least=3)
    assert found is not None
    assert found.text == "where beta is 0.4 or more, not where it is 0.3 or less"
    assert condition_of(high, low[:2], least=3) is None
    assert condition_of(high, low[:2]) is not None


def test_an_explanation_is_held_against_further_trainings() -> None:
    (binding,) = bindings_of([RULES["momentum"]], {"lr": 0.1, "momentum": 0.9, "dampening": 0.0})
    target = Target("torch.optim:SGD", torch.optim.SGD, {})
    draw = replace(_draws_of([0.5])[0], setting=Setting({"lr": 0.1, "momentum": 0.9}))
    right = Explanation((), (), lambda draw: replay(RULES["momentum"], draw))
    wrong = Explanation((), (), lambda draw: [draw.start])
    assert disproved(target, binding, right, [draw]) == []
    assert disproved(target, binding, wrong, [draw]) == [draw]


@pytest.mark.slow
def test_unknown_weight_decay_spoils_no_other_comparison(tmp_path: Path) -> None:
    (fault,) = (fault for fault in FAULTS if fault.label == "decay towards 1")
    found = {f.name for f in optrial.certify(planted(fault, tmp_path)[1]).findings}
    assert found == {"weight decay", "symmetry: sign", "NaN gradients", "complex weights"}


@pytest.mark.slow
def test_what_raises_in_some_trainings_is_explained_by_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fault,) = (fault for fault in FAULTS if fault.label == "zero gradients not counted")
    _, optimizer = planted(fault, tmp_path)
    monkeypatch.setattr(certificate, "CHECKS", ())
    result = optrial.certify(optimizer)
    assert "raises an error in a training of a few steps: ZeroDivisionError" in lines(result)
    assert any(map(fault.is_named, result.findings)), lines(result)


def test_a_number_is_fitted_to_all_weights() -> None:
    """The nearest solution for one weight alone is 4.774."""
    first = fitted(lambda x: np.array([(x - 4.757) * (x - 4.774)]), 4.775)
    both = fitted(lambda x: np.array([(x - 4.757) * (x - 4.774), x - 4.757]), 4.775)
    assert (first, both) == (4.774, 4.757)


def test_a_number_is_fitted_beside_numbers_without_a_value() -> None:
    with np.errstate(invalid="ignore"):
        value = fitted(lambda x: np.array([np.sqrt(1 - x) - np.sqrt(0.02)]), 0.1)
    assert value == 0.98


def test_a_number_without_effect_is_not_fitted() -> None:
    assert fitted(lambda _: np.ones(2), 1.0) is None
    assert fitted(lambda _: np.full(2, np.nan), 1.0) is None


PLAIN = [pytest.param(name, marks=() if name == "Lion" else pytest.mark.slow) for name in SOURCES]


@pytest.mark.parametrize("class_name", PLAIN)
def test_an_unchanged_copy_has_only_the_faults_of_pytorch(class_name: str, tmp_path: Path) -> None:
    certificate = optrial.certify(planted(class_name, tmp_path)[1], seed=3)
    known = {name for of_class, name in OF_PYTORCH if of_class == class_name}
    assert {fault.name for fault in certificate.faults} == known, lines(certificate)


TORCH = sorted({rule.torch_optim.class_name for rule in RULES.values() if rule.torch_optim})


EXCEPTIONS = {
    "Adafactor": "has weight_decay=0.0 by default, where its documentation says 0.01",
    "Adagrad": "ignores initial_accumulator of a group",
    "ASGD": "keeps a number of its state in the default type",
    "LBFGS": "raises an error after history was changed",
    "Muon": "rounds to a narrower type within the step",
    "NAdam": "keeps a number of its state in the default type",
    "RMSprop": "makes a weight NaN with a gradient that stays the same",
    "Rprop": "reads lr once",
}


"""Known exceptions of PyTorch: they are found, and make no class differ."""


@pytest.mark.slow
@pytest.mark.parametrize("class_name", [*TORCH, "Muon"])
def test_classes_of_torch_conform_with_their_known_exceptions(class_name: str) -> None:
    certificate = optrial.certify(f"torch.optim:{class_name}", draws=8)
    assert EXCEPTIONS.get(class_name, "") in lines(certificate)
    expected = Verdict.CONVENTIONS if class_name in EXCEPTIONS else Verdict.CONFORMS
    assert certificate.verdict is expected, lines(certificate)


def test_a_hyperparameter_without_effect_in_one_draw_is_not_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = arguments.train
    calls: list[object] = []

    def without_effect_at_first(*given: Any, **named: Any) -> Any:
        calls.append(given)
        path = trained(*given, **named)
        if len(calls) > 2:
            return path
        return [{k: 0 * v for k, v in weights.items()} for weights in path]

    monkeypatch.setattr(certificate, "compare_equations", lambda *_: ([], None))  # takes seconds
    monkeypatch.setattr(arguments, "train", without_effect_at_first)
    result = optrial.certify("torch.optim:RMSprop", draws=1)
    assert len(calls) > 2
    assert not [f.name for f in result.findings if f.name.startswith("no effect")], lines(result)


def test_few_steps_reach_the_bounds_of_rprop() -> None:
    rule, random = RULES["rprop"], np.random.default_rng(0)
    for _ in range(20):
        values = drawn_setting(rule, {}, ("l2",), random).values
        assert 0.1 <= values["least"] / values["lr"] <= 1.0 <= values["most"] / values["lr"] <= 3.0


NOT_ARITHMETIC = {"adafactor", "adam_mini", "prodigy", "lars", "lamb"}
"""Rules whose equations hold words, or that treat weights of norm 0 in another way."""


ARITHMETIC = [n for n in RULES if n not in NOT_ARITHMETIC and program_of(RULES[n], "l2")]


@pytest.mark.parametrize("name", ARITHMETIC)
def test_equations_as_they_are_written_are_the_update(name: str) -> None:
    assert equations_are_the_update(RULES[name], seed=1)


def test_most_equations_are_arithmetic() -> None:
    assert len(ARITHMETIC) >= 25


def test_coefficients_change_places_with_their_signs() -> None:
    program = program_of(RULES["muon"], "decoupled")
    assert program is not None
    lines = {edit.after for edit in single_edits(program, ["lr"])}
    assert "X ← 3.4445·X + 2.0315·X·Xᵀ·X − 4.775·X·Xᵀ·X·Xᵀ·X" in lines
    assert "X ← X / max(long_norms(X), eps)" in lines


class Own(torch.optim.SGD):
    """SGD whose constructor takes other names."""

    def __init__(self, params: Any, speed: float = 0.1) -> None:
        super().__init__(params, lr=speed)


def test_without_a_rate_it_is_not_comparable() -> None:
    certificate = optrial.certify(Own, against="sgd")
    assert certificate.verdict is Verdict.NOT_COMPARABLE
    assert certificate.verdict.exit_status == 2
    assert "its arguments are not those of sgd" in certificate.summary


class WithSteps(torch.optim.SGD):
    """SGD with a required argument."""

    def __init__(self, params: Any, steps: int, lr: float = 0.1) -> None:
        assert isinstance(steps, int)
        super().__init__(params, lr=lr)


class OnCuda(torch.optim.SGD):
    """SGD that refuses the CPU."""

    def step(self, closure: Any = None) -> Any:
        raise AssertionError("parameters must be on CUDA")


class OfNamed(torch.optim.SGD):
    """SGD that takes parameters with their names."""

    def __init__(self, named: Any, lr: float = 0.1) -> None:
        super().__init__([parameter for _, parameter in named], lr=lr)


def without_an_optimizer(params: Any, lr: float = 0.1) -> Any:
    return [p - lr for p in params]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (WithSteps, "it requires steps: pass --argument steps=..., in Python arguments=, or"),
        (OnCuda, "parameters must be on CUDA; certificates are made on the CPU."),
        (OfNamed, "write a function of the parameters that makes it, and certify that."),
        (without_an_optimizer, "without_an_optimizer returned list, which has no step"),
    ],
)
def test_what_cannot_be_made_is_not_comparable(target: Any, reason: str) -> None:
    certificate = optrial.certify(target, against="sgd")
    assert certificate.verdict is Verdict.NOT_COMPARABLE
    assert reason in certificate.reason


def test_slow_steps_have_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workable, "_LONGEST_STEP", -1.0)
    assert "a certificate has thousands" in optrial.certify("torch.optim:SGD").reason


def test_arguments_of_the_command() -> None:
    assert arguments_of(["steps=100", "betas=[0.9, 0.99]"]) == {"steps": 100, "betas": [0.9, 0.99]}
    with pytest.raises(StudyError, match="must be written NAME=VALUE"):
        arguments_of(["steps"])
    with pytest.raises(StudyError, match="sgd is a rule"):
        optrial.certify("sgd", arguments={"steps": 1})


def test_an_argument_whose_values_are_drawn_is_refused() -> None:
    with pytest.raises(StudyError, match=r"arguments\.lr: the checks choose its values; leave it"):
        optrial.certify("torch.optim:Adam", arguments={"lr": 0.5, "foreach": False})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(StudyError, match=f"seed: {seed}: must be a whole number from 0"):
        optrial.certify("torch.optim:Adam", seed=seed)


class NeverFinite(torch.optim.SGD):
    """SGD whose steps end in NaN."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.fill_(torch.nan)
        return loss


def test_weights_that_are_nan_do_not_show_what_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "compare_equations", lambda *_: ([], None))  # takes seconds
    result = optrial.certify(NeverFinite, against="sgd", draws=1)
    assert result.verdict is Verdict.DIFFERS
    assert not [f.name for f in result.findings if f.name.startswith("no effect")]


class Rounded(torch.optim.SGD):
    """SGD that rounds gradients in its plain variant only."""

    def __init__(self, params: Any, lr: float = 0.1, foreach: bool = False) -> None:
        super().__init__(params, lr=lr, foreach=foreach)

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            if not self.param_groups[0]["foreach"] and parameter.grad is not None:
                parameter.grad = parameter.grad.bfloat16().to(parameter.dtype)
        return super().step(closure)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_fused_kernels_mix_up_gradients_of_another_layout(name: str) -> None:
    """The kernels of PyTorch 2.13 on the CPU; the plain and foreach variants read strides."""
    certificate = optrial.certify(getattr(torch.optim, name))
    (found,) = (f for f in certificate.findings if f.name == "gradient layout")
    assert found.kind is Kind.NOTE
    assert "moves the wrong elements with fused=True" in found.sentence
    with pytest.raises(AssertionError), float32_afterwards():
        exec(found.reproducer, {})


def test_variants_that_round_at_other_places_are_conventions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(certificate, "compare_equations", lambda *_: ([], None))  # takes seconds
    result = optrial.certify(Rounded, against="sgd", draws=1)
    (found,) = [f for f in result.findings if f.name == "variant foreach"]
    assert found.kind == "convention", found
    assert "rounds to a narrower type at other places" in found.sentence


def test_a_decay_rate_of_the_other_sign_is_understood() -> None:
    rule = RULES["adafactor"]
    arguments = {"lr": 1e-3, "decay_rate": -0.8, "clip_threshold": 1.0, "weight_decay": 0.0}
    (binding,) = bindings_of([rule], arguments)
    assert binding.arguments(Setting(rule.defaults))["decay_rate"] == -0.8


def test_another_class_is_a_reference() -> None:
    certificate = optrial.certify(
        "tests.certifying.plain_lion:Lion", "tests.certifying.plain_lion:Lion", draws=3
    )
    assert certificate.verdict is Verdict.CONFORMS, lines(certificate)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("jax:adam", "only classes with the interface of torch.optim.Optimizer"),
        ("adm", "Did you mean 'adam'?"),
        ("os:system", "standard library"),
        ("torch.optim:Missing", "cannot be imported"),
        (3, "must be a class of optimizers, a rule, or a name"),
    ],
)
def test_bad_targets(target: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        optrial.certify(target)


def test_no_sentence_is_wider_than_the_terminal() -> None:
    result = optrial.certify(Own, against="sgd")
    text = certificate_text(result, width=50)
    assert max(map(len, text.splitlines())) <= 50, text
    assert " ".join(text.split()).startswith(result.summary)


def test_a_long_line_of_a_script_breaks_where_it_stays_the_same_program() -> None:
    script = "x = f([1, 2], name='a, b', c=(3, 4), d='" + 20 * "e" + "')\ny = 1, 2, 3"
    result = optrial.certify(Own, against="sgd")
    finding = Finding("own", Kind.FAULT, "departs", reproducer=script)
    result = replace(result, findings=(finding,))
    code = textwrap.dedent(certificate_text(result, width=40).partition("):\n\n")[2])
    assert max(map(len, code.splitlines())) <= 36, code
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(script))


def test_a_rule_of_ones_own() -> None:
    rule = Rule(
        name="halved",
        init=lambda _param, **_: None,
        update=lambda grad, state, _step, *, lr: (-lr * grad / 2, state),
        hyperparameters={"lr": 0.1},
    )
    certificate = optrial.certify(rule)
    assert {f.sentence for f in certificate.faults} >= {"`title` is empty."}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [64, 87])
def test_rounding_that_decay_feeds_back_is_no_fault(seed: int) -> None:
    certificate = optrial.certify("torch.optim:Adamax", seed=seed)
    assert certificate.verdict is Verdict.CONFORMS, lines(certificate)


class Faster(torch.optim.RMSprop):
    """RMSProp with a learning rate that is 1 % too large."""

    def __init__(self, params: Any, lr: float = 1e-2, **others: Any) -> None:
        super().__init__(params, 1.01 * lr, **others)


@pytest.mark.parametrize(("optimizer", "expected"), [(torch.optim.RMSprop, 0), (Faster, 1)])
def test_a_variance_that_cancels_hides_rounding_alone(optimizer: Any, expected: int) -> None:
    target = Target(optimizer.__name__, optimizer, {})
    rule = RULES["rmsprop"]
    values = {"lr": 0.01, "rho": 0.05, "eps": 1e-9, "momentum": 0.0, "centered": True}
    names = {"lr": 0.01, "alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "centered": False}
    (binding,) = bindings_of([rule], {**names, "weight_decay": 0.0})
    start = {"w": torch.tensor([0.3, 0.7, 1.1], dtype=torch.float64)}
    gradients = [{"w": start["w"] * (1 + 1e-6 * (-1) ** step)} for step in range(6)]
    draw = Draw(start, gradients, Setting(values))
    path = train(target, binding, draw)
    assert departures(draw, path, replay(rule, draw))
    cases, _ = explain(target, binding, lambda given: replay(rule, given), [draw])
    assert len([case for case in cases if case.departing()]) == expected


def test_a_difference_without_bounds_is_null_in_json() -> None:
    finding = Finding("groups", Kind.FAULT, "makes a weight NaN", difference=float("inf"))
    text = text_of(Certificate("a:B", (), (finding,), {}, {}, 0, 1), as_json=True, as_html=False)
    assert json.loads(text, parse_constant=pytest.fail)["findings"][0]["difference"] is None


@pytest.mark.parametrize("reference", ["adam", "amsgrad", "schedule_free_adamw"])
def test_the_badge_ends_where_its_colour_ends(reference: str) -> None:
    svg = badge(Certificate("a:B", (reference,), (), {}, {}, 0, 1))
    found = re.search(r'width="(\d+)".*d="M(\d+) 0h(\d+)a3', svg)
    assert found is not None
    width, begin, length = map(int, found.groups())
    assert begin + length + 3 == width


def test_the_command_prints_json_and_writes_a_badge(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "optrial", "certify", "qhm", "--json", "--badge", "b.svg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "conforms"
    assert answer["checks"]
    assert "conforms" in (tmp_path / "b.svg").read_text("utf-8")


def test_numpy_is_left_alone() -> None:
    before = np.geterr()
    optrial.certify("signsgd", draws=1)
    assert np.geterr() == before
    assert torch.get_default_dtype() is torch.float32


def test_an_error_of_the_rule_is_no_fault_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("the rule fails")

    monkeypatch.setattr("optrial.certifying.pairing.replay", fails)
    with pytest.raises(RuntimeError, match="the rule fails"):
        optrial.certify("torch.optim:SGD", draws=2)


def _scaled(scale: Any) -> type[torch.optim.Optimizer]:
    """Return Adam whose learning rate is multiplied by a function of step and tensor."""

    class Scaled(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            loss = None if closure is None else closure()
            (group,) = self.param_groups
            lr, given = group["lr"], group["params"]
            for parameter in given:
                count = int(self.state.get(parameter, {}).get("step", 0)) + 1
                group["lr"], group["params"] = lr * scale(count, parameter), [parameter]
                super().step()
            group["lr"], group["params"] = lr, given
            return loss

    return Scaled


@pytest.mark.parametrize(
    ("optimizer", "clause"),
    [
        (_scaled(lambda step, _: min(1.0, step / 4)), "first steps are 0.25, 0.5, 0.75, 1"),
        (_scaled(lambda _, p: 1 / (1 + p.ndim)), "are 0.5 times as large in vector, 0.3333 times"),
        (_scaled(lambda step, _: step % 2), "first steps are 1, 0, 1, 0, 1 and 0 times"),
        (_scaled(lambda *_: 0.3), "its steps are 0.3 times as large, in the"),
        (_scaled(lambda step, _: 1 + 1e-5 * step), "no known convention"),
        (torch.optim.Adamax, "its steps are those of adamax"),
        (torch.optim.SGD, "its steps are those of sgd"),
        (torch.optim.NAdam, "its steps are those of nadam"),
    ],
)
def test_steps_without_an_explanation_are_described(optimizer: Any, clause: str) -> None:
    target, rule = Target("here:Optimizer", optimizer, {}), RULES["adam"]
    parameters = target.signature.items()
    (binding,) = bindings_of([rule], {name: p.default for name, p in parameters})
    subject = Subject(target, binding, lambda draw: replay(rule, draw), SHAPES, seed=0)
    draw = subject.draw(0, replace(subject.setting(0, decayed=False), weight_decay=0.0))
    case = Case(draw, train(target, binding, draw), replay(rule, draw))
    assert clause in account_of(subject, [case])


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_left_alone_with_every_kind_of_decay(seed: int, tmp_path: Path) -> None:
    (fault,) = (f for f in FAULTS if f.label == "gradients changed")
    name, optimizer = planted(fault, tmp_path)
    target = Target(name, optimizer, {})
    parameters = target.signature.items()
    (binding,) = bindings_of([RULES["adam"]], {name: p.default for name, p in parameters})
    findings = list(leaves_gradients_alone(Subject(target, binding, None, SHAPES, seed)))
    assert any(map(fault.is_named, findings)), findings
