"""Dataset name -> arrays: same name and seed, same bits.

    name, arguments -> catalogue -> source (download, files, scikit-learn)
                    -> test and validation chosen -> labels numbered, columns encoded
                    -> checked -> scaled -> Dataset

A dataset is a name of the catalogue, a path to a file or folder, or ``module:function``; or
`dataset_from` takes objects of the program itself. Every statistic is of training samples alone.
Training batches of images may be varied by `augment`. Nothing is unpickled, nothing is printed.
"""

from optrial.data.augmentation import Augmentation, augment
from optrial.data.batches import BatchOrder
from optrial.data.catalogue import DATASETS, DatasetEntry
from optrial.data.dataset import Dataset, Split
from optrial.data.download import FileStatus, Progress, data_directory
from optrial.data.loading import (
    check_dataset,
    dataset_from,
    fetch,
    files,
    load_dataset,
    resolved_arguments,
    verify,
)
from optrial.data.objects import split_objects
from optrial.data.repeats import shared_samples
from optrial.data.summary import ClassCount, Column, Summary, ValueScale

__all__ = [
    "DATASETS",
    "Augmentation",
    "BatchOrder",
    "ClassCount",
    "Column",
    "Dataset",
    "DatasetEntry",
    "FileStatus",
    "Progress",
    "Split",
    "Summary",
    "ValueScale",
    "augment",
    "check_dataset",
    "data_directory",
    "dataset_from",
    "fetch",
    "files",
    "load_dataset",
    "resolved_arguments",
    "shared_samples",
    "split_objects",
    "verify",
]
