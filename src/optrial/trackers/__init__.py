"""Sends runs to TensorBoard, Weights & Biases and MLflow while they train."""

from optrial.trackers.catalogue import TRACKERS, check_trackers
from optrial.trackers.following import Tracking
from optrial.trackers.tracker import Rows, Tracker

__all__ = ["TRACKERS", "Rows", "Tracker", "Tracking", "check_trackers"]
