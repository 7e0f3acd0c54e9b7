"""``rng: script`` is an ordinary PyTorch script, to the last digit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from optrial.data import Dataset
from optrial.plan import Plan
from tests.small import small_plan, train

# What a reader of the PyTorch tutorials would write; it knows nothing of optrial but the data.
SCRIPT = """
import json, sys
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

arrays = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}


def main(optimizer, options, dropout, seed=3, batch_size=50, steps=40, every=20):
    torch.manual_seed(seed)
    train_set = TensorDataset(arrays["train_x"], arrays["train_y"])
    test_set = TensorDataset(arrays["test_x"], arrays["test_y"])
    layers = [nn.Flatten(), nn.Linear(64, 20), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    model = nn.Sequential(*layers, nn.Linear(20, 10))
    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=batch_size, shuffle=False)
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(torch.optim, optimizer)(model.parameters(), **options)

    step, losses, test_losses, test_accuracies = 0, [], [], []
    while step < steps:
        for inputs, targets in train_loader:
            model.train()
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            step += 1
            losses.append(loss.item())
            if step % every == 0:
                model.eval()
                total, correct, count = 0.0, 0, 0
                with torch.no_grad():
                    for inputs, targets in test_loader:
                        outputs = model(inputs)
                        total += criterion(outputs, targets).item() * len(targets)
                        correct += (outputs.argmax(dim=1) == targets).sum().item()
                        count += len(targets)
                test_losses.append(total / count)
                test_accuracies.append(correct / count)
            if step == steps:
                break
    return losses, test_losses, test_accuracies


print(json.dumps([main(**case) for case in json.loads(sys.argv[2])]))
"""

RULES = [
    ({"rule": "sgd", "lr": 0.1}, "SGD", {"lr": 0.1}),
    ({"rule": "momentum", "lr": 0.1}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    ({"rule": "nesterov", "lr": 0.1}, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ({"rule": "adam"}, "Adam", {}),
    ({"rule": "adam", "weight_decay": 0.01}, "Adam", {"weight_decay": 0.01}),
    ({"rule": "adamw"}, "AdamW", {}),
    ({"rule": "rmsprop"}, "RMSprop", {}),
    ({"rule": "adagrad"}, "Adagrad", {}),
]
CASES = [(*rule, dropout) for rule in RULES for dropout in (0.0, 0.3)]


def plan_of(ours: dict[str, Any], dropout: float) -> tuple[Plan, Dataset]:
    return small_plan(
        problem={
            "dataset": "digits",
            "model": {"kind": "mlp", "hidden": [20], "dropout": dropout},
        },
        batch_size=50,
        budget={"steps": 40},
        evaluate={"every": {"steps": 20}, "on": ["test"]},
        seeds=[3],
        rng="script",
        optimizers=[ours],
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[float]]]:
    """What the script printed for each case: training losses, test losses, test accuracies."""
    _, dataset = plan_of({"rule": "sgd"}, 0.0)
    arrays = {
        f"{name}_{letter}": array
        for name, split in dataset.splits.items()
        for letter, array in (("x", split.inputs), ("y", split.targets))
    }
    data = tmp_path_factory.mktemp("script") / "digits.npz"
    np.savez(data, **arrays)  # type: ignore[arg-type]
    cases = [
        {"optimizer": optimizer, "options": options, "dropout": dropout}
        for _, optimizer, options, dropout in CASES
    ]
    command = [sys.executable, "-c", SCRIPT, str(data), json.dumps(cases)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_equals_a_plain_script(printed: list[list[list[float]]], case: int) -> None:
    ours, _, _, dropout = CASES[case]
    plan, dataset = plan_of(ours, dropout)
    curves = train(plan.runs[0], dataset).curves
    losses, test_losses, test_accuracies = printed[case]
    assert curves["train_loss"].values.tolist() == losses
    assert curves["test_loss"].values.tolist() == test_losses
    assert curves["test_accuracy"].values.tolist() == test_accuracies


def test_an_average_of_the_weights_leaves_the_script_as_it_is() -> None:
    """The values at the weights themselves, which are recorded beside it, draw nothing."""
    plain, averaged = (
        train(plan.runs[0], dataset).curves
        for average in ({}, {"average": {"ema": 0.9}})
        for plan, dataset in [plan_of({"rule": "sgd", "lr": 0.1} | average, 0.3)]
    )
    assert averaged["train_loss"].values.tolist() == plain["train_loss"].values.tolist()
    assert averaged["test_loss_raw"].values.tolist() == plain["test_loss"].values.tolist()
