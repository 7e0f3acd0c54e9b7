"""`one_cycle` changes the learning rate as OneCycleLR does, and leaves the momentum alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from optrial.data import BatchOrder, Dataset
from optrial.rules import SCHEDULES
from optrial.study import Study
from tests.cases.conftest import Case
from tests.small import train
from tests.tolerance import TRAJECTORY_FLOAT64

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
}


def losses_of_torch(
    optimizer: str, dataset: Dataset, cycle_momentum: bool
) -> tuple[NDArray[np.float64], list[float]]:
    """Train as a PyTorch script does; return each step's loss and the final weights' first row."""
    split = dataset.splits["train"]
    inputs = torch.from_numpy(split.inputs).double().flatten(1)
    targets = torch.from_numpy(split.targets)
    order = BatchOrder(size=len(targets), batch_size=64, seed=0)
    steps = 3 * -(-len(targets) // 64)
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 10)  # drawn in float32, as the study's
    model = model.double()
    chosen = OPTIMIZERS[optimizer](model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        chosen, max_lr=0.05, total_steps=steps, cycle_momentum=cycle_momentum
    )
    losses = []
    for step, rows in zip(range(steps), order.batches(1), strict=False):
        loss = torch.nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        losses.append(loss.item())
        if step < steps - 1:
            scheduler.step()
    return np.array(losses), model.weight[0].tolist()


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_cycle_equals_onecyclelr_without_cycling_momentum(
    optimizer: str, engine: str, case: Case
) -> None:
    settings = [
        f"engine={engine}",
        "rng=streams",
        "precision=float64",
        f"optimizers[0].rule={optimizer}",
    ]
    study = Study.from_file(case("onecycle") / "o.yaml", settings)
    dataset = study.load_data()
    (run,) = study.plan(dataset).runs
    ours = train(run, dataset).curves["train_loss"].values
    theirs, _ = losses_of_torch(optimizer, dataset, cycle_momentum=False)
    assert ours == pytest.approx(theirs, rel=TRAJECTORY_FLOAT64)
    cycled, _ = losses_of_torch(optimizer, dataset, cycle_momentum=True)
    assert ours[:1] == pytest.approx(cycled[:1], rel=TRAJECTORY_FLOAT64)
    assert np.abs(ours - cycled).max() > 0.01, "the default of PyTorch is another training"


def test_as_a_script_it_equals_the_same_digit_for_digit(case: Case) -> None:
    """The study as it is, with `rng: script`: the order of batches is that of a DataLoader."""
    study = Study.from_file(case("onecycle") / "o.yaml")
    dataset = study.load_data()
    (run,) = study.plan(dataset).runs
    ours = train(run, dataset).curves["train_loss"].values.tolist()
    split = dataset.splits["train"]
    torch.manual_seed(0)
    pairs = torch.utils.data.TensorDataset(
        torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    loader = torch.utils.data.DataLoader(pairs, batch_size=64, shuffle=True)
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        adam, 0.05, total_steps=3 * len(loader), cycle_momentum=False
    )
    losses = []
    for _ in range(3):
        for inputs, targets in loader:
            adam.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            adam.step()
            losses.append(loss.item())
            if len(losses) < 3 * len(loader):
                scheduler.step()
        # The study evaluates at the end of each epoch, and such a loader draws a seed.
        list(torch.utils.data.DataLoader(pairs, batch_size=64))
    assert ours == losses


def test_its_text_says_so() -> None:
    assert "cycle_momentum=False" in (SCHEDULES["one_cycle"].__doc__ or "")
