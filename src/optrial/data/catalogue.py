"""Catalogue of named datasets, and of the kinds of files and code of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

from optrial.data.arguments import (
    Arguments,
    ArrayArguments,
    AugmentableArguments,
    BlobsArguments,
    CirclesArguments,
    DiabetesArguments,
    DigitsArguments,
    DisplacementArguments,
    FunctionArguments,
    ImageFolderArguments,
    MoonsArguments,
    PalindromeArguments,
    ScikitTableArguments,
    TableArguments,
    TeacherArguments,
    TextTableArguments,
)
from optrial.data.download import Archive, Published
from optrial.data.sequence_arguments import (
    CopyArguments,
    ModularAdditionArguments,
    TextArguments,
    TextFilesArguments,
)
from optrial.data.source import Request, Source
from optrial.errors import DataError

Reader: TypeAlias = Callable[[Request[Any]], Source]
"""Reads or draws samples; a reader accepts the arguments of its entry."""


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset, or a kind of dataset.

    Attributes:
        name: as in a study.
        arguments: model of its arguments.
        reader: ``module:function`` of the `Reader` in `optrial.data.sources`, imported when needed.
        summary: one line, for a dataset of the catalogue.
        source: its citation or origin.
        licence: its licence, if the authors state one.
        extra: group of optional dependencies that the reader needs.
        input_shape: shape of one sample, if fixed.
        pixel_maximum: largest possible value of pixels; None for inputs that are not pixels.
        values: whether its targets are values to predict, not classes.
        published: files to download.
    """

    name: str
    arguments: type[Arguments]
    reader: str
    summary: str = ""
    source: str = ""
    licence: str = ""
    extra: str = ""
    input_shape: tuple[int, ...] | None = None
    pixel_maximum: int | None = None
    values: bool = False
    published: Published | None = None

    @property
    def megabytes(self) -> float:
        """Size of the download, in units of 10^6 bytes; 0 for none."""
        return self.published.megabytes if self.published else 0.0

    def read(self, request: Request[Any]) -> Source:
        """Import the reader and call it.

        Raises:
            DataError: an optional dependency is missing, or the samples cannot be read.
        """
        module, _, function = self.reader.partition(":")
        try:
            reader: Reader = getattr(import_module(f"optrial.data.sources.{module}"), function)
        except ImportError as error:
            if not self.extra:
                raise
            raise DataError(
                f"{request.name} cannot be read without {error.name}; install it by pip install "
                f"'optrial[{self.extra}]'"
            ) from error
        return reader(request)


def _sha256sums(listing: str) -> dict[str, str]:
    """Read lines as `sha256sum` writes them: name -> sha256."""
    return {name: sha256 for sha256, name in map(str.split, listing.strip().splitlines())}


_MNIST = Published(
    folder="mnist",
    files=_sha256sums(
        """
        440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609  train-images-idx3-ubyte.gz
        3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c  train-labels-idx1-ubyte.gz
        8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6  t10k-images-idx3-ubyte.gz
        f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6  t10k-labels-idx1-ubyte.gz
        """
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    megabytes=11.6,
)
_FASHION_MNIST = Published(
    folder="fashion-mnist",
    files=_sha256sums(
        """
        3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84  train-images-idx3-ubyte.gz
        a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845  train-labels-idx1-ubyte.gz
        346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073  t10k-images-idx3-ubyte.gz
        67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5  t10k-labels-idx1-ubyte.gz
        """
    ),
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    megabytes=30.9,
)
_CIFAR_10 = Published(
    folder="cifar-10",
    files=_sha256sums(
        """
        cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5  data_batch_1.bin
        a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed  data_batch_2.bin
        bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67  data_batch_3.bin
        014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48  data_batch_4.bin
        755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add  data_batch_5.bin
        8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b  test_batch.bin
        """
    ),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
    ),
    megabytes=170.1,
    archive=Archive(
        name="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        member_limit=10_000 * 3_073,
    ),
)

_TINY_SHAKESPEARE = Published(
    folder="tiny-shakespeare",
    files=_sha256sums(
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed  input.txt"
    ),
    mirrors=(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        "https://raw.githubusercontent.com/karpathy/ng-video-lecture/master/",
    ),
    megabytes=1.1,
)

_SCIKIT_LEARN = "drawn as by scikit-learn (Pedregosa et al. 2011)"

_ENTRIES = (
    DatasetEntry(
        name="digits",
        summary="1,797 handwritten digits of 8x8 pixels; ships with scikit-learn",
        source="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        licence="CC BY 4.0",
        arguments=DigitsArguments,
        reader="scikit_learn:read_digits",
        input_shape=(1, 8, 8),
        pixel_maximum=16,
    ),
    DatasetEntry(
        name="displacements",
        summary="points around the origin, for a function that is descended: problem: {function:}",
        source="drawn by NumPy",
        licence="none needed",
        arguments=DisplacementArguments,
        reader="generated:draw_displacements",
        input_shape=(2,),
    ),
    DatasetEntry(
        name="moons",
        summary="two interleaving half circles in the plane",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=MoonsArguments,
        reader="generated:draw_moons",
        input_shape=(2,),
    ),
    DatasetEntry(
        name="circles",
        summary="a circle inside a circle in the plane",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=CirclesArguments,
        reader="generated:draw_circles",
        input_shape=(2,),
    ),
    DatasetEntry(
        name="blobs",
        summary="isotropic Gaussian clusters",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=BlobsArguments,
        reader="generated:draw_blobs",
    ),
    DatasetEntry(
        name="palindrome",
        summary="palindromes of digits; the class is the last digit, a test of memory",
        source="Deep Learning course of the University of Amsterdam, 2019, assignment 2",
        licence="none needed",
        arguments=PalindromeArguments,
        reader="generated:draw_palindromes",
    ),
    DatasetEntry(
        name="diabetes",
        summary="442 patients and their illness a year later, a value to predict (loss: mse)",
        source="Efron, Hastie, Johnstone & Tibshirani 2004, Least angle regression",
        licence="none stated; ships with scikit-learn",
        arguments=DiabetesArguments,
        reader="scikit_learn:read_diabetes",
        input_shape=(10,),
        values=True,
    ),
    DatasetEntry(
        name="breast-cancer",
        summary="569 tumours by 30 measurements, malignant or benign; ships with scikit-learn",
        source="Wolberg, Mangasarian, Street & Street 1993, Breast Cancer Wisconsin (Diagnostic), "
        "UCI",
        licence="CC BY 4.0",
        arguments=ScikitTableArguments,
        reader="scikit_learn:read_breast_cancer",
        input_shape=(30,),
    ),
    DatasetEntry(
        name="wine",
        summary="178 wines by 13 measurements, three kinds of grapes; ships with scikit-learn",
        source="Aeberhard & Forina 1992, Wine, UCI",
        licence="CC BY 4.0",
        arguments=ScikitTableArguments,
        reader="scikit_learn:read_wine",
        input_shape=(13,),
    ),
    DatasetEntry(
        name="teacher",
        summary="values of a wide random network, whose optimum is known (loss: mse)",
        source="drawn by NumPy",
        licence="none needed",
        arguments=TeacherArguments,
        reader="generated:draw_teacher",
        values=True,
    ),
    DatasetEntry(
        name="copy",
        summary="sequences to copy after a mark, symbol by symbol; a test of memory",
        source="Hochreiter & Schmidhuber 1997, Long short-term memory, and many after them",
        licence="none needed",
        arguments=CopyArguments,
        reader="sequences:draw_copies",
    ),
    DatasetEntry(
        name="modular-addition",
        summary="a + b modulo a prime, as four tokens with the sum to predict at the last one",
        source="Power, Burda, Edwards, Babuschkin & Misra 2022, Grokking, arXiv:2201.02177",
        licence="none needed",
        arguments=ModularAdditionArguments,
        reader="sequences:draw_sums",
    ),
    DatasetEntry(
        name="text",
        summary="your text files, as bytes, characters or tokens: the next one is predicted",
        source="yours",
        licence="yours",
        arguments=TextFilesArguments,
        reader="texts:read_text",
    ),
    DatasetEntry(
        name="coriolanus",
        summary="the first 64,000 characters of Coriolanus, a play; ships with optrial",
        source="William Shakespeare, about 1608; text of tiny-shakespeare",
        licence="public domain",
        arguments=TextArguments,
        reader="texts:read_coriolanus",
    ),
    DatasetEntry(
        name="tiny-shakespeare",
        summary="1.1 million characters of plays by Shakespeare: the next one is predicted",
        source="Karpathy 2015, The unreasonable effectiveness of recurrent neural networks",
        licence="public domain",
        arguments=TextArguments,
        reader="texts:read_tiny_shakespeare",
        published=_TINY_SHAKESPEARE,
    ),
    DatasetEntry(
        name="mnist",
        summary="70,000 handwritten digits of 28x28 pixels",
        source="LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document "
        "recognition",
        licence="usually given as CC BY-SA 3.0",
        arguments=AugmentableArguments,
        reader="image_files:read_mnist",
        input_shape=(1, 28, 28),
        pixel_maximum=255,
        published=_MNIST,
    ),
    DatasetEntry(
        name="fashion-mnist",
        summary="70,000 pictures of clothes of 28x28 pixels, ten kinds",
        source="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
        licence="MIT",
        arguments=AugmentableArguments,
        reader="image_files:read_fashion_mnist",
        input_shape=(1, 28, 28),
        pixel_maximum=255,
        published=_FASHION_MNIST,
    ),
    DatasetEntry(
        name="cifar-10",
        summary="60,000 colour pictures of 32x32 pixels, ten kinds",
        source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated; the author asks for the citation",
        arguments=AugmentableArguments,
        reader="image_files:read_cifar10",
        input_shape=(3, 32, 32),
        pixel_maximum=255,
        published=_CIFAR_10,
    ),
)

DATASETS: Mapping[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
"""The datasets that a study can name."""

NPZ = DatasetEntry(name="path to .npz", arguments=ArrayArguments, reader="npz:read_npz")
TEXT_TABLE = DatasetEntry(
    name="path to .csv", arguments=TextTableArguments, reader="tables:read_table"
)
PARQUET = DatasetEntry(
    name="path to .parquet",
    arguments=TableArguments,
    reader="parquet:read_parquet",
    extra="parquet",
)
IMAGE_FOLDER = DatasetEntry(
    name="path to a folder",
    arguments=ImageFolderArguments,
    reader="image_folders:read_image_folder",
    extra="images",
)
FUNCTION = DatasetEntry(
    name="module:function", arguments=FunctionArguments, reader="objects:call_function"
)
