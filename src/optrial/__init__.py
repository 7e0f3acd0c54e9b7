"""Controlled, randomised, paired trials of neural-network optimizers.

    study = optrial.Study.from_file("study.yaml")     # or optrial.Study(problem=..., ...)
    results = study.run()
    results.summary()                                 # pandas

Everything is imported when it is first used: ``import optrial`` loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optrial.errors import (
        DataError,
        DownloadError,
        EngineError,
        OptrialError,
        StoreBusyError,
        StoreError,
        StudyError,
    )
    from optrial.results import Results, load
    from optrial.study import Study, compare

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DownloadError",
    "EngineError",
    "OptrialError",
    "Results",
    "StoreBusyError",
    "StoreError",
    "Study",
    "StudyError",
    "__version__",
    "compare",
    "load",
]

_HOMES = {
    "Results": "optrial.results",
    "Study": "optrial.study",
    "compare": "optrial.study",
    "load": "optrial.results",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'optrial' has no attribute '{name}'")
    return getattr(import_module(_HOMES.get(name, "optrial.errors")), name)


def __dir__() -> list[str]:
    return __all__
