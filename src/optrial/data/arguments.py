"""Arguments of every kind of dataset: names, types, ranges, defaults and meanings."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Strict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)


def described(text: str) -> WrapValidator:
    """Replace the errors of all members of a union by one sentence."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"must be {text}") from None

    return WrapValidator(validate)


# YAML has lists only, so tuples accept lists; their items stay strict.
Lax = Strict(False)
# NumPy takes -0.0 for a negative standard deviation.
_Deviation = Annotated[NonNegativeFloat, AfterValidator(abs)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
RandomState = Annotated[int, Field(ge=0, lt=2**32)]
_Mean = Annotated[
    float | Annotated[tuple[float, ...], Lax, Field(min_length=1)],
    described("a number, or a list of numbers, one per channel or feature"),
]
_Std = Annotated[
    PositiveFloat | Annotated[tuple[PositiveFloat, ...], Lax, Field(min_length=1)],
    described("a number above 0, or a list of them, one per channel or feature"),
]
_MOST_SAMPLES = 2_000_000
"""Most samples that are drawn: within about two seconds."""
MOST_TOKENS = 10_000_000
_NO_CHANGE = (None, False, "none")
_MOST_VALUES = 30_000_000
"""Most values of a dataset that is drawn: samples times features, within a gigabyte."""
_MOST_PRODUCTS = 3_000_000_000
SampleCount = Annotated[int, Field(ge=1, le=_MOST_SAMPLES)]
_Clusters = Annotated[int, Field(ge=1, le=10_000)]
_TwoCounts = Annotated[
    SampleCount | Annotated[tuple[SampleCount, SampleCount], Lax],
    described(f"a whole number from 1 to {_MOST_SAMPLES:,}, or two of them, one per class"),
]
_ClusterCounts = Annotated[
    SampleCount | Annotated[tuple[SampleCount, ...], Lax, Field(min_length=1)],
    described(f"a whole number from 1 to {_MOST_SAMPLES:,}, or a list of them, one per cluster"),
]
_Point = Annotated[tuple[float, ...], Lax, Field(min_length=1)]
_Centers = Annotated[
    _Clusters | Annotated[tuple[_Point, ...], Lax, Field(min_length=1)],
    described("a whole number from 1 to 10,000, or a list of points"),
]
_Spread = Annotated[
    _Deviation | Annotated[tuple[_Deviation, ...], Lax, Field(min_length=1)],
    described("a number from 0, or a list of them, one per cluster"),
]
# YAML reads a column named 2015 as a number.
_Column = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) is int else v)]
_Columns = Annotated[
    _Column | Annotated[tuple[_Column, ...], Lax, Field(min_length=1)],
    described("the name of a column, or a list of names"),
]
_ColumnList = Annotated[
    tuple[_Column, ...],
    Lax,
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
    Field(min_length=1),
    described("a list of column names"),
]
_MissingValues = Annotated[
    tuple[str | float, ...],
    Lax,
    BeforeValidator(lambda v: [v] if isinstance(v, str | int | float) else v),
    Field(min_length=1),
    described("a text or number, or a list of them"),
]
_Size = Annotated[
    tuple[PositiveInt, PositiveInt],
    Lax,
    described("two whole numbers above 0, height and width in pixels"),
]
_Box = Annotated[
    tuple[float, float],
    Lax,
    described("two numbers, the lower and the upper end of all coordinates"),
]


def check_values(count: int, fewer: str) -> None:
    """Refuse data that would take gigabytes or many seconds, before they are drawn."""
    if count > _MOST_VALUES:
        raise ValueError(
            f"has {count:,} values, over {_MOST_VALUES:,}; ask for fewer {fewer}, or write the "
            "data to a file, such as .npz"
        )


class Arguments(BaseModel):
    """Arguments of every dataset."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    default_scale: ClassVar[Literal["standardize", "none"]] = "none"

    validation_fraction: Fraction | None = Field(
        None,
        description="share of the training split held out for validation; by default 0.1 if the "
        "study evaluates on validation and the source has no such split, else none",
    )
    split_seed: int = Field(0, ge=0, description="seed that chooses the validation samples")
    scale: Literal["unit", "standardize", "none"] | None = Field(
        None,
        description="unit: 0..1, by the range of the pixels or else by minimum and maximum of the "
        "training split; standardize: mean 0 and variance 1 on the training split, per feature of "
        "vectors and per channel of images; none. Default: unit for images of whole numbers 0 to "
        "255, standardize for tables and diabetes, none for all others",
    )
    # Records leave it out if it is not given.
    targets: Literal["inputs"] | None = Field(
        None,
        exclude_if=lambda targets: targets is None,
        description="inputs: the targets are the inputs as a model gets them, for autoencoders",
    )
    drop_duplicates: bool = Field(
        False,
        description="leave out samples whose inputs repeat those of an earlier sample, before the "
        "test split is chosen, and validation and test samples that occur in an earlier split",
    )
    mean: _Mean | None = Field(
        None,
        description="subtracted before dividing by std: one number, or one per channel or feature; "
        "applied to image datasets after unit scaling",
    )
    std: _Std | None = Field(
        None,
        validate_default=True,
        description="divisor after subtracting mean: one number, or one per channel or feature",
    )

    @field_validator("mean")
    @classmethod
    def _replaces_scale(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("scale") is not None:
            raise ValueError("mean and std replace scale; remove one or the other")
        return value

    @field_validator("std")
    @classmethod
    def _comes_with_mean(cls, value: object, info: ValidationInfo) -> object:
        if "mean" in info.data and (value is None) != (info.data["mean"] is None):
            raise ValueError("mean and std come together; give both or neither")
        return value

    def resolved(self, pixels: bool = False) -> Self:
        """Return the same arguments with the default scale filled in, which is unit for pixels."""
        if self.scale is not None or self.mean is not None:
            return self
        return self.model_copy(update={"scale": "unit" if pixels else self.default_scale})


class AugmentArguments(BaseModel):
    """Random variation of training images, drawn at each step; see `optrial.data.augment`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    flip: bool = Field(False, description="mirror left to right with probability 1/2")
    crop: int = Field(
        0,
        ge=0,
        description="pad each side by this many pixels and cut out the size of the image at a "
        "random place; the padding is black, a raw 0, as if padded before normalising",
    )


class AugmentableArguments(Arguments):
    """Arguments of a dataset that may hold images."""

    augment: AugmentArguments | None = Field(
        None,
        description="random variation of training images: {flip: true, crop: 4}; evaluation uses "
        "the images unchanged",
    )


class ValueArguments(Arguments):
    """Arguments of a dataset whose targets may be numbers to predict."""

    standardize_targets: bool = Field(
        False,
        description="scale each output to mean 0 and variance 1 on the training split; losses are "
        "then in units of that variance",
    )


class SplitArguments(Arguments):
    """Arguments of a dataset without a test split."""

    test_fraction: Fraction = Field(0.2, description="share of the samples in the test split")
    random_state: RandomState = Field(0, description="seed of the samples and of the test split")


class DigitsArguments(SplitArguments, AugmentableArguments):
    """Arguments of the digits of scikit-learn."""


class DiabetesArguments(SplitArguments, ValueArguments):
    """Arguments of the diabetes data of scikit-learn."""

    default_scale = "standardize"

    standardize_targets: bool = Field(
        True, description="as for other data, but on by default: losses are in units of variance"
    )


class PalindromeArguments(Arguments):
    """Arguments of the palindromes."""

    length: int = Field(
        11, ge=2, le=1000, description="digits of a palindrome; the input has one less"
    )
    n_samples: int = Field(10_000, ge=10, le=_MOST_SAMPLES, description="training samples")
    test_samples: int = Field(
        1_000, ge=10, le=_MOST_SAMPLES, description="samples of the test split"
    )
    one_hot: bool = Field(
        False, description="encode each digit as ten zeros and ones instead of a number 0 to 9"
    )
    random_state: RandomState = Field(0, description="seed of the samples and of the test split")

    @model_validator(mode="after")
    def _few_values(self) -> PalindromeArguments:
        samples = self.n_samples + self.test_samples
        check_values(samples * self.length * (10 if self.one_hot else 1), "samples")
        return self


class DisplacementArguments(Arguments):
    """Arguments of the points around the current one at which a function is evaluated."""

    noise: _Deviation = Field(0.0, description="standard deviation of each coordinate")
    n_samples: SampleCount = Field(
        1, description="points of the training split, over which the function is averaged"
    )
    random_state: RandomState = Field(0, description="seed of the points")


class ScikitTableArguments(SplitArguments):
    """Arguments of a table of classes that scikit-learn ships."""

    default_scale = "standardize"


class TeacherArguments(ValueArguments):
    """Arguments of the random teacher."""

    features: Annotated[int, Field(ge=1, le=10_000)] = Field(10, description="inputs per sample")
    width: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, description="hidden units of the teacher"
    )
    noise: _Deviation = Field(
        0.0, description="standard deviation of the noise on the targets; the teacher itself has 1"
    )
    n_samples: SampleCount = Field(100, description="training samples")
    test_samples: SampleCount = Field(1_000, description="samples of the test split, without noise")
    random_state: RandomState = Field(0, description="seed of the teacher and of the samples")

    @model_validator(mode="after")
    def _few_values(self) -> TeacherArguments:
        samples = self.n_samples + self.test_samples
        check_values(samples * max(self.features, 4), "samples or features")
        if samples * self.features * self.width > _MOST_PRODUCTS:
            raise ValueError("takes too long to draw; ask for fewer samples, features or units")
        return self


class MoonsArguments(SplitArguments):
    """Arguments of `sklearn.datasets.make_moons`."""

    n_samples: _TwoCounts = Field(100, description="samples in total, or in each moon")
    shuffle: bool = Field(True, description="shuffle the samples")
    noise: _Deviation | None = Field(
        None, description="standard deviation of the Gaussian noise added to each coordinate"
    )


class CirclesArguments(MoonsArguments):
    """Arguments of `sklearn.datasets.make_circles`."""

    n_samples: _TwoCounts = Field(
        100, description="samples in total, or in the outer and the inner circle"
    )
    factor: float = Field(0.8, ge=0, lt=1, description="radius of the inner circle")


class BlobsArguments(SplitArguments):
    """Arguments of `sklearn.datasets.make_blobs`, except `return_centers`."""

    n_samples: _ClusterCounts = Field(100, description="samples in total, or in each cluster")
    n_features: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        2, description="features per sample, unless centers are points"
    )
    centers: _Centers | None = Field(
        None, description="number of clusters, or their centers; by default 3, or one per n_samples"
    )
    cluster_std: _Spread = Field(1.0, description="standard deviation of all clusters, or of each")
    center_box: _Box = Field(
        (-10.0, 10.0), description="lower and upper end of the coordinates of drawn centers"
    )
    shuffle: bool = Field(True, description="shuffle the samples")

    @model_validator(mode="after")
    def _few_values(self) -> BlobsArguments:
        counts, centers = self.n_samples, self.centers
        samples = sum(counts) if isinstance(counts, tuple) else counts
        features = len(centers[0]) if isinstance(centers, tuple) else self.n_features
        clusters = centers if isinstance(centers, int) else 3
        check_values(max(samples, clusters) * features, "samples or features")
        return self

    @field_validator("centers")
    @classmethod
    def _match_n_samples(
        cls, centers: int | tuple[tuple[float, ...], ...] | None, info: ValidationInfo
    ) -> int | tuple[tuple[float, ...], ...] | None:
        counts = info.data.get("n_samples")
        points = centers if isinstance(centers, tuple) else ()
        if len({len(point) for point in points}) > 1:
            raise ValueError("all centers need the same number of coordinates")
        if isinstance(counts, tuple) and centers is not None and len(points) != len(counts):
            raise ValueError(f"must be {len(counts)} points, one per count of n_samples")
        return centers

    @field_validator("cluster_std")
    @classmethod
    def _match_clusters(
        cls, spread: float | tuple[float, ...], info: ValidationInfo
    ) -> float | tuple[float, ...]:
        counts, centers = info.data.get("n_samples"), info.data.get("centers")
        listed = next((item for item in (counts, centers) if isinstance(item, tuple)), None)
        clusters = len(listed) if listed is not None else centers or 3
        if isinstance(spread, tuple) and len(spread) != clusters:
            raise ValueError(f"must be one number, or {clusters}, one per cluster")
        return spread

    @field_validator("center_box")
    @classmethod
    def _in_order(cls, box: tuple[float, float]) -> tuple[float, float]:
        if box[0] > box[1]:
            raise ValueError("must begin with the lower end")
        if math.isinf(box[1] - box[0]):
            raise ValueError("must be narrower than the largest number, about 1.8e308")
        return box


class GroupedSplit(BaseModel):
    """Splits that keep all rows with the same value of a column together."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    grouped: _Column = Field(description="the column; a feature only if features names it")


ArraySplit: TypeAlias = Literal["random", "stratified", "chronological"]
Layout: TypeAlias = Literal["nchw", "nhwc", "nhw"]
_TableSplit = Annotated[
    ArraySplit | GroupedSplit,
    described("random, stratified, chronological or {grouped: COLUMN}"),
]
_SPLIT = (
    "choice of test and validation samples: random; stratified, with the same proportions of "
    "classes in every split; chronological, the last ones"
)


class TargetArguments(ValueArguments):
    """Arguments of a dataset whose targets may be class labels or numbers to predict."""

    targets: Literal["labels", "values", "inputs"] | None = Field(  # type: ignore[assignment]
        None,
        description="labels: targets are classes; values: numbers to predict; inputs: the inputs, "
        "for autoencoders. By default as the loss takes them: labels for cross_entropy, values "
        "for mse",
    )


class Vocabulary(BaseModel):
    """Number of tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    tokens: int = Field(ge=1, le=MOST_TOKENS, description="number of different tokens")


_TokenInputs = Annotated[
    Literal["tokens"] | Vocabulary,
    described(f"tokens, or {{tokens: N}} with the number of tokens, up to {MOST_TOKENS:,}"),
]


class TokenArguments(Arguments):
    """Arguments of a dataset whose inputs may be tokens."""

    # Records leave it out if it is not given.
    inputs: _TokenInputs | None = Field(
        None,
        exclude_if=lambda inputs: inputs is None,
        description="tokens: inputs are tokens 0, 1, ..., which models get as integers; {tokens: "
        "N} with the size of the vocabulary, by default the largest token plus one. Otherwise "
        "inputs are numbers",
    )

    @model_validator(mode="after")
    def _tokens_are_not_scaled(self) -> Self:
        if isinstance(self.inputs, str | Vocabulary):
            _check_tokens(self)
        return self


def _check_tokens(arguments: Arguments) -> None:
    """Refuse arguments that change numbers."""
    for name in ("scale", "mean", "std", "augment", "standardize_targets"):
        if name in arguments.model_fields_set and getattr(arguments, name) not in (
            None,
            False,
            "none",
        ):
            raise ValueError(f"inputs are tokens, which {name} would change; remove {name}")


class DivisibleArguments(Arguments):
    """Arguments of samples that come with or without a test split."""

    test_fraction: Fraction | None = Field(
        None,
        description="share of the samples in the test split, for samples without splits; default "
        "0.2",
    )
    random_state: RandomState = Field(0, description="seed of the test split")
    split: ArraySplit = Field("random", description=_SPLIT)


_ArrayInputs = Annotated[
    Literal["tokens"] | Vocabulary | Annotated[tuple[str, ...], Lax, Field(min_length=1)],
    described(
        f"tokens, {{tokens: N}} with the number of tokens, up to {MOST_TOKENS:,}, or a list of "
        "names of inputs"
    ),
]


class ArrayArguments(TargetArguments, TokenArguments, DivisibleArguments, AugmentableArguments):
    """Arguments of the arrays in an ``.npz`` file."""

    # Records leave it out if it is not given.
    inputs: _ArrayInputs | None = Field(  # type: ignore[assignment]
        None,
        exclude_if=lambda inputs: inputs is None,
        description="tokens or {tokens: N}, as for functions; or a list of names: [image, title] "
        "for the arrays train_image, train_title, test_image, ..., which your own model gets "
        "as a mapping",
    )
    layout: Layout | None = Field(
        None,
        description="order of the axes of images: n samples, c channels, h rows, w columns; by "
        "default recognised by 1, 3 or 4 channels",
    )

    @field_validator("inputs")
    @classmethod
    def _different(cls, inputs: object) -> object:
        if isinstance(inputs, tuple) and len(set(inputs)) < len(inputs):
            raise ValueError(f"{list(inputs)} names an input twice")
        return inputs


class ImageFolderArguments(DivisibleArguments, AugmentableArguments):
    """Arguments of a folder that holds one folder of images per class."""

    size: _Size | None = Field(
        None, description="height and width to resize to; required if the images differ in size"
    )
    color: Literal["rgb", "grayscale"] | None = Field(
        None, description="channels to convert to; by default grayscale if all images are"
    )


class TableArguments(TargetArguments, SplitArguments):
    """Arguments of a table: a text file or a Parquet file."""

    default_scale = "standardize"

    target: _Columns = Field(
        description="name of the column of classes or numbers to predict; or a list of columns of "
        "numbers to predict"
    )
    features: _ColumnList | None = Field(
        None,
        description="columns to use; by default all others, except those that identify rows",
    )
    drop: _ColumnList | None = Field(None, description="columns to leave out")
    index: _Column | None = Field(None, description="column of row names, which is left out")
    split: _TableSplit = Field(
        "random", description=f"{_SPLIT}; {{grouped: COLUMN}} keeps rows of equal value together"
    )
    impute: Literal["median", "mean", "most_frequent"] = Field(
        "median",
        description="statistic of the training rows that replaces missing numbers; missing text is "
        "a further category, or with most_frequent becomes the commonest one",
    )
    add_indicator: bool = Field(
        True, description="add a column of 0 and 1 that marks missing values of an imputed column"
    )
    max_categories: Annotated[int, Field(ge=2)] = Field(
        100, description="limit on the columns per text column; the rarest categories share one"
    )


class TextTableArguments(TableArguments):
    """Arguments of a table in a text file, such as ``.csv``, named as in `pandas.read_csv`."""

    separator: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="separator of fields; \\s+ for spaces; recognised by default"
    )
    decimal: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="decimal mark; recognised by default"
    )
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="separator of thousands; recognised by default"
    )
    na_values: _MissingValues | None = Field(
        None, description="further texts or numbers that stand for a missing value"
    )
    keep_default_na: bool = Field(
        True, description="whether NA, None, null and the like are missing values"
    )
    encoding: str | None = Field(
        None, description="encoding of the text: by default utf-8, or utf-16 if marked as such"
    )
    comment: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="first character of lines to skip"
    )
    header: bool | None = Field(
        None, description="whether the first row names the columns; recognised by default"
    )
    names: _ColumnList | None = Field(
        None, description="names of the columns; 1, 2, ... by default for a file without a header"
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError("is not an encoding; try utf-8, latin-1, cp1252 or utf-16") from None
        return value

    @field_validator("separator")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        value = {"\\t": "\t", "tab": "\t", "comma": ",", " ": r"\s+"}.get(value or "", value)
        if value is not None and value != r"\s+" and (len(value) != 1 or value in '\r\n"'):
            raise ValueError(r"must be one character, such as ';', or \s+ for spaces")
        return value

    @field_validator("decimal", "thousands")
    @classmethod
    def _is_a_mark(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (value.isalnum() or value in '+-"\r\n'):
            raise ValueError("must be a mark within numbers, such as '.' or ','")
        if value is not None and info.data.get("decimal") == value:
            raise ValueError("must differ from decimal")
        return value


class FunctionArguments(TargetArguments, TokenArguments, AugmentableArguments):
    """Arguments of a dataset function: those of every dataset, and those of the function."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, JsonValue]

    split: ArraySplit = Field("random", description=_SPLIT)

    @property
    def keywords(self) -> dict[str, JsonValue]:
        """Keyword arguments of the function."""
        return dict(self.__pydantic_extra__)
