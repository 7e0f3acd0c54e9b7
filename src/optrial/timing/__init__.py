"""Step time and memory of each optimizer alone: `optrial timing`.

`steps` and `memory` measure, `measure` decides which settings to time, and `results` holds what
came out; `table` and `figure` show it. Only the first three need PyTorch.
"""

from optrial.timing.results import (
    Quartiles,
    SettingTiming,
    StudyTiming,
    read_timing,
    reported_times,
    write_timing,
)

__all__ = [
    "Quartiles",
    "SettingTiming",
    "StudyTiming",
    "read_timing",
    "reported_times",
    "write_timing",
]
