"""Models of torch.nn that drop everything, or nothing: no draw changes them."""

from __future__ import annotations

import torch
from torch import nn


class Plain(nn.Module):
    """A dropout layer of a name and rate on one of two branches, in place or not."""

    def __init__(self, layer: str, rate: float, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.first, self.skip, self.last = nn.Linear(2, 6), nn.Linear(2, 6), nn.Linear(6, 2)
        self.drop = getattr(nn, layer)(rate, inplace=inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(x)) * 1.5
        dims = {"Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3, "FeatureAlphaDropout": 1}
        shaped = hidden[(..., *[None] * dims.get(type(self.drop).__name__, 0))]
        dropped = self.drop(shaped)
        dropped = (shaped if self.inplace else dropped).flatten(1)
        return self.last(dropped + torch.tanh(self.skip(x)))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.skip, self.last = nn.Linear(1, 4), nn.Linear(2, 4), nn.Linear(4, 2)
        self.layer = nn.MultiheadAttention(4, 2, dropout=1.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x.unsqueeze(-1))
        return self.last(self.layer(hidden, hidden, hidden)[0].mean(1) + self.skip(x))


class Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(1, 4, num_layers=2, dropout=1.0, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layer(x.unsqueeze(-1))[0][:, -1])
