"""Saved weights: models, predictions and their evaluation."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.contenders import Contender
from optrial.code import Trust, as_trust
from optrial.errors import StoreError, suggest
from optrial.records import Record
from optrial.report.figures import plot
from optrial.report.predictions import (
    Boundary,
    boundary_figure,
    confusion_figure,
    draw_boundary,
    draw_confusion,
)
from optrial.results.reading import Reading, check_contender, one_problem

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from optrial.saved import Evaluated, Predictions

__all__ = ["SavedWeights"]

GRID = 300
"""Points of each side of the grid on which a decision boundary is drawn."""
Item = TypeVar("Item")
_NO_WEIGHTS = "none of the compared runs that finished has saved weights"


class SavedWeights(Reading):
    """The saved weights of a study."""

    def confusion(
        self,
        split: str = "test",
        problem: str | None = None,
        *,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> pd.DataFrame:
        """Return how many samples of each class the saved weights predict as each class.

        One row per optimizer, setting, true class and predicted class, summed over seeds, with the
        columns ``problem``, ``optimizer``, ``setting``, ``true``, ``predicted``, ``count`` and
        ``share``, of the true class.

        Args:
            split: "train", "validation" or "test".
            problem: name of a problem; by default all.
            data_dir: folder of downloaded datasets.
            trust: see `Study.from_file`; the code of the study is imported.

        Raises:
            StoreError: no weights were saved, the code or the data of a run has changed, the
                targets are not classes, or there is no such problem.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        rows = []
        run_ids = self._run_ids(problem)
        tables = self._confusions(split, data_dir, trust, run_ids)
        for (where, name), (table, names) in tables.items():
            optimizer, _, setting = name.partition(" ")
            for true, counts in zip(names, table, strict=True):
                rows += [
                    {
                        "problem": where,
                        "optimizer": optimizer,
                        "setting": setting,
                        "true": true,
                        "predicted": predicted,
                        "count": int(count),
                        "share": count / max(1, counts.sum()),
                    }
                    for predicted, count in zip(names, counts, strict=True)
                ]
        return pd.DataFrame(rows)

    def confusion_figure(
        self,
        split: str = "test",
        problem: str | None = None,
        *,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Figure:
        """Return a figure with the confusion matrix of each contender; see `confusion`."""
        run_ids = self._run_ids(problem)
        return confusion_figure(_by_label(self._confusions(split, data_dir, trust, run_ids)))

    def boundary_figure(
        self,
        split: str = "test",
        problem: str | None = None,
        *,
        seed: int | None = None,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Figure:
        """Return a figure of the decision boundary of each contender, for inputs of two numbers.

        Args:
            split: the samples to draw.
            problem: name of a problem; by default all.
            seed: the run of each contender; by default its first one.
            data_dir: folder of downloaded datasets.
            trust: see `Study.from_file`; the code of the study is imported.

        Raises:
            StoreError: as `confusion`; or inputs are not two numbers, or there is no such seed.
        """
        run_ids = self._run_ids(problem)
        records = [r for r in self.records if run_ids is None or r.run_id in run_ids]
        boundaries = self._boundaries(split, seed, data_dir, trust, records)
        return boundary_figure(_by_label(boundaries))

    def _boundaries(
        self,
        split: str,
        seed: int | None,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        records: Sequence[Record],
    ) -> dict[tuple[str, str], Boundary]:
        """Return the boundary of the first of some runs of each contender, by problem and name.

        Raises:
            StoreError: see `boundary_figure`.
        """
        for record in records:
            _check_plane(record, several=len({other.problem for other in records}) > 1)
        boundaries: dict[tuple[str, str], Boundary] = {}
        run_ids = {r.run_id for r in records if seed is None or r.seed == seed}
        for name, one in self._predictions(split, data_dir, trust, run_ids):
            if (key := (one.record.problem, name)) not in boundaries:
                boundaries[key] = _boundary(one)
        if not boundaries:
            of_seed = "" if seed is None else f" and the seed {seed}"
            raise StoreError(f"{_NO_WEIGHTS}{of_seed}.")
        return boundaries

    def plot_confusion(
        self,
        optimizer: str | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
        *,
        split: str = "test",
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Axes:
        """Draw the confusion matrix of one optimizer, summed over seeds, and return the axes.

        Args:
            optimizer: name of an optimizer, with its setting if it has several, as in
                ``adam lr=0.01``; needed if the study compares several.
            axes: matplotlib axes to draw on; by default those of a new figure.
            problem: name of the problem; needed if the study has several.
            split: see `confusion`.
            data_dir: see `confusion`.
            trust: see `confusion`.

        Raises:
            StoreError: as `confusion`, or there is no such optimizer or problem.
        """
        runs = self._contender(optimizer, problem).records
        (table,) = self._confusions(split, data_dir, trust, {run.run_id for run in runs}).values()
        return plot(draw_confusion, *table, axes=axes)

    def plot_boundary(
        self,
        optimizer: str | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
        *,
        split: str = "test",
        seed: int | None = None,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Axes:
        """Draw the decision boundary of one optimizer and return the axes.

        Args:
            optimizer: see `plot_confusion`.
            axes: see `plot_confusion`.
            problem: see `plot_confusion`.
            split: see `boundary_figure`.
            seed: see `boundary_figure`.
            data_dir: see `boundary_figure`.
            trust: see `boundary_figure`.

        Raises:
            StoreError: as `boundary_figure`, or there is no such optimizer or problem.
        """
        runs = self._contender(optimizer, problem).records
        (boundary,) = self._boundaries(split, seed, data_dir, trust, runs).values()
        return plot(draw_boundary, boundary, axes=axes)

    def _run_ids(self, problem: str | None) -> set[str] | None:
        """Return the runs of a problem; None for those of all.

        Raises:
            StoreError: there is no such problem.
        """
        if problem is None:
            return None
        return {record.run_id for record in one_problem(self.view(), problem).records}

    def _contender(self, optimizer: str | None, problem: str | None) -> Contender:
        """Return what a name stands for, or the only contender.

        Raises:
            StoreError: there is no such problem or optimizer, or several and none is named.
        """
        one = one_problem(self.view(), problem)
        if optimizer is None and len(one.contenders) == 1:
            return one.contenders[0]
        if optimizer is None:
            names = suggest("", [entry.name for entry in one.contenders])
            raise StoreError(f"optimizer: the study compares several; name one. {names}")
        return check_contender(one, optimizer)

    def _confusions(
        self,
        split: str,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        run_ids: Container[str] | None = None,
    ) -> dict[tuple[str, str], tuple[NDArray[np.int64], tuple[str, ...]]]:
        """Return counts by true and predicted class, and the names of the classes."""
        tables: dict[tuple[str, str], tuple[NDArray[np.int64], tuple[str, ...]]] = {}
        for name, one in self._predictions(split, data_dir, trust, run_ids):
            size = len(one.names)
            places = one.targets * size + np.minimum(one.predicted, size - 1)
            table = np.bincount(places, minlength=size * size).reshape(size, size)
            before = tables.get((one.record.problem, name))
            whole = table if before is None else before[0] + table
            tables[one.record.problem, name] = whole, one.names
        if not tables:
            raise StoreError(f"{_NO_WEIGHTS}.")
        return tables

    def _predictions(
        self,
        split: str,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        run_ids: Container[str] | None,
    ) -> Iterator[tuple[str, Predictions]]:
        """Yield the predictions of some runs, by default of every contender, with its name."""
        from optrial.saved import saved_predictions  # loads torch  # noqa: PLC0415

        if self.parts:
            records = {record.run_id: record for record in self.records}
            for part in self.parts:
                for name, one in part._predictions(split, data_dir, trust, run_ids):
                    yield name, one._replace(record=records[one.record.run_id])
            return
        contenders = [c for problem in self.view().problems for c in problem.contenders]
        names = {
            record.run_id: c.name
            for c in contenders
            for record in c.records
            if run_ids is None or record.run_id in run_ids
        }
        if run_ids is not None and not names:
            return  # these runs belong to other parts
        folder = None if data_dir is None else Path(data_dir)
        for one in saved_predictions(
            self.store, self.folder, names, split, as_trust(trust), data_dir=folder
        ):
            yield names[one.record.run_id], one

    def model(self, run_id: str, trust: Iterable[str | Path] | Trust = ()) -> nn.Module:
        """Return the module of a run with its saved weights, on the CPU, in evaluation mode.

        Args:
            run_id: id of a run.
            trust: see `Study.from_file`; the code of the run is imported.

        Raises:
            StoreError: there is no such run, or its weights were not saved.
        """
        from optrial.saved import saved_model  # loads torch  # noqa: PLC0415

        for part in self.parts:
            if run_id in {record.run_id for record in part.records}:
                return part.model(run_id, trust)
        return saved_model(self.store, self.folder, run_id, as_trust(trust))

    def evaluate(
        self,
        split: str = "test",
        *,
        data_dir: str | Path | None = None,
        device: str = "auto",
        trust: Iterable[str | Path] | Trust = (),
    ) -> list[Evaluated]:
        """Evaluate the saved weights of every finished run again.

        Each run is evaluated in its stack, so that the values equal the recorded ones bit for bit
        if the split was evaluated during training.

        Args:
            split: "train", "validation" or "test".
            data_dir: folder of downloaded datasets.
            device: "auto", "cpu" or "cuda".
            trust: see `Study.from_file`; the code of the study is imported.

        Returns:
            One entry per run and metric, with the attributes ``record``, ``metric``, ``value``,
            ``recorded`` (None if the split was not evaluated at that step) and ``differs``.

        Raises:
            StoreError: no weights were saved, the code or the data of a run has changed, or user
                code raises an error.
            DataError: the dataset has no such split.
        """
        from optrial.saved import evaluate_saved  # loads torch  # noqa: PLC0415

        if self.parts:
            records = {record.run_id: record for record in self.records}
            return [
                replace(evaluated, record=records[evaluated.record.run_id])
                for part in self.parts
                for evaluated in part.evaluate(split, data_dir=data_dir, device=device, trust=trust)
            ]
        folder = None if data_dir is None else Path(data_dir)
        return evaluate_saved(
            self.store, self.folder, split, as_trust(trust), data_dir=folder, device=device
        )


def _check_plane(record: Record, *, several: bool) -> None:
    """Refuse a run whose inputs are not two numbers.

    Args:
        record: the run.
        several: whether there are other problems.

    Raises:
        StoreError: they are not.
    """
    shape = record.facts.input_shape
    if shape is not None and tuple(shape) != (2,):
        text = " x ".join(map(str, shape))
        raise StoreError(
            f"a decision boundary needs inputs of two numbers; those of {record.problem} have "
            f"{text}. "
            + "Name a problem that has such inputs (--problem). " * several
            + "For classes, optrial confusion takes any inputs."
        )


def _by_label(values: Mapping[tuple[str, str], Item]) -> dict[str, Item]:
    """Return values by the name of the contender, with that of the problem if there are several."""
    several = len({problem for problem, _ in values}) > 1
    return {
        f"{name} ({problem})" if several else name: value
        for (problem, name), value in values.items()
    }


def _boundary(one: Predictions) -> Boundary:
    """Return the predictions of a run on a grid around its samples."""
    low, high = one.inputs.min(axis=0), one.inputs.max(axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    x, y = (np.linspace(*ends, GRID) for ends in zip(low - margin, high + margin, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    classes = one.predict(points.astype(np.float32)).reshape(GRID, GRID)
    return Boundary(x, y, classes, one.inputs, one.targets, one.predicted)
