"""Replays that show whether a training can be trusted."""
