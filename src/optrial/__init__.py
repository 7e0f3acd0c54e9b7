"""Controlled, randomised, paired trials of neural-network optimizers."""

__version__ = "0.1.0"
