"""Arguments of datasets of sequences: texts, and sequences that are drawn."""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from optrial.code import is_code
from optrial.data.arguments import (
    MOST_TOKENS,
    Arguments,
    Fraction,
    Lax,
    RandomState,
    SampleCount,
    check_values,
    described,
)

_FileNames = Annotated[
    tuple[str, ...],
    Lax,
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
    Field(min_length=1),
    described("the name of a file, or a list of names"),
]


class CopyArguments(Arguments):
    """Arguments of the sequences to copy."""

    length: int = Field(10, ge=1, le=10_000, description="symbols of a sequence")
    symbols: int = Field(8, ge=2, le=10_000, description="number of different symbols")
    n_samples: SampleCount = Field(10_000, description="training samples")
    test_samples: SampleCount = Field(1_000, description="samples of the test split")
    random_state: RandomState = Field(0, description="seed of the samples")

    @model_validator(mode="after")
    def _few_values(self) -> CopyArguments:
        check_values(4 * self.length * (self.n_samples + self.test_samples), "samples")
        return _only_tokens(self)


class ModularAdditionArguments(Arguments):
    """Arguments of the sums modulo a number."""

    modulus: int = Field(97, ge=2, le=1_000, description="numbers are 0 to modulus - 1")
    train_fraction: Fraction = Field(0.5, description="share of all pairs in the training split")
    random_state: RandomState = Field(0, description="seed that chooses the training pairs")

    @model_validator(mode="after")
    def _tokens(self) -> ModularAdditionArguments:
        return _only_tokens(self)


class FilesOfSplits(BaseModel):
    """Files of a text, by split."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    train: _FileNames = Field(description="files to train on")
    validation: _FileNames | None = Field(None, description="files for validation")
    test: _FileNames | None = Field(None, description="files for the test")


class TextArguments(Arguments):
    """Arguments of every text: where it is divided, and into which tokens."""

    tokens: str = Field(
        "characters",
        description="bytes; characters, numbered in the order of Unicode; or module:name, a "
        "function from a text to token numbers, or an object with such a method encode",
    )
    vocabulary: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = Field(
        None,
        description="number of tokens of your tokenizer; by default its vocab_size or "
        "n_vocab, or else the largest token of the text plus one",
    )
    context: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        64, description="tokens per window; the model predicts the token after each of them"
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="share of the text for validation, before the part for the test; default 0.1",
    )
    test_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of the text for the test, its last part; default 0.1"
    )

    @field_validator("tokens")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in ("bytes", "characters") and not is_code(value):
            raise ValueError("must be bytes, characters or module:name of a tokenizer")
        return value

    @field_validator("vocabulary")
    @classmethod
    def _of_a_tokenizer(cls, value: int | None, info: ValidationInfo) -> int | None:
        tokens = info.data.get("tokens", "")
        if value is not None and tokens in ("bytes", "characters"):
            raise ValueError(f"applies to your own tokenizer; {tokens} have a fixed vocabulary")
        return value

    @property
    def fractions(self) -> tuple[float, float]:
        """Shares of validation and test."""
        given = (self.validation_fraction, self.test_fraction)
        return tuple(0.1 if share is None else share for share in given)  # type: ignore[return-value]

    @model_validator(mode="after")
    def _leaves_a_training_split(self) -> Self:
        if sum(self.fractions) >= 1:
            shares = " and ".join(map(str, self.fractions))
            raise ValueError(
                f"validation_fraction and test_fraction, {shares}, leave nothing to train on"
            )
        return _only_tokens(self)


_TextFiles = Annotated[
    _FileNames | FilesOfSplits,
    described("a file, a list of files, or {train: FILES, validation: FILES, test: FILES}"),
]


class TextFilesArguments(TextArguments):
    """Arguments of a text in files of the user."""

    files: _TextFiles = Field(
        description="a file, or a list of files that are joined in this order; or files by split, "
        "{train: FILES, validation: FILES, test: FILES}"
    )

    @model_validator(mode="after")
    def _divided_once(self) -> TextFilesArguments:
        shares = {"validation_fraction", "test_fraction"} & self.model_fields_set
        if isinstance(self.files, FilesOfSplits) and shares:
            raise ValueError(f"files name the splits, so {min(shares)} has no effect; remove it")
        return self


_Arguments = TypeVar("_Arguments", bound=Arguments)


def _only_tokens(arguments: _Arguments) -> _Arguments:
    """Refuse arguments of numbers for data whose inputs and targets are tokens."""
    for name in ("scale", "mean", "std", "drop_duplicates", "targets"):
        if name in arguments.model_fields_set and getattr(arguments, name) not in (
            None,
            False,
            "none",
        ):
            raise ValueError(f"the data are tokens, to which {name} does not apply; remove {name}")
    return arguments
