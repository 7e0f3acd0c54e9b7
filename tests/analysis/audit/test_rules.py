"""Every rule fires on its fault, and is silent about the same study without it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from optrial.analysis.audit import AUDIT_RULES, Severity, as_json, summary_line
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.grids import decades, spaced, unequal_widths
from optrial.analysis.audit.learning import _stand_still
from optrial.analysis.view import PlanVersion
from optrial.config import override, parse_study
from optrial.plan import check_study
from optrial.records import Curve, Record
from optrial.rules.learning_rates import usual_rates
from optrial.spec import Rung, Scale, Status
from tests.analysis.audit.builders import (
    BEST,
    CLAIM,
    RATES,
    STEPS,
    Case,
    accuracy,
    by,
    fixed,
    grid,
    noise,
    record,
    reported,
    sound,
    study,
    timed,
)
from tests.specs import changed

E, W, I = Severity.ERROR, Severity.WARNING, Severity.ADVICE  # noqa: E741


adam, sgd = by("adam"), by("sgd")


def reported_adam(run: Record) -> bool:
    return run.optimizer == "adam" and reported(run)


class Row(NamedTuple):
    """A rule, its severity here, a study in which it is silent, and the change that spoils it."""

    rule: str
    severity: Severity
    good: Callable[..., Case]
    spoil: Callable[[Case], Case]
    about: str = ""


def rate_at_edge(case: Case) -> Case:
    """adam is tuned over rates that end at what is best."""
    kept = case.only(lambda r: r.optimizer != "adam" or r.hyperparameters["lr"] <= BEST["adam"])
    lower = [record("adam", rate, 1000 + s, "tune") for rate in (1e-5, 3e-5) for s in range(3)]
    return kept.adding(*lower)


def sampled_at_bound(case: Case) -> Case:
    """adam's rates were drawn from a range that ends just above the best one."""
    entries = [
        {**entry, "lr": {"log": [1e-6, 1.05e-3]}} if entry["rule"] == "adam" else entry
        for entry in case.study["optimizers"]
    ]
    tune = {"sampler": "sobol", "trials": 5, "seeds": 3}
    return rate_at_edge(case).with_study(optimizers=entries, tune=tune)


def sampled_inside(case: Case) -> Case:
    """The same draws from a range that goes on: the outermost of five is no edge."""
    inside = sampled_at_bound(case)
    entries = [
        {**entry, "lr": {"log": [1e-6, 1.0]}} if entry["rule"] == "adam" else entry
        for entry in inside.study["optimizers"]
    ]
    return inside.with_study(optimizers=entries)


def momentum_grid(best: float) -> Callable[[Case], Case]:
    """momentum is tuned over 0.5, 0.7 and 0.9 at its best rate."""

    def spoil(case: Case) -> Case:
        runs = [
            changed(
                record("momentum", BEST["momentum"], 1000 + seed, "tune"),
                run_id=f"m{value}{seed}",
                setting=f"momentum={value}",
                hyperparameters={"lr": BEST["momentum"], "momentum": value},
                metrics={"validation_accuracy": 0.9 - abs(value - best) / 10 + 0.001 * seed},
            )
            for value in (0.5, 0.7, 0.9)
            for seed in range(3)
        ]
        others = case.only(lambda r: not (r.optimizer == "momentum" and r.phase == "tune"))
        return others.adding(*runs).fields(
            lambda r: r.optimizer == "momentum" and reported(r),
            setting=f"momentum={best}",
            hyperparameters={"lr": BEST["momentum"], "momentum": best},
        )

    return spoil


def halved(case: Case) -> Case:
    """Every rate was trained for a ninth of the steps first, with the same order of values."""
    rungs = [
        changed(
            run,
            run_id=f"{run.run_id}-short",
            rung=Rung(place=0, total=2, setting_id=run.setting_id),
            steps=STEPS // 9,
            step=STEPS // 9,
        )
        for run in case.records
        if run.phase == "tune"
    ]
    tune = {"sampler": "halving", "trials": 9, "eta": 9, "rungs": 2, "seeds": 3}
    return case.adding(*rungs).with_study(tune=tune)


def turned_round(case: Case) -> Case:
    """adam's worst rates look best after the first rung."""
    return case.metric(
        "validation_accuracy",
        lambda r: (
            1 - r.metrics["validation_accuracy"]
            if r.rung and r.optimizer == "adam"
            else r.metrics["validation_accuracy"]
        ),
    )


def fewer_trials(optimizer: str, keep: int) -> Callable[[Case], Case]:
    rates = RATES[optimizer][1 : 1 + keep]
    return lambda case: rewritten(case, optimizer, rates).only(
        lambda r: r.optimizer != optimizer or reported(r) or r.hyperparameters["lr"] in rates
    )


def rewritten(case: Case, optimizer: str, rates: Sequence[float]) -> Case:
    """The study names these learning rates."""
    entries = [
        entry | {"lr": list(rates)} if entry["rule"] == optimizer else entry
        for entry in case.study["optimizers"]
    ]
    return case.with_study(optimizers=entries)


def default_rate(case: Case) -> Case:
    """sgd is not tuned, and the study names no learning rate for it."""
    entries = [
        {k: v for k, v in entry.items() if not (entry["rule"] == "sgd" and k == "lr")}
        for entry in case.study["optimizers"]
    ]
    only_best = case.only(lambda r: r.optimizer != "sgd" or r.hyperparameters["lr"] == BEST["sgd"])
    return only_best.with_study(optimizers=entries)


def two_of_ten(case: Case) -> Case:
    """All but one run of sgd diverged."""
    return case.diverged(lambda r: sgd(r) and reported(r) and r.seed > 0)


def weakly(case: Case) -> Case:
    """The claim has p = 0.02 or so: enough for one claim, not for four."""
    ahead = [0.03, 0.02, 0.01, 0.02, 0.03, 0.01, 0.02, -0.012, -0.008, 0.02]
    return case.metric(
        "test_accuracy",
        lambda r: accuracy("sgd", BEST["sgd"], r.seed, "test") + ahead[r.seed],
        reported_adam,
    )


def removed_claims(*claims: str) -> Callable[[Case], Case]:
    """These claims were removed after results were known."""
    return lambda case: plans(({"claims": [CLAIM, *claims]}, 0), ({}, 12))(weakly(case))


def added_late(case: Case) -> Case:
    """The claim was added after results were known."""
    return plans(({"claims": []}, 0), ({}, 12))(weakly(case))


def values(optimizer: str, mean: float, spread: float = 0.001) -> Callable[[Case], Case]:
    """Change the test accuracies of the reported runs of an optimizer."""
    return lambda case: case.metric(
        "test_accuracy",
        lambda r: mean + spread * noise(optimizer, r.seed, "given"),
        lambda r: r.optimizer == optimizer and reported(r),
    )


def coarse(case: Case) -> Case:
    """Only every second learning rate of sgd was tried."""
    rates = RATES["sgd"][::2]
    return case.only(
        lambda r: r.optimizer != "sgd" or reported(r) or r.hyperparameters["lr"] in rates
    )


def decades_apart(case: Case) -> Case:
    """The rates of adam lie ten times apart."""
    moved = {rate: BEST["adam"] * 10.0 ** (i - 2) for i, rate in enumerate(RATES["adam"])}
    return case.change(
        lambda r: changed(r, hyperparameters={"lr": moved[r.hyperparameters["lr"]]}), adam
    )


def linear_rates(case: Case) -> Case:
    """The rates of adam are spaced like those of a `lin` range."""
    place = {rate: 0.0002 + 0.0004 * i for i, rate in enumerate(RATES["adam"])}
    return rewritten(case, "adam", list(place.values())).change(
        lambda r: changed(r, hyperparameters={"lr": place[r.hyperparameters["lr"]]}), by("adam")
    )


def crossing(case: Case) -> Case:
    """sgd is good everywhere, adam is good with one rate only."""
    flat = case.metric("validation_accuracy", lambda r: 0.90 + 0.001 * noise(r.run_id), by("sgd"))
    return flat.metric(
        "validation_accuracy",
        lambda r: 0.99 if r.hyperparameters["lr"] == BEST["adam"] else 0.75,
        by("adam"),
    )


def lucky(case: Case) -> Case:
    """With new seeds adam is far below what its second-best rate had."""
    return case.metric(
        "validation_accuracy", lambda r: 0.90, lambda r: r.optimizer == "adam" and reported(r)
    )


def small_gap(case: Case) -> Case:
    """adam leads sgd by 0.3 points, and its rates matter more; all of them were evaluated."""
    known = case.metric(
        "test_accuracy", lambda r: r.metrics["validation_accuracy"], lambda r: not reported(r)
    )
    shifted = known.metric(
        "test_accuracy",
        lambda r: accuracy("sgd", BEST["sgd"], r.seed, "test") + 0.003,
        lambda r: r.optimizer == "adam" and reported(r),
    )
    return shifted.metric(
        "test_accuracy",
        lambda r: 0.90 if r.hyperparameters["lr"] == RATES["adam"][1] else 0.95,
        lambda r: r.optimizer == "adam" and not reported(r),
    )


def just_ahead(case: Case) -> Case:
    """adam leads sgd by five hundredths of a point with every seed."""
    return case.metric(
        "test_accuracy",
        lambda r: accuracy("sgd", BEST["sgd"], r.seed, "test") + 5e-4 + 1e-5 * r.seed,
        reported_adam,
    )


def test_only(case: Case) -> Case:
    """No validation split was evaluated."""
    metrics = ("test_accuracy", "test_loss")
    return case.change(
        lambda r: replace(r, metrics={name: r.metrics[name] for name in metrics})
    ).with_study(evaluate={"on": ["test"]})


test_only.__test__ = False  # type: ignore[attr-defined]


def left_out(status: Status) -> Callable[[Case], Case]:
    """Seed 9 of all optimizers was trained and then left out."""

    def spoil(case: Case) -> Case:
        gone = [r for r in case.records if reported(r) and r.seed == 9]
        kept = case.only(lambda r: not (reported(r) and r.seed == 9))
        return replace(kept, former=tuple(replace(r, status=status) for r in gone))

    return spoil


def plans(*versions: tuple[dict, int]) -> Callable[[Case], Case]:
    """The study had these versions, saved after so many runs had ended."""
    return lambda case: replace(
        case, plans=tuple(PlanVersion({**case.study, **keys}, ended) for keys, ended in versions)
    )


def improving(case: Case) -> Case:
    drawn = {
        r.run_id: Curve(np.arange(1, 11) * 100, 1 - 0.05 * np.arange(1, 11) + 1e-4 * r.seed)
        for r in case.records
    }
    return replace(case, drawn={"validation_loss": drawn})


def reversed_order(case: Case) -> Case:
    """Half-way the order is the reverse of that at the end."""
    drawn = {
        r.run_id: Curve(
            np.arange(1, 11) * 100,
            np.where(
                np.arange(10) < 7,
                1 - np.full(10, r.metrics["test_accuracy"]),
                np.full(10, r.metrics["test_accuracy"]),
            ),
        )
        for r in case.records
        if reported(r)
    }
    return replace(case, drawn={"test_accuracy": drawn})


def piling(case: Case) -> Case:
    steps = np.arange(1, 101) * 10
    drawn = {r.run_id: Curve(steps, 0.01 * steps) for r in case.records if r.optimizer == "sgd"}
    with_probe = case.metric("gradient_norm", lambda r: 1.0)
    return replace(with_probe, drawn={"gradient_norm": drawn})


def constant(where: Callable[[Record], bool]) -> Callable[[Case], Case]:
    """Runs answer with the shares of the classes; chance lifts their accuracy a little."""

    def spoil(case: Case) -> Case:
        for split, chance in (("validation", 0.002), ("test", -0.001)):
            case = case.metric(f"{split}_accuracy", lambda r, by=chance: 0.1 + by, where)
            case = case.metric(f"{split}_loss", lambda r: 0.9001, where)
        return case

    return spoil


def training(fall: float) -> Callable[[Case], Case]:
    """The training loss of sgd falls by an amount, the others' by a half; batches differ."""

    def change(case: Case) -> Case:
        steps = np.arange(1, STEPS + 1)
        drawn = {
            r.run_id: Curve(
                steps,
                1.0
                - (fall if sgd(r) else 0.5) * steps / STEPS
                + 0.1 * np.random.default_rng(r.seed).normal(size=STEPS),
            )
            for r in case.records
        }
        recorded = case.metric("train_loss", lambda r: float(drawn[r.run_id].values[-1]))
        return replace(recorded, drawn={"train_loss": drawn})

    return change


def hidden(case: Case) -> Case:
    runs = [record("adam", rate, s) for rate in (1e-6, 1e-5) for s in range(10)]
    return replace(case, former=tuple(runs))


def hidden_momentum(case: Case) -> Case:
    """Another momentum was trained and replaced; the texts of both settings are the same."""
    runs = [r for r in case.records if r.optimizer == "momentum"]
    return replace(
        case, former=tuple(changed(r, hyperparameters={"lr": 0.01, "momentum": 0.5}) for r in runs)
    )


def left_out_of_another_text(case: Case) -> Case:
    """Seed 9 diverged and was left out, and then another hyperparameter varied."""
    spoiled = left_out(Status.DIVERGED)(case)
    renamed = tuple(replace(r, setting="lr=0.1 momentum=0") for r in spoiled.former)
    return replace(spoiled, former=renamed)


def claiming(*claims: str) -> Callable[[Case], Case]:
    return lambda case: case.with_study(claims=list(claims))


def with_own(label: str, better: str | None) -> Callable[[Case], Case]:
    """Declare a user-defined metric."""

    def declare(case: Case) -> Case:
        metrics = [{"name": "accuracy"}, {"name": f"my_metrics:{label}", "better": better}]
        return case.with_study(problem={**case.study["problem"], "metrics": metrics})

    return declare


def several(*changes: Callable[[Case], Case]) -> Callable[[Case], Case]:
    def spoil(case: Case) -> Case:
        for change in changes:
            case = change(case)
        return case

    return spoil


def seeds(*kept: int) -> Callable[[Case], Case]:
    return lambda case: case.only(lambda r: not reported(r) or r.seed in kept)


def rename(old: str, new: str) -> Callable[[Case], Case]:
    def spoil(case: Case) -> Case:
        entries = [
            {**entry, "name": new if entry["rule"] == old else entry["name"]}
            for entry in case.study["optimizers"]
        ]
        return case.with_study(optimizers=entries, claims=[]).fields(by(old), optimizer=new)

    return spoil


def sharing(**rules: str) -> Callable[[Case], Case]:
    """One learning rate for all, with other rules under the same names."""

    def spoil(_case: Case) -> Case:
        case = fixed().settings(lr=0.01).fields(setting="lr=0.01")
        for name, rule in rules.items():
            case = case.fields(by(name), rule=rule)
        return case

    return spoil


def regression() -> Case:
    """The sound study, with values to predict, on a unit scale."""
    problem = {**sound().study["problem"], "dataset": "diabetes", "loss": "mse"}
    case = sound().with_study(problem=problem).spec(loss="mse", dataset="diabetes")
    return scaled(targets=(0.0, 1.0))(case)


def scaled(**scales: tuple[float, float]) -> Callable[[Case], Case]:
    """Inputs or targets have this mean and standard deviation."""

    def spoil(case: Case) -> Case:
        before = case.records[0].facts.scale
        assert before is not None
        changed_scales = {
            part: Scale(mean, std, whole=False) for part, (mean, std) in scales.items()
        }
        return case.change(
            lambda r: replace(r, facts=replace(r.facts, scale=replace(before, **changed_scales)))
        )

    return spoil


ROWS = [
    Row("A01", E, sound, rate_at_edge, "the best rate is the largest"),
    Row("A01", E, lambda: sampled_inside(sound()), lambda c: sampled_at_bound(sound()), "sampled"),
    Row("A01", W, lambda: momentum_grid(0.7)(sound()), momentum_grid(0.9), "momentum"),
    Row("A02", E, sound, fewer_trials("sgd", 4)),
    Row("A03", E, sound, default_rate),
    Row(
        "A04",
        E,
        fixed,
        lambda c: c.settings(lr=0.01).fields(setting="lr=0.01"),
        "one shared learning rate",
    ),
    Row("A04", E, fixed, sharing(sgd="adadelta", momentum="adagrad"), "adadelta has its own units"),
    Row("A05", W, sound, coarse),
    Row("A05", W, sound, sharing(sgd="rmsprop", momentum="adagrad"), "one rate, one scale"),
    Row("A05", W, sound, lambda c: c.only(reported), "nothing was tuned"),
    Row("A06", W, lambda: values("sgd", 0.90)(sound()), values("sgd", 0.95)),
    Row(
        "A06",
        E,
        lambda: claiming("sgd > momentum on test_accuracy")(sound()),
        values("sgd", 0.95),
        "claimed",
    ),
    Row("A07", W, sound, linear_rates, "equal distances"),
    Row("A07", W, sound, fewer_trials("sgd", 2), "a narrower range"),
    Row("A08", W, sound, decades_apart),
    Row("A09", W, sound, lambda c: c.spec(adam, schedule={"kind": "cosine", "final": 0.0})),
    Row(
        "A10",
        W,
        lambda: sound().spec(adam, weight_decay=0.01, decay="decoupled"),
        lambda c: c.spec(sgd, weight_decay=0.01, decay="l2"),
    ),
    Row("A11", W, sound, crossing),
    Row("A12", E, sound, lucky),
    Row("A13", W, sound, lambda c: c.only(lambda r: reported(r) or r.seed == 1000)),
    Row("A14", W, lambda: halved(sound()), turned_round),
    Row("A15", W, sound, small_gap),
    Row("B01", E, grid, test_only, "test set used for choosing"),
    Row(
        "B01",
        E,
        sound,
        lambda c: c.with_study(tune={"select": "test_accuracy", "seeds": 3}).metric(
            "test_accuracy", lambda r: r.metrics["validation_accuracy"]
        ),
        "tune.select names the test split",
    ),
    Row("B03", I, sound, lambda c: c.spec(adam, evaluate_every=10)),
    Row("B04", W, sound, lambda c: c.with_study(tune={"select": "validation_loss", "seeds": 3})),
    Row("B05", W, sound, lambda c: grid()),
    Row("B05", E, sound, lambda c: grid(seeds=2), "with two seeds"),
    Row("B06", E, sound, lambda c: c.fields(reported_adam, status=Status.PLANNED)),
    Row("B06", E, sound, left_out(Status.DONE), "a seed left out after training"),
    Row("B07", E, sound, lambda c: c.facts(split_overlap={"train/test": 12})),
    Row("B08", W, plans(({}, 0)), plans(({"budget": {"steps": 9}}, 0), ({}, 12)), "budget"),
    Row(
        "B08",
        W,
        plans(*(({"problem": {"a": {"optimizers": {"adam": {"lr": r}}}}}, 12) for r in (1, 2))),
        plans(*(({"problem": {"a": {"dataset": name}}}, 12) for name in ("digits", "wine"))),
        "one of several problems",
    ),
    Row("B09", W, plans(({}, 0), ({}, 9)), plans(({"claims": []}, 0), ({}, 12))),
    Row("C01", E, sound, lambda c: c.fields(adam, steps=2000, step=2000), "unequal epochs"),
    Row("C02", E, sound, lambda c: c.spec(schedule={"kind": "multistep", "at": [500, 1500]})),
    Row("C03", W, sound, lambda c: c.spec(adam, sam_rho=0.05)),
    Row("C04", I, sound, improving),
    Row("C05", E, sound, lambda c: c.spec(adam, batch_size=128)),
    Row("C06", I, sound, lambda c: c.facts(adam, stopped_early=500)),
    Row("C07", I, sound, reversed_order),
    Row(
        "C08",
        W,
        lambda: sound().metric("train_loss_epoch", lambda r: 1 - r.metrics["validation_accuracy"]),
        claiming("adam > sgd on train_loss_epoch"),
    ),
    Row("D01", E, sound, seeds(0), "one seed"),
    Row("D02", W, sound, seeds(0, 1, 2), "three seeds"),
    Row(
        "D02",
        W,
        sound,
        several(
            claiming("adam ~ sgd on test_accuracy within 1 points"), values("adam", 0.911, 0.02)
        ),
        "a margin that ten seeds cannot show",
    ),
    Row("D03", W, sound, two_of_ten),
    Row("D04", E, sound, values("adam", 0.90, 0.01), "undecided"),
    Row("D04", E, sound, claiming("sgd > adam on test_accuracy"), "refuted"),
    Row("D04", E, sound, lambda c: c.diverged(lambda r: sgd(r) and reported(r)), "it diverged"),
    Row(
        "D04",
        E,
        lambda: claiming("adam is best on test_accuracy")(sound()),
        values("momentum", 0.96, 0.005),
        "the best is tied with the second",
    ),
    Row("D05", I, sound, lambda c: c.only(lambda r: not (reported_adam(r) and r.seed < 2))),
    Row(
        "D06",
        W,
        lambda: weakly(sound()),
        removed_claims(*(f"{name} is best on test_loss" for name in BEST)),
        "claims were removed",
    ),
    Row(
        "D06",
        W,
        lambda: weakly(sound()),
        added_late,
        "the claim was added after results were known",
    ),
    Row("D07", W, sound, lambda c: c.facts(initial_parameters_sha256="same")),
    Row("D08", W, sound, lambda c: c.facts(split_sizes={"train": 900, "test": 100})),
    Row("D09", E, sound, left_out(Status.DIVERGED), "diverged runs dropped"),
    Row("D09", E, sound, left_out_of_another_text, "diverged runs dropped, shown differently"),
    Row(
        "D09",
        E,
        sound,
        lambda c: c.diverged(lambda r: reported_adam(r) and r.seed < 3),
        "the leader by its finished runs",
    ),
    Row("D09", W, sound, lambda c: c.diverged(lambda r: sgd(r) and reported(r)), "all of one"),
    Row("D09", I, sound, lambda c: c.diverged(lambda r: sgd(r) and r.seed == 3), "not the leader"),
    Row("D12", I, sound, just_ahead),
    Row(
        "D13",
        W,
        plans(({"seeds": [0, 1]}, 0), ({}, 9)),
        plans(({"seeds": [0, 1]}, 0), ({"seeds": [0, 1, 2]}, 9), ({}, 12)),
    ),
    Row("D14", I, sound, lambda c: c.metric("test_accuracy", lambda r: 0.5, lambda r: r.seed == 3)),
    Row("D15", I, sound, values("momentum", 0.96, 0.005)),
    Row(
        "E01",
        E,
        sound,
        lambda c: c.evaluation(training_modules=["dropout1"]),
        "evaluation with dropout on",
    ),
    Row("E01", E, sound, lambda c: c.facts(training={"evaluation_modules": ["dropout1"]}), "train"),
    Row("E01", E, sound, lambda c: c.facts(evaluation_difference=0.1), "two evaluations"),
    Row("E02", E, sound, lambda c: c.evaluation(buffers_sha256=["before", "after"])),
    Row("E03", E, sound, lambda c: c.evaluation(generators_sha256=["before", "after"])),
    Row("E04", E, sound, rename("sgd", "Nesterov"), "sgd labelled Nesterov"),
    Row(
        "E04",
        E,
        lambda: rename("sgd", "RMSProp (plain)")(sound()).fields(
            by("RMSProp (plain)"), rule="rmsprop"
        ),
        lambda c: c.fields(by("RMSProp (plain)"), optimizer="RMSProp (Nesterov)"),
        "RMSProp labelled Nesterov",
    ),
    Row(
        "E04",
        E,
        lambda: rename("momentum", "RMSProp with momentum")(sound()).fields(
            by("RMSProp with momentum"), rule="torch.optim:RMSprop"
        ),
        lambda c: c.fields(by("RMSProp with momentum"), optimizer="RMSProp Nesterov"),
        "RMSProp labelled Nesterov has heavy-ball momentum only",
    ),
    Row(
        "E04",
        E,
        sound,
        lambda c: c.facts(
            adam, parity={"against": "torch.optim.Adam", "difference": 0.1, "tolerance": 1e-12}
        ),
        "steps differ from the reference",
    ),
    Row("E05", W, sound, lambda c: c.facts(adam, versions={"torch": "2.8.0", "python": "3.11.9"})),
    Row("E06", E, sound, lambda c: c.facts(adam, initial_parameters_sha256="other")),
    Row("E07", W, sound, lambda c: c.facts(adam, first_batches_sha256="other")),
    Row("E08", W, sound, lambda c: c.facts(epoch_batches_sha256=["e1", "e1", "e1"])),
    Row("E09", W, sound, lambda c: c.spec(adam, clip_norm=1.0)),
    Row(
        "E10",
        W,
        lambda: sound().spec(weight_decay=0.01),
        lambda c: c.facts(adam, decayed_share=0.98),
    ),
    Row(
        "E12",
        I,
        lambda: sound().metric("train_accuracy_epoch", lambda r: 0.99),
        claiming("adam > sgd on train_accuracy_epoch"),
    ),
    Row("E13", E, sound, lambda c: c.facts(stack_certificate={"difference": 1, "tolerance": 0.1})),
    Row("E14", E, sound, lambda c: c.facts(first_masks_sha256="same")),
    Row("E15", E, sound, lambda c: c.facts(stack_neighbour={"difference": 1, "tolerance": 0.0})),
    Row("E16", W, sound, lambda c: c.facts(adam, float32_products="high")),
    Row("E17", I, sound, lambda c: c.facts(replicate_difference=0.001)),
    Row(
        "E18",
        E,
        sound,
        lambda c: c.facts(sgd, parameters_sha256="w", initial_parameters_sha256="w"),
    ),
    Row("E18", E, sound, piling, "gradients pile up"),
    Row("E18", E, sound, lambda c: c.spec(zero_grad=False), "zero_grad: false"),
    Row("E19", W, regression, scaled(targets=(0.5, 150.0)), "large targets"),
    Row("E19", W, regression, scaled(targets=(290.0, 8.0)), "targets far from 0"),
    Row("E19", W, regression, scaled(targets=(0.1, 0.002)), "small targets"),
    Row("E19", W, regression, scaled(inputs=(1970.0, 30.0)), "features"),
    Row("E19", W, sound, scaled(inputs=(33.0, 79.0)), "images from 0 to 255"),
    Row(
        "E19",
        E,
        lambda: regression().diverged(lambda r: sgd(r) and r.seed == 3),
        scaled(targets=(184_000.0, 43_000.0)),
        "and runs diverged",
    ),
    Row(
        "E19",
        E,
        lambda: scaled(targets=(184_000.0, 43_000.0))(regression().spec(loss="mine:loss")),
        lambda c: c.diverged(lambda r: sgd(r) and r.seed == 3),
        "a user-defined loss, with runs that diverged",
    ),
    Row("E20", W, sound, constant(lambda r: sgd(r) and reported(r)), "one optimizer"),
    Row("E20", E, sound, constant(reported), "every contender"),
    Row("E21", W, lambda: training(0.5)(sound()), training(0.0), "it stays"),
    Row("E21", W, lambda: training(0.5)(sound()), training(-0.5), "it rises"),
    Row("F01", W, timed, lambda c: c.facts(warm_up_seconds=3.0)),
    Row("F02", E, timed, lambda c: c.facts(adam, threads=8)),
    Row("F04", I, sound, lambda c: c.spec(budget_seconds=60.0).facts(host="a", load=0.5)),
    Row("F04", W, sound, lambda c: c.spec(budget_seconds=60.0).facts(host="a", load=3.0), "busy"),
    Row("F03", E, timed, lambda c: c.facts(stack_width=6), "timing from stacked runs"),
    Row("G01", W, sound, hidden),
    Row("G01", W, sound, hidden_momentum, "settings that are shown alike"),
    Row("G02", W, sound, lambda c: c.spec(adam, dataset_sha256="")),
    Row("G02", I, sound, lambda c: c.facts(git_dirty=True).spec(code={"a:b": "0"}), "own code"),
    Row("G03", I, sound, lambda c: c.spec(evaluate_every=2)),
    Row("G05", I, sound, several(*(values(name, 0.9 + 0.001 * i) for i, name in enumerate(BEST)))),
    Row("G04", E, sound, claiming("adam > sgd on test_f1"), "a metric that was not recorded"),
    Row("G04", E, sound, claiming("adam is the best"), "not a claim"),
    Row("G04", E, sound, lambda c: test_only(grid()).with_study(claims=[CLAIM]), "none was chosen"),
    Row("G06", W, sound, lambda c: c.spec(adam, batch_size=128)),
]


def decaying() -> Case:
    """The sound study with weight decay, so that every rule has something to look at."""
    return sound().spec(weight_decay=0.01)


IDS = [f"{row.rule} {row.about}".strip() for row in ROWS]


@cache
def base(good: Callable[..., Case]) -> Case:
    """Some bases are changes of the sound study, others make one."""
    try:
        return good()
    except TypeError:
        return good(sound())


@cache
def fired_by(good: Callable[..., Case]) -> Mapping[str, set[Severity]]:
    """What is found in a base, which many rows share."""
    found: dict[str, set[Severity]] = {}
    for finding in base(good).audit().findings:
        found.setdefault(finding.rule, set()).add(finding.severity)
    return found


def fired(case: Case, rule: str) -> list[Severity]:
    return [finding.severity for finding in case.audit().findings if finding.rule == rule]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_rule_fires_only_on_its_fault(row: Row) -> None:
    assert row.severity not in fired_by(row.good).get(row.rule, ())
    assert row.severity in fired(row.spoil(base(row.good)), row.rule)


def as_written(study: Mapping[str, Any]) -> dict[str, Any]:
    """The study as its file has it, without defaults."""
    keys = {name: value for name, value in study.items() if name not in ("claims", "waive")}
    entries = [{k: v for k, v in e.items() if v is not None} for e in study["optimizers"]]
    return {name: value for name, value in keys.items() if value is not None} | {
        "optimizers": entries
    }


@pytest.mark.one_in(3)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_remedy_is_a_valid_change_of_the_study(row: Row) -> None:
    """Every ``--set`` can be pasted: the study is valid, and so is its plan."""
    case = row.spoil(base(row.good))
    plain = as_written(case.study)
    for finding in case.audit().findings:
        settings = [a for a in finding.remedy.assignments if not a.startswith("claims=")]
        before, _ = parse_study(plain)
        parsed, problems = parse_study(override(plain, settings))
        assert not problems, (finding.rule, problems)
        assert parsed is not None
        already = check_study(before.shared) if before else []
        wrong = [p for p in check_study(parsed.shared) if p not in already]
        assert not wrong, (finding.rule, settings, wrong)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_finding_is_complete(row: Row) -> None:
    report = row.spoil(base(row.good)).audit()
    json.dumps(as_json(report), allow_nan=False)
    for finding in report.findings:
        assert finding.evidence
        assert not finding.evidence.endswith(".")
        assert finding.remedy.action
        assert finding.remedy.runs == 0 or (finding.remedy.seconds or 0) > 0
        assert "nan" not in finding.evidence


def test_a_setting_that_is_shown_differently_is_not_removed() -> None:
    case = left_out_of_another_text(sound())
    assert not fired(case, "G01")


def test_phrases_that_a_text_repeats_are_no_leak() -> None:
    sizes = {"train": 9000, "validation": 400, "test": 400}
    shared = sound().facts(split_overlap={"train and test": 3}, split_sizes=sizes)
    assert fired(shared, "B07") == [Severity.ERROR]
    text = shared.spec(dataset_arguments={"context": 16})
    assert fired(text, "B07") == [Severity.ADVICE]
    passage = text.facts(split_overlap={"train and test": 4})
    assert fired(passage, "B07") == [Severity.ERROR]


def test_a_loss_chooses_as_its_exponential_does() -> None:
    in_bits = (
        sound()
        .with_study(
            tune={"select": "validation_loss", "seeds": 3},
            claims=["adam > sgd on test_bits_per_byte"],
        )
        .metric("test_bits_per_byte", lambda r: r.metrics["test_loss"])
    )
    assert not fired(in_bits, "B04")
    assert fired(in_bits.spec(loss_arguments={"label_smoothing": 0.1}), "B04")


@pytest.mark.parametrize(("ends", "is_hidden"), [([0.3, 0.95], False), ([0.8, 0.95], True)])
def test_a_search_of_ranges_replaces_what_lies_within_them(
    ends: list[float], is_hidden: bool
) -> None:
    case = hidden_momentum(sound())
    entry = {"rule": "momentum", "lr": {"log": [0.001, 1.0]}, "momentum": {"lin": ends}}
    assert bool(fired(case.with_study(optimizers=[entry]), "G01")) == is_hidden


@pytest.mark.parametrize(("seeds", "shown"), [(6, False), (10, True)])
def test_a_rule_loses_to_its_special_case_where_the_corrected_test_says_so(
    seeds: int, shown: bool
) -> None:
    """Six seeds show a difference between two optimizers, but not among three."""
    better = values("sgd", 0.95)(sound())
    case = better.only(lambda r: not reported(r) or r.seed < seeds)
    assert ("A06" in {finding.rule for finding in case.audit().findings}) is shown


def test_a_fall_that_short_runs_show_together_is_no_standstill() -> None:
    def curve(last: float) -> Curve:
        return Curve(np.arange(1, 12), np.array([1.0] * 9 + [last, 1.3 - last]))

    assert _stand_still([curve(0.8)])
    assert _stand_still([curve(0.8)] * 2)
    assert not _stand_still([curve(0.8)] * 20)


def test_another_choice_costs_the_runs_of_what_was_not_chosen() -> None:
    case = sound().with_study(tune={"select": "validation_loss", "seeds": 3})
    other = next(rate for rate in RATES["adam"] if rate != BEST["adam"])

    def accurate(run: Record) -> Record:
        is_other = run.optimizer == "adam" and run.hyperparameters["lr"] == other
        accuracy = 1.0 if is_other else run.metrics["validation_accuracy"]
        return replace(run, metrics={**run.metrics, "validation_accuracy": accuracy})

    for chosen, runs in ((case, 0), (case.change(accurate), 10)):
        (finding,) = (f for f in chosen.audit().findings if f.rule == "B04")
        assert finding.remedy.runs == runs


def equal_values(case: Case) -> Case:
    """All trials of adam are perfect, and three of its ten runs with new seeds are not."""
    return case.metric(
        "validation_accuracy", lambda r: 0.978 if reported(r) and r.seed < 3 else 1.0, by("adam")
    )


def test_a_few_equal_values_do_not_make_a_trial_lucky() -> None:
    """Their interval has no width."""
    assert fired(lucky(sound()), "A12")
    assert not fired(equal_values(sound()), "A12")


@pytest.mark.parametrize(("seeds", "proposed"), [(1, 3), (2, 2), (5, 5)])
def test_a_proposed_search_has_enough_trials_and_seeds(seeds: int, proposed: int) -> None:
    few = fewer_trials("adam", 2)(fewer_trials("sgd", 1)(sound())).with_study(tune={"seeds": seeds})
    findings = [f for f in few.audit().findings if f.rule in ("A02", "A05")]
    assert {f.rule for f in findings} == {"A02", "A05"}
    for finding in findings:
        tune = finding.remedy.settings["tune"]
        assert (tune["trials"], tune["seeds"]) == (5, proposed)


def tried(rates: Mapping[str, list[float]], **keys: Any) -> Case:
    """A tuned comparison of these learning rates; each is as good as its rule makes it."""
    trials = [(name, rate) for name, of_one in rates.items() for rate in of_one]
    records = [record(*trial, 1000 + seed, "tune") for trial in trials for seed in range(3)]
    for name, of_one in rates.items():
        best = min(of_one, key=lambda rate: abs(math.log(rate / BEST[name])))
        records += [record(name, best, seed) for seed in range(10)]
    optimizers = [{"rule": name, "lr": of_one} for name, of_one in rates.items()]
    return Case(study(**{"optimizers": optimizers, "claims": []} | keys), tuple(records))


def test_grids_with_unequal_steps_are_searched_rather_than_extended() -> None:
    """Two more values each would be two decades for one grid and a third of one for the other."""
    case = tried({"sgd": [0.001, 0.0011, 0.01], "adam": [0.0004, 0.0025, 0.003]})
    findings = {finding.rule: finding for finding in case.audit().findings}
    assert "A07" not in findings
    settings = findings["A01"].remedy.settings
    assert settings["tune"]["sampler"] == "sobol"
    ranges = [value["log"] for key, value in settings.items() if key.endswith(".lr")]
    assert len(ranges) == 2
    assert not unequal_widths([decades(ends) for ends in ranges])


def test_ranges_are_compared_by_their_ends_and_not_by_what_was_drawn() -> None:
    ranges = {"sgd": [0.03, 0.3], "adam": [0.00001, 0.001]}
    case = tried(
        {"sgd": [0.08, 0.1, 0.12], "adam": [0.000012, 0.0001, 0.00098]},
        optimizers=[{"rule": name, "lr": {"log": ends}} for name, ends in ranges.items()],
        tune={"sampler": "random", "trials": 3, "seeds": 3},
    )
    findings = {finding.rule: finding for finding in case.audit().findings}
    assert "A07" not in findings
    settings = findings["A01"].remedy.settings
    widened = {
        **ranges,
        **{key.split(".")[1]: v["log"] for key, v in settings.items() if "lr" in key},
    }
    assert widened != ranges
    assert not unequal_widths([decades(ends) for ends in widened.values()])


@pytest.mark.parametrize(("seeds", "proposed"), [(13, 14), (14, None), (12, None)])
def test_settings_that_are_added_get_the_seeds_they_need(seeds: int, proposed: int | None) -> None:
    """21 settings need 14 seeds, where 15 need 13; with 12, D02 has been found already."""
    rates = {**RATES, "adam": [1e-5, 3e-5, 1e-4, 3e-4, 1e-3]}
    runs = [record(n, rate, s) for n in rates for rate in rates[n] for s in range(seeds)]
    entries = [{"rule": name, "lr": of_one} for name, of_one in rates.items()]
    keys = study(tune=None, seeds=seeds, claims=[], optimizers=entries)
    case = test_only(Case(keys, tuple(runs)))
    remedies = [f.remedy for f in case.audit().findings if f.rule == "A01"]
    assert remedies
    for remedy in remedies:
        assert remedy.settings.get("seeds") == proposed
        assert remedy.runs == 6 * seeds + 21 * ((proposed or seeds) - seeds)


def test_a_study_that_is_trained_anew_begins_with_the_grids_of_its_file() -> None:
    """What grew beyond them may not be tried again."""
    grown = [record("adam", rate, 1000 + s, "tune") for rate in (0.03, 0.0017) for s in range(3)]
    for case, runs in ((sound(), 75), (sound().adding(*grown), 75)):
        remedy = Context.of(case.view()).remedy("train longer", {"budget.steps": 2 * STEPS})
        assert (remedy.runs, remedy.at_least) == (runs, True)


def test_grids_that_grew_are_tried_elsewhere_by_another_metric() -> None:
    """Beside the trials of the present choice, those of the former one would be hidden."""
    grown = [record("adam", 0.03, 1000 + seed, "tune") for seed in range(3)]
    tune = {"select": "validation_loss", "seeds": 3}
    remedies = {
        len(case.records): next(f.remedy for f in case.audit().findings if f.rule == "B04")
        for case in (sound().with_study(tune=tune), sound().adding(*grown).with_study(tune=tune))
    }
    assert [(r.folder, r.runs) for r in remedies.values()] == [("", 0), ("studies/sound-2", 75)]


def test_a_range_holds_the_rates_that_were_tried() -> None:
    """Also where three digits of its ends would leave one out."""
    few = tried({"sgd": [1 / 3, 0.8], "adam": [0.000199999, 0.300001]})
    (finding,) = (f for f in few.audit().findings if f.rule == "A05")
    for name, rates in (("sgd", (1 / 3, 0.8)), ("adam", (0.000199999, 0.300001))):
        low, high = finding.remedy.settings[f"optimizers.{name}.lr"]["log"]
        assert low <= min(rates) < max(rates) <= high


@pytest.mark.parametrize(("planned", "proposed"), [(3, 8), ([0, 1, 5], [0, 1, 5, 2, 3, 4, 6, 7])])
def test_the_first_seeds_are_proposed_as_a_number(planned: Any, proposed: Any) -> None:
    context = Context.of(sound().with_study(seeds=planned).view())
    assert context.more_seeds(8, "run 8 seeds").settings == {"seeds": proposed}


@pytest.mark.parametrize(
    "text", ["adam > sgd on test_accuracy by", "adam ~ sgd on test_accuracy within"]
)
def test_the_seeds_of_a_claim_depend_on_how_far_it_is_from_what_decides(text: str) -> None:
    """Twenty points ahead, a few seeds show that it is more than 5; more than 18 needs many."""
    case = values("adam", 1.1, 0.02)(sound()).only(lambda r: not reported(r) or r.seed < 4)
    counts = []
    for amount in (5, 16, 18):
        claimed = case.with_study(seeds=4, claims=[f"{text} {amount} points"])
        (finding,) = (f for f in claimed.audit().findings if f.rule == "D04")
        counts.append(finding.remedy.settings["seeds"])
        assert ("against the claim" in finding.remedy.action) == ("~" in text)
    assert counts[0] == 6 < counts[1] < counts[2]


def test_averaged_weights_that_learned_nothing_are_a_constant_answer() -> None:
    """The raw weights of the same run may have learned."""
    raw = sound().metric("test_accuracy_raw", lambda r: 0.99, by("adam"))
    averaged = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")
    for name in averaged:
        raw = raw.metric(name, lambda r, name=name: 0.1 if "acc" in name else 2.0, by("adam"))
    assert fired(raw, "E20")


def test_a_search_holds_the_usual_rates_and_no_range_is_much_narrower() -> None:
    few = tried({"sgd": [1e-8, 1.0], "adam": [0.0004]})
    (finding,) = (f for f in few.audit().findings if f.rule == "A02")
    sgd, adam = (
        finding.remedy.settings[f"optimizers.{name}.lr"]["log"] for name in ("sgd", "adam")
    )
    assert sgd[0] <= 1e-8 < usual_rates("sgd", 0.1)[1] <= sgd[1]
    assert decades(adam) >= decades(sgd) / 2 > 3


@pytest.mark.parametrize("written", [{"log": [0.01, 1.0]}, {"log": [0.01, 1.0], "points": 5}])
def test_narrow_ranges_grow_in_kind(written: dict[str, Any]) -> None:
    """A range to draw from stays one, and a grid keeps its number of points."""
    rates = {"sgd": spaced([0.01, 1.0], 5), "adam": spaced([1e-7, 0.01], 5)}
    wide = {**written, "log": [1e-7, 0.01]}
    entries = [{"rule": "sgd", "lr": written}, {"rule": "adam", "lr": wide}]
    tune = {"seeds": 3} if "points" in written else {"sampler": "sobol", "trials": 5, "seeds": 3}
    case = tried(rates, optimizers=entries, tune=tune)
    (finding,) = (f for f in case.audit().findings if f.rule == "A07")
    ((path, new),) = finding.remedy.settings.items()
    assert path == "optimizers.sgd.lr"
    assert {key: new[key] for key in new if key != "log"} == {
        key: written[key] for key in written if key != "log"
    }
    kept = set(spaced(new["log"], 5)) & set(rates["sgd"]) if "points" in written else ()
    assert finding.remedy.runs == 3 * (5 - len(kept))


@pytest.mark.parametrize("mean", [0.1, 1970.0])
def test_data_is_scaled_before_rates_are_searched(mean: float) -> None:
    """On data that is not on a unit scale, a search finds rates for that scale."""
    few = scaled(inputs=(mean, 1.0))(fewer_trials("adam", 2)(sound()))
    remedies = [f.remedy for f in few.audit().findings if f.rule in ("A02", "A05")]
    assert len(remedies) == 2
    assert all(bool(remedy.settings) == (mean < 1) for remedy in remedies)


def test_settings_of_another_protocol_are_no_hidden_trials() -> None:
    case = hidden(sound())
    longer = replace(case, former=tuple(changed(r, steps=2 * r.steps) for r in case.former))
    assert fired(case, "G01")
    assert not fired(longer, "G01")


def test_seeds_whose_runs_have_not_begun_vary_nothing() -> None:
    """A study that was stopped after its first run knows the weights and the order of one seed."""
    stopped = sound().facts(
        lambda r: r.seed > 0, initial_parameters_sha256=None, first_batches_sha256=None
    )
    assert not fired(stopped, "D07")


def test_an_audit_without_results_is_not_just_clean() -> None:
    planned = sound().fields(status=Status.PLANNED, metrics={})
    assert "no run has ended" in summary_line(planned.audit())
    assert "no run has ended" not in summary_line(sound().audit())


def test_every_rule_is_tested() -> None:
    assert {row.rule for row in ROWS} == set(AUDIT_RULES)


def test_facts_of_the_sound_study_cover_every_rule() -> None:
    assert not decaying().audit().unchecked
    assert not timed().audit().unchecked


@pytest.mark.parametrize("missing", sorted({f for r in AUDIT_RULES.values() for f in r.facts}))
def test_a_rule_without_its_fact_is_listed_as_not_checked(missing: str) -> None:
    """Silence is not a pass."""
    asking = {rule.id for rule in AUDIT_RULES.values() if missing in rule.facts}
    in_seconds = timed().spec(budget_seconds=60.0)
    bases = {rule: in_seconds if rule.startswith("F") else decaying() for rule in asking}
    for rule, base in bases.items():
        report = base.change(
            lambda r: replace(r, facts=replace(r.facts, **{missing: None}))
        ).audit()
        assert rule in report.unchecked
        assert rule not in {finding.rule for finding in report.findings}


def test_the_sound_study_has_no_findings() -> None:
    assert [f.rule for f in sound().audit().findings] == []
