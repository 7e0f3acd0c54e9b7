"""Certificates: what an optimizer computes, found by replaying it beside a rule."""

from optrial.certifying.certify import certify
from optrial.certifying.findings import Certificate, Finding, Kind, Verdict

__all__ = ["Certificate", "Finding", "Kind", "Verdict", "certify"]
