"""Chooses how each group of runs is trained."""
