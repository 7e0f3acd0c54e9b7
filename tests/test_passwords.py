"""Passwords and tokens are never shown and never stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import optrial
from optrial import cli
from optrial.errors import StoreError, StudyError, one_line, printable
from optrial.passwords import holds_password, without_passwords
from optrial.records import Store, shown_location
from optrial.records.database import find_database

SECRET = "hunter2-pass"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://me:{SECRET}@host:5432/db", "postgresql://me:***@host:5432/db"),
        (f"postgresql+psycopg://me:a@{SECRET}/@host/db", "postgresql+psycopg://me:***@host/db"),
        (f"postgresql:/me:{SECRET}@host/db", "postgresql:/me:***@host/db"),
        (f"'https://{SECRET}@host/x' failed", "'https://***@host/x' failed"),
        (
            f"postgresql://host/db?user=me&password={SECRET}",
            "postgresql://host/db?user=me&password=***",
        ),
        (f"https://host/api?api_key={SECRET}&page=2", "https://host/api?api_key=***&page=2"),
        (f"host=h password='{SECRET} x' user=me", "host=h password=*** user=me"),
        ("https://docs.org:443/page and me@home", "https://docs.org:443/page and me@home"),
        ("lr=0.1 num_tokens=5 module:function", "lr=0.1 num_tokens=5 module:function"),
    ],
)
def test_passwords_in_texts_are_masked(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
    assert printable(text) == shown
    assert SECRET not in one_line(ValueError(text))
    assert SECRET not in str(StoreError(text))


def test_tokens_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert without_passwords(f"bad key {SECRET}") == "bad key ***"


def test_which_values_hold_a_password() -> None:
    assert holds_password(f"sqlite+pysqlite://me:{SECRET}@host")
    assert not holds_password("postgresql://me@host/db")
    assert not holds_password("module:function")


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (
            f"postgresql://me:{SECRET}@host:5432/db?sslpassword={SECRET}",
            "postgresql://host:5432/db",
        ),
        (f"postgres://{SECRET}@host/db", "postgresql://host/db"),
        (f"postgresql://me:{SECRET}@host:port/db", "postgresql://"),
        ("studies/digits", "studies/digits"),
    ],
)
def test_a_location_is_shown_without_user_password_and_options(location: str, shown: str) -> None:
    assert shown_location(location) == shown


def test_a_database_is_represented_without_its_passwords() -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://me:{SECRET}@host/db?sslpassword={SECRET}&password={SECRET}"
    assert SECRET not in repr(find_database(url, create=False))


@pytest.mark.parametrize("place", ["postgresql:/me:{}@host/db", "postgres:me:{}@host"])
def test_a_url_with_too_few_slashes_is_no_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="begins with two slashes") as caught:
        Store.open(place.format(SECRET), create=True)
    assert SECRET not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["run", "quickstart", "URL"], 2),
        (["explain", "URL"], 2),
        (["show", "URL"], 2),
        (["run", "URL"], 2),
        (["run", "quickstart", "--seeds", "URL"], 2),
        (["run", "quickstart", "--set", "problem.dataset=URL"], 2),
        (["URL"], 2),
        (["data", "URL"], 2),
    ],
)
def test_no_command_prints_a_password(
    command: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["optrial", *(p.replace("URL", url) for p in command)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capfd.readouterr()
    assert ended.value.code == status
    assert SECRET not in output.out + output.err


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"notes": f"https://me:{SECRET}@host"}, "notes"),
        (
            {"trackers": [{"name": "mlflow", "tracking_uri": f"https://me:{SECRET}@host"}]},
            "trackers",
        ),
        ({"trackers": [{"name": "mlflow", "tracking_uri": f"https://{SECRET}@host"}]}, "trackers"),
        (
            {"trackers": [{"name": "mlflow", "tracking_uri": f"https://h?token={SECRET}"}]},
            "trackers",
        ),
        (
            {
                "problem": {
                    "dataset": {
                        "name": "tests.user_code:data",
                        "url": f"mysql://me:{SECRET}@host/db",
                    },
                    "model": "logistic",
                }
            },
            "problem.dataset.url",
        ),
    ],
)
def test_a_study_holds_no_password(keys: dict[str, Any], path: str) -> None:
    study: dict[str, Any] = {
        "problem": {"dataset": "moons", "model": "logistic"},
        "budget": {"steps": 1},
        "optimizers": [{"rule": "sgd", "lr": 0.1}],
    }
    with pytest.raises(StudyError, match="must not hold a password") as caught:
        optrial.Study(**study | keys)
    assert path in str(caught.value)
    assert SECRET not in str(caught.value)
