"""Recurrent layers in plain matrix products.

The fused layers of `torch.nn` cannot be mapped over a stack of runs. These compute the same numbers
from the same weights, with gates in the same order: one matrix product of all inputs with their
weights, then a loop over time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["CELLS", "Recurrent", "gru_step", "lstm_step", "rnn_step"]


def rnn_step(
    contribution: Tensor,
    weight_hh: Tensor,
    hidden: Tensor,
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Tensor]:
    """Take one time step of an Elman network (Elman 1990).

    Args:
        contribution: W_hx x_t + b_h, (batch, hidden).
        weight_hh: recurrent weights, (hidden, hidden).
        hidden: h_{t-1}, (batch, hidden).
        activation: function of the sum.

    Returns:
        h_t, (batch, hidden), as a tuple.
    """
    return (activation(torch.addmm(contribution, hidden, weight_hh.T)),)


def gru_step(
    contribution: Tensor, weight_hh: Tensor, bias_hn: Tensor, hidden: Tensor
) -> tuple[Tensor]:
    """Take one time step of a gated recurrent unit (Cho et al. 2014).

    r, z = sigmoid(W x_t + U h_{t-1} + b), n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b_hn)),
    h_t = (1 - z) n + z h_{t-1}.

    Args:
        contribution: inputs of the gates r, z and n, (batch, 3 * hidden).
        weight_hh: recurrent weights, (3 * hidden, hidden).
        bias_hn: the bias that the gate r multiplies, (hidden,).
        hidden: h_{t-1}, (batch, hidden).

    Returns:
        h_t, (batch, hidden), as a tuple.
    """
    sizes = [2 * hidden.shape[-1], hidden.shape[-1]]
    from_input, new_input = torch.split(contribution, sizes, dim=-1)
    from_state, new_state = torch.split(hidden @ weight_hh.T, sizes, dim=-1)
    r, z = (from_input + from_state).sigmoid().chunk(2, dim=-1)
    new = (new_input + r * (new_state + bias_hn)).tanh()
    return (new + z * (hidden - new),)


def lstm_step(
    contribution: Tensor, weight_hh: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one time step of long short-term memory (Hochreiter and Schmidhuber 1997).

    With the forget gate of Gers et al. 2000: c_t = f c_{t-1} + i g, h_t = o tanh(c_t).

    Args:
        contribution: inputs of the gates i, f, g and o, (batch, 4 * hidden).
        weight_hh: recurrent weights, (4 * hidden, hidden).
        hidden: h_{t-1}, (batch, hidden).
        cell: c_{t-1}, (batch, hidden).

    Returns:
        h_t and c_t, each (batch, hidden).
    """
    i, f, g, o = torch.addmm(contribution, hidden, weight_hh.T).chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class Recurrent(nn.Module):
    """A layer that reads a sequence and returns its last state.

    Attributes:
        weight_hx: input weights, (gates * hidden, features).
        weight_hh: recurrent weights, (gates * hidden, hidden).
        bias_h: (gates * hidden,), the sum of the two biases of `torch.nn`.
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
        """Map (batch, time, features) to the last state, (batch, hidden); the first is zero."""
        contributions = inputs.transpose(0, 1) @ self.weight_hx.T + self.bias_h
        state = (contributions.new_zeros(inputs.shape[0], self.hidden),) * self.states
        for contribution in contributions.unbind():
            state = self.step(contribution, *state)
        return state[0]

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step.

        Args:
            contribution: W_hx x_t + b_h, (batch, gates * hidden).
            state: one or more tensors, (batch, hidden); the layer returns the first.
        """
        raise NotImplementedError


def _drawn(hidden: int, *shape: int) -> nn.Parameter:
    """Draw a parameter as the recurrent layers of `torch.nn` do: uniform within 1/sqrt(hidden)."""
    bound = hidden**-0.5
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


class VanillaRNN(Recurrent):
    """Elman network; see `rnn_step`."""

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return rnn_step(contribution, self.weight_hh, state[0])


class GRU(Recurrent):
    """Gated recurrent unit; see `gru_step`.

    Attributes:
        bias_hn: the bias that the gate r multiplies, (hidden,).
    """

    gates = 3

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(features, hidden)
        self.bias_hn = _drawn(hidden, hidden)

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return gru_step(contribution, self.weight_hh, self.bias_hn, *state)


class LSTM(Recurrent):
    """Long short-term memory; see `lstm_step`."""

    gates = 4
    states = 2

    def step(self, contribution: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Take one time step; see `Recurrent.step`."""
        return lstm_step(contribution, self.weight_hh, *state)


CELLS: Mapping[str, type[Recurrent]] = {"rnn": VanillaRNN, "gru": GRU, "lstm": LSTM}
