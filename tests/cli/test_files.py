"""Output files are whole or absent."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pgolf_codec import files
from pgolf_codec.errors import RefusedError


def test_new_file(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "new") as out:
        out.write(b"whole")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), files.replacing(tmp_path / "new") as out:
        out.write(b"half")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(OSError, match="left") as full, files.replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
    with pytest.raises(OSError, match="other") as other, files.replacing(path):
        raise OSError(errno.ENOENT, "that of some other file")
    assert other.value.filename is None


def test_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with pytest.raises(RefusedError, match="already exists"), files.replacing(path) as out:
        out.write(b"new")
    assert path.read_bytes() == b"old"
    with pytest.raises(RuntimeError), files.replacing(path, overwrite=True) as out:
        out.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with files.replacing(path, overwrite=True) as out:
        out.write(b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(source: object, destination: object) -> None:
        raise OSError(errno.EPERM, "not here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "contested"
    with pytest.raises(RefusedError, match="already exists"), files.replacing(path) as out:
        out.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["contested"]
    path.unlink()
    with files.replacing(path) as out:
        out.write(b"mine")
    assert path.read_bytes() == b"mine"


def test_like_carries_mode_and_time_over(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    source.chmod(0o640)
    os.utime(source, ns=(10**18 + 1, 10**18 + 234567890))
    with files.replacing(tmp_path / "new", like=source.stat()) as out:
        out.write(b"x")
    status = (tmp_path / "new").stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_mtime_ns == 10**18 + 234567890


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with files.replacing(link, overwrite=True) as out:
        out.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is a directory"), files.replacing(tmp_path):
        pass
    with pytest.raises(RefusedError, match="is a directory"), files.reading(tmp_path):
        pass


def test_missing_folder_is_named_not_the_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "new"
    with pytest.raises(FileNotFoundError) as caught, files.replacing(path):
        pass
    assert caught.value.filename == str(path)


def test_device_is_written_to_directly() -> None:
    with files.replacing(Path(os.devnull)) as out:
        out.write(b"x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="no /dev/fd")
@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_what_is_open_already_is_continued(tmp_path: Path, form: str) -> None:
    """A pipe without a name, and a file that others write to as well: not a new file."""
    out, into = os.pipe()
    path = Path(form.format(into))
    assert files.is_open_file(path)
    with files.replacing(path) as file:
        file.write(b"through a pipe")
    assert os.read(out, 100) == b"through a pipe"
    os.close(out)
    os.close(into)
    with open(tmp_path / "log", "wb", buffering=0) as log:
        log.write(b"before ")
        with files.replacing(Path(form.format(log.fileno())), overwrite=True) as file:
            file.write(b"between ")
        log.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before between after"
    assert os.listdir(tmp_path) == ["log"]


def test_names_that_are_not_open() -> None:
    for name in ("/dev/null", "/dev/fd/", "/dev/fd/x", "/dev/fd/1/2", "dev/stdout", "/dev/fd/1\n"):
        assert not files.is_open_file(Path(name)), name
