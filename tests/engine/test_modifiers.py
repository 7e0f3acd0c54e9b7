"""Modifiers in studies: engines, stacks, groups, tuning, ids, checkpoints, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optrial.analysis.torch_code import torch_code
from optrial.errors import StudyError
from optrial.plan import pack
from optrial.report.paper.bibliography import keys_of
from optrial.spec import RunSpec, Status
from optrial.study import Study
from tests.engine.test_groups import STEPS, assert_alike, planned, trained
from tests.small import learner_for, resumed, small_keys, train

LONG = [
    *("gradient_centralization", "agc", "mars", "cautious"),
    {"name": "grafting", "rule": "momentum", "momentum": 0.5},
    *("cautious_decay", {"name": "lookahead", "every": 3, "pull": 0.7}),
]
ENTRIES: list[dict[str, Any]] = [
    {"rule": "adamw", "lr": 0.01, "modify": LONG},
    {"rule": "muon", "lr": 0.01, "modify": ["cautious", "lookahead"], "schedule": "cosine"},
    {"rule": "momentum", "lr": 0.01, "modify": ["orthogonalize", "hyperball"], "clip": 0.5},
    {"rule": "schedule_free_sgd", "lr": 0.1, "modify": ["agc"]},
    {"rule": "prodigy", "modify": ["cautious", "lookahead"]},
    {
        **{"rule": "adam", "lr": 0.01, "modify": ["normalize"]},
        "groups": [
            {"match": "bias", "modify": []},
            {"match": "head", "rule": "sgd", "modify": [{"name": "agc", "clip": 0.1}]},
        ],
    },
]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("engine", ["numpy", "stacked"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_engines_agree(engine: str, entry: dict[str, Any]) -> None:
    runs, dataset = planned([entry])
    expected = trained(learner_for(runs, dataset, "reference"))
    assert_alike(trained(learner_for(runs, dataset, engine)), expected)


def test_one_stack_holds_runs_with_and_without() -> None:
    grid = {"rule": "adam", "modify": [{"name": "agc", "clip": [0.01, 0.1, 1.0]}]}
    entries = [ENTRIES[0], ENTRIES[2], ENTRIES[5], grid, {"rule": "adam"}]
    runs, dataset = planned(entries)
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "stacked")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_compiled_stacks_know_modifiers() -> None:
    modify = ["mars", "cautious", "cautious_decay", "lookahead"]
    runs, dataset = planned([{"rule": "adamw", "modify": modify}, {"rule": "sgd"}])
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "compiled")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
@pytest.mark.parametrize("entry", [ENTRIES[0], ENTRIES[2], ENTRIES[5]])
def test_resumed_to_the_bit(engine: str, entry: dict[str, Any]) -> None:
    runs, dataset = planned([entry])
    whole = train(runs[0], dataset, engine)
    ((_, segment),) = resumed(runs, dataset, engine, STEPS // 2)
    assert segment.status is Status.DONE
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


def test_modifiers_are_part_of_the_id_and_of_the_record() -> None:
    entries = [
        {"rule": "adam"},
        {"rule": "adam", "modify": ["cautious"]},
        {"rule": "adam", "modify": ["normalize", "orthogonalize"]},
        {"rule": "adam", "modify": ["orthogonalize", "normalize"]},
        {"rule": "adam", "modify": ["lookahead"]},
        {"rule": "adam", "modify": [{"name": "lookahead", "pull": 0.4}]},
        {"rule": "adam", "groups": [{"match": "head", "modify": ["cautious"]}]},
    ]
    runs, _ = planned(entries)
    plain, *others = (replace(run, optimizer="") for run in runs)
    assert len({run.run_id for run in (plain, *others)}) == len(entries)
    assert replace(others[0], modify=()) == plain
    for run in others:
        assert RunSpec.from_dict(run.as_dict()) == run
    assert others[4].hyperparameters["lookahead.every"] == 5.0
    assert others[4].all_hyperparameters["modify"] == "lookahead"
    assert others[5].all_hyperparameters["head.modify"] == "cautious"
    assert others[1].as_vectors == ("7.weight",)


def test_an_empty_list_is_none() -> None:
    runs, _ = planned([{"name": "adam", "rule": "adam", "modify": []}])
    others, _ = planned([{"name": "adam", "rule": "adam"}])
    assert [run.run_id for run in runs] == [run.run_id for run in others]


def test_groups_inherit_modifiers_and_replace_them() -> None:
    entry = {
        **{"rule": "adam", "modify": [{"name": "agc", "clip": 0.5}]},
        "groups": [
            {"match": "1.bias", "lr": 0.1},
            {"match": "4.*", "modify": ["cautious"]},
            {"match": "head", "rule": "sgd"},
            {"match": "1.weight", "rule": "adam", "modify": [{"name": "agc", "clip": 0.1}]},
        ],
    }
    (run,), _ = planned([entry])
    names = ["1.weight", "1.bias", "4.weight", "4.bias", "7.weight", "7.bias"]
    shown = {
        parameter: (part.rule, part.modify, part.hyperparameters.get("agc.clip"))
        for part in run.parts(names)
        for parameter in part.parameters
    }
    assert shown["1.bias"] == ("adam", ("agc",), 0.5)
    assert shown["4.weight"] == ("adam", ("cautious",), None)
    assert shown["7.weight"] == ("sgd", (), None)
    assert shown["1.weight"] == ("adam", ("agc",), 0.1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"modify": ["cautius"]}, "modify[0]: 'cautius' is not a modifier. Did you mean 'cautious'?"),
    ({"modify": "agc"}, ""),
    ({"modify": [3]}, "modify: [3]: must be a list of modifiers"),
    ({"modify": ["lookahead", "agc"]}, "modify[1]: agc acts on the gradient, before lookahead"),
    ({"modify": ["agc", {"name": "agc", "clip": 1}]}, "modify[1]: 'agc' is in the list twice"),
    ({"modify": ["grafting"]}, "modify[0]: needs the rule that gives its length"),
    ({"modify": [{"name": "agc", "rule": "sgd"}]}, "modify[0]: rule: sgd applies only to grafting"),
    ({"modify": [{"name": "agc", "clp": 1}]}, "agc.clp: is not a hyperparameter of agc."),
    (
        {"modify": [{"name": "agc", "clip": 0}]},
        "agc.clip: 0: must be a finite number, agc.clip >",
    ),
    ({"modify": [{"name": "lookahead", "every": 2.5}]}, "lookahead.every: 2.5: must be a whole"),
    ({"modify": ["cautious_decay"]}, "modify[0]: cautious_decay has no effect without decay"),
    ({"modify": ["cautious_decay"], "decay": "l2", "weight_decay": 0.1}, "leave decay: l2 out"),
    ({"modify": ["hyperball"], "weight_decay": 0.1}, "modify[0]: hyperball fixes the norm"),
    ({"rule": "asgd", "modify": ["cautious"]}, "modify[0]: asgd averages its own steps"),
    ({"groups": [{"match": "head", "modify": ["agcc"]}]}, "groups[0].modify[0]: 'agcc' is not"),
    ({"groups": [{"match": "head", "modify": []}]}, "groups[0]: has no effect"),
    ({"groups": [{"match": "head", "freeze": True, "modify": ["agc"]}]}, "beside freeze: true"),
]


@pytest.mark.parametrize(("keys", "text"), REFUSED)
def test_chains_that_cannot_be_are_refused(keys: dict[str, Any], text: str) -> None:
    entry = {"rule": "adam"} | keys
    if not text:
        planned([entry])  # one modifier needs no list
        return
    with pytest.raises(StudyError) as error:
        planned([entry])
    assert text in str(error.value)


def test_classes_of_torch_have_none() -> None:
    with pytest.raises(StudyError, match="modify: applies to rules"):
        planned([{"torch": "torch.optim:Adam", "modify": ["cautious"]}])


def test_hyperparameters_of_modifiers_are_tuned() -> None:
    entry = {"rule": "adam", "modify": [{"name": "agc", "clip": {"log": [0.01, 1.0]}}]}
    tune = {"sampler": "sobol", "trials": 4, "seeds": 1}
    runs, _ = planned([entry], tune=tune)
    assert len({run.hyperparameters["agc.clip"] for run in runs}) == 4


def test_no_class_of_torch_is_named_for_modified_steps() -> None:
    runs, _ = planned([{"rule": "adam"}, {"rule": "adam", "modify": ["cautious"]}])
    assert [bool(torch_code(run)) for run in runs] == [True, False]


def test_a_name_may_promise_its_modifiers_alone(tmp_path: Path) -> None:
    """E04 of the audit: grafting onto sgd carries both names; cautious is promised for nothing."""
    entries = [
        {"name": "adam with norms of sgd", "modify": [{"name": "grafting", "rule": "sgd"}]},
        {"name": "cautious adam", "modify": ["cautious"]},
        {"name": "cautious adam in name"},
    ]
    study = Study(**small_keys(optimizers=[{"rule": "adam", **entry} for entry in entries]))
    findings = study.run(tmp_path / "study").audit().findings
    (mislabelled,) = (finding for finding in findings if finding.rule == "E04")
    assert mislabelled.evidence.startswith("'cautious adam in name' promises cautious")


def test_papers_of_modifiers_are_cited() -> None:
    group = {"match": "bias", "modify": ["lookahead"]}
    (run,), _ = planned([{"rule": "adam", "modify": ["mars"], "groups": [group]}])
    assert {"yuan2024mars", "zhang2019lookahead"} <= set(keys_of(run))
