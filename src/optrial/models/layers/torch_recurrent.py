"""`nn.RNN`, `nn.GRU` and `nn.LSTM` that can be stacked: plain matrix products of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.models.layers.recurrent import gru_step, lstm_step, rnn_step

__all__ = ["STACKABLE_RECURRENT"]

States = tuple[Tensor, ...]


class _StackableRecurrent(nn.RNNBase):
    """A recurrent layer of `torch.nn`, possibly of several layers and bidirectional.

    The cases not covered are passed to `torch.nn`: projections, samples without a batch, packed
    sequences, and training with dropout but without `between`.

    Attributes:
        between: dropout layers, one after each layer but the last; absent without dropout.
    """

    between: nn.ModuleList

    # Inputs and outputs are as various as the overloads of `torch.nn`.
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  torch's name
        """Map (time, batch, features), or (batch, time, features), to outputs and last states."""
        drops = self.training and self.dropout > 0 and not hasattr(self, "between")
        if not isinstance(input, Tensor) or input.ndim != 3 or drops or self.proj_size:
            return super().forward(input, hx)
        first = None if hx is None else hx if isinstance(hx, tuple) else (hx,)
        sequence = input.transpose(0, 1) if self.batch_first else input
        last: list[States] = []
        for layer in range(self.num_layers):
            if layer and hasattr(self, "between"):
                sequence = self.between[layer - 1](sequence)
            outputs = []
            for backwards in range(1 + self.bidirectional):
                ordered = sequence.flip(0) if backwards else sequence
                output, state = self._read(ordered, len(last), first)
                outputs.append(output.flip(0) if backwards else output)
                last.append(state)
            sequence = torch.cat(outputs, dim=-1)
        states = tuple(map(torch.stack, zip(*last, strict=True)))
        return (
            sequence.transpose(0, 1) if self.batch_first else sequence,
            states if len(states) > 1 else states[0],
        )

    def _read(self, sequence: Tensor, number: int, first: States | None) -> tuple[Tensor, States]:
        """Read (time, batch, features) with one set of weights.

        Args:
            sequence: inputs.
            number: place of the weights in `all_weights`.
            first: initial states of all sets of weights, or None for zeros.

        Returns:
            Outputs, (time, batch, hidden), and the last state.
        """
        weights: list[Tensor] = [*self.all_weights[number]]
        weight_ih, weight_hh, *biases = weights
        bias_ih, bias_hh = biases or [weight_hh.new_zeros(len(weight_hh))] * 2
        contributions = sequence @ weight_ih.T + (bias_ih + self._added(bias_hh))
        if first is None:
            zeros = contributions.new_zeros(sequence.shape[1], self.hidden_size)
            state: States = (zeros,) * (2 if self.mode == "LSTM" else 1)
        else:
            state = tuple(states[number] for states in first)
        outputs = []
        for contribution in contributions.unbind():
            state = self._step(contribution, weight_hh, bias_hh, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def _added(self, bias_hh: Tensor) -> Tensor:
        """Return the part of the second bias that is only added to the first."""
        return bias_hh

    def _step(
        self, contribution: Tensor, weight_hh: Tensor, bias_hh: Tensor, state: States
    ) -> States:
        raise NotImplementedError


class StackableRNN(_StackableRecurrent, nn.RNN):
    """`nn.RNN` that can be stacked."""

    def _step(self, contribution: Tensor, weight_hh: Tensor, _: Tensor, state: States) -> States:
        activation = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        return rnn_step(contribution, weight_hh, state[0], activation)


class StackableGRU(_StackableRecurrent, nn.GRU):
    """`nn.GRU` that can be stacked."""

    def _added(self, bias_hh: Tensor) -> Tensor:
        return functional.pad(bias_hh[: -self.hidden_size], (0, self.hidden_size))

    def _step(
        self, contribution: Tensor, weight_hh: Tensor, bias_hh: Tensor, state: States
    ) -> States:
        return gru_step(contribution, weight_hh, bias_hh[-self.hidden_size :], *state)


class StackableLSTM(_StackableRecurrent, nn.LSTM):
    """`nn.LSTM` that can be stacked."""

    def _step(self, contribution: Tensor, weight_hh: Tensor, _: Tensor, state: States) -> States:
        return lstm_step(contribution, weight_hh, *state)


STACKABLE_RECURRENT: Mapping[type[nn.Module], type[nn.RNNBase]] = {
    nn.RNN: StackableRNN,
    nn.GRU: StackableGRU,
    nn.LSTM: StackableLSTM,
}
