"""Every dataset that has a name, and the kinds of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optrial.data.arguments import (
    Arguments,
    ArrayArguments,
    BlobsArguments,
    CirclesArguments,
    DiabetesArguments,
    DigitsArguments,
    DisplacementArguments,
    FunctionArguments,
    ImageArguments,
    ImageFolderArguments,
    MoonsArguments,
    PalindromeArguments,
    TableArguments,
    TextTableArguments,
)
from optrial.data.arrays import read_npz, with_channels
from optrial.data.download import Archive, Published
from optrial.data.image_folders import read_image_folder
from optrial.data.images import read_cifar10, read_mnist
from optrial.data.objects import split_objects
from optrial.data.palindromes import palindrome_notes, palindromes
from optrial.data.source import Source
from optrial.data.synthetic import blobs, circles, diabetes, digits, displacements, moons
from optrial.data.tables import read_parquet, read_table
from optrial.data.user_functions import call_function
from optrial.target_kinds import Targets


@dataclass(frozen=True)
class Request:
    """What a source may read: name and arguments, the folder of its files, or the objects.

    Attributes:
        targets: what the loss takes.
    """

    name: str
    arguments: Any
    folder: Path = Path()
    raw: Any = None
    targets: Targets = "classes"

    @property
    def path(self) -> Path:
        """The name, as the path of the user's file; a relative one is in the current folder."""
        return Path(self.name).expanduser()


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset, or kind of dataset.

    Attributes:
        name: as a study gives it.
        summary: one line.
        source: citation, or where it comes from.
        licence: as far as its authors state one.
        arguments: the model of its arguments.
        load: reads or draws the samples.
        sizes: samples of each split, where that is fixed.
        input_shape: shape of one sample, where that is fixed.
        pixel_maximum: pixels go from 0 to this, for images.
        values: its targets are values to predict, not classes.
        notes: from its arguments to what a reader of the results should know.
        published: its files, where it must be downloaded.
    """

    name: str
    summary: str
    source: str
    licence: str
    arguments: type[Arguments]
    load: Callable[[Request], Source]
    sizes: Mapping[str, int] = field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    pixel_maximum: int | None = None
    values: bool = False
    notes: Callable[[Any], tuple[str, ...]] = lambda _: ()
    published: Published | None = None

    @property
    def megabytes(self) -> float:
        """Size of the download, in units of 10^6 bytes; 0 where there is none."""
        return self.published.megabytes if self.published else 0.0


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

_SCIKIT_LEARN = "drawn by scikit-learn (Pedregosa et al. 2011)"

_ENTRIES = (
    DatasetEntry(
        name="digits",
        summary="1,797 handwritten digits of 8x8 pixels; ships with scikit-learn",
        source="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        licence="CC BY 4.0",
        arguments=DigitsArguments,
        load=lambda request: Source(digits(request.arguments)),
        input_shape=(1, 8, 8),
        pixel_maximum=16,
    ),
    DatasetEntry(
        name="displacements",
        summary="points around the origin, for a function that is descended: problem: {function:}",
        source="drawn by NumPy",
        licence="none needed",
        arguments=DisplacementArguments,
        load=lambda request: Source(displacements(request.arguments)),
        input_shape=(2,),
    ),
    DatasetEntry(
        name="moons",
        summary="two interleaving half circles in the plane",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=MoonsArguments,
        load=lambda request: Source(moons(request.arguments)),
        input_shape=(2,),
    ),
    DatasetEntry(
        name="circles",
        summary="a circle inside a circle in the plane",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=CirclesArguments,
        load=lambda request: Source(circles(request.arguments)),
        input_shape=(2,),
    ),
    DatasetEntry(
        name="blobs",
        summary="isotropic Gaussian clusters",
        source=_SCIKIT_LEARN,
        licence="none needed",
        arguments=BlobsArguments,
        load=lambda request: Source(blobs(request.arguments)),
    ),
    DatasetEntry(
        name="palindrome",
        summary="digits, the last of which, the class, mirrors the first: a test of memory",
        source="Deep Learning course of the University of Amsterdam, 2019, assignment 2",
        licence="none needed",
        arguments=PalindromeArguments,
        load=lambda request: Source(palindromes(request.arguments)),
        notes=palindrome_notes,
    ),
    DatasetEntry(
        name="diabetes",
        summary="442 patients and their illness a year later, a value to predict (loss: mse)",
        source="Efron, Hastie, Johnstone & Tibshirani 2004, Least angle regression",
        licence="none stated; ships with scikit-learn",
        arguments=DiabetesArguments,
        load=lambda request: Source(diabetes(request.arguments)),
        input_shape=(10,),
        values=True,
    ),
    DatasetEntry(
        name="mnist",
        summary="70,000 handwritten digits of 28x28 pixels",
        source="LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document "
        "recognition",
        licence="usually given as CC BY-SA 3.0",
        arguments=ImageArguments,
        load=lambda request: Source(read_mnist(request.folder)),
        sizes={"train": 60_000, "test": 10_000},
        input_shape=(1, 28, 28),
        pixel_maximum=255,
        published=_MNIST,
    ),
    DatasetEntry(
        name="fashion-mnist",
        summary="70,000 pictures of clothes of 28x28 pixels, ten kinds",
        source="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
        licence="MIT",
        arguments=ImageArguments,
        load=lambda request: Source(read_mnist(request.folder)),
        sizes={"train": 60_000, "test": 10_000},
        input_shape=(1, 28, 28),
        pixel_maximum=255,
        published=_FASHION_MNIST,
    ),
    DatasetEntry(
        name="cifar-10",
        summary="60,000 colour pictures of 32x32 pixels, ten kinds",
        source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated; the author asks for the citation",
        arguments=ImageArguments,
        load=lambda request: Source(read_cifar10(request.folder)),
        sizes={"train": 50_000, "test": 10_000},
        input_shape=(3, 32, 32),
        pixel_maximum=255,
        published=_CIFAR_10,
    ),
)

DATASETS: Mapping[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
"""The datasets that a study can name."""

NPZ = DatasetEntry(
    name="path to .npz",
    summary="arrays named train_inputs, train_targets; x_train, y_train; train_images, "
    "train_labels; inputs, targets; or X, y",
    source="the user's file",
    licence="the user's",
    arguments=ArrayArguments,
    load=lambda request: with_channels(
        str(request.path), read_npz(request.path), request.arguments.layout
    ),
)
TEXT_TABLE = DatasetEntry(
    name="path to .csv",
    summary="a table, one column of which, named by target, is to be predicted",
    source="the user's file",
    licence="the user's",
    arguments=TextTableArguments,
    load=lambda request: read_table(request.path, request.arguments, request.targets),
)
PARQUET = DatasetEntry(
    name="path to .parquet",
    summary="a table, one column of which, named by target, is to be predicted",
    source="the user's file",
    licence="the user's",
    arguments=TableArguments,
    load=lambda request: read_parquet(request.path, request.arguments, request.targets),
)
IMAGE_FOLDER = DatasetEntry(
    name="path to a folder",
    summary="images in one folder per class, or in train/CLASS and test/CLASS",
    source="the user's files",
    licence="the user's",
    arguments=ImageFolderArguments,
    load=lambda request: read_image_folder(request.path, request.arguments),
)
FUNCTION = DatasetEntry(
    name="module:function",
    summary='a function that returns {"train": (inputs, targets), "test": (inputs, targets)}, '
    "or torch datasets",
    source="the user's code",
    licence="the user's",
    arguments=FunctionArguments,
    load=lambda request: with_channels(
        f"dataset '{request.name}'", call_function(request.name, request.arguments), None
    ),
)
OBJECTS = DatasetEntry(
    name="objects",
    summary="what a program holds: a mapping, a tuple, a torch dataset",
    source="the user's program",
    licence="the user's",
    arguments=ArrayArguments,
    load=lambda request: with_channels(
        f"dataset '{request.name}'",
        Source(split_objects(request.name, request.raw)),
        request.arguments.layout,
    ),
)
