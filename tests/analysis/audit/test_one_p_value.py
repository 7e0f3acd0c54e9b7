"""A pair of optimizers has one p-value: in the audit, the report and a comparison by itself."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from optrial.analysis.audit import AUDIT_RULES
from optrial.results import Results
from optrial.study import Study
from tests.small import small_keys
from tests.tolerance import STATISTIC_FLOAT64

SEEDS = 30  # beyond 16 the sign vectors are drawn
CLAIMS = ["adam > sgd on test_loss"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    keys = small_keys(
        engine="numpy",
        seeds=SEEDS,
        budget={"steps": 10},
        evaluate={"on": ["validation", "test"]},
        optimizers=[{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}],
        claims=CLAIMS,
    )
    folder = tmp_path_factory.mktemp("pairs")
    with Study(**keys).run(folder, device="cpu", checkpoint_seconds=100) as trained:
        yield trained


def test_audit_report_and_comparison_agree(results: Results) -> None:
    alone = results.compare("adam", "sgd", "test_loss")
    (pair,) = results.view("test_loss").problems[0].pairs
    claimed = results.audit().claims[0]
    assert 0.001 < alone.p_value < 0.999  # neither end of what resampling can give
    assert alone.pairs == SEEDS
    assert alone.p_value == pair.p_value == claimed.p_value
    in_order = pair if pair.first == "adam" else pair.swapped()
    for other in (in_order, claimed.comparisons[0]):
        limits = (other.difference.low, other.difference.high)
        assert (alone.difference.low, alone.difference.high) == pytest.approx(
            limits, rel=STATISTIC_FLOAT64
        )


@pytest.mark.parametrize("kept", [["D04"], ["D15", "D04"], list(AUDIT_RULES)[::-1]])
def test_p_values_do_not_depend_on_the_rules_that_run(
    results: Results, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = results.audit()
    rules = {rule: AUDIT_RULES[rule] for rule in kept}
    monkeypatch.setattr(import_module("optrial.analysis.audit.audit"), "AUDIT_RULES", rules)
    part = results.audit()
    assert part.claims == whole.claims
    evidence = {finding.evidence for finding in whole.findings}
    assert {finding.evidence for finding in part.findings} <= evidence
