"""A certificate as text, and as a badge."""

from __future__ import annotations

import html
import io
import textwrap
import tokenize
from contextlib import suppress
from itertools import pairwise

from optrial.certifying.findings import Certificate, Finding, Kind, Verdict
from optrial.errors import counted
from optrial.lines import wrapped

__all__ = ["badge", "certificate_text", "checks_line", "place_of"]

_COLOURS = {
    Verdict.CONFORMS: "#1a7f37",
    Verdict.CONVENTIONS: "#57606a",
    Verdict.DIFFERS: "#b42318",
    Verdict.NOT_COMPARABLE: "#8a6d00",
}
_LETTER, _PADDING = 6.4, 10.0  # pixels: mean width of a letter at 11 px, and space at both ends


def certificate_text(certificate: Certificate, width: int = 88) -> str:
    """Return a certificate as text: the verdict, all findings, and the first reproducer.

    Args:
        certificate: the certificate.
        width: characters per line.
    """
    lines = [wrapped(text, width) for text in (certificate.summary, checks_line(certificate))]
    for finding in certificate.findings:
        where = place_of(finding)
        text = f"{finding.kind}: {finding.name}: {finding.sentence}{f' ({where})' if where else ''}"
        lines += ["", wrapped(text, width, further="    ")]
    first = next((f for f in certificate.findings if f.reproducer), None)
    if first is not None and first.kind is not Kind.NOTE:
        lines += ["", f"The shortest script that shows the first one ({first.name}):", ""]
        code = (_folded(line, width - 4) for line in first.reproducer.rstrip().split("\n"))
        lines.append(textwrap.indent("\n".join(code), "    "))
    return "\n".join(lines)


def _folded(line: str, width: int) -> str:
    """Break a line of Python behind commas within brackets, where the program stays the same."""
    depth, breaks = 0, []
    with suppress(tokenize.TokenError):  # the line is a part of a longer statement
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
                if token.string == "," and depth > 0:
                    breaks.append(token.end[1])
    folded: list[str] = []
    start = 0
    indent = "    " + " " * (len(line) - len(line.lstrip()))
    for here, following in pairwise([*breaks, len(line)]):
        if (len(indent) if folded else 0) + following - start > width:
            folded.append(line[start:here].strip() if folded else line[:here])
            start = here
    last = line[start:].strip() if folded else line
    return f"\n{indent}".join([*folded, last])


def checks_line(certificate: Certificate) -> str:
    """Return the number of checks, draws and seconds in a sentence."""
    outcomes = list(certificate.checks.values())
    failed = outcomes.count("failed")
    versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
    passed = f"{len(outcomes) - failed} of {counted(len(outcomes), 'check')} passed"
    return f"{passed} in {certificate.seconds:.0f} s, seed {certificate.seed}; {versions}."


def place_of(finding: Finding) -> str:
    """Return where a finding shows first: "step 2, matrix (3, 2), m"."""
    step = f"step {finding.step}" if finding.step else ""
    term = finding.term if finding.term and finding.term not in finding.sentence else ""
    return ", ".join(filter(None, (step, finding.tensor, term)))


def badge(certificate: Certificate) -> str:
    """Return an SVG with the reference and the verdict, for a README."""
    left = f"{' + '.join(certificate.against)}" if certificate.against else "certificate"
    left, right = left[:40], certificate.verdict.value
    one, other = (round(_PADDING * 2 + _LETTER * len(text)) for text in (left, right))
    label = html.escape(f"{left}: {right}")
    colour = _COLOURS[certificate.verdict]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{one + other}" height="20" '
        f'role="img" aria-label="{label}"><title>{label}</title>'
        f'<rect width="{one + other}" height="20" rx="3" fill="#24292f"/>'
        f'<path d="M{one} 0h{other - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{other - 3}z" '
        f'fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" '
        'text-anchor="middle">'
        f'<text x="{one / 2:.0f}" y="14">{html.escape(left)}</text>'
        f'<text x="{one + other / 2:.0f}" y="14">{html.escape(right)}</text></g></svg>\n'
    )
