"""The reference engine: the plain PyTorch loop a reader would write.

It is the yardstick of correctness and of speed. With ``rng: script`` it is that script to the last
bit: one global generator seeded before the model is built, an ordinary shuffling `DataLoader`, the
`torch.optim` class of the rule where there is one, and a `DataLoader` for evaluation, which, as in
any script, draws from the global generator too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from optrial.data import Dataset as Arrays
from optrial.engine.hashing import arrays_sha256
from optrial.engine.rule_optimizer import RuleOptimizer
from optrial.engine.solo import Batch
from optrial.engine.threads import threads_for
from optrial.engine.training import batch_order
from optrial.models import build_model, key_dropout, set_mask_key
from optrial.plan import RunSpec
from optrial.rules import get_rule

__all__ = ["ReferenceEngine", "TensorSplit", "tensor_splits"]

_EVALUATION_BATCH = 2048  # samples; bounds the memory of activations, not the result


class TensorSplit(Dataset[Batch]):
    """A split as tensors on a device; whole batches are gathered by one indexing."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return Batch(index, self.inputs[index], self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather a batch; `DataLoader` calls this instead of one `__getitem__` a sample."""
        rows = torch.as_tensor(indices)
        return Batch(indices, self.inputs[rows], self.targets[rows])


def tensor_splits(dataset: Arrays, precision: str, device: str) -> dict[str, TensorSplit]:
    """Return every split on a device, inputs in the given precision, targets as int64."""
    dtype = getattr(torch, precision)
    return {
        name: TensorSplit(
            torch.from_numpy(split.inputs).to(device, dtype),
            torch.from_numpy(split.targets).to(device),
        )
        for name, split in dataset.splits.items()
    }


def _as_fetched(batch: Any) -> Any:
    """Leave a batch as `TensorSplit` gathered it."""
    return batch


class ReferenceEngine:
    """One model and one optimizer, trained by ordinary PyTorch."""

    def __init__(self, spec: RunSpec, dataset: Arrays, splits: Mapping[str, TensorSplit]) -> None:
        self.spec = spec
        self.splits = splits
        self.script = spec.rng == "script"
        first = splits["train"].inputs
        if self.script:
            torch.manual_seed(spec.seed)
        self.model = build_model(
            spec.model,
            spec.model_arguments,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            seed=None if self.script else spec.seed,
        ).to(first.device, first.dtype)
        self.dropout = [] if self.script else key_dropout(self.model)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer, implementation = _build_optimizer(spec, self.model)
        self.facts: Mapping[str, Any] = {
            "engine": "reference",
            "device": str(first.device),
            "implementation": implementation,
        }
        # A script runs with PyTorch's own number of threads.
        self.threads = None if self.script else threads_for(spec, self.model)
        self._rng_at_epoch = torch.get_rng_state()
        self._rng_resumed: torch.Tensor | None = None

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield batches from an ordinary `DataLoader`; see `SoloEngine`."""
        if self.script:
            return self._script_batches(first_step)
        order = batch_order(self.spec, len(self.splits["train"]))
        return iter(
            DataLoader(
                self.splits["train"],
                batch_sampler=order.batches(first_step),  # type: ignore[arg-type]
                collate_fn=_as_fetched,
                generator=torch.Generator(),  # its base seed must not come from the global one
            )
        )

    def _script_batches(self, first_step: int) -> Iterator[Batch]:
        spec = self.spec
        loader = DataLoader(
            self.splits["train"],
            batch_size=spec.batch_size,
            shuffle=spec.shuffle,
            drop_last=spec.drop_last,
            collate_fn=_as_fetched,
        )
        skipped = (first_step - 1) % spec.steps_per_epoch
        if self._rng_resumed is not None:
            # Deal the cards of the interrupted epoch again, then go on where it stood.
            torch.set_rng_state(self._rng_at_epoch if skipped else self._rng_resumed)
        while True:
            self._rng_at_epoch = torch.get_rng_state()
            epoch = iter(loader)
            if skipped:
                for _ in islice(epoch, skipped):
                    pass
                skipped = 0
                assert self._rng_resumed is not None
                torch.set_rng_state(self._rng_resumed)
            yield from epoch

    def step(self, batch: Batch, step: int) -> tuple[float, int]:
        """Train on one batch; see `SoloEngine`."""
        set_mask_key(self.dropout, self.spec.seed, step)
        self.model.train()
        self.optimizer.zero_grad()
        outputs = self.model(batch.inputs)
        loss = self.loss(outputs, batch.targets)
        loss.backward()
        self.optimizer.step()
        return loss.item(), _correct(outputs, batch.targets)

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[float, float]:
        """Return mean loss and accuracy over a whole split; see `SoloEngine`."""
        data = self.splits[split]
        self.model.eval()
        loader = DataLoader(
            data,
            batch_size=self.spec.batch_size if self.script else _EVALUATION_BATCH,
            collate_fn=_as_fetched,
            generator=None if self.script else torch.Generator(),
        )
        loss_sum, correct = 0.0, 0
        for batch in loader:
            outputs = self.model(batch.inputs)
            loss_sum += self.loss(outputs, batch.targets).item() * len(batch.targets)
            correct += _correct(outputs, batch.targets)
        return loss_sum / len(data), correct / len(data)

    def state(self) -> dict[str, np.ndarray]:
        """Return parameters, buffers, optimizer state and, for a script, generator states."""
        arrays = {f"model.{name}": _array(t) for name, t in self.model.state_dict().items()}
        for index, parameter in enumerate(self.model.parameters()):
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    arrays[f"optimizer.{index}.{key}"] = _array(value)
        if self.script:
            arrays["rng.now"] = torch.get_rng_state().numpy()
            arrays["rng.epoch"] = self._rng_at_epoch.numpy()
        return arrays

    def load(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Take up what `state` returned after `step` steps."""
        device = self.splits["train"].inputs.device
        tensors = {name: torch.from_numpy(array).to(device) for name, array in state.items()}
        self.model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name[:6] == "model."}
        )
        parameters = list(self.model.parameters())
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                self.optimizer.state[parameters[int(index)]][key] = tensor
        if isinstance(self.optimizer, RuleOptimizer):
            self.optimizer.steps_taken = step
        if self.script:
            self._rng_resumed = torch.from_numpy(state["rng.now"])
            self._rng_at_epoch = torch.from_numpy(state["rng.epoch"])

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters, in the order of the model."""
        return arrays_sha256(_array(parameter) for parameter in self.model.parameters())


def _build_optimizer(spec: RunSpec, model: nn.Module) -> tuple[torch.optim.Optimizer, str]:
    """Return the optimizer and a line for the records that says what it is."""
    rule = get_rule(spec.rule)
    if spec.rng == "script" and rule.torch_optim:
        arguments = rule.torch_optim.arguments(spec.hyperparameters, spec.weight_decay, spec.decay)
        if arguments is not None:
            build: Callable[..., torch.optim.Optimizer] = getattr(
                torch.optim, rule.torch_optim.class_name
            )
            text = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            return (
                build(model.parameters(), **arguments),
                f"torch.optim.{rule.torch_optim.class_name}({text})",
            )
    ours = RuleOptimizer(
        model.parameters(), rule, spec.hyperparameters, spec.weight_decay, spec.decay
    )
    return ours, f"optrial.rules.{rule.name}"


def _correct(outputs: torch.Tensor, targets: torch.Tensor) -> int:
    return int((outputs.argmax(dim=1) == targets).sum().item())


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor to a NumPy array."""
    return tensor.detach().cpu().numpy().copy()
