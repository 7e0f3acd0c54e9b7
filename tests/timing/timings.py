"""A timing made up of numbers, without any training."""

from __future__ import annotations

from collections.abc import Sequence

from optrial.timing import SettingTiming, StudyTiming

SECONDS = {("sgd", 32): 0.001, ("adam", 32): 0.0015, ("sgd", 128): 0.004, ("adam", 128): 0.003}
NOISE = (1.0, 1.02, 0.99, 1.05, 1.01)


def made_up_timing(
    names: Sequence[str] = ("sgd", "adam"),
    busy: Sequence[float] = (1.0,) * 5,
    memory: int | None = 5_000_000,
) -> StudyTiming:
    """Two optimizers at two batch sizes, five rounds; at batch size 128 the second is faster.

    Args:
        names: of the optimizers.
        busy: how many times as long everything took in each round.
        memory: bytes of every setting.
    """
    settings = []
    for (optimizer, batch_size), seconds in SECONDS.items():
        shift = len(settings)
        noise = NOISE[shift:] + NOISE[:shift]
        settings.append(
            SettingTiming(
                optimizer=names[0 if optimizer == "sgd" else 1],
                setting="",
                conditions={"batch_size": batch_size, "hidden": [8, 8]},
                steps=3000 if batch_size == 32 else 750,
                engine="reference",
                implementation=f"optrial.rules.{optimizer}",
                threads=1,
                first_step_seconds=0.1,
                step_seconds=tuple(seconds * n * b for n, b in zip(noise, busy, strict=True)),
                memory_bytes=memory,
            )
        )
    return StudyTiming(
        study="made up",
        engine="reference",
        device="cpu",
        precision="float32",
        rounds=len(busy),
        machine={"processors": 2},
        memory="peak of made-up memory" if memory else "",
        settings=tuple(settings),
        notes=("the machine was busy",),
    )
