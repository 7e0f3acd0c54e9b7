"""Sequences of tokens drawn by NumPy: symbols to copy, and sums modulo a number."""

from __future__ import annotations

import numpy as np

from optrial.data.dataset import Pair
from optrial.data.fitting import require_memory
from optrial.data.sequence_arguments import CopyArguments, ModularAdditionArguments
from optrial.data.source import Request, Source

_TOKEN_BYTES = 2 * 8 * 2  # inputs and targets, and copies of them
_COPIES, _SUMS = 0xC0B1E5, 0x5F35  # separate these draws from others under the same seed


def draw_copies(request: Request[CopyArguments]) -> Source:
    """Draw symbols, a mark, and the symbols again; the second copy is to be predicted.

    Returns:
        train and test; inputs, (n, 2 length), are symbols 0, 1, ..., the mark, and the symbols but
        for the last; targets are the next tokens, and only those after the mark count.
    """
    arguments = request.arguments
    length, symbols = arguments.length, arguments.symbols
    samples = arguments.n_samples + arguments.test_samples
    require_memory(f"dataset '{request.title}'", _TOKEN_BYTES * 2 * length * samples)
    # NumPy guarantees raw output across versions, but not integers.
    draws = np.random.Philox(np.random.SeedSequence([arguments.random_state, _COPIES]))
    drawn = (draws.random_raw(samples * length) % symbols).astype(np.int64).reshape(-1, length)
    mark = np.full((samples, 1), symbols)
    inputs = np.concatenate([drawn, mark, drawn[:, :-1]], axis=1)
    targets = np.concatenate([np.full_like(drawn, request.ignore_index), drawn], axis=1)
    parts = {"train": slice(0, arguments.n_samples), "test": slice(arguments.n_samples, None)}
    splits = {name: (inputs[part], targets[part]) for name, part in parts.items()}
    gap = " " * (symbols > 10)
    texts = [f"{token}{gap}" for token in (*range(symbols), "|")]
    return Source(splits, vocabulary=symbols + 1, classes=symbols, token_texts=texts)


def draw_sums(request: Request[ModularAdditionArguments]) -> Source:
    """Return all pairs as the tokens a, +, b, =; the sum modulo a number is to be predicted at =.

    Returns:
        train and test; inputs, (n, 4), with the numbers as tokens, then + and =; targets, (n, 4),
        where only the last of a row counts.

    Raises:
        DataError: a split would be empty.
    """
    arguments = request.arguments
    modulus = arguments.modulus
    first, second = (pair.ravel() for pair in np.divmod(np.arange(modulus**2), modulus))
    plus, equals = np.full_like(first, modulus), np.full_like(first, modulus + 1)
    inputs = np.stack([first, plus, second, equals], axis=1)
    targets = np.full_like(inputs, request.ignore_index)
    targets[:, -1] = (first + second) % modulus
    draws = np.random.Philox(np.random.SeedSequence([arguments.random_state, _SUMS]))
    order = np.argsort(draws.random_raw(len(inputs)), kind="stable")
    size = min(len(order) - 1, max(1, round(arguments.train_fraction * len(order))))

    def part(rows: slice) -> Pair:
        return inputs[order[rows]], targets[order[rows]]

    splits = {"train": part(slice(0, size)), "test": part(slice(size, None))}
    texts = [*map(str, range(modulus)), "+", "="]
    return Source(splits, vocabulary=modulus + 2, classes=modulus, token_texts=texts)
