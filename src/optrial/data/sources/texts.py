"""Texts as tokens: windows that predict the next token, at every position."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from optrial.code import importable_from_here, is_code, load_code, readable
from optrial.data.arguments import MOST_TOKENS
from optrial.data.dataset import SPLITS, Pair
from optrial.data.fitting import require_memory
from optrial.data.sequence_arguments import FilesOfSplits, TextArguments, TextFilesArguments
from optrial.data.source import Request, Source, expanded
from optrial.errors import USER_CODE_ERRORS, DataError, counted, one_line, shown

_TOKEN_BYTES = 4 * 8  # text, inputs and targets, and a copy
_ASCII = 128
_SPACE = re.compile(r"\s")
_SIZES = ("n_vocab", "vocab_size")  # of tokenizers such as those of tiktoken and SentencePiece

Tokens = NDArray[np.int64]


class _Tokenized(NamedTuple):
    """A split of a text.

    Attributes:
        tokens: (tokens,).
        bytes_per_token: mean length in UTF-8 of all tokens but the first, which none predicts.
    """

    tokens: Tokens
    bytes_per_token: float


def read_text(request: Request[TextFilesArguments]) -> Source:
    """Read the files of a text; see `_source`."""
    files = request.arguments.files
    if not isinstance(files, FilesOfSplits):
        return _source(request, {"all": _joined(files)})
    named = {split: getattr(files, split) for split in SPLITS}
    return _source(request, {split: _joined(names) for split, names in named.items() if names})


def read_coriolanus(request: Request[TextArguments]) -> Source:
    """Read the text that ships with optrial."""
    return _source(request, {"all": Path(__file__).with_name("coriolanus.txt").read_bytes()})


def read_tiny_shakespeare(request: Request[TextArguments]) -> Source:
    """Read the published file."""
    return _source(request, {"all": (request.folder / "input.txt").read_bytes()})


def _joined(names: Iterable[str]) -> bytes:
    """Return the contents of files, one after the other.

    Raises:
        DataError: a file is missing, empty or cannot be read.
    """
    parts = []
    for name in names:
        path = expanded(name)
        try:
            require_memory(name, path.stat().st_size)
            if not (path.is_file() or path.is_dir()):  # a pipe or a device may have no end
                raise DataError(f"dataset 'text': {name} is a pipe or a device; name a file")
            part = path.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"dataset 'text': {name} cannot be read ({reason}); a relative path starts at "
                f"{Path.cwd()}"
            ) from error
        if not part:
            raise DataError(f"dataset 'text': {name} is empty; name a file with text")
        parts.append(part)
    return b"".join(parts)


def _source(request: Request[TextArguments], raw: Mapping[str, bytes]) -> Source:
    """Divide a text and cut its parts into windows.

    Inputs are windows side by side, (n, context). Targets are the tokens after each. What is
    missing in the last window does not count.

    Args:
        request: the request.
        raw: the text of each split, or ``all`` of it.

    Raises:
        DataError: the text is not UTF-8, a tokenizer fails, or a split is shorter than a window.
    """
    arguments = request.arguments
    require_memory(f"dataset '{request.title}'", _TOKEN_BYTES * sum(map(len, raw.values())))
    parts: Mapping[str, str | bytes] = raw
    if arguments.tokens != "bytes":
        parts = _decoded(request, raw)
    if "all" in parts:
        parts = _divided(parts["all"], arguments)
    split_texts, vocabulary, token_texts = _tokenized(request, parts)
    for split, part in split_texts.items():
        if len(part.tokens) <= arguments.context:
            raise DataError(
                f"dataset '{request.title}': the {split} split has "
                f"{counted(len(part.tokens), 'token')}, and a window of context "
                f"{arguments.context} needs {arguments.context + 1}; use a shorter context, a "
                "longer text or a larger share of it"
            )
    splits = {
        split: _windows(part.tokens, arguments.context, request.ignore_index)
        for split, part in split_texts.items()
    }
    return Source(
        splits,
        vocabulary=vocabulary,
        classes=vocabulary,
        text=split_texts["train"].tokens,
        bytes_per_token={split: part.bytes_per_token for split, part in split_texts.items()},
        token_texts=token_texts,
    )


def _decoded(request: Request[TextArguments], raw: Mapping[str, bytes]) -> dict[str, str]:
    decoded = {}
    for split, part in raw.items():
        try:
            decoded[split] = part.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"dataset '{request.title}': the text is not UTF-8 (byte {error.start} is "
                f"{part[error.start]:#04x}); convert it, or read it as tokens: bytes"
            ) from error
    return decoded


def _divided(text: str | bytes, arguments: TextArguments) -> dict[str, str | bytes]:
    """Cut a text into training, validation and test split, in this order.

    For a tokenizer of the user, which may know whole words only, each cut moves to the next space.
    """
    validation, test = arguments.fractions
    ends = [0, int((1 - validation - test) * len(text)), int((1 - test) * len(text)), len(text)]
    if isinstance(text, str) and is_code(arguments.tokens):
        spaces = (_SPACE.search(text, end) for end in ends[1:-1])
        ends[1:-1] = [s.start() if s else end for s, end in zip(spaces, ends[1:-1], strict=True)]
    shares = {"train": 1.0, "validation": validation, "test": test}
    parts = zip(shares.items(), pairwise(ends), strict=True)
    return {split: text[start:end] for (split, share), (start, end) in parts if share}


def _tokenized(
    request: Request[TextArguments], parts: Mapping[str, str | bytes]
) -> tuple[dict[str, _Tokenized], int, Sequence[str]]:
    """Return the tokens of each split, the number of different tokens, and their texts."""
    if is_code(request.arguments.tokens):
        return *_by_own_tokenizer(request, parts), ()
    if request.arguments.tokens == "bytes":
        of_bytes = {s: np.frombuffer(bytes(_raw(p)), np.uint8) for s, p in parts.items()}
        texts = [chr(byte) if byte < _ASCII else f"\\x{byte:02x}" for byte in range(256)]
        whole = {s: _Tokenized(tokens.astype(np.int64), 1.0) for s, tokens in of_bytes.items()}
        return whole, len(texts), texts
    points = {s: np.frombuffer(str(p).encode("utf-32-le"), "<u4") for s, p in parts.items()}
    alphabet = np.unique(np.concatenate(list(points.values())))
    lengths = np.array([len(chr(point).encode()) for point in alphabet.tolist()])
    tokenized = {}
    for split, of_split in points.items():
        tokens = np.searchsorted(alphabet, of_split).astype(np.int64)
        predicted = lengths[tokens[1:]]
        tokenized[split] = _Tokenized(tokens, float(predicted.mean()) if predicted.size else 1.0)
    return tokenized, len(alphabet), list(map(chr, alphabet.tolist()))


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


class _Encoder(Protocol):
    def __call__(self, text: str, /) -> Sequence[int]: ...


def _by_own_tokenizer(
    request: Request[TextArguments], parts: Mapping[str, str | bytes]
) -> tuple[dict[str, _Tokenized], int]:
    """Return the tokens of a tokenizer of the user, and the size of its vocabulary.

    The bytes per token are those of the whole split: which bytes its first token has is not known.
    """
    name = request.arguments.tokens
    place = f"dataset '{request.title}': the tokenizer '{readable(name)}'"
    tokenized = {}
    try:
        with importable_from_here():
            tokenizer = load_code(name)
            tokenizer = tokenizer() if isinstance(tokenizer, type) else tokenizer
            encode: _Encoder = getattr(tokenizer, "encode", tokenizer)
            encoded = {split: np.asarray(encode(str(part))) for split, part in parts.items()}
            sizes = {} if request.arguments.vocabulary else _sizes(tokenizer)
    except (ImportError, *USER_CODE_ERRORS) as error:
        raise DataError(f"{place} failed: {one_line(error).rstrip('.')}") from error
    for split, tokens in encoded.items():
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise DataError(
                f"{place} returned values of shape {tokens.shape} and type {tokens.dtype}; it must "
                "return a list of whole numbers 0, 1, ..."
            )
        if tokens.size and tokens.min() < 0:
            raise DataError(f"{place} returned the negative token {tokens.min()}; number from 0")
        if tokens.size and tokens.max() >= MOST_TOKENS:
            raise DataError(
                f"{place} returned the token {tokens.max()}; number from 0, to {MOST_TOKENS - 1:,} "
                "at most"
            )
        size = len(_raw(parts[split]))
        tokenized[split] = _Tokenized(tokens.astype(np.int64), size / max(1, len(tokens)))
    largest = max((int(tokens.max()) for tokens in encoded.values() if tokens.size), default=0)
    for attribute, size in sizes.items():
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not whole or not 1 <= size <= MOST_TOKENS:
            raise DataError(
                f"{place} has {attribute} {shown(size)}, which is not a number of tokens from 1 to "
                f"{MOST_TOKENS:,}; give vocabulary: {largest + 1} or more"
            )
    known = (request.arguments.vocabulary, *map(int, sizes.values()), largest + 1)
    vocabulary = next(size for size in known if size is not None)
    if largest >= vocabulary:
        raise DataError(
            f"{place} returned the token {largest}, and its vocabulary has {vocabulary:,}, 0 to "
            f"{vocabulary - 1}; give vocabulary: {largest + 1} or more"
        )
    return tokenized, vocabulary


def _sizes(tokenizer: object) -> dict[str, Any]:
    """Return the sizes of its vocabulary that a tokenizer knows, as attributes or methods."""
    found = {name: getattr(tokenizer, name, None) for name in _SIZES}
    sizes = {name: size() if callable(size) else size for name, size in found.items()}
    return {name: size for name, size in sizes.items() if size is not None}


def _windows(tokens: Tokens, context: int, ignore_index: int) -> Pair:
    """Cut a text into windows side by side; targets beyond its end do not count."""
    predicted = len(tokens) - 1
    rows = -(-predicted // context)
    inputs = np.zeros(rows * context, np.int64)
    targets = np.full(rows * context, ignore_index, np.int64)
    inputs[:predicted], targets[:predicted] = tokens[:-1], tokens[1:]
    return inputs.reshape(rows, context), targets.reshape(rows, context)
