"""Loading: read, divide, encode, check and scale the samples of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.code import readable
from optrial.data.arguments import (
    Arguments,
    AugmentableArguments,
    TargetArguments,
    TokenArguments,
    Vocabulary,
)
from optrial.data.augmentation import Augmentation
from optrial.data.catalogue import DATASETS, FUNCTION, IMAGE_FOLDER
from optrial.data.dataset import (
    Dataset,
    Known,
    Pair,
    Split,
    TargetScale,
    checked,
    fingerprint,
    ignored_label,
    outputs_needed,
    target_kind,
)
from optrial.data.download import Progress, data_directory, require_files
from optrial.data.fitting import memory_errors, require_memory
from optrial.data.folds import Folds, check_folds, test_rows
from optrial.data.labels import Numbered, number_labels
from optrial.data.repeats import distinct, kept_samples, left_out_notes, shared_notes
from optrial.data.resolving import (
    Resolved,
    augment_problems,
    resolve,
    several_inputs_problems,
    unusable,
)
from optrial.data.scaling import scaled, target_scale
from optrial.data.source import Encoded, Request, Rows, Source
from optrial.data.splits import carved, divided, held_out, rule_of
from optrial.data.summary import summarized
from optrial.errors import DataError
from optrial.target_kinds import IGNORE_INDEX, TargetKind, Targets


def load_dataset(
    name: str,
    arguments: Mapping[str, object],
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    validation: bool = False,
    targets: Targets = "classes",
    ignore_index: int = IGNORE_INDEX,
    outputs_per_value: int = 1,
    folds: Folds | None = None,
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
        ignore_index: label of the positions that do not count.
        outputs_per_value: number of outputs of a model for each value to predict.
        folds: cross-validation; the dataset is the first fold, and holds all of them.

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
    wanted = resolved.wanted(targets)
    request = Request(name, resolved.arguments, wanted, folder, ignore_index)
    with memory_errors(f"dataset '{request.title}'"):
        source = _read(resolved, request)
        if folds is None:
            return _outputs(_load(resolved, request, source, validation), outputs_per_value)
        return _folded(resolved, request, source, validation, outputs_per_value, folds)


def _outputs(dataset: Dataset, per_value: int) -> Dataset:
    """Return a dataset with the number of outputs that values need."""
    if not dataset.regression or per_value == 1:
        return dataset
    return replace(dataset, classes=per_value * dataset.classes)


def _folded(
    resolved: Resolved,
    request: Request[Arguments],
    source: Source,
    validation: bool,
    outputs_per_value: int,
    folds: Folds,
) -> Dataset:
    """Return the dataset of the first fold, which holds those of all."""
    place, arguments = f"dataset '{request.title}'", resolved.arguments
    has_classes = not _has_values(request, source)
    tests = test_rows(place, source, arguments, folds, has_classes=has_classes)
    whole = source.splits["all"][0]
    size = getattr(whole, "size", 0) * np.dtype(np.float32).itemsize
    require_memory(f"{place} in {len(tests)} folds", len(tests) * size)
    datasets = [
        _outputs(_load(resolved, request, source, validation, test), outputs_per_value)
        for test in tests
    ]
    check_folds(place, datasets)
    return replace(datasets[0], folds=tuple(datasets))


def _read(resolved: Resolved, request: Request[Arguments]) -> Source:
    arguments, title = resolved.arguments, request.title
    source = resolved.entry.read(request)
    if source.parts and (problems := several_inputs_problems(arguments)):
        raise unusable(title, problems)
    source = _with_tokens(source, resolved, request)
    return distinct(source) if arguments.drop_duplicates else source


def _load(
    resolved: Resolved,
    request: Request[Arguments],
    source: Source,
    validation: bool,
    test: NDArray[np.intp] | None = None,
) -> Dataset:
    """Return the dataset of a source; `test` holds the places of the test samples of a fold."""
    place = f"dataset '{request.title}'" if resolved.entry is FUNCTION else str(request.path)
    numbered, chosen = _divided(place, resolved, request, source, validation, test)
    encoded = _encoded(source, numbered.splits, chosen)
    pairs = _checked(resolved, request, source, numbered, encoded)
    kind, classes, ignored = _kind(request, pairs, source.classes)
    pairs = carved(pairs, chosen)
    scaled_splits = _scaled(resolved, request.title, source, pairs, encoded.numbers)
    splits, targets = scaled_splits.splits, {split: y for split, (_, y) in pairs.items()}
    if resolved.arguments.targets == "inputs" and source.vocabulary is None:
        splits = _reconstructed(request.title, splits, request.targets)
        pairs = {name: (split.inputs, split.targets) for name, split in splits.items()}
        targets = {name: split.targets for name, split in splits.items()}
        kind, classes, ignored = _kind(request, pairs)
    splits, targets, repeats = _without_repeats(place, resolved, splits, targets)
    if source.text is not None:
        splits["train"] = replace(splits["train"], text=source.text)
    return Dataset(
        name=request.name,
        splits=splits,
        classes=classes,
        sha256=fingerprint(splits, source.parts),
        arguments=scaled_splits.arguments.model_dump(mode="json"),
        augmentation=scaled_splits.augmentation,
        notes=(*source.notes, *encoded.notes, *numbered.notes, *repeats),
        kind=kind,
        summary=summarized(
            targets, encoded.columns, numbered.names or source.class_names, source.value_names
        ),
        vocabulary=source.vocabulary,
        ignored=ignored,
        target_scale=scaled_splits.target_scale,
        bytes_per_token=source.bytes_per_token,
        token_texts=tuple(source.token_texts),
        parts=source.parts,
    )


def _checked(
    resolved: Resolved,
    request: Request[Arguments],
    source: Source,
    numbered: Numbered,
    encoded: Encoded,
) -> dict[str, Pair]:
    """Return the checked inputs and targets of all splits."""
    raw = {split: (encoded.inputs[split], y) for split, (_, y) in numbered.splits.items()}
    if resolved.arguments.targets == "inputs":
        raw = {split: (x, _from_inputs(x, resolved)) for split, (x, _) in raw.items()}
    known = Known(source.vocabulary, source.classes, request.ignore_index)
    return checked(request.title, raw, request.targets, known)


def _kind(
    request: Request[Arguments], pairs: Mapping[str, Pair], classes: int | None = None
) -> tuple[TargetKind, int, int | None]:
    """Return the kind of targets, the outputs they need, and the label that does not count."""
    of_train = pairs["train"][1]
    kind = target_kind(of_train, request.targets)
    ignored = ignored_label(pairs, kind, request.ignore_index)
    return kind, classes or outputs_needed(of_train, kind, request.targets, ignored), ignored


def _without_repeats(
    place: str,
    resolved: Resolved,
    splits: dict[str, Split],
    targets: dict[str, NDArray[Any]],
) -> tuple[dict[str, Split], dict[str, NDArray[Any]], Sequence[str]]:
    """Leave out samples with inputs of an earlier split if asked to; return notes on such."""
    if resolved.arguments.drop_duplicates:
        kept = kept_samples(place, splits)
        splits = {s: Split(x.inputs[kept[s]], x.targets[kept[s]]) for s, x in splits.items()}
        return splits, {s: y[kept[s]] for s, y in targets.items()}, list(left_out_notes(kept))
    own = resolved.entry.name not in DATASETS
    return splits, targets, list(shared_notes(splits)) if own else []


def _with_tokens(source: Source, resolved: Resolved, request: Request[Arguments]) -> Source:
    """Return a source with the number of its tokens, if the arguments say that inputs are such."""
    arguments = resolved.arguments
    if not isinstance(arguments, TokenArguments) or arguments.inputs is None or source.parts:
        return source
    named = arguments.inputs
    size = named.tokens if isinstance(named, Vocabulary) else _token_count(request, source)
    return replace(source, vocabulary=size, classes=size if arguments.targets else None)


def _from_inputs(inputs: Any, resolved: Resolved) -> NDArray[Any]:
    """Return tokens as targets; zeros for numbers, until these are scaled."""
    return np.asarray(inputs) if resolved.has_tokens else np.zeros((len(inputs), 1))


def _reconstructed(title: str, splits: Mapping[str, Split], wanted: Targets) -> dict[str, Split]:
    """Return splits whose targets are their scaled inputs.

    Raises:
        DataError: the loss takes numbers from 0 to 1, and others are among them.
    """
    for name, split in splits.items():
        low, high = float(split.inputs.min()), float(split.inputs.max())
        if wanted == "binary" and (low < 0 or high > 1):
            raise DataError(
                f"dataset '{title}': targets: inputs gives {name} targets from {low:g} to "
                f"{high:g}, and bce takes numbers from 0 to 1; use scale: unit, or the loss mse"
            )
    return {name: replace(split, targets=split.inputs) for name, split in splits.items()}


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Return tokens or labels as int64."""
    return np.ascontiguousarray(values, np.int64 if values.dtype.kind in "biu" else np.float32)


def _token_count(request: Request[Arguments], source: Source) -> int:
    """Return the number of tokens of all samples: the largest one plus one."""
    inputs = [np.asarray(x) for x, _ in source.splits.values()]
    for x in inputs:
        if x.dtype.kind not in "iu" or not x.size:
            raise DataError(
                f"dataset '{request.title}': inputs: tokens needs integers, and inputs are of type "
                f"{x.dtype} and shape {x.shape}"
            )
    return max(1, 1 + max(int(x.max()) for x in inputs))


def _divided(
    place: str,
    resolved: Resolved,
    request: Request[Arguments],
    source: Source,
    validation: bool,
    test: NDArray[np.intp] | None,
) -> tuple[Numbered, NDArray[np.bool_] | None]:
    """Return the splits with numbered labels, and marks of the samples to hold out."""
    arguments = request.arguments
    has_values = _has_values(request, source)
    if has_values and rule_of(arguments) == "stratified":
        raise DataError(f"{place}: split: stratified needs classes; use random or chronological")
    splits, groups = divided(place, source, arguments, test)
    numbered = Numbered(splits)
    if not (has_values or resolved.entry.name in DATASETS or _labels_tokens(resolved, splits)):
        labels = isinstance(arguments, TargetArguments) and arguments.targets == "labels"
        insisted = labels or resolved.entry is IMAGE_FOLDER
        numbered = number_labels(place, splits, request.targets, insisted)
    if source.text is not None:  # its splits are parts of the text
        return numbered, None
    return numbered, held_out(request.title, numbered.splits, groups, arguments, validation)


def _has_values(request: Request[Arguments], source: Source) -> bool:
    """Return whether targets are values to predict rather than classes."""
    dtype = next(iter(source.splits.values()))[1].dtype
    of_loss = request.targets == "values" or (request.targets == "any" and dtype.kind == "f")
    return of_loss or request.arguments.targets == "inputs"


def _labels_tokens(resolved: Resolved, splits: Mapping[str, Rows]) -> bool:
    """Return whether each token has a label, which is no one-hot row even if it looks like one."""
    return resolved.has_tokens and all(np.shape(x) == y.shape for x, y in splits.values())


def _encoded(
    source: Source, splits: Mapping[str, Rows], chosen: NDArray[np.bool_] | None
) -> Encoded:
    """Return inputs as arrays; data frames are encoded by the samples that remain for training."""
    inputs: dict[str, Any] = {split: x for split, (x, _) in splits.items()}
    if source.encoder is None:
        return Encoded(inputs)
    train = inputs["train"]
    return source.encoder(inputs, train if chosen is None else train[~chosen])


@dataclass(frozen=True)
class _Scaled:
    """Scaled splits and how they were made, with arguments that say so."""

    splits: dict[str, Split]
    arguments: Arguments
    augmentation: Augmentation | None = None
    target_scale: TargetScale | None = None


def _scaled(
    resolved: Resolved,
    title: str,
    source: Source,
    pairs: Mapping[str, Pair],
    numbers: int | None,
) -> _Scaled:
    """Scale the inputs and targets of all splits; tokens stay as they are."""
    shapes = [array.shape[1:] for array in pairs["train"]]
    if problems := augment_problems(shapes[0], resolved.arguments, shapes[1]):
        raise unusable(title, problems)
    pixels = source.pixel_maximum or resolved.entry.pixel_maximum
    arguments = resolved.arguments.resolved(pixels is not None)
    if source.vocabulary is not None:
        return _Scaled({name: Split(*map(_whole, pair)) for name, pair in pairs.items()}, arguments)
    scale = target_scale(title, pairs["train"][1], arguments)
    splits, augmentation = _with_padding(title, pairs, arguments, pixels, numbers)
    return _Scaled(splits, arguments, augmentation, scale)


def _with_padding(
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
