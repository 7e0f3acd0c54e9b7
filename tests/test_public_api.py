"""The names users rely on: present, typed, documented, and imported only when used."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import optrial

EXPECTED = {
    "DataError",
    "DownloadError",
    "EngineError",
    "OptrialError",
    "Results",
    "StoreBusyError",
    "StoreError",
    "Study",
    "StudyError",
    "__version__",
    "compare",
    "load",
}


def test_public_names_are_these() -> None:
    assert set(optrial.__all__) == EXPECTED
    assert set(dir(optrial)) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED - {"__version__"}))
def test_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(optrial, name))


@pytest.mark.parametrize("owner", [optrial.Study, optrial.Results])
def test_public_methods_are_typed_and_documented(owner: type) -> None:
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_"):
            signature = inspect.signature(member)
            assert inspect.getdoc(member), name
            assert signature.return_annotation is not inspect.Signature.empty, name


def test_errors_share_one_base() -> None:
    errors = [getattr(optrial, name) for name in EXPECTED if name.endswith("Error")]
    assert all(issubclass(error, optrial.OptrialError) for error in errors)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'study_file'"):
        _ = optrial.study_file


def test_version_is_the_newest_of_the_changelog() -> None:
    changelog = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert versions[0] == optrial.__version__
