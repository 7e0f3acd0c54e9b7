"""Learning rates of groups of parameters are audited like those of whole optimizers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from optrial.analysis.audit import Severity
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.remedies import equal_search
from optrial.config import override, parse_study
from optrial.plan import check_study
from optrial.records import Record
from optrial.spec import ParameterGroup
from tests.analysis.audit.builders import RATES, Case, by, sound
from tests.analysis.audit.test_rules import as_written, fired, rate_at_edge
from tests.specs import changed

GROUP: dict[str, Any] = {"match": "head", "lr": RATES["adam"]}


def in_group(run: Record) -> Record:
    """The run with its rate in a group, beside a fixed rate of the others."""
    rate = run.spec.hyperparameters["lr"]
    head = ParameterGroup("head", ("head.weight",), hyperparameters={"lr": rate})
    return changed(run, setting=f"head.lr={rate:g}", hyperparameters={"lr": 0.001}, groups=(head,))


def grouped(*groups: dict[str, Any], lr: Any = 0.001, case: Case | None = None) -> Case:
    """The sound study, or another, whose adam is tuned by the rate of its group head."""
    case = case or sound()
    entries = [
        {**entry, "lr": lr, "groups": list(groups)} if entry["rule"] == "adam" else entry
        for entry in case.study["optimizers"]
    ]
    return case.change(in_group, by("adam")).with_study(optimizers=entries)


def test_a_tuned_group_is_tuned() -> None:
    report = grouped(GROUP).audit()
    assert not {f.rule for f in report.findings} & {"A01", "A02", "A03", "A04", "A05", "A07"}


def test_the_best_rate_of_a_group_lies_at_the_edge() -> None:
    case = grouped(GROUP | {"lr": [1e-5, 3e-5, *RATES["adam"][:3]]}, case=rate_at_edge(sound()))
    assert Severity.ERROR in fired(case, "A01")
    (finding,) = (f for f in case.audit().findings if f.rule == "A01")
    assert "head.lr 0.001" in finding.evidence
    assert any(a.startswith("optimizers.adam.groups[0].lr=") for a in finding.remedy.assignments)
    parsed, problems = parse_study(override(as_written(case.study), finding.remedy.assignments))
    assert parsed is not None
    assert not problems
    assert not [p for p in check_study(parsed.shared) if "lr" in p.path]


def test_a_rule_of_a_group_with_its_default_rate_is_untuned() -> None:
    other = ParameterGroup("norm", ("norm.weight",), "rule", "lion", {"lr": 0.001})
    case = grouped(GROUP, {"match": "norm", "rule": "lion"}).change(
        lambda run: changed(run, groups=(*run.spec.groups, other)), by("adam")
    )
    (finding,) = (f for f in case.audit().findings if f.rule == "A03")
    assert "that of adam (norm) is the default" in finding.evidence
    assert "adam (head)" in finding.evidence


def test_a_second_tuned_rate_needs_more_trials() -> None:
    def both(run: Record) -> Record:
        rate = run.spec.groups[0].hyperparameters["lr"]
        return changed(run, hyperparameters={"lr": rate * 2})

    case = grouped(GROUP, lr=[2 * rate for rate in RATES["adam"]]).change(both, by("adam"))
    (finding,) = (f for f in case.audit().findings if f.rule == "A05")
    assert "adam has 5 of the 25 trials needed" in finding.evidence


def test_a_search_draws_the_rates_of_a_group_from_a_range() -> None:
    """Of two values, one is always at the edge."""
    context = Context.of(grouped(GROUP).view())
    remedy = equal_search(context, context.optimizers, 5, "search")
    head = remedy.settings["optimizers.adam.groups[0].lr"]["log"]
    assert head[0] <= min(RATES["adam"]) < max(RATES["adam"]) <= head[1]


def test_schedules_of_groups_differ() -> None:
    case = grouped(GROUP).change(
        lambda run: changed(
            run,
            groups=tuple(g._replace(schedule={"kind": "cosine"}) for g in run.spec.groups),
        ),
        by("adam"),
    )
    (finding,) = (f for f in case.audit().findings if f.rule == "A09")
    assert "the schedule of adam is constant or cosine" in finding.evidence
    assert not finding.remedy.assignments


def test_a_name_may_promise_the_rule_of_a_group() -> None:
    muon = ParameterGroup("head", ("head.weight",), "rule", "adamw", {"lr": 0.001})
    case = sound().change(
        lambda run: replace(run, spec=replace(run.spec, rule="muon", groups=(muon,))), by("adam")
    )
    named = [
        {**entry, "rule": "muon", "name": "adam"} if entry["rule"] == "adam" else entry
        for entry in case.study["optimizers"]
    ]
    assert not fired(case.with_study(optimizers=named), "E04")


def decayed(kind: Literal["l2", "decoupled"], *, entry: float = 0.0) -> Case:
    """The sound study with decoupled decay in sgd, and with decay in a group of adam."""

    def with_decay(run: Record) -> Record:
        (head,) = run.spec.groups
        head = head._replace(weight_decay=0.1, decay=kind)
        return changed(run, groups=(head,), weight_decay=entry, decay="decoupled")

    case = grouped(GROUP).change(with_decay, by("adam"))
    return case.spec(by("sgd"), weight_decay=0.1, decay="decoupled")


def test_kinds_of_decay_in_groups_differ() -> None:
    (finding,) = (f for f in decayed("l2").audit().findings if f.rule == "A10")
    assert "adam (head) has l2 weight decay 0.1" in finding.evidence
    assert not finding.remedy.assignments
    assert not fired(decayed("decoupled"), "A10")
    assert fired(decayed("l2", entry=0.1), "A10")  # of both kinds, beside an optimizer of one
