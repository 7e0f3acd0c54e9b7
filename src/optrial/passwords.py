"""Passwords and tokens in texts: masked in everything that is shown or stored."""

from __future__ import annotations

import os
import re

__all__ = ["MASK", "holds_password", "without_passwords"]

MASK = "***"

_USER_INFO = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]*:/{1,2})([^\s/@:?#]*):(?!/|(?-i:PASSWORD@HOST))\S*@"
)
_TOKEN_AS_USER = re.compile(r"(?i)\b(https?://)[^\s/@:?#]+@")
_ARGUMENT = re.compile(
    r"(?i)([?&][\w-]*(?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key"
    r"|signature|credential)[\w-]*=)[^\s&#'\"]+"
)
_KEYWORD = re.compile(r"(?i)(?<![\w-])((?:ssl)?password\s?=\s?)(?:'[^']*'|\"[^\"]*\"|[^\s;]+)")
"""As connection strings of PostgreSQL have it."""

_VARIABLES = ("PGPASSWORD", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_SHORTEST = 6
"""Least length of the value of a variable; a shorter one may be part of any word."""


def without_passwords(text: str) -> str:
    """Return a text in which passwords and tokens are ``***``.

    These are passwords of URLs and of connection strings, arguments of URLs such as ``token=``, and
    the values of the environment variables that PostgreSQL, W&B and MLflow read.
    """
    if ":/" in text:
        text = _USER_INFO.sub(rf"\1\2:{MASK}@", text)
        text = _TOKEN_AS_USER.sub(rf"\1{MASK}@", text)
    if "=" in text:
        text = _KEYWORD.sub(rf"\1{MASK}", _ARGUMENT.sub(rf"\1{MASK}", text))
    for value in map(os.environ.get, _VARIABLES):
        if value and len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
    return text


def holds_password(value: str) -> bool:
    """Return whether a text is a URL that holds a password or a token."""
    url = value.strip()
    return "://" in url and without_passwords(url) != url
