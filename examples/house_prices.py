"""Write house-prices.csv, a table of 400 made-up houses with their prices.

python house_prices.py && optrial run house-prices.yaml
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def houses(count: int = 400) -> list[dict[str, float]]:
    """Return houses by column: area in square metres, rooms, age in years, price in thousands."""
    generator = np.random.default_rng(0)
    area = generator.uniform(40, 200, count).round(1)
    rooms = np.maximum(1, (area / 30 + generator.normal(0, 1, count)).round())
    age = generator.integers(0, 100, count)
    price = 3 * area + 10 * rooms - 0.02 * area * age + generator.normal(0, 20, count)
    columns = {"area": area, "rooms": rooms, "age": age, "price": price.round(1)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


if __name__ == "__main__":
    file = Path("house-prices.csv")
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, ["area", "rooms", "age", "price"])
        writer.writeheader()
        writer.writerows(houses())
    print(f"wrote {file}")
