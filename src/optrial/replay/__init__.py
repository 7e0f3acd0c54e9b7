"""Replays: the steps of an optimizer and of a rule in float64, side by side."""
