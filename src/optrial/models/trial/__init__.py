"""Trials of user code on a few samples, which report problems once and before any run."""
