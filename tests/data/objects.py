"""Objects of a program as datasets, as `optrial.compare` makes them."""

from __future__ import annotations

from typing import Any

from optrial.code import register
from optrial.data import Dataset, load_dataset, split_objects


def load_objects(raw: object, arguments: dict[str, Any] | None = None, **options: Any) -> Dataset:
    objects = split_objects("data", raw)
    parts = objects if objects.parts else objects.splits.get("all", objects.splits)

    def data() -> Any:
        return parts

    return load_dataset(register(data), arguments or {}, **options)
