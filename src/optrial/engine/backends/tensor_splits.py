"""The splits of a dataset as tensors on a device, and tensors as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from optrial.data import Dataset as Arrays
from optrial.engine.backends.solo import Batch
from optrial.engine.options import storage_dtype

__all__ = ["TensorSplit", "as_array", "tensor_splits"]


class TensorSplit(Dataset[Batch]):
    """A split on a device; whole batches are gathered by one indexing operation."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return Batch(index, self.inputs[index], self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather a batch; `DataLoader` calls this instead of `__getitem__` per sample."""
        rows = torch.as_tensor(indices)
        return Batch(indices, self.inputs[rows], self.targets[rows])


def tensor_splits(dataset: Arrays, precision: str, device: str) -> dict[str, TensorSplit]:
    """Return every split on a device: floating-point numbers in `precision`, labels as int64."""
    dtype = storage_dtype(precision)
    return {
        name: TensorSplit(
            torch.from_numpy(split.inputs).to(device, dtype),
            torch.from_numpy(split.targets).to(
                device, dtype if split.targets.dtype.kind == "f" else torch.int64
            ),
        )
        for name, split in dataset.splits.items()
    }


def as_array(tensor: torch.Tensor, *, shared: bool = False) -> NDArray[Any]:
    """Return a tensor as an array, a copy unless its memory may be `shared`."""
    array: NDArray[Any] = tensor.detach().cpu().resolve_conj().numpy()
    return array if shared else array.copy()
