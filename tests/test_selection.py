"""Tuning, saved weights, tables, comparisons and claims agree on what is better."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial import Results, StoreError, Study, StudyError
from optrial.analysis.audit import audit
from optrial.analysis.claims import parse_claims
from optrial.analysis.view import StudyView
from optrial.config import StudyFile
from optrial.engine.evaluation import Evaluation
from optrial.engine.learner import Steps
from optrial.engine.training import Training
from optrial.records import Record
from optrial.report.figures import study_figures
from optrial.report.study_page import study_page
from optrial.spec import METRICS, Direction, RunFacts, RunSpec, Selection, Status, metric_label
from tests.analysis.claims import evaluate_claims
from tests.small import small_keys, small_plan
from tests.specs import SPEC, STACK

DECLARED: Sequence[tuple[str, Direction]] = [
    *((name, metric.better) for name, metric in METRICS.items()),
    ("mine:score", "lower"),
    ("mine:score", "higher"),
]
SEEDS = range(8)


def study_of(name: str, better: Direction | None, *, select: bool = True) -> StudyFile:
    entry = {"name": name, "better": better if ":" in name else None}
    tune = {"select": f"validation_{metric_label(name)}"} if select else None
    return StudyFile(**small_keys(problem={"dataset": "moons", "metrics": [entry]}, tune=tune))


def record(optimizer: str, setting: str, seed: int, label: str, value: float | None) -> Record:
    return Record(
        run_id=f"{optimizer} {setting} {seed}",
        problem="moons",
        setting=setting,
        spec=replace(
            SPEC,
            optimizer=optimizer,
            rule="sgd",
            hyperparameters={"lr": float(setting.removeprefix("lr="))},
            seed=seed,
        ),
        stack=STACK,
        status=Status.DONE,
        metrics={f"{split}_{label}": value for split in ("validation", "test")},
    )


def better_and_worse(label: str, better: Direction | None) -> list[Record]:
    """Runs of a better and a worse optimizer, each with a better and a worse setting."""
    sign = -1 if better == "lower" else 1
    return [
        record(optimizer, setting, seed, label, 5 + sign * (place + rate + 0.01 * seed))
        for place, optimizer in enumerate(("worse", "better"))
        for rate, setting in ((0.0, "lr=0.1"), (0.5, "lr=0.2"))
        for seed in SEEDS
    ]


def view_of(study: StudyFile, records: Sequence[Record], metric: str) -> StudyView:
    return StudyView(study.model_dump(mode="json"), tuple(records), lambda _: {}, metric)


class Scripted:
    """A learner with given validation values, whose weights are the number of its steps."""

    chunk, threads, facts = 1, None, RunFacts(flushes_denormals=False)
    run_facts = (RunFacts(),)

    def __init__(self, values: Sequence[float], means: int) -> None:
        self._values: Iterator[float] = iter(values)
        self._means = means
        self._step = 0

    def start(self, first_step: int) -> None:
        pass

    def advance(self, steps: int) -> Steps:
        self._step += steps
        return Steps(np.ones((steps, 1)), np.ones((steps, 1, self._means)), np.ones(steps))

    def evaluate(self, split: str, step: int) -> Evaluation:
        return Evaluation(np.ones(1), np.array([[next(self._values)]]))

    def modules(self) -> dict[str, bool]:
        return {}

    def evaluated_modules(self) -> dict[str, bool]:
        return {}

    def buffers_sha256(self) -> str:
        return ""

    def parameters_sha256(self, run: int) -> str:
        return ""

    def weights(self, run: int) -> dict[str, Any]:
        return {"step": np.array(self._step)}


def saved_step(spec: RunSpec, values: Sequence[float], means: int) -> int:
    """The step whose weights are kept where one value is measured at each step."""
    training = Training([spec], Scripted(values, means))  # type: ignore[arg-type]
    for _ in training.run():
        pass
    weights = training.weights(0)
    assert weights
    return int(weights["step"])


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    """A run of five steps, evaluated at each on the validation split, that saves the best."""
    evaluate = {"every": {"steps": 1}, "on": ["validation"]}
    plan, _ = small_plan(save="best", budget={"steps": 5}, evaluate=evaluate)
    assert plan.runs[0].select == Selection("validation_accuracy", "higher")
    return plan.runs[0]


@pytest.mark.parametrize(("name", "better"), DECLARED)
def test_everything_agrees_on_what_is_better(name: str, better: Direction, spec: RunSpec) -> None:
    study, label = study_of(name, better), metric_label(name)
    assert study.selection == Selection(f"validation_{label}", better)
    low, high = (study.selection.score(value) for value in (1.0, 2.0))
    assert low is not None
    assert high is not None
    assert (high > low) == (better == "higher")

    catalogued = name if name in METRICS else "accuracy"  # code of the user's is not there to load
    means = 0 if METRICS[catalogued].whole_split else 1
    select = Selection(f"validation_{catalogued}", better)
    chosen = saved_step(
        replace(spec, metrics=(catalogued,), select=select), [0.5, 0.1, 0.3, 0.9, 0.6], means
    )
    assert chosen == {"higher": 4, "lower": 2}[better]

    records = better_and_worse(label, better)
    (problem,) = view_of(study, records, f"test_{label}").problems
    assert {c.name: c.setting for c in problem.contenders} == dict.fromkeys(
        ("worse", "better"), "lr=0.2"
    )
    assert {s.setting for s in problem.summaries if s.best} == {"lr=0.2"}
    assert problem.comparisons is not None
    assert problem.comparisons.order == ("better", "worse")
    assert [(p.first, p.verdict) for p in problem.pairs] == [("better", "better")]

    text = f"better > worse on test_{label}"
    (claim,), _ = parse_claims([text], directions=study.directions)
    values = {c.name: c.values(claim.metric) for c in problem.contenders}
    (result,) = evaluate_claims([claim], {claim.metric: values})
    assert result.verdict == "supported"


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_a_value_that_is_not_finite_saves_no_weights(better: Direction, spec: RunSpec) -> None:
    spec = replace(spec, select=Selection("validation_accuracy", better))
    values = [math.inf, 0.5, -math.inf, math.nan, 0.5]
    assert saved_step(spec, values, 1) == 2
    assert saved_step(spec, [math.nan] * 5, 1) == 5  # the last ones, for want of a best


def test_saved_weights_follow_what_tuning_selects(tmp_path: Path) -> None:
    problem = {**small_keys()["problem"], "metrics": ["accuracy", "mse"]}
    keys = small_keys(
        problem=problem,
        save="best",
        seeds=2,
        tune={"select": "validation_mse", "seeds": 1, "extend": False},
        optimizers=[{"rule": "adam", "lr": [0.3, 1.0]}],
        evaluate={"every": {"steps": 5}, "on": ["validation"]},
    )
    with Study(**keys).run(tmp_path) as results:
        assert results.reported
        for run in results.reported:
            assert run.spec.select == Selection("validation_mse", "lower")
            curve = results.store.curve(run.run_id, "validation_mse")
            assert run.facts.saved_step == curve.steps[curve.values.argmin()]
        assert {r.spec.select for r in results.records if r.phase == "tune"} == {None}


MINE = "tests.user_code:error_rate"


def own_keys(entry: Any, **changes: Any) -> dict[str, Any]:
    return small_keys(problem={**small_keys()["problem"], "metrics": [entry]}, seeds=6, **changes)


def test_declaring_a_direction_later_trains_nothing_again(tmp_path: Path) -> None:
    optimizers = [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.1}]
    with Study(**own_keys(MINE, optimizers=optimizers)).run(tmp_path) as results:
        before = {r.run_id: r.facts for r in results.records}
        with pytest.raises(StoreError, match="--better lower or --better higher"):
            results.compare("sgd", "adam", metric="test_error_rate")
        by_hand = results.compare("sgd", "adam", metric="test_error_rate", better="lower")
        with pytest.raises(StoreError, match="test_loss is better when lower"):
            results.compare("sgd", "adam", metric="test_loss", better="higher")
    declared = own_keys({"name": MINE, "better": "lower"}, optimizers=optimizers)
    with Study(**declared).run(tmp_path) as results:
        assert {r.run_id: r.facts for r in results.records} == before
        assert results.compare("sgd", "adam", metric="test_error_rate") == by_hand
        assert not by_hand.higher_is_better
        assert "B08" not in {finding.rule for finding in results.audit().findings}


def test_displays_show_a_metric_without_direction_unranked(tmp_path: Path) -> None:
    optimizers = [{"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.1}]
    with closing(Study(**own_keys(MINE, optimizers=optimizers)).run(tmp_path).store) as store:
        results = Results(store, tmp_path)
        view = results.view("test_error_rate")
        (problem,) = view.problems
        assert problem.comparisons is None
        assert "does not declare whether lower or higher" in problem.not_compared
        page = study_page(view, results.audit())
        assert "test_error_rate" in page
        assert "does not declare whether lower or higher values of test_error_rate" in page
        assert "differences" not in {drawn.name for drawn in study_figures(view)}
        with pytest.raises(StoreError, match="does not declare"):
            results.figures(tmp_path / "figures", metric="test_error_rate")
        with pytest.raises(StoreError, match="does not declare"):
            results.plot_differences("test_error_rate")
        assert results.plot_curves("test_error_rate").lines
        assert results.view().metric == "test_loss"


def test_an_audit_ranks_nothing_without_a_direction() -> None:
    records = better_and_worse("score", "lower")
    study = study_of("mine:score", None, select=False).model_dump(mode="json")
    report = audit(StudyView(study, tuple(records), lambda _: {}))
    assert not [f for f in report.findings if f.rule in ("A01", "A11", "D04", "D15")]


def one_if_wrong(outputs: Any, targets: Any) -> Any:
    return (outputs.argmax(dim=-1) != targets).double()


def test_a_function_may_stand_in_a_mapping() -> None:
    entries = [{"name": one_if_wrong, "better": "lower"}, one_if_wrong, "accuracy"]
    for metric in entries:
        keys = {**small_keys(), "problem": {**small_keys()["problem"], "metrics": [metric]}}
        (entry,) = Study(**keys).config.problem.judges
        assert entry.direction == {"accuracy": "higher"}.get(
            entry.name, "lower" if isinstance(metric, dict) else None
        )


def test_a_claim_on_a_metric_of_unknown_direction_is_refused() -> None:
    with pytest.raises(StudyError, match=r"claims\[0\].*does not declare"):
        Study(**own_keys(MINE, claims=["sgd is best on test_error_rate"]))
