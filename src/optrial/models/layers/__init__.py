"""Layers that can be mapped over a stack of runs, with dropout masks keyed by seed and step."""
