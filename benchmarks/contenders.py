"""The training loops that are compared: three written by hand, and optrial's."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as Samples
from workloads import SAMPLES, Precision, Workload

from optrial.data import Dataset, Split
from optrial.engine import Engines, Learner, process_for
from optrial.plan import pack

Step = Callable[[int], float]  # takes a number of steps, returns their seconds


def synchronize(device: str) -> None:
    """Wait for pending CUDA work; a no-op on the CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(take: Callable[[int], object], device: str) -> Step:
    """Return a function that takes steps and returns their seconds."""

    def step(count: int) -> float:
        synchronize(device)
        started = time.perf_counter()
        take(count)
        synchronize(device)
        return time.perf_counter() - started

    return step


def plain(workload: Workload, dataset: Dataset, device: str) -> Step:
    """An expert's loop: tensors on the device, one permutation per epoch, fused Adam."""
    split = dataset.splits["train"]
    inputs = torch.from_numpy(split.inputs).to(device)
    targets = torch.from_numpy(split.targets).to(device)
    network = workload.module().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def batches() -> Iterator[torch.Tensor]:
        while True:
            order = torch.randperm(SAMPLES, device=device)
            yield from order[: SAMPLES - SAMPLES % workload.batch_size].split(workload.batch_size)

    rows_of_steps = batches()

    def take(steps: int) -> None:
        for _ in range(steps):
            rows = next(rows_of_steps)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()

    return timed(take, device)


class Transformed(Samples[tuple[torch.Tensor, torch.Tensor]]):
    """Samples transformed one by one, as in torchvision's datasets; tokens are left as they are."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        sample = torch.from_numpy(self.split.inputs[index])
        transformed = (sample - 0.5) / 0.5 if sample.is_floating_point() else sample
        return transformed, torch.as_tensor(self.split.targets[index])


def loader(samples: Samples[Any], workload: Workload) -> DataLoader[Any]:
    """Return shuffled batches of full size."""
    return DataLoader(samples, batch_size=workload.batch_size, shuffle=True, drop_last=True)


def script(workload: Workload, dataset: Dataset, device: str) -> Step:
    """A homework script: DataLoader, transform, Adam, and `.item()` of the loss at each step."""
    network = workload.module().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    epoch = loader(Transformed(dataset.splits["train"]), workload)

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from epoch

    batches = endless()

    def take(steps: int) -> None:
        for _ in range(steps):
            inputs, targets = (tensor.to(device) for tensor in next(batches))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()

    return timed(take, device)


def lightning(workload: Workload, dataset: Dataset, device: str) -> Step | None:
    """A LightningModule with all options off; None if Lightning is not installed."""
    if importlib.util.find_spec("lightning") is None:
        return None
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = workload.module()

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            inputs, targets = batch
            return nn.functional.cross_entropy(self.network(inputs), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    class Clock(lightning.Callback):  # type: ignore[misc]
        """Times only the steps, without the set-up of the trainer."""

        seconds = 0.0

        def on_train_start(self, *_: Any) -> None:
            synchronize(device)
            self.started = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            synchronize(device)
            self.seconds = time.perf_counter() - self.started

    train = dataset.splits["train"]
    tensors = [torch.from_numpy(train.inputs), torch.from_numpy(train.targets)]
    module, batches = Module(), loader(TensorDataset(*tensors), workload)

    def step(count: int) -> float:
        clock = Clock()
        trainer = lightning.Trainer(
            accelerator=device,
            devices=1,
            max_steps=count,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
        )
        trainer.fit(module, batches)
        return clock.seconds

    return step


def started(learner: Learner, device: str) -> Step:
    """Return the steps of one of optrial's learners, which compiles in its first step.

    They have the threads, and treat denormal numbers, as in training.
    """
    learner.start(1)
    steps = timed(learner.advance, device)

    def step(count: int) -> float:
        with process_for(learner):
            return steps(count)

    return step


def stack(
    workload: Workload,
    dataset: Dataset,
    device: str,
    precision: Precision,
    width: int,
    engine: str = "compiled",
) -> tuple[Step, int]:
    """One stack of about `width` runs; also returns their number."""
    runs = pack(workload.specs(dataset, precision), width)[0]
    return started(Engines(dataset, precision, device).build(engine, runs), device), len(runs)


def chosen(
    workload: Workload, dataset: Dataset, device: str, precision: Precision
) -> tuple[Step, int, str]:
    """optrial's choice for the workload's runs; also returns their number and the engine."""
    engines = Engines(dataset, precision, device)
    (choice,) = engines.choose(workload.specs(dataset, precision))
    runs = choice.stacks[0]
    return started(engines.build(choice.engine, runs), device), len(runs), choice.engine
