"""Loading: read, divide, encode, check and scale the samples of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.code import readable
from optrial.data.arguments import Arguments, AugmentableArguments, TargetArguments
from optrial.data.augmentation import Augmentation
from optrial.data.catalogue import DATASETS, FUNCTION, IMAGE_FOLDER
from optrial.data.dataset import (
    Dataset,
    Pair,
    Split,
    checked,
    fingerprint,
    outputs_needed,
    target_kind,
)
from optrial.data.download import Progress, data_directory, require_files
from optrial.data.fitting import memory_errors
from optrial.data.labels import Numbered, number_labels
from optrial.data.repeats import distinct, kept_samples, left_out_notes, shared_notes
from optrial.data.resolving import Resolved, augment_problems, resolve, unusable
from optrial.data.scaling import scaled
from optrial.data.source import Encoded, Request, Rows, Source
from optrial.data.splits import carved, divided, held_out, rule_of
from optrial.data.summary import summarized
from optrial.errors import DataError
from optrial.target_kinds import Targets


def load_dataset(
    name: str,
    arguments: Mapping[str, object],
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    validation: bool = False,
    targets: Targets = "classes",
) -> Dataset:
    """Load a dataset; the same arguments give the same bits.

    Args:
        name: catalogue name, path to a file or folder, or ``module:function``.
        arguments: arguments of the dataset, without its name.
        data_dir: folder of the published datasets; see `data_directory`.
        progress: receives the progress of downloads.
        validation: hold out a tenth of the training split for validation, unless the arguments say
            otherwise or the source has a validation split.
        targets: what the loss takes; it decides the kind of targets, unless the dataset is one of
            the catalogue or the arguments decide.

    Raises:
        DataError: the name or an argument is wrong, or the data is missing, damaged or malformed.
        DownloadError: no mirror delivered a missing file.
    """
    resolved = resolve(name, arguments, targets)
    if not isinstance(resolved, Resolved):
        raise unusable(readable(name), resolved)
    folder = Path()
    if resolved.entry.published:
        folder = require_files(resolved.entry.published, data_directory(data_dir), progress)
    request = Request(name, resolved.arguments, resolved.wanted(targets), folder)
    with memory_errors(f"dataset '{request.title}'"):
        return _load(resolved, request, validation)


def _load(resolved: Resolved, request: Request[Arguments], validation: bool) -> Dataset:
    entry, arguments, title = resolved.entry, resolved.arguments, request.title
    source = entry.read(request)
    if arguments.drop_duplicates:
        source = distinct(source)
    place = f"dataset '{title}'" if entry is FUNCTION else str(request.path)
    numbered, chosen = _divided(place, resolved, request, source, validation)
    encoded = _encoded(source, numbered.splits, chosen)
    raw = {split: (encoded.inputs[split], y) for split, (_, y) in numbered.splits.items()}
    pairs = checked(title, raw, request.targets)
    of_train = pairs["train"][1]
    kind = target_kind(of_train, request.targets)
    classes = outputs_needed(of_train, kind, request.targets)
    pairs = carved(pairs, chosen)
    if problems := augment_problems(pairs["train"][0].shape[1:], arguments):
        raise unusable(title, problems)
    pixels = source.pixel_maximum or entry.pixel_maximum
    arguments = arguments.resolved(pixels is not None)
    splits, augmentation = _scaled(title, pairs, arguments, pixels, encoded.numbers)
    targets = {split: y for split, (_, y) in pairs.items()}
    repeats: list[str] = []
    if arguments.drop_duplicates:
        kept = kept_samples(place, splits)
        repeats = list(left_out_notes(kept))
        splits = {s: Split(x.inputs[kept[s]], x.targets[kept[s]]) for s, x in splits.items()}
        targets = {s: y[kept[s]] for s, y in targets.items()}
    elif entry.name not in DATASETS:
        repeats = list(shared_notes(splits))
    return Dataset(
        name=request.name,
        splits=splits,
        classes=classes,
        sha256=fingerprint(splits),
        arguments=arguments.model_dump(mode="json"),
        augmentation=augmentation,
        notes=(*source.notes, *encoded.notes, *numbered.notes, *repeats),
        kind=kind,
        summary=summarized(targets, encoded.columns, numbered.names, source.value_names),
    )


def _divided(
    place: str, resolved: Resolved, request: Request[Arguments], source: Source, validation: bool
) -> tuple[Numbered, NDArray[np.bool_] | None]:
    """Return the splits with numbered labels, and marks of the samples to hold out."""
    arguments = request.arguments
    dtype = next(iter(source.splits.values()))[1].dtype
    has_values = request.targets == "values" or (request.targets == "any" and dtype.kind == "f")
    if has_values and rule_of(arguments) == "stratified":
        raise DataError(f"{place}: split: stratified needs classes; use random or chronological")
    splits, groups = divided(place, source, arguments)
    numbered = Numbered(splits)
    if not has_values and resolved.entry.name not in DATASETS:
        labels = isinstance(arguments, TargetArguments) and arguments.targets == "labels"
        insisted = labels or resolved.entry is IMAGE_FOLDER
        numbered = number_labels(place, splits, request.targets, insisted)
    return numbered, held_out(request.title, numbered.splits, groups, arguments, validation)


def _encoded(
    source: Source, splits: Mapping[str, Rows], chosen: NDArray[np.bool_] | None
) -> Encoded:
    """Return inputs as arrays; data frames are encoded by the samples that remain for training."""
    inputs: dict[str, Any] = {split: x for split, (x, _) in splits.items()}
    if source.encoder is None:
        return Encoded(inputs)
    train = inputs["train"]
    return source.encoder(inputs, train if chosen is None else train[~chosen])


def _scaled(
    name: str,
    pairs: Mapping[str, Pair],
    arguments: Arguments,
    pixel_maximum: int | None,
    numbers: int | None,
) -> tuple[dict[str, Split], Augmentation | None]:
    """Scale all splits, and a black image with them, for the padding of augmented images."""
    options = arguments.augment if isinstance(arguments, AugmentableArguments) else None
    if options is None or not (options.flip or options.crop):
        return scaled(name, pairs, arguments, pixel_maximum, numbers), None
    inputs, targets = pairs["train"]
    black = np.zeros((1, inputs.shape[1], 1, 1), inputs.dtype)
    splits = scaled(name, {**pairs, "black": (black, targets[:1])}, arguments, pixel_maximum)
    fill = splits.pop("black").inputs[0]
    return splits, Augmentation(options.flip, options.crop, fill)
