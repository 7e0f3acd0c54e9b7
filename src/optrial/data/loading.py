"""From a name and its arguments, or from objects, to a dataset; and the files behind a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from optrial.code import is_code
from optrial.data.arguments import (
    Arguments,
    AugmentableArguments,
    AugmentArguments,
    TableArguments,
    TargetArguments,
    ValueArguments,
)
from optrial.data.augmentation import Augmentation
from optrial.data.catalogue import (
    DATASETS,
    FUNCTION,
    IMAGE_FOLDER,
    NPZ,
    OBJECTS,
    PARQUET,
    TEXT_TABLE,
    DatasetEntry,
    Request,
)
from optrial.data.dataset import (
    Dataset,
    Pair,
    Split,
    checked,
    fingerprint,
    outputs_needed,
    target_kind,
)
from optrial.data.download import (
    FileStatus,
    Progress,
    Published,
    data_directory,
    fetch_files,
    file_statuses,
    require_files,
)
from optrial.data.labels import Numbered, number_labels
from optrial.data.repeats import distinct, shared_notes, without_shared
from optrial.data.scaling import scaled
from optrial.data.source import Encoded, Rows, Source
from optrial.data.splits import carved, divided, held_out, rule_of
from optrial.data.summary import summarized
from optrial.data.text_files import COMPRESSED
from optrial.errors import DataError, Problem, problem_of, suggest
from optrial.target_kinds import Targets

_FILES = {
    ".npz": NPZ,
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".data", ".dat"), TEXT_TABLE),
    **dict.fromkeys((".parquet", ".pq"), PARQUET),
}
_OWN = "a path to .csv, .tsv, .parquet or .npz or to a folder of images, or module:function"


@dataclass(frozen=True)
class _Resolved:
    """A name and arguments that have nothing wrong that shows before loading."""

    entry: DatasetEntry
    arguments: Arguments


def check_dataset(
    name: str, arguments: Mapping[str, Any], *, targets: Targets = "classes"
) -> list[Problem]:
    """Return everything wrong with a dataset that can be known without loading it.

    Args:
        name: catalogue name, path to a file or folder (a relative one is in the current folder),
            or ``module:function``.
        arguments: of the dataset, without its name.
        targets: what the loss takes; see `load_dataset`.

    Returns:
        problems at ``name`` or at an argument's name; none if there is nothing to say.
    """
    found = _resolve(name, arguments, targets)
    return [] if isinstance(found, _Resolved) else found


def resolved_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments with their defaults filled in, as JSON has them.

    `validation_fraction` stays None where it was not given: what it means depends on the study and
    on the source; `Dataset.sizes` has the outcome. The same holds for `test_fraction` of an
    ``.npz`` file.

    Raises:
        DataError: what `check_dataset` finds, whatever the loss takes.
    """
    return _as_json(_whole(name, _resolve(name, arguments, "any")).arguments)


def load_dataset(
    name: str,
    arguments: Mapping[str, Any],
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    validation: bool = False,
    targets: Targets = "classes",
) -> Dataset:
    """Load, check, divide and scale a dataset; the same arguments give the same bits.

    Args:
        name: catalogue name, path to a file or folder, or ``module:function``.
        arguments: of the dataset, without its name.
        data_dir: folder of the published datasets; see `data_directory`.
        progress: hears of downloads.
        validation: the study evaluates on validation: hold out a tenth of the training split,
            unless the arguments say otherwise or the source has a validation split.
        targets: what the loss takes; it decides what kind of targets the dataset has, unless it is
            a dataset of the catalogue or the arguments say so.

    Raises:
        DataError: the name or an argument is wrong, or the data is missing, damaged or malformed.
        DownloadError: no mirror delivered a missing file.
    """
    found = _whole(name, _resolve(name, arguments, targets))
    folder = Path()
    if found.entry.published:
        folder = require_files(found.entry.published, data_directory(data_dir), progress)
    wanted = _wanted(found, targets)
    request = Request(name, found.arguments, folder, targets=wanted)
    return _load(found, request, validation)


def dataset_from(
    raw: Any,
    *,
    name: str = "data",
    arguments: Mapping[str, Any] | None = None,
    validation: bool = False,
    targets: Targets = "classes",
) -> Dataset:
    """Check, divide and scale objects of a program, such as those of a notebook.

    Args:
        raw: ``{"train": (x, y), ...}``, ``(x, y)``, ``(x_train, y_train, x_test, y_test)`` or
            ``((x_train, y_train), (x_test, y_test))`` of arrays, CPU tensors or whatever NumPy
            reads; a torch `Dataset` may stand for any ``(x, y)``. They are not changed. What comes
            without splits is divided by `test_fraction`.
        name: for errors and records.
        arguments: those of an ``.npz`` file.
        validation: see `load_dataset`.
        targets: see `load_dataset`.

    Raises:
        DataError: an argument is wrong, or the objects have another form or malformed content.
    """
    found = _whole(name, _check(OBJECTS, name, arguments or {}, targets))
    request = Request(name, found.arguments, raw=raw, targets=_wanted(found, targets))
    return _load(found, request, validation)


def _wanted(resolved: _Resolved, targets: Targets) -> Targets:
    """Return the targets to make: those of the arguments, else those that the loss takes."""
    entry, arguments = resolved.entry, resolved.arguments
    asked = arguments.targets if isinstance(arguments, TargetArguments) else None
    if entry.values or asked == "values":
        return "values"
    has_labels = entry.name in DATASETS or entry is IMAGE_FOLDER or asked == "labels"
    return "classes" if has_labels and targets != "binary" else targets


def _load(resolved: _Resolved, request: Request, validation: bool) -> Dataset:
    """Read, divide, encode, check and scale, in this order."""
    entry, arguments, name = resolved.entry, resolved.arguments, request.name
    source = entry.load(request)
    if arguments.drop_duplicates:
        source = distinct(source)
    place = f"dataset '{name}'" if entry in (FUNCTION, OBJECTS) else str(request.path)
    if rule_of(arguments) == "stratified" and _has_values(source, request.targets):
        raise DataError(f"{place}: split: stratified needs classes; use random or chronological")
    splits, groups = divided(place, source, arguments)
    numbered = Numbered(splits)
    if entry.name not in DATASETS and not _has_values(source, request.targets):
        insisted = entry is IMAGE_FOLDER or getattr(arguments, "targets", None) == "labels"
        numbered = number_labels(place, splits, request.targets, insisted)
    chosen = held_out(name, numbered.splits, groups, arguments, validation)
    encoded = _encoded(source, numbered.splits, chosen)
    raw = {split: (encoded.inputs[split], y) for split, (_, y) in numbered.splits.items()}
    pairs = checked(name, raw, request.targets)
    of_train = pairs["train"][1]
    kind = target_kind(of_train, request.targets)
    classes = outputs_needed(of_train, kind, request.targets)
    pairs = carved(pairs, chosen)
    if problems := _augment_problems(pairs["train"][0].shape[1:], arguments):
        raise _unusable(name, problems)
    pixels = source.pixel_maximum or entry.pixel_maximum
    if pixels and arguments.scale is None and arguments.mean is None:
        arguments = arguments.model_copy(update={"scale": "unit"})
    scaled_splits, augmentation = _scaled(name, pairs, arguments, pixels, encoded.numbers)
    repeats: list[str] = []
    if arguments.drop_duplicates:
        scaled_splits, pairs, repeats = without_shared(place, scaled_splits, pairs)
    elif entry.name not in DATASETS:
        repeats = list(shared_notes(scaled_splits))
    return Dataset(
        name=name,
        splits=scaled_splits,
        classes=classes,
        sha256=fingerprint(scaled_splits),
        arguments=_as_json(arguments),
        augmentation=augmentation,
        notes=(*entry.notes(arguments), *source.notes, *encoded.notes, *numbered.notes, *repeats),
        kind=kind,
        summary=summarized(
            {split: targets for split, (_, targets) in pairs.items()},
            encoded.columns,
            numbered.names,
            source.value_names,
        ),
    )


def _has_values(source: Source, targets: Targets) -> bool:
    """Whether the targets are numbers to predict."""
    dtype = np.asarray(next(iter(source.splits.values()))[1]).dtype
    return targets == "values" or (targets == "any" and dtype.kind == "f")


def _encoded(
    source: Source, splits: Mapping[str, Rows], chosen: NDArray[np.bool_] | None
) -> Encoded:
    """Return arrays of inputs; data frames are encoded by what remains for training."""
    inputs = {split: x for split, (x, _) in splits.items()}
    if source.encoder is None:
        return Encoded(inputs, None, ())
    train = inputs["train"]
    return source.encoder(inputs, train if chosen is None else train[~chosen])


def _scaled(
    name: str,
    pairs: Mapping[str, Pair],
    arguments: Arguments,
    pixel_maximum: int | None,
    numbers: int | None,
) -> tuple[dict[str, Split], Augmentation | None]:
    """Scale all splits, and a black pixel with them, to be the padding of augmented images."""
    options = arguments.augment if isinstance(arguments, AugmentableArguments) else None
    if options is None or not (options.flip or options.crop):
        return scaled(name, pairs, arguments, pixel_maximum, numbers), None
    inputs, targets = pairs["train"]
    black = np.zeros((1, inputs.shape[1], 1, 1), inputs.dtype)
    splits = scaled(name, {**pairs, "black": (black, targets[:1])}, arguments, pixel_maximum)
    fill = splits.pop("black").inputs[0]
    return splits, Augmentation(options.flip, options.crop, fill)


def fetch(name: str, data_dir: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Download the files of a dataset that are missing or damaged; return the path of each.

    Raises:
        DataError: the name is unknown, or the folder cannot be written.
        DownloadError: no mirror delivered a file.
    """
    published = _published(name)
    if published:
        fetch_files(published, data_directory(data_dir), progress)
    return files(name, data_dir)


def verify(name: str, data_dir: Path | None = None) -> dict[str, FileStatus]:
    """Return the status of each file of a dataset; empty where it needs no download.

    Raises:
        DataError: the name is unknown, or a file cannot be read.
    """
    published = _published(name)
    return file_statuses(published, data_directory(data_dir)) if published else {}


def files(name: str, data_dir: Path | None = None) -> list[Path]:
    """Return where each file of a dataset is or will be; empty where it needs no download.

    Raises:
        DataError: the name is unknown.
    """
    published = _published(name)
    if not published:
        return []
    folder = data_directory(data_dir) / published.folder
    return [folder / file for file in published.files]


def _published(name: str) -> Published | None:
    if name not in DATASETS:
        raise DataError(f"'{name}' is not a dataset of the catalogue. {suggest(name, DATASETS)}")
    return DATASETS[name].published


def _unusable(name: str, problems: list[Problem]) -> DataError:
    return DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(map(str, problems)))


def _whole(name: str, found: _Resolved | list[Problem]) -> _Resolved:
    if isinstance(found, _Resolved):
        return found
    raise _unusable(name, found)


def _as_json(arguments: Arguments) -> dict[str, Any]:
    return arguments.resolved().model_dump(mode="json")


def _resolve(
    name: str, arguments: Mapping[str, Any], targets: Targets
) -> _Resolved | list[Problem]:
    entry = _entry(name)
    return [entry] if isinstance(entry, Problem) else _check(entry, name, arguments, targets)


def _check(
    entry: DatasetEntry, name: str, arguments: Mapping[str, Any], targets: Targets
) -> _Resolved | list[Problem]:
    problems = _missing_file(entry, name)
    if targets not in get_args(Targets):
        problems.append(Problem("targets", f"{targets!r}. {suggest(targets, get_args(Targets))}"))
    try:
        parsed = entry.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        for found in error.errors():
            keys = AugmentArguments if len(found["loc"]) > 1 else entry.arguments
            problems.append(problem_of(found, keys.model_fields))
        return problems
    problems += _wrong_lengths(entry, parsed)
    if entry.input_shape:
        problems += _augment_problems(entry.input_shape, parsed)
    problems += _target_problems(entry, parsed, targets)
    return problems or _Resolved(entry, parsed)


def _entry(name: object) -> DatasetEntry | Problem:
    """Tell by the name alone which dataset or kind of dataset is meant."""
    if not isinstance(name, str):
        return Problem("name", f"{name!r} is not text. {suggest(name, DATASETS)} Or {_OWN}.")
    if entry := DATASETS.get(name) or _file_entry(Path(name)):
        return entry
    if is_code(name):
        return FUNCTION
    if ":" in name:
        return Problem("name", f"'{name}' must be module:function, such as my_package.data:load.")
    return Problem("name", f"'{name}' is not a dataset. {suggest(name, DATASETS)} Or {_OWN}.")


def _file_entry(path: Path) -> DatasetEntry | None:
    """Return the entry that reads a path, by its ending or because it is a folder."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    entry = _FILES.get(plain.suffix.lower())
    if entry is None or (plain != path and entry is not TEXT_TABLE):
        is_folder = path.name and path.expanduser().is_dir()
        return IMAGE_FOLDER if is_folder else None
    return entry


def _missing_file(entry: DatasetEntry, name: str) -> list[Problem]:
    path = Request(name, None).path
    if entry not in _FILES.values() or path.is_file():
        return []
    return [Problem("name", f"there is no file '{name}'; a relative path starts at {Path.cwd()}.")]


def _wrong_lengths(entry: DatasetEntry, arguments: Arguments) -> list[Problem]:
    """Compare the numbers of mean and std with the channels, where these are known beforehand."""
    if entry.input_shape is None:
        return []
    channels = entry.input_shape[0]
    return [
        Problem(key, f"{list(given)!r}: must be one number, or {channels}, one a channel.")
        for key, given in (("mean", arguments.mean), ("std", arguments.std))
        if isinstance(given, tuple) and len(given) not in (1, channels)
    ]


def _augment_problems(shape: tuple[int, ...], arguments: Arguments) -> list[Problem]:
    """Say whether samples of a shape cannot be augmented as the arguments ask."""
    if not isinstance(arguments, AugmentableArguments) or arguments.augment is None:
        return []
    if len(shape) != 3:
        given = f"samples have shape {shape}; only images, (channels, height, width), can be varied"
        return [Problem("augment", f"{given}; remove it.")]
    if arguments.augment.crop >= min(shape[1:]):
        limit = f"images are {shape[1]}x{shape[2]} pixels and would lie outside; use less"
        return [Problem("augment.crop", f"{arguments.augment.crop}: {limit}.")]
    return []


def _target_problems(entry: DatasetEntry, arguments: Arguments, targets: Targets) -> list[Problem]:
    """Say where values to predict are asked for and the loss takes class labels, or the reverse."""
    way_out = "use a loss for values, such as mse"
    wanted = _wanted(_Resolved(entry, arguments), targets)
    if entry.values and targets in ("classes", "binary"):
        return [Problem("name", f"'{entry.name}' has values to predict, no classes; {way_out}.")]
    if wanted == "values" and targets in ("classes", "binary"):
        return [Problem("targets", f"'values': the loss takes class labels; {way_out}.")]
    if wanted not in ("classes", "binary"):
        return []
    problems = []
    if isinstance(arguments, ValueArguments) and arguments.standardize_targets:
        problems.append(
            Problem("standardize_targets", f"class labels are not scaled; remove it, or {way_out}.")
        )
    if wanted == "binary" or not isinstance(arguments, TableArguments):
        return problems
    if not isinstance(arguments.target, str):
        listed = f"{list(arguments.target)!r}: a list of columns holds values to predict"
        problems.append(Problem("target", f"{listed}; name one column of classes, or {way_out}."))
    return problems
