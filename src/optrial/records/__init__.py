"""Records of runs: their contents, storage and export."""

from optrial.records.backup import set_aside
from optrial.records.database import place_of, shown_location, study_folder
from optrial.records.encoding import strict
from optrial.records.export import write_csv, write_json
from optrial.records.leases import Claim
from optrial.records.reader import StoreReader
from optrial.records.record import Curve, PlannedRun, Progress, Record, Segment
from optrial.records.store import Store
from optrial.records.upgrade import upgrade
from optrial.records.verify import Verification, verify
from optrial.records.weights import WeightFiles, no_weights

__all__ = [
    "Claim",
    "Curve",
    "PlannedRun",
    "Progress",
    "Record",
    "Segment",
    "Store",
    "StoreReader",
    "Verification",
    "WeightFiles",
    "no_weights",
    "place_of",
    "set_aside",
    "shown_location",
    "strict",
    "study_folder",
    "upgrade",
    "verify",
    "write_csv",
    "write_json",
]
