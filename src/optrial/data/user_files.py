"""The user's own data: ``.npz`` and ``.csv`` files, and dataset functions."""

from __future__ import annotations

import inspect
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.code import importable_from_here, load_code
from optrial.data.arguments import ArrayArguments, CsvArguments, FunctionArguments
from optrial.data.dataset import SPLITS, Pair
from optrial.data.objects import split_objects
from optrial.data.splits import divided, with_test
from optrial.errors import DataError, suggest

if TYPE_CHECKING:
    import pandas as pd

_NPZ_LAYOUTS = (
    "train_inputs, train_targets[, test_inputs, test_targets][, validation_...], or "
    "x_train, y_train[, x_test, y_test], or inputs, targets, or x, y"
)


def read_npz(path: Path, arguments: ArrayArguments) -> dict[str, Pair]:
    """Read arrays by name; pickled objects are never loaded.

    Args:
        path: holds ``train_inputs``, ``train_targets`` and the same for ``test`` and
            ``validation``; or ``x_train``, ``y_train``, ...; or ``inputs`` and ``targets``, or
            ``x`` and ``y``, which are divided by `test_fraction`.
        arguments: `test_fraction` and `random_state` are read.

    Raises:
        DataError: the file is damaged, or its arrays have other names.
    """
    try:
        # Opened here, because NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error
    splits = _split_arrays(arrays)
    unused = set(arrays) - {name for names in splits.values() for name in names}
    if unused or not splits.keys() & {"train", "all"} or (len(splits) > 1 and "all" in splits):
        raise DataError(f"{path} holds the arrays {', '.join(arrays)}; name them {_NPZ_LAYOUTS}")
    pairs = {split: (arrays[x], arrays[y]) for split, (x, y) in splits.items()}
    return divided(str(path), pairs, arguments)


def _split_arrays(arrays: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Find the names of inputs and targets of each split, or of ``all`` samples."""
    known = {
        "all": [("inputs", "targets"), ("x", "y")],
        **{
            name: [(f"{name}_inputs", f"{name}_targets"), (f"x_{name}", f"y_{name}")]
            for name in SPLITS
        },
    }
    return {
        split: pair
        for split, pairs in known.items()
        for pair in pairs
        if arrays.keys() >= set(pair)
    }


def read_csv(path: Path, arguments: CsvArguments) -> dict[str, Pair]:
    """Read a table with a header: one or more columns of targets, every other a feature.

    The numbers of one target column are taken as they are, whole ones as class labels; text becomes
    0, 1, ... in sorted order. Several target columns, or a list of one, are values to predict.

    Args:
        path: comma-separated, with a header.
        arguments: `target`, `test_fraction` and `random_state` are read.

    Raises:
        DataError: the file cannot be parsed, a target column is not there, a feature or value is
            not a number or is missing.
    """
    import pandas as pd  # noqa: PLC0415  (half a second to import)

    try:
        with warnings.catch_warnings():
            # Rows longer than the header would be read as if their first columns were row names.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False, low_memory=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from error
    several = not isinstance(arguments.target, str)
    columns = [arguments.target] if isinstance(arguments.target, str) else [*arguments.target]
    _check_table(path, table, columns, numbers=several)
    features = table.drop(columns=columns).to_numpy(np.float64)
    targets = table[columns].to_numpy(np.float64) if several else _labels(table[columns[0]])
    return with_test(features, targets, arguments.test_fraction, arguments.random_state)


def _labels(column: pd.Series[Any]) -> NDArray[Any]:
    """Return numbers as they are; number text in sorted order."""
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    return np.unique(column.astype(str).to_numpy(object), return_inverse=True)[1]


def _check_table(path: Path, table: pd.DataFrame, targets: Sequence[str], *, numbers: bool) -> None:
    """Refuse a table without its targets, features or rows, with gaps, or with text for numbers."""
    missing = [name for name in targets if name not in table]
    if missing:
        raise DataError(
            "\n  ".join(
                f"{path} has no column '{name}' for target. "
                f"{suggest(name, map(str, table.columns))}"
                for name in missing
            )
        )
    features = table.drop(columns=[*targets])
    numeric = table if numbers else features
    problems = [
        f"column '{name}' holds text such as {column.dropna().iloc[0]!r}; encode it as numbers, or "
        "drop it"
        for name, column in numeric.select_dtypes(exclude=["number", "bool"]).items()
        if column.notna().any()
    ]
    for name, column in table.items():
        if column.isna().any():
            problems.append(
                f"column '{name}' has {column.isna().sum()} missing values, the first in data row "
                f"{column.isna().argmax() + 1}; fill them in, or drop their rows"
            )
    if features.empty:
        problems.append(
            f"{features.shape[1]} features and {len(table)} rows; each must be 1 or more"
        )
    if problems:
        raise DataError(f"{path} cannot be used: " + "\n  ".join(problems))


def call_function(name: str, arguments: FunctionArguments) -> dict[str, Pair]:
    """Import ``module:function``, from the current folder too, and call it.

    Returns:
        the splits of what the function returned, as `split_objects` takes it; samples without
        splits are divided as those of an ``.npz`` file are by default.

    Raises:
        DataError: it cannot be imported or does not take the arguments, it raised, or it returned
            something else.
    """
    try:
        function = load_code(name)
    except ImportError as error:
        raise DataError(f"dataset {error}") from error
    try:
        inspect.signature(function).bind(**arguments.own)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"dataset '{name}' cannot be called: {error}; change its arguments"
        ) from error
    try:
        with importable_from_here():
            result = function(**arguments.own)
    except Exception as error:
        raise DataError(
            f"dataset '{name}' raised {type(error).__name__}: {error}; correct the function or "
            "its arguments"
        ) from error
    return divided(f"dataset '{name}'", split_objects(name, result), ArrayArguments())


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read ({error}); write it again, or name another file")
