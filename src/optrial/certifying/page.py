"""A certificate as one self-contained HTML page."""

from __future__ import annotations

from optrial.certifying.findings import Certificate, Kind
from optrial.certifying.text import checks_line, place_of
from optrial.report.pages import render_page

__all__ = ["certificate_page"]

_HEADINGS = {
    Kind.FAULT: "Faults",
    Kind.CONVENTION: "Conventions and known exceptions",
    Kind.NOTE: "Notes",
}


def certificate_page(certificate: Certificate) -> str:
    """Return the page of a certificate; every finding has an anchor."""
    groups = [
        (heading, findings)
        for kind, heading in _HEADINGS.items()
        if (findings := certificate.of_kind(kind))
    ]
    return render_page(
        "certificate.html",
        certificate=certificate,
        groups=groups,
        line=checks_line(certificate),
        place_of=place_of,
    )
