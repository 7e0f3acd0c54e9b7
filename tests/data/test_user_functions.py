"""Dataset functions: what they are given, and what every bad one is answered with."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.data import load_dataset
from optrial.errors import DataError

MODULE_NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into the current folder; gives its name, new each time."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        name = f"user_data_{next(MODULE_NUMBERS)}"
        Path(f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return name

    return write


LOAD = """
import numpy, torch
def load(size=6, kind="numpy", **others):
    x, y = numpy.arange(2.0 * size).reshape(size, 2), numpy.arange(size) % 2
    if kind == "torch":
        x, y = torch.from_numpy(x), torch.from_numpy(y)
    return {"test": (x[:2], y[:2]), "train": [x, y]}
class Sets:
    load = staticmethod(load)
"""


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_function_gets_its_arguments(kind: str, module: Callable[[str], str]) -> None:
    path_before = list(sys.path)
    loaded = load_dataset(f"{module(LOAD)}:load", {"size": 8, "kind": kind, "scale": "unit"})
    assert loaded.sizes == {"train": 8, "test": 2}
    expected = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert np.array_equal(loaded.splits["train"].inputs * 14, expected - np.float32([0, 1]))
    assert sys.path == path_before


def test_function_of_a_class(module: Callable[[str], str]) -> None:
    assert load_dataset(f"{module(LOAD)}:Sets.load", {}).sizes == {"train": 6, "test": 2}


def test_arrays_of_the_function_are_left_alone(module: Callable[[str], str]) -> None:
    source = """
import numpy
x, y = numpy.arange(12, dtype=numpy.float32).reshape(6, 2), numpy.arange(6) % 2
def load():
    return {"train": (x, y)}
"""
    name = module(source)
    load_dataset(f"{name}:load", {"scale": "standardize"})
    assert np.array_equal(sys.modules[name].x, np.arange(12).reshape(6, 2))


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("import no_such_module", {}, "cannot be imported .*no_such_module"),
        ("def load(:", {}, "cannot be imported .SyntaxError"),
        ("1 / 0", {}, "cannot be imported .ZeroDivisionError"),
        ("def other(): ...", {}, "cannot be imported .AttributeError"),
        ("load = 3", {}, "cannot be called"),
        ("def load(): ...", {"size": 3}, "cannot be called: got an unexpected keyword .*'size'"),
        ("def load(size): ...", {}, "cannot be called: missing a required argument: 'size'"),
        ("def load(): raise KeyError('lost')", {}, "raised KeyError: 'lost'"),
        ("def load(): return 3", {}, "gives a int; it must give"),
        ("def load(): return {}", {}, "gives the splits none; it must give"),
        ("def load(): return {'test': (1, 2)}", {}, "gives the splits test;"),
        ("def load(): return {'train': (1, 2), 'tets': (1, 2)}", {}, "the splits train, tets;"),
        ("def load(): return {'train': (1, 2, 3)}", {}, "gives no pair for train;"),
        ("def load(): return {'train': (1, 2)}", {}, r"train inputs have shape \(\)"),
        (
            "import torch\n"
            "def load(): return {'train': (torch.ones(3, 2, requires_grad=True), [0, 1, 0])}",
            {},
            "train cannot be read as an array",
        ),
        ("def load(): return {'train': ([[1], [2, 3]], [0, 1])}", {}, "cannot be read as an array"),
    ],
)
def test_bad_function_is_refused(
    source: str, arguments: dict[str, Any], message: str, module: Callable[[str], str]
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(f"{module(source)}:load", arguments)


def test_missing_module_is_refused() -> None:
    with pytest.raises(DataError, match="No module named 'no_such_package'"):
        load_dataset("no_such_package.data:load", {})


def test_keys_of_every_dataset_are_not_passed_on(module: Callable[[str], str]) -> None:
    name = module("def load(split='train'): return [[0.0], [1.0]] * 10, [0, 1] * 10")
    with pytest.raises(DataError, match="has a parameter 'split', which is a key of every dataset"):
        load_dataset(f"{name}:load", {"split": "chronological"})
    assert load_dataset(f"{name}:load", {}).sizes == {"train": 16, "test": 4}


def test_a_number_is_no_sample(module: Callable[[str], str]) -> None:
    name = module("def load(): return {'train': (1, 2)}")
    with pytest.raises(DataError, match="1 training sample, too few"):
        load_dataset(f"{name}:load", {}, validation=True)
