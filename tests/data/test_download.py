"""Downloads, against servers on this machine that deliver, damage, cut off and refuse."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest

from optrial.data import DATASETS, FileStatus, data_directory, fetch, files, load_dataset, verify
from optrial.data import download as download_module
from optrial.data.download import Archive, Published
from optrial.errors import DataError, DownloadError
from tests.data.conftest import Mirror

Mirrors = tuple[Mirror, Mirror]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes(), mtime=0)


def tiny_mnist() -> dict[str, bytes]:
    pixels = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
    labels = np.array([0, 1, 2, 2, 1, 0], np.uint8)
    return {
        "train-images-idx3-ubyte.gz": idx(pixels),
        "train-labels-idx1-ubyte.gz": idx(labels),
        "t10k-images-idx3-ubyte.gz": idx(pixels[:3]),
        "t10k-labels-idx1-ubyte.gz": idx(labels[:3]),
    }


def tiny_cifar() -> dict[str, bytes]:
    names = [*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"]
    return {name: bytes([part % 3]) + bytes([part]) * 3072 for part, name in enumerate(names)}


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def mnist(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST in the catalogue, published on both mirrors."""
    content = tiny_mnist()
    for mirror in mirrors:
        mirror.content = dict(content)
    published = replace(
        DATASETS["mnist"].published,
        files={name: sha256(body) for name, body in content.items()},
        mirrors=tuple(mirror.address for mirror in mirrors),
    )
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], published=published))
    return content


def publish_cifar(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, content: bytes, **changes: object
) -> Published:
    """Publish an archive on the first mirror; the catalogue expects its md5 and `tiny_cifar`."""
    mirrors[0].content = {"cifar-10-binary.tar.gz": content}
    published = replace(
        DATASETS["cifar-10"].published,
        files={name: sha256(body) for name, body in tiny_cifar().items()},
        mirrors=(mirrors[0].address,),
        archive=Archive(
            name="cifar-10-binary.tar.gz",
            md5=hashlib.md5(content).hexdigest(),
            folder="cifar-10-batches-bin",
            member_limit=3073,
        ),
    )
    published = replace(published, **changes)
    monkeypatch.setitem(DATASETS, "cifar-10", replace(DATASETS["cifar-10"], published=published))
    return published


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


class Recorder:
    """Keeps what it is told, and fails where the order of the calls is wrong."""

    def __init__(self) -> None:
        self.finished_files: list[tuple[str, int, int]] = []
        self.current: tuple[str, int] | None = None
        self.count = 0

    def on_file_start(self, label: str, total_bytes: int) -> None:
        assert self.current is None
        self.current, self.count = (label, total_bytes), 0

    def on_bytes(self, count: int) -> None:
        assert self.current is not None
        assert count >= 0
        self.count += count

    def on_file_end(self) -> None:
        assert self.current is not None
        self.finished_files.append((*self.current, self.count))
        self.current = None


def test_missing_files_are_downloaded_when_the_dataset_is_loaded(
    tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes]
) -> None:
    loaded = load_dataset("mnist", {"scale": "none"}, data_dir=tmp_path)
    assert loaded.sizes == {"train": 6, "test": 3}
    assert left_in(tmp_path) == set(mnist)
    assert all((tmp_path / "mnist" / name).read_bytes() == body for name, body in mnist.items())
    assert sorted(mirrors[0].asked) == sorted(mnist)
    assert mirrors[1].asked == []


def test_files_in_place_are_not_asked_for_again(
    tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes]
) -> None:
    first = load_dataset("mnist", {}, data_dir=tmp_path)
    mirrors[0].asked.clear()
    assert load_dataset("mnist", {}, data_dir=tmp_path).sha256 == first.sha256
    assert fetch("mnist", tmp_path) == files("mnist", tmp_path)
    assert {path.name: path.read_bytes() for path in files("mnist", tmp_path)} == mnist
    assert mirrors[0].asked == []


def test_progress_hears_every_byte_once(tmp_path: Path, mnist: dict[str, bytes]) -> None:
    recorder = Recorder()
    fetch("mnist", tmp_path, recorder)
    assert recorder.current is None
    assert sorted(recorder.finished_files) == sorted(
        (name, len(body), len(body)) for name, body in mnist.items()
    )


def test_progress_counts_whole_chunks_and_a_rest(
    tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_CHUNK", 100)
    recorder = Recorder()
    fetch("mnist", tmp_path, recorder)
    assert all(count == total for _, total, count in recorder.finished_files)


@pytest.mark.parametrize("failure", ["404", "wrong checksum", "truncated", "no server"])
def test_second_mirror_helps_out(
    failure: str, tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = "train-images-idx3-ubyte.gz"
    break_mirror(mirrors[0], name, failure, monkeypatch)
    recorder = Recorder()
    fetch("mnist", tmp_path, recorder)
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}
    assert name in mirrors[1].asked
    assert recorder.current is None
    assert left_in(tmp_path) == set(mnist)


def break_mirror(mirror: Mirror, name: str, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match failure:
        case "404":
            del mirror.content[name]
        case "wrong checksum":
            mirror.content[name] = mirror.content[name][:-1] + b"?"
        case "truncated":
            mirror.cut.add(name)
        case "no server":
            published = DATASETS["mnist"].published
            closed = ("http://127.0.0.1:9/", *published.mirrors[1:])
            changed = replace(DATASETS["mnist"], published=replace(published, mirrors=closed))
            monkeypatch.setitem(DATASETS, "mnist", changed)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("404", "404 Client Error"),
        ("wrong checksum", "expected"),
        ("truncated", "IncompleteRead|broken"),
        ("no server", "refused"),
    ],
)
def test_one_error_names_every_mirror_and_its_reason(
    failure: str, reason: str, tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = "train-images-idx3-ubyte.gz"
    break_mirror(mirrors[0], name, failure, monkeypatch)
    mirrors[1].content.clear()
    with pytest.raises(DownloadError) as caught:
        load_dataset("mnist", {}, data_dir=tmp_path)
    message = str(caught.value)
    addresses = DATASETS["mnist"].published.mirrors
    lines = [line for line in message.splitlines() if line.strip().startswith("http")]
    assert len(lines) == 2
    assert addresses[0] + name in lines[0]
    assert re.search(reason, lines[0])
    assert addresses[1] + name in lines[1]
    assert "404" in lines[1]
    assert "--data-dir" in message
    assert "OPTRIAL_DATA" in message
    assert str(tmp_path / "mnist") in message
    assert left_in(tmp_path) == set()


def test_leftover_of_an_interrupted_download_is_replaced(
    tmp_path: Path, mnist: dict[str, bytes]
) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz.part").write_bytes(b"x" * 100_000)
    fetch("mnist", tmp_path)
    assert left_in(tmp_path) == set(mnist)
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}


def test_an_interruption_leaves_nothing(tmp_path: Path, mnist: dict[str, bytes]) -> None:
    class Interrupting(Recorder):
        def on_bytes(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", tmp_path, Interrupting())
    assert left_in(tmp_path) == set()
    fetch("mnist", tmp_path)
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}


def test_damaged_file_is_refused_and_fetch_replaces_it(
    tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes]
) -> None:
    fetch("mnist", tmp_path)
    load_dataset("mnist", {}, data_dir=tmp_path)
    name = "train-labels-idx1-ubyte.gz"
    (tmp_path / "mnist" / name).write_bytes(mnist[name][:-5])
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    mirrors[0].asked.clear()
    with pytest.raises(DataError) as caught:
        load_dataset("mnist", {}, data_dir=tmp_path)
    message = str(caught.value)
    assert sha256(mnist[name]) in message
    assert sha256(mnist[name][:-5]) in message
    assert "`optrial data fetch mnist`" in message
    assert mirrors[0].asked == []
    statuses = verify("mnist", tmp_path)
    assert statuses.pop(name) is FileStatus.DAMAGED
    assert statuses.pop("t10k-labels-idx1-ubyte.gz") is FileStatus.MISSING
    assert set(statuses.values()) == {FileStatus.OK}
    fetch("mnist", tmp_path)
    assert sorted(mirrors[0].asked) == ["t10k-labels-idx1-ubyte.gz", name]
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}


def test_checksums_are_computed_once_while_a_file_does_not_change(
    tmp_path: Path, mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("mnist", tmp_path)
    verify("mnist", tmp_path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}


def test_two_downloads_at_once_take_turns(
    tmp_path: Path, mirrors: Mirrors, mnist: dict[str, bytes]
) -> None:
    threads = [threading.Thread(target=fetch, args=("mnist", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mirrors[0].asked) == sorted(mnist)
    assert set(verify("mnist", tmp_path).values()) == {FileStatus.OK}


def test_folder_that_cannot_be_made_is_a_data_error(
    tmp_path: Path, mnist: dict[str, bytes]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"cannot write to the data folder .*--data-dir"):
        load_dataset("mnist", {}, data_dir=tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_read_only_folder_is_a_data_error(tmp_path: Path, mnist: dict[str, bytes]) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write to the data folder"):
        load_dataset("mnist", {}, data_dir=tmp_path)


def test_full_disk_is_a_data_error_and_no_mirror_is_blamed(
    tmp_path: Path, mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **_: full)
    with pytest.raises(DataError, match="No space left on device") as caught:
        fetch("mnist", tmp_path)
    assert not isinstance(caught.value, DownloadError)
    assert left_in(tmp_path) == set()


def test_unreadable_file_is_a_data_error(tmp_path: Path, mnist: dict[str, bytes]) -> None:
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot read"):
        load_dataset("mnist", {}, data_dir=tmp_path)


def test_archive_is_unpacked_and_removed(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiny_cifar()
    members = {f"cifar-10-batches-bin/{name}": body for name, body in content.items()}
    archive = tar({"cifar-10-batches-bin/readme.html": b"hello", **members})
    publish_cifar(mirrors, monkeypatch, archive)
    recorder = Recorder()
    loaded = load_dataset("cifar-10", {"scale": "none"}, data_dir=tmp_path, progress=recorder)
    assert left_in(tmp_path) == set(content)
    assert loaded.sizes == {"train": 5, "test": 1}
    assert loaded.splits["train"].targets.tolist() == [0, 1, 2, 0, 1]
    assert loaded.splits["train"].inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert recorder.finished_files == [("cifar-10-binary.tar.gz", len(archive), len(archive))]


def test_archive_replaces_only_what_is_damaged_or_missing(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"cifar-10-batches-bin/{name}": body for name, body in tiny_cifar().items()}
    publish_cifar(mirrors, monkeypatch, tar(members))
    fetch("cifar-10", tmp_path)
    folder = tmp_path / "cifar-10"
    untouched = (folder / "data_batch_2.bin").stat().st_mtime_ns
    (folder / "data_batch_1.bin").write_bytes(b"damaged")
    (folder / "test_batch.bin").unlink()
    fetch("cifar-10", tmp_path)
    assert set(verify("cifar-10", tmp_path).values()) == {FileStatus.OK}
    assert (folder / "data_batch_2.bin").stat().st_mtime_ns == untouched


def test_other_members_of_an_archive_are_never_written(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"cifar-10-batches-bin/{name}": body for name, body in tiny_cifar().items()}
    hostile = {
        "../outside.txt": b"x",
        "/absolute.txt": b"x",
        "cifar-10-batches-bin/../../outside.txt": b"x",
        "cifar-10-batches-bin/extra.bin": b"x",
    }
    data_dir = tmp_path / "data"
    publish_cifar(mirrors, monkeypatch, tar({**hostile, **members}))
    fetch("cifar-10", data_dir)
    assert left_in(tmp_path) == set(tiny_cifar())
    assert not Path("/absolute.txt").exists()


def linked(content: dict[str, bytes]) -> bytes:
    """An archive whose first member is a link to a file outside."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return buffer.getvalue()


def bad_archives() -> dict[str, tuple[bytes, str]]:
    good = {f"cifar-10-batches-bin/{name}": body for name, body in tiny_cifar().items()}
    first = "cifar-10-batches-bin/data_batch_1.bin"
    missing = {name: body for name, body in good.items() if name != first}
    elsewhere = {name.rpartition("/")[2]: body for name, body in good.items()}
    return {
        "member with other bytes": (tar({**good, first: bytes(3073)[:-1] + b"x"}), "sha256"),
        "member too large": (tar({**good, first: bytes(3074)}), "3074 bytes, more than 3073"),
        "member missing": (tar(missing), "no member"),
        "members elsewhere": (tar(elsewhere), "no member"),
        "member a link": (linked(good), "not a plain file"),
        "no archive at all": (b"<html>not found</html>", "gzip|not a gzip"),
        "archive cut short": (tar(good)[:200], "end|unexpected"),
    }


@pytest.mark.parametrize("case", bad_archives())
def test_bad_archive_is_refused(
    case: str, tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, reason = bad_archives()[case]
    publish_cifar(mirrors, monkeypatch, archive)
    with pytest.raises(DownloadError, match=reason):
        fetch("cifar-10", tmp_path)
    assert not any(name.endswith((".part", ".gz")) for name in left_in(tmp_path))
    assert verify("cifar-10", tmp_path)["data_batch_1.bin"] is FileStatus.MISSING


def test_archive_with_another_md5_is_refused(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"cifar-10-batches-bin/{name}": body for name, body in tiny_cifar().items()}
    archive = tar(members)
    expected = Archive("cifar-10-binary.tar.gz", "0" * 32, "cifar-10-batches-bin", 3073)
    publish_cifar(mirrors, monkeypatch, archive, archive=expected)
    with pytest.raises(DownloadError, match=f"md5 .* is {hashlib.md5(archive).hexdigest()}"):
        fetch("cifar-10", tmp_path)
    assert left_in(tmp_path) == set()


def test_data_directory_is_the_given_then_the_environment_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTRIAL_DATA", str(tmp_path / "environment"))
    assert data_directory(tmp_path / "given") == tmp_path / "given"
    assert data_directory() == tmp_path / "environment"
    monkeypatch.setenv("OPTRIAL_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_directory().name == "optrial"
    assert data_directory() != tmp_path / "environment"
    assert data_directory(Path("~/data")) == Path.home() / "data"


def test_datasets_without_download_have_no_files(tmp_path: Path) -> None:
    assert verify("moons", tmp_path) == {}
    assert fetch("moons", tmp_path) == []
    assert files("moons", tmp_path) == []


@pytest.mark.parametrize("command", [fetch, verify, files])
def test_unknown_name_is_answered_with_a_near_one(command: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'mnist'"):
        command("mnits", tmp_path)


def test_nothing_is_printed(tmp_path: Path, mnist: dict[str, bytes], capfd, caplog) -> None:
    caplog.set_level("INFO")
    load_dataset("mnist", {}, data_dir=tmp_path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert caplog.records == []


def test_published_addresses_are_https_and_checksums_whole() -> None:
    for entry in DATASETS.values():
        if entry.published:
            assert len(entry.published.mirrors) >= 2
            assert all(re.fullmatch(r"https://\S+/", m) for m in entry.published.mirrors)
            assert all(re.fullmatch("[0-9a-f]{64}", s) for s in entry.published.files.values())


def test_no_module_of_the_unit_can_unpickle() -> None:
    source = "".join(p.read_text() for p in Path(download_module.__file__).parent.rglob("*.py"))
    assert "allow_pickle=False" in source
    assert not re.search(r"import pickle|joblib|torch\.load|allow_pickle=True|extractall", source)


def test_importing_the_unit_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, optrial.data; print({'torch', 'sklearn', 'pandas'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
