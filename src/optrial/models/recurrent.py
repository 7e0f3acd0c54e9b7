"""Recurrent layers in plain matrix products.

The fused layers of `torch.nn` cannot be mapped over a stack of runs. These give the same numbers
from the same weights, gates in the same order, and can: the input's product with its weights is one
for all time steps, and a loop over time does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "Recurrent",
    "VanillaRNN",
    "gru_step",
    "lstm_step",
    "rnn_step",
]


class Recurrent(nn.Module):
    """A layer that reads a sequence and returns its last state.

    Attributes:
        weight_hx: (gates * hidden, features), from input to gates.
        weight_hh: (gates * hidden, hidden), from state to gates.
        bias_h: (gates * hidden,); `torch.nn` has two, whose sum this is.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight_hx = _drawn(hidden, self.gates * hidden, features)
        self.weight_hh = _drawn(hidden, self.gates * hidden, hidden)
        self.bias_h = _drawn(hidden, self.gates * hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, features) to the last state, (batch, hidden), starting from zeros."""
        contributions = inputs.transpose(0, 1) @ self.weight_hx.T + self.bias_h
        state = (contributions.new_zeros(inputs.shape[0], self.hidden),) * self.states
        for contribution in contributions.unbind():
            state = self.step(contribution, *state)
        return state[0]

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step.

        Args:
            contribution: W_hx x_t + b_h, (batch, gates * hidden).
            state: each (batch, hidden); the first is what the layer returns.
        """
        raise NotImplementedError


def _drawn(hidden: int, *shape: int) -> nn.Parameter:
    """Draw a parameter as the recurrent layers of `torch.nn` do: uniform within 1/sqrt(hidden)."""
    bound = hidden**-0.5
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


def rnn_step(
    contribution: Tensor,
    weight_hh: Tensor,
    hidden: Tensor,
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Tensor]:
    """Take one time step of a vanilla RNN; return h_t, (batch, hidden)."""
    return (activation(torch.addmm(contribution, hidden, weight_hh.T)),)


def gru_step(
    contribution: Tensor, weight_hh: Tensor, bias_hn: Tensor, hidden: Tensor
) -> tuple[Tensor]:
    """Take one time step of a `GRU`; return h_t, (batch, hidden)."""
    sizes = [2 * hidden.shape[-1], hidden.shape[-1]]
    from_input, new_input = torch.split(contribution, sizes, dim=-1)
    from_state, new_state = torch.split(hidden @ weight_hh.T, sizes, dim=-1)
    r, z = (from_input + from_state).sigmoid().chunk(2, dim=-1)
    new = (new_input + r * (new_state + bias_hn)).tanh()
    return (new + z * (hidden - new),)


def lstm_step(
    contribution: Tensor, weight_hh: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one time step of an `LSTM`; return h_t and c_t, each (batch, hidden)."""
    i, f, g, o = torch.addmm(contribution, hidden, weight_hh.T).chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class VanillaRNN(Recurrent):
    """h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h): Elman 1990."""

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return rnn_step(contribution, self.weight_hh, state[0])


class GRU(Recurrent):
    """Gated recurrent unit: Cho et al. 2014, with gates r, z, n in this order, as `torch.nn.GRU`.

    r, z = sigmoid(W x_t + U h_{t-1} + b), n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b_hn)),
    h_t = (1 - z) n + z h_{t-1}.

    Attributes:
        bias_hn: (hidden,), which the gate r multiplies.
    """

    gates = 3

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(features, hidden)
        self.bias_hn = _drawn(hidden, hidden)

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return gru_step(contribution, self.weight_hh, self.bias_hn, *state)


class LSTM(Recurrent):
    """Long short-term memory: Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000.

    Gates i, f, g, o in this order, as `torch.nn.LSTM`: c_t = f c_{t-1} + i g, h_t = o tanh(c_t).
    """

    gates = 4
    states = 2

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return lstm_step(contribution, self.weight_hh, *state)


CELLS: dict[str, type[Recurrent]] = {"rnn": VanillaRNN, "gru": GRU, "lstm": LSTM}
