"""A study of several problems as one study per problem.

`problem` is one problem, a list of problems, or a mapping from names to problems. An entry of such
a list or mapping may also hold the keys `OVERRIDES`, which replace those of the study for its
problem; its `optimizers` maps names of optimizers to the keys that replace theirs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from optrial.config.study import ProblemEntry, StudyFile, short_name
from optrial.errors import Problem, StudyError, suggest
from optrial.spec import Directions

__all__ = [
    "ONE_VALUE",
    "OVERRIDES",
    "PROBLEM_KEYS",
    "ProblemKeys",
    "Studies",
    "as_one",
    "by_problem",
    "entry_label",
    "is_several",
    "located",
    "problem_names",
]

OVERRIDES = (
    "batch_size",
    "budget",
    "evaluate",
    "seeds",
    "folds",
    "loss_limit",
    "targets",
    "reported",
    "optimizers",
    "engine",
    "sampling",
    "shuffle",
    "drop_last",
    "accumulate",
    "zero_grad",
    "early_stopping",
)
"""Keys of a study that one of several problems may replace for itself."""

ONE_VALUE = "takes one value; to compare several, give several problems that differ in it"
"""Message about a list as the value of a key of a problem that takes no axis."""

PROBLEM_KEYS = (*ProblemEntry.model_fields, "function")
"""Keys of a problem, without those of `OVERRIDES`."""

_OF_FUNCTION = re.compile(r"^problem\.(?:model|dataset)(?=\.)")
_OPTIMIZER_PATH = re.compile(r"optimizers\[(\d+)\]\.([^.\[]+)(.*)")


@dataclass(frozen=True)
class ProblemKeys:
    """The study of one problem, before validation.

    Attributes:
        name: of the problem; None for the only problem of a study, which is named after its data.
        place: where the study file has the problem: ``problem``, ``problem[1]``, ``problem.NAME``.
        keys: a study file with this problem alone.
        replaced: keys of the study that the problem replaces.
        optimizers: index of an optimizer -> its name, and its keys that the problem replaces.
    """

    name: str | None
    place: str
    keys: Mapping[str, Any]
    replaced: frozenset[str] = frozenset()
    optimizers: Mapping[int, tuple[str, frozenset[str]]] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """Return where the study file has what the study of this problem has at `path`."""
        key = re.split(r"[.\[]", path, maxsplit=1)[0]
        if key == "problem":
            problem = self.keys.get("problem")
            if isinstance(problem, Mapping) and "function" in problem:
                path = _OF_FUNCTION.sub("problem", path)
            return self.place + path.removeprefix("problem")
        if key in self.replaced:
            return f"{self.place}.{path}"
        if match := _OPTIMIZER_PATH.fullmatch(path):
            name, keys = self.optimizers.get(int(match[1]), ("", frozenset()))
            if match[2] in keys:
                return f"{self.place}.optimizers.{name}.{match[2]}{match[3]}"
        return path


@dataclass(frozen=True)
class Studies:
    """A validated study: one `StudyFile` per problem, by the name of the problem.

    Attributes:
        by_name: the studies, at least one.
        sources: what each was read from.
    """

    by_name: Mapping[str, StudyFile]
    sources: Mapping[str, ProblemKeys] = field(compare=False)

    @property
    def shared(self) -> StudyFile:
        """The study of the first problem, for the keys that all problems share."""
        return next(iter(self.by_name.values()))

    @property
    def directions(self) -> Directions:
        """Directions of the metrics of all problems."""
        declared = [study.directions.user_metrics for study in self.by_name.values()]
        metrics = {
            label: better for labels in reversed(declared) for label, better in labels.items()
        }
        return Directions(metrics, self.shared.tune.select if self.shared.tune else None)

    def only(self, name: str | None) -> Studies:
        """Return the study on one problem, by default the first.

        Raises:
            StudyError: there is no such problem.
        """
        name = next(iter(self.by_name)) if name is None else name
        if name not in self.by_name:
            known = f"the study has no problem '{name}'. {suggest(name, self.by_name)}"
            raise StudyError([Problem("", known)])
        return Studies({name: self.by_name[name]}, {name: self.sources[name]})

    def located(self, problems: Mapping[str, Iterable[Problem]]) -> list[Problem]:
        """Return what is wrong with the studies, each with its path in the study file.

        Args:
            problems: what is wrong, by name of the problem.
        """
        return located({name: list(distinct) for name, distinct in problems.items()}, self.sources)

    def conflicts(self) -> Iterator[Problem]:
        """Yield metrics of one name that several problems declare differently."""
        directions = self.directions.user_metrics
        for name, study in self.by_name.items():
            for label, better in study.directions.user_metrics.items():
                if better != directions[label]:
                    first = next(
                        n for n, s in self.by_name.items() if label in s.directions.user_metrics
                    )
                    yield Problem(
                        f"{self.sources[name].place}.metrics",
                        f"'{label}' is declared better: {better}, but better: {directions[label]} "
                        f"in {first}; rename one of the functions.",
                    )

    def as_dict(self) -> dict[str, Any]:
        """Return the study after defaults as plain values, from which it can be parsed again."""
        if len(self.by_name) == 1 and self.sources[next(iter(self.by_name))].name is None:
            return self.shared.model_dump(mode="json")
        return as_one({name: study.model_dump(mode="json") for name, study in self.by_name.items()})


def as_one(studies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return several studies of one problem each as one study of several problems.

    Of keys that a problem cannot replace, the first study decides; of optimizers with the same
    name, the first definition is shared and the others state what differs.

    Args:
        studies: studies after defaults as plain values, by name of the problem.
    """
    first = next(iter(studies.values()))
    replaced = [
        key
        for key in OVERRIDES
        if key != "optimizers"
        and any(study.get(key) != first.get(key) for study in studies.values())
    ]
    optimizers: dict[str, Mapping[str, Any]] = {}
    for study in studies.values():
        for entry in study["optimizers"]:
            optimizers.setdefault(entry_label(entry), entry)
    problems = {
        name: study["problem"]
        | {key: study.get(key) for key in replaced}
        | _optimizer_changes(optimizers, study["optimizers"])
        for name, study in studies.items()
    }
    shared = {key: value for key, value in first.items() if key not in replaced}
    return shared | {"problem": problems, "optimizers": list(optimizers.values())}


def by_problem(raw: Mapping[str, Any]) -> tuple[list[ProblemKeys], list[Problem]]:
    """Divide a study into one study per problem, and return what is wrong with the division."""
    problem = raw.get("problem")
    if isinstance(problem, list | tuple | Mapping) and not problem:
        empty = "must be a problem, such as {dataset: digits}, or a list or mapping of problems."
        return [], [Problem("problem", f"{problem!r}: {empty}")]
    if isinstance(problem, list | tuple):
        names = problem_names(problem)
        places = [f"problem[{index}]" for index in range(len(problem))]
        entries = list(problem)
    elif is_several(problem):
        names = [str(name) for name in problem]
        places = [f"problem.{name}" for name in names]
        entries = list(problem.values())
    else:
        return [ProblemKeys(None, "problem", raw)], []
    studies, problems = [], []
    for name, place, entry in zip(names, places, entries, strict=True):
        if isinstance(entry, Mapping):
            study, wrong = _divided(raw, name, place, entry)
            studies.append(study)
            problems += wrong
        else:
            problems.append(Problem(place, f"{entry!r}: must be a mapping of keys to values."))
    return studies, problems


def is_several(problem: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    """Return whether a value of `problem` maps names to problems."""
    return (
        isinstance(problem, Mapping)
        and bool(problem)
        and not any(key in problem for key in PROBLEM_KEYS)
        and all(isinstance(entry, Mapping) for entry in problem.values())
    )


def problem_names(entries: Sequence[object]) -> list[str]:
    """Name the problems of a list by dataset, and by model and number as far as needed."""
    names = [_data_name(entry) for entry in entries]
    if len(set(names)) < len(names):
        models = [_named(entry, "model", "kind", "factory") or "mlp" for entry in entries]
        names = [f"{name}-{model}" for name, model in zip(names, models, strict=True)]
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
    return unique


def entry_label(entry: object) -> str:
    """Return the name of an optimizer, tracker or metric in its list; "" for other entries."""
    keys = ("name", "rule", "torch", "rule_factory")
    if isinstance(entry, Mapping):
        entry = next((entry[key] for key in keys if entry.get(key)), "")
    return entry.rpartition(":")[2] if isinstance(entry, str) else ""


def _data_name(entry: object) -> str:
    if isinstance(entry, Mapping) and isinstance(entry.get("function"), str):
        return str(entry["function"])
    return _named(entry, "dataset", "name") or "problem"


def _named(entry: object, key: str, *keys: str) -> str:
    """Return the short name of a dataset or model, written as a name or as a mapping."""
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, Mapping):
        value = next((value[name] for name in keys if name in value), None)
    return short_name(value) if isinstance(value, str) else ""


def _divided(
    raw: Mapping[str, Any], name: str, place: str, entry: Mapping[str, Any]
) -> tuple[ProblemKeys, list[Problem]]:
    """Return the study of one problem, and what is wrong with the keys of its optimizers."""
    replaced = {key: entry[key] for key in OVERRIDES if key in entry}
    changes = replaced.pop("optimizers", None) or {}
    keys = {**raw, **replaced}
    keys["problem"] = {key: value for key, value in entry.items() if key not in OVERRIDES}
    optimizers = raw.get("optimizers")
    entries = list(optimizers) if isinstance(optimizers, list | tuple) else []
    labels = [entry_label(optimizer) for optimizer in entries]
    where, problems = f"{place}.optimizers", []
    if not isinstance(changes, Mapping):
        problems.append(Problem(where, "must map names of optimizers to keys, {adam: {lr: 0.1}}."))
        changes = {}
    changed: dict[int, tuple[str, frozenset[str]]] = {}
    for label, change in changes.items():
        if label not in labels:
            is_not = f"'{label}' is not an optimizer of the study. {suggest(label, labels)}"
            problems.append(Problem(f"{where}.{label}", is_not))
        elif not isinstance(entries[labels.index(label)], Mapping):
            message = f"changes '{label}', whose entry is not a mapping; write {{rule: {label}}}."
            problems.append(Problem(f"{where}.{label}", message))
        elif not isinstance(change, Mapping):
            problems.append(Problem(f"{where}.{label}", "must be a mapping of keys to values."))
        elif fixed := sorted({"name", "rule", "torch", "rule_factory"} & set(change)):
            message = "is the same on all problems; add an optimizer instead."
            problems.append(Problem(f"{where}.{label}.{fixed[0]}", message))
        else:
            index = labels.index(label)
            merged = {**entries[index], **change}
            entries[index] = {key: value for key, value in merged.items() if value is not None}
            changed[index] = label, frozenset(map(str, change))
    if changed:
        keys["optimizers"] = entries
    return ProblemKeys(name, place, keys, frozenset(replaced), changed), problems


def _optimizer_changes(
    shared: Mapping[str, Mapping[str, Any]], entries: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the key `optimizers` of a problem: what differs from the shared entries."""
    changes = {}
    for entry in entries:
        name = entry_label(entry)
        common = shared[name]
        different = {
            key: entry.get(key) for key in {**common, **entry} if entry.get(key) != common.get(key)
        }
        if different:
            changes[name] = different
    return {"optimizers": changes} if changes else {}


def located(
    problems: Mapping[str, Sequence[Problem]], sources: Mapping[str, ProblemKeys]
) -> list[Problem]:
    """Return what is wrong with the studies of problems, with paths in the study file, once each.

    Args:
        problems: what is wrong, by name of the problem.
        sources: where each problem is.
    """
    everywhere = set.intersection(*map(set, problems.values())) if problems else set()
    distinct: dict[Problem, None] = {}
    for name, wrong in problems.items():
        source = sources[name]
        for problem in wrong:
            path = source.path(problem.path)
            of_all = path == problem.path and (problem in everywhere or source.name is None)
            is_named = of_all or path.startswith(f"{source.place}.") or path == source.place
            message = problem.message if is_named else f"in problem {name}: {problem.message}"
            distinct[Problem(path, message)] = None
    return list(distinct)
