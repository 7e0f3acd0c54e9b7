"""Successive halving: its rungs, what they keep, and the runs that they are, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  makes the next one import
from sklearn.model_selection import HalvingRandomSearchCV

from optrial.errors import StudyError
from optrial.plan import Plan, make_plan, outline
from optrial.plan.halving import most_rungs, rungs_of
from optrial.plan.space import space_of
from optrial.plan.tuning import Trial, choose, waves
from optrial.spec import RunSpec, SettingScore
from optrial.study import Study
from tests.small import small_keys

RATE = {"log": [1e-4, 1.0]}
BUDGET = 162


class Curve(BaseEstimator):
    """Stands for a training: a score that depends on the rate and the number of steps."""

    def __init__(self, rate: float = 1.0, steps: int = 1) -> None:
        self.rate, self.steps = rate, steps

    def fit(self, inputs: object, targets: object = None) -> Self:
        del inputs, targets
        return self

    def score(self, inputs: object = None, targets: object = None) -> float:
        """The best rate falls with the number of steps, so that rungs order settings otherwise."""
        del inputs, targets
        return -abs(math.log10(self.rate) + math.log10(self.steps))


def study_of(optimizers: Sequence[Mapping[str, Any]] = (), **changes: Any) -> Study:
    tune = {"sampler": "halving", **changes.pop("tune", {})}
    optimizers = optimizers or [{"rule": "sgd", "lr": RATE}]
    keys = {"budget": {"steps": BUDGET}, "optimizers": optimizers, "tune": tune}
    return Study(**small_keys(**keys | changes))


def played(study: Study, score: Any) -> tuple[list[list[Trial]], list[Trial]]:
    """The trials of each rung, and the chosen one of each optimizer."""
    tune, optimizers = study.config.tune, study.config.optimizers
    assert tune
    spaces = [space_of(study.config, entry) for entry in optimizers]

    def scored(trial: Trial) -> SettingScore:
        steps = BUDGET // (trial.rung.divisor if trial.rung else 1)
        return SettingScore.of(score(trial, steps))

    rungs = [wave.trials for wave in waves(tune, spaces, scored)]
    last = rungs[-1]
    return rungs, [
        choose(space, [t for t in last if t.optimizer == space.optimizer], scored)
        for space in spaces
    ]


@pytest.mark.parametrize(
    ("trials", "eta"), [(2, 2), (9, 3), (16, 3), (17, 2), (20, 3), (27, 3), (26, 3), (30, 4)]
)
def test_rungs_and_choice_are_those_of_scikit_learn(trials: int, eta: int) -> None:
    """With as many candidates and resources per iteration, which keep the same settings."""
    total = most_rungs(trials, eta)
    study = study_of(tune={"trials": trials, "eta": eta, "rungs": total})
    ours, (chosen,) = played(study, lambda t, steps: [Curve(t.point["rule.lr"], steps).score()])
    rungs = rungs_of(trials, eta, total)
    search = HalvingRandomSearchCV(
        Curve(),
        {"rate": [trial.point["rule.lr"] for trial in ours[0]]},
        n_candidates=trials,
        factor=eta,
        resource="steps",
        max_resources=BUDGET // rungs[0].divisor * rungs[0].divisor,
        min_resources=BUDGET // rungs[0].divisor,
        cv=2,
        refit=False,
        random_state=0,
    ).fit(np.zeros((4, 1)), np.zeros(4))
    assert [rung.trials for rung in rungs] == search.n_candidates_ == list(map(len, ours))
    for rung, resources in zip(rungs, search.n_resources_, strict=True):
        assert resources <= BUDGET // rung.divisor < resources + rungs[0].divisor
    iterations = np.asarray(search.cv_results_["iter"])
    rates = np.asarray(search.cv_results_["param_rate"], np.float64)
    if BUDGET % rungs[0].divisor == 0:
        for place, rung in enumerate(ours):
            kept = {trial.point["rule.lr"] for trial in rung}
            assert kept == set(rates[iterations == place])
        assert chosen.point["rule.lr"] == search.best_params_["rate"]


@pytest.mark.parametrize(
    ("trials", "eta", "counts"),
    [(3, 3, [3, 1]), (9, 3, [9, 3]), (10, 3, [10, 4, 2]), (16, 3, [16, 6, 2]), (27, 3, [27, 9, 3])],
)
def test_the_last_rung_compares_two_trials(trials: int, eta: int, counts: list[int]) -> None:
    rungs, _ = played(study_of(tune={"trials": trials, "eta": eta}), lambda *_: [1.0])
    assert [len(rung) for rung in rungs] == counts


def test_failures_come_last_and_budgets_stay_equal() -> None:
    """Fewer settings finish than go on: those that failed follow, the smallest rate first."""
    finished = {2: 0.5, 4: 0.7}

    def score(trial: Trial, steps: int) -> list[float | None]:
        del steps
        place = rates.index(trial.point["rule.lr"])
        return [finished.get(place), 0.9 if place == 5 else finished.get(place)]

    study = study_of(tune={"trials": 9, "eta": 2, "rungs": 2})
    rates = [trial.point["rule.lr"] for trial in played(study, lambda *_: [0.0])[0][0]]
    (first, second), (chosen,) = played(study, score)
    assert (len(first), len(second)) == (9, 5)
    kept = [rates.index(trial.point["rule.lr"]) for trial in second]
    failed = sorted((place for place in range(9) if place not in (2, 4, 5)), key=rates.__getitem__)
    assert kept == [4, 2, 5, *failed[:2]]
    assert chosen.point["rule.lr"] == rates[4]


def test_equal_settings_keep_their_order_and_nothing_finished_chooses_the_least() -> None:
    study = study_of(tune={"trials": 6, "eta": 3, "rungs": 2})
    (first, second), _ = played(study, lambda *_: [1.0])
    inside = [t.point for t in first if not _at_end(t, first)]
    assert [trial.point for trial in second] == inside[:2]
    (first, second), (chosen,) = played(study, lambda *_: [None])
    least = sorted(trial.point["rule.lr"] for trial in first)
    assert [trial.point["rule.lr"] for trial in second] == least[:2]
    assert chosen.point["rule.lr"] == least[0]


def _at_end(trial: Trial, trials: Sequence[Trial]) -> bool:
    rates = [other.point["rule.lr"] for other in trials]
    return trial.point["rule.lr"] in (min(rates), max(rates))


def test_each_optimizer_has_its_own_rungs() -> None:
    """Spaces of unequal sizes get as many trials in every rung."""
    wide = {"rule": "momentum", "lr": RATE, "momentum": {"lin": [0.5, 0.99]}}
    study = study_of([{"rule": "sgd", "lr": RATE}, wide], tune={"trials": 9, "rungs": 3})
    rungs, chosen = played(study, lambda t, steps: [Curve(t.point["rule.lr"], steps).score()])
    for rung, count in zip(rungs, (9, 3, 1), strict=True):
        assert [t.optimizer for t in rung] == ["sgd"] * count + ["momentum"] * count
    assert [trial.optimizer for trial in chosen] == ["sgd", "momentum"]


def plan_of(study: Study, scored: Any = lambda run: 1.0, rungs: int = 0) -> Plan:
    """The plan once so many rungs are trained."""
    plan, dataset = study.plan(), study.load_data()
    for _ in range(rungs):
        scores = {run.run_id: scored(run) for run in plan.runs}
        plan = make_plan(study.studies, {"moons": dataset}, scores, plan.code)
    return plan


SCHEDULES: dict[str, tuple[Any, Any]] = {
    "durations in steps": (
        {"kind": "step", "every": 54, "warmup": 18},
        [{"every": 6, "warmup": 2}, {"every": 18, "warmup": 6}, {"every": 54, "warmup": 18}],
    ),
    "durations in epochs": (
        {"kind": "multistep", "at": [{"epochs": 9}, {"epochs": 18}]},
        [{"at": [5, 10]}, {"at": [15, 30]}, {"at": [45, 90]}],
    ),
    "shares": (
        {"kind": "warmup_stable_decay", "warmup": 0.5, "decay": 0.5},
        [{"warmup": 9, "decay": 9}, {"warmup": 27, "decay": 27}, {"warmup": 81, "decay": 81}],
    ),
    "a factor per step": (
        {"kind": "exponential", "factor": 0.5},
        [{"factor": 0.5**9}, {"factor": 0.5**3}, {"factor": 0.5}],
    ),
}


def _tuned(plan: Plan) -> dict[str, list[RunSpec]]:
    """The runs of the tuning by their settings, the shortest first."""
    settings: dict[str, list[RunSpec]] = {}
    for run in plan.runs:
        if plan.phases[run.run_id] == "tune" and run.seed == plan.runs[0].seed:
            settings.setdefault(plan.settings[run.run_id], []).append(run)
    return settings


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_shrink_with_the_budget(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    groups = [{"match": "bias", "lr": {"times": 0.5}, "schedule": schedule}]
    entry = {"rule": "sgd", "lr": RATE, "schedule": schedule, "groups": groups}
    study = study_of([entry], tune={"trials": 9, "rungs": 3, "seeds": 1})
    plan = plan_of(study, rungs=3)
    (longest,) = (runs for runs in _tuned(plan).values() if len(runs) == 3)
    assert [run.steps for run in longest] == [18, 54, 162]
    for run, values in zip(longest, expected, strict=True):
        (group,) = run.groups
        for resolved in (run.schedule, group.schedule):
            assert resolved
            assert values.items() <= resolved.items()


@pytest.mark.parametrize(
    "changes",
    [
        {"early_stopping": {"patience": 2}},
        {"optimizers": [{"rule": "sgd", "lr": RATE, "schedule": {"kind": "plateau"}}]},
    ],
    ids=["early stopping", "plateau"],
)
def test_evaluations_that_are_counted_come_as_often(changes: dict[str, Any]) -> None:
    study = study_of(tune={"trials": 9, "rungs": 3}, evaluate={"every": {"steps": 18}}, **changes)
    assert {run.evaluate_every for run in plan_of(study).runs} == {2}
    plain = study_of(tune={"trials": 9, "rungs": 3}, evaluate={"every": {"steps": 18}})
    assert {run.evaluate_every for run in plan_of(plain).runs} == {18}


def test_a_setting_has_one_id_and_each_rung_other_runs() -> None:
    study = study_of(tune={"trials": 9, "rungs": 3, "seeds": 2}, batch_size=[16, 32])
    plan = plan_of(study, rungs=3)
    ids: dict[str, set[str]] = {}
    for run in plan.runs:
        ids.setdefault(plan.settings[run.run_id], set()).add(run.setting_id)
        assert RunSpec.from_dict(run.as_dict()) == run
    assert len(ids) == 9
    assert {len(same) for same in ids.values()} == {1}
    rungs = [run.rung and (run.rung.place, run.rung.total) for run in plan.runs]
    assert rungs == [(0, 3)] * 18 + [(1, 3)] * 6 + [None] * 3  # two seeds, then one of the report
    assert len({run.protocol_id for run in plan.runs[:18]}) == 2  # one per batch size


def test_the_last_rung_has_the_runs_of_random_search() -> None:
    """So that the whole budget for all trials trains only those that were left out."""
    halved = plan_of(study_of(tune={"trials": 9, "rungs": 3, "seeds": 2}), rungs=3)
    random = study_of(tune={"sampler": "random", "trials": 9, "seeds": 2}).plan()
    whole = {run.run_id for run in halved.runs if not run.rung}
    whole -= {run.run_id for run in halved.runs if halved.phases[run.run_id] == "report"}
    assert len(whole) == 2
    assert whole < {run.run_id for run in random.runs}


def test_the_outline_counts_runs_and_cost() -> None:
    study = study_of(
        [{"rule": "sgd", "lr": RATE}, {"rule": "adam", "lr": RATE}],
        tune={"trials": 9, "rungs": 3, "seeds": 2},
        seeds=4,
    )
    known = outline(study.config)
    assert known
    first = plan_of(study)
    last = plan_of(study, rungs=3)
    assert known.tuning_runs + known.report_runs == len(last.runs)
    assert known.waves == 3
    steps = [sum(run.steps for run in plan.runs) for plan in (first, last)]
    assert known.seconds(len(first.runs), 1.0, 0.0, 0.0) == pytest.approx(steps[1] / steps[0])


def test_the_report_takes_the_time_of_its_own_splits() -> None:
    study = study_of(tune={"sampler": "random", "trials": 6, "seeds": 1}, seeds=3)
    known = outline(study.config)
    assert known
    assert known.seconds(6, 60.0, 6.0, 600.0) == pytest.approx(66 + (60 + 600) / 2)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a factor of one": ({"tune": {"eta": 1}}, ["tune.eta", "2"]),
    "one rung": ({"tune": {"rungs": 1}}, ["tune.rungs", "2"]),
    "a factor of another sampler": (
        {"tune": {"sampler": "random", "eta": 3}},
        ["tune.eta", "3: applies to sampler: halving"],
    ),
    "rungs of a grid": (
        {"tune": {"sampler": "grid", "rungs": 3}, "optimizers": [{"rule": "sgd", "lr": [1, 2]}]},
        ["tune.rungs", "3: applies to sampler: halving"],
    ),
    "a grid that grows": (
        {"tune": {"extend": True}},
        ["tune.extend", "extend: true needs sampler: grid"],
    ),
    "too few trials for a second rung": (
        {"tune": {"trials": 2}},
        ["tune.trials", "2", "use trials: 3, or sampler: random"],
    ),
    "more rungs than trials allow": (
        {"tune": {"trials": 8, "rungs": 4, "eta": 2}},
        [],
    ),
    "too many rungs": (
        {"tune": {"trials": 8, "rungs": 5, "eta": 2}},
        ["tune.trials", "8: 5 rungs with eta 2 need 16 trials", "use rungs: 4"],
    ),
    "rungs beyond counting": (
        {"tune": {"trials": 8, "rungs": 30, "eta": 10**9}},
        ["tune.trials", "over 1,000,000,000,000,000,000 trials"],
    ),
    "a budget in seconds": (
        {"budget": {"seconds": 5}},
        ["tune.sampler", "budget.seconds 5 has none", "steps or epochs"],
    ),
    "folds": ({"folds": 3}, ["folds", "tune in a study without folds"]),
    "fewer settings than trials": (
        {"optimizers": [{"rule": "sgd", "lr": [0.1, 0.2]}]},
        ["tune.trials", "16: sgd has only 2 settings"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_searches_are_refused(name: str) -> None:
    changes, words = BAD[name]
    if not words:
        study_of(**changes)
        return
    with pytest.raises(StudyError) as caught:
        study_of(**changes)
    assert len(caught.value.problems) == 1
    for word in words:
        assert word in str(caught.value)


def test_a_rung_without_a_step_is_refused() -> None:
    study = study_of(tune={"trials": 27, "rungs": 4}, budget={"epochs": 2}, batch_size=[16, 128])
    with pytest.raises(StudyError) as caught:
        study.plan()
    (problem,) = caught.value.problems
    assert problem.path == "tune.rungs"
    for word in ("4 rungs", "1/27 of the budget", "it has only 4 steps", "fewer rungs"):
        assert word in problem.message


def test_keys_of_halving_leave_other_plans_alone() -> None:
    random = study_of(tune={"sampler": "random", "trials": 3})
    assert random.config.tune
    assert not {"eta", "rungs"} & random.config.tune.model_dump().keys()
    halved = study_of(tune={"trials": 9, "rungs": 2})
    assert halved.config.tune
    assert halved.config.tune.model_dump()["rungs"] == 2
