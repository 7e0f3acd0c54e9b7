"""Run specs, the ids made of them, and stack ids."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from optrial.spec import (
    EarlyStopping,
    ProbeSettings,
    RunSpec,
    Selection,
    StackId,
    setting_text,
    three_digits,
)
from tests.specs import SPEC

DEFAULTS = (
    *("probes", "batch_metrics", "whole_split", "select", "closure", "create_graph"),
    *("threads", "evaluate_start", "groups", "as_vectors", "modify"),
    *("original_units", "early_stopping", "accumulate", "sam_rho", "sam_adaptive", "average"),
    *("fold", "budget_seconds", "rung"),
)
PROBES = ProbeSettings(("gradient_norm",), 5, per_layer=True)


def test_a_spec_survives_json() -> None:
    spec = replace(SPEC, probes=PROBES, select=Selection("validation_loss", "lower"), save="best")
    spec = replace(spec, early_stopping=EarlyStopping(3, "validation_loss", "lower", 0.0))
    again = RunSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert again == spec
    assert again.run_id == spec.run_id


def test_fields_with_their_defaults_leave_the_id_alone() -> None:
    older = {n: v for n, v in SPEC.as_dict().items() if n not in ("probes", "closure", "select")}
    assert RunSpec.from_dict(older).run_id == SPEC.run_id
    assert replace(SPEC, closure=True).run_id != SPEC.run_id


@pytest.mark.parametrize("field", ["optimizer", "rule", "model", "dataset_sha256", "loss"])
def test_other_fields_change_the_id(field: str) -> None:
    assert replace(SPEC, **{field: "other"}).run_id != SPEC.run_id


def test_runs_of_one_setting_differ_in_seed_and_phase_alone() -> None:
    tuning = replace(SPEC, seed=9, evaluate_on=("validation",), save=None, probes=None)
    report = replace(SPEC, seed=1, save="final", probes=PROBES, batch_metrics=True)
    assert tuning.setting_id == report.setting_id
    assert replace(SPEC, hyperparameters={"lr": 0.1 + 1e-12}).setting_id != SPEC.setting_id


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00316228, "0.00316"),
        (0.98765, "0.988"),
        (0.99951, "0.99951"),
        (0.999999, "0.999999"),
    ],
)
def test_three_digits_of_a_share_are_those_of_its_distance_from_one(
    value: float, text: str
) -> None:
    assert three_digits(value) == text
    assert setting_text(f"lr=0.01 beta2={value!r} seed=3") == f"lr=0.01 beta2={text} seed=3"


def test_a_stack_is_its_engine_and_its_runs() -> None:
    runs = [SPEC, replace(SPEC, seed=1)]
    stack = StackId.of("stacked", runs)
    assert StackId.parse(str(stack)) == stack == StackId.of("stacked", reversed(runs))
    assert stack not in (StackId.of("stacked", runs[:1]), StackId.of("reference", runs))
    threaded = StackId.of("stacked", runs, threads=2)
    assert StackId.parse(str(threaded)) == threaded != stack


@pytest.mark.parametrize("text", ["", "stacked", "stacked-", "-0123", "a-b-", "a-b-0", "a-b-c"])
def test_other_texts_are_no_stacks(text: str) -> None:
    with pytest.raises(ValueError, match="ENGINE-DIGEST"):
        StackId.parse(text)


def test_the_id_is_the_hash_of_every_field_in_alphabetical_order() -> None:
    fields = {n: v for n, v in SPEC.as_dict().items() if n not in DEFAULTS}
    text = json.dumps({"format": 1} | fields, sort_keys=True)
    assert SPEC.run_id == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40])
def test_a_run_with_another_seed_is_the_run_that_has_it(seed: int) -> None:
    spec = replace(SPEC, probes=PROBES)
    assert spec.with_seed(seed) == replace(spec, seed=seed)
    assert spec.with_seed(seed).run_id == replace(spec, seed=seed).run_id
    assert spec.with_seed(seed).without_seed == spec.without_seed
    assert spec.with_seed(seed).setting_id == spec.setting_id


@pytest.mark.parametrize("copy", [deepcopy, lambda spec: pickle.loads(pickle.dumps(spec))])
def test_values_that_are_copied_later_are_those_of_the_run(
    copy: Callable[[RunSpec], RunSpec],
) -> None:
    first = SPEC.with_seed(1)
    second = first.with_seed(2)
    assert copy(second) == second == replace(SPEC, seed=2)
    assert (first.loss, first.seed, second.seed) == (SPEC.loss, 1, 2)
    assert first.hyperparameters is second.hyperparameters
    with pytest.raises(AttributeError, match="mass"):
        second.mass  # type: ignore[attr-defined]  # noqa: B018
