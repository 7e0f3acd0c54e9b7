"""The command `optrial certify`: what an optimizer computes, beside the rule of its name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optrial.cli import complete
from optrial.cli.options import OutOption, QuietOption, TrustOption, check_place, trust_of
from optrial.cli.output import note, say, write
from optrial.errors import Problem, StudyError

if TYPE_CHECKING:
    from optrial.certifying import Certificate

__all__ = ["certify"]

_MOST_COLUMNS = 100


def certify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A class of optimizers as module:Class, such as torch.optim:Adam; or a rule.",
            autocompletion=complete.rules,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Reference: a rule, or module:Class \\[default: the rule of its name].",
            autocompletion=complete.rules,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
    badge: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the verdict to an SVG.")
    ] = None,
    out: OutOption = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Seed of all draws.")
    ] = 0,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Random trainings per rule.")] = 16,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also compare a step under torch.compile.")
    ] = False,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Argument to pass to the class: steps=100. Repeatable.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Also exit with status 1 for conventions.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Time limit.")] = 600,
    trust: TrustOption = None,
    quiet: QuietOption = False,
) -> None:
    """Check an optimizer against the rule that it should compute.

    Exit status 0 if it conforms, 1 if it differs, 2 if it is not comparable; 124 if its code takes
    longer than --timeout, 125 if its code ends the process.
    """
    if as_json and as_html:
        raise StudyError(
            [Problem("--html", "cannot be combined with --json; choose one.")], "the command"
        )
    for option, file in (("--badge", badge), ("--out", out)):
        if file is not None:
            check_place(file, option)
    from optrial.certifying import Verdict
    from optrial.certifying.apart import Request, certify_apart
    from optrial.certifying.text import badge as badge_of

    trusted = trust_of(trust, quiet=quiet)
    request = Request(
        target,
        against,
        seed,
        draws,
        timeout,
        compiled,
        _arguments(argument or ()),
        trusted.places,
        asks=trusted.ask is not None,
    )
    certificate = certify_apart(request, trusted)
    text = _text(certificate, as_json=as_json, as_html=as_html)
    if badge is not None:
        badge.write_text(badge_of(certificate), encoding="utf-8")
    if out is None:
        say(text)
    else:
        write(out, f"{text}\n")
        note(certificate.summary)
    status = certificate.verdict.exit_status
    if strict and certificate.verdict is Verdict.CONVENTIONS:
        status = 1
    sys.exit(status)


def _arguments(settings: Iterable[str]) -> dict[str, Any]:
    """Return arguments by name; values are YAML.

    Raises:
        StudyError: one is not written NAME=VALUE.
    """
    from optrial.config.plain_yaml import parse_yaml

    arguments = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or not name.isidentifier():
            message = f"{setting}: must be written NAME=VALUE, such as steps=100."
            raise StudyError([Problem("--argument", message)], "the command")
        arguments[name] = parse_yaml(text, f"--argument {setting}")
    return arguments


def _text(certificate: Certificate, *, as_json: bool, as_html: bool) -> str:
    if as_json:
        from optrial.records.encoding import strict

        plain = strict(certificate.as_dict())
        return json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)
    if as_html:
        from optrial.certifying.page import certificate_page

        return certificate_page(certificate)
    from optrial.certifying.text import certificate_text

    return certificate_text(certificate, min(shutil.get_terminal_size().columns, _MOST_COLUMNS))
