"""Notes on stored runs that a plan no longer uses because data, code or keys have changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress

from optrial.errors import StoreError, counted, listed
from optrial.plan import Plan
from optrial.records import Record, Store
from optrial.spec import FINAL, RunSpec

__all__ = ["changed", "changes", "changes_at"]

Key = tuple[Hashable, ...]
"""Problem, optimizer, setting, phase, seed, fold and rung: what a run is for."""

Differences = tuple[tuple[str, str], ...]
"""Field of a run, or name of its code, and its old value as text."""


def changes_at(plan: Plan, location: str) -> list[str]:
    """Return the notes of `changes` for the store at a location, if there is one to read."""
    with suppress(StoreError), Store.open(location) as store:
        return changes(plan, store)
    return []


def changes(plan: Plan, store: Store) -> list[str]:
    """Return one note per change that makes other runs of those that are stored.

    It names what has changed, how many finished runs are no longer used, and how many train from
    the start.
    """
    if store.plan_hash() in ("", plan.hash):
        return []
    new, unused = _new_runs(plan, store)
    finished = _finished(unused, new)
    return [
        f"changed since the last run: {_listed(differences)}; "
        f"{counted(finished[differences], 'finished run')} will not be used, "
        f"{counted(count, 'run')} train from the start; nothing is deleted"
        for differences, count in new.items()
    ]


def changed(plan: Plan, store: Store) -> str:
    """Return the names of what differs between the runs of a plan and those that are stored."""
    new, _ = _new_runs(plan, store)
    return listed(list(dict.fromkeys(name for differences in new for name, _ in differences)))


def _new_runs(plan: Plan, store: Store) -> tuple[Counter[Differences], list[Record]]:
    """Count the runs that take the place of others, by what differs; return those others too."""
    stored = {_key(record): record for record in reversed(store.runs())}
    planned = {run.run_id for run in plan.runs}
    unused = [record for record in stored.values() if record.run_id not in planned]
    known = {record.run_id for record in store.runs(everything=True)}
    new = Counter[Differences]()
    for run in plan.runs:
        key = (plan.problems[run.run_id], run.optimizer, plan.settings[run.run_id])
        places = run.fold and run.fold.place + 1, run.rung and run.rung.place + 1
        old = stored.get((*key, plan.phases[run.run_id], run.seed, *places))
        if old and run.run_id not in known and old.run_id not in planned:
            new[_differences(old.spec, run)] += 1
    return new, unused


def _key(record: Record) -> Key:
    about = (record.problem, record.optimizer, record.setting, record.phase, record.seed)
    return (*about, record.fold, record.rung)


def _differences(old: RunSpec, new: RunSpec) -> Differences:
    """Return what differs between two runs, with the old values."""
    before, after = _fields(old), _fields(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if {"dataset", "dataset_arguments"} & set(names):  # other data follow from them
        names = [name for name in names if not name.startswith(_DATA)]
    elif any(name.startswith(_DATA) for name in names):
        names = [name for name in names if name not in _OF_DATA]
    return tuple((name, before.get(name, "")) for name in names)


_DATA = "data of "
_OF_DATA = ("steps_per_epoch", "fold")
"""Fields that follow from the data."""


def _fields(spec: RunSpec) -> dict[str, str]:
    """Return the fields of a run as text; the data and each piece of code are fields."""
    fields = spec.as_dict()
    code: Mapping[str, str] = fields.pop("code")
    data = {f"{_DATA}{spec.dataset}": fields.pop("dataset_sha256")}
    return {
        **data,
        **{f"code of {name}": sha256 for name, sha256 in code.items()},
        **{name: str(value) for name, value in fields.items()},
    }


def _finished(unused: Iterable[Record], groups: Iterable[Differences]) -> Mapping[Differences, int]:
    """Count the finished runs that have the old values, later waves of tuning included."""
    counts: defaultdict[Differences, int] = defaultdict(int)
    for record in unused:
        fields = _fields(record.spec)
        if record.status in FINAL:
            for differences in groups:
                counts[differences] += all(fields.get(n, "") == old for n, old in differences)
    return counts


def _listed(differences: Differences) -> str:
    return listed([name for name, _ in differences])
