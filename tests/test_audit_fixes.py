"""What an audit proposes is pasted and run, and what it found is gone."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from optrial.analysis.audit import AuditReport, Finding, Severity, grids, report_text
from optrial.config import override
from optrial.errors import StudyError
from optrial.records import PlannedRun, Record
from optrial.results import Results
from optrial.study import Study
from tests.small import small_keys

TINY: Mapping[str, Any] = {
    "problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [16]}},
    "budget": {"steps": 40},
    "evaluate": {"every": {"steps": 20}, "on": ["validation", "test"]},
    "engine": "numpy",
    "seeds": 2,
}
WIDE = [0.001, 0.003, 0.01, 0.03, 0.1]


class Case(NamedTuple):
    """A study in which a rule finds something."""

    rule: str
    keys: Mapping[str, Any]
    about: str = ""


SEVERAL = [{"rule": "sgd", "lr": WIDE}, {"rule": "adam", "lr": WIDE}]
NEAR = [{"rule": "sgd", "lr": [0.03, 0.1, 0.3]}, {"rule": "adam", "lr": [0.001, 0.003, 0.01]}]
APART = [{"rule": "sgd", "lr": 0.001}, {"rule": "adam", "lr": 0.03}]
DIVERGING = [{"rule": "sgd", "lr": 10.0}, {"rule": "adam", "lr": 0.01}]
IMITATING = [
    {"rule": "sgd", "lr": 0.1},
    {"rule": "momentum", "lr": 0.0001, "momentum": 0.9},
]
CLAIMS = ["adam > sgd on test_loss"]
HUGE = {"name": "diabetes", "standardize_targets": False, "mean": 0.0, "std": 0.0001}
MOONS = {"dataset": "moons", "model": {"kind": "mlp", "hidden": [8]}}
TEXT = {
    "dataset": {"name": "coriolanus", "context": 16},
    "model": {"kind": "transformer", "width": 8, "depth": 1, "heads": 2},
}
RAW = {"name": "diabetes", "standardize_targets": False}
PRICES = {"dataset": RAW, "model": {"kind": "mlp", "hidden": [16]}, "loss": "mse"}
CASES = [
    Case("A01", {"optimizers": NEAR}, "a plain grid"),
    Case("A01", {"optimizers": NEAR, "tune": {"seeds": 2, "extend": False}}, "tuned"),
    Case("A01", {"optimizers": NEAR[:1], "tune": {"seeds": 2, "extend": False}}, "one alone"),
    Case("A02", {"optimizers": [SEVERAL[0], {"rule": "adam", "lr": [0.003, 0.01]}]}),
    Case("A03", {"optimizers": [{"rule": "sgd"}, SEVERAL[1]]}),
    Case("A04", {"optimizers": [{"rule": "sgd", "lr": 0.01}, {"rule": "adam", "lr": 0.01}]}),
    Case(
        "A04",
        {
            "optimizers": [
                {"rule": "sgd", "lr": 0.01},
                {"name": "my adam", "rule": "adam", "lr": 0.01},
            ]
        },
        "a name with a space",
    ),
    Case("B01", {"evaluate": {"every": {"steps": 20}, "on": ["test"]}, "optimizers": SEVERAL}),
    Case("D01", {"seeds": 1, "optimizers": APART}),
    Case(
        "D09",
        {
            "problem": PRICES | {"dataset": "diabetes"},
            "optimizers": [{"rule": "sgd", "lr": 1e12}, {"rule": "adam", "lr": 0.01}],
        },
        "every run at an absurd rate",
    ),
    Case("E19", {"problem": PRICES, "optimizers": SEVERAL}, "targets"),
    Case(
        "E19",
        {
            "problem": {"raw": PRICES, "digits": TINY["problem"]},
            "optimizers": SEVERAL,
        },
        "targets of one of two problems",
    ),
    Case(
        "A02",
        {
            "problem": {
                "even": PRICES | {"dataset": "diabetes"},
                "uneven": TINY["problem"] | {"optimizers": {"adam": {"lr": [0.003, 0.01]}}},
            },
            "optimizers": SEVERAL,
        },
        "on one of two problems",
    ),
    Case("E19", {"problem": PRICES | {"dataset": HUGE}, "optimizers": SEVERAL}, "features too"),
    Case(
        "D04",
        {"problem": PRICES | {"dataset": "diabetes"}, "claims": CLAIMS, "optimizers": DIVERGING},
        "one diverged",
    ),
    Case(
        "D04",
        {"seeds": 3, "optimizers": APART, "claims": ["adam > sgd on test_loss"]},
        "too few seeds for a difference that is there",
    ),
    Case(
        "D04",
        {"seeds": 10, "optimizers": APART, "claims": ["sgd > adam on test_loss"]},
        "the opposite is true",
    ),
]
IDS = [f"{case.rule} {case.about}".strip() for case in CASES]


def found(report: AuditReport, rule: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == rule]


def proposed(report: AuditReport, rule: str) -> list[str]:
    """The arguments of ``--set`` that the printed report has below a rule."""
    blocks = report_text(report).split("\n\n")
    (block, *_) = [block for block in blocks if block.startswith(f"{rule} ")]
    words = shlex.split(block[block.index("--set") :].replace("\\\n", ""))
    return [word for word in words if word != "--set"]


def saved(folder: Path, keys: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(json.dumps(small_keys(**{**TINY, **keys})), encoding="utf-8")
    return file


def run(study: Study, folder: Path) -> Results:
    return study.run(folder, device="cpu")


def repaired(study: Study, folder: Path) -> AuditReport:
    with run(study, folder) as results:
        return results.audit()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_running_what_is_proposed_clears_the_finding(case: Case, tmp_path: Path) -> None:
    """In the same folder, so that the runs that are there are kept."""
    file = saved(tmp_path, case.keys)
    with run(Study.from_file(file), tmp_path / "out") as results:
        report, stored = results.audit(), results.study
    assert found(report, case.rule), report_text(report)
    changes = proposed(report, case.rule)
    changed = Study.from_file(file, changes)
    assert Study(**override(stored, changes)).plan().hash == changed.plan().hash
    again = repaired(changed, tmp_path / "out")
    assert not found(again, case.rule), report_text(again)


@pytest.mark.slow
def test_an_entry_and_its_group_at_their_edges_both_grow(tmp_path: Path) -> None:
    group = {"match": "vectors", "name": "rest", "lr": [0.0001, 0.0003]}
    entry = {"rule": "sgd", "lr": [0.0001, 0.0003], "groups": [group]}
    file = saved(tmp_path, {"engine": "reference", "optimizers": [entry, SEVERAL[1]]})
    with run(Study.from_file(file), tmp_path / "out") as results:
        (finding,) = found(results.audit(), "A01")
        recorded = {record.run_id for record in results.records}
    paths = {text.partition("=")[0] for text in finding.remedy.assignments}
    assert {"optimizers.sgd.lr", "optimizers.sgd.groups[0].lr"} <= paths
    new = {spec.run_id for spec in Study.from_file(file, finding.remedy.assignments).plan().runs}
    assert len(new - recorded) == finding.remedy.runs


@pytest.mark.slow
def test_tuning_one_more_hyperparameter_leaves_budgets_equal(tmp_path: Path) -> None:
    file = saved(tmp_path, {"seeds": 6, "optimizers": IMITATING})
    with run(Study.from_file(file), tmp_path / "out") as results:
        changes = proposed(results.audit(), "A06")
    report = repaired(Study.from_file(file, changes), tmp_path / "out")
    assert not {"A02", "A06", "A08", "B05"} & {finding.rule for finding in report.findings}


def test_grids_that_grew_have_the_ranges_that_were_written(tmp_path: Path) -> None:
    """Growing is the protocol's: A07 judges what the study says."""
    keys = {
        "problem": PRICES | {"dataset": "diabetes"},
        "optimizers": [{"rule": "sgd", "lr": [1e5, 1e6, 1e7]}, {"rule": "adam", "lr": WIDE[:3]}],
        "tune": {"seeds": 1},
        "seeds": 2,
    }
    with run(Study.from_file(saved(tmp_path, keys)), tmp_path / "out") as results:
        grown = {o.name: o.tuned["lr"] for o in results.view().problems[0].optimizers}
        report = results.audit()
    assert grown["sgd"][0] < 1e2
    assert not found(report, "A07"), report_text(report)


def test_a_best_value_far_beyond_the_edge_is_found_step_by_step(tmp_path: Path) -> None:
    """Each proposal goes on where the last one ended."""
    optimizers = [{"rule": "sgd", "lr": [0.001, 0.003, 0.01]}, NEAR[1]]
    file = saved(tmp_path, {"optimizers": optimizers, "seeds": 1})
    changes, rounds = [], 0
    while found(report := repaired(Study.from_file(file, changes), tmp_path / "out"), "A01"):
        changes, rounds = proposed(report, "A01"), rounds + 1
        assert rounds < 6, report_text(report)
    assert rounds > 1


@pytest.mark.slow
def test_a_proposed_range_holds_rates_that_work(tmp_path: Path) -> None:
    """Others would be removed from the study, which is a finding of its own."""
    keys = {
        "optimizers": [
            {"rule": "adagrad", "lr": {"log": [2.0, 5.0]}},
            {"rule": "adam", "lr": {"log": [0.001, 0.01]}},
        ],
        "tune": {"sampler": "random", "trials": 2, "seeds": 1},
    }
    with run(Study.from_file(saved(tmp_path, keys)), tmp_path / "out") as results:
        (finding,) = found(results.audit(), "A05")
    low, high = finding.remedy.settings["optimizers.adagrad.lr"]["log"]
    assert low < 2.0 < 5.0 < high


def test_a_wider_range_has_plain_ends() -> None:
    wider = grids._wider_range({"log": [8.46e-06, 0.00846]}, False, True, (1e-8, 10.0))
    assert wider == {"log": [8.46e-06, 0.0846]}


@pytest.mark.parametrize(("ratio", "parts"), [(2, 2), (10, 2), (13, 3), (32, 3), (1000, 6)])
def test_values_in_between_leave_no_step_coarse(ratio: int, parts: int) -> None:
    rates = [0.001, 0.001 * ratio]
    assert grids.parts_between(rates) == parts
    finer = grids.refined(rates, rates, parts)
    assert len(finer) == parts + 1
    assert all(high <= 1.01 * grids.COARSE * low for low, high in pairwise(finer))


def test_unequal_lengths_of_two_studies_in_one_table(tmp_path: Path) -> None:
    """One study trains all for as long; its table can hold runs of two, or of other software."""
    short, long = (
        Study.from_file(saved(tmp_path, {"optimizers": [entry], "budget": {"steps": steps}}))
        for entry, steps in zip(APART, (20, 40), strict=True)
    )
    run(short, tmp_path / "out").store.close()
    file = saved(tmp_path, {"optimizers": APART})
    with run(long, tmp_path / "out") as results:
        runs = results.store.runs(everything=True)
        both = Study.from_file(file).config.model_dump(mode="json")
        results.store.save_plan("both", both, [planned(record) for record in runs])
        report = results.audit()
    assert found(report, "C01"), report_text(report)
    again = repaired(Study.from_file(file, proposed(report, "C01")), tmp_path / "out")
    assert not found(again, "C01"), report_text(again)


def planned(record: Record) -> PlannedRun:
    return PlannedRun(**{field.name: getattr(record, field.name) for field in fields(PlannedRun)})


UNEQUAL = {
    "optimizers": [
        {"rule": "sgd", "lr": 0.1},
        {"rule": "momentum", "lr": 0.1, "momentum": 0.9},
        {"rule": "adam", "lr": [0.0003, 0.001, 0.003]},
        {"name": "mine", "torch": "torch.optim:RAdam", "lr": {"log": [1e-4, 1.0], "points": 9}},
    ],
    "tune": {"select": "validation_accuracy", "seeds": 3, "extend": True},
    "engine": "auto",
}


def test_the_refusal_of_unequal_grids_says_what_to_do(tmp_path: Path) -> None:
    """Both of its ways out are followed to the letter: ranges and Sobol trials, or equal grids."""
    file = saved(tmp_path, UNEQUAL)
    with pytest.raises(StudyError) as refused:
        Study.from_file(file)
    message = str(refused.value)
    assert "the grids have sgd 1, momentum 1, adam 3, mine 9" in message
    assert "give each grid as many" in message
    assert "sampler: sobol, trials: 9" in message
    names = ("sgd", "momentum", "adam", "mine")
    ranges = [f"optimizers.{name}.lr={{log: [0.001, 1.0]}}" for name in names]
    drawn = Study.from_file(file, [*ranges, "tune={sampler: sobol, trials: 9}"])
    equal = Study.from_file(file, [text.replace("]}", "], points: 9}") for text in ranges])
    for study in (drawn, equal):
        trials = Counter(run.optimizer for run in study.plan().runs)
        assert trials == dict.fromkeys(names, 9 * 3)


BAD: Mapping[str, Mapping[str, Any]] = {
    "a plain grid": {"optimizers": NEAR},
    "a tuned grid": {"optimizers": NEAR, "tune": {"seeds": 2, "extend": False}},
    "a grid of ranges": {
        "seeds": 3,
        "optimizers": [
            {"rule": "sgd", "lr": {"log": [0.001, 0.1], "points": 5}},
            {"rule": "adam", "lr": {"log": [0.0001, 0.01], "points": 5}},
        ],
    },
    "unequal grids": {"optimizers": [SEVERAL[0], {"rule": "adam", "lr": [0.003, 0.01]}]},
    "a default": {"optimizers": [{"rule": "sgd"}, SEVERAL[1]]},
    "one rate": {"optimizers": [{"rule": "sgd", "lr": 0.01}, {"rule": "adam", "lr": 0.01}]},
    "one seed": {
        "seeds": 1,
        "optimizers": [{"rule": "sgd", "lr": 0.3}, {"rule": "adam", "lr": 0.01}],
    },
    "one seed per setting of a grid": {"seeds": 1, "optimizers": SEVERAL, "claims": CLAIMS},
    "three schedules": {
        "seeds": 10,
        "optimizers": [
            {"rule": "sgd", "lr": 0.3, "schedule": "cosine"},
            {"rule": "adam", "lr": 0.01, "schedule": {"kind": "step", "every": 20}},
            {"rule": "rmsprop", "lr": 0.003},
        ],
    },
    "too few seeds for a claim": {"seeds": 3, "optimizers": APART, "claims": CLAIMS},
    "the opposite of a claim": {
        "seeds": 10,
        "optimizers": APART,
        "claims": ["sgd > adam on test_loss"],
    },
    "coarse grids": {
        "seeds": 6,
        "optimizers": [
            {"rule": "sgd", "lr": [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]},
            {"rule": "adam", "lr": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]},
        ],
    },
    "very coarse grids": {
        "seeds": 6,
        "optimizers": [
            {"rule": "sgd", "lr": [1e-5, 3e-4, 1e-2, 0.3, 1.0]},
            {"rule": "adam", "lr": [1e-6, 1e-4, 1e-2, 0.03, 1.0]},
        ],
    },
    "a claim on the loss of a grid without a validation split": {
        "seeds": 6,
        "evaluate": {"every": {"steps": 20}},
        "optimizers": [
            {"rule": "sgd", "lr": [0.1, 0.3, 1.0, 3.0, 10.0]},
            {"rule": "adam", "lr": [0.003, 0.01, 0.03, 0.1, 0.3]},
        ],
        "claims": CLAIMS,
    },
    "coarse grids without a validation split": {
        "seeds": 6,
        "evaluate": {"every": {"steps": 20}, "on": ["test"]},
        "optimizers": [
            {"rule": "sgd", "lr": [1e-3, 1e-2, 1e-1, 1.0, 10.0]},
            {"rule": "adam", "lr": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]},
        ],
    },
    "lower is better": {
        "problem": PRICES | {"dataset": "diabetes", "metrics": ["mae"]},
        "optimizers": NEAR,
        "tune": {"seeds": 2, "extend": False},
    },
    "a refuted claim on the loss that chose": {
        "seeds": 6,
        "optimizers": APART,
        "claims": ["sgd > adam on test_loss"],
        "tune": {"seeds": 2, "select": "validation_loss"},
    },
    "two problems with one rate each": {
        "problem": {"moons": MOONS, "digits": MOONS | {"dataset": "digits"}},
        "optimizers": [{"rule": "sgd", "lr": 0.3}, {"rule": "adam", "lr": 0.01}],
    },
    "a grid of rates beside one of another hyperparameter": {
        "seeds": 2,
        "optimizers": [
            {"rule": "lion", "weight_decay": [0.0, 0.01]},
            {"rule": "adam", "lr": [0.003, 0.01]},
        ],
    },
    "a text": {
        "problem": TEXT,
        "engine": "stacked",
        "compile": "never",
        "optimizers": [{"rule": "sgd", "lr": 0.3}, {"rule": "adam", "lr": 0.03}],
    },
}


@pytest.mark.parametrize(
    ("rates", "rule", "severity"),
    [
        ([1e-9, 2e-9], "E20", Severity.WARNING),
        ([1e-9, 1e-2], "E20", Severity.ADVICE),
        ([1e-2, 1e3], "D09", Severity.ADVICE),
        ([1e3, 1e4], "D09", Severity.WARNING),
    ],
)
def test_a_bad_setting_beside_a_good_one_is_advice(
    rates: list[float], rule: str, severity: Severity, tmp_path: Path
) -> None:
    """Where no split chooses, every setting of a grid is compared."""
    keys = {
        "problem": PRICES | {"dataset": "diabetes"},
        "optimizers": [{"rule": "sgd", "lr": rates}, {"rule": "adam", "lr": 0.1}],
        "evaluate": {"every": {"steps": 20}, "on": ["test"]},
    }
    with run(Study(**small_keys(**{**TINY, **keys})), tmp_path) as results:
        assert [f.severity for f in found(results.audit(), rule)] == [severity]


def serious(report: AuditReport) -> set[str]:
    return {f.rule for f in report.findings if f.severity != Severity.ADVICE}


@pytest.mark.slow
@pytest.mark.parametrize("keys", BAD.values(), ids=BAD)
def test_every_remedy_costs_what_it_says_clears_its_finding_and_adds_none(
    keys: Mapping[str, Any], tmp_path: Path
) -> None:
    file = saved(tmp_path, keys)
    with run(Study.from_file(file), tmp_path / "out") as results:
        report, recorded = results.audit(), {record.run_id for record in results.records}
    remedies = [f for f in report.findings if f.remedy.settings]
    assert remedies
    for number, finding in enumerate(remedies):
        remedy, folder = finding.remedy, tmp_path / str(number)
        if not remedy.folder:  # the existing runs are kept
            shutil.copytree(tmp_path / "out", folder)
        changed = Study.from_file(file, remedy.assignments)
        with run(changed, folder) as results:
            new = {record.run_id for record in results.records}
            after = results.audit()
        trained = len(new if remedy.folder else new - recorded)
        assert trained == remedy.runs or (remedy.at_least and trained > remedy.runs), finding
        assert finding.rule not in serious(after), report_text(after)
        assert serious(after) <= serious(report), (finding.rule, report_text(after))
        assert Study(**{**small_keys(**{**TINY, **keys}), **remedy.keywords}).plan().hash == (
            changed.plan().hash
        )
