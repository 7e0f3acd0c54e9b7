"""Marks for tests that need a GPU."""

from __future__ import annotations

import pytest
import torch

__all__ = ["NEEDS_CUDA"]

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")
