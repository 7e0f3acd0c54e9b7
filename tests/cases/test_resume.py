"""Interrupted trainings of user-defined optimizers, through the store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optrial.callbacks import Callback
from optrial.engine.backends.reference import ReferenceEngine
from optrial.spec import Status
from optrial.study import Study
from tests.cases.conftest import Case
from tests.test_sweep import contents

pytest.importorskip("pytorch_optimizer")

SHORT = ["budget.steps=60", "rng=streams"]
OWN = "tests.user_optimizers"


class Interrupting(Callback):
    """Interrupts the process after a number of steps, and keeps the messages."""

    def __init__(self, after: int | None = None) -> None:
        self.left, self.notes = after, list[str]()
        self.status = Status.PLANNED

    def on_message(self, text: str) -> None:
        self.notes.append(text)

    def on_step(self, count: int) -> None:
        if self.left is None:
            return
        self.left -= count
        if self.left <= 0 < self.left + count:
            os.kill(os.getpid(), signal.SIGINT)


def trained(study: str, entry: str, folder: Path, after: int | None, *more: str) -> Interrupting:
    interrupting = Interrupting(after)
    changes = [f"optimizers=[{entry}]", *more]
    made = Study.from_file(study, changes)
    with made.run(folder, callbacks=[interrupting], checkpoint_seconds=0) as results:
        (interrupting.status,) = [record.status for record in results.records]
    return interrupting


@pytest.mark.one_in(7)
@pytest.mark.parametrize(
    ("name", "study", "entry", "more"),
    [
        ("resume", "r.yaml", "{torch: 'opts:lookahead', lr: 0.001}", SHORT),
        ("resume", "r.yaml", "{torch: 'opts:lookahead', lr: 0.001}", [*SHORT, "rng=script"]),
        ("resume", "r.yaml", "{torch: 'opts:sam', closure: true, schedule: cosine}", SHORT),
        ("resume", "r.yaml", "{torch: 'pytorch_optimizer:AdaHessian', create_graph: true}", SHORT),
        ("sam", "s.yaml", "{torch: 'opts:Ema'}", ["budget.steps=60", "evaluate.every.steps=7"]),
        ("sparse", "sp.yaml", "{torch: 'sp:Both'}",
         ["seeds=1", "problem.model={factory: 'sp:EmbDense', args: {sparse: true}}"]),
        ("ae", "ae.yaml", "{torch: 'ae:Pair'}", ["problem.dataset={name: 'ae:same', flat: true}",
                                                 "seeds=1", "evaluate={every: {steps: 7}}"]),
    ],
)  # fmt: skip
def test_what_is_interrupted_goes_on_to_the_bit(
    case: Case, name: str, study: str, entry: str, more: list[str]
) -> None:
    folder = case(name)
    trained(study, entry, folder / "whole", None, *more)
    stopped = trained(study, entry, folder / "parts", 22, *more)
    assert stopped.status is Status.INTERRUPTED
    resumed = trained(study, entry, folder / "parts", None, *more)
    assert contents(folder / "parts") == contents(folder / "whole")
    assert not any("resumed" in note for note in stopped.notes + resumed.notes)


@pytest.mark.parametrize("optimizer", ["Generated", "LatelyUnstorable"])
def test_what_cannot_be_stored_begins_again_and_says_so(case: Case, optimizer: str) -> None:
    """Or goes on from the last checkpoint that could be stored."""
    folder = case("resume")
    entry = f"{{torch: '{OWN}:{optimizer}'}}"
    trained("r.yaml", entry, folder / "whole", None, *SHORT)
    stopped = trained("r.yaml", entry, folder / "parts", 35, *SHORT)
    (note,) = [note for note in stopped.notes if "resumed" in note]
    assert note.startswith(f"{optimizer} cannot be resumed: its rates holds a")
    resumed = trained("r.yaml", entry, folder / "parts", None, *SHORT)
    assert contents(folder / "parts") == contents(folder / "whole")
    assert len([note for note in resumed.notes if "resumed" in note]) == 1


def test_an_error_around_a_checkpoint_is_an_error(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TypeError is not taken for an optimizer that cannot be stored."""
    folder = case("resume")

    def wrong(self: Any, *, shared: bool = False) -> Callable[[], None]:
        raise TypeError("a real bug")

    monkeypatch.setattr(ReferenceEngine, "state", wrong)
    study = Study.from_file("r.yaml", ["optimizers=[{rule: sgd}]", *SHORT])
    with study.run(folder / "out", checkpoint_seconds=0) as results:
        (record,) = results.records
    assert (record.status, record.reason) == (Status.ERROR, "TypeError: a real bug")
