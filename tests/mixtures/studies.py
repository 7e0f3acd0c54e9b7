"""Random studies: what users combine, drawn from everything that a study file can say."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from optrial.rules import MODIFIERS, RULES

STEPS = 12

_ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu", "tanh", "sigmoid")
_SCHEDULES: tuple[Any, ...] = (
    {"kind": "cosine", "final": 0.1, "warmup": 3},
    {"kind": "cosine_restarts", "period": 4, "growth": 2},
    {"kind": "step", "every": 3, "factor": 0.5},
    {"kind": "multistep", "at": [0.5, 0.75]},
    {"kind": "exponential", "half_life": 5},
    {"kind": "polynomial", "power": 2},
    {"kind": "inverse_sqrt", "warmup": 0.2},
    {"kind": "plateau", "factor": 0.5, "patience": 1},
    {"kind": "warmup_stable_decay", "warmup": 0.2, "decay": 0.3},
    {"kind": "constant", "warmup_of": {"weight_decay": 5}},
    {"kind": "cosine", "warmup_of": {"beta1": {"from": 0.5, "over": 0.5}}},
    {"kind": "linear", "warmup": 2, "warmup_of": {"momentum": {"from": 0.3, "over": 6}}},
    {"kind": "one_cycle", "momentum": [0.85, 0.95]},
    "linear",
    "one_cycle",
)
_LABELS = ("balanced_accuracy", "f1_macro", "log_loss", "brier", "top_2_accuracy", "matthews")
_VALUES = ("mae", "rmse", "r2", "median_absolute_error", "max_error", "explained_variance")
_PROBES = (
    "gradient_norm",
    "weight_norm",
    "update_to_weight_ratio",
    "effective_learning_rate",
    "gradient_cosine",
)


def study(seed: int) -> dict[str, Any]:
    """Return the keys of a study; equal seeds give equal studies."""
    random = Random(seed)
    problem = random.choice(_PROBLEMS)(random)
    keys: dict[str, Any] = {
        "name": f"mixture-{seed}",
        "problem": problem,
        "batch_size": random.choice([16, 32, 33]),
        "budget": {"steps": STEPS},
        "evaluate": {"every": {"steps": random.choice([3, 4, 5])}, "on": ["validation", "test"]},
        "seeds": [random.randrange(100), 1000 + random.randrange(100)],
        "precision": "float64",
        "optimizers": [_entry(random, number) for number in range(random.choice([1, 2, 2, 3]))],
    }
    if random.random() < 0.2:
        keys["accumulate"] = 2
    if random.random() < 0.2:
        keys["drop_last"] = True
    if random.random() < 0.15:
        keys["sampling"] = "with_replacement"
    if random.random() < 0.1:
        keys["shuffle"] = False
    if random.random() < 0.1:
        keys["zero_grad"] = False
    if random.random() < 0.2:
        keys["early_stopping"] = {"patience": 1}
    if random.random() < 0.15:
        keys["evaluate"]["batch_metrics"] = True
    if random.random() < 0.15:
        keys["evaluate"]["start"] = True
    if random.random() < 0.2:
        measured = random.sample(_PROBES, 2)
        keys["probes"] = {"measure": measured, "every": {"steps": 3}}
    return keys


def _entry(random: Random, number: int) -> dict[str, Any]:
    rules = sorted(name for name, rule in RULES.items() if not rule.as_one_vector)
    entry: dict[str, Any] = {"rule": random.choice(rules), "name": f"entry-{number}"}
    entry |= _rule_keys(random, entry["rule"])
    if random.random() < 0.3:
        entry["schedule"] = random.choice(_SCHEDULES)
    if random.random() < 0.3:
        entry["clip"] = random.choice([0.5, {"value": 0.05}, {"norm": 1.0, "value": 0.1}])
    if random.random() < 0.15:
        entry[random.choice(["sam", "adaptive_sam"])] = random.choice([0.05, [0.02, 0.1]])
    if random.random() < 0.25:
        entry["average"] = random.choice([{"ema": 0.8}, {"ema": [0.5, 0.9]}, {"tail": 0.5}])
    if random.random() < 0.35:
        entry["modify"] = _modifiers(random)
    if random.random() < 0.35:
        entry["groups"] = _groups(random)
    return entry


def _rule_keys(random: Random, rule: str) -> dict[str, Any]:
    usual = float(RULES[rule].defaults.get("lr", 1.0))
    keys: dict[str, Any] = {}
    if "lr" in RULES[rule].defaults:
        keys["lr"] = random.choice([usual, usual / 4, [usual, usual / 3]])
    if random.random() < 0.3:
        keys["weight_decay"] = random.choice([0.02, 0.1, [0.0, 0.05]])
        if random.random() < 0.5:
            keys["decay"] = random.choice(["l2", "decoupled"])
    return keys


def _modifiers(random: Random) -> list[Any]:
    names = [name for name in MODIFIERS if random.random() < 0.2]  # in the order of their places
    return [{"name": n, "rule": "sgd"} if n == "grafting" else n for n in names]


def _groups(random: Random) -> list[dict[str, Any]]:
    choices: list[dict[str, Any]] = [
        {"match": ["bias", "norm"], "weight_decay": 0},
        {"match": "head", "lr": {"times": random.choice([0.5, [0.1, 2]])}},
        {"match": "vectors", "rule": random.choice(["sgd", "adam", "lion"])},
        {"match": "embedding", "rule": "adamw", "lr": 0.001},
        {"match": "bias", "freeze": True},
        {"match": "matrices", "rule": "muon"},
        {"match": "convolutions", "lr": {"times": 2.0}, "schedule": "cosine"},
        {"match": "head", "modify": [], "weight_decay": 0.1},
    ]
    return random.sample(choices, random.choice([1, 1, 2]))


def _mlp(random: Random) -> dict[str, Any]:
    model: dict[str, Any] = {
        "kind": "mlp",
        "hidden": random.choice([[8], [6, 6], [5, 5, 5]]),
        "activation": random.choice(_ACTIVATIONS),
    }
    if random.random() < 0.3:
        model["dropout"] = random.choice([0.2, [0.1, 0.4]])
    if random.random() < 0.2:
        model["input_dropout"] = 0.1
    if random.random() < 0.3:
        model[random.choice(["batch_norm", "layer_norm"])] = True
    if random.random() < 0.2:
        model |= {"residual": True, "hidden": [6, 6, 6]}
    if random.random() < 0.2:
        model["bias"] = False
    if random.random() < 0.3:
        model["initialization"] = random.choice(["xavier_normal", "kaiming_uniform"])
    return model


def _label_loss(random: Random) -> Any:
    return random.choice(
        [
            "cross_entropy",
            {"name": "cross_entropy", "label_smoothing": 0.1},
            {"name": "cross_entropy", "weight": "balanced"},
            {"name": "focal", "gamma": 1.5},
            {"name": "focal", "alpha": "balanced"},
            "mse",
        ]
    )


def _tables(random: Random) -> dict[str, Any]:
    dataset = random.choice(["breast-cancer", "wine", {"name": "moons", "n_samples": 150}])
    metrics = random.sample(_LABELS, 2)
    loss = _label_loss(random)
    if loss == "mse":
        metrics = []
    if dataset != "wine":  # two classes, of which one is always among two
        metrics = [metric for metric in metrics if metric != "top_2_accuracy"]
    return {
        "dataset": dataset,
        "model": _mlp(random),
        "loss": loss,
        "metrics": ["accuracy", *metrics],
    }


def _logits(random: Random) -> dict[str, Any]:
    loss: Any = random.choice(["bce", {"name": "bce", "pos_weight": "balanced"}])
    metrics = ["accuracy", random.choice(["roc_auc", "average_precision", "f1", "brier"])]
    return {"dataset": "breast-cancer", "model": _mlp(random), "loss": loss, "metrics": metrics}


def _images(random: Random) -> dict[str, Any]:
    model = random.choice(
        [
            "logistic",
            {"kind": "cnn", "widths": [4, 6], "batch_norm": random.random() < 0.5},
            {
                "kind": "convnet",
                "widths": [4, 8],
                "norm": random.choice(["batch", "group", "none"]),
                "groups": 2,
            },
            {"kind": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4},
            {"kind": "rnn", "hidden": 6, "cell": random.choice(["rnn", "gru", "lstm"])},
            {"kind": "mlp", "hidden": [70]},
        ]
    )
    dataset: dict[str, Any] = {"name": "digits", "validation_fraction": 0.1}
    if random.random() < 0.3:
        dataset["augment"] = {"crop": 1, "flip": random.random() < 0.5}
    if random.random() < 0.3:
        dataset["scale"] = "standardize"
    return {"dataset": dataset, "model": model, "loss": _label_loss(random)}


def _regressions(random: Random) -> dict[str, Any]:
    loss = random.choice(
        ["mse", "mae", "huber", {"name": "huber", "delta": 0.5}, {"name": "quantile", "q": 0.7}]
    )
    dataset = random.choice(
        [
            "diabetes",
            {"name": "diabetes", "standardize_targets": False},
            {"name": "teacher", "noise": 0.1},
        ]
    )
    return {
        "dataset": dataset,
        "model": _mlp(random),
        "loss": loss,
        "metrics": random.sample(_VALUES, 2),
    }


def _reconstructions(random: Random) -> dict[str, Any]:
    model: dict[str, Any] = {"kind": "autoencoder", "hidden": [12], "code": 3}
    if random.random() < 0.5:
        model["widths"] = [4]
    dataset = {"name": "digits", "targets": "inputs"}
    return {"dataset": dataset, "model": model, "loss": random.choice(["mse", "bce"])}


def _texts(random: Random) -> dict[str, Any]:
    model: dict[str, Any] = {
        "kind": "transformer",
        "width": 8,
        "depth": random.choice([1, 2]),
        "heads": 2,
        "mlp_ratio": 2,
        "positions": random.choice(["learned", "rotary"]),
        "norm": random.choice(["layer", "rms"]),
        "tied": random.random() < 0.4,
        "bias": random.random() < 0.5,
        "dropout": random.choice([0.0, 0.1]),
    }
    dataset: Any = random.choice(
        [
            {"name": "coriolanus", "context": 6},
            {"name": "copy", "length": 3, "symbols": 4, "n_samples": 120, "test_samples": 40},
            {"name": "modular-addition", "modulus": 11},
            {"name": "palindrome", "length": 5, "n_samples": 150, "test_samples": 50},
        ]
    )
    if dataset["name"] == "palindrome":
        return {
            "dataset": dataset,
            "model": {"kind": "rnn", "hidden": 6, "cell": random.choice(["rnn", "gru", "lstm"])},
        }
    return {"dataset": dataset, "model": model, "metrics": ["accuracy", "perplexity"]}


_PROBLEMS = (_tables, _tables, _logits, _images, _regressions, _reconstructions, _texts)


def without(keys: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Return a study without some keys of its optimizers, its model or itself."""
    left = copy.deepcopy(dict(keys))
    for path in paths:
        names = re.findall(r"[^.\[\]]+", path)
        match names:
            case ["optimizers", index, key, *_]:
                left["optimizers"][int(index)].pop(key, None)
            case ["problem", "model", key, *_] if key in left["problem"]["model"]:
                del left["problem"]["model"][key]
            case ["problem", "model"]:
                del left["problem"]["model"]["groups"]
            case [key, *_] if key != "problem":
                left.pop(key, None)
    return left


def described(keys: Mapping[str, Any]) -> str:
    """Return what was drawn, in one line."""
    return str({key: value for key, value in keys.items() if key not in ("name", "precision")})
