"""Lines end between words, but not within a number and its unit, or a command to be copied."""

from __future__ import annotations

import pytest

from optrial.lines import unbroken, wrapped

SENTENCE = "adam beats sgd by 1.2 points (95 % interval 0.5 to 2.2, p = 0.047, p > 0.99)"


@pytest.mark.parametrize("width", range(20, 80))
def test_a_line_ends_between_words_alone(width: int) -> None:
    lines = wrapped(SENTENCE, width, further="  ").split("\n")
    assert all(len(line) <= width for line in lines)
    assert " ".join(line.strip() for line in lines) == SENTENCE
    for line in lines:
        assert not line.endswith((" p", "=", ">", "95"))
        assert not line.strip().startswith(("%", "=", ">"))


def test_a_command_at_the_end_stays_on_one_line() -> None:
    lines = wrapped("audit: 1 warning; details: optrial audit studies/a-long-name", 40).split("\n")
    assert lines[-1] == "optrial audit studies/a-long-name"


def test_an_empty_text_is_one_empty_line() -> None:
    assert wrapped("", 40) == ""
    assert unbroken("95 % and p = 0.03") == "95\u00a0% and p\u00a0=\u00a00.03"
