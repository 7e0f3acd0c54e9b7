"""Batch order: laws for every size, and how it draws."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optrial.data import BatchOrder
from optrial.errors import DataError
from tests.tolerance import SAMPLING_SIGMAS

EPOCH_OF_SEED_0 = [2, 3, 6, 5, 1, 7, 0, 4, 8, 9]
DRAWN_BY_SEED_0 = [7, 7, 0, 0, 0, 9, 4, 3, 3, 4]


@st.composite
def orders(draw: st.DrawFn, sampling: str | None = None) -> BatchOrder:
    size = draw(st.integers(1, 60))
    kind = sampling or draw(st.sampled_from(["epoch", "with_replacement"]))
    return BatchOrder(
        size=size,
        batch_size=draw(st.integers(1, size)),
        seed=draw(st.integers(0, 2**64)),
        sampling=kind,
        shuffle=kind != "epoch" or draw(st.booleans()),
        drop_last=draw(st.booleans()),
    )


def epoch_of(order: BatchOrder, epoch: int) -> list[np.ndarray]:
    first = 1 + epoch * order.steps_per_epoch
    return list(islice(order.batches(first), order.steps_per_epoch))


@given(orders("epoch"), st.integers(0, 5))
def test_an_epoch_is_a_permutation(order: BatchOrder, epoch: int) -> None:
    batches = epoch_of(order, epoch)
    seen = np.concatenate(batches)
    assert seen.dtype == np.int64
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(range(order.size))
    rest = order.size % order.batch_size
    if order.drop_last:
        assert len(seen) == order.size - rest
        assert {len(batch) for batch in batches} == {order.batch_size}
    else:
        assert len(seen) == order.size
        assert {len(batch) for batch in batches[:-1]} <= {order.batch_size}
        assert len(batches[-1]) == (rest or order.batch_size)


@given(orders(), st.integers(1, 200))
def test_any_step_is_reached_directly(order: BatchOrder, step: int) -> None:
    sequential = list(islice(order.batches(), step + 3))
    assert np.array_equal(order.indices(step), sequential[step - 1])
    resumed = list(islice(order.batches(step), 4))
    assert [b.tolist() for b in resumed] == [b.tolist() for b in sequential[step - 1 :]]


@given(orders("epoch"), st.integers(1, 60), st.integers(0, 3))
def test_the_permutation_does_not_depend_on_the_batch_size(
    order: BatchOrder, other_size: int, epoch: int
) -> None:
    sizes = (order.batch_size, min(other_size, order.size))
    first, second = (
        np.concatenate(epoch_of(BatchOrder(order.size, b, order.seed, "epoch"), epoch))
        for b in sizes
    )
    assert np.array_equal(first, second)


@given(orders("with_replacement"), st.integers(1, 50))
def test_draws_with_replacement_are_full_and_in_range(order: BatchOrder, step: int) -> None:
    drawn = order.indices(step)
    assert drawn.dtype == np.int64
    assert drawn.shape == (order.batch_size,)
    assert drawn.min() >= 0
    assert drawn.max() < order.size
    epoch = BatchOrder(order.size, order.batch_size, order.seed, "epoch", drop_last=order.drop_last)
    assert order.steps_per_epoch == epoch.steps_per_epoch


def test_unshuffled_order_is_that_of_the_training_set() -> None:
    order = BatchOrder(7, 3, seed=5, sampling="epoch", shuffle=False)
    expected = [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    assert [batch.tolist() for batch in islice(order.batches(), 4)] == expected


def test_full_batch_has_one_step_an_epoch() -> None:
    order = BatchOrder(5, 5, seed=0, sampling="epoch")
    assert order.steps_per_epoch == 1
    assert sorted(order.indices(17).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sampling", ["epoch", "with_replacement"])
def test_seeds_and_epochs_differ(sampling: str) -> None:
    epochs = {
        tuple(np.concatenate(epoch_of(BatchOrder(50, 10, seed, sampling), epoch)))
        for seed in range(20)
        for epoch in range(5)
    }
    assert len(epochs) == 100


def test_draws_with_replacement_are_uniform_and_repeat() -> None:
    size, steps, batch = 10, 2_000, 10
    order = BatchOrder(size, batch, seed=3, sampling="with_replacement")
    drawn = np.stack(list(islice(order.batches(), steps)))
    counts = np.bincount(drawn.ravel(), minlength=size)
    expected = steps * batch / size
    error = np.sqrt(expected * (1 - 1 / size))
    assert np.abs(counts - expected).max() < SAMPLING_SIGMAS * error
    distinct = np.mean([len(set(row)) for row in drawn])
    ideal = size * (1 - (1 - 1 / size) ** batch)  # 6.5 of 10
    assert abs(distinct - ideal) < SAMPLING_SIGMAS * size / np.sqrt(steps)


def test_first_positions_of_permutations_are_uniform() -> None:
    size, epochs = 6, 3_000
    order = BatchOrder(size, size, seed=1, sampling="epoch")
    drawn = np.stack(list(islice(order.batches(), epochs)))
    expected, error = epochs / size, np.sqrt(epochs / size * (1 - 1 / size))
    for position in range(size):
        counts = np.bincount(drawn[:, position], minlength=size)
        assert np.abs(counts - expected).max() < SAMPLING_SIGMAS * error


def test_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Fixed numbers: were they to change, studies already in a store could not be resumed."""
    epoch = BatchOrder(10, 10, seed=0, sampling="epoch")
    drawn = BatchOrder(10, 10, seed=0, sampling="with_replacement")
    assert epoch.indices(1).tolist() == EPOCH_OF_SEED_0
    assert drawn.indices(1).tolist() == DRAWN_BY_SEED_0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 11}, "batch_size 11 does not fit 10 training samples; use 1 to 10"),
        ({"batch_size": 0}, "batch_size 0 does not fit"),
        ({"size": 0}, "does not fit 0"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"sampling": "with_replacement", "shuffle": False}, "shuffle=False contradicts"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        BatchOrder(**{"size": 10, "batch_size": 3, "seed": 0, "sampling": "epoch", **changes})


def test_steps_start_at_one() -> None:
    order = BatchOrder(10, 3, seed=0, sampling="epoch")
    with pytest.raises(DataError, match="step 0 does not exist"):
        order.indices(0)
    with pytest.raises(DataError, match="step 0 does not exist"):
        order.batches(0)
