"""Checks of a study before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optrial.analysis.audit import waiver_problems
from optrial.analysis.claims import parse_claims
from optrial.analysis.reported import reported_problems
from optrial.analysis.targets import target_problems
from optrial.code import Trust
from optrial.config import Studies, StudyFile, parse_study
from optrial.errors import Problem, StudyError
from optrial.models import needs_whole_split
from optrial.passwords import holds_password
from optrial.plan import check_size, check_study, code_in
from optrial.spec import TRAINING_SECONDS, MetricName
from optrial.supervision import imported
from optrial.trackers import check_trackers

__all__ = ["checked", "recorded_metrics"]


def recorded_metrics(study: StudyFile) -> list[str]:
    """Return the names of the metrics that a study records, without probes."""
    labels = ["loss", *(entry.label for entry in study.problem.judges)]
    means = ["loss", *_mean_labels(study)]
    splits = study.evaluate.on or ("validation", "test")
    names = [
        *(
            MetricName(label, "train")
            for label in means[: None if study.evaluate.batch_metrics else 1]
        ),
        *(MetricName(label, "train", epoch_mean=True) for label in means),
        *(MetricName.evaluation(label, split) for split in splits for label in labels),
    ]
    return [str(name) for name in names]


def checked(keys: Mapping[str, Any], source: str, trust: Trust) -> Studies:
    """Validate the keys of a study, and the names and expressions in them.

    Code that is not trusted is not imported.

    Raises:
        StudyError: lists all problems; `source` tells where the keys are from.
    """
    studies, problems = parse_study(keys)
    if studies is not None and (refused := _refused_code(studies, trust)):
        raise StudyError([*problems, *refused], source)
    if studies is not None:
        shared = studies.shared
        problems += studies.located(
            {name: _problems_of_one(study) for name, study in studies.by_name.items()}
        )
        problems += studies.conflicts()
        labels = [entry.label for entry in shared.optimizers]
        metrics = [name for study in studies.by_name.values() for name in recorded_metrics(study)]
        claimable = list(dict.fromkeys([*metrics, TRAINING_SECONDS]))
        known = (labels, claimable, studies.directions, list(studies.by_name))
        problems += parse_claims(shared.claims, *known)[1]
        problems += waiver_problems(shared.waive)
        problems += check_trackers(shared.trackers)
        problems += _password_problems(keys)
        problems += check_size(studies) if not problems else ()
    if problems or studies is None:
        raise StudyError(problems, source)
    return studies


def _refused_code(studies: Studies, trust: Trust) -> list[Problem]:
    """Import the code that a study may run; return the problems of the rest."""
    code = {problem: code_in(study) for problem, study in studies.by_name.items()}
    names = dict.fromkeys(name for names in code.values() for name in names.values())
    refusals = imported(names, trust)
    return studies.located(
        {
            problem: [Problem(path, refusals[n]) for path, n in names.items() if n in refusals]
            for problem, names in code.items()
        }
    )


def _password_problems(value: object, path: str = "") -> Iterator[Problem]:
    """Refuse URLs with a password or token anywhere in a study, which is stored and shown."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _password_problems(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _password_problems(item, f"{path}[{index}]")
    elif isinstance(value, str) and holds_password(value):
        yield Problem(
            path,
            "must not hold a password or token, which would be stored with the study; read it from "
            "an environment variable.",
        )


def _problems_of_one(study: StudyFile) -> list[Problem]:
    """Return the problems of a study on one of its datasets."""
    labels = [entry.label for entry in study.optimizers]
    metrics = recorded_metrics(study)
    targets = target_problems(study.targets, metrics, study.directions)
    reported = reported_problems(study.reported, labels, metrics)
    folds = _claims_on_folds(study, labels, metrics)
    return [*check_study(study), *_batch_metric_problems(study), *targets, *reported, *folds]


def _claims_on_folds(
    study: StudyFile, labels: Sequence[str], metrics: Sequence[str]
) -> Iterator[Problem]:
    """Refuse claims about times to targets, which are tested over independent seeds."""
    if study.folds is None:
        return
    claims, _ = parse_claims(study.claims, labels, metrics, study.directions)
    for claim in claims:
        if claim.target:
            yield Problem(
                "claims",
                f"'{claim.text}': times to targets are tested over independent seeds; remove the "
                "claim or folds.",
            )


def _mean_labels(study: StudyFile) -> list[str]:
    """Return the labels of the metrics that are means over samples, so that a batch has them."""
    return [
        entry.label
        for entry in study.problem.judges
        if not needs_whole_split(entry.name, [entry.name] * entry.whole_split)
    ]


def _batch_metric_problems(study: StudyFile) -> Iterator[Problem]:
    if study.evaluate.batch_metrics and not _mean_labels(study):
        yield Problem(
            "evaluate.batch_metrics",
            "the study has no metrics that are means over samples; leave it out: train_loss is "
            "recorded at every step.",
        )
