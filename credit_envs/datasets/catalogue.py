"""What each data set consists of: files, shapes, checksums, and where they are published."""

from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath
from typing import Literal

DatasetName = Literal["Digits", "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]

MNIST_SUBSET = "MNIST-subset-5000"
CIFAR10_PARTIAL_TEST = "CIFAR10-test-1000"

#: Names of data sets that hold only a part of what their paper used.
PARTIAL_NAMES = frozenset({MNIST_SUBSET, CIFAR10_PARTIAL_TEST})

_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR10_MD5 = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR100_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
_CIFAR100_MD5 = "md5:03b5dce01913d631647c71ecec9e9cb8"


@dataclass(frozen=True)
class SourceFile:
    """One file of a data set, as bytes once unpacked.

    Attributes:
        path: where it lies in a data folder, without a ``.gz`` or ``.xz`` ending.
        shape: shape of the uint8 array that follows the header.
        checksum: of the unpacked content, written ``algorithm:hexadecimal`` as in pooch; None
            where only the archive's is published, which a download is held against.
        url: the published file, or the archive that contains it.
        url_checksum: of what lies at ``url``.
        header: the bytes that come before the array.
    """

    path: str
    shape: tuple[int, ...]
    checksum: str | None
    url: str
    url_checksum: str
    header: bytes = b""

    @property
    def num_bytes(self) -> int:
        """Size of the unpacked file."""
        return len(self.header) + prod(self.shape)


@dataclass(frozen=True)
class SourceSet:
    """The files of one data set, in the order in which they are read.

    Attributes:
        name: what a result that used these files is called.
        train: the files of the training split.
        test: the files of the test split.
        num_classes: number of classes.
    """

    name: str
    train: tuple[SourceFile, ...]
    test: tuple[SourceFile, ...]
    num_classes: int = 10

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files, training split first."""
        return self.train + self.test

    @property
    def how_to_get(self) -> str:
        """One sentence that says what to download and where it has to lie."""
        published = dict.fromkeys(PurePosixPath(file.url).name for file in self.files)
        site = self.files[0].url.rpartition("/")[0]
        folder = PurePosixPath(self.files[0].path).parent
        names = (PurePosixPath(file.path).name for file in self.files)
        return (
            f"Download {', '.join(published)} from {site}/ (unpack it if it is a .tar.gz) so that "
            f"{folder}/ in your data folder holds {', '.join(names)} (each plain, .gz or .xz)."
        )


def _idx(path: str, url: str, shape: tuple[int, ...], sums: tuple[str, str]) -> SourceFile:
    """An idx file: two zero bytes, 8 for uint8, the number of axes, each length; then the data."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    checksum, url_checksum = (f"sha256:{value}" for value in sums)
    return SourceFile(path, shape, checksum, url, url_checksum, header)


def _like_mnist(
    name: str,
    url: str,
    train_images: tuple[str, str],
    train_labels: tuple[str, str],
    test_images: tuple[str, str],
    test_labels: tuple[str, str],
) -> SourceSet:
    """A set of MNIST's layout, from the sha256 sums of each file, unpacked and as published."""

    def file(stem: str, shape: tuple[int, ...], sums: tuple[str, str]) -> SourceFile:
        return _idx(f"{name}/raw/{stem}", f"{url}{stem}.gz", shape, sums)

    return SourceSet(
        name,
        train=(
            file("train-images-idx3-ubyte", (60000, 28, 28), train_images),
            file("train-labels-idx1-ubyte", (60000,), train_labels),
        ),
        test=(
            file("t10k-images-idx3-ubyte", (10000, 28, 28), test_images),
            file("t10k-labels-idx1-ubyte", (10000,), test_labels),
        ),
    )


def _cifar(name: str, num_images: int, checksum: str) -> SourceFile:
    """A CIFAR-10 binary batch: one record is a label byte and 3 x 32 x 32 pixels."""
    path = f"cifar-10-batches-bin/{name}.bin"
    return SourceFile(path, (num_images, 3073), checksum, _CIFAR10_URL, _CIFAR10_MD5)


def _cifar100(name: str, num_images: int) -> SourceFile:
    """A CIFAR-100 binary file: as CIFAR-10's, with the label's superclass before the label."""
    path = f"cifar-100-binary/{name}.bin"
    return SourceFile(path, (num_images, 3074), None, _CIFAR100_URL, _CIFAR100_MD5)


_MNIST = _like_mnist(
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    train_images=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    train_labels=(
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    test_images=(
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    test_labels=(
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)

_FASHION_MNIST = _like_mnist(
    "FashionMNIST",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    train_images=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    train_labels=(
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    test_images=(
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    test_labels=(
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)

_CIFAR10_TRAIN = tuple(
    _cifar(f"data_batch_{number}", 10000, f"sha256:{checksum}")
    for number, checksum in enumerate(
        (
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        ),
        start=1,
    )
)

_CIFAR10 = SourceSet(
    name="CIFAR10",
    train=_CIFAR10_TRAIN,
    # For this file an md5 sum is what is published.
    test=(_cifar("test_batch", 10000, "md5:803d5f7f4d78ea53de84dbe85f74fb6d"),),
)

_CIFAR10_PARTIAL_TEST = SourceSet(
    name=CIFAR10_PARTIAL_TEST,
    train=_CIFAR10_TRAIN,
    test=(
        _cifar(
            "test_batch_first1000",
            1000,
            "sha256:8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5",
        ),
    ),
)

_CIFAR100 = SourceSet(
    name="CIFAR100",
    train=(_cifar100("train", 50000),),
    test=(_cifar100("test", 10000),),
    num_classes=100,
)

#: What may stand for each data set that is read from files, the complete one first.
CATALOGUE: dict[str, tuple[SourceSet, ...]] = {
    "MNIST": (_MNIST,),
    "FashionMNIST": (_FASHION_MNIST,),
    "CIFAR10": (_CIFAR10, _CIFAR10_PARTIAL_TEST),
    "CIFAR100": (_CIFAR100,),
}
