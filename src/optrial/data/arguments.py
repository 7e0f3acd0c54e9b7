"""The arguments each kind of dataset takes: names, types, ranges, defaults and meanings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
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
)


def _described(text: str) -> WrapValidator:
    """Replace what a union's members complain of, one by one, by one sentence on all of them."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"must be {text}") from None

    return WrapValidator(validate)


# YAML has lists only, so a list is taken where a tuple is meant; what it holds stays strict.
_Lax = Strict(False)
_Fraction = Annotated[float, Field(gt=0, lt=1)]
_RandomState = Annotated[int, Field(ge=0, lt=2**32)]
_Mean = Annotated[
    float | Annotated[tuple[float, ...], _Lax, Field(min_length=1)],
    _described("a number, or a list of numbers, one a channel or feature"),
]
_Std = Annotated[
    PositiveFloat | Annotated[tuple[PositiveFloat, ...], _Lax, Field(min_length=1)],
    _described("a number above 0, or a list of them, one a channel or feature"),
]
_TwoCounts = Annotated[
    PositiveInt | Annotated[tuple[PositiveInt, PositiveInt], _Lax],
    _described("a whole number above 0, or two of them, one a class"),
]
_ClusterCounts = Annotated[
    PositiveInt | Annotated[tuple[PositiveInt, ...], _Lax, Field(min_length=1)],
    _described("a whole number above 0, or a list of them, one a cluster"),
]
_Point = Annotated[tuple[float, ...], _Lax, Field(min_length=1)]
_Centers = Annotated[
    PositiveInt | Annotated[tuple[_Point, ...], _Lax, Field(min_length=1)],
    _described("a whole number above 0, or a list of points"),
]
_Spread = Annotated[
    NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], _Lax, Field(min_length=1)],
    _described("a number from 0, or a list of them, one a cluster"),
]
# YAML reads a column named 2015 as a number.
_Column = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) is int else v)]
_Columns = Annotated[
    _Column | Annotated[tuple[_Column, ...], _Lax, Field(min_length=1)],
    _described("the name of a column, or a list of names"),
]
_ColumnList = Annotated[
    tuple[_Column, ...],
    _Lax,
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
    Field(min_length=1),
    _described("a list of names of columns"),
]
_MissingValues = Annotated[
    tuple[str | float, ...],
    _Lax,
    BeforeValidator(lambda v: [v] if isinstance(v, str | int | float) else v),
    Field(min_length=1),
    _described("a text or number, or a list of them"),
]
_Size = Annotated[
    tuple[PositiveInt, PositiveInt],
    _Lax,
    _described("two whole numbers above 0, height and width in pixels"),
]
_Box = Annotated[
    tuple[float, float],
    _Lax,
    _described("two numbers, the lower and the upper end of every coordinate"),
]


class Arguments(BaseModel):
    """Arguments of every dataset."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    default_scale: ClassVar[Literal["unit", "standardize", "none"]] = "none"

    validation_fraction: _Fraction | None = Field(
        None,
        description="part of the training split held out for validation; by default 0.1 where the "
        "study evaluates on validation and the source has no such split, else none",
    )
    split_seed: int = Field(0, ge=0, description="seed of the choice of validation samples")
    scale: Literal["unit", "standardize", "none"] | None = Field(
        None,
        description="unit: 0..1 (by the pixel range of the image datasets, else by the training "
        "split's minimum and maximum); standardize: mean 0 and variance 1 on the training split, "
        "per feature of vectors and per channel of images; none. Default: unit for images of "
        "whole numbers 0 to 255, standardize for tables and diabetes, none for all others",
    )
    drop_duplicates: bool = Field(
        False,
        description="leave out samples whose inputs repeat those of an earlier sample, before a "
        "test split is chosen, and samples of validation and test that an earlier split has",
    )
    mean: _Mean | None = Field(
        None,
        description="subtracted, before dividing by std; one number, or one a channel or feature; "
        "for the image datasets after unit scaling",
    )
    std: _Std | None = Field(
        None,
        validate_default=True,
        description="divides, after subtracting mean; one number, or one a channel or feature",
    )

    @field_validator("mean")
    @classmethod
    def _replaces_scale(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("scale") is not None:
            raise ValueError("mean and std replace scale; remove one or the other")
        return value

    @field_validator("std")
    @classmethod
    def _comes_with_mean(cls, value: Any, info: ValidationInfo) -> Any:
        if "mean" in info.data and (value is None) != (info.data["mean"] is None):
            raise ValueError("mean and std come together; give both or neither")
        return value

    def resolved(self) -> Arguments:
        """Return the same arguments with the default scale written out."""
        if self.scale is not None or self.mean is not None:
            return self
        return self.model_copy(update={"scale": self.default_scale})


class AugmentArguments(BaseModel):
    """How training images are varied at random, anew at each step; see `optrial.data.augment`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    flip: bool = Field(False, description="mirror left to right with probability 1/2")
    crop: int = Field(
        0,
        ge=0,
        description="pad each side by so many pixels and cut out the image's size at a random "
        "place; the padding is a raw 0, black, as where a script pads before it normalises",
    )


class AugmentableArguments(Arguments):
    """Arguments of a dataset that holds images, or may."""

    augment: AugmentArguments | None = Field(
        None,
        description="random variation of training batches, of images alone: {flip: true, crop: 4}; "
        "evaluation sees every image as it is",
    )


class ValueArguments(Arguments):
    """Arguments of a dataset whose targets are numbers to predict, or may be."""

    standardize_targets: bool = Field(
        False,
        description="bring each output to mean 0 and variance 1 on the training split; losses are "
        "then in units of its variance",
    )


class ImageArguments(AugmentableArguments):
    """Arguments of an image dataset with published splits."""

    default_scale = "unit"


class SplitArguments(Arguments):
    """Arguments of a dataset that has no test split of its own."""

    test_fraction: _Fraction = Field(0.2, description="part of the samples that is the test split")
    random_state: _RandomState = Field(0, description="seed of the samples and of the test split")


class DigitsArguments(SplitArguments, AugmentableArguments):
    """Arguments of the digits of scikit-learn."""

    default_scale = "unit"


class DiabetesArguments(SplitArguments, ValueArguments):
    """Arguments of the diabetes data of scikit-learn."""

    default_scale = "standardize"

    standardize_targets: bool = Field(
        True, description="as for other data, but by default: the losses are in units of variance"
    )


class PalindromeArguments(Arguments):
    """Arguments of the palindromes."""

    length: int = Field(
        11, ge=2, le=1000, description="digits of a palindrome; a sample's input has one less"
    )
    n_samples: int = Field(10_000, ge=10, le=10_000_000, description="samples to train on")
    test_samples: int = Field(1_000, ge=10, le=10_000_000, description="samples of the test split")
    one_hot: bool = Field(
        False, description="give each digit as ten zeros and ones instead of one number 0 to 9"
    )
    random_state: _RandomState = Field(0, description="seed of the samples and of the test split")


class DisplacementArguments(Arguments):
    """Arguments of the points around that of a function that is descended."""

    noise: NonNegativeFloat = Field(0.0, description="standard deviation in each variable")
    n_samples: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        1, description="points of the training split, over which the function is averaged"
    )
    random_state: _RandomState = Field(0, description="seed of the points")


class MoonsArguments(SplitArguments):
    """Arguments of `sklearn.datasets.make_moons`."""

    n_samples: _TwoCounts = Field(100, description="samples in all, or in each moon")
    shuffle: bool = Field(True, description="shuffle the samples")
    noise: NonNegativeFloat | None = Field(
        None, description="standard deviation of the Gaussian noise added to each coordinate"
    )


class CirclesArguments(MoonsArguments):
    """Arguments of `sklearn.datasets.make_circles`."""

    n_samples: _TwoCounts = Field(
        100, description="samples in all, or in the outer and inner circle"
    )
    factor: float = Field(0.8, ge=0, lt=1, description="radius of the inner circle")


class BlobsArguments(SplitArguments):
    """Arguments of `sklearn.datasets.make_blobs`, except `return_centers`."""

    n_samples: _ClusterCounts = Field(100, description="samples in all, or in each cluster")
    n_features: PositiveInt = Field(2, description="features a sample, unless centers are points")
    centers: _Centers | None = Field(
        None, description="number of clusters, or their centers; default 3 or as n_samples says"
    )
    cluster_std: _Spread = Field(1.0, description="standard deviation of all or of each cluster")
    center_box: _Box = Field(
        (-10.0, 10.0), description="lower and upper end of each coordinate of a drawn center"
    )
    shuffle: bool = Field(True, description="shuffle the samples")

    @field_validator("centers")
    @classmethod
    def _match_n_samples(cls, centers: Any, info: ValidationInfo) -> Any:
        counts = info.data.get("n_samples")
        if isinstance(centers, tuple) and len({len(point) for point in centers}) > 1:
            raise ValueError("all centers need the same number of coordinates")
        if isinstance(counts, tuple) and centers is not None:
            given = len(centers) if isinstance(centers, tuple) else None
            if given != len(counts):
                raise ValueError(f"must be {len(counts)} points, one a count of n_samples, or none")
        return centers

    @field_validator("cluster_std")
    @classmethod
    def _match_clusters(cls, spread: Any, info: ValidationInfo) -> Any:
        counts, centers = info.data.get("n_samples"), info.data.get("centers")
        sized = next((item for item in (counts, centers) if isinstance(item, tuple)), None)
        clusters = len(sized) if sized is not None else centers or 3
        if isinstance(spread, tuple) and len(spread) != clusters:
            raise ValueError(f"must be one number, or {clusters}, one a cluster")
        return spread

    @field_validator("center_box")
    @classmethod
    def _in_order(cls, box: tuple[float, float]) -> tuple[float, float]:
        if box[0] > box[1]:
            raise ValueError("the lower end comes first")
        return box


class GroupedSplit(BaseModel):
    """Splits that keep all rows with the same value of a column together."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    grouped: _Column = Field(description="the column; it is not a feature unless features names it")


ArraySplit: TypeAlias = Literal["random", "stratified", "chronological"]
_TableSplit = Annotated[
    ArraySplit | GroupedSplit,
    _described("random, stratified, chronological or {grouped: COLUMN}"),
]
_SPLIT = (
    "how test and validation samples are chosen: random; stratified, with the same proportions of "
    "classes in every split; chronological, the last ones"
)


class TargetArguments(ValueArguments):
    """Arguments of a dataset whose targets may be class labels or numbers to predict."""

    targets: Literal["labels", "values"] | None = Field(
        None,
        description="labels: targets are classes; values: numbers to predict. By default, what "
        "the loss takes: labels for cross_entropy, values for mse",
    )


class ArrayArguments(AugmentableArguments, TargetArguments):
    """Arguments of arrays with or without splits: an ``.npz`` file, or objects of a program."""

    test_fraction: _Fraction | None = Field(
        None,
        description="part of the samples that is the test split, for arrays without splits "
        "(default 0.2)",
    )
    random_state: _RandomState = Field(0, description="seed of the test split")
    split: ArraySplit = Field("random", description=_SPLIT)
    layout: Literal["nchw", "nhwc", "nhw"] | None = Field(
        None,
        description="order of the axes of images: n samples, c channels, h rows, w columns; by "
        "default it is told from the shape: 1, 3 or 4 channels",
    )


class ImageFolderArguments(AugmentableArguments):
    """Arguments of a folder that holds one folder of images per class."""

    default_scale = "unit"

    size: _Size | None = Field(
        None, description="height and width to resize to; needed where the images differ in size"
    )
    color: Literal["rgb", "grayscale"] | None = Field(
        None, description="channels to convert to; by default grayscale if all images are"
    )
    test_fraction: _Fraction | None = Field(
        None,
        description="part of the images that is the test split, where there is no folder test "
        "(default 0.2)",
    )
    random_state: _RandomState = Field(0, description="seed of the test split")
    split: ArraySplit = Field("random", description=_SPLIT)


class TableArguments(SplitArguments, TargetArguments):
    """Arguments of a table: a text file or a Parquet file."""

    default_scale = "standardize"

    target: _Columns = Field(
        description="name of the column that holds the class or the number to predict; or a list "
        "of columns of numbers to predict"
    )
    features: _ColumnList | None = Field(
        None,
        description="columns to use; by default all others, except those that number or name rows",
    )
    drop: _ColumnList | None = Field(None, description="columns to leave out")
    index: _Column | None = Field(None, description="column that names the rows; it is left out")
    split: _TableSplit = Field(
        "random", description=f"{_SPLIT}; {{grouped: COLUMN}} keeps rows of equal value together"
    )
    impute: Literal["median", "mean", "most_frequent"] = Field(
        "median",
        description="what replaces missing numbers, computed from training rows; missing text is "
        "a category of its own, or with most_frequent the commonest one",
    )
    add_indicator: bool = Field(
        True, description="add a column of 0 and 1 for each imputed one: whether it was missing"
    )
    max_categories: Annotated[int, Field(ge=2)] = Field(
        100, description="most columns that a text column becomes; the rarest categories share one"
    )


class TextTableArguments(TableArguments):
    """Arguments of a table in a text file, such as ``.csv``, in the words of `pandas.read_csv`."""

    separator: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="between two fields; \\s+ for any number of spaces; sniffed by default"
    )
    decimal: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="decimal point; a comma is recognised by default"
    )
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="separator of thousands; recognised by default"
    )
    na_values: _MissingValues | None = Field(
        None, description="what else stands for a missing value, besides what pandas knows"
    )
    keep_default_na: bool = Field(
        True, description="whether texts such as NA, None and null are missing values"
    )
    encoding: str | None = Field(
        None, description="of the text: utf-8 by default, or utf-16 if the file says so"
    )
    comment: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="lines that begin with it are skipped"
    )
    header: bool | None = Field(
        None,
        description="whether the first row names the columns; true if it does not look like data",
    )
    names: _ColumnList | None = Field(
        None, description="names of the columns, for a file without them; 1, 2, ... by default"
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
        if value is not None and len(value) != 1 and value != r"\s+":
            raise ValueError(r"must be one character, such as ';', or \s+ for spaces")
        return value


class FunctionArguments(AugmentableArguments, TargetArguments):
    """Arguments of a dataset function: those of every dataset, and the function's own."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, JsonValue]

    split: ArraySplit = Field("random", description=_SPLIT)

    @property
    def own(self) -> dict[str, JsonValue]:
        """The keyword arguments that are passed to the function."""
        return dict(self.__pydantic_extra__)
