"""Several inputs of a model, as a mapping: the same numbers in every engine as in a plain loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import optrial
from optrial.errors import DataError, StudyError
from optrial.plan import arrange
from optrial.spec import RunSpec
from optrial.study import Study
from tests.small import learner_for
from tests.tolerance import TRAJECTORY_FLOAT64

WORDS, STEPS = 7, 12
DRAWS = np.random.default_rng(0)
ARRAYS: Mapping[str, np.ndarray] = {
    "image": DRAWS.normal(size=(90, 1, 3, 2)).astype(np.float32),
    "words": DRAWS.integers(0, WORDS, (90, 4)),
    "age": DRAWS.uniform(size=90),
}
TARGETS = DRAWS.integers(0, 3, 90)


class Net(nn.Module):
    """An image and words, each through a layer, and a number."""

    def __init__(self, input_shape: Mapping[str, tuple[int, ...]], classes: int) -> None:
        super().__init__()
        assert input_shape == {"image": (1, 3, 2), "words": (4,), "age": ()}
        self.image: nn.Module = nn.LazyLinear(5)
        self.words = nn.Embedding(WORDS, 5)
        self.head = nn.Linear(6, classes)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        assert set(inputs) == {"image", "words", "age"}
        assert inputs["words"].dtype == torch.int64
        image = inputs["image"].mul_(2)  # a copy
        hidden = self.image(image.flatten(1)) + self.words(inputs["words"]).mean(1)
        logits: Tensor = self.head(torch.cat([hidden.tanh(), inputs["age"].unsqueeze(1)], dim=1))
        return logits


def part(rows: slice, **changed: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return {name: value[rows] for name, value in (ARRAYS | changed).items()}, TARGETS[rows]


def data() -> dict[str, Any]:
    """Splits with inputs in another order."""
    inputs, targets = part(slice(60, 90))
    return {"train": part(slice(60)), "test": (dict(reversed(inputs.items())), targets)}


def study(dataset: Any = None, **changes: Any) -> Study:
    keys: dict[str, Any] = {
        "problem": {
            "dataset": data() if dataset is None else dataset,
            "model": {"factory": Net},
            "metrics": ["accuracy"],
        },
        "batch_size": 20,
        "budget": {"steps": STEPS},
        "seeds": 2,
        "precision": "float64",
        "optimizers": [{"rule": "adam", "lr": [0.01, 0.03]}],
    }
    return Study(**(keys | changes))


def plainly(run: RunSpec, weights: Mapping[str, np.ndarray], batches: Any) -> list[float]:
    """Losses of a plain loop with the batches of an engine, then the mean loss of the test."""
    model = Net({"image": (1, 3, 2), "words": (4,), "age": ()}, 3)
    model.image = nn.Linear(6, 5)
    model.double()
    tensors = {n: torch.from_numpy(v) for n, v in weights.items()}
    model.load_state_dict(tensors)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.hyperparameters["lr"])

    def batch(rows: Any) -> tuple[dict[str, Tensor], Tensor]:
        inputs = {n: torch.from_numpy(v[rows]) for n, v in ARRAYS.items()}
        floats = {n: v.float().double() for n, v in inputs.items() if v.is_floating_point()}
        return inputs | {n: v.clone() for n, v in floats.items()}, torch.from_numpy(TARGETS[rows])

    losses = []
    for _ in range(STEPS):
        inputs, targets = batch(np.asarray(next(batches).indices))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    inputs, targets = batch(slice(60, 90))
    return [*losses, nn.functional.cross_entropy(model(inputs), targets).item()]


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_engines_pass_the_inputs_on_by_name(engine: str) -> None:
    made = study()
    dataset = made.load_data()
    plan = made.plan(dataset)
    runs = arrange(plan.runs) if engine == "stacked" else plan.runs[:1]
    learner = learner_for(runs, dataset, engine)
    starts = [learner.weights(index) for index in range(len(runs))]
    learner.start(1)
    steps = learner.advance(STEPS)
    tested = learner.evaluate("test", STEPS)
    for index, run in enumerate(runs):
        batches = learner_for([run], dataset, "reference").batches(1)
        ours = [*steps.losses[:, index], tested.losses[index]]
        wanted = plainly(run, starts[index], batches)
        assert ours == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)


def test_saved_models_take_a_mapping(tmp_path: Path) -> None:
    with study(seeds=1, precision="float32", save="final").run(tmp_path / "study") as results:
        (record, *_) = results.records
        model = results.model(record.run_id)
        inputs, targets = part(slice(60, 90))
        tensors = {n: torch.from_numpy(v) for n, v in inputs.items()}
        tensors["age"] = tensors["age"].float()
        predicted = model(tensors).argmax(1).numpy()
        assert (predicted == targets).mean() == pytest.approx(record.metrics["test_accuracy"])
        again = results.evaluate("test")
        assert not any(one.differs for one in again)


def test_arrays_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    splits = {
        f"{split}_{name}": value
        for split, (inputs, targets) in data().items()
        for name, value in {**inputs, "targets": targets}.items()
    }
    np.savez("several.npz", **splits, source="made up")
    loaded = study({"name": "several.npz", "inputs": [*ARRAYS]}).load_data()
    passed = study().load_data()
    assert loaded.sha256 == passed.sha256
    assert loaded.input_shape == passed.input_shape != (11,)
    assert "source" in loaded.notes[0]
    assert study({"name": "several.npz", "inputs": ["words"]}).load_data().sha256 != loaded.sha256
    with pytest.raises(DataError, match="train_image, train_title, train_targets"):
        study({"name": "several.npz", "inputs": ["image", "title"]}).load_data()
    np.savez("whole.npz", **ARRAYS, y=TARGETS)
    assert study({"name": "whole.npz", "inputs": [*ARRAYS]}).load_data().sizes["test"] == 18
    with pytest.raises(StudyError, match="names an input twice"):
        study({"name": "whole.npz", "inputs": ["age", "age"]}).load_data()


class Samples(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return len(TARGETS)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        return {name: value[index] for name, value in ARRAYS.items()}, int(TARGETS[index])


def test_a_torch_dataset_may_give_mappings() -> None:
    assert study(Samples()).load_data().sha256 == study((dict(ARRAYS), TARGETS)).load_data().sha256


def test_names_are_part_of_the_data() -> None:
    renamed = {"picture" if name == "image" else name: value for name, value in ARRAYS.items()}
    first, second = (study((arrays, TARGETS)).load_data() for arrays in (dict(ARRAYS), renamed))
    assert first.sha256 != second.sha256


def test_sizes_of_several_inputs_are_shown() -> None:
    (model,) = study().models()
    assert "image (1, 3, 2), words (4,), age ()" in repr(model.summary.input_shape)
    assert model.summary.parameters == 6 * 5 + 5 + WORDS * 5 + 3 * 7


BAD: dict[str, tuple[Any, str]] = {
    "another input in test": (
        {"train": part(slice(60)), "test": ({"image": ARRAYS["image"]}, TARGETS)},
        "train has the inputs image",
    ),
    "another shape in test": (
        {"train": part(slice(60)), "test": part(slice(9), words=ARRAYS["words"][:, :2])},
        r"words \(4,\) of whole numbers.*words \(2,\)",
    ),
    "another kind in test": (
        {"train": part(slice(60)), "test": part(slice(9), words=ARRAYS["words"] / 2)},
        "give all splits the same",
    ),
    "no names in test": (
        {"train": part(slice(60)), "test": (ARRAYS["image"], TARGETS)},
        "inputs of test have no names",
    ),
    "lengths": ((dict(ARRAYS) | {"age": np.ones(5)}, TARGETS), "image 90, words 90, age 5"),
    "text": ((dict(ARRAYS) | {"age": np.full(90, "old")}, TARGETS), "the input 'age' is of type"),
    "nan": ((dict(ARRAYS) | {"age": np.full(90, np.nan)}, TARGETS), "'age' holds values that"),
    "large": ((dict(ARRAYS) | {"age": np.full(90, 2**24 + 1)}, TARGETS), "up to 2\\^24 are exact"),
    "empty": (({}, TARGETS), "a mapping without inputs"),
}


@pytest.mark.parametrize("case", BAD)
def test_inputs_that_do_not_fit_are_refused(case: str) -> None:
    dataset, message = BAD[case]
    with pytest.raises(DataError, match=message):
        study(dataset).load_data()


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": "standardize"},
        {"mean": 0.5, "std": 0.5},
        {"augment": {"flip": True}},
        {"inputs": "tokens"},
        {"targets": "inputs"},
    ],
    ids=str,
)
def test_arguments_of_one_input_are_refused(arguments: dict[str, Any]) -> None:
    name = "tests.engine.test_several_inputs:data"
    changed = {"loss": "mse"} if "targets" in arguments else {}
    problem = {"dataset": {"name": name, **arguments}, "model": {"factory": Net}, **changed}
    with pytest.raises(DataError, match="have several inputs"):
        study(problem=problem).load_data()


def test_models_of_the_catalogue_take_one_input() -> None:
    with pytest.raises(StudyError, match="several: image, words, age; use your own model"):
        study(problem={"dataset": data(), "model": "mlp"}).plan()


class Misnamed(Net):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.image(inputs["picture"])  # type: ignore[no-any-return]


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.layer(inputs["words"])  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", [Misnamed, Whole])
def test_a_model_that_fails_is_told_what_it_gets(model: type[nn.Module]) -> None:
    """Also one whose lazy layers are tried first."""
    says = (
        r"a mapping with image \(batch, 1, 3, 2\), floating point; words \(batch, 4\), int64; age"
    )
    problem = {"dataset": data(), "model": {"factory": model}, "metrics": ["accuracy"]}
    with pytest.raises(StudyError, match=says):
        study(problem=problem).plan()


def test_compare_takes_a_mapping(tmp_path: Path) -> None:
    results = optrial.compare(
        data=(dict(ARRAYS), TARGETS),
        model=Net,
        optimizers=["sgd", "adam"],
        steps=2,
        batch_size=20,
        seeds=2,
        out=tmp_path / "compared",
    )
    with results:
        assert {record.status.value for record in results.records} == {"done"}
