"""Controlled, randomised, paired trials of neural-network optimizers.

    study = optrial.Study.from_file("study.yaml")     # or optrial.Study(problem=..., ...)
    results = study.run()
    results.summary()                                 # pandas

Names are imported when they are first used: ``import optrial`` loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optrial.callbacks import Callback
    from optrial.certifying import certify
    from optrial.comparing import compare
    from optrial.errors import (
        DataError,
        DownloadError,
        EngineError,
        OptrialError,
        StoreBusyError,
        StoreError,
        StudyError,
    )
    from optrial.report.progress import ProgressBar
    from optrial.results import Results, load
    from optrial.study import Study

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "DataError",
    "DownloadError",
    "EngineError",
    "OptrialError",
    "ProgressBar",
    "Results",
    "StoreBusyError",
    "StoreError",
    "Study",
    "StudyError",
    "__version__",
    "certify",
    "compare",
    "load",
]

_HOMES = {
    "Callback": "optrial.callbacks",
    "ProgressBar": "optrial.report.progress",
    "Results": "optrial.results",
    "Study": "optrial.study",
    "certify": "optrial.certifying",
    "compare": "optrial.comparing",
    "load": "optrial.results",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'optrial' has no attribute '{name}'")
    return getattr(import_module(_HOMES.get(name, "optrial.errors")), name)


def __dir__() -> list[str]:
    return __all__
