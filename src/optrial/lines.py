"""Lines of text that end between words, but not within ``95 %`` or ``p = 0.03``."""

from __future__ import annotations

import re
import textwrap

__all__ = ["unbroken", "wrapped"]

_TIES = re.compile(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<>])|(?<=[=<>]) (?=\d)")
_COMMAND = re.compile(r"(?<=: )optrial [^;]+$")
_JOINT = "\0"  # a space that does not end a line


def unbroken(text: str, space: str = "\N{NO-BREAK SPACE}") -> str:
    """Return a text with another space where a line must not end."""
    return _TIES.sub(space, text)


def wrapped(text: str, width: int, first: str = "", further: str = "") -> str:
    """Return a line of text as lines of at most `width` characters, if its words are no longer.

    A command of optrial at the end of a sentence stays on one line, to be copied.

    Args:
        text: the text.
        width: characters per line.
        first: put before the first line.
        further: put before the other lines.
    """
    whole = _COMMAND.sub(lambda command: command[0].replace(" ", _JOINT), unbroken(text, _JOINT))
    return textwrap.fill(
        whole,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace(_JOINT, " ")
