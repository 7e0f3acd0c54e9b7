"""Headers of arrays in archives, checked before the arrays are allocated."""

from __future__ import annotations

from zipfile import ZipFile

import numpy as np

__all__ = ["check_header"]


def check_header(archive: ZipFile, member: str) -> None:
    """Refuse an array whose header promises another size than the archive holds.

    Args:
        archive: a file in the format of `numpy.savez`.
        member: name of the array's file in it, with its suffix.

    Raises:
        ValueError: the size differs, or the array holds Python objects.
    """
    with archive.open(member) as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if major > 1:
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        promised = int(np.prod(shape, dtype=object)) * dtype.itemsize
        size = archive.getinfo(member).file_size - file.tell()
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if promised != size:
        raise ValueError(f"{member} holds {size} bytes where its header says {promised}")
