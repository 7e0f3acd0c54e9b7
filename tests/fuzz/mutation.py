"""Mutations of bytes, texts and trees of plain values."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

__all__ = ["changed_bytes", "changed_text", "changed_tree"]

_NUMBERS = (
    *("0", "-1", "1", "-0", "2", "255", "256", "65536", "2147483648", "4294967296", "1e9"),
    *("9223372036854775808", "1e308", "1e-320", "1e400", "-1e400", "nan", ".nan", ".inf", "inf"),
    *("0.1", "0x10", "0o7", "1_000", "1,5", "٣", "²", "1" * 400, "9" * 5000, "00", "1.", ".5"),
)
_TEXTS = (
    *("", " ", "\t", "\n", "\r\n", "\x00", "\x1b[31m", "\ufeff", "\u202e", "é", "漢", "👩‍💻", "²"),
    *("~", "null", "true", "no", "on", "2024-13-45", "2024-01-01", "12:30:00", "=", "<<", "*a"),
    *("&a ", "!!int x", "!!set {a}", "!!binary aa", "%", "@", "`", "'", '"', "\\", "{", "}", "[]"),
    *(
        "[",
        "]",
        ":",
        ": ",
        "- ",
        ",",
        "#",
        "|",
        ">",
        "?",
        "--- ",
        "...",
        "{}",
        "../",
        "/",
        "a" * 999,
    ),
    *("x:y", "optimizers[0]", "tests.user_models:nothing", "log", "lin", "full", "adam", "moons"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 10, 0.0, 0.5, -0.5, 1e-9, 1e9, 10**9, 10**7, 2**31, 2**63),
    *(10**18, 10**299, float("inf"), float("nan"), -float("inf"), 5e-324, "", "x", "²", "1", "é"),
    *(
        "\x00",
        "\ud800",
        "a" * 1000,
        "x:y",
        "full",
        "adam",
        "mlp",
        "moons",
        "none.csv",
        "/",
        "~",
        ".",
    ),
    *(
        [],
        {},
        [[]],
        [{}],
        [None],
        [0],
        [1, 1],
        [1, 2, 3],
        ["a"],
        [[1, 2], [3]],
        {"x": 1},
        {"": None},
    ),
    *(
        {"log": [0.1, 1]},
        {"log": [1, 1]},
        {"lin": [0, 1], "points": 3},
        {"log": [1e-3, 1], "points": 9},
    ),
    *(
        {"log": [1, 10], "points": 10**7},
        {"name": "adam"},
        {"kind": "mlp"},
        {"steps": 1},
        {"epochs": 1},
    ),
    *(list(range(50)), [1] * 50, {"factory": "x:y"}, {"function": "beale"}, [[[[[[[[1]]]]]]]]),
)

Bytes = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _flip(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start = random.randrange(len(content) + 1)
    count = random.choice((1, 2, 4, 8, 64))
    filler = random.choice((b"\x00", b"\xff", b"\x7f", random.randbytes(1))) * count
    return content[:start] + filler + content[start + count :]


def _cut(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return random.choice((content[:start], content[start:], content[:start] + content[end:]))


def _repeat(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start = random.randrange(len(content) + 1)
    end = start + random.choice((1, 4, 16, 100))
    return content[:end] + content[start:end] * random.choice((1, 2, 10)) + content[end:]


def _insert(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + random.randbytes(random.choice((1, 3, 30))) + content[start:]


def _spliced(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


_BYTES: tuple[Bytes, ...] = (_flip, _overwrite, _cut, _repeat, _insert, _spliced)


def changed_bytes(random: Random, originals: Sequence[bytes]) -> bytes:
    """Return one of the originals with one to three changes."""
    content = random.choice(originals)
    for _ in range(random.choice((1, 1, 2, 3))):
        content = random.choice(_BYTES)(random, content, originals)
    return content


def changed_text(random: Random, originals: Sequence[str], words: Sequence[str] = ()) -> str:
    """Return one of the originals with one to three changes of words, numbers and characters."""
    text = random.choice(originals)
    for _ in range(random.choice((1, 1, 2, 3))):
        text = _changed_once(random, text, originals, (*_TEXTS, *words))
    return text


def _changed_once(random: Random, text: str, originals: Sequence[str], words: Sequence[str]) -> str:
    place = random.randrange(len(text) + 1)
    match random.randrange(7):
        case 0:
            spans = [match.span() for match in re.finditer(r"\d[\d.e-]*", text)] or [(place, place)]
            start, end = random.choice(spans)
            return text[:start] + random.choice(_NUMBERS) + text[end:]
        case 1:
            spans = [match.span() for match in re.finditer(r"\w+", text)] or [(place, place)]
            start, end = random.choice(spans)
            return text[:start] + random.choice(words) + text[end:]
        case 2:
            return text[:place] + random.choice(words) + text[place:]
        case 3:
            return text[:place] + text[place + random.choice((1, 2, 10)) :]
        case 4:
            end = place + random.choice((1, 5, 20))
            return text[:end] + text[place:end] * random.choice((1, 3, 60)) + text[end:]
        case 5:
            other = random.choice(originals)
            return text[:place] + other[random.randrange(len(other) + 1) :]
    return (
        text[:place]
        + chr(random.choice((random.randrange(128), random.randrange(0x3000))))
        + (text[place + 1 :])
    )


def changed_tree(random: Random, originals: Sequence[Any], keys: Sequence[str] = ()) -> Any:
    """Return a copy of one of the trees with one to three of its values or keys changed."""
    tree = copy.deepcopy(random.choice(originals))
    for _ in range(random.choice((1, 1, 1, 1, 2, 4))):
        parents = list(_parents(tree))
        if not parents:
            return tree
        parent = random.choice(parents)
        _change_value(random, parent, keys, random.choice(parents))
    return tree


def _parents(tree: Any) -> list[Any]:
    """Return every mapping and list of a tree that is not empty."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    below = [parent for value in inner for parent in _parents(value)]
    return [tree, *below] if inner else below


def _change_value(random: Random, parent: Any, keys: Sequence[str], other: Any) -> None:
    place = random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    value = copy.deepcopy(random.choice(_VALUES))
    match random.randrange(6):
        case 0:
            del parent[place]
        case 1 if isinstance(parent, dict):
            parent[random.choice((*keys, *_TEXTS))] = parent.pop(place)
        case 2 if isinstance(parent, dict):
            parent[random.choice((*keys, *_TEXTS))] = value
        case 3:
            parent[place] = [copy.deepcopy(parent[place])] * random.choice((1, 2, 9))
        case 4:
            inner = random.choice(list(other.values()) if isinstance(other, dict) else other)
            parent[place] = copy.deepcopy(inner)
        case _:
            parent[place] = value
