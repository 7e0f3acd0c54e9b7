"""The facts that engines record are true, and faults show in them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.analysis.audit import AuditReport
from optrial.engine import ReferenceEngine, StackedEngine, certificates
from optrial.engine.learner import Steps
from optrial.records import Record
from optrial.study import Study
from tests.small import small_keys

MODEL = {"kind": "mlp", "hidden": [8], "dropout": 0.2}
RULES = [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01, "weight_decay": 0.01}]


def trained(folder: Path, **changes: Any) -> tuple[list[Record], AuditReport]:
    keys = small_keys(optimizers=RULES, seeds=2, budget={"epochs": 4}, compile="never", **changes)
    keys["problem"]["model"] = MODEL
    with Study(**keys).run(folder, device="cpu", checkpoint_seconds=0) as results:
        return results.records, results.audit()


def mentioned(report: AuditReport) -> set[str]:
    """The rules that fired, or could not be checked."""
    return {*report.unchecked, *(finding.rule for finding in report.findings)}


@pytest.fixture
def short_runs_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are for long trainings; here the shortest has them."""
    where = "optrial.engine.checks.certificate."
    monkeypatch.setattr(f"{where}_LEAST_STEPS", 1)
    monkeypatch.setattr(f"{where}_LEAST_SECONDS", 0.0)
    monkeypatch.setattr("optrial.engine.Training.evaluation_is_cheap", True)


@pytest.mark.parametrize(("engine", "width"), [("reference", 1), ("stacked", 4)])
def test_a_claim_about_speed_rests_on_recorded_times(
    tmp_path: Path, engine: str, width: int
) -> None:
    records, report = trained(tmp_path, engine=engine, claims=["sgd > adam on training_seconds"])
    taken = [record.final("training_seconds") for record in records]
    assert taken == [record.facts.seconds.training / width for record in records]
    assert records[0].final("train_loss") == records[0].metrics["train_loss"]
    (claim,) = report.claims
    assert "training_seconds" in claim.sentence
    fired = {f.rule for f in report.findings if f.rule.startswith("F")} - {"F01"}
    assert fired == ({"F03"} if engine == "stacked" else set())
    assert not {rule for rule in report.unchecked if rule.startswith("F")}


@pytest.mark.parametrize("slow", [1, 15])
def test_only_slow_first_steps_are_a_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    """The same seconds are lost at step 1, or in the middle."""
    step = ReferenceEngine.step

    def waiting(self: ReferenceEngine, batch: Any, number: int) -> Any:
        time.sleep(0.2 * (number == slow))
        return step(self, batch, number)

    monkeypatch.setattr(ReferenceEngine, "step", waiting)
    claims = ["sgd > adam on training_seconds"]
    records, report = trained(tmp_path, engine="reference", claims=claims)
    warm_up = [record.facts.warm_up_seconds for record in records]
    assert all((seconds > 0.1) == (slow == 1) for seconds in warm_up)
    assert ("F01" in {f.rule for f in report.findings}) == (slow == 1)


@pytest.mark.parametrize("engine", ["numpy", "reference", "stacked"])
def test_batches_and_masks_of_the_first_steps(tmp_path: Path, engine: str) -> None:
    records, report = trained(tmp_path, engine=engine)
    facts = [record.facts for record in records]
    assert [len(set(fact.epoch_batches_sha256)) for fact in facts] == [3] * 4
    masks = {(r.optimizer, r.seed): r.facts.first_masks_sha256 for r in records}
    assert masks["sgd", 0] == masks["adam", 0] != masks["sgd", 1]
    assert [fact.decayed_share for fact in facts] == [0, 0, 1, 1]
    assert not {"E08", "E10", "E14"} & {
        *report.unchecked,
        *(f.rule for f in report.findings),
    }


def test_engines_record_the_same_batches(tmp_path: Path) -> None:
    batches = [
        [
            record.facts.epoch_batches_sha256
            for record in trained(tmp_path / engine, engine=engine)[0]
        ]
        for engine in ("numpy", "reference", "stacked")
    ]
    assert batches[0] == batches[1] == batches[2]


def test_a_fixed_order_is_found(tmp_path: Path) -> None:
    _, report = trained(tmp_path, engine="reference", shuffle=False)
    assert "E08" in {finding.rule for finding in report.findings}


def test_a_short_training_is_not_certified(tmp_path: Path) -> None:
    records, report = trained(tmp_path, engine="stacked")
    assert records[0].facts.stack_certificate is None
    assert {"E13", "E15", "E17"} <= set(report.unchecked)


@pytest.mark.usefixtures("short_runs_certified")
@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_training_certifies_itself(tmp_path: Path, engine: str) -> None:
    before, _ = trained(tmp_path / "twice", engine=engine)
    records, report = trained(tmp_path, engine=engine)
    assert [r.metrics for r in records] == [r.metrics for r in before]
    assert [r.facts.replicate_difference for r in records] == [0.0] * 4
    assert [r.facts.evaluation_difference for r in records] == [0.0] * 4
    assert not {"E13", "E15", "E17"} & mentioned(report)
    if engine == "stacked":
        alone = [r for r in records if r.facts.stack_certificate is not None]
        assert {r.rule for r in alone} == {"sgd", "adam"}
        assert sum(r.facts.stack_neighbour is not None for r in records) == 3


@pytest.mark.usefixtures("short_runs_certified")
def test_an_evaluation_that_is_random_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.MODEL", "tests.user_code:AlwaysDropping")
    records, report = trained(tmp_path)
    assert all(record.facts.evaluation_difference > 0 for record in records)
    (finding,) = [finding for finding in report.findings if finding.rule == "E01"]
    assert "two evaluations of the same weights differ" in finding.evidence


@pytest.mark.usefixtures("short_runs_certified")
def test_a_run_that_is_another_one_in_a_stack_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ReferenceEngine.step

    def other(self: ReferenceEngine, batch: Any, number: int) -> Any:
        measured = step(self, batch, number)
        return measured._replace(loss=measured.loss * (1.1 if number == 2 else 1))

    monkeypatch.setattr(ReferenceEngine, "step", other)
    _, report = trained(tmp_path, engine="stacked")
    assert "E13" in {finding.rule for finding in report.findings}


@pytest.mark.usefixtures("short_runs_certified")
def test_a_neighbour_that_spoils_a_stack_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = StackedEngine.advance

    def leaky(self: StackedEngine, steps: int) -> Steps:
        measured = advance(self, steps)
        leak = 1e-6 * np.isnan(measured.losses).any(axis=1, keepdims=True)
        return measured._replace(losses=measured.losses + leak)

    monkeypatch.setattr(StackedEngine, "advance", leaky)
    _, report = trained(tmp_path, engine="stacked")
    assert "E15" in {finding.rule for finding in report.findings}


@pytest.mark.usefixtures("short_runs_certified")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_a_rule_that_is_not_what_its_name_says_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optrial.engine.checks.certificate.parity_is_cheap", lambda seconds: True)
    records, report = trained(tmp_path / "right", engine="stacked")
    against = {record.rule: record.facts.parity.against for record in records}
    assert against == {"sgd": "torch.optim.SGD", "adam": "torch.optim.Adam"}
    assert all(record.facts.parity.difference < 1e-12 for record in records)
    assert "E04" not in mentioned(report)
    monkeypatch.setattr("optrial.rules.adam.bias_correction", lambda beta, step, grad: 1.0)
    _, report = trained(tmp_path / "wrong", engine="stacked")
    (finding,) = [finding for finding in report.findings if finding.rule == "E04"]
    assert "adam differ from those of torch.optim.Adam" in finding.evidence


@pytest.mark.usefixtures("short_runs_certified")
def test_a_check_that_fails_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr("optrial.executors.trainer.certificates", broken)
    records, _ = trained(tmp_path, engine="stacked")
    assert {str(record.status) for record in records} == {"done"}
    assert certificates.__doc__
