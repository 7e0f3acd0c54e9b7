"""Studies of several problems: each is planned, tuned and trained as in a study of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.analysis.audit import audit
from optrial.analysis.audit.context import Context
from optrial.analysis.statistics import ranks
from optrial.analysis.view import StudyView
from optrial.callbacks import Callback
from optrial.config import override, parse_study
from optrial.errors import StoreError, StudyError
from optrial.records import Store
from optrial.results import Results, load
from optrial.study import Study
from tests.conftest import Command


class StoppedError(KeyboardInterrupt):
    """Raised by `Stopping`."""


class Stopping(Callback):
    """Stops a study when its sixth run ends."""

    left = 6

    def on_run_end(self, *_: object) -> None:
        self.left -= 1
        if not self.left:
            raise StoppedError


DIGITS: dict[str, Any] = {"dataset": "digits", "model": {"kind": "mlp", "hidden": [4]}}
MOONS: dict[str, Any] = {"dataset": "moons", "model": {"kind": "mlp", "hidden": [4]}}
SHARED: dict[str, Any] = {
    "name": "several",
    "budget": {"epochs": 1},
    "batch_size": 256,
    "seeds": 2,
    "engine": "reference",
    "optimizers": [{"rule": "sgd", "lr": [0.1, 1.0]}, {"rule": "adam", "lr": [0.01, 0.1]}],
}
TUNE = {"tune": {"seeds": 1, "extend": False}}
OWN = {"batch_size": 32, "budget": {"steps": 5}, "optimizers": {"adam": {"lr": [0.03, 0.3]}}}
MOONS_ALONE: dict[str, Any] = {
    **SHARED,
    "batch_size": 32,
    "budget": {"steps": 5},
    "optimizers": [{"rule": "sgd", "lr": [0.1, 1.0]}, {"rule": "adam", "lr": [0.03, 0.3]}],
}


def both(**keys: Any) -> dict[str, Any]:
    return {**SHARED, "problem": {"digits": DIGITS, "small": {**MOONS, **OWN}}, **keys}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both problems in one study, and each in a study of its own."""
    place = tmp_path_factory.mktemp("several")
    studies = {
        "both": both(**TUNE),
        "digits": {**SHARED, **TUNE, "problem": DIGITS},
        "small": {**MOONS_ALONE, **TUNE, "problem": MOONS},
    }
    for name, keys in studies.items():
        Study(**keys).run(place / name).close()
    return place


def numbers(folder: Path) -> Mapping[tuple[str, str], bytes]:
    with Store.open(folder) as store:
        curves = store.curves()
        return {key: curve.values.tobytes() for key, curve in curves.items()}


def test_runs_are_those_of_single_studies_to_the_last_bit(folder: Path) -> None:
    joint = numbers(folder / "both")
    assert joint == {**numbers(folder / "digits"), **numbers(folder / "small")}


def test_records_and_tables_name_the_problem(folder: Path) -> None:
    with Results(Store.open(folder / "both")) as results:
        assert [r.problem for r in results.reported] == ["digits"] * 4 + ["small"] * 4
        frame = results.summary()
        assert frame["problem"].tolist() == ["digits"] * 2 + ["small"] * 2
        assert set(results.curves("train_loss")["problem"]) == {"digits", "small"}
        assert len(results.funnel()) == 8


def test_findings_on_one_problem_name_it(folder: Path) -> None:
    with Results(Store.open(folder / "both")) as results:
        problems = {record.run_id: record.problem for record in results.records}
        findings = results.audit().findings
    of_one = [
        (names.pop(), finding.evidence)
        for finding in findings
        if len(names := {problems[run] for runs in finding.runs.values() for run in runs}) == 1
    ]
    assert of_one
    assert all(f"on {problem}" in evidence for problem, evidence in of_one)
    with Results(Store.open(folder / "digits")) as results:
        assert not any("on digits" in finding.evidence for finding in results.audit().findings)


def test_a_finding_on_a_claim_names_its_problem_once(folder: Path) -> None:
    claims = ["adam > sgd on test_loss", "sgd is best on test_loss in small"]
    with Results(Store.open(folder / "both")) as results:
        view = StudyView({**results.study, "claims": claims}, tuple(results.records), lambda _: {})
        findings = [finding for finding in audit(view).findings if finding.rule == "D04"]
    assert findings
    for finding in findings:
        assert not finding.evidence.startswith("on "), "the claim itself names the problem"


def test_summaries_are_those_of_single_studies(folder: Path) -> None:
    with (
        Results(Store.open(folder / "both")) as joint,
        Results(Store.open(folder / "digits")) as digits,
        Results(Store.open(folder / "small")) as small,
    ):
        means = [*digits.summary()["test_loss_mean"], *small.summary()["test_loss_mean"]]
        assert joint.summary()["test_loss_mean"].tolist() == means
        pair = joint.compare("adam", "sgd", "test_loss", problem="small")
        assert pair == small.compare("adam", "sgd", "test_loss")
        with pytest.raises(StoreError, match=r"name one\. Allowed: digits, small"):
            joint.compare("adam", "sgd")


def test_ranks_are_over_problems(folder: Path) -> None:
    with Results(Store.open(folder / "both")) as results:
        view = results.view("test_loss")
        means = [
            [np.mean(list(c.values("test_loss").values())) for c in problem.contenders]
            for problem in view.problems
        ]
        assert view.ranks is not None
        expected = ranks(means, higher_is_better=False).mean(axis=0)
        averages = dict(zip(view.ranks.order, view.ranks.average_ranks, strict=True))
        assert [averages["sgd"], averages["adam"]] == expected.tolist()


def test_a_study_that_was_stopped_goes_on_to_the_same_bits(folder: Path, tmp_path: Path) -> None:
    study = Study(**both(**TUNE))
    with pytest.raises(StoppedError):
        study.run(tmp_path, callbacks=[Stopping()])
    study.run(tmp_path).close()
    assert numbers(tmp_path) == numbers(folder / "both")


@pytest.mark.parametrize("study", [both(), both(**TUNE)], ids=["grid", "tuned"])
def test_what_a_store_holds_is_the_study(study: dict[str, Any]) -> None:
    studies, problems = parse_study(study)
    assert studies is not None
    again, more = parse_study(studies.as_dict())
    assert not problems + more
    assert again == studies
    assert again is not None
    assert again.as_dict() == studies.as_dict()


def test_names_of_a_list() -> None:
    cnn = {"dataset": "digits", "model": "cnn"}
    lists = [DIGITS, MOONS], [DIGITS, cnn], [DIGITS, MOONS, DIGITS]
    names = [list(parse_study({**SHARED, "problem": problems})[0].by_name) for problems in lists]  # type: ignore[union-attr]
    assert names[0] == ["digits", "moons"]
    assert names[1] == ["digits-mlp", "digits-cnn"]
    assert names[2] == ["digits-mlp-1", "moons-mlp", "digits-mlp-2"]


def test_what_is_wrong_is_named_with_its_problem() -> None:
    wrong = {
        "digits": {**DIGITS, "batch_size": 0},
        "small": {**MOONS, "optimizers": {"adam": {"lr": [], "name": "x"}, "sdg": {"lr": 1}}},
        "other": {"dataset": "mons"},
    }
    with pytest.raises(StudyError) as error:
        Study(**both(problem=wrong, engine="fast"))
    messages = {problem.path: problem.message for problem in error.value.problems}
    assert "'fast' is not one of the choices" in messages["engine"]
    assert "must be a whole number" in messages["problem.digits.batch_size"]
    assert "the same on all problems" in messages["problem.small.optimizers.adam.name"]
    assert "Allowed: sgd, adam" in messages["problem.small.optimizers.sdg"]
    assert "Did you mean 'moons'?" in messages["problem.other.dataset.name"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("engine", ["numpy", "reference"]),
        ("sampling", ["epoch", "with_replacement"]),
        ("shuffle", [True, False]),
        ("accumulate", [1, 2]),
        ("problem.dataset.noise", [0.1, 0.2]),
    ],
)
def test_a_list_of_values_that_problems_may_have(path: str, values: list[Any]) -> None:
    keys = {**SHARED, "problem": {"dataset": "moons", "model": "logistic"}}
    if path.startswith("problem."):
        keys["problem"]["dataset"] = {"name": "moons", "noise": values}  # type: ignore[index]
    else:
        keys[path] = values
    with pytest.raises(StudyError, match=rf"{path}: .*give several problems that differ in it"):
        Study(**keys)


@pytest.mark.parametrize("problem", [[], {}])
def test_no_problem_at_all(problem: Any) -> None:
    with pytest.raises(StudyError, match=r"problem: .*list or mapping of problems"):
        Study(**both(problem=problem))


def test_what_does_not_fit_one_of_the_datasets() -> None:
    with pytest.raises(StudyError) as error:
        Study(**both(problem=[DIGITS, MOONS])).plan()
    (problem,) = error.value.problems
    assert problem.path == "batch_size"
    assert problem.message.startswith("in problem moons: 256: the training split has 80 samples")


def test_equal_problems_are_refused() -> None:
    with pytest.raises(StudyError, match=r"problem\.b: has a run that a has too"):
        Study(**both(problem={"a": DIGITS, "b": DIGITS})).plan()


@pytest.mark.parametrize(
    ("setting", "problem", "value"),
    [
        ("problem.small.dataset.n_samples=50", "small", {"n_samples": 50}),
        ("problem.digits.optimizers.adam.lr=0.5", "digits", (0.5,)),
        ("problem.small.budget.epochs=3", "small", 3),
    ],
)
def test_settings_of_one_problem(setting: str, problem: str, value: object) -> None:
    studies, problems = parse_study(override(both(), [setting]))
    assert not problems
    assert studies is not None
    study = studies.by_name[problem]
    adam = study.optimizers[1].hyperparameters["lr"].values
    assert value in (study.problem.dataset.arguments, adam, study.budget.epochs)


def test_settings_of_a_problem_in_a_list() -> None:
    changed = override(both(problem=[DIGITS, MOONS]), ["problem.moons.batch_size=8"])
    assert changed["problem"][1]["batch_size"] == 8


def test_claims_are_decided_on_each_problem_or_the_one_they_name(folder: Path) -> None:
    claims = ["adam > sgd on test_loss", "sgd is best on test_loss in small"]
    with Results(Store.open(folder / "both")) as results:
        context = Context({**results.study, "claims": claims}, tuple(results.records), dict)
        decided = context.decided
    assert [problem.name for problem, _ in decided] == ["digits", "small", "small"]
    sentences = [result.sentence for _, result in decided]
    assert sentences[0].startswith('"adam > sgd on test_loss" on digits is undecided')
    assert sentences[2].startswith('"sgd is best on test_loss in small" is undecided')
    assert all("for 3 comparisons" in sentence for sentence in sentences[:2])


def test_a_claim_about_no_problem() -> None:
    with pytest.raises(StudyError, match=r"'moon' is not a problem of this study\. Did you mean"):
        Study(**both(problem=[DIGITS, MOONS], claims=["adam > sgd on test_loss in moon"]))


def test_compare_decides_claims_without_an_audit(
    optrial: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"claims": ["adam > sgd on test_loss"]}
    Study(**{**MOONS_ALONE, **TUNE, **claims, "problem": MOONS}).run(tmp_path / "s").close()
    monkeypatch.setattr("optrial.analysis.audit.audit", None)
    compared = optrial("compare", tmp_path / "s", "adam", "sgd")
    assert '"adam > sgd on test_loss" is undecided' in compared.out


def test_commands(optrial: Command, folder: Path) -> None:
    shown = optrial("show", folder / "both")
    assert "several: digits" in shown.out
    assert "several: small" in shown.out
    assert "Average ranks over 2 problems" in shown.err
    assert "small" in optrial("runs", folder / "both").out
    compared = optrial("compare", folder / "both", "adam", "sgd").out
    assert compared.startswith("digits: ")
    assert "a claim" not in optrial("audit", folder / "both").err
    optrial("report", folder / "both", "--out", folder / "page.html")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "Ranks over problems" in page


def tables(results: Results) -> list[str]:
    """Everything that tables, comparisons and ranks show."""
    frames = [results.summary(), results.runs(), results.funnel(), results.curves("train_loss")]
    names = [name for name in frames[1] if "seconds" in name]
    frames[1] = frames[1].drop(columns=names)
    pairs = [results.compare("adam", "sgd", "test_loss", problem=p) for p in ("digits", "moons")]
    return [*(frame.to_csv() for frame in frames), str(pairs), str(results.view("test_loss").ranks)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[Path]:
    """The studies of one problem each."""
    return [folder / "digits", folder / "small"]


@pytest.fixture(scope="module")
def together(folder: Path) -> Path:
    """The study of both problems, under the names that joined studies have."""
    problem = {"digits": DIGITS, "moons": {**MOONS, **OWN}}
    Study(**both(problem=problem, **TUNE)).run(folder / "together").close()
    return folder / "together"


def test_joined_studies_are_one_study_of_several_problems(
    together: Path, alone: list[Path], tmp_path: Path
) -> None:
    with load(alone) as joined, load(together) as whole:
        assert tables(joined) == tables(whole)
        assert parse_study(joined.study) == parse_study(
            {**whole.study, "name": joined.study["name"]}
        )
        assert not {f.rule for f in joined.audit().findings} - {
            f.rule for f in whole.audit().findings
        }
        page = joined.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Ranks over problems" in page


def test_remedies_of_joined_studies_name_the_studies(alone: list[Path], tmp_path: Path) -> None:
    with load(alone) as joined:
        problems = {record.run_id: record.problem for record in joined.records}
        report = joined.audit()
        page = joined.report(tmp_path / "page.html").read_text(encoding="utf-8")
    places = dict(zip(("digits", "moons"), map(str, alone), strict=True))
    assert any(finding.remedy.settings for finding in report.findings)
    for finding in report.findings:
        affected = {problems[run] for runs in finding.runs.values() for run in runs}
        assert set(finding.remedy.studies) == {places[name] for name in affected or places}
        assert not any(name in path for path in finding.remedy.settings for name in places)
        assert f"in {', '.join(finding.remedy.studies)}" in str(report)
        assert f", in {', '.join(finding.remedy.studies)}" in page


def test_a_rate_of_one_problem_is_no_default(tmp_path: Path) -> None:
    small = {**MOONS, "optimizers": {"adam": {"lr": [0.005, 0.01, 0.02]}}}
    optimizers = [{"rule": "sgd", "lr": [0.1, 1.0]}, {"rule": "adam"}]
    study = both(problem={"digits": DIGITS, "small": small}, optimizers=optimizers, batch_size=32)
    with Study(**study).run(tmp_path / "out") as results:
        found = results.audit().findings
    findings = [f.evidence for f in found if f.rule == "A03"]
    assert len(findings) == 1
    assert findings[0].startswith("on digits: ")

    # A search is the same for both problems, with as many trials as either has now, or five.
    remedies = [f.remedy.settings for f in found if f.rule in ("A02", "A03", "B05")]
    assert len(remedies) == 4
    assert all(remedy == remedies[0] for remedy in remedies)
    assert remedies[0]["tune"]["trials"] == 5
    assert not any("closure" in str(f.remedy.keywords) for f in found), "what nobody wrote"


def test_claims_of_joined_studies_are_about_their_problems(
    alone: list[Path], tmp_path: Path
) -> None:
    claims = {"claims": ["adam > sgd on test_loss"]}
    late = {**MOONS_ALONE, **TUNE, "problem": MOONS}
    Study(**late).run(tmp_path).close()
    Study(**late, **claims).run(tmp_path).close()
    with load([alone[0], tmp_path]) as joined:
        assert joined.study["claims"] == ["adam > sgd on test_loss in moons"]
        report = joined.audit()
        assert joined.claims() == report.claims
    assert [result.claim.problem for result in report.claims] == ["moons"]
    assert "B09" in {finding.rule for finding in report.findings}


def test_problems_of_one_name_are_told_apart_by_their_studies(tmp_path: Path) -> None:
    for name, steps in (("short one", 2), ("long", 3)):
        keys = {**MOONS_ALONE, "name": name, "budget": {"steps": steps}, "problem": MOONS}
        Study(**keys).run(tmp_path / name).close()
    with load([tmp_path / "short one", tmp_path / "long"]) as joined:
        names = [problem.name for problem in joined.view().problems]
    assert names == ["moons-short-one", "moons-long"]


def test_what_cannot_be_joined(alone: list[Path], folder: Path, tmp_path: Path) -> None:
    other = {**MOONS_ALONE, "problem": MOONS, "optimizers": [{"name": "adam", "rule": "sgd"}]}
    Study(**other).run(tmp_path / "other").close()
    selecting = {**MOONS_ALONE, "problem": MOONS, "tune": {"select": "validation_accuracy"}}
    Study(**selecting).run(tmp_path / "selecting").close()
    refused = {
        "both contain the run": [folder / "both", alone[0]],
        "'adam' is rule: adam in .*digits, but rule: sgd in .*other": [
            alone[0],
            tmp_path / "other",
        ],
        "select: None in .*select: validation_accuracy": [alone[0], tmp_path / "selecting"],
        "several different ones": [alone[0], alone[0]],
        "no study": [alone[0], tmp_path / "missing"],
    }
    for message, places in refused.items():
        with pytest.raises(StoreError, match=message):
            load(places)


def test_joined_studies_keep_their_weights_and_close(optrial: Command, tmp_path: Path) -> None:
    for name, problem in (("a", DIGITS), ("b", MOONS)):
        Study(**{**MOONS_ALONE, "save": "final"}, problem=problem).run(tmp_path / name).close()
    with load([tmp_path / "a", tmp_path / "b"]) as joined:
        last = joined.records[-1]
        shapes = [list(p.shape) for p in joined.model(last.run_id).parameters()]
        evaluations = joined.evaluate("test", device="cpu")
    assert shapes[0] == [4, 2]
    assert {(e.record.problem, e.differs) for e in evaluations} == {
        ("digits", False),
        ("moons", False),
    }
    table = optrial("evaluate", tmp_path / "a", tmp_path / "b").out.splitlines()
    assert table[0].split("\t")[:2] == ["run_id", "problem"]
    assert len(table) == 1 + len(evaluations)


def test_commands_on_joined_studies(optrial: Command, alone: list[Path], tmp_path: Path) -> None:
    assert "over 2 problems" in optrial("show", *alone).err
    assert optrial("compare", *alone, "adam", "sgd").out.startswith("digits: ")
    optrial("report", *alone, "--out", tmp_path / "page.html")
    assert "moons" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "problem" in optrial("runs", *alone).out


def test_published_values_of_a_problem_are_shown(optrial: Command, tmp_path: Path) -> None:
    small = {**MOONS, **OWN, "reported": {"test_accuracy": {"adam": 0.02}}}
    study = both(problem={"digits": DIGITS, "small": small}, **TUNE)
    with Study(**study).run(tmp_path / "out") as results:
        page = results.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Published values" in page
    shown = optrial("show", tmp_path / "out").err
    assert re.search(r"^small: \d of 1 published values agree", shown, re.MULTILINE)
    assert "more; the report lists all" not in shown


def test_problems_may_differ_in_how_they_are_trained() -> None:
    """One study of a reference loop and NumPy, of shuffled batches and ones drawn at random."""
    ways: dict[str, dict[str, Any]] = {
        "numpy": {"engine": "numpy"},
        "torch": {"engine": "reference"},
        "replaced": {"sampling": "with_replacement"},
        "fixed": {"shuffle": False, "drop_last": True},
        "piling": {"zero_grad": False},
    }
    problems = {name: {**MOONS, **keys} for name, keys in ways.items()}
    shared = {**SHARED, "batch_size": 16}
    joint = Study(**{**shared, "problem": problems}).plan()
    for name, keys in ways.items():
        alone = Study(**{**shared, "problem": MOONS, **keys}).plan()
        assert [r.run_id for r in joint.runs_of(name)] == [r.run_id for r in alone.runs]
