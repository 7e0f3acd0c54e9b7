"""Commands that show the data and the models of a study before it is run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli.options import (
    DataDir,
    FigureFile,
    Settings,
    Split,
    StudyArgument,
    TrustOption,
    load_study,
)
from optrial.cli.output import note, print_table, prints_apart
from optrial.input_parts import parts_of

if TYPE_CHECKING:
    from optrial.plan import PlannedModel
    from optrial.study import Study

__all__ = ["model", "print_models", "samples"]

ProblemOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Problem of the study \\[default: the first].")
]


def model(
    study: StudyArgument,
    problem: ProblemOption = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the layers of a study's model: output shapes, parameters and memory of a step.

    Memory is computed, without data and program; optrial timing measures it.
    """
    from optrial.records import write_json

    with prints_apart():
        models = load_study(study, None, None, None, settings, trust).models(problem, data_dir)
    if as_json:
        write_json([_plain(one) for one in models], sys.stdout)
        return
    _print_models(models)


def print_models(study: Study, data_dir: Path | None) -> None:
    """Print the layers and the memory of each model of a study."""
    with prints_apart():
        models = [model for name in study.studies.by_name for model in study.models(name, data_dir)]
    _print_models(models)


def _print_models(models: Sequence[PlannedModel]) -> None:
    for model in models:
        _print_model(model, further=len(models) > 1)


def _plain(model: PlannedModel) -> dict[str, object]:
    memory = [asdict(part) | {"total": part.total} for part in model.memory]
    return asdict(model.summary) | {"memory": memory}


def _print_model(model: PlannedModel, *, further: bool) -> None:
    summary = model.summary
    arguments = " ".join(f"{name}={_short(value)}" for name, value in summary.arguments.items())
    rows = [
        [layer.name or "(model)", layer.kind, _shape(layer.output_shape), f"{layer.parameters:,}"]
        for layer in summary.layers
    ]
    inputs = {"input": summary.input_shape}
    if several := parts_of(summary.input_shape):
        inputs = {f"input {one.name}": one.shape for one in several}
    rows = [*([name, "", _shape(shape), ""] for name, shape in inputs.items()), *rows]
    title = f"{summary.kind} {arguments}".strip()
    columns = ["layer", "kind", "output", "parameters"]
    print_table(columns, rows, title, ["kind", "output"], further=further)
    frozen = summary.parameters - summary.trained_parameters
    note(
        f"{summary.parameters:,} parameters"
        + f", {frozen:,} of them not trained" * bool(frozen)
        + f", {summary.buffers:,} values in buffers" * bool(summary.buffers)
        + f"; {_number(summary.operations_per_sample)} operations per sample"
    )
    parts = ("parameters", "gradients", "state", "activations", "total")
    memory = [
        [part.optimizer, part.batch_size, *(_megabytes(getattr(part, name)) for name in parts)]
        for part in model.memory
    ]
    columns = ["optimizer", "batch size", *(f"{name} MB" for name in parts)]
    print_table(columns, memory, "memory of a training step", further=True)


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "—"
    return " × ".join(map(str, shape)) or "1"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        known = {name: part for name, part in value.items() if part is not None}
        if list(known) == ["name"]:
            return _short(known["name"])
        return "{" + ",".join(f"{name}:{_short(part)}" for name, part in known.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


def _number(value: int) -> str:
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,}"


def _megabytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.3g}"


def samples(
    study: StudyArgument,
    split: Annotated[Split, typer.Option(help="Split to show.")] = Split.TRAIN,
    count: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of samples \\[default: as many as fit]."),
    ] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    out: FigureFile = None,
) -> None:
    """Show samples of a study's data with their labels, as models get them.

    Rows of a table and sequences of tokens are printed; images, series and points of a plane are
    drawn.
    """
    from optrial.data import some_samples
    from optrial.report.samples import is_table, samples_figure, table_cells
    from optrial.style import save_figure

    with prints_apart():
        loaded = load_study(study, None, None, None, settings, trust)
        data = loaded.load_data(data_dir, problem=problem)
    chosen = some_samples(data, split, count)
    title = f"{data.name}, {split}"
    as_table = chosen.tokens is not None or is_table(chosen.inputs, chosen.targets)
    if as_table:
        print_table(*table_cells(*chosen), title)
    if out is not None or not as_table:
        file = out or Path(f"{loaded.default_folder.name}-samples.png")
        save_figure(samples_figure(*chosen, title=title), file)
        note(f"wrote {file}")
