"""Dataset name -> arrays: same name and seed, same bits.

    name, arguments -> catalogue -> source (download, files, scikit-learn) -> checked
                    -> validation held out -> scaled -> Dataset

A dataset is a name of the catalogue, a path to ``.npz`` or ``.csv``, or ``module:function``.
Nothing is ever unpickled, and nothing is printed.
"""

from optrial.data.batches import BatchOrder
from optrial.data.catalogue import DATASETS, DatasetEntry
from optrial.data.dataset import Dataset, Split
from optrial.data.download import FileStatus, Progress, data_directory
from optrial.data.loading import (
    check_dataset,
    fetch,
    files,
    load_dataset,
    resolved_arguments,
    verify,
)

__all__ = [
    "DATASETS",
    "BatchOrder",
    "Dataset",
    "DatasetEntry",
    "FileStatus",
    "Progress",
    "Split",
    "check_dataset",
    "data_directory",
    "fetch",
    "files",
    "load_dataset",
    "resolved_arguments",
    "verify",
]
