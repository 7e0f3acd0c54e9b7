"""The splits of a dataset as tensors on a device, and tensors as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from optrial.data import Batched
from optrial.data import Dataset as Arrays
from optrial.engine.backends.solo import Batch
from optrial.engine.options import storage_dtype

__all__ = ["TensorSplit", "as_array", "tensor_splits"]


class TensorSplit(Dataset[Batch]):
    """A split on a device; whole batches are gathered by one indexing operation.

    Args:
        inputs: (samples, ...).
        targets: (samples, ...).
        text: tokens that windows are cut from, or None; see `optrial.data.Split`.
        batched: what batches are drawn from.
    """

    def __init__(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        text: torch.Tensor | None = None,
        batched: Batched | None = None,
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.text = text
        self.batched = batched or Batched(len(targets))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return Batch(index, self.inputs[index], self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather a batch; `DataLoader` calls this instead of `__getitem__` per sample."""
        return Batch(indices, *self.gather(torch.as_tensor(indices)))

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of training samples, each (*rows, ...).

        Args:
            rows: positions of samples, or places in the text at which windows begin.
        """
        if self.text is None:
            return self.inputs[rows], self.targets[rows]
        context = self.inputs.shape[1]
        windows = self.text[rows.unsqueeze(-1) + torch.arange(context + 1, device=rows.device)]
        return windows[..., :-1], windows[..., 1:]


def tensor_splits(dataset: Arrays, precision: str, device: str) -> dict[str, TensorSplit]:
    """Return every split on a device: numbers in `precision`, tokens and labels as int64."""
    dtype = storage_dtype(precision)

    def placed(values: NDArray[Any]) -> torch.Tensor:
        kind = dtype if values.dtype.kind == "f" else torch.int64
        return torch.from_numpy(values).to(device, kind)

    return {
        name: TensorSplit(
            placed(split.inputs),
            placed(split.targets),
            None if split.text is None else placed(split.text),
            split.batched,
        )
        for name, split in dataset.splits.items()
    }


def as_array(tensor: torch.Tensor, *, shared: bool = False) -> NDArray[Any]:
    """Return a tensor as an array, a copy unless its memory may be `shared`."""
    array: NDArray[Any] = tensor.detach().cpu().resolve_conj().numpy()
    return array if shared else array.copy()
