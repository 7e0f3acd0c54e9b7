"""A small GPT on a text, beside a plain script in PyTorch: the same losses for fifty steps."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.data import BatchOrder, Dataset
from optrial.engine import Training
from optrial.plan import arrange
from optrial.spec import RunSpec
from optrial.study import Study
from tests.small import learner_for
from tests.tolerance import TRAJECTORY_FLOAT64

DATA = os.environ.get("OPTRIAL_DATA", "")
TEXT = "tiny-shakespeare" if DATA else "coriolanus"
CONTEXT, WIDTH, HEADS, DEPTH, STEPS = 16, 16, 4, 2, 50
BATCH = 12 if DATA else 16  # an epoch has an even number of batches
WARM_UP, CLIP, DECAY = 10, 0.5, 0.1


class ScriptBlock(nn.Module):
    """A block of a GPT as it is usually written."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.attention = nn.ModuleDict(
            {"project_in": nn.Linear(WIDTH, 3 * WIDTH), "project_out": nn.Linear(WIDTH, WIDTH)}
        )
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.expand, self.contract = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        query, key, value = (
            part.view(batch, time, HEADS, width // HEADS).transpose(1, 2)
            for part in self.attention["project_in"](self.attention_norm(x)).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention["project_out"](y.transpose(1, 2).reshape(batch, time, width))
        result: Tensor = x + self.contract(functional.gelu(self.expand(self.mlp_norm(x))))
        return result


class ScriptGPT(nn.Module):
    """A GPT with learned positions and tied embeddings."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(ScriptBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def study(**changes: Any) -> Study:
    model = {"kind": "transformer", "width": WIDTH, "heads": HEADS, "depth": DEPTH, "tied": True}
    keys: dict[str, Any] = {
        "name": "gpt",
        "problem": {
            "dataset": {"name": TEXT, "context": CONTEXT, "test_fraction": 0.0,
                        "validation_fraction": 0.005 if DATA else 0.1},
            "model": model,
            "metrics": ["accuracy", "perplexity", "bits_per_token", "bits_per_byte"],
        },
        "sampling": "with_replacement",
        "batch_size": BATCH,
        "budget": {"steps": STEPS},
        "evaluate": {"every": {"steps": STEPS}},
        "seeds": 2,
        "precision": "float64",
        "optimizers": [
            {"rule": "adamw", "lr": [0.01, 0.003], "beta2": 0.95, "weight_decay": DECAY,
             "clip": CLIP, "schedule": {"kind": "cosine", "warmup": {"steps": WARM_UP}},
             "groups": [{"match": "vectors", "weight_decay": 0}]},
        ],
    }  # fmt: skip
    return Study(**(keys | changes))


def rate(step: int) -> float:
    """Linear warm-up from the first step, then half a cosine to 0."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


def by_script(run: RunSpec, dataset: Dataset, weights: dict[str, np.ndarray]) -> Iterator[float]:
    """Yield the loss of each step, then the mean loss of the validation split.

    A step averages the gradients of `accumulate` batches, as scripts do with large batches.
    """
    text = torch.from_numpy(whole_text(dataset))
    model = ScriptGPT(int(text.max()) + 1).double()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    decayed = [value for value in model.parameters() if value.ndim >= 2]
    others = [value for value in model.parameters() if value.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=run.hyperparameters["lr"],
        betas=(0.9, 0.95),
        weight_decay=DECAY,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    train = dataset.splits["train"].text
    assert train is not None
    order = BatchOrder(
        dataset.batched.size, BATCH, run.seed, "with_replacement", stride=dataset.batched.stride
    )
    batches = order.batches()
    for _ in range(STEPS):
        losses = []
        optimizer.zero_grad()
        for starts in islice(batches, run.accumulate):
            windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
            logits = model(windows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
            (loss / run.accumulate).backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        yield fmean(losses)
    rest, entropies = text[len(train) :], []
    for start in range(0, len(rest) - 1, CONTEXT):
        window = rest[start : start + CONTEXT + 1]
        with torch.no_grad():
            logits = model(window[None, :-1])[0]
        entropies.append(functional.cross_entropy(logits, window[1:], reduction="none"))
    yield torch.cat(entropies).mean().item()


def whole_text(dataset: Dataset) -> np.ndarray:
    """The characters of the file by their place in the alphabet."""
    folder = Path(DATA) / "tiny-shakespeare/input.txt"
    file = folder if DATA else Path(study.__code__.co_filename).parents[2] / "src/optrial/data"
    path = file if DATA else file / "sources/coriolanus.txt"
    text = path.read_text(encoding="utf-8")
    alphabet = {character: index for index, character in enumerate(sorted(set(text)))}
    assert len(alphabet) == dataset.vocabulary
    return np.array([alphabet[character] for character in text])


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("engine", "width", "accumulate"),
    [
        ("reference", 1, 1),
        ("stacked", 1, 1),
        ("stacked", 4, 1),
        ("reference", 1, 2),
        ("stacked", 4, 2),
    ],
)
def test_a_small_gpt_is_that_of_a_plain_script(engine: str, width: int, accumulate: int) -> None:
    made = study(accumulate=accumulate, drop_last=True)
    dataset = made.load_data()
    runs = arrange(made.plan(dataset).runs)[:width]
    learner = learner_for(runs, dataset, engine)
    starts = [learner.weights(run) for run in range(width)]
    training = Training(runs, learner)
    for _ in training.run():
        pass
    for run, weights, segment in zip(runs, starts, training.segments(), strict=True):
        *losses, validation = by_script(run, dataset, weights)
        curves = {name: curve.values for name, curve in segment.curves.items()}
        assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        wanted = {
            "loss": validation,
            "perplexity": math.exp(validation),
            "bits_per_token": validation / math.log(2),
            "bits_per_byte": validation / math.log(2),  # the text is in ASCII
        }
        for name, value in wanted.items():
            measured = curves[f"validation_{name}"][-1]
            assert measured == pytest.approx(value, rel=TRAJECTORY_FLOAT64), name
