"""Two interleaving spirals."""

from __future__ import annotations

import numpy as np

from optrial.data.arguments import SpiralsArguments  # inserted by tests/test_contributing.py
from optrial.data.source import Request, Source


def draw_spirals(request: Request[SpiralsArguments]) -> Source:
    """Draw points on two spirals in the plane, (n, 2); labels are 0 and 1."""
    arguments = request.arguments
    generator = np.random.default_rng(arguments.random_state)
    radius = generator.uniform(0.1, 1, arguments.n_samples)
    labels = np.arange(arguments.n_samples) % 2
    angle = 6 * radius + np.pi * labels
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return Source({"all": (points, labels)})
