"""A fault of one line, and its planting in a copy of an optimizer."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from optrial.certifying import Finding, Kind

TORCH = Path(torch.optim.__file__).parent
HERE = Path(__file__).parents[1]
SOURCES = {
    "Adam": TORCH / "adam.py",
    "SGD": TORCH / "sgd.py",
    "RMSprop": TORCH / "rmsprop.py",
    "Lion": HERE / "plain_lion.py",
    "Muon": TORCH / "_muon.py",
    "NAdam": TORCH / "nadam.py",
    "Adagrad": TORCH / "adagrad.py",
    "Adafactor": TORCH / "_adafactor.py",
    "Rprop": TORCH / "rprop.py",
    "RAdam": TORCH / "radam.py",
    "Adamax": TORCH / "adamax.py",
    "Adadelta": TORCH / "adadelta.py",
    "ASGD": TORCH / "asgd.py",
    "Adan": HERE / "plain_others.py",
    "ADOPT": HERE / "plain_others.py",
    "Lamb": HERE / "plain_others.py",
    "AdaBelief": HERE / "plain_others.py",
    "AdEMAMix": HERE / "plain_others.py",
    "Signum": HERE / "plain_others.py",
}


class Fault(NamedTuple):
    """A line of a source that is replaced, at its first occurrence after `after`."""

    label: str
    class_name: str
    line: str
    new: str
    name: str  # of the finding
    phrase: str  # in its sentence
    after: str = ""

    def is_named(self, finding: Finding) -> bool:
        """Whether a finding, which counts against the optimizer, names the fault."""
        is_note = finding.kind is Kind.NOTE
        return not is_note and finding.name == self.name and self.phrase in finding.sentence


_numbers = itertools.count()


def planted(fault: Fault | str, folder: Path) -> tuple[str, type[torch.optim.Optimizer]]:
    """The name and the class of a copy with a fault; of a plain copy for the name of a class."""
    class_name = fault if isinstance(fault, str) else fault.class_name
    text = SOURCES[class_name].read_text(encoding="utf-8")
    text = text.replace("from .optimizer import", "from torch.optim.optimizer import")
    if isinstance(fault, Fault):
        # Several plain classes stand in one file.
        after = fault.after or (
            "" if SOURCES[class_name].parent == TORCH else f"class {class_name}"
        )
        place = text.index(after) if after else 0
        assert fault.line in text[place:], fault
        text = text[:place] + text[place:].replace(fault.line, fault.new, 1)
    name = f"planted_{next(_numbers)}"
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return f"{name}:{class_name}", getattr(imported(name, file), class_name)


def imported(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
