"""Loads the dataset of a study."""

from __future__ import annotations

from pathlib import Path

from optrial.config import StudyFile
from optrial.data import Dataset, Progress, load_dataset
from optrial.plan.check import targets_wanted, validation_wanted

__all__ = ["dataset_of"]


def dataset_of(
    study: StudyFile, data_dir: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """Load the dataset of a study, downloading it if it is published and missing.

    Raises:
        DataError: the data is missing, damaged or malformed.
    """
    dataset = study.problem.dataset
    return load_dataset(
        dataset.name,
        dataset.arguments,
        data_dir=data_dir,
        progress=progress,
        validation=validation_wanted(study),
        targets=targets_wanted(study),
    )
