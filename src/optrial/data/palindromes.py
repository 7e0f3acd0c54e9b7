"""Palindromes of digits, whose last digit is to be told from all others: a test of memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import PalindromeArguments
from optrial.data.dataset import Pair

Digits = NDArray[np.uint8]

_STREAM = 0x9A11D  # keeps these draws apart from others made under the same seed
_ENUMERATED = 7  # digits of the longest first halves that are all written down, 10^7 of them
_SPARE = 1.25  # draws a sample beyond that; at most an eighth of them are duplicates


def palindromes(arguments: PalindromeArguments) -> dict[str, Pair]:
    """Draw palindromes; the input is all digits but the last, the target is the last.

    The target equals the first digit, which a recurrent network must remember to the end. No
    palindrome is in both splits wherever there are 20 of them; the ten targets take turns, so that
    all are equally frequent. While there are enough palindromes each is drawn once; where there are
    not, they repeat, and `palindrome_notes` says so. The task is that of the second assignment
    (2019: recurrent networks) of the Deep Learning course of the University of Amsterdam, which
    draws its samples independently and without end.

    Returns:
        train and test; inputs uint8, digits 0 to 9, shape (n, length - 1, 1), or one-hot vectors,
        (n, length - 1, 10); targets (n,).
    """
    halves = _first_halves(arguments)
    train, test = _parts(arguments)
    return {
        "train": _samples(halves[train], arguments.n_samples, arguments),
        "test": _samples(halves[test], arguments.test_samples, arguments),
    }


def palindrome_notes(arguments: PalindromeArguments) -> tuple[str, ...]:
    """Say whether samples repeat or overlap, because there are not as many palindromes."""
    count, wanted = _count(arguments), arguments.n_samples + arguments.test_samples
    if wanted <= count:
        return ()
    train, test = _parts(arguments)
    only = f"there are only {count:,} palindromes of length {arguments.length}"
    if train == test:
        return (f"{only}: the training and the test split hold the same ones",)
    sizes = [part.stop - part.start for part in (train, test)]
    note = (
        f"{only}: {arguments.n_samples:,} training samples are drawn, with repetition, from "
        f"{sizes[0]:,} of them and {arguments.test_samples:,} test samples from {sizes[1]:,} others"
    )
    if arguments.n_samples > sizes[0]:
        note += "; a validation split would share palindromes with the training split"
    return (note,)


def _count(arguments: PalindromeArguments) -> int:
    return int(10 ** math.ceil(arguments.length / 2))


def _parts(arguments: PalindromeArguments) -> tuple[slice, slice]:
    """Return which of the distinct palindromes, in random order, are for training and testing."""
    count, wanted = _count(arguments), arguments.n_samples + arguments.test_samples
    if count < 20:
        return slice(0, count), slice(0, count)
    most = count if wanted <= count else count // 2
    of_test = min(arguments.test_samples, most)
    return slice(of_test, min(wanted, count)), slice(0, of_test)


def _first_halves(arguments: PalindromeArguments) -> Digits:
    """Return distinct first halves in random order, (n, digits); the first digits take turns."""
    digits = math.ceil(arguments.length / 2)
    wanted = arguments.n_samples + arguments.test_samples
    # Raw output is what NumPy promises to keep from version to version; permutations are not.
    draws = np.random.Philox(np.random.SeedSequence([arguments.random_state, _STREAM]))
    if digits <= _ENUMERATED:
        orders = np.argsort(draws.random_raw(10**digits).reshape(10, -1), axis=1, kind="stable")
        numbers = (orders.T + 10 ** (digits - 1) * np.arange(10)).ravel()[:wanted]
        found: Digits = (numbers[:, None] // 10 ** np.arange(digits)[::-1] % 10).astype(np.uint8)
        return found
    rows = math.ceil(wanted * _SPARE)
    halves: Digits = (draws.random_raw(rows * digits) % 10).astype(np.uint8).reshape(rows, digits)
    halves[:, 0] = np.arange(rows) % 10
    texts = (halves + ord("0")).view(f"S{digits}").ravel()
    first = np.unique(texts, return_index=True)[1]
    return halves[np.sort(first)[:wanted]]


def _samples(halves: Digits, size: int, arguments: PalindromeArguments) -> Pair:
    """Write out palindromes, again and again until there are `size`."""
    halves = halves[np.arange(size) % len(halves)]
    mirrored = halves[:, ::-1][:, arguments.length % 2 :]
    inputs = np.concatenate([halves, mirrored[:, :-1]], axis=1)
    shown = np.eye(10, dtype=np.uint8)[inputs] if arguments.one_hot else inputs[..., None]
    return shown, mirrored[:, -1]
