"""Finished studies of different problems, read as one study of several problems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optrial.config import as_one, by_problem, entry_label
from optrial.errors import StoreError
from optrial.records import Curve, Record, StoreReader
from optrial.spec import Directions

__all__ = ["JoinedStore"]

Study = Mapping[str, Any]


class JoinedStore:
    """The records of several studies as those of one study of several problems; read-only.

    A problem keeps its name; where two studies have a problem of the same name, the name of the
    study follows. Claims are about the problems of their study. `waive` and `notes` are united;
    of other keys that a problem cannot replace, the first study decides.

    Args:
        stores: store of each study by location, in the order of the problems.

    Raises:
        StoreError: two studies contain the same run, give one name to different optimizers, or
            disagree on how settings are chosen or which values of a metric are better.
    """

    def __init__(self, stores: Mapping[str, StoreReader]) -> None:
        self._stores = tuple(stores.values())
        studies = {location: store.study() for location, store in stores.items()}
        _check_runs({location: store.runs() for location, store in stores.items()})
        _check_optimizers(studies)
        _check_directions(studies)
        self._names = _problem_names(
            [
                (study, list(dict.fromkeys(record.problem for record in store.runs())))
                for study, store in zip(studies.values(), self._stores, strict=True)
            ]
        )
        self._sources = {
            problem: location
            for location, names in zip(stores, self._names, strict=True)
            for problem in names.values()
        }

    @property
    def sources(self) -> dict[str, str]:
        """Location of each problem's study."""
        return dict(self._sources)

    @property
    def shown(self) -> str:
        """Locations of all studies."""
        return ", ".join(store.shown for store in self._stores)

    def study(self) -> dict[str, Any]:
        """Return the joined study."""
        return self._joined([store.study() for store in self._stores])

    def plans(self) -> list[tuple[dict[str, Any], int]]:
        """Return the joined study before and after every later plan of one of the studies.

        With each, the number of runs of that study that had ended before.
        """
        versions = [store.plans() for store in self._stores]
        current = [plans[0][0] for plans in versions]
        history = [(self._joined(current), 0)]
        for index, plans in enumerate(versions):
            for study, ended in plans[1:]:
                current[index] = study
                history.append((self._joined(current), ended))
        return history

    def runs(self, *, everything: bool = False) -> list[Record]:
        """Return the planned runs of every study; with `everything`, also of earlier plans."""
        return [
            replace(record, problem=names.get(record.problem, record.problem))
            for names, store in zip(self._names, self._stores, strict=True)
            for record in store.runs(everything=everything)
        ]

    def has_former_runs(self) -> bool:
        """Return whether earlier plans of a study contain runs that its current one lacks."""
        return any(store.has_former_runs() for store in self._stores)

    def metrics(self) -> list[str]:
        """Return the names of all metrics that have a curve, in alphabetical order."""
        return sorted({metric for store in self._stores for metric in store.metrics()})

    def curves(
        self, metric: str | None = None, run_ids: Sequence[str] | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the curves of every study by run id and metric; see `Store.curves`."""
        return {
            key: curve
            for store in self._stores
            for key, curve in store.curves(metric, run_ids).items()
        }

    def close(self) -> None:
        """Close every store."""
        for store in self._stores:
            store.close()

    def _joined(self, studies: Sequence[Study]) -> dict[str, Any]:
        """Return studies, one per store, as one study of several problems."""
        singles: dict[str, Study] = {}
        claims: dict[str, None] = {}
        for study, names in zip(studies, self._names, strict=True):
            parts, _ = by_problem(study)
            only = next(iter(names), "")
            renamed = {
                part.name or "": names.get(part.name or only, part.name or only) for part in parts
            }
            singles |= {renamed[part.name or ""]: part.keys for part in parts}
            claims |= dict.fromkeys(_claims_by_problem(study, renamed))
        notes = dict.fromkeys(study.get("notes") for study in studies)
        return as_one(singles) | {
            "name": " + ".join(dict.fromkeys(str(study["name"]) for study in studies)),
            "claims": list(claims),
            "waive": {
                rule: reason
                for study in reversed(studies)
                for rule, reason in (study.get("waive") or {}).items()
            },
            "notes": "\n\n".join(filter(None, notes)),
        }


def _claims_by_problem(study: Study, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the claims of a study, each about one problem by its new name."""
    for claim in study.get("claims") or ():
        about = {name: claim.removesuffix(f" in {name}") for name in names if name}
        named = {name: text for name, text in about.items() if text != claim}
        for name, new in names.items():
            if not named or name in named:
                yield f"{named.get(name, claim)} in {new}"


def _problem_names(studies: Sequence[tuple[Study, Sequence[str]]]) -> list[dict[str, str]]:
    """Return new names of problems, for each study by the old names.

    Args:
        studies: each study with the names of its problems.
    """
    known = Counter(name for _, names in studies for name in names)
    renamed = [
        {name: f"{name}-{_slug(study)}" if known[name] > 1 else name for name in names}
        for study, names in studies
    ]
    unique, counts = Counter[str](), Counter(new for names in renamed for new in names.values())
    for names in renamed:
        for name, new in names.items():
            unique[new] += 1
            names[name] = f"{new}-{unique[new]}" if counts[new] > 1 else new
    return renamed


def _slug(study: Study) -> str:
    """Return the name of a study as a part of a name that claims can contain."""
    return re.sub(r"[^\w.-]+", "-", str(study["name"])).strip("-.")


def _check_runs(runs: Mapping[str, Sequence[Record]]) -> None:
    """Refuse studies that have a run in common."""
    places: dict[str, str] = {}
    for location, records in runs.items():
        for record in records:
            if (other := places.setdefault(record.run_id, location)) != location:
                raise StoreError(
                    f"{other} and {location} both contain the run {record.run_id}. Join studies of "
                    "different problems; seeds and optimizers are added in one study."
                )


def _check_optimizers(studies: Mapping[str, Study]) -> None:
    """Refuse studies in which one name stands for different optimizers."""
    defined: dict[str, tuple[str, str]] = {}
    for location, study in studies.items():
        for entry in study["optimizers"]:
            name, code = entry_label(entry), _code(entry)
            other, known = defined.setdefault(name, (location, code))
            if code != known:
                raise StoreError(
                    f"'{name}' is {known} in {other}, but {code} in {location}. Give one of them "
                    "another name in its study file (name: ...) and run that study into another "
                    "folder, or load the studies one by one."
                )


def _code(entry: Study) -> str:
    """Return which rule or class an optimizer is: ``rule: adam``."""
    kinds = ("rule", "torch", "rule_factory")
    return next((f"{kind}: {entry[kind]}" for kind in kinds if entry.get(kind)), "")


def _check_directions(studies: Mapping[str, Study]) -> None:
    """Refuse studies that select by different metrics, or order values of one differently."""
    declared: dict[str, tuple[str, object]] = {}
    for location, study in studies.items():
        directions = Directions.of(study)
        keys = {label: ("better", better) for label, better in directions.user_metrics.items()}
        for label, (key, value) in {**keys, "tune": ("select", directions.select)}.items():
            other, known = declared.setdefault(label, (location, value))
            if value != known:
                raise StoreError(
                    f"{label} has {key}: {known} in {other}, but {key}: {value} in {location}; "
                    "a joined study has one. Load the studies one by one."
                )
