"""The user's own data: ``.npz`` and ``.csv`` files, and dataset functions."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optrial.data.arguments import CsvArguments, FunctionArguments, NpzArguments
from optrial.data.dataset import SPLITS, Pair
from optrial.data.splits import with_test
from optrial.errors import DataError, suggest

if TYPE_CHECKING:
    import pandas as pd

_NPZ_LAYOUTS = (
    "train_inputs, train_targets[, test_inputs, test_targets][, validation_...], or "
    "x_train, y_train[, x_test, y_test], or inputs, targets, or x, y"
)


def read_npz(path: Path, arguments: NpzArguments) -> dict[str, Pair]:
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
    if "all" in pairs:
        return with_test(*pairs["all"], arguments.test_fraction, arguments.random_state)
    if arguments.test_fraction is not None:
        raise DataError(
            f"{path} has splits of its own, so test_fraction {arguments.test_fraction} has no use; "
            "remove it"
        )
    return pairs


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
    """Read a table with a header: one column of classes, every other a feature.

    Targets that are numbers are class labels as they are; all others become 0, 1, ... in sorted
    order.

    Args:
        path: comma-separated, with a header.
        arguments: `target`, `test_fraction` and `random_state` are read.

    Raises:
        DataError: the file cannot be parsed, the target column is not there, a feature is not a
            number or a value is missing.
    """
    import pandas as pd  # noqa: PLC0415  (half a second to import)

    try:
        with warnings.catch_warnings():
            # Rows longer than the header would be read as if their first columns were row names.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False, low_memory=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from error
    if arguments.target not in table:
        raise DataError(
            f"{path} has no column '{arguments.target}' for target. "
            f"{suggest(arguments.target, map(str, table.columns))}"
        )
    _check_table(path, table, arguments.target)
    features, classes = table.drop(columns=arguments.target), table[arguments.target]
    if pd.api.types.is_numeric_dtype(classes):
        targets = classes.to_numpy()
    else:
        targets = np.unique(classes.astype(str).to_numpy(object), return_inverse=True)[1]
    fraction, seed = arguments.test_fraction, arguments.random_state
    return with_test(features.to_numpy(np.float64), targets, fraction, seed)


def _check_table(path: Path, table: pd.DataFrame, target: str) -> None:
    """Refuse a table with text among its features, with gaps, or without features or rows."""
    features = table.drop(columns=target)
    problems = [
        f"column '{name}' holds text such as {column.dropna().iloc[0]!r}; encode it as numbers, or "
        "drop it"
        for name, column in features.select_dtypes(exclude=["number", "bool"]).items()
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
        what the function returned: split -> (inputs, targets), arrays or CPU tensors.

    Raises:
        DataError: it cannot be imported or does not take the arguments, it raised, or it returned
            something else.
    """
    module_name, _, attribute = name.partition(":")
    with _current_folder_importable():
        try:
            function: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                function = getattr(function, part)
        except Exception as error:
            raise DataError(
                f"dataset '{name}' cannot be imported ({type(error).__name__}: {error}); its "
                "module must be installed or in the current folder"
            ) from error
        try:
            inspect.signature(function).bind(**arguments.own)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"dataset '{name}' cannot be called: {error}; change its arguments"
            ) from error
        try:
            result = function(**arguments.own)
        except Exception as error:
            raise DataError(
                f"dataset '{name}' raised {type(error).__name__}: {error}; correct the function or "
                "its arguments"
            ) from error
    return _function_result(name, result)


def _function_result(name: str, result: Any) -> dict[str, Pair]:
    wanted = '{"train": (inputs, targets), "test": (inputs, targets)}, "validation" optional'
    if not isinstance(result, Mapping):
        found = f"a {type(result).__name__}"
    elif "train" not in result or not set(result) <= set(SPLITS):
        found = f"the splits {', '.join(map(str, result)) or 'none'}"
    else:
        odd = [key for key, pair in result.items() if not _is_pair(pair)]
        if not odd:
            return {split: tuple(result[split]) for split in SPLITS if split in result}
        found = f"no pair for {', '.join(odd)}"
    raise DataError(f"dataset '{name}' returned {found}; it must return {wanted}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Let Python import from the current folder, as it does for scripts and not for commands."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read ({error}); write it again, or name another file")
