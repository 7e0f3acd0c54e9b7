"""Records of runs: their contents, storage and export."""

from optrial.records.backup import set_aside
from optrial.records.export import curve_rows, flat_rows, run_rows, write_csv, write_json
from optrial.records.record import Curve, PlannedRun, Record, Segment
from optrial.records.store import Store
from optrial.records.weights import WeightFiles

__all__ = [
    "Curve",
    "PlannedRun",
    "Record",
    "Segment",
    "Store",
    "WeightFiles",
    "curve_rows",
    "flat_rows",
    "run_rows",
    "set_aside",
    "write_csv",
    "write_json",
]
