"""Which settings are tried and chosen: decided on made-up scores, without any training."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from optrial.errors import StudyError
from optrial.plan import Plan, make_plan, tuning_seeds
from optrial.plan.space import space_of
from optrial.plan.tuning import Trial, choose, waves
from optrial.spec import SettingScore
from optrial.study import Study
from tests.small import small_keys
from tests.tolerance import PRINTED_DIGITS

Merit = Callable[[str, Mapping[str, Any]], float | None]
LRS = {"log": [1e-4, 1.0]}


def study_of(optimizers: list[dict[str, Any]], **tune: Any) -> Study:
    return Study(**small_keys(optimizers=optimizers, tune=tune))


def tuned(study: Study, merit: Merit) -> tuple[list[list[Trial]], dict[str, Trial]]:
    """Play the protocol through: the trials of each wave, and what is chosen."""
    config = study.config
    assert config.tune
    spaces = [space_of(config, entry) for entry in config.optimizers]

    def score(trial: Trial) -> SettingScore:
        value = merit(trial.optimizer, trial.point)
        return SettingScore.of([value] * config.tune.seeds)

    trials = [wave.trials for wave in waves(config.tune, spaces, score)]
    chosen = {
        space.optimizer: choose(
            space, [t for wave in trials for t in wave if t.optimizer == space.optimizer], score
        )
        for space in spaces
    }
    return trials, chosen


def peak(**optima: float) -> Merit:
    """A merit that falls off from each optimizer's best learning rate, on a log scale."""
    return lambda optimizer, point: -abs(math.log(point["rule.lr"] / optima[optimizer]))


def tried(trials: list[list[Trial]], optimizer: str, axis: str = "rule.lr") -> list[Any]:
    return [t.point[axis] for wave in trials for t in wave if t.optimizer == optimizer]


def test_a_grid_grows_to_the_optimum_and_the_others_are_refined_as_often() -> None:
    study = study_of([{"rule": "sgd", "lr": [0.001, 0.01, 0.1]}, {"rule": "adam", "lr": [1, 2, 4]}])
    trials, chosen = tuned(study, peak(sgd=10, adam=2))
    assert tried(trials, "sgd") == pytest.approx([0.001, 0.01, 0.1, 1, 10, 100], rel=PRINTED_DIGITS)
    middles = [math.sqrt(2), math.sqrt(8), 2 / 2**0.25]
    assert tried(trials, "adam") == pytest.approx([1, 2, 4, *middles], rel=PRINTED_DIGITS)
    assert [len(wave) for wave in trials] == [6, 2, 2, 2]
    assert (chosen["sgd"].point["rule.lr"], chosen["adam"].point["rule.lr"]) == (10, 2)


def test_a_range_keeps_its_ratio_and_an_axis_of_two_all_its_combinations() -> None:
    momentum = {"rule": "momentum", "lr": {"log": [1e-3, 1e-1], "points": 4}, "momentum": [0, 0.5]}
    sgd = {"rule": "sgd", "lr": {"log": [1e-8, 1], "points": 8}}
    trials, _ = tuned(study_of([momentum, sgd]), peak(momentum=0.3, sgd=0.01))
    step = 10 ** (2 / 3)
    grown = [[(t.point["rule.lr"], t.point["rule.momentum"]) for t in w[:2]] for w in trials[1:]]
    for wave, lr in zip(grown, [0.1 * step, 0.1 * step**2], strict=True):
        assert wave == [(pytest.approx(lr, rel=PRINTED_DIGITS), m) for m in (0, 0.5)]


def test_nothing_illegal_is_tried() -> None:
    entry = {"rule": "momentum", "lr": 0.1, "momentum": {"lin": [0.0, 0.6], "points": 3}}
    trials, chosen = tuned(study_of([entry]), lambda _, point: point["rule.momentum"])
    assert tried(trials, "momentum", "rule.momentum") == [0.0, 0.3, 0.6, 0.9]
    assert chosen["momentum"].point["rule.momentum"] == 0.9
    trials, _ = tuned(study_of([entry]), lambda _, point: -point["rule.momentum"])
    assert tried(trials, "momentum", "rule.momentum") == [0.0, 0.3, 0.6]


def test_nothing_beyond_the_largest_number_is_tried() -> None:
    entry = {"rule": "sgd", "weight_decay": [1.0, 1e200]}
    trials, _ = tuned(study_of([entry]), lambda _, point: point["rule.weight_decay"])
    assert tried(trials, "sgd", "rule.weight_decay") == [1.0, 1e200]


def test_growing_can_be_switched_off_and_ends_all_the_same() -> None:
    entry = {"rule": "sgd", "weight_decay": [0.1, 1.0]}
    larger: Merit = lambda _, point: point["rule.weight_decay"]  # noqa: E731
    trials, _ = tuned(study_of([entry], extend=False), larger)
    assert len(trials) == 1
    trials, _ = tuned(study_of([entry]), larger)
    assert len(trials) == 7


@pytest.mark.parametrize(
    ("entry", "last"),
    [
        ({"rule": "sgd", "lr": [0.1, 1.0]}, [10, 100]),
        ({"rule": "adam", "lr": [0.003, 0.03, 0.3]}, [1]),
        ({"rule": "adam", "lr": [0.1, 10.0]}, []),
        ({"rule": "sgd", "lr": {"lin": [1.0, 81.0], "points": 3}}, []),
        ({"torch": "torch.optim:Adam", "lr": [0.1, 0.2]}, [0.4, 0.8, 1.0]),
        ({"torch": "torch.optim:SGD", "lr": [10.0, 50.0]}, [100.0]),
    ],
)
def test_no_rate_beyond_the_sensible_is_tried(entry: Mapping[str, Any], last: list[float]) -> None:
    """Wherever the best seems to be, as where targets are not on a unit scale."""
    name = entry.get("rule") or entry["torch"].partition(":")[2]
    trials, _ = tuned(study_of([entry]), lambda _, point: point["rule.lr"])
    written = len(trials[0])
    assert tried(trials, name)[written:] == pytest.approx(last, rel=PRINTED_DIGITS)


def test_no_rate_below_the_sensible_is_tried() -> None:
    smaller: Merit = lambda _, point: -point["rule.lr"]  # noqa: E731
    trials, _ = tuned(study_of([{"rule": "sgd", "lr": [1e-5, 1e-6]}]), smaller)
    assert tried(trials, "sgd")[2:] == pytest.approx([1e-7, 1e-8], rel=PRINTED_DIGITS)
    beyond = {"rule": "sgd", "lr": [1e5, 1e4]}
    trials, _ = tuned(study_of([beyond]), smaller)
    assert min(tried(trials, "sgd")) < 1  # on the way back every rate may be tried
    linear = {"rule": "sgd", "lr": {"lin": [0.1, 0.5], "points": 5}}
    trials, _ = tuned(study_of([linear]), smaller)
    assert len(tried(trials, "sgd")) == 5


def test_of_equals_the_one_inside_is_chosen_and_nothing_grows() -> None:
    trials, chosen = tuned(study_of([{"rule": "sgd", "lr": [1e-3, 1e-2, 1e-1]}]), lambda *_: 1.0)
    assert len(trials) == 1
    assert chosen["sgd"].point["rule.lr"] == 1e-2


def test_where_all_diverged_smaller_values_are_tried() -> None:
    below: Merit = lambda _, point: None if point["rule.lr"] > 0.05 else point["rule.lr"]  # noqa: E731
    trials, chosen = tuned(study_of([{"rule": "sgd", "lr": [10.0, 1.0]}]), below)
    assert tried(trials, "sgd") == pytest.approx([10, 1, 0.1, 0.01, 0.001], rel=PRINTED_DIGITS)
    assert chosen["sgd"].point["rule.lr"] == 0.01


@settings(max_examples=30, deadline=None)
@given(
    optima=st.lists(st.floats(1e-6, 50.0), min_size=1, max_size=3),
    points=st.integers(2, 4),
    pairs=st.booleans(),
)
def test_budgets_are_equal_and_the_choice_lies_inside(
    optima: list[float], points: int, pairs: bool
) -> None:
    """Whatever the optima, and grids of equal size but unequal shape; unless growing is capped."""
    square = {"lr": {"log": [1e-3, 1e-1], "points": points}, "momentum": [0.8, 0.9]}
    line = {"lr": {"log": [1e-3, 1e-1], "points": 2 * points}}
    optimizers = [
        {"name": f"o{index}", "rule": "momentum"} | (square if pairs and index else line)
        for index in range(len(optima))
    ]
    best = {f"o{index}": optimum for index, optimum in enumerate(optima)}
    trials, chosen = tuned(study_of(optimizers), peak(**best))
    for wave in trials:
        assert len({sum(t.optimizer == name for t in wave) for name in best}) == 1
    for name in best:
        lrs = tried(trials, name)
        combinations = set(zip(lrs, tried(trials, name, "rule.momentum"), strict=True))
        assert len(combinations) == len(lrs)
        inside = min(lrs) < chosen[name].point["rule.lr"] < max(lrs)
        assert inside or len(trials) == 7 or max(lrs) == 100


@given(st.sets(st.integers(999_998, 1_000_010), min_size=1), st.integers(1, 5))
def test_tuning_seeds_are_never_report_seeds(seeds: set[int], count: int) -> None:
    keys = small_keys(seeds=sorted(seeds), tune={"seeds": count})
    trial_seeds = tuning_seeds(Study(**keys).config)
    assert len(set(trial_seeds)) == count
    assert not seeds & set(trial_seeds)


def test_more_report_seeds_leave_the_tuning_seeds_alone() -> None:
    few, many = (Study(**small_keys(seeds=n, tune={})).config for n in (2, 50))
    assert tuning_seeds(few) == tuning_seeds(many)


def points_of(sampler: str, trials: int, seed: int, **axes: Any) -> list[Mapping[str, Any]]:
    tune = {"sampler": sampler, "trials": trials, "seed": seed}
    ((wave), *more), _ = tuned(study_of([{"rule": "adam", **axes}], **tune), lambda *_: 0.0)
    assert not more
    return [trial.point for trial in wave]


def test_sobol_points_are_those_of_scipy() -> None:
    points = points_of("sobol", 16, 3, lr=LRS, beta1={"lin": [0.5, 0.9], "points": 3})
    cube = qmc.Sobol(2, seed=3).random_base2(4)
    expected = qmc.scale(cube, [-4, 0.5], [0, 0.9])
    np.testing.assert_allclose(
        [[math.log10(p["rule.lr"]), p["rule.beta1"]] for p in points], expected, atol=PRINTED_DIGITS
    )
    chance = np.random.default_rng(0)
    typical = np.median([qmc.discrepancy(chance.random((16, 2))) for _ in range(20)])
    unit = (np.array(expected) - [-4, 0.5]) / [4, 0.4]
    assert qmc.discrepancy(unit) < typical / 2


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_samplers_are_reproducible_and_keep_to_the_ranges(sampler: str) -> None:
    axes = {"lr": LRS, "beta1": [0.5, 0.8, 0.9], "weight_decay": {"log": [0.1, 1e-3]}}
    points = points_of(sampler, 30, 1, **axes)
    assert points == points_of(sampler, 30, 1, **axes)
    assert points[:8] == points_of(sampler, 8, 1, **axes)
    assert points != points_of(sampler, 30, 2, **axes)
    lrs, decays = ([p[f"rule.{name}"] for p in points] for name in ("lr", "weight_decay"))
    assert 1e-4 <= min(lrs) < 1e-3 < 0.1 < max(lrs) <= 1
    assert 1e-3 <= min(decays) < max(decays) <= 0.1
    counts = [sum(p["rule.beta1"] == value for p in points) for value in axes["beta1"]]
    assert min(counts) >= 5


def test_samplers_repeat_no_setting() -> None:
    points = points_of("random", 6, 0, lr=[0.1, 0.2, 0.3], beta1=[0.5, 0.9])
    assert len({(p["rule.lr"], p["rule.beta1"]) for p in points}) == 6


def needs_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("Optuna is not installed: pip install 'optrial[tune]'")


def test_tpe_is_reproducible_and_draws_near() -> None:
    needs_optuna()
    optimizers = [{"rule": "sgd", "lr": LRS}, {"name": "b", "rule": "adam", "lr": LRS}]
    study = study_of(optimizers, sampler="tpe", trials=40)
    merit = peak(sgd=0.5, b=0.0005)
    trials, chosen = tuned(study, merit)
    assert tried(trials, "sgd") == tried(tuned(study, merit)[0], "sgd")
    assert [len(wave) for wave in trials] == [20] * 4
    for name in ("sgd", "b"):
        assert len(set(tried(trials, name))) == 40
        first, last = (
            np.mean([merit(name, t.point) for t in trials[wave] if t.optimizer == name])
            for wave in (0, -1)
        )
        assert last > first
        assert merit(name, chosen[name].point) == max(
            merit(name, {"rule.lr": lr}) for lr in tried(trials, name)
        )


def test_tpe_goes_round_a_small_space_once() -> None:
    needs_optuna()
    study = study_of([{"rule": "sgd", "lr": [0.1, 0.2, 0.3, 0.4, 0.5]}], sampler="tpe", trials=5)
    trials, _ = tuned(study, peak(sgd=0.3))
    assert sorted(tried(trials, "sgd")) == [0.1, 0.2, 0.3, 0.4, 0.5]


def played(study: Study, merit: Merit) -> list[Plan]:
    """The plans of a study from the first to the last, each with the merits of those before."""
    dataset, merits = study.load_data(), {}
    plans: list[Plan] = []
    while True:
        plan = make_plan(study.studies, {study.config.problem.name: dataset}, merits)
        if plans and plan.runs == plans[-1].runs:
            return plans
        plans.append(plan)
        for run in plan.runs:
            merits[run.run_id] = merit(run.optimizer, {"rule.lr": run.hyperparameters["lr"]})


GROWING = [{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": [0.001, 0.01]}]


def test_plans_go_as_far_as_the_merits() -> None:
    study = Study(**small_keys(optimizers=GROWING, seeds=4, tune={"seeds": 2}))
    plans = played(study, peak(sgd=1.0, adam=0.01))
    assert [len(plan.runs) for plan in plans] == [8, 12, 16, 24]
    for before, after in pairwise(plans):
        assert after.runs[: len(before.runs)] == before.runs
    final = plans[-1]
    report = [run for run in final.runs if final.phases[run.run_id] == "report"]
    assert [(r.optimizer, r.hyperparameters["lr"], r.seed) for r in report] == [
        (name, lr, seed) for name, lr in (("sgd", 1.0), ("adam", 0.01)) for seed in range(4)
    ]


def test_the_hash_is_fixed_before_the_first_run() -> None:
    keys = small_keys(optimizers=GROWING, tune={"seeds": 2})
    plans = played(Study(**keys), peak(sgd=1.0, adam=0.01))
    assert len({plan.hash for plan in plans}) == 1
    assert {plan.hash for plan in played(Study(**keys), peak(sgd=0.01, adam=0.01))} == {
        plans[0].hash
    }
    for change in ({"seeds": 2}, {"tune": {"seeds": 3}}, {"tune": {"seeds": 2, "extend": False}}):
        assert Study(**(keys | change)).plan().hash != plans[0].hash


def test_trials_never_see_the_test_split() -> None:
    final = played(Study(**small_keys(optimizers=GROWING, tune={})), peak(sgd=0.1, adam=0.01))[-1]
    seen = {final.phases[run.run_id]: run.evaluate_on for run in final.runs}
    assert seen == {"tune": ("validation",), "report": ("validation", "test")}


def test_only_the_report_records_metrics_of_batches() -> None:
    keys = small_keys(optimizers=GROWING, tune={})
    asked = Study(**keys | {"evaluate": keys["evaluate"] | {"batch_metrics": True}})
    plans = played(asked, peak(sgd=0.1, adam=0.01))
    seen = {plans[-1].phases[run.run_id]: run.batch_metrics for run in plans[-1].runs}
    assert seen == {"tune": False, "report": True}
    assert plans[0].hash == plans[-1].hash != Study(**keys).plan().hash


def test_one_diverged_run_is_worse_than_any_mean() -> None:
    study = Study(**small_keys(optimizers=[{"rule": "sgd", "lr": [0.1, 0.2]}], tune={"seeds": 3}))
    dataset = study.load_data()
    runs = make_plan(study.studies, {study.config.problem.name: dataset}).runs
    good = {r.run_id: 0.9 if r.hyperparameters["lr"] == 0.2 else 0.1 for r in runs}
    fragile = {r.run_id: None for r in runs if r.hyperparameters["lr"] == 0.2 and r.seed % 3 == 1}
    plain = make_plan(study.studies, {study.config.problem.name: dataset}, good)
    careful = make_plan(study.studies, {study.config.problem.name: dataset}, good | fragile)
    assert plain.runs[-1].hyperparameters["lr"] == 0.4
    assert careful.runs[-1].hyperparameters["lr"] == 0.05


ADAM = {"rule": "adam", "lr": [0.1, 0.2]}
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "test metric": (
        {"tune": {"select": "test_accuracy"}},
        ["tune.select", "'test_accuracy'", "report alone", "Did you mean 'validation_accuracy'?"],
    ),
    "training metric": (
        {"tune": {"select": "train_loss"}},
        ["tune.select", "overfits", "validation_loss"],
    ),
    "a metric of unknown direction": (
        {
            "problem": {
                "dataset": "digits",
                "metrics": ["accuracy", "tests.user_code:error_rate"],
            },
            "tune": {"select": "validation_error_rate"},
        },
        [
            "tune.select",
            "does not declare whether lower or higher values of validation_error_rate",
            "metrics: [{name: tests.user_code:error_rate, better: lower}], or higher",
        ],
    ),
    "unknown metric": ({"tune": {"select": "validation_f1"}}, ["not a validation metric"]),
    "no validation split": (
        {"tune": {}, "evaluate": {"on": ["test"]}},
        ["evaluate.on", "add validation"],
    ),
    "unequal grids": (
        {"tune": {}, "optimizers": [{"rule": "sgd"}, ADAM]},
        ["sgd 1, adam 2", "sampler: sobol, trials: 2"],
    ),
    "trials beside a grid": (
        {"tune": {"trials": 3}, "optimizers": [ADAM]},
        ["tune.trials", "3", "the grids have 2 each"],
    ),
    "nothing to refine": (
        {
            "tune": {},
            "optimizers": [ADAM, {"name": "s", "rule": "sgd", "schedule": ["constant", "cosine"]}],
        },
        ["tune.extend", "s has nothing to refine", "extend: false"],
    ),
    "range without points in a grid": (
        {"tune": {}, "optimizers": [{"rule": "sgd", "lr": LRS}]},
        ["optimizers[0].lr", "{log: [0.0001, 1.0]}", "add points: n", "sobol"],
    ),
    "range without points and without tuning": (
        {"optimizers": [{"rule": "sgd", "clip": {"norm": LRS}}]},
        ["optimizers[0].clip.norm", "add points: n"],
    ),
    "fewer settings than trials": (
        {"tune": {"sampler": "sobol", "trials": 3}, "optimizers": [ADAM]},
        ["tune.trials", "adam has only 2 settings", "write a range"],
    ),
    "range of too few values": (
        {
            "tune": {"sampler": "random", "trials": 9},
            "optimizers": [{"rule": "sgd", "lr": {"log": [1.0, 1.00000000002]}}],
        },
        ["tune.trials", "9: sgd has only 2 settings"],
    ),
    "growing ranges": (
        {"tune": {"sampler": "sobol", "extend": True}, "optimizers": [ADAM]},
        ["tune", "extend: true needs sampler: grid"],
    ),
    "unknown sampler": (
        {"tune": {"sampler": "sobel"}},
        ["tune.sampler", "Did you mean 'sobol'?"],
    ),
    "unknown key": ({"tune": {"metric": "validation_loss"}}, ["tune.metric", "Allowed: select"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_protocols_are_refused(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(StudyError) as caught:
        Study(**small_keys(**changes))
    assert len(caught.value.problems) == 1
    for word in words:
        assert word in str(caught.value)


def test_tpe_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.plan.protocol.tpe_is_here", lambda: False)
    with pytest.raises(StudyError, match=r"tune\.sampler: 'tpe' needs Optuna.*optrial\[tune\]"):
        study_of([{"rule": "sgd", "lr": LRS}], sampler="tpe")
