"""The names users rely on: present, typed, documented, and imported only when used."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import optrial
from optrial import keys
from optrial.callbacks import Callbacks
from optrial.config import (
    Evaluation,
    MetricEntry,
    OptimizerEntry,
    Probing,
    ProblemEntry,
    Span,
    Stopping,
    StudyFile,
    Tuning,
)
from optrial.records import Store
from tests.small import small_keys

EXPECTED = {
    "Callback",
    "DataError",
    "DownloadError",
    "EngineError",
    "OptrialError",
    "ProgressBar",
    "Results",
    "StoreBusyError",
    "StoreError",
    "Study",
    "StudyError",
    "__version__",
    "certify",
    "compare",
    "load",
}


def test_public_names_are_these() -> None:
    assert set(optrial.__all__) == EXPECTED
    assert set(dir(optrial)) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED - {"__version__"}))
def test_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(optrial, name))


@pytest.mark.parametrize("owner", [optrial.Study, optrial.Results])
def test_public_methods_are_typed_and_documented(owner: type) -> None:
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_"):
            signature = inspect.signature(member)
            assert inspect.getdoc(member), name
            assert signature.return_annotation is not inspect.Signature.empty, name


def test_every_key_of_a_study_is_a_parameter() -> None:
    keys = set(StudyFile.model_fields)
    assert set(parameters(optrial.Study)) == keys
    elsewhere = {"model", "data", "loss", "metrics", "epochs", "steps", "out", "callbacks"}
    elsewhere |= {"executor", "n_jobs", "parallel", "progress"}
    assert set(parameters(optrial.compare)) == keys - {"problem", "budget"} | elsewhere


@pytest.mark.parametrize("keys", [small_keys(), small_keys(problem={"function": "beale"})])
def test_default_parameters_are_the_defaults_of_a_study_file(keys: dict[str, Any]) -> None:
    required = {key: keys[key] for key in ("problem", "budget", "optimizers")}
    written_out = {
        name: parameter.default
        for name, parameter in parameters(optrial.Study).items()
        if parameter.default is not parameter.empty
    }
    assert optrial.Study(**required).config == StudyFile.model_validate(required)
    assert optrial.Study(**required, **written_out).config == optrial.Study(**required).config


def test_defaults_of_compare_are_those_of_study() -> None:
    shared = parameters(optrial.compare).keys() & parameters(optrial.Study).keys()
    for name in shared:
        defaults = {parameters(f)[name].default for f in (optrial.compare, optrial.Study)}
        assert len(defaults) == 1, name


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        (keys.OptimizerKeys, OptimizerEntry),
        (keys.ProblemKeys, ProblemEntry),
        (keys.MetricKeys, MetricEntry),
        (keys.Length, Span),
        (keys.Evaluation, Evaluation),
        (keys.Tuning, Tuning),
        (keys.ProbingKeys, Probing),
        (keys.Stopping, Stopping),
    ],
)
def test_typed_keys_are_those_that_are_checked(typed: type, model: type[BaseModel]) -> None:
    assert set(typed.__annotations__) == set(model.model_fields)


def test_unknown_arguments_are_refused_with_the_likely_one() -> None:
    with pytest.raises(optrial.StudyError, match=r"batchsize: .* Did you mean 'batch_size'"):
        optrial.Study(**small_keys(batchsize=1))
    with pytest.raises(optrial.StudyError, match=r"epoch: .* Did you mean 'epochs'.* callbacks"):
        optrial.compare(optimizers=["sgd"], epoch=3)
    with pytest.raises(optrial.StudyError, match="budget: is given as steps or epochs"):
        optrial.compare(optimizers=["sgd"], budget={"steps": 3})
    with pytest.raises(optrial.StudyError, match=r"lr: is a key of an optimizer, as in optimizers"):
        optrial.compare(optimizers=["sgd"], lr=0.1)
    with pytest.raises(
        optrial.StudyError, match=r"must be a list of optimizers, such as \['sgd', "
    ):
        optrial.compare(optimizers={"adam": [0.1]})


class Recorder(optrial.Callback):
    """Keeps the names of the hooks that were called."""

    def __init__(self) -> None:
        self.hooks: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            self.hooks.append(name)
        return super().__getattribute__(name)


def test_callbacks_follow_a_study_and_its_failure(tmp_path: Path) -> None:
    recorder = Recorder()
    optrial.Study(**small_keys()).run(tmp_path, callbacks=[recorder]).close()
    assert list(dict.fromkeys(recorder.hooks)) == [
        *("on_prepare", "on_start", "on_plan", "on_step", "on_values", "on_run_end", "on_end")
    ]
    failing = Recorder()
    with pytest.raises(optrial.StoreBusyError), Store.open(tmp_path).lock():
        optrial.Study(**small_keys(seeds=2)).run(tmp_path, callbacks=[failing])
    assert failing.hooks[-1] == "on_end"


def test_messages_go_to_the_log_unless_a_callback_takes_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Taker(optrial.Callback):
        def on_message(self, text: str) -> None:
            taken.append(text)

    taken: list[str] = []
    Callbacks([Recorder()]).on_message("logged")
    Callbacks([Recorder(), Taker()]).on_message("taken")
    assert (caplog.messages, taken) == (["logged"], ["taken"])


def test_results_close_more_than_once(tmp_path: Path) -> None:
    results = optrial.Study(**small_keys()).run(tmp_path)
    results.close()
    results.close()
    with optrial.load(tmp_path) as loaded:
        assert len(loaded.runs()) == 1
    loaded.close()


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a function."""
    named = inspect.signature(function).parameters
    return {name: p for name, p in named.items() if p.kind is not p.VAR_KEYWORD}


def test_errors_share_one_base() -> None:
    errors = [getattr(optrial, name) for name in EXPECTED if name.endswith("Error")]
    assert all(issubclass(error, optrial.OptrialError) for error in errors)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'study_file'"):
        _ = optrial.study_file


def test_version_is_the_newest_of_the_changelog() -> None:
    changelog = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert versions[0] == optrial.__version__
