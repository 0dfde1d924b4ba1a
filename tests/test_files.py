"""A file is there whole or as it was before, whatever ends its writing."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from trainer.corpus.build.plan import write_tasks
from trainer.files import (
    TEMPORARY_SUFFIX,
    WholeFile,
    build_lock,
    cache_folder,
    whole_file,
    write_whole,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_error_while_writing_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """Catches a file written in place, and a temporary one left beside it."""
    path = tmp_path / "file.json"
    write_whole(path, "old")
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b"half of the n")
        file.flush()
        assert path.read_text() == "old"
        raise KeyError
    assert path.read_text() == "old" and names(tmp_path) == {"file.json"}
    write_whole(path, "new")
    assert path.read_text() == "new" and names(tmp_path) == {"file.json"}


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, durable: bool) -> None:
    """Catches bytes that are still in a buffer when the file takes its name."""
    path = tmp_path / "file.json"
    write_whole(path, "old", durable)
    (tmp_path / f"file.json.{os.getpid()}{TEMPORARY_SUFFIX}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new", durable)
    assert path.read_text() == "old" and names(tmp_path) == {"file.json"}


def test_bytes_and_then_the_name_are_put_on_disk(tmp_path: Path, monkeypatch) -> None:
    """Catches a rename that reaches the disk before the bytes, and one that never does."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_whole(tmp_path / "file", b"bytes")
    temporary = f"file.{os.getpid()}{TEMPORARY_SUFFIX}"
    assert done == [f"fsync {temporary}", "rename", f"fsync {tmp_path.name}"]
    done.clear()
    write_whole(tmp_path / "file", b"bytes", durable=False)
    assert done == ["rename"]


def test_what_is_discarded_was_never_there(tmp_path: Path) -> None:
    """Catches the leftovers of a task that is tried again."""
    whole = WholeFile(tmp_path / "rows")
    whole.file.write(b"rows")
    assert names(tmp_path) == {f"rows.{os.getpid()}{TEMPORARY_SUFFIX}"}
    whole.discard()
    assert names(tmp_path) == set()


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch) -> None:
    """Catches a part of the house that keeps its files where the user did not point."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path))
    assert cache_folder("corpora") == tmp_path / "corpora"
    monkeypatch.setenv("LYCEUM_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("sets") == tmp_path / "home/.cache/lyceum/sets"


def test_what_is_built_is_used_where_no_lock_can_be_written(tmp_path: Path, monkeypatch) -> None:
    """Catches a cache that was filled before a run, and that its nodes see read-only or as another
    user; and two who hold the lock at once, because one of them may only read it.
    """
    path = tmp_path / ".out.lock"
    opened = os.open

    def refused(name, flags: int, *mode: int, **keys: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(name, flags, *mode, **keys)

    def taken() -> bool:
        file = opened(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refused)
        with build_lock(tmp_path / "out"):
            assert not path.exists()
        path.write_bytes(b"")
        with build_lock(tmp_path / "out"):
            assert taken()
        assert not taken()
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"), build_lock(tmp_path / "out"):
        pass


def test_a_private_file_is_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    """Catches addresses with their passwords that others of the machine may read."""
    before = os.umask(0)
    try:
        write_whole(tmp_path / "open", "")
        (tmp_path / f"tasks.json.{os.getpid()}{TEMPORARY_SUFFIX}").touch()  # left by one that died
        write_tasks(tmp_path, [[]])
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("open", "tasks.json")]
    assert modes == [0o666, 0o600]
