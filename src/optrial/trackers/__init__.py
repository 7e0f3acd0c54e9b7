"""Sends runs to TensorBoard, Weights & Biases and MLflow while they train."""

from optrial.trackers.catalogue import TRACKERS, check_trackers
from optrial.trackers.following import Tracking
from optrial.trackers.tracker import Rows

__all__ = ["TRACKERS", "Rows", "Tracking", "check_trackers"]
