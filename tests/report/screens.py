"""Screenshots of pages of made-up studies: python -m tests.report.screens FOLDER."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from optrial.analysis.audit import audit
from optrial.analysis.view import StudyView
from optrial.records import Curve, Record
from optrial.report.study_page import study_page
from optrial.spec import Status
from tests.report.studies import EVERY, made_up_records

COUNTS = {2: 6, 6: 12, 30: 16}
"""Number of seeds by number of optimizers: enough to tell some apart."""
RATES = (0.001, 0.01, 0.1, 1.0)
SIZES = {1280: 4600, 400: 6000}
NAMES = (
    *("sgd", "momentum", "nesterov", "adam", "adamw", "lion", "rmsprop", "adagrad", "adadelta"),
    *("radam", "nadam", "adamax", "amsgrad", "lamb", "lars", "muon", "prodigy", "adafactor"),
)
BROWSER = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    "--virtual-time-budget=3000",
)


def measured(record: Record, number: int, generator: np.random.Generator) -> Record:
    """Return a run whose accuracy depends on its optimizer, its rate and its seed."""
    rate = record.hyperparameters["lr"]
    away = abs(np.log10(rate) + 1.3)
    mean = 0.97 - 0.0015 * (7 * number % 30) - 0.06 * away - (number == 1) * 0.3
    if rate == 1.0 and number % 3 == 0:
        mean = 0.1
    accuracies = mean + 0.003 * np.sin(record.seed) + generator.normal(0, 0.002, 2)
    values = [1 - mean, *accuracies.tolist()]
    known = zip(record.metrics, values, strict=True)
    return replace(record, metrics={m: v if record.status == "done" else None for m, v in known})


def as_losses(record: Record) -> Record:
    """Return a run of a regression, whose metrics are losses."""
    names = {"validation_accuracy": "validation_loss", "test_accuracy": "test_loss"}
    metrics = {
        names.get(name, name): None if value is None else 1 - value if name in names else value
        for name, value in record.metrics.items()
    }
    return replace(record, metrics=metrics)


def curves(records: Sequence[Record], metric: str) -> dict[str, Curve]:
    """Return curves that end at the final values."""
    steps = {record.run_id: np.arange(EVERY, record.step + 1, EVERY) for record in records}
    rising = 1 if "accuracy" in metric else -1
    return {
        record.run_id: Curve(at, (record.metrics.get(metric) or 0.2) - rising * 2 / (4 + at))
        for record in records
        if len(at := steps[record.run_id])
    }


def view(optimizers: int, *, regression: bool = False, seeds: int = 0) -> StudyView:
    """Return a finished study; three of its runs diverged."""
    names = [NAMES[i] if i < len(NAMES) else f"variant-{i}" for i in range(optimizers)]
    rates = RATES[1:] if optimizers > 10 else RATES
    records = made_up_records(names, rates, seeds or COUNTS[optimizers], diverged=(3, 7, 11))
    generator = np.random.default_rng(optimizers)
    records = [measured(record, names.index(record.optimizer), generator) for record in records]
    if regression:
        records = [as_losses(record) for record in records]
    return viewed(f"{optimizers} optimizers", records)


def viewed(name: str, records: Sequence[Record]) -> StudyView:
    study = {"name": name, "notes": "A study that was made up.", "budget": {"epochs": 10}}
    return StudyView(study, tuple(records), lambda metric: curves(records, metric))


def unfinished(records: Sequence[Record]) -> Iterator[Record]:
    """Yield runs of which the last third has not ended."""
    for number, record in enumerate(records):
        if number < 2 * len(records) / 3:
            yield record
        else:
            yield replace(record, status=Status.INTERRUPTED, step=100, metrics={})


STUDIES: Mapping[str, Callable[[], StudyView]] = {
    **{f"{count}-classification": partial(view, count) for count in COUNTS},
    **{f"{count}-regression": partial(view, count, regression=True) for count in COUNTS},
    "no-winner": partial(view, 6, seeds=3),
    "diverged": lambda: viewed("all runs diverged", made_up_records(diverged=range(12))),
    "unfinished": lambda: viewed("unfinished", list(unfinished(view(6).records))),
}
"""Every study of which screenshots are taken, by its name."""


def take(page: Path, picture: Path, width: int, height: int) -> None:
    command = [*BROWSER, f"--window-size={width},{height}", f"--screenshot={picture}"]
    subprocess.run([*command, page.absolute().as_uri()], check=True, capture_output=True)


def main(folder: Path) -> None:
    """Write each page, and its pictures in both themes and at two widths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in STUDIES.items():
        made_up = make()
        text = study_page(made_up, audit(made_up))
        for theme in ("light", "dark"):
            page = folder / f"{name}-{theme}.html"
            page.write_text(text.replace("<html ", f'<html data-theme="{theme}" ', 1), "utf-8")
            for width, height in SIZES.items():
                take(page, page.with_name(f"{page.stem}-{width}.png"), width, height)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
