"""Content hashes of Python objects, so that a run id stands for the code that was run."""

from optrial.identity.walk import Unidentifiable, fingerprint

__all__ = ["Unidentifiable", "fingerprint"]
