"""Texts of messages: nothing that a terminal obeys, bounded length, bounded cost."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import optrial
from optrial.errors import (
    Problem,
    StoreError,
    StudyError,
    cut,
    one_line,
    printable,
    shown,
    suggest,
)
from optrial.memory import out_of_memory

CSI, OSC, ST = "\x1b[", "\x1b]", "\x1b\\"


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("plain text, ± é 漢 👩‍💻", "plain text, ± é 漢 👩‍💻"),
        (f"a{CSI}31mred{CSI}0m", "ared"),
        (f"{CSI}2J{CSI}1;1Hcleared", "cleared"),
        ("\x9b31mred", "red"),
        (f"{OSC}0;title\x07text", "text"),
        (f"{OSC}8;;http://x{ST}link{OSC}8;;{ST}", "link"),
        (f"{OSC}52;c;Y29weQ==\x07", ""),
        (f"{OSC}no end\nnext", "no end\nnext"),
        (f"\x1bP1$r0m{ST}after", "after"),
        ("\x1bc reset", " reset"),
        ("\x1b(0 line drawing", " line drawing"),
        ("at the end \x1b", "at the end "),
        (f"at the end {CSI}3", "at the end "),
        ("over\rwritten\x08\x07\x00\x7f\x85", "overwritten"),
        ("user\u202egnp.exe\u2066\u200f", "usergnp.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("two\u2028lines", "two lines"),
        ("tabs\tand\nlines", "tabs\tand\nlines"),
    ],
)
def test_printable(text: str, visible: str) -> None:
    assert printable(text) == visible


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_printable(text: str) -> None:
    visible = printable(text)
    assert printable(visible) == visible
    visible.encode("utf-8")
    categories = {unicodedata.category(c) for c in visible if c not in "\n\t\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values) | st.tuples(values),
    max_leaves=8,
)


@given(PLAIN)
def test_short_values_are_shown_as_python_writes_them(value: object) -> None:
    text = repr(value)
    assert shown(value) == (text if len(text) <= 200 else f"{text[:199]}…")


def laughs(levels: int = 30) -> list[Any]:
    values: list[Any] = ["ha"]
    for _ in range(levels):
        values = [values] * 9
    return values


def deep(levels: int = 100_000) -> list[Any]:
    values: list[Any] = []
    for _ in range(levels):
        values = [values]
    return values


def of_itself() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


LARGE = {
    "aliases nine by nine": laughs(),
    "deep": deep(),
    "within itself": of_itself(),
    "digits": 10**100_000,
    "text": "x" * 10**7,
    "list": list(range(10**6)),
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_values_are_shown_in_bounded_time_and_length(value: object) -> None:
    assert len(shown(value)) <= 200


def test_a_long_text_loses_its_middle() -> None:
    text = cut("start" + "x" * 1000 + "end")
    assert text.startswith("start")
    assert text.endswith("end")
    assert len(text) == 200


def test_an_error_shows_twenty_problems_and_counts_the_rest() -> None:
    problems = [Problem(f"optimizers[{i}].{'k' * 10**5}", "m" * 10**6) for i in range(1000)]
    lines = str(StudyError(problems)).splitlines()
    assert lines[0] == "the study has 1,000 problems:"
    assert lines[-1] == "  and 980 more"
    assert len(lines) == 22
    assert max(map(len, lines)) < 2000


def test_errors_are_printable() -> None:
    error = StudyError([Problem("a\x1b[31m", "value\u202e")], "file\ud800.yaml")
    assert str(error) == "file\ufffd.yaml has 1 problem:\n  a: value"
    assert one_line(ValueError(f"{CSI}1mbold\x07")) == "ValueError: bold"


def test_suggestions_are_bounded() -> None:
    assert suggest("adamm", ["adam", "sgd"]) == "Did you mean 'adam'? Allowed: adam, sgd."
    text = suggest("x" * 10**6, [f"name{i}" * 100 for i in range(1000)])
    assert text.endswith(" and 900 more.")
    assert suggest("adam", []) == "There are none; leave it out."
    assert suggest(10**10_000, ["adam"]) == "Allowed: adam."


class TextlessError(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_error_without_text_is_named() -> None:
    assert one_line(TextlessError()) == "TextlessError"
    assert not out_of_memory(TextlessError())


def test_a_long_path_loses_its_middle() -> None:
    text = str(StoreError(f"no study is stored in '{'a/' * 2000}b'. Check the path."))
    assert text.startswith("no study is stored in 'a/a/")
    assert text.endswith("a/b'. Check the path.")
    assert len(text) < 300


def test_a_notebook_shows_the_line_that_called_and_the_message_alone() -> None:
    with pytest.raises(StudyError) as caught:
        optrial.compare(data="digits", optimizers=["sgd", "adm"], epochs=1)
    line, empty, *message = caught.value._render_traceback_()
    assert line.startswith("----> ")
    assert line.endswith('optimizers=["sgd", "adm"], epochs=1)')
    assert (empty, message) == ("", [f"StudyError: {caught.value}"])
