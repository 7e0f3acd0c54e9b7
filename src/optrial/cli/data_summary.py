"""Tables of a dataset for `optrial plan`: columns, classes and the scale of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optrial.cli.output import draw

if TYPE_CHECKING:
    from optrial.data import ClassCount, Column, Dataset, ValueScale

_COLUMNS_SHOWN = 24  # in a wider table, columns of the same kind and use share a row
_ROWS_SHOWN = 20
_NAMES_SHOWN = 3
_VALUES_SAMPLED = 10_000_000
_LARGE = 30  # ratio to 1 beyond which a standard deviation is too large or small to train on


def print_data(dataset: Dataset) -> None:
    """Print a table of the columns, if any, and a table of classes or values.

    Prints nothing for datasets of the catalogue.
    """
    from optrial.data import DATASETS
    from optrial.report import plain_table

    if dataset.name in DATASETS:
        return
    summary, name = dataset.summary, Path(dataset.name).name
    if summary.columns:
        title = f"{name}: {len(summary.columns)} columns{_scaling(dataset.arguments)}"
        columns = ["column", "type", "use", "details"]
        draw(plain_table(columns, _column_rows(summary.columns), title), further=True)
    if summary.classes:
        splits = list(dataset.splits)
        rows = _class_rows(summary.classes, splits)
        draw(plain_table(["class", *splits], rows, f"{name}: samples"), further=True)
    elif summary.values:
        title = f"{name}: train{_standardized(dataset)}"
        columns = ["target", "mean", "std", "minimum", "maximum"]
        draw(plain_table(columns, _value_rows(summary.values), title), further=True)


def data_notes(dataset: Dataset) -> Iterator[str]:
    """Yield the notes of the dataset, and notes on inputs and values of an unusual scale."""
    yield from dataset.notes
    yield from _input_notes(dataset)
    if dataset.arguments.get("standardize_targets", True):
        return
    for value in dataset.summary.values[:_ROWS_SHOWN]:
        if value.std > _LARGE or 0 < value.std < 1 / _LARGE:
            yield (
                f"'{value.name}' has a standard deviation of {_readable(value.std)}; "
                "standardize_targets: true brings it to 1, which suits the usual learning rates"
            )


def _input_notes(dataset: Dataset) -> Iterator[str]:
    """Yield a note if numbers that are not scaled are large, or do not vary."""
    inputs = dataset.splits["train"].inputs
    if dataset.arguments.get("scale") != "none" or inputs.dtype.kind != "f":
        return
    sample = inputs[:: -(-inputs.size // _VALUES_SAMPLED)].astype("float64")
    mean, std = abs(float(sample.mean())), float(sample.std())
    if std == 0:
        yield f"all inputs are {sample.flat[0]:g}"
    elif max(mean, std) > _LARGE:
        yield (
            f"inputs have a mean of {_readable(sample.mean())} and a standard deviation of "
            f"{_readable(std)}; scale: standardize brings them to 0 and 1, which suits the usual "
            "learning rates"
        )


def _scaling(arguments: Mapping[str, object]) -> str:
    words = {"standardize": "; numbers are standardized", "unit": "; numbers are scaled to 0..1"}
    return words.get(str(arguments.get("scale")), "")


def _standardized(dataset: Dataset) -> str:
    return " before standardizing" if dataset.arguments.get("standardize_targets") else ""


def _column_rows(columns: Sequence[Column]) -> list[list[str]]:
    """Return one row per column, or per group of equal columns in a wide table."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for column in columns:
        apart = () if len(columns) > _COLUMNS_SHOWN else (column.name,)
        group = (column.kind, column.use, column.detail, *apart)
        alike.setdefault(group, []).append(column.name)
    return [[_listed(names), *group[:3]] for group, names in alike.items()]


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMES_SHOWN - 1])}, ... {names[-1]} ({len(names)})"


def _class_rows(classes: Sequence[ClassCount], splits: Sequence[str]) -> list[list[object]]:
    rows: list[list[object]] = [
        [_class_name(entry), *(entry.counts[split] for split in splits)]
        for entry in classes[:_ROWS_SHOWN]
    ]
    rest = classes[_ROWS_SHOWN:]
    if rest:
        counts = (sum(entry.counts[split] for entry in rest) for split in splits)
        rows.append([f"{len(rest)} more", *counts])
    return rows


def _class_name(entry: ClassCount) -> str:
    label = str(entry.label)
    return label if entry.name == label else f"{label}: {entry.name}"


def _readable(number: float) -> str:
    """Format a number with five digits, or with all digits before the point, up to 15."""
    if 1e5 <= abs(number) < 1e15:
        return f"{number:,.0f}"
    return f"{number:,.5g}"


def _value_rows(values: Sequence[ValueScale]) -> Iterator[list[str]]:
    for value in values[:_ROWS_SHOWN]:
        numbers = (value.mean, value.std, value.minimum, value.maximum)
        yield [value.name, *map(_readable, numbers)]
    if len(values) > _ROWS_SHOWN:
        yield [f"{len(values) - _ROWS_SHOWN} more", *[""] * 4]
