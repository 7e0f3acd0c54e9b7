"""Dataset name -> arrays: same name and seed, same bits.

    name, arguments -> catalogue -> source (download, files, scikit-learn) -> checked
                    -> validation held out -> scaled -> Dataset

A dataset is a name of the catalogue, a path to ``.npz`` or ``.csv``, or ``module:function``; or
`dataset_from` takes objects of the program itself. Training batches of images may be varied by
`augment`. Nothing is ever unpickled, and nothing is printed.
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

__all__ = [
    "DATASETS",
    "Augmentation",
    "BatchOrder",
    "Dataset",
    "DatasetEntry",
    "FileStatus",
    "Progress",
    "Split",
    "augment",
    "check_dataset",
    "data_directory",
    "dataset_from",
    "fetch",
    "files",
    "load_dataset",
    "resolved_arguments",
    "verify",
]
