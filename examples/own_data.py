"""Compare three optimizers on your own data, from Python.

Run it with: python examples/own_data.py
"""

from __future__ import annotations

import numpy as np

import optrial


def spirals(arms: int = 3, samples: int = 600) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Points on interleaved spirals: split -> (inputs, class labels)."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, arms, samples)
    radius = generator.uniform(0.1, 1, samples)
    angle = 4 * radius + 2 * np.pi * labels / arms + generator.normal(0, 0.15, samples)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    train = slice(None, samples * 3 // 4)
    test = slice(samples * 3 // 4, None)
    return {"train": (points[train], labels[train]), "test": (points[test], labels[test])}


if __name__ == "__main__":
    study = optrial.Study(
        name="spirals",
        problem={"dataset": "own_data:spirals", "model": {"kind": "mlp", "hidden": [32, 32]}},
        batch_size=50,
        budget={"epochs": 30},
        evaluate={"on": ["validation", "test"]},
        optimizers=[
            {"rule": "sgd", "lr": [0.1, 1.0]},
            {"rule": "rmsprop_nesterov", "lr": [0.001, 0.01]},
            {"rule": "adam", "lr": [0.001, 0.01]},
        ],
    )
    results = study.run()
    columns = ["optimizer", "setting", "best", "validation_accuracy_mean", "test_accuracy_mean"]
    print(results.summary()[columns].to_string(index=False))
