"""Datasets: a name and arguments become arrays; the same name and seed give the same bits.

    name, arguments -> resolving -> source (catalogue, files, the user's code)
                    -> test and validation samples chosen -> labels numbered, columns encoded
                    -> checked -> scaled -> Dataset

A dataset is a name of the catalogue, a path to a file or folder, or ``module:function``. All
statistics are computed on training samples alone. Nothing is unpickled, nothing is printed.
"""

from optrial.data.augmentation import augment
from optrial.data.batches import BatchOrder
from optrial.data.catalogue import DATASETS
from optrial.data.dataset import Batched, Dataset, Split
from optrial.data.download import FileStatus, Progress, data_directory
from optrial.data.folds import Folds
from optrial.data.loading import load_dataset
from optrial.data.published import fetch, files, verify
from optrial.data.repeats import shared_samples
from optrial.data.resolving import check_dataset
from optrial.data.samples import Samples, some_samples
from optrial.data.sources.objects import split_objects
from optrial.data.summary import ClassCount, Column, ValueScale

__all__ = [
    "DATASETS",
    "BatchOrder",
    "Batched",
    "ClassCount",
    "Column",
    "Dataset",
    "FileStatus",
    "Folds",
    "Progress",
    "Samples",
    "Split",
    "ValueScale",
    "augment",
    "check_dataset",
    "data_directory",
    "fetch",
    "files",
    "load_dataset",
    "shared_samples",
    "some_samples",
    "split_objects",
    "verify",
]
