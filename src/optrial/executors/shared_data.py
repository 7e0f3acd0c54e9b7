"""The arrays of datasets in a file without a name, which any number of processes map.

The file is in the folder of temporary files. It has no name, so that it vanishes with the last
process that uses it, also if all of them are killed. A process that writes to an array changes its
own copy of the page alone.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from optrial.data import Dataset, Split
from optrial.errors import EngineError

__all__ = ["DataPlan", "SharedData"]

_ALIGNMENT = 4096


@dataclass(frozen=True)
class _Place:
    """Place of an array in the file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DataPlan:
    """Datasets without their arrays, and where in the file these are.

    Attributes:
        datasets: the datasets; all splits are empty.
        places: places of inputs, targets and perhaps the text, by hash of the dataset and by
            split.
        size: number of bytes of the file.
    """

    datasets: Sequence[Dataset]
    places: Mapping[tuple[str, str], Sequence[_Place]]
    size: int

    def mapped(self, descriptor: int) -> list[Dataset]:
        """Return the datasets, with arrays in the memory that the processes share.

        Args:
            descriptor: descriptor of the file.
        """
        memory = mmap.mmap(descriptor, self.size, access=mmap.ACCESS_COPY)
        splits: dict[str, dict[str, Split]] = {}
        for (sha256, name), places in self.places.items():
            arrays = [
                np.ndarray(place.shape, place.dtype, buffer=memory, offset=place.offset)
                for place in places
            ]
            splits.setdefault(sha256, {})[name] = Split(*arrays)
        return [replace(dataset, splits=splits[dataset.sha256]) for dataset in self.datasets]


class SharedData:
    """Writes datasets to a file without a name. A context that closes it.

    Attributes:
        file: the file.
        plan: what is in it.

    Raises:
        EngineError: the folder of temporary files has no room.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="optrial-")  # noqa: SIM115
        places = {}
        try:
            for dataset in datasets:
                for name, split in dataset.splits.items():
                    text = () if split.text is None else (split.text,)
                    arrays: Sequence[NDArray[Any]] = (split.inputs, split.targets, *text)
                    places[dataset.sha256, name] = list(map(self._write, arrays))
            self.file.flush()
            size = self.file.seek(0, 2)
        except OSError as error:
            self.file.close()
            raise EngineError(
                f"the data cannot be shared with worker processes ({error}); point TMPDIR to a "
                "folder with more room, or use executor: local."
            ) from error
        self.plan = DataPlan([replace(d, splits={}) for d in datasets], places, size)

    def _write(self, array: NDArray[Any]) -> _Place:
        offset = -(-self.file.tell() // _ALIGNMENT) * _ALIGNMENT
        self.file.seek(offset)
        self.file.write(np.ascontiguousarray(array).data)
        return _Place(offset, array.dtype.str, array.shape)

    def close(self) -> None:
        """Close the file; processes that map it keep it."""
        self.file.close()
