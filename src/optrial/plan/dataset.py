"""Loads the dataset of a study."""

from __future__ import annotations

from pathlib import Path

from optrial.config import Studies, StudyFile
from optrial.data import Dataset, Folds, Progress, load_dataset
from optrial.models import outputs_per_value
from optrial.plan.check import ignore_index, targets_wanted, validation_wanted

__all__ = ["dataset_of", "datasets_of"]


def dataset_of(
    study: StudyFile, data_dir: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """Load the dataset of a study, downloading it if it is published and missing.

    Raises:
        DataError: the data is missing, damaged or malformed.
    """
    dataset, loss = study.problem.dataset, study.problem.loss
    return load_dataset(
        dataset.name,
        dataset.arguments,
        data_dir=data_dir,
        progress=progress,
        validation=validation_wanted(study),
        targets=targets_wanted(study),
        ignore_index=ignore_index(study),
        outputs_per_value=outputs_per_value(loss.name, loss.arguments),
        folds=None if study.folds is None else Folds(**study.folds.model_dump()),
    )


def datasets_of(
    studies: Studies, data_dir: Path | None = None, progress: Progress | None = None
) -> dict[str, Dataset]:
    """Load the dataset of each problem of a study, equal ones once; see `dataset_of`."""
    loaded: dict[str, Dataset] = {}
    datasets = {}
    for name, study in studies.by_name.items():
        wanted = validation_wanted(study), targets_wanted(study), ignore_index(study)
        loss = study.problem.loss
        outputs = outputs_per_value(loss.name, loss.arguments)
        key = repr((study.problem.dataset, *wanted, outputs, study.folds))
        if key not in loaded:
            loaded[key] = dataset_of(study, data_dir, progress)
        datasets[name] = loaded[key]
    return datasets
