"""Data sets: look-up order, file formats, damage, fallbacks, the user's own arrays.

Everything but the tests of real data runs on small made-up files, in temporary folders.
"""

import dataclasses
import errno
import gzip
import hashlib
import http.server
import lzma
import os
import socket
import struct
import tarfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from credit_envs import datasets
from credit_envs.datasets import CorruptDataError, Dataset, bundled, download, from_arrays, load
from credit_envs.datasets.catalogue import CATALOGUE, SourceFile, SourceSet

REAL_DATA = os.environ.get("CREDIT_ENVS_DATA")
needs_real_data = pytest.mark.skipif(
    not REAL_DATA, reason="set CREDIT_ENVS_DATA to the folder of the real data sets"
)

# Every test sees a download that fails; those of downloading use this.
real_fetch = download.fetch

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """No test sees the network, the user's cache, the user's environment or another test."""

    def no_network(source_set: SourceSet, cache_dir: Path) -> None:
        raise OSError("no network in tests")

    def forget() -> None:
        datasets._load.cache_clear()
        bundled.mnist_subset.cache_clear()

    monkeypatch.delenv("CREDIT_ENVS_DATA", raising=False)
    monkeypatch.setattr(datasets.locate, "user_cache", lambda: cache)
    monkeypatch.setattr(download, "fetch", no_network)
    forget()
    yield
    forget()


@dataclasses.dataclass(frozen=True)
class Made:
    """A made-up data set: its catalogue entries, the content of its files, its arrays."""

    source_sets: tuple[SourceSet, ...]
    contents: dict[str, bytes]
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def write(self, folder: Path, ending: str = "", without: str = "nothing") -> Path:
        for path, content in self.contents.items():
            if without not in path:
                target = folder / f"{path}{ending}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(PACK[ending](content))
        return folder

    def check(self, data: Dataset) -> None:
        for part in ("x_train", "y_train", "x_test", "y_test"):
            np.testing.assert_array_equal(getattr(data, part), getattr(self, part))


def source_file(
    path: str, content: bytes, shape: tuple[int, ...], header: bytes = b""
) -> SourceFile:
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return SourceFile(path, shape, checksum, "http://nowhere.invalid/file.gz", checksum, header)


def make_idx(name: str) -> Made:
    rng = np.random.default_rng(1)
    contents, splits, arrays = {}, [], []
    for stem, n in (("train", 30), ("t10k", 20)):
        x = rng.integers(0, 256, (n, 4, 5), dtype=np.uint8)
        y = rng.integers(0, 10, n, dtype=np.uint8)
        files = []
        for kind, array in (("images-idx3", x), ("labels-idx1", y)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = f"{name}/raw/{stem}-{kind}-ubyte"
            contents[path] = header + array.tobytes()
            files.append(source_file(path, contents[path], array.shape, header))
        splits.append(tuple(files))
        arrays += [x[:, None], y]
    return Made((SourceSet(name, splits[0], splits[1]),), contents, *arrays)


def make_cifar(partial: bool) -> Made:
    rng = np.random.default_rng(2)
    contents: dict[str, bytes] = {}

    def batch(name: str, n: int) -> tuple[SourceFile, np.ndarray, np.ndarray]:
        x = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        y = rng.integers(0, 10, n, dtype=np.uint8)
        path = f"cifar-10-batches-bin/{name}.bin"
        contents[path] = b"".join(bytes([y[i]]) + x[i].tobytes() for i in range(n))
        return source_file(path, contents[path], (n, 3073)), x, y

    first, second = batch("data_batch_1", 4), batch("data_batch_2", 4)
    full, prefix = batch("test_batch", 3), batch("test_batch_first1000", 2)
    del contents[full[0].path if partial else prefix[0].path]
    train = (first[0], second[0])
    return Made(
        (
            SourceSet("CIFAR10", train, (full[0],)),
            SourceSet("CIFAR10-test-1000", train, (prefix[0],)),
        ),
        contents,
        np.concatenate([first[1], second[1]]),
        np.concatenate([first[2], second[2]]),
        *(prefix if partial else full)[1:],
    )


def make_cifar100() -> Made:
    rng = np.random.default_rng(3)
    contents, files, arrays = {}, [], []
    for name, n in (("train", 7), ("test", 5)):
        x = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        coarse, fine = rng.integers(0, 20, n, dtype=np.uint8), rng.permutation(100)[:n]
        path = f"cifar-100-binary/{name}.bin"
        contents[path] = b"".join(bytes([coarse[i], fine[i]]) + x[i].tobytes() for i in range(n))
        file = source_file(path, contents[path], (n, 3074))
        files.append(dataclasses.replace(file, checksum=None))
        arrays += [x, fine]
    source_set = SourceSet("CIFAR100", (files[0],), (files[1],), num_classes=100)
    return Made((source_set,), contents, *arrays)


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = make_idx("MNIST")
    monkeypatch.setitem(CATALOGUE, "MNIST", made.source_sets)
    return made


@pytest.fixture(params=[False, True], ids=["full_test", "partial_test"])
def cifar(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Made:
    made = make_cifar(partial=request.param)
    monkeypatch.setitem(CATALOGUE, "CIFAR10", made.source_sets)
    return made


# --- Formats


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_idx_files(mnist: Made, tmp_path: Path, ending: str) -> None:
    data = load("MNIST", mnist.write(tmp_path / "data", ending))
    mnist.check(data)
    assert (data.name, data.num_classes, data.is_complete) == ("MNIST", 10, True)
    assert data.source == str(tmp_path / "data")
    assert data.x_train.shape == (30, 1, 4, 5)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert data.y_train.dtype == data.y_test.dtype == np.int64


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_cifar_files(cifar: Made, tmp_path: Path, ending: str) -> None:
    data = load("CIFAR10", cifar.write(tmp_path / "data", ending))
    cifar.check(data)
    assert data.x_train.shape == (8, 3, 32, 32)
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    is_full = "cifar-10-batches-bin/test_batch.bin" in cifar.contents
    assert data.name == ("CIFAR10" if is_full else "CIFAR10-test-1000")
    assert data.is_complete is is_full


@pytest.fixture
def cifar100(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = make_cifar100()
    monkeypatch.setitem(CATALOGUE, "CIFAR100", made.source_sets)
    return made


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_cifar100_files(cifar100: Made, tmp_path: Path, ending: str) -> None:
    """Two labels come before the pixels, and the second one counts."""
    data = load("CIFAR100", cifar100.write(tmp_path / "data", ending))
    cifar100.check(data)
    assert (data.name, data.num_classes, data.is_complete) == ("CIFAR100", 100, True)
    assert data.x_train.shape == (7, 3, 32, 32)
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)


def test_cifar100_as_published() -> None:
    (source_set,) = CATALOGUE["CIFAR100"]
    sizes = {file.path: file.num_bytes for file in source_set.files}
    assert sizes == {
        "cifar-100-binary/train.bin": 50_000 * (2 + 3 * 1024),
        "cifar-100-binary/test.bin": 10_000 * (2 + 3 * 1024),
    }
    for file in source_set.files:
        assert file.url == "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
        assert file.url_checksum == "md5:03b5dce01913d631647c71ecec9e9cb8"


def test_full_test_batch_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, partial = make_cifar(partial=False), make_cifar(partial=True)
    monkeypatch.setitem(CATALOGUE, "CIFAR10", full.source_sets)
    partial.write(full.write(tmp_path))
    assert load("CIFAR10", tmp_path).name == "CIFAR10"


def test_arrays_are_read_only(mnist: Made, tmp_path: Path) -> None:
    data = load("MNIST", mnist.write(tmp_path))
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_same_arguments_give_the_same_object(mnist: Made, tmp_path: Path) -> None:
    mnist.write(tmp_path / "data")
    data = load("MNIST", tmp_path / "data")
    assert load("MNIST", str(tmp_path / "elsewhere" / ".." / "data")) is data


# --- Look-up order


def test_look_up_order(
    mnist: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(source_set: SourceSet, cache_dir: Path) -> None:
        assert source_set is mnist.source_sets[0]
        mnist.write(cache_dir)

    environment, argument = tmp_path / "environment", tmp_path / "argument"
    environment.mkdir()
    monkeypatch.setenv("CREDIT_ENVS_DATA", str(environment))
    with monkeypatch.context() as patch:
        patch.setattr(download, "fetch", fetch)
        assert load("MNIST").source == str(cache), "the environment's folder is empty: download"
    datasets._load.cache_clear()
    assert load("MNIST").source == str(cache), "what was downloaded is found again"
    mnist.write(environment)
    datasets._load.cache_clear()
    assert load("MNIST").source == str(environment)
    assert load("MNIST", mnist.write(argument)).source == str(argument)


def test_half_a_download_is_completed(
    mnist: Made, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist.write(cache, without="t10k-images")
    monkeypatch.setattr(download, "fetch", lambda _, folder: mnist.write(folder))
    mnist.check(load("MNIST"))


def test_data_dir_alone_counts(
    mnist: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist.write(cache)
    monkeypatch.setenv("CREDIT_ENVS_DATA", str(mnist.write(tmp_path / "environment")))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte is missing.*Download"):
        load("MNIST", empty)


@pytest.mark.parametrize("missing", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_missing_file(
    mnist: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    by_environment: bool,
) -> None:
    mnist.write(tmp_path, without=missing)
    monkeypatch.setenv("CREDIT_ENVS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"MNIST/raw/{missing} is missing"):
        load("MNIST", None if by_environment else tmp_path)


def test_missing_cifar_batches(cifar: Made, tmp_path: Path) -> None:
    cifar.write(tmp_path, without="test_batch")
    with pytest.raises(FileNotFoundError, match=r"/test_batch\.bin is missing"):
        load("CIFAR10", tmp_path)
    cifar.write(tmp_path)
    next(tmp_path.rglob("data_batch_2.bin")).unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_2\.bin is missing"):
        load("CIFAR10", tmp_path)


def test_folders_that_do_not_exist(
    mnist: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist.write(cache)
    with pytest.raises(FileNotFoundError, match=r"data_dir is .*nowhere, which is not a folder"):
        load("MNIST", tmp_path / "nowhere")
    monkeypatch.setenv("CREDIT_ENVS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"CREDIT_ENVS_DATA is .*not a folder"):
        load("MNIST")
    with pytest.raises(FileNotFoundError, match="whose user is not known here: write the path in"):
        load("MNIST", "~nobody-of-this-name/data")
    monkeypatch.setenv("CREDIT_ENVS_DATA", "")
    monkeypatch.chdir(mnist.write(tmp_path / "here"))
    assert load("MNIST").source == str(cache), "an empty variable counts as none"


def test_folders_that_may_not_be_read(
    mnist: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a container runs as another user than the owner of the home folder."""
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(FileNotFoundError, match="this user may not read: change its permissions"):
        load("MNIST", tmp_path)
    status = os.stat

    def refuse(path: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(str(cache)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return status(path, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(FileNotFoundError, match="FashionMNIST was not found and could not be down"):
        load("FashionMNIST")


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("mnist", "Did you mean 'MNIST'"),
        ("fashion-mnist", "Did you mean 'FashionMNIST'"),
        ("CIFAR-10", "Did you mean 'CIFAR10'"),
        ("digit", "Did you mean 'Digits'"),
        ("pressure", "^There is no data set 'pressure'. Choose from Digits, MNIST,"),
        (None, "Choose from"),
    ],
)
def test_unknown_name(wrong: Any, suggestion: str) -> None:
    with pytest.raises(ValueError, match=suggestion):
        load(wrong)


# --- Damage


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def changed_at(position: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position] ^= 1
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    ("ending", "damage", "reason"),
    [
        ("", cut, "bytes instead of"),
        (".gz", cut, "cannot be unpacked"),
        (".xz", cut, "cannot be unpacked"),
        (".gz", lambda content: b"<html>Not found</html>", "cannot be unpacked"),
        (".xz", lambda content: b"", "cannot be unpacked"),
        (".gz", lambda content: b"", "bytes instead of"),
        (".gz", lambda content: gzip.compress(gzip.decompress(content) + b"x"), "bytes instead of"),
        (".gz", changed_at(40), "cannot be unpacked"),
        ("", changed_at(2), "header of its idx format"),
        ("", changed_at(-1), "sha256 sum differs"),
    ],
)
def test_damaged_idx_file(
    mnist: Made, tmp_path: Path, ending: str, damage: Callable[[bytes], bytes], reason: str
) -> None:
    mnist.write(tmp_path, ending)
    path = tmp_path / f"MNIST/raw/t10k-images-idx3-ubyte{ending}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptDataError, match=reason) as caught:
        load("MNIST", tmp_path)
    assert str(path) in str(caught.value)
    assert "Delete it and download it again from http" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("ending", ["", ".xz"])
def test_tampered_cifar_batch(cifar: Made, tmp_path: Path, ending: str) -> None:
    path = "cifar-10-batches-bin/data_batch_2.bin"
    cifar.contents[path] = changed_at(5000)(cifar.contents[path])
    cifar.write(tmp_path, ending)
    with pytest.raises(CorruptDataError, match=r"data_batch_2\.bin.* is damaged: its sha256 sum"):
        load("CIFAR10", tmp_path)


def test_cifar100_files_without_checksums_of_their_own(cifar100: Made, tmp_path: Path) -> None:
    path = cifar100.write(tmp_path) / "cifar-100-binary/test.bin"
    content = path.read_bytes()
    path.write_bytes(cut(content))
    with pytest.raises(CorruptDataError, match=r"test\.bin is damaged: .* bytes instead of 15370"):
        load("CIFAR100", tmp_path)
    path.write_bytes(content[1:] + content[:1])
    with pytest.raises(CorruptDataError, match=r"test\.bin is damaged: it holds the label \d{3}"):
        load("CIFAR100", tmp_path)


# --- Decoded copies


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("decoded although there is a copy")

    monkeypatch.setattr(datasets, "read_split", fail)


def test_decoded_copy_is_used(
    cifar: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar.write(tmp_path / "data", ".xz")
    load("CIFAR10", tmp_path / "data")
    assert len(list(cache.rglob("*"))) == 3, "one folder with one file per split"
    datasets._load.cache_clear()
    forbid_decoding(monkeypatch)
    data = load("CIFAR10", tmp_path / "data")
    cifar.check(data)
    assert not data.x_train.flags.writeable


def test_decoded_copy_follows_its_sources(cifar: Made, tmp_path: Path) -> None:
    cifar.write(tmp_path, ".xz")
    load("CIFAR10", tmp_path)
    path = tmp_path / "cifar-10-batches-bin/data_batch_1.bin.xz"
    path.write_bytes(cut(path.read_bytes()))
    datasets._load.cache_clear()
    with pytest.raises(CorruptDataError, match="data_batch_1"):
        load("CIFAR10", tmp_path)


@pytest.mark.parametrize(
    "damage", [cut, lambda content: b"", lambda content: b"junk", changed_at(10000)]
)
def test_damaged_copy_is_made_anew(
    cifar: Made,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    cifar.write(tmp_path / "data", ".xz")
    load("CIFAR10", tmp_path / "data")
    copy = next(cache.rglob("*-train.npz"))
    copy.write_bytes(damage(copy.read_bytes()))
    datasets._load.cache_clear()
    cifar.check(load("CIFAR10", tmp_path / "data"))
    datasets._load.cache_clear()
    forbid_decoding(monkeypatch)
    cifar.check(load("CIFAR10", tmp_path / "data"))


def test_cache_that_cannot_be_written(cifar: Made, tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the folder would have to be")
    cifar.check(load("CIFAR10", cifar.write(tmp_path / "data", ".xz")))


def test_failed_write_leaves_nothing(
    cifar: Made, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    cifar.check(load("CIFAR10", cifar.write(tmp_path / "data", ".xz")))
    assert not [path for path in cache.rglob("*") if path.is_file()]


# --- Without network


def test_mnist_falls_back_with_one_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load("MNIST")
        assert load("MNIST") is data
        monkeypatch.setenv("CREDIT_ENVS_DATA", str(tmp_path))
        assert load("MNIST") is data, "whichever way it comes to the fallback"
    assert [warning.category for warning in caught] == [UserWarning]
    assert caught[0].filename == __file__, "the warning points to the caller of load"
    for part in ("MNIST-subset-5000", "no network in tests", "Download", "CREDIT_ENVS_DATA"):
        assert part in str(caught[0].message)
    assert (data.name, data.is_complete) == ("MNIST-subset-5000", False)
    assert data.x_train.shape == (4000, 1, 28, 28)
    assert data.x_test.shape == (1000, 1, 28, 28)
    assert data.x_train.dtype == np.uint8
    assert data.x_train.max() == 255
    assert np.bincount(data.y_train).tolist() == [400] * 10
    assert np.bincount(data.y_test).tolist() == [100] * 10
    assert len(np.unique(data.y_train[:100])) == 10, "classes are mixed"
    assert data.x_train.mean() / 255 == pytest.approx(0.1307, abs=0.002)
    # Zeros look like rings: dark in the middle, unlike ones. Checks that labels fit the images.
    middle = data.x_train[:, 0, 12:16, 12:16].mean((1, 2))
    assert middle[data.y_train == 0].mean() < 50
    assert middle[data.y_train == 1].mean() > 150


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("FashionMNIST", ["fashion-mnist.s3-website", "t10k-labels-idx1-ubyte.gz", "/raw/ in"]),
        ("CIFAR10", ["www.cs.toronto.edu/~kriz", "cifar-10-binary.tar.gz", "test_batch.bin"]),
        ("CIFAR100", ["cifar-100-binary.tar.gz", "cifar-100-binary/ in your", "train.bin"]),
    ],
)
def test_others_say_what_to_download(name: Any, parts: list[str], cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no network in tests") as caught:
        load(name)
    for part in [*parts, str(cache), "data_dir", "CREDIT_ENVS_DATA"]:
        assert part in str(caught.value)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder that a server of this machine publishes, and its address."""
    monkeypatch.setenv("NO_PROXY", "*")
    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def published(source_set: SourceSet, urls: dict[str, tuple[str, bytes]]) -> SourceSet:
    """The same set, with the address and content of what is published for each path."""

    def move(file: SourceFile) -> SourceFile:
        url, content = urls[file.path]
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return dataclasses.replace(file, url=url, url_checksum=checksum)

    train, test = (tuple(map(move, files)) for files in (source_set.train, source_set.test))
    return dataclasses.replace(source_set, train=train, test=test)


@pytest.fixture
def mnist_online(site: tuple[Path, str]) -> tuple[Made, SourceSet, Path]:
    folder, address = site
    made = make_idx("MNIST")
    urls = {}
    for path, content in made.contents.items():
        packed = gzip.compress(content, mtime=0)
        (folder / f"{Path(path).name}.gz").write_bytes(packed)
        urls[path] = (f"{address}/{Path(path).name}.gz", packed)
    return made, published(made.source_sets[0], urls), folder


def test_download_of_idx_files(mnist_online: tuple[Made, SourceSet, Path], cache: Path) -> None:
    made, source_set, _ = mnist_online
    real_fetch(source_set, cache)
    found = {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
    assert found == {f"{path}.gz" for path in made.contents}
    made.check(load_from(source_set, cache))


def load_from(source_set: SourceSet, folder: Path) -> Dataset:
    located = datasets.locate.find(folder, (source_set,))
    assert located is not None
    return datasets._read(located, folder)


@pytest.mark.parametrize("made", [make_cifar(partial=False), make_cifar100()])
def test_download_of_an_archive(
    site: tuple[Path, str], tmp_path: Path, cache: Path, made: Made
) -> None:
    folder, address = site
    with tarfile.open(folder / "all.tar.gz", "w:gz") as tar:
        for path in made.contents:
            tar.add(made.write(tmp_path / "plain") / path, arcname=path)
    packed = (folder / "all.tar.gz").read_bytes()
    urls = dict.fromkeys(made.contents, (f"{address}/all.tar.gz", packed))
    source_set = published(made.source_sets[0], urls)
    real_fetch(source_set, cache)
    found = {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
    assert found == set(made.contents), "and the archive is gone"
    made.check(load_from(source_set, cache))


def test_download_of_something_else(
    mnist_online: tuple[Made, SourceSet, Path], cache: Path
) -> None:
    _, source_set, folder = mnist_online
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>Please log in</html>")
    with pytest.raises(OSError, match=r"t10k-images-idx3-ubyte\.gz is not what was published"):
        real_fetch(source_set, cache)
    assert not list(cache.rglob("t10k-images*"))
    (folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(OSError, match=r"train-images-idx3-ubyte\.gz is not there any more"):
        real_fetch(source_set, cache)


def test_download_into_a_cache_that_cannot_be_written(
    mnist_online: tuple[Made, SourceSet, Path], cache: Path
) -> None:
    cache.write_text("a file where the folder would have to be")
    with pytest.raises(OSError, match="cache"):
        real_fetch(mnist_online[1], cache)


def test_patience_leaves_time_for_the_fallback() -> None:
    assert download.PATIENCE <= 6.0, "the promise is 10 seconds in all"


def silent_server(stack: list[socket.socket]) -> str:
    """The address of a server that takes connections and never says anything."""
    server = socket.create_server(("127.0.0.1", 0))
    stack.append(server)
    return f"http://127.0.0.1:{server.getsockname()[1]}/file.gz"


def refusing_server(stack: list[socket.socket]) -> str:
    url = silent_server(stack)
    stack.pop().close()
    return url


def unresolvable_server(stack: list[socket.socket]) -> str:
    return "http://unresolvable.invalid/file.gz"


@pytest.mark.parametrize("server", [silent_server, refusing_server, unresolvable_server])
def test_gives_up_without_network(
    monkeypatch: pytest.MonkeyPatch,
    server: Callable[[list[socket.socket]], str],
) -> None:
    def slow_failure(*_: object, **__: object) -> None:
        time.sleep(5.0)
        raise socket.gaierror("no name server")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "fetch", real_fetch)
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    if server is unresolvable_server:
        # Stands for a look-up of names that hangs, which no timeout of a socket ends.
        monkeypatch.setattr(socket, "getaddrinfo", slow_failure)
    made = make_idx("FashionMNIST")
    stack: list[socket.socket] = []
    url = server(stack)
    source_set = published(made.source_sets[0], dict.fromkeys(made.contents, (url, b"")))
    monkeypatch.setitem(CATALOGUE, "FashionMNIST", (source_set,))
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError, match=r"no answer within|cannot connect"):
        load("FashionMNIST")
    assert time.perf_counter() - start < 2.0
    for each in stack:
        each.close()


# --- Digits


def test_digits() -> None:
    data = load("Digits")
    assert (data.name, data.num_classes, data.is_complete) == ("Digits", 10, True)
    assert data.x_train.shape == (1297, 1, 8, 8)
    assert data.x_test.shape == (500, 1, 8, 8)
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    assert (data.x_train.min(), data.x_train.max()) == (0, 16)
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    x = np.concatenate([data.x_train, data.x_test])
    np.testing.assert_array_equal(x.reshape(1797, 64), pixels[order])
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_test]), labels[order])
    assert load("Digits") is data


# --- The user's own arrays


def own_arrays(
    shape: tuple[int, ...] = (6,), dtype: Any = np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = (10 * rng.random((12, *shape))).astype(dtype)
    y = np.arange(12) % 3
    return x[:9], y[:9], x[9:], y[9:]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64, ">f4"])
@pytest.mark.parametrize(
    ("shape", "expected"), [((6,), (6,)), ((4, 5), (1, 4, 5)), ((2, 4, 5), (2, 4, 5))]
)
def test_from_arrays(dtype: Any, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    arrays = own_arrays(shape, dtype)
    data = from_arrays(arrays)
    assert (data.name, data.num_classes, data.is_complete) == ("Images", 3, True)
    assert data.x_train.shape == (9, *expected)
    assert data.x_train.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(data.x_test.reshape(3, -1), arrays[2].reshape(3, -1))
    assert data.y_train.dtype == np.int64
    assert from_arrays(arrays, name="Cats").name == "Cats"


def test_only_some_classes_in_the_order_given() -> None:
    arrays = own_arrays()
    data = from_arrays(arrays)
    chosen = data.only((2, 0))
    assert (chosen.name, chosen.num_classes) == ("Images, classes 2 0", 2)
    kept = [place for place in range(9) if arrays[1][place] in (2, 0)]
    np.testing.assert_array_equal(chosen.x_train, arrays[0][kept])
    np.testing.assert_array_equal(chosen.y_train, [{2: 0, 0: 1}[int(arrays[1][i])] for i in kept])
    np.testing.assert_array_equal(chosen.y_test, [1, 0])
    np.testing.assert_array_equal(data.only([1, 2, 0]).y_train, (arrays[1] + 2) % 3)
    assert not chosen.x_train.flags.writeable


@pytest.mark.parametrize("classes", [(), (1,), (0, 0), (0, 3), (-1, 0), (0.0, 1.0), "01", 2])
def test_classes_that_there_are_not(classes: Any) -> None:
    with pytest.raises(ValueError, match=r"classes=.* of Images, which has 0 to 2, such as"):
        from_arrays(own_arrays()).only(classes)


def test_classes_without_a_test_image_are_refused() -> None:
    x_train, y_train, x_test, _ = own_arrays()
    data = from_arrays((x_train, y_train, x_test, np.full(len(x_test), 2)))
    with pytest.raises(ValueError, match="leave none of the test images of Images"):
        data.only((0, 1))


def test_a_float_feature_that_never_varies_has_the_deviation_one() -> None:
    x_train, y_train, x_test, y_test = own_arrays()
    x_train, x_test = (np.array(x, np.float64).reshape(len(x), -1) for x in (x_train, x_test))
    x_train[:, 0] = 0.1
    _, std = from_arrays((x_train, y_train, x_test, y_test)).moments
    assert std[0] == 1.0
    assert (std[1:] != 1.0).all()


def test_from_arrays_copies() -> None:
    arrays = own_arrays()
    data = from_arrays(arrays)
    before = data.x_train.copy()
    for array in arrays:
        array[:] = 0
    np.testing.assert_array_equal(data.x_train, before)
    assert not data.x_train.flags.writeable
    assert data.y_train.max() == 2
    assert not data.y_train.flags.writeable


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[1, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b, c, d: (a, b, c), r"pass data=\(x_train, y_train, x_test, y_test\)"),
        (lambda a, b, c, d: a, r"pass data="),
        (lambda a, b, c, d: (a[:-1], b, c, d), "y_train has 9 labels for 8 images: pass one"),
        (lambda a, b, c, d: (a, b, c, d[:-1]), "y_test has 2 labels for 3 images: pass one"),
        (lambda a, b, c, d: (a, b, c[:, :-1], d), r"\(6,\), one of x_test \(5,\): reshape"),
        (lambda a, b, c, d: (a, b, c[:, None], d), "reshape"),
        (lambda a, b, c, d: (with_nan(a), b, c, d), "x_train holds NaN or infinite.*nan_to_num"),
        (lambda a, b, c, d: (a, b, c / 0.0, d), "x_test holds NaN or infinite"),
        (lambda a, b, c, d: (a[:, 0], b, c, d), r"shape \(9,\): reshape it"),
        (lambda a, b, c, d: (a.astype(str), b, c, d), "dtype <U.*astype"),
        (lambda a, b, c, d: (a > 5, b, c, d), "dtype bool: convert"),
        (lambda a, b, c, d: (a.astype(np.longdouble), b, c, d), r"dtype \w+128: convert"),
        (
            lambda a, b, c, d: (a.astype(float) * 1e200, b, c, d),
            "deviation is not finite: rescale x_train",
        ),
        (lambda a, b, c, d: (a, b, c[:0], d[:0]), "x_test .* is empty: pass"),
        (lambda a, b, c, d: (a[:, :0], b, c[:, :0], d), "x_train .* is empty: pass"),
        (lambda a, b, c, d: (a, b.astype(float), c, d), "y_train has dtype float64: convert"),
        (lambda a, b, c, d: (a, np.eye(3)[b], c, d), r"y_train has shape \(9, 3\).*argmax"),
        (lambda a, b, c, d: (a, b + 1, c, d + 1), "classes from 1 to 3: number them 0..K-1"),
        (lambda a, b, c, d: (a, b * 2, c, d * 2), "classes from 0 to 4: number them 0..K-1"),
        (lambda a, b, c, d: (a, b - 1, c, d), "classes from -1 to 1: number them"),
        (lambda a, b, c, d: (a, b * 0, c, d * 0), "one class only: pass images of at least two"),
        (lambda a, b, c, d: (a, b, c, d + 1), "y_test holds the class 3, which y_train does not"),
        (lambda a, b, c, d: (a, b, c, d - 1), "y_test holds the class -1"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_from_arrays_names_the_fix(change: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_arrays(change(*own_arrays()))


# --- Real data


@needs_real_data
@pytest.mark.parametrize(
    ("name", "mean", "std", "counts"),
    [
        ("MNIST", 0.1307, 0.3081, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("FashionMNIST", 0.2860, 0.3530, [6000] * 10),
    ],
)
def test_real_idx_sets(
    name: Any, mean: float, std: float, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDIT_ENVS_DATA", str(REAL_DATA))
    data = load(name)
    assert (data.name, data.is_complete) == (name, True)
    assert data.x_train.shape == (60000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    pixels = data.x_train / np.float32(255)
    assert pixels.mean(dtype=np.float64) == pytest.approx(mean, abs=5e-5)
    assert pixels.std(dtype=np.float64) == pytest.approx(std, abs=5e-5)
    assert np.bincount(data.y_train).tolist() == counts


@needs_real_data
@pytest.mark.slow
def test_real_cifar() -> None:
    data = load("CIFAR10", REAL_DATA)
    assert data.x_train.shape == (50000, 3, 32, 32)
    assert np.bincount(data.y_train).tolist() == [5000] * 10
    means = data.x_train.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.491400, 0.482158, 0.446531], atol=1e-6)
    if data.is_complete:
        assert data.name == "CIFAR10"
        assert np.bincount(data.y_test).tolist() == [1000] * 10
    else:
        assert data.name == "CIFAR10-test-1000"
        assert np.bincount(data.y_test).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
