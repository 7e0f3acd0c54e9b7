"""Batch norm in a user-defined model: refused as in a catalogued one, right where it is trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from optrial.errors import StudyError
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch
from tests.cases.test_bn1 import REFUSED
from tests.tolerance import TRAJECTORY_FLOAT64


def test_the_study_of_the_case_is_refused(case: Case) -> None:
    case("bnown")
    with pytest.raises(StudyError) as caught:
        Study.from_file("bn.yaml").plan()
    assert [str(problem) for problem in caught.value.problems] == [REFUSED]


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_without_the_last_batch_it_trains(case: Case, engine: str) -> None:
    case("bnown")
    made = Study.from_file("bn.yaml", ["drop_last=true", "precision=float64"])
    dataset = made.load_data()
    run = next(run for run in made.plan(dataset).runs if run.optimizer == "sgd")
    wanted, losses = by_torch(
        run, dataset, functional.cross_entropy, lambda p: torch.optim.SGD(p, lr=0.1)
    )
    weights, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    for name, value in wanted.state_dict().items():
        assert weights[name] == pytest.approx(value.numpy(), rel=TRAJECTORY_FLOAT64)
