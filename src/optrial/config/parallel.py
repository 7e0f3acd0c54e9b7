"""Place and number of the trainings at once; never part of a run's id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from optrial.config.read import read_mapping
from optrial.errors import Problem, StudyError, problem_of, shown

__all__ = ["ExecutorName", "Parallel", "Resources"]

ExecutorName = Literal["auto", "local", "processes", "ray"]

_Count = Annotated[int, Field(strict=True, ge=1, le=100_000)]
_Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

_RETRIES_ON_RAY = 3
_ADDRESS = re.compile(r"auto|(\[[^\]\s]+\]|[^\s:/@\[\]]+):[0-9]{1,5}")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Frozen):
    """Resources of one stack, in Ray's words.

    Attributes:
        num_cpus: CPU cores, which are also the most threads of new stacks, unless the study sets
            theirs; None for the choice of optrial.
        num_gpus: GPUs, or a share of one; 0 hides all GPUs, None leaves them as they are.
    """

    num_cpus: _Count | None = None
    num_gpus: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None


class Parallel(_Frozen):
    """The keys of ``--parallel-config``.

    Attributes:
        executor: "local" trains in this process, "processes" in worker processes on this machine,
            "ray" on a Ray cluster, "auto" in this process or in worker processes.
        n_jobs: number of stacks that are trained at once; "auto" for the choice of optrial.
        address: ``HOST:PORT`` of the head node of a Ray cluster, or "auto" for the one that this
            machine belongs to; None starts one on this machine.
        resources: what one stack occupies.
        retries: how often a stack whose worker died is tried again before it is halved; by
            default 1, and 3 on Ray, which may start a task on a node that is already lost.
        heartbeat_interval: seconds between two signs of life of a process that trains into a
            shared store.
        grace_period: seconds without a sign of life after which others take over its stacks.
    """

    executor: ExecutorName = "auto"
    n_jobs: _Count | Literal["auto"] = "auto"
    address: StrictStr | None = None
    resources: Resources = Resources()
    retries: Annotated[int, Field(strict=True, ge=0, le=1_000)] = 1
    heartbeat_interval: _Seconds = 10.0
    grace_period: _Seconds = 60.0

    @classmethod
    def of(cls, keys: Mapping[str, Any], source: str) -> Parallel:
        """Validate keys.

        Args:
            keys: values of the attributes by name.
            source: where they are from, for errors.

        Raises:
            StudyError: lists all problems.
        """
        retries = {"retries": _RETRIES_ON_RAY} if keys.get("executor") == "ray" else {}
        try:
            parallel = cls.model_validate({**retries, **keys})
        except ValidationError as error:
            raise StudyError(_problems(error), source) from error
        if problems := list(_conflicts(parallel)):
            raise StudyError(problems, source)
        return parallel

    @classmethod
    def read(
        cls,
        source: str | Path | Mapping[str, object] | Parallel | None,
        options: Mapping[str, object],
    ) -> Parallel:
        """Read keys from a YAML file or a mapping, and replace those that are given as options.

        Args:
            source: the file, the mapping, or what was read; None for the defaults.
            options: values by key; None for those that are not given.

        Raises:
            StudyError: the file cannot be read, or a value is not valid.
        """
        keys: dict[str, object] = {}
        name = "the execution"
        if isinstance(source, Parallel):
            keys = {key: getattr(source, key) for key in source.model_fields_set}
        elif isinstance(source, Mapping):
            keys = dict(source)
        elif source is not None:
            keys, name = read_mapping(Path(source)), str(source)
        keys |= {key: value for key, value in options.items() if value is not None}
        return cls.of(keys, name)


def _problems(error: ValidationError) -> list[Problem]:
    entries = error.errors()
    problems = [
        problem_of(entry, (Resources if len(entry["loc"]) > 1 else Parallel).model_fields)
        for entry in entries
        if entry["loc"][0] != "n_jobs"
    ]
    for value in [entry["input"] for entry in entries if entry["loc"][0] == "n_jobs"][:1]:
        message = f"{shown(value)}: must be a whole number from 1 to 100,000, or auto."
        problems.append(Problem("n_jobs", message))
    return problems


def _conflicts(parallel: Parallel) -> Iterator[Problem]:
    """Yield the keys that do not go with the executor."""
    name = parallel.executor
    if parallel.address is not None and name != "ray":
        yield Problem("address", f"applies to executor: ray, not with {name}; leave it out.")
    elif parallel.address is not None and not _ADDRESS.fullmatch(parallel.address):
        yield Problem(
            "address",
            f"{shown(parallel.address)}: must be HOST:PORT of the head node of a Ray cluster, or "
            "auto for the cluster that this machine belongs to; without it, Ray starts here.",
        )
    if name == "local" and parallel.n_jobs not in ("auto", 1):
        yield Problem(
            "n_jobs",
            f"{parallel.n_jobs}: executor: local trains one stack at a time; use executor: "
            "processes.",
        )
    if parallel.grace_period <= parallel.heartbeat_interval:
        yield Problem(
            "grace_period",
            f"{parallel.grace_period:g}: must be more than heartbeat_interval, "
            f"{parallel.heartbeat_interval:g} s.",
        )
