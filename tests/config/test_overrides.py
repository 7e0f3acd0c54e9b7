"""`--set` changes the part it names and nothing else, whatever form the value is written in."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from optrial.config import StudyFile, override, parse_study
from optrial.errors import StudyError
from optrial.study import Study

ENTRY: dict[str, Any] = {"rule": "adam", "lr": 0.1}
STUDY: dict[str, Any] = {
    "problem": {"dataset": "moons"},
    "budget": {"steps": 10},
    "optimizers": [ENTRY],
}


def entry(**keys: Any) -> dict[str, Any]:
    return STUDY | {"optimizers": [ENTRY | keys]}


def problem(**keys: Any) -> dict[str, Any]:
    return STUDY | {"problem": STUDY["problem"] | keys}


SHORT_FORMS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "clip": (
        entry(clip=1.0),
        "optimizers.adam.clip.value=0.5",
        entry(clip={"norm": 1.0, "value": 0.5}),
    ),
    "clip axis": (
        entry(clip=[1.0, 10.0]),
        "optimizers[0].clip.value=0.5",
        entry(clip={"norm": [1.0, 10.0], "value": 0.5}),
    ),
    "one value of a clip axis": (
        entry(clip=[1.0, 10.0]),
        "optimizers[0].clip[1]=5.0",
        entry(clip=[1.0, 5.0]),
    ),
    "schedule": (
        entry(schedule="cosine"),
        "optimizers.adam.schedule.final=0.1",
        entry(schedule={"kind": "cosine", "final": 0.1}),
    ),
    "schedule in a list": (
        entry(schedule=["constant", "cosine"]),
        "optimizers.adam.schedule[1].final=0.1",
        entry(schedule=["constant", {"kind": "cosine", "final": 0.1}]),
    ),
    "loss": (
        problem(loss="cross_entropy"),
        "problem.loss.label_smoothing=0.1",
        problem(loss={"name": "cross_entropy", "label_smoothing": 0.1}),
    ),
    "default loss": (
        STUDY,
        "problem.loss.label_smoothing=0.1",
        problem(loss={"name": "cross_entropy", "label_smoothing": 0.1}),
    ),
    "dataset": (
        STUDY,
        "problem.dataset.noise=0.2",
        problem(dataset={"name": "moons", "noise": 0.2}),
    ),
    "model": (
        problem(model="mlp"),
        "problem.model.hidden=[5]",
        problem(model={"kind": "mlp", "hidden": [5]}),
    ),
    "default model": (
        STUDY,
        "problem.model.hidden=[5]",
        problem(model={"kind": "mlp", "hidden": [5]}),
    ),
    "own model": (
        problem(model={"factory": "a:b"}),
        "problem.model.args.width=5",
        problem(model={"factory": "a:b", "args": {"width": 5}}),
    ),
    "metric": (
        problem(metrics=["accuracy", "a:spread"]),
        "problem.metrics.spread.better=lower",
        problem(metrics=["accuracy", {"name": "a:spread", "better": "lower"}]),
    ),
    "probes": (
        STUDY | {"probes": ["gradient_norm"]},
        "probes.every.steps=5",
        STUDY | {"probes": {"measure": ["gradient_norm"], "every": {"steps": 5}}},
    ),
    "one probe": (
        STUDY | {"probes": ["gradient_norm", "weight_norm"]},
        "probes[0]=gradient_cosine",
        STUDY | {"probes": ["gradient_cosine", "weight_norm"]},
    ),
    "early stopping": (
        STUDY | {"early_stopping": 5},
        "early_stopping.min_delta=0.1",
        STUDY | {"early_stopping": {"patience": 5, "min_delta": 0.1}},
    ),
    "folds": (
        STUDY | {"folds": 5},
        "folds.repeats=2",
        STUDY | {"folds": {"k": 5, "repeats": 2}},
    ),
    "sam": (entry(sam=0.1), "optimizers.adam.sam.rho=0.2", entry(sam={"rho": 0.2})),
    "adaptive sam": (
        entry(adaptive_sam=0.1),
        "optimizers.adam.adaptive_sam.rho=[0.2,0.3]",
        entry(adaptive_sam={"rho": [0.2, 0.3]}),
    ),
    "seeds": (STUDY | {"seeds": 3}, "seeds[1]=7", STUDY | {"seeds": [0, 7, 2]}),
    "default seeds": (STUDY, "seeds[1]=7", STUDY | {"seeds": [0, 7, 2]}),
    "tracker": (
        STUDY | {"trackers": "wandb"},
        "trackers.wandb.mode=offline",
        STUDY | {"trackers": [{"name": "wandb", "mode": "offline"}]},
    ),
    "tracker in a list": (
        STUDY | {"trackers": ["tensorboard", "wandb"]},
        "trackers[1].mode=offline",
        STUDY | {"trackers": ["tensorboard", {"name": "wandb", "mode": "offline"}]},
    ),
    "one tracker as a mapping": (
        STUDY | {"trackers": {"name": "wandb"}},
        "trackers.mode=offline",
        STUDY | {"trackers": {"name": "wandb", "mode": "offline"}},
    ),
    "modifier": (
        entry(modify=["agc", "cautious"]),
        "optimizers.adam.modify.agc.clip=0.1",
        entry(modify=[{"name": "agc", "clip": 0.1}, "cautious"]),
    ),
    "tune": (STUDY, "tune.seeds=2", STUDY | {"tune": {"seeds": 2}}),
    "tune that is null": (STUDY | {"tune": None}, "tune.seeds=2", STUDY | {"tune": {"seeds": 2}}),
    "range": (
        entry(lr={"log": [0.1, 1.0], "points": 2}),
        "optimizers.adam.lr.points=5",
        entry(lr={"log": [0.1, 1.0], "points": 5}),
    ),
    "list": (entry(lr=[0.1, 1.0]), "optimizers.adam.lr[1]=2.0", entry(lr=[0.1, 2.0])),
}


@pytest.mark.parametrize("case", SHORT_FORMS)
def test_a_short_form_keeps_what_it_says(case: str) -> None:
    study, setting, wanted = SHORT_FORMS[case]
    changed, problems = parse_study(override(study, [setting]))
    expected, _ = parse_study(wanted)
    assert not problems
    assert changed is not None
    assert changed == expected


def test_these_are_all_fields_with_short_forms() -> None:
    """A field with a new short form needs a case above."""
    fields = _with_short_forms(StudyFile)
    assert fields == {
        *("dataset", "model", "loss", "metrics", "seeds", "schedule", "clip", "probes"),
        *("modify", "trackers"),
        *("early_stopping", "sam", "adaptive_sam", "folds"),
    }


def _with_short_forms(kind: Any) -> set[str]:
    """The fields that have a short form, of a model and of the models within it."""
    keys: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name in kind.model_fields:
            hint = get_type_hints(kind, include_extras=True)[name]
            keys |= _with_short_forms(hint) | ({name} if "ShortForm(" in repr(hint) else set())
        return keys - {"problem", "optimizers"}
    return keys.union(*map(_with_short_forms, get_args(kind)))


@pytest.mark.parametrize(
    ("study", "setting", "messages"),
    [
        (STUDY, "optimizers.adam.lr.log=[0.1, 1]", ["optimizers[0].lr", "0.1", "lr=..."]),
        (entry(lr=[0.1, 1.0]), "optimizers.adam.lr.log=[0.1, 1]", ["'log' is not in the list"]),
        (STUDY, "budget.steps.more=1", ["budget.steps", "10", "single value"]),
        (STUDY, "optimizers[1].lr=1", ["'1' is not in the list optimizers", "adam, 0"]),
        (STUDY, "optimizers[1]={rule: sgd}", ["'1' is not in the list optimizers"]),
        (STUDY, "claims[0]=adam > sgd", ["claims is not set", "claims=[...]"]),
        (
            entry(schedule={"kind": "cosine", "warmup": 0.1}),
            "optimizers.adam.schedule.warmup.epochs=1",
            ["optimizers[0].schedule.warmup", "0.1", "warmup=..."],
        ),
        (
            problem(model={"kind": "mlp", "initialization": "normal"}),
            "problem.model.initialization.std=0.1",
            ["problem.model.initialization", "'normal'", "initialization=..."],
        ),
        (STUDY | {"optimizers": ["adam"]}, "optimizers.adam.lr=1", ["optimizers[0]", "'adam'"]),
        (STUDY | {"engine": "auto"}, "engine.device=cpu", ["engine", "'auto'"]),
    ],
)
def test_what_has_no_parts_is_set_as_a_whole(
    study: dict[str, Any], setting: str, messages: list[str]
) -> None:
    with pytest.raises(StudyError) as error:
        override(study, [setting])
    for message in messages:
        assert message in str(error.value)
    assert str(error.value).count("--set " + setting) == 1


SEVERAL: dict[str, Any] = STUDY | {
    "optimizers": [ENTRY | {"clip": 1.0}],
    "budget": {"epochs": 5},
    "evaluate": {"every": {"steps": 5}, "on": ["test"]},
    "seeds": 3,
    "problem": {"moons": {"dataset": "moons"}, "wide": {"dataset": "digits"}},
}


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("evaluate.on=[train]", {"evaluate": {"every": {"steps": 5}, "on": ["train"]}}),
        ("evaluate.every.epochs=1", {"evaluate": {"every": {"epochs": 1}, "on": ["test"]}}),
        ("budget.steps=7", {"budget": {"steps": 7}}),
        ("seeds[1]=9", {"seeds": [0, 9, 2]}),
        (
            "optimizers.adam.clip.value=0.5",
            {"optimizers": {"adam": {"clip": {"norm": 1.0, "value": 0.5}}}},
        ),
    ],
)
@pytest.mark.parametrize("place", ["wide", 1])
def test_a_part_of_what_a_problem_inherits(
    setting: str, changes: dict[str, Any], place: str | int
) -> None:
    """The part is set for one problem; what it inherits beside it stays."""
    problems: Any = SEVERAL["problem"] if place == "wide" else list(SEVERAL["problem"].values())
    study = SEVERAL | {"problem": problems}
    changed = override(study, [f"problem[{place}].{setting}"])
    assert changed["problem"][place] == {"dataset": "digits"} | changes
    assert {**changed, "problem": None} == {**study, "problem": None}
    parsed, problems = parse_study(changed)
    assert parsed is not None
    assert not problems


@pytest.mark.parametrize(
    ("study", "setting", "messages"),
    [
        (SEVERAL, "problem.wid.batch_size=3", ["'wid' is not a problem", "Did you mean 'wide'?"]),
        (SEVERAL, "problem.wid=3", ["'wid' is not a problem", "Did you mean 'wide'?"]),
        (SEVERAL, "problem.model=mlp", ["'model' is not a problem", "problem.moons.model"]),
        (SEVERAL, "problem.evaluate.on=[test]", ["'evaluate' is not", "problem.moons.evaluate"]),
        (SEVERAL, "problem.wide.optimizers.adm.lr=1", ["'adm' is not an optimizer", "'adam'?"]),
        (SEVERAL, "problem.wide.modle.hidden=[8]", ["problem.wide.modle: unknown", "'model'?"]),
        (SEVERAL, "problem.wide.evaluate.onn=[test]", ["wide.evaluate.onn: unknown", "'on'?"]),
        (
            STUDY,
            "problem.modle.hidden=[8]",
            ["problem.modle: unknown key", "Did you mean 'model'?"],
        ),
        (STUDY, "problem.evaluate.on=[test]", ["write evaluate for problem.evaluate"]),
        (STUDY, "optimizrs.adam.lr=1", ["optimizrs: unknown key", "'optimizers'?"]),
        (STUDY, "budget.step=5", ["budget.step: unknown key", "Did you mean 'steps'?"]),
        (STUDY, "evaluate.evry.steps=5", ["evaluate.evry: unknown key", "Did you mean 'every'?"]),
        (STUDY, "evaluate.every.stpes=5", ["evaluate.every.stpes: unknown key", "'steps'?"]),
        (STUDY, "tune.trails=5", ["tune.trails: unknown key", "Did you mean 'trials'?"]),
        (
            STUDY | {"probes": ["gradient_norm"]},
            "probes.evry.steps=5",
            ["probes.evry: unknown key", "Did you mean 'every'?"],
        ),
        (STUDY, "optimizers.adam.momentm=1", ["optimizers[0].momentm: ", "hyperparameter of adam"]),
        (STUDY, "optimizers.adam.beta=1", ["optimizers[0].beta: ", "Did you mean 'beta"]),
        (STUDY, "optimizers.adam.clip.nrom=1", ["optimizers[0].clip.nrom: unknown", "'norm'?"]),
        (STUDY, "problem.dataset.noize=1", ["problem.dataset.noize: unknown", "'noise'?"]),
        (STUDY, "problem.model.hiden=[8]", ["problem.model.hiden: unknown", "'hidden'?"]),
        (STUDY, "problem.loss.label_smothing=1", ["problem.loss.label_smothing", "'label_smoo"]),
        (STUDY, "targets.validation_acuracy=1", ["targets.validation_acuracy", "_accuracy'?"]),
        (STUDY, "reported.test_acuracy.adam=1", ["reported: 'test_acuracy'", "'test_accuracy'?"]),
        (STUDY, "waive.B5=why", ["waive", "B5", "'B05'?"]),
        (STUDY, "trackers.wandb.mode=x", ["trackers is not set", "--set 'trackers=[...]'"]),
        (
            STUDY | {"trackers": "wandb"},
            "trackers.wanbd.mode=x",
            ["'wanbd' is not in the list trackers", "Did you mean 'wandb'?"],
        ),
        (STUDY, "claims.x=1", ["claims is not set"]),
        (STUDY, "optimizers.adam.schedul.final=0.1", ["optimizers[0].schedul", "'schedule'?"]),
        (STUDY, "optimizers.adam.clp.norm=1", ["optimizers[0].clp", "Did you mean 'clip'?"]),
        (
            entry(schedule="cosine"),
            "optimizers.adam.schedule.finl=0.1",
            ["optimizers[0].schedule.finl", "'final'?"],
        ),
        (STUDY, "problem.functon=beale", ["problem.functon: unknown", "'function'?"]),
        (SEVERAL, "problem.wide.batchsize=3", ["wide.batchsize: unknown", "'batch_size'?"]),
        (
            STUDY | {"problem": {"function": "beale"}},
            "problem.nois=0.1",
            ["problem.nois: unknown", "'noise'?", "start", "metrics"],
        ),
        (
            STUDY | {"problem": {"function": "beale"}},
            "problem.start=[1]",
            ["problem.start"],
        ),
        (
            entry(groups=[{"match": "bias"}]),
            "optimizers.adam.groups[0].freez=true",
            ["optimizers[0].groups[0].freez: ", "'freeze'?", "match"],
        ),
        (
            STUDY | {"optimizers": [{"torch": "torch.optim:SGD", "lr": 0.1}]},
            "optimizers.SGD.group=[bias]",
            ["optimizers[0].group: ", "'groups'?", "momentum"],
        ),
    ],
)
def test_a_typo_in_a_path_names_the_key_and_the_nearest(
    study: dict[str, Any], setting: str, messages: list[str]
) -> None:
    with pytest.raises(StudyError) as error:
        Study(**override(study, [setting]))
    for message in messages:
        assert message in str(error.value)
    assert len(error.value.problems) == 1


def test_a_problem_may_be_added_as_a_whole() -> None:
    changed = override(SEVERAL, ["problem.more={dataset: circles}"])
    assert list(changed["problem"]) == ["moons", "wide", "more"]


def test_units_replace_each_other_only_in_durations() -> None:
    spans = STUDY | {"evaluate": {"every": {"steps": 5}}}
    changed = override(spans, ["budget.epochs=2", "evaluate.every.epochs=1"])
    assert (changed["budget"], changed["evaluate"]) == ({"epochs": 2}, {"every": {"epochs": 1}})
    stepped = {"kind": "step", "every": {"epochs": 2}}
    (changed_entry,) = override(
        entry(schedule=stepped), ["optimizers.adam.schedule.every.steps=5"]
    )["optimizers"]
    assert changed_entry["schedule"] == {"kind": "step", "every": {"steps": 5}}
    arguments = {"factory": "a:b", "args": {"steps": 3, "epochs": 4}}
    changed = override(problem(model=arguments), ["problem.model.args.steps=5"])
    assert changed["problem"]["model"]["args"] == {"steps": 5, "epochs": 4}
    changed = override(STUDY, ["budget.steps=5", "budget.epochs=null"])
    assert changed["budget"] == {"steps": 5, "epochs": None}


@pytest.mark.parametrize("name", ["my.adam", "Adam, lr=0.1", "a b", "2.0", "größte"])
def test_brackets_take_any_name(name: str) -> None:
    changed = override(entry(name=name), [f"optimizers[{name}].lr=0.5"])
    assert changed == entry(name=name, lr=0.5)
    setting = "adam lr=0.01"
    changed = override(STUDY, [f"reported.test_loss[{setting}]=0.9"])
    assert changed["reported"] == {"test_loss": {setting: 0.9}}


@pytest.mark.parametrize(
    "path", ["", " ", "a..b", ".a", "a.", "a[]", "a[0", "a]0", "a[0]b", "[0]", "a[0][", "a.[0]"]
)
def test_paths_with_missing_parts_are_refused(path: str) -> None:
    with pytest.raises(StudyError, match=r"must be written key\.path=value"):
        override(STUDY, [f"{path}=1"])


def test_spaces_around_parts_of_a_path_do_not_count() -> None:
    assert override(STUDY, [" optimizers . adam . lr = 0.5"]) == entry(lr=0.5)


def test_all_that_is_wrong_with_settings_is_said_at_once() -> None:
    settings = ["notes=a: b: c", "optimizers.sdg.lr=1", "recipe=quickstart", "seeds"]
    with pytest.raises(StudyError) as error:
        override(STUDY, settings)
    assert [problem.path for problem in error.value.problems] == [f"--set {s}" for s in settings]
    assert "needs quotes" in str(error.value)
    assert "optrial run NAME" in str(error.value)
