"""Damage to the files of a study between two commands."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

PAGE = 4096


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    size = min(chance.choice([1, 4, 100, PAGE]), len(data) - start)
    data[start : start + size] = chance.randbytes(size)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _empty(data: bytearray, chance: random.Random) -> None:
    data.clear()


def _zero_a_page(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data)) // PAGE * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


def _swap_pages(data: bytearray, chance: random.Random) -> None:
    pages = len(data) // PAGE
    if pages > 1:
        a, b = (PAGE * page for page in chance.sample(range(pages), 2))
        data[a : a + PAGE], data[b : b + PAGE] = data[b : b + PAGE], data[a : a + PAGE]


def _append(data: bytearray, chance: random.Random) -> None:
    data += chance.randbytes(chance.choice([1, 100, 2 * PAGE]))


def _replace(data: bytearray, chance: random.Random) -> None:
    data[:] = chance.choice([b"garbage " * 1000, b"\x80\x05N.", b"{}", b"SQLite format 3\0"])


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    *(_flip_bits, _flip_bits, _flip_bits, _overwrite, _overwrite),
    *(_cut, _empty, _zero_a_page, _swap_pages, _append, _replace),
]


def damage(file: Path, chance: random.Random) -> str:
    """Damage a file; return how."""
    data = bytearray(file.read_bytes())
    if not data or chance.random() < 0.05:
        file.unlink()
        return f"{file.name} deleted"
    how = chance.choice(DAMAGES)
    how(data, chance)
    file.write_bytes(data)
    return f"{file.name} {how.__name__.strip('_')}"
