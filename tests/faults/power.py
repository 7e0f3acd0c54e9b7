"""Power cuts: what a disk may hold of the operations that a process made before.

Data that was synced is there. Of each later write, any part may be, in any order. Names of files
change in order, up to some point after the last sync.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.shim import Operation

ENTRY = struct.Struct("=iiqq")  # `struct entry` of shim.c
SECTOR = 512


@dataclass
class Inode:
    """A file: its synced bytes, and the writes and cuts since."""

    synced: bytearray = field(default_factory=bytearray)
    later: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self, data: bytes) -> None:
        """Keep what the whole file holds now."""
        self.synced[:] = data
        self.later.clear()

    def after_the_cut(self, chance: random.Random) -> bytes:
        """Return what the disk holds."""
        data = bytearray(self.synced)
        kept = chance.choice([0.0, 0.5, 0.9, 1.0])
        for offset, written in self.later:
            if written is None:
                if chance.random() < kept:
                    _apply(data, offset, None)
                continue
            for start in range(0, len(written), SECTOR):
                if chance.random() < kept:
                    _apply(data, offset + start, written[start : start + SECTOR])
        return bytes(data)


def _apply(data: bytearray, offset: int, written: bytes | None) -> None:
    """Write bytes at an offset, or set the size to it."""
    if written is None:
        data[offset:] = bytes(max(0, offset - len(data)))
        return
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(written)] = written


def _entries(journal: Path) -> Iterator[tuple[Operation, Path, int, bytes]]:
    data, place = journal.read_bytes(), 0
    while place < len(data):
        kind, name, offset, length = ENTRY.unpack_from(data, place)
        place += ENTRY.size
        path = Path(data[place : place + name].decode())
        place += name
        yield Operation(kind), path, offset, data[place : place + length]
        place += length


def cut(folder: Path, journal: Path, chance: random.Random) -> None:
    """Make `folder`, empty when the journal began, what a disk may hold after a power cut."""
    names: dict[Path, Inode] = {}
    states = [dict(names)]
    for kind, path, offset, data in _entries(journal):
        if not path.is_relative_to(folder):
            continue
        changed = True
        if kind is Operation.OPEN:
            changed = path not in names
            file = names.setdefault(path, Inode())
            file.later += [(0, None)] * bool(offset)
        elif kind is Operation.RENAME:
            names[Path(data.decode())] = names.pop(path)
        elif kind is Operation.UNLINK:
            names.pop(path, None)
        else:
            changed = False
        if kind is Operation.WRITE:
            names[path].later.append((offset, data))
        elif kind is Operation.TRUNCATE:
            names[path].later.append((offset, None))
        elif kind is Operation.SYNC:
            if path in names:
                names[path].sync(data)
            states = [dict(names)]
        if changed:
            states.append(dict(names))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path, file in chance.choice(states).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.after_the_cut(chance))
