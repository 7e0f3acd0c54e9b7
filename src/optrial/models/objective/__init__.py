"""Losses and metrics by name, and their combination: the objective of a problem."""
