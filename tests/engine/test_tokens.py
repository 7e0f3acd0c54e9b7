"""Tokens as inputs and labels per position, some of which do not count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional

from optrial.data import Dataset
from optrial.engine import Training, options
from optrial.engine.options import batch_order
from optrial.errors import DataError, OptrialError, StudyError
from optrial.models import build_model
from optrial.plan import arrange
from optrial.spec import RunSpec
from optrial.study import Study
from tests.small import learner_for
from tests.tolerance import TRAJECTORY_FLOAT64

VOCABULARY, TAGS, TIME = 11, 5, 7


def tagged(
    ignore: int | None = -100, size: int = 60, tag: str = "", token: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random tokens with a tag each; many tags of a sample do not count."""
    draws = np.random.default_rng(3)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        tokens = draws.integers(0, VOCABULARY, (n, TIME))
        tags = (tokens + np.roll(tokens, 1, axis=1)) % TAGS
        if ignore is not None:
            out = draws.random((n, TIME)) < draws.random((n, 1))
            kept = draws.integers(TIME)
            out[:, kept] = False
            tags[out] = ignore
            tags[:, kept] = np.where(tags[:, kept] == ignore, TAGS - 1, tags[:, kept])
        return tokens, tags

    splits = {"train": split(size), "test": split(41)}
    splits["train"][0][0, 0] = VOCABULARY - 1 + token
    if tag == "negative":
        splits["train"][1][4, 2] = -3
    if tag == "nothing":
        splits["test"][1][4] = -100
    if tag == "everything":
        splits["train"][1][:] = -100
    if tag == "negative token":
        splits["test"][0][2, 1] = -1
    if tag == "short":
        return {"train": (splits["train"][0], splits["train"][1][:, :-1])}
    return splits


def labelled() -> tuple[np.ndarray, np.ndarray]:
    """Random tokens with a label per sample."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (80, TIME))
    return tokens, tokens[:, 2] % 3


class Tagger(nn.Module):
    """A small network of one's own, whose inputs must be integers."""

    def __init__(self, vocabulary: int, classes: int, last: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 6)
        self.mix = nn.Conv1d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        self.last = last

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.dtype == torch.int64
        hidden = torch.tanh(self.mix(self.embedding(tokens).mT)).mT
        outputs: Tensor = self.head(hidden)
        return outputs if self.last else outputs.mT


OWN = {"factory": f"{__name__}:Tagger"}
COLUMNS = {"factory": f"{__name__}:Tagger", "args": {"last": False}}
GPT = {"kind": "transformer", "width": 8, "depth": 1, "heads": 2, "architecture": "encoder",
       "pool": "none"}  # fmt: skip
METRICS = ["accuracy", "top_3_accuracy", "perplexity", "bits_per_token", "f1_macro"]


def study(model: Any = None, **changes: Any) -> Study:
    loss = changes.pop("loss", "cross_entropy")
    data = {"name": f"{__name__}:tagged", "inputs": "tokens"} | changes.pop("data", {})
    keys: dict[str, Any] = {
        "name": "tokens",
        "problem": {
            "dataset": data,
            "model": model or OWN,
            "loss": loss,
            "metrics": changes.pop("metrics", METRICS),
        },
        "batch_size": 16,
        "budget": {"epochs": 2},
        "evaluate": {"every": {"epochs": 2}, "on": ["test"]},
        "seeds": 2,
        "precision": "float64",
        "optimizers": [{"rule": "sgd", "lr": [0.5, 0.1]}],
    }
    return Study(**(keys | changes))


def segments(
    runs: Sequence[RunSpec], dataset: Dataset, engine: str
) -> tuple[list[Mapping[str, np.ndarray]], list[Mapping[str, np.ndarray]]]:
    """Curves and final weights of runs that are trained side by side."""
    assert list(runs) == list(arrange(runs))
    training = Training(runs, learner_for(runs, dataset, engine))
    for _ in training.run():
        pass
    learner = training.learner
    curves = [{k: c.values for k, c in s.curves.items()} for s in training.segments()]
    return curves, [learner.weights(run) for run in range(len(runs))]


def outputs_of(run: RunSpec, dataset: Dataset, weights: Mapping[str, np.ndarray]) -> Tensor:
    model = built(run, dataset)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.no_grad():
        outputs: Tensor = model.eval()(torch.from_numpy(dataset.splits["test"].inputs))
    return outputs


def built(run: RunSpec, dataset: Dataset) -> nn.Module:
    return build_model(
        run.model,
        run.model_arguments,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        vocabulary=dataset.vocabulary,
        seed=run.seed,
    ).double()


def expected(outputs: Tensor, targets: np.ndarray, ignore: int) -> dict[str, float]:
    """Every metric over the positions that count, by NumPy and scikit-learn."""
    logits = outputs.reshape(-1, outputs.shape[-1]).numpy()
    counted = targets.ravel() != ignore
    logits, labels = logits[counted], targets.ravel()[counted]
    of_label = logits[np.arange(len(labels)), labels]
    entropy = float(np.mean(np.log(np.exp(logits).sum(1)) - of_label))
    better = (logits > of_label[:, None]).sum(1)
    return {
        "loss": entropy,
        "accuracy": float(np.mean(better == 0)),
        "top_3_accuracy": float(np.mean(better < 3)),
        "perplexity": float(np.exp(entropy)),
        "bits_per_token": entropy / np.log(2),
        "f1_macro": f1_score(labels, logits.argmax(1), average="macro"),
    }


def losses_by_torch(run: RunSpec, dataset: Dataset, ignore: int, last: bool = True) -> list[float]:
    """Losses of a plain loop with the cross entropy of PyTorch."""
    model, losses = built(run, dataset), []
    optimizer = torch.optim.SGD(model.parameters(), lr=run.hyperparameters["lr"])
    train = dataset.splits["train"]
    inputs, targets = torch.from_numpy(train.inputs), torch.from_numpy(train.targets)
    for rows in islice(batch_order(run, len(targets)).batches(1), run.steps):
        optimizer.zero_grad()
        outputs = model(inputs[rows])
        loss = functional.cross_entropy(
            outputs.mT if last else outputs, targets[rows], ignore_index=ignore
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("engine", "width"), [("reference", 1), ("stacked", 1), ("stacked", 2), ("stacked", 4)]
)
@pytest.mark.parametrize(
    ("model", "ignore", "batch"),
    [(OWN, -100, 0), (OWN, -100, 1), (OWN, 0, 5), (COLUMNS, 2, 7), (GPT, -100, 3)],
)
def test_losses_and_metrics_are_those_of_the_positions_that_count(
    model: Any,
    ignore: int,
    batch: int,
    engine: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if batch:
        monkeypatch.setattr(options, "MOST_SAMPLES", batch * width)
    loss = {"name": "cross_entropy", "ignore_index": ignore}
    made = study(model, loss=loss, data={"ignore": ignore})
    dataset = made.load_data()
    assert (dataset.vocabulary, dataset.classes) == (VOCABULARY, TAGS)
    runs = arrange(made.plan(dataset).runs)[:width]
    for run, curves, weights in zip(runs, *segments(runs, dataset, engine), strict=True):
        last = model is not COLUMNS
        losses = losses_by_torch(run, dataset, ignore, last)
        assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        outputs = outputs_of(run, dataset, weights)
        outputs = outputs if last else outputs.mT
        for name, value in expected(outputs, dataset.splits["test"].targets, ignore).items():
            measured = curves[f"test_{name}"][-1]
            assert measured == pytest.approx(value, rel=TRAJECTORY_FLOAT64), name
        shares = (dataset.splits["train"].targets != ignore).mean(1)
        order = list(islice(batch_order(run, len(shares)).batches(1), run.steps))
        weighed = [shares[rows].sum() for rows in order[-run.steps_per_epoch :]]
        epoch = np.average(losses[-run.steps_per_epoch :], weights=weighed)
        assert curves["train_loss_epoch"][-1] == pytest.approx(epoch, rel=TRAJECTORY_FLOAT64)


def test_epoch_means_and_batch_metrics_of_engines_agree() -> None:
    made = study(evaluate={"on": ["train", "test"], "batch_metrics": True})
    dataset = made.load_data()
    runs = arrange(made.plan(dataset).runs)
    stacked, _ = segments(runs, dataset, "stacked")
    for run, curves in zip(runs, stacked, strict=True):
        (alone,), _ = segments([run], dataset, "reference")
        assert curves.keys() == alone.keys() >= {"train_perplexity", "train_bits_per_token_epoch"}
        for name, values in alone.items():
            assert curves[name] == pytest.approx(values, rel=TRAJECTORY_FLOAT64), name
        entropies = np.log(curves["train_perplexity"])
        assert curves["train_loss"] == pytest.approx(entropies, rel=TRAJECTORY_FLOAT64)


def per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the first tag of each sample is right."""
    return (outputs[:, 0].argmax(-1) == targets[:, 0]).double()


def counted_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    counted = targets != -100
    return (outputs.argmax(-1) == targets)[counted].double().mean()


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_metrics_of_ones_own(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "MOST_SAMPLES", 12)
    own = [f"{__name__}:per_sample", f"{__name__}:counted_accuracy"]
    made = study(metrics=["accuracy", *own])
    dataset = made.load_data()
    runs = arrange(made.plan(dataset).runs)[: 1 if engine == "reference" else 4]
    assert runs[0].whole_split == (own[1],)
    targets = torch.from_numpy(dataset.splits["test"].targets)
    for run, curves, weights in zip(runs, *segments(runs, dataset, engine), strict=True):
        outputs = outputs_of(run, dataset, weights)
        mean = per_sample(outputs, targets).mean().item()
        assert curves["test_per_sample"][-1] == pytest.approx(mean)
        assert curves["test_counted_accuracy"][-1] == pytest.approx(curves["test_accuracy"][-1])


def test_a_label_per_sequence() -> None:
    data = {"name": f"{__name__}:labelled"}
    model = {**GPT, "pool": "mean"}
    made = study(model, data=data, metrics=["accuracy", "perplexity"])
    dataset = made.load_data()
    assert (dataset.kind, dataset.classes, dataset.vocabulary) == ("labels", 3, VOCABULARY)
    runs = arrange(made.plan(dataset).runs)
    for run, curves, weights in zip(runs, *segments(runs, dataset, "stacked"), strict=True):
        wanted = expected(outputs_of(run, dataset, weights), dataset.splits["test"].targets, -100)
        for name in ("loss", "accuracy", "perplexity"):
            assert curves[f"test_{name}"][-1] == pytest.approx(wanted[name])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"tag": "negative"}, "targets hold 1 bad of 420 values, the first -3 at sample 4"),
        ({"ignore": -3}, "if -3 marks positions that do not count, give the loss ignore_index: -3"),
        ({"tag": "nothing"}, "1 sample whose labels are all -100, the ignore_index"),
        ({"tag": "everything"}, "60 samples whose labels are all -100"),
        ({"tag": "negative token"}, "test inputs hold negative tokens: 1 bad of 287"),
        ({"inputs": {"tokens": 9}}, "the vocabulary has 9 tokens, 0 to 8: say inputs: {tokens: 11"),
        ({"inputs": {"tokens": 0}}, "inputs: {'tokens': 0}: must be tokens, or {tokens: N}"),
        ({"inputs": "words"}, "must be tokens, or {tokens: N}"),
        ({"scale": "standardize"}, "inputs are tokens, which scale would change; remove scale"),
    ],
)  # fmt: skip
def test_bad_data_is_refused_before_any_run(data: dict[str, Any], says: str) -> None:
    with pytest.raises(OptrialError) as caught:
        study(data=data).plan()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"kind": "mlp"}}, "the model mlp takes numbers, and inputs are tokens"),
        ({"model": {"kind": "mlp"}, "engine": "numpy"}, "the model mlp takes numbers"),
        ({"model": {**GPT, "heads": 3}}, "heads: 3: must divide the width, 8"),
        ({"model": {**GPT, "tied": True}}, "the outputs are 5 classes, not the 11 tokens"),
        ({"model": {**GPT, "pool": "mean"}}, "as a transformer with pool: none has"),
        ({"data": {"tag": "short"}, "evaluate": {}}, "5 classes at each position of labels"),
        ({"loss": {"name": "cross_entropy", "ignore_index": "pad"}}, "must be a whole number"),
        ({"loss": "mse", "metrics": [], "data": {"targets": "labels"}}, "mse counts every pos"),
        ({"metrics": ["mse"]}, "mse counts every position"),
        ({"metrics": ["bits_per_byte"]}, "needs a text, whose bytes are known"),
        ({"model": {**OWN, "args": {"vocabulary": 9}}}, "index out of range"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_run(changes: dict[str, Any], says: str) -> None:
    with pytest.raises((StudyError, DataError)) as caught:
        study(**changes).plan()
    assert says in str(caught.value)


def test_numbers_are_no_tokens() -> None:
    dataset = {"name": "moons", "n_samples": 50}
    with pytest.raises(StudyError, match="the model transformer takes tokens"):
        Study(
            problem={"dataset": dataset, "model": "transformer"},
            budget={"steps": 1},
            optimizers=[{"rule": "sgd", "lr": 0.1}],
            batch_size=8,
        ).plan()
