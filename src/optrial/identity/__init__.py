"""Content hashes of Python objects, so that a run id stands for the code that was run."""

from optrial.identity.errors import Unidentifiable
from optrial.identity.walk import fingerprint

__all__ = ["Unidentifiable", "fingerprint"]
