"""Order of training batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optrial.errors import DataError

_STREAM = 0xBA7C4  # separates these draws from others under the same seed


@dataclass(frozen=True)
class BatchOrder:
    """The batches of a run, as a pure function of seed and step.

    An epoch is a permutation of the training set, cut into batches; the permutation depends on the
    seed and the epoch, not on the batch size. Sampling with replacement draws every batch
    independently and always full; its epochs have the same number of steps.

    Windows of a text begin at any of `size * stride` places. An epoch cuts the text at every
    `stride`-th place, from a first one that depends on the seed and the epoch.

    Attributes:
        size: samples of an epoch, from 1.
        batch_size: samples per step, 1 to size.
        seed: from 0; runs with equal seeds see equal batches.
        sampling: "epoch" cuts permutations; "with_replacement" draws from the whole training set.
        shuffle: permute each epoch; False keeps the order of the training set.
        drop_last: leave out the last batch of an epoch if it is not full.
        stride: places at which a sample may begin, for each sample of an epoch; see
            `optrial.data.Batched`.

    Raises:
        DataError: a value is out of its range, or sampling with replacement without shuffling.
    """

    size: int
    batch_size: int
    seed: int
    sampling: Literal["epoch", "with_replacement"] = "epoch"
    shuffle: bool = True
    drop_last: bool = False
    stride: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.size:
            raise DataError(
                f"batch_size {self.batch_size} does not fit {self.size} training samples; use 1 "
                f"to {self.size}"
            )
        if self.seed < 0:
            raise DataError(f"seed {self.seed} is negative; use 0 or more")
        if self.sampling == "with_replacement" and not self.shuffle:
            raise DataError(
                "shuffle=False contradicts sampling='with_replacement', which draws at random; "
                "use sampling='epoch'"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch; the last may be short unless `drop_last`."""
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the samples of step 1, 2, ..., (batch,): positions in the training split, or
        places in a text at which they begin.
        """
        return next(self.batches(step))

    def batches(self, first_step: int = 1) -> Iterator[NDArray[np.int64]]:
        """Yield the samples of `first_step` and every later step, without end."""
        if first_step < 1:
            raise DataError(f"step {first_step} does not exist; steps are 1, 2, ...")
        return self._drawn(first_step) if self.sampling != "epoch" else self._cut(first_step)

    def _drawn(self, first_step: int) -> Iterator[NDArray[np.int64]]:
        for step in count(first_step):
            # The remainder favours small indices by less than size / 2^64, which is negligible.
            places = np.uint64(self.size * self.stride)
            yield (self._raw(step, self.batch_size) % places).astype(np.int64)

    def _cut(self, first_step: int) -> Iterator[NDArray[np.int64]]:
        epoch, skipped = divmod(first_step - 1, self.steps_per_epoch)
        for current in count(epoch):
            order = self._epoch_order(current)
            for batch in range(skipped, self.steps_per_epoch):
                yield order[batch * self.batch_size : (batch + 1) * self.batch_size]
            skipped = 0

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.size) * self.stride
        raw = self._raw(epoch, self.size + 1)
        order = np.argsort(raw[:-1], kind="stable")
        return order if self.stride == 1 else order * self.stride + int(raw[-1]) % self.stride

    def _raw(self, position: int, length: int) -> NDArray[np.uint64]:
        """Return 64-bit draws keyed by the seed and a position: an epoch or a step."""
        # NumPy guarantees raw output across versions, but not permutations.
        sequence = np.random.SeedSequence([self.seed, _STREAM, position])
        return np.random.Philox(sequence).random_raw(length)
