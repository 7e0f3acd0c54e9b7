"""User code: the name ``module:function`` of an object, and the hash of its content.

The hash is part of a run's id, because the same name may stand for different code.
"""

from optrial.code.errors import Unidentifiable
from optrial.code.hashing import fingerprint
from optrial.code.names import (
    call_problems,
    changed_code,
    code_sha256,
    identity_problem,
    importable,
    is_code,
    load_code,
    readable,
    register,
    unidentifiable,
)
from optrial.code.origin import importable_from_here
from optrial.code.places import (
    is_library_file,
    name_of_user_code,
    place_in_user_code,
    place_of_error,
    short_path,
    user_frame,
)
from optrial.code.transfer import Transfer
from optrial.code.trust import Trust, as_trust

__all__ = [
    "Transfer",
    "Trust",
    "Unidentifiable",
    "as_trust",
    "call_problems",
    "changed_code",
    "code_sha256",
    "fingerprint",
    "identity_problem",
    "importable",
    "importable_from_here",
    "is_code",
    "is_library_file",
    "load_code",
    "name_of_user_code",
    "place_in_user_code",
    "place_of_error",
    "readable",
    "register",
    "short_path",
    "unidentifiable",
    "user_frame",
]
