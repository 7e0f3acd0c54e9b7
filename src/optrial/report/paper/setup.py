"""Facts about the protocol of a study, in words: data, model, budget, seeds and software."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import all_listed, counted, listed
from optrial.records import Record
from optrial.rules import RULES
from optrial.spec import Average, OptimizerKind, ParameterGroup, RunSpec, metric_title, three_digits

__all__ = [
    "batch_text",
    "budget_text",
    "data_text",
    "model_text",
    "named_values",
    "number",
    "optimizer_options",
    "rule_title",
    "setup_of",
    "short_name",
    "versions_of",
]

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
PACKAGES = {
    "optrial": "optrial",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "scikit-learn": "scikit-learn",
}


def number(value: object) -> str:
    """Return a number with three significant digits, and any other value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return three_digits(value)
    if isinstance(value, Mapping):
        names = [value[key] for key in ("name", "kind") if key in value]
        rest = {key: item for key, item in value.items() if key not in ("name", "kind")}
        return ", ".join([*map(number, names), *named_values(rest)])
    if isinstance(value, list | tuple):
        return "-".join(map(number, value)) or "none"
    return str(value)


def named_values(values: Mapping[str, object]) -> Iterator[str]:
    """Yield names with their values, without those that are None or switched off."""
    for name, value in values.items():
        if value is True:
            yield name.replace("_", " ")
        elif value is not None and value is not False and value != "":
            yield f"{name.replace('_', ' ')} {number(value)}"


def optimizer_options(spec: RunSpec, tuned: Collection[str] = ()) -> Iterator[str]:
    """Yield the options of an optimizer beside its hyperparameters.

    Args:
        spec: one of its runs.
        tuned: hyperparameters to leave out.
    """
    if spec.weight_decay and "weight_decay" not in tuned:
        yield _decay_text(spec.weight_decay, spec.decay)
    for name in ("clip_norm", "clip_value"):
        if (limit := getattr(spec, name)) is not None and name not in tuned:
            yield f"gradient {name.removeprefix('clip_')} clipped at {number(limit)}"
    if spec.schedule:
        yield _schedule_text(spec.schedule)
    if not spec.zero_grad:
        yield "gradients accumulate over steps"
    if spec.sam_rho is not None:
        kind = "adaptive " * spec.sam_adaptive
        yield f"{kind}sharpness-aware minimization (rho {number(spec.sam_rho)})"
    if spec.average is not None:
        yield _average_text(spec.average)
    for group in spec.groups:
        texts = ", ".join(_group_options(group, spec, tuned))
        yield f"{group.name} ({texts})" if texts else group.name


def _average_text(average: Average) -> str:
    """Return the average of the weights at which a run is evaluated."""
    if average.kind == "ema":
        return f"evaluated at an exponential average of the weights (decay {number(average.value)})"
    share = f"{100 * average.value:g} %"
    return f"evaluated at the mean of the weights over the last {share} of the steps"


def _decay_text(weight_decay: float, kind: str) -> str:
    return "decoupled " * (kind == "decoupled") + f"weight decay {number(weight_decay)}"


def _schedule_text(schedule: Mapping[str, Any]) -> str:
    arguments = ", ".join(named_values({k: v for k, v in schedule.items() if k != "kind"}))
    kind = str(schedule.get("kind", "")).replace("_", " ")
    return f"{kind} schedule" + (f" ({arguments})" if arguments else "")


def _group_options(group: ParameterGroup, spec: RunSpec, tuned: Collection[str]) -> Iterator[str]:
    """Yield the values that a group of parameters sets, without those that are tuned."""
    if group.freeze:
        yield "frozen"
        return
    if group.rule:
        yield _rule_title(group.rule, group.optimizer_kind or "rule")
    prefix = f"{group.name}."
    fixed = {name: v for name, v in group.hyperparameters.items() if prefix + name not in tuned}
    yield from named_values(fixed)
    for name, factor in group.times.items():
        if f"{prefix}{name}.times" not in tuned:
            yield f"{name.replace('_', ' ')} {number(factor)} times that of the others"
    if group.weight_decay is not None and f"{prefix}weight_decay" not in tuned:
        yield _decay_text(
            group.weight_decay, (group.decay or spec.decay) * bool(group.weight_decay)
        )
    if group.schedule:
        yield _schedule_text(group.schedule)
    if group.modify is not None and f"{prefix}modify" not in tuned:
        yield f"modify {' '.join(group.modify) or 'none'}"


def short_name(name: str) -> str:
    """Return the name of user code or of a file without the place where it lies."""
    return name.replace("\\", "/").rpartition("/")[2].rpartition(":")[2]


def rule_title(spec: RunSpec) -> str:
    """Return the name of an update rule in print."""
    return _rule_title(spec.rule, spec.optimizer_kind)


def _rule_title(name: str, kind: OptimizerKind) -> str:
    rule = RULES.get(name) if kind == "rule" else None
    if rule is not None:
        return rule.title
    if name.startswith("torch."):
        return name.replace(":", ".")
    return f"{short_name(name)} (own code)"


def data_text(problem: ProblemView) -> str:
    """Return the dataset of a problem with the sizes of its splits."""
    record = problem.records[0]
    name = short_name(record.spec.dataset)
    called = problem.name if name.startswith(problem.name) else f"{problem.name} ({name})"
    sizes = record.facts.split_sizes
    if not sizes:
        return called
    parts = [f"{count:,} {SPLITS.get(split, split)}" for split, count in sizes.items()]
    fold = " in the first fold" if record.spec.fold else ""
    return f"{called} ({all_listed(parts)} samples{fold})"


def model_text(spec: RunSpec) -> str:
    """Return the model of a run with its arguments."""
    arguments = {k: v for k, v in spec.model_arguments.items() if v not in (0, 0.0, [], {})}
    options = ", ".join(named_values(arguments))
    return short_name(spec.model) + (f" ({options})" if options else "")


def budget_text(records: Iterable[Record]) -> str:
    """Return the length of training in epochs and steps."""
    records = list(records)
    lengths = dict.fromkeys(
        (r.spec.budget_seconds, r.spec.steps, r.spec.steps_per_epoch) for r in records
    )
    text = " or ".join(
        f"{seconds:g} s of training" if seconds else _length(*length)
        for seconds, *length in lengths
    )
    rules = dict.fromkeys(r.spec.early_stopping for r in records if r.spec.early_stopping)
    for rule in rules:
        metric = metric_title(rule.metric)
        count = counted(rule.patience, "evaluation")
        text += f" at most, ending once the {metric} had not improved for {count}"
    return text


def batch_text(specs: Iterable[RunSpec]) -> str:
    """Return the sizes of batches, with the number of those whose gradients make a step."""
    sizes = dict.fromkeys((spec.batch_size, spec.accumulate) for spec in specs)
    texts = [f"{size:,}" + f" ({count} per step)" * (count > 1) for size, count in sizes]
    return all_listed(texts)


def _length(steps: int, steps_per_epoch: int) -> str:
    taken = counted(steps, "step")
    if not steps or steps % steps_per_epoch:
        return taken
    return f"{counted(steps // steps_per_epoch, 'epoch')} ({taken})"


def versions_of(view: StudyView) -> list[str]:
    """Return the software that trained the runs, optrial first, with its versions."""
    versions: dict[str, dict[str, None]] = {"optrial": {}}
    for record in view.records:
        for name, version in (record.facts.versions or {}).items():
            versions.setdefault(name, {})[version] = None
    return [
        f"{title} {' and '.join(versions[name])}".strip()
        for name, title in PACKAGES.items()
        if name in versions
    ]


def setup_of(view: StudyView, problem: ProblemView) -> dict[str, str]:
    """Return the protocol of a problem by label; facts that are not recorded are left out."""
    records = problem.records
    specs = [record.spec for record in records]
    first = specs[0]
    phases = {
        "tuning": sorted({record.seed for record in records if record.phase == "tune"}),
        "report": sorted({record.seed for record in problem.reported}),
    }
    texts = {
        "data": data_text(problem),
        "data arguments": ", ".join(named_values(_shown_arguments(first))),
        "model": _distinct(map(model_text, specs)),
        "loss": first.loss.replace("_", " "),
        "batch size": batch_text(specs),
        "budget": budget_text(records),
        "evaluation": first.evaluated_steps,
        "sampling": "with replacement"
        if first.sampling != "epoch"
        else "epochs without repetition",
        "precision": _distinct(spec.precision for spec in specs),
        "seeds of tuning": _seeds(phases["tuning"]),
        "seeds of the report": _seeds(phases["report"]),
        "folds": str(folds) if (folds := len({r.fold for r in records if r.fold})) else "",
        "runs": ", ".join(f"{count:,} {status}" for status, count in _statuses(records).items()),
        "engine": _distinct(r.facts.engine for r in records),
        "device": _distinct(r.facts.device_name for r in records),
        "software": ", ".join(versions_of(view)),
    }
    return {label: text for label, text in texts.items() if text}


def _shown_arguments(spec: RunSpec) -> dict[str, Any]:
    """Return arguments of a dataset without paths; of folds, without those of a test split."""
    unused = ("test_fraction", "random_state") if spec.fold else ()
    return {
        name: short_name(value) if isinstance(value, str) and ("/" in value) else value
        for name, value in spec.dataset_arguments.items()
        if name not in unused
    }


def _distinct(texts: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(text for text in texts if text))


def _seeds(seeds: list[int]) -> str:
    """Return seeds as ranges: ``0-9``."""
    if not seeds:
        return ""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return listed([str(seed) for seed in seeds])


def _statuses(records: Iterable[Record]) -> Counter[str]:
    return Counter(str(record.status) for record in records)
