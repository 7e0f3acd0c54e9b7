"""Write docs/licences.md from the installed packages: python docs/make_licences.py"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("images", "parquet", "tune", "postgresql", "ray", "tensorboard", "wandb", "mlflow")

INTRODUCTION = """\
# Licences

optrial is under the Apache License 2.0. These are the licences of the packages that it needs, and
of those that they need in turn, as each package declares them; on Linux with the CPU build of
PyTorch. The CUDA build adds libraries of NVIDIA under NVIDIA's licences.
`python docs/make_licences.py` writes this page.

| package | needed for | licence |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page, with one row per installed package."""
    rows = sorted(needed_for().items())
    lines = [f"| {name} | {', '.join(uses)} | {licence(name)} |\n" for name, uses in rows]
    return INTRODUCTION + "".join(lines)


def needed_for() -> dict[str, list[str]]:
    """Return for what each installed package is needed: optrial itself, or extras of it."""
    core = set(closure("optrial", ""))
    uses = {name: ["optrial"] for name in core}
    for extra in EXTRAS:
        for name in set(closure("optrial", extra)) - core:
            uses[name] = [*uses.get(name, ()), extra]
    del uses["optrial"]
    return uses


def closure(name: str, extra: str, seen: set[str] | None = None) -> Iterator[str]:
    """Yield the installed packages that a package needs, itself first."""
    seen = set() if seen is None else seen
    try:
        requirements = distribution(name).requires or []
    except PackageNotFoundError:
        return
    yield canonicalize_name(name)
    for requirement in map(Requirement, requirements):
        key = f"{canonicalize_name(requirement.name)}[{','.join(sorted(requirement.extras))}]"
        marker = requirement.marker
        if key in seen or (marker and not marker.evaluate({"extra": extra})):
            continue
        seen.add(key)
        for inner in ("", *sorted(requirement.extras)):
            yield from closure(requirement.name, inner, seen)


def licence(name: str) -> str:
    """Return the licence that a package declares: expression, classifiers or a short text."""
    metadata = distribution(name).metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        entry.rpartition(" :: ")[2]
        for entry in metadata.get_all("Classifier") or ()
        if entry.startswith("License :: ") and not entry.endswith(":: OSI Approved")
    ]
    text = str(metadata.get("License") or "")
    if not classifiers and "\n" not in text and text:
        return text
    return ", ".join(classifiers) or _first_line(text) or _of_file(distribution(name))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _of_file(package: Distribution) -> str:
    """Return the first line of the licence file of a package that declares nothing else."""
    files = [file for file in package.files or () if re.search(r"(?i)licen[cs]e", file.name)]
    return _first_line(files[0].read_text()) if files else "not declared"


if __name__ == "__main__":
    Path(__file__).with_name("licences.md").write_text(page(), encoding="utf-8")
