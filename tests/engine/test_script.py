"""``rng: script`` is an ordinary PyTorch script, to the last digit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small import small_plan, train

# What a reader of the PyTorch tutorials would write; it knows nothing of optrial but the data.
SCRIPT = """
import json, sys
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
arguments = json.loads(sys.argv[1])
data = np.load(arguments["data"])
torch.manual_seed(arguments["seed"])

train_set = TensorDataset(torch.from_numpy(data["train_x"]), torch.from_numpy(data["train_y"]))
test_set = TensorDataset(torch.from_numpy(data["test_x"]), torch.from_numpy(data["test_y"]))
layers = [nn.Flatten(), nn.Linear(64, 20), nn.ReLU()]
if arguments["dropout"]:
    layers.append(nn.Dropout(arguments["dropout"]))
model = nn.Sequential(*layers, nn.Linear(20, 10))
train_loader = DataLoader(train_set, batch_size=arguments["batch_size"], shuffle=True)
test_loader = DataLoader(test_set, batch_size=arguments["batch_size"], shuffle=False)
criterion = nn.CrossEntropyLoss()
optimizer = getattr(torch.optim, arguments["optimizer"])(model.parameters(), **arguments["options"])

step, losses, test_losses, test_accuracies = 0, [], [], []
while step < arguments["steps"]:
    for inputs, targets in train_loader:
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        step += 1
        losses.append(loss.item())
        if step % arguments["every"] == 0:
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
        if step == arguments["steps"]:
            break
print(json.dumps([losses, test_losses, test_accuracies]))
"""

CASES = [
    ("sgd", {"lr": 0.1}, "SGD", {"lr": 0.1}),
    ("momentum", {"lr": 0.1, "momentum": 0.9}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    (
        "nesterov",
        {"lr": 0.1, "momentum": 0.9},
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    ("adam", {"lr": 0.001}, "Adam", {}),
    ("adamw", {"lr": 0.001}, "AdamW", {}),
    ("rmsprop", {"lr": 0.01, "rho": 0.99}, "RMSprop", {}),
    ("adagrad", {"lr": 0.01}, "Adagrad", {}),
]


@pytest.mark.parametrize(("rule", "ours", "optimizer", "options"), CASES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_equals_a_plain_script(
    tmp_path: Path,
    rule: str,
    ours: dict[str, float],
    optimizer: str,
    options: dict[str, Any],
    dropout: float,
) -> None:
    plan, dataset = small_plan(
        problem={
            "dataset": "digits",
            "model": {"kind": "mlp", "hidden": [20], "dropout": dropout},
        },
        batch_size=50,
        budget={"steps": 100},
        evaluate={"every": {"steps": 20}, "on": ["test"]},
        seeds=[3],
        rng="script",
        optimizers=[{"rule": rule, **ours}],
    )
    data = tmp_path / "digits.npz"
    splits = {
        f"{name}_{letter}": array
        for name, split in dataset.splits.items()
        for letter, array in (("x", split.inputs), ("y", split.targets))
    }
    np.savez(data, **splits)
    arguments = {
        "data": str(data),
        "seed": 3,
        "dropout": dropout,
        "batch_size": 50,
        "steps": 100,
        "every": 20,
        "optimizer": optimizer,
        "options": options,
    }
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    losses, test_losses, test_accuracies = json.loads(answer.stdout)
    curves = train(plan.runs[0], dataset).curves
    assert curves["train_loss"].values.tolist() == losses
    assert curves["test_loss"].values.tolist() == test_losses
    assert curves["test_accuracy"].values.tolist() == test_accuracies
