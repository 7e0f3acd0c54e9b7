"""Whole audits: what they add up to, what they cost, and how they read."""

from __future__ import annotations

import cProfile
import json
import pstats
import runpy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from optrial.analysis.audit import (
    AUDIT_RULES,
    AuditRule,
    Severity,
    as_json,
    report_text,
    summary_line,
    waiver_problems,
)
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import group_runs
from optrial.engine.backends.reference import ReferenceEngine
from optrial.errors import StudyError
from optrial.spec import RunFacts, Status
from optrial.study import Study
from tests.analysis.audit import builders
from tests.analysis.audit import test_rules as rules
from tests.analysis.audit.builders import Case, by, fixed, grid, record, reported, sound, study
from tests.small import small_keys
from tests.tolerance import STATISTIC_FLOAT64

SALTS = 20
LINE = 88
DOCS = Path(__file__).parents[3] / "docs"
AT_MOST_SECONDS = 15.0  # the promise is 5; machines that run tests are busy


def salted(monkeypatch: pytest.MonkeyPatch, salt: int) -> None:
    plain = builders.noise

    def noise(*parts: object) -> float:
        return plain(salt, *parts)

    monkeypatch.setattr(builders, "noise", noise)


@pytest.mark.parametrize("salt", range(SALTS))
def test_a_sound_study_is_clean_whatever_its_noise(
    salt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    salted(monkeypatch, salt)
    report = sound().audit()
    assert report.exit_status == 0, report_text(report)
    assert {str(result.verdict) for result in report.claims} == {"supported"}


@pytest.mark.parametrize("salt", range(SALTS // 4))
def test_a_plain_grid_has_two_warnings_and_nothing_that_blocks(
    salt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    salted(monkeypatch, salt)
    report = grid().audit()
    assert {f.rule for f in report.findings if f.severity != Severity.ADVICE} == {"B05", "D02"}
    assert report.exit_status == 1


def test_identical_optimizers_are_undecided_and_never_better() -> None:
    twin = [record("adam", 0.001, seed, optimizer="eve", run_id=f"e{seed}") for seed in range(10)]
    case = (
        fixed()
        .adding(*twin)
        .with_study(claims=["eve > adam on test_accuracy", "adam is best on test_accuracy"])
    )
    report = case.audit()
    assert [str(result.verdict) for result in report.claims] == ["undecided", "undecided"]
    evidence = [f.evidence for f in report.findings if f.rule == "D04"]
    assert len(evidence) == 2
    assert any("undecided for the best: adam, eve" in text for text in evidence)


def test_waived_findings_are_shown_with_their_reason_and_do_not_count() -> None:
    case = sound().spec(zero_grad=False)
    assert case.audit().exit_status == 2
    report = case.with_study(waive={"E18": "piling up is what we study"}).audit()
    assert report.exit_status == 0
    assert "piling up is what we study" in report_text(report)
    assert [f["waived"] for f in as_json(report)["findings"]] == ["piling up is what we study"]


def test_waivers_need_a_rule_that_exists_and_a_reason() -> None:
    problems = waiver_problems({"A99": "why not", "a04": "too", "A04": ""})
    assert [problem.path for problem in problems] == ["waive.A99", "waive.a04", "waive.A04"]
    assert "'A04'" in problems[1].message
    assert waiver_problems(["A04"])
    with pytest.raises(StudyError, match="A99"):
        sound().with_study(waive={"A99": "why not"}).audit()


def test_findings_come_by_severity_and_waived_ones_last() -> None:
    case = grid().spec(zero_grad=False).with_study(waive={"D02": "a pilot"})
    findings = case.audit().findings
    assert [f.rule for f in findings] == ["E18", "B05", "D02"]
    assert [bool(f.waived) for f in findings] == [False, False, True]


def test_text_fits_a_terminal_except_for_commands() -> None:
    text = report_text(grid().spec(zero_grad=False).only(lambda r: r.seed == 0).audit())
    prose = [line for line in text.splitlines() if "--set" not in line]
    assert max(map(len, prose)) <= LINE
    assert "\t" not in text
    assert text.startswith("audit: ")
    assert "\n" not in summary_line(sound().audit())


def test_cost_is_that_of_similar_runs() -> None:
    """A stack of 15 runs took 31.5 s, so that a run takes 2.1 s."""
    (finding,) = [f for f in grid().audit().findings if f.rule == "D02"]
    assert (finding.remedy.runs, finding.remedy.seconds) == (
        60,
        pytest.approx(60 * 31.5 / 15, rel=STATISTIC_FLOAT64),
    )


def test_an_empty_or_unfinished_study_is_audited_too() -> None:
    planned = sound().fields(status=Status.PLANNED, step=0, facts=RunFacts(), metrics={})
    for case in (planned, Case(study(), ()), sound().only(lambda r: not reported(r))):
        assert report_text(case.audit())
    assert planned.audit().funnel["done"] == 0


def test_every_run_diverged() -> None:
    report = sound().diverged(lambda run: True).audit()
    json.dumps(as_json(report), allow_nan=False)
    assert report.exit_status == 2


def test_a_thousand_runs_are_analysed_and_audited_in_seconds() -> None:
    rates = [1e-4 * 10 ** (i / 4) for i in range(11)]
    records = [
        record("adam", rate, seed, optimizer=f"adam{k}", run_id=f"{k}-{rate}-{seed}")
        for k in range(9)
        for rate in rates
        for seed in range(10)
    ]
    entries = [{"name": f"adam{k}", "rule": "adam", "lr": rates} for k in range(9)]
    claims = [f"adam{k} > adam0 on test_accuracy" for k in range(1, 9)]
    keys = study(tune=None, optimizers=entries, claims=[*claims, "adam0 is best on test_loss"])
    case = Case(keys, tuple(records))
    assert len(records) == 990
    before = time.process_time()
    case.audit()
    view = case.view()
    for problem in view.problems:
        assert problem.summaries
        assert problem.pairs
        for metric in view.metrics:
            assert problem.sensitivity(metric)
            assert problem.bands(metric, case.curves(metric), view.points)
    assert time.process_time() - before < AT_MOST_SECONDS


def test_the_cost_of_an_audit_is_proportional_to_the_number_of_runs() -> None:
    def calls(case: Case) -> int:
        with cProfile.Profile() as profile:
            case.audit()
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    sound().audit()  # imports what it needs
    assert calls(grid(seeds=32)) < 4.5 * calls(grid(seeds=8))


def test_an_audit_does_not_depend_on_the_order_of_records() -> None:
    case = grid()
    backwards = case.only(lambda r: True).change(lambda r: r)
    shuffled = Case(case.study, tuple(sorted(backwards.records, key=lambda r: r.run_id[::-1])))
    rules = [[f.rule for f in c.audit().findings] for c in (case, shuffled)]
    assert rules[0] == rules[1]


def test_trained_runs_are_audited(tmp_path: Path) -> None:
    """Records of the engine, read from a store."""
    keys = small_keys(seeds=[0], optimizers=[{"rule": "sgd", "lr": 0.1}, {"rule": "adam"}])
    with Study(**keys).run(tmp_path) as results:
        report = results.audit()
    assert {"A05", "D01"} <= {finding.rule for finding in report.findings}
    assert not {"E06", "E07"} & {finding.rule for finding in report.findings}
    assert not {"E06", "E07", "D07"} & set(report.unchecked)


def test_a_model_that_is_evaluated_with_dropout_on_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that forgets `model.eval()` shows in the records."""

    @contextmanager
    def forgetful(self: ReferenceEngine, *, raw: bool = False) -> Iterator[None]:
        del raw
        self.model.train()
        yield

    monkeypatch.setattr(ReferenceEngine, "_evaluating", forgetful)
    keys = small_keys(engine="reference")
    keys["problem"]["model"] |= {"dropout": 0.5}
    with Study(**keys).run(tmp_path, device="cpu") as results:
        findings = [f for f in results.audit().findings if f.rule == "E01"]
    assert [f.severity for f in findings] == [Severity.ERROR]
    assert "in training mode during evaluation: " in findings[0].evidence


def test_tables_and_audit_speak_of_the_same_settings() -> None:
    for case in (sound(), grid(), fixed(), rules.test_only(grid())):
        view = case.view()
        assert view.problems[0].contenders == Context.of(view).contenders


def test_where_nothing_may_choose_every_setting_contends_and_no_claim_is_decided() -> None:
    case = rules.test_only(grid()).with_study(claims=["adam > sgd on test_accuracy"])
    report = case.audit()
    assert {"B01", "G04"} <= {finding.rule for finding in report.findings}
    assert report.funnel["reported"] == len(case.records)
    (result,) = report.claims
    assert str(result.verdict) == "undecided"
    assert "sgd have several settings, and no validation split chose one" in result.sentence


def test_the_page_of_the_docs_is_made_from_the_catalogue() -> None:
    made = runpy.run_path(str(DOCS / "make_audit.py"))["page"]()
    written = (DOCS / "audit.md").read_text(encoding="utf-8")
    assert written == made, "run: python docs/make_audit.py"


@pytest.mark.parametrize("rule", AUDIT_RULES.values(), ids=AUDIT_RULES)
def test_every_rule_says_why_whence_and_how_to_fix(rule: AuditRule) -> None:
    assert list(rule.documentation) == ["Why", "Source", "Example", "Fix"]
    assert all(part.endswith((".", ")", "`")) for part in rule.documentation.values())


def test_titles_and_ids_are_unique() -> None:
    assert len({rule.title for rule in AUDIT_RULES.values()}) == len(AUDIT_RULES)
    assert all(rule.id == key for key, rule in AUDIT_RULES.items())


def test_runs_of_a_finding_are_grouped_by_setting() -> None:
    (finding,) = sound().facts(by("adam"), device="cuda:0").audit().findings
    assert finding.rule == "E16"
    assert sum(len(ids) for ids in finding.runs.values()) == len(sound().records)
    assert next(iter(finding.runs)) == "sgd lr=0.01"


def test_a_run_of_two_claims_is_named_once() -> None:
    study = sound()
    records = [*study.records, *study.records]
    assert sum(len(ids) for ids in group_runs(records).values()) == len(study.records)


def test_two_models_of_gpus_are_two_devices() -> None:
    study = sound().facts(device="cuda:0", gpu="NVIDIA A100").facts(by("adam"), gpu="NVIDIA H100")
    (finding,) = study.audit().findings
    assert finding.rule == "E16"
    assert "device is NVIDIA A100 or NVIDIA H100" in finding.evidence
