"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from optrial.analysis.wide import write_parquet
from optrial.errors import StoreError
from optrial.files import make_folder, replacing, write_whole
from optrial.style import save_figure


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "page.html", "é")
    assert (tmp_path / "page.html").read_bytes() == "é".encode()
    assert names_in(tmp_path) == ["page.html"]


def test_an_error_leaves_the_earlier_file(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old", encoding="utf-8")

    def write() -> None:
        with replacing(file) as partial:
            partial.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert file.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["page.html"]


def test_an_error_of_the_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the temporary one, and not none."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "replace", "open"):
        with monkeypatch.context() as disk:
            disk.setattr(os, name, full)
            with pytest.raises(OSError, match=r"No space left on device: '.*/page\.html'$"):
                write_whole(tmp_path / "page.html", "new")
        assert names_in(tmp_path) == []


WITH_LIMIT = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
{code}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        (
            "page.html",
            "from optrial.files import write_whole\nwrite_whole(Path(sys.argv[1]), 'x' * 10_000)",
        ),
        (
            "figure.pdf",
            "from matplotlib.figure import Figure\nfrom optrial.style import save_figure\n"
            "save_figure(Figure(), Path(sys.argv[1]))",
        ),
    ],
)
def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, name: str, code: str) -> None:
    file = tmp_path / name
    file.write_text("old", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", WITH_LIMIT.format(code=code), file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "File too large" in ended.stderr
    assert file.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == [name]


def test_permissions_are_those_of_the_umask_or_of_the_replaced_file(tmp_path: Path) -> None:
    earlier = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", "")
        (tmp_path / "private").touch(0o600)
        write_whole(tmp_path / "private", "")
    finally:
        os.umask(earlier)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "real" / "page.html")
    write_whole(tmp_path / "page.html", "text")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real" / "page.html").read_text(encoding="utf-8") == "text"


def test_a_long_name_and_a_device_are_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 250 + ".html"), "text")
    write_whole(Path("/dev/null"), "text")
    assert Path("/dev/null").exists()


def test_a_read_only_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").touch(0o400)
    if os.geteuid():  # the superuser may write everything
        with pytest.raises(PermissionError):
            write_whole(tmp_path / "page.html", "text")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, "text")


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"

    def write(text: str, meanwhile: str | None = None) -> None:
        with replacing(file, new=True) as partial:
            partial.write_text(text, encoding="utf-8")
            if meanwhile:
                file.write_text(meanwhile, encoding="utf-8")

    with pytest.raises(FileExistsError):
        write("mine", meanwhile="another process")
    with pytest.raises(FileExistsError):
        write("mine")
    assert file.read_text(encoding="utf-8") == "another process"
    assert names_in(tmp_path) == ["runs.csv"]


def test_what_a_killed_process_left_is_removed_an_hour_later(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from optrial.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial: os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "page.html"], check=True)
    (left,) = tmp_path.iterdir()
    write_whole(tmp_path / "page.html", "text")
    assert left.exists()
    os.utime(left, (0, 0))
    write_whole(tmp_path / "page.html", "text")
    assert names_in(tmp_path) == ["page.html"]


def test_tables_and_figures_replace_a_file_whole(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = tmp_path / "runs.parquet"
    write_parquet(pd.DataFrame({"a": [1]}), table)
    before = table.read_bytes()
    with pytest.raises(Exception, match="conver"):
        write_parquet(pd.DataFrame({"a": [object()]}), table)
    assert table.read_bytes() == before
    save_figure(Figure(), tmp_path / "figure.png")
    assert names_in(tmp_path) == ["figure.png", "runs.parquet"]
    with pytest.raises(StoreError, match="Is a directory"):
        write_parquet(pd.DataFrame({"a": [1]}), tmp_path)


def test_each_folder_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a second attempt, as on a full disk, would be one of nothing."""
    made: list[str] = []
    mkdir = Path.mkdir

    def noted(self: Path, **options: bool) -> None:
        made.append(self.name)
        mkdir(self, **options)

    monkeypatch.setattr(Path, "mkdir", noted)
    make_folder(tmp_path / "a" / "b")
    assert made == ["a", "b"]


def test_a_folder_within_a_thousand_others(tmp_path: Path) -> None:
    folder = tmp_path / "/".join("d" * 1200)
    make_folder(folder)
    make_folder(folder)
    (folder / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(folder / "file")
    (folder / "file").unlink()
    for place in [folder, *folder.parents[:1199]]:  # the removal of a tree calls itself, too
        place.rmdir()
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_on_a_full_disk_is_an_error_of_the_disk(suffix: str, tmp_path: Path) -> None:
    """Matplotlib may raise another one while it closes a PDF, and adds suffixes to devices."""
    file = tmp_path / f"figure.{suffix}"
    file.symlink_to("/dev/full")
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(0).normal(size=3000))
    with pytest.raises(OSError, match="No space left"):
        save_figure(figure, file)
