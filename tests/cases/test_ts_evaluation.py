"""Dropout that a model leaves on in evaluation: the same numbers again, and a finding."""

from __future__ import annotations

from optrial import Study
from tests.cases.conftest import Case


def test_evaluation_that_draws_is_seeded_and_named(case: Case) -> None:
    case("ts")
    metrics = []
    for name in ("first", "second"):
        study = Study.from_file("m.yaml", ["problem.model.factory=ts:Drop", f"name={name}"])
        with study.run() as results:
            metrics.append(results.records[0].metrics)
            audit = results.audit()
    assert metrics[0] == metrics[1]
    assert "E01" in {finding.rule for finding in audit.findings}
