"""House prices around 180,000 under mse, not standardized: SGD diverges, Adam does not arrive."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from optrial.analysis.audit import Finding, Severity, report_text
from optrial.analysis.statistics import best_sentence, sentence
from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.cases.conftest import Case
from tests.pages import run_command
from tests.tolerance import FINAL_LOSS_FLOAT32, STATISTIC_FLOAT64

SETTINGS = ["engine=numpy", "budget.epochs=5"]
MOST_SENSIBLE = {"sgd": 100.0, "adam": 1.0}


def trained(folder: Path, *settings: str) -> Results:
    study = Study.from_file(folder / "h.yaml", [*SETTINGS, *settings])
    return study.run(folder / "out", device="cpu")


def finding(results: Results, rule: str) -> Finding | None:
    return next((f for f in results.audit().findings if f.rule == rule), None)


def rates_in(finding: Finding) -> dict[str, list[float]]:
    """The learning rates that a remedy proposes, by optimizer."""
    proposed = {}
    for path, value in finding.remedy.settings.items():
        if path.endswith(".lr"):
            values = next(iter(value.values())) if isinstance(value, dict) else value
            proposed[path.split(".")[1]] = list(np.atleast_1d(values))
    return proposed


@pytest.fixture
def prices(case: Case) -> Path:
    return case("price")


@pytest.mark.slow
def test_the_audit_names_the_scale_and_its_remedy_clears_it(prices: Path) -> None:
    with trained(prices) as results:
        observed, report = finding(results, "E19"), report_text(results.audit())
        train = Study.from_file(prices / "h.yaml").load_data().splits["train"]
        scale = results.records[0].facts.scale.targets
    assert observed is not None
    assert observed.severity is Severity.ERROR
    assert "; first: E19 the data" in report  # before its consequences
    targets = np.asarray(train.targets, np.float64)
    assert scale.mean == pytest.approx(targets.mean(), rel=STATISTIC_FLOAT64)
    assert scale.std == pytest.approx(targets.std(), rel=STATISTIC_FLOAT64)
    assert (
        f"the targets have an absolute mean of up to {round(targets.mean(), -3):,.0f}"
        in observed.evidence
    )
    assert "12 of 24 runs diverged" in observed.evidence
    block = next(b for b in report.split("\n\n") if b.startswith("E19 "))
    changes = [word for word in shlex.split(block[block.index("--set") :]) if word != "--set"]
    with trained(prices, *changes) as results:
        assert finding(results, "E19") is None
        assert {record.status for record in results.records if "0.001" in record.setting} == {
            Status.DONE
        }


def test_no_remedy_proposes_an_absurd_rate(prices: Path) -> None:
    """Before the data is scaled, none proposes any."""
    with trained(prices) as results:
        findings = {entry.rule: entry for entry in results.audit().findings}
    assert not any(map(rates_in, findings.values()))
    assert "E19" in findings["A01"].remedy.action
    scaling = findings["E19"].remedy.settings
    assert "problem.dataset.standardize_targets" in scaling
    with trained(
        prices, *(f"{key}={json.dumps(value)}" for key, value in scaling.items())
    ) as results:
        proposed = [rates_in(entry) for entry in results.audit().findings]
    assert any(proposed)
    for rates in proposed:
        for optimizer, values in rates.items():
            assert max(values) <= MOST_SENSIBLE[optimizer]


def test_nothing_is_best_where_the_other_side_diverged(
    prices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = ["adam > sgd on test_loss", "adam is best on test_mae", "sgd > adam on test_loss"]
    with trained(prices, f"claims={json.dumps(claims)}") as results:
        pair = results.compare("adam", "sgd")
        (problem,) = results.view().problems
        report = results.audit()
        page = results.report(prices / "report.html").read_text()
        best = best_sentence(problem.comparisons)
    refusal = "adam and sgd cannot be compared on test loss: 6 of 6 runs of sgd diverged"
    assert (pair.p_value, sentence(pair)) == (1, refusal)
    assert {str(claim.verdict) for claim in report.claims} == {"undecided"}
    assert best.startswith("No best optimizer: only adam finished, with ")
    capsys.readouterr()
    run_command(["show", str(prices / "out")])
    assert capsys.readouterr().err.count("6 of 6 runs of sgd diverged") == 1
    for command in (["show"], ["compare", "adam", "sgd"], ["audit"]):
        run_command([command[0], str(prices / "out"), *command[1:]])
    printed = capsys.readouterr()
    for text in (page, printed.out + printed.err, report_text(report)):
        assert "is the best" not in text
        assert "beats" not in text
        assert "6 of 6 runs of sgd diverged" in text


def test_values_are_those_of_the_saved_weights_on_the_scale_of_the_remedy(prices: Path) -> None:
    settings = ["problem.dataset.standardize_targets=true", "seeds=1", "save=final"]
    study = Study.from_file(prices / "h.yaml", [*SETTINGS, *settings])
    data = study.load_data()
    test = data.splits["test"]
    with trained(prices, *settings) as results:
        done = [record for record in results.records if record.status is Status.DONE]
        for record in done:
            model = results.model(record.run_id).double()
            with torch.no_grad():
                outputs = model(torch.from_numpy(test.inputs).double()).numpy()
            errors = outputs - test.targets.astype(np.float64)
            prices_missed = data.original(outputs) - data.original(test.targets)
            assert record.metrics["test_loss"] == pytest.approx(
                (errors**2).mean(), rel=FINAL_LOSS_FLOAT32
            )
            assert record.metrics["test_mae"] == pytest.approx(
                np.abs(prices_missed).mean(), rel=FINAL_LOSS_FLOAT32
            )
        assert done
