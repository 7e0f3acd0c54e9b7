"""The batches of the reference engine, from ordinary `DataLoader`s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from optrial.engine.backends.solo import Batch
from optrial.engine.backends.tensor_splits import TensorSplit
from optrial.engine.options import batch_order
from optrial.spec import RunSpec

__all__ = ["ScriptBatches", "evaluation_batches", "keyed_batches"]


def keyed_batches(spec: RunSpec, split: TensorSplit, first: int) -> Iterator[Batch]:
    """Yield training batches, from a number on, in the order that the seed determines."""
    return iter(
        DataLoader(
            split,
            batch_sampler=batch_order(spec, *split.batched).batches(first),  # type: ignore[arg-type]
            collate_fn=_as_fetched,
            generator=torch.Generator(),  # keeps its base seed from the global generator
        )
    )


class ScriptBatches:
    """Training batches of an ordinary script, shuffled by the global generator of PyTorch."""

    def __init__(self, spec: RunSpec, split: TensorSplit) -> None:
        self._spec = spec
        self._split = split
        self._at_epoch = torch.get_rng_state()
        self._resumed: torch.Tensor | None = None

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield the batches with the numbers `first`, `first` + 1, ..."""
        spec = self._spec
        loader = DataLoader(
            self._split,
            batch_size=spec.batch_size,
            shuffle=spec.shuffle,
            drop_last=spec.drop_last,
            collate_fn=_as_fetched,
        )
        skipped = (first - 1) % (spec.steps_per_epoch * spec.accumulate)
        if self._resumed is not None:
            # Shuffle the interrupted epoch as before, then continue from where it stopped.
            torch.set_rng_state(self._at_epoch if skipped else self._resumed)
        while True:
            self._at_epoch = torch.get_rng_state()
            epoch = iter(loader)
            if skipped:
                for _ in islice(epoch, skipped):
                    pass
                skipped = 0
                assert self._resumed is not None
                torch.set_rng_state(self._resumed)
            yield from epoch

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the states of the global generator: now, and when the epoch began."""
        return {"rng.now": torch.get_rng_state().numpy(), "rng.epoch": self._at_epoch.numpy()}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        self._resumed = torch.from_numpy(state["rng.now"])
        self._at_epoch = torch.from_numpy(state["rng.epoch"])


def evaluation_batches(split: TensorSplit, batch_size: int) -> Iterator[tuple[slice, Batch]]:
    """Yield the batches in which a script evaluates a split, with their places in it."""
    start = 0
    for batch in DataLoader(split, batch_size=batch_size, collate_fn=_as_fetched):
        yield slice(start, start + len(batch.targets)), batch
        start += len(batch.targets)


def _as_fetched(batch: Any) -> Any:
    """Leave a batch as `TensorSplit` gathered it."""
    return batch
