"""Studies shipped with optrial, one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["RECIPES"]

RECIPES: Mapping[str, Path] = {
    path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))
}
"""Recipe name -> study file."""
