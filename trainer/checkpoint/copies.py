"""Copies of a run's checkpoints somewhere else: in a folder, or behind s3://; verified there.

A thread copies one after another, the newest first; where it is behind, the ones between are left
out, and that is said. A copy that fails is tried again and then given up with a word: it ends no
run. The manifest comes last, so that what has one is whole.
"""

import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.checkpoint.files import copy_verified
from trainer.checkpoint.format import MANIFEST, StoredFile, read_manifest
from trainer.data.remote.storage import s3_client
from trainer.errors import RecipeError
from trainer.files import sync_folder, write_whole
from trainer.recovery.rollbacks import ROLLBACKS

_log = logging.getLogger(__name__)

S3 = "s3://"
OWNER = "copies.id"
"""In a run directory and beside its copies: that they are of each other."""
RETRIES_SECONDS = (1.0, 10.0)
"""How long a copy that failed waits before it is tried again."""
_PARTIAL = ".partial-"
_FILES_AT_ONCE = 4
_BLOCK_BYTES = 1 << 22
_PART_BYTES = 5 << 30
"""The largest object that one request may put."""
_LOOK_SECONDS = 1.0
_TIMEOUT_SECONDS = 60.0


class CopyFailed(Exception):
    """A file could not be copied, or is not there as it was written; the message says which."""


class CopyTarget(Protocol):
    """Where copies go; a checkpoint is made of files under its `name`."""

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Copy a file, and read it back; raises what says so where it is not there as it was."""

    def finish(self, checkpoint: str) -> None:
        """Let a checkpoint whose files are all there have its name."""

    def give_up(self, checkpoint: str) -> None:
        """Remove what was copied of a checkpoint that did not become whole."""

    def write_beside(self, name: str, content: bytes) -> None:
        """Write a small file of the run's, beside its checkpoints."""

    def read_beside(self, name: str) -> bytes | None:
        """Read one; None where there is none."""

    def try_out(self) -> None:
        """Write and remove a small file; raises what `put` does."""


class FolderTarget:
    """A folder, as on a shared file system; `root`: what the run's copies lie in."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = f"{_PARTIAL}{uuid.uuid4().hex[:12]}"

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Copy into a temporary folder, and read back what is on the disk."""
        checkpoint, _, file = name.partition("/")
        path = self._root / f"{checkpoint}{self._partial}" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        copy_verified(source, path, StoredFile(source.stat().st_size, sha256))

    def finish(self, checkpoint: str) -> None:
        """Rename the temporary folder, in the place of an older copy of that step."""
        partial = self._root / f"{checkpoint}{self._partial}"
        final = self._root / checkpoint
        sync_folder(partial)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        sync_folder(self._root)

    def give_up(self, checkpoint: str) -> None:
        """Remove the temporary folder: the next copy needs its room."""
        shutil.rmtree(self._root / f"{checkpoint}{self._partial}", ignore_errors=True)

    def write_beside(self, name: str, content: bytes) -> None:
        """Write RUN/name of the copy."""
        write_whole(self._root.parent / name, content)

    def read_beside(self, name: str) -> bytes | None:
        """Read it."""
        path = self._root.parent / name
        return path.read_bytes() if path.exists() else None

    def try_out(self) -> None:
        """Write and remove a small file, and what an earlier process left half copied."""
        self._root.mkdir(parents=True, exist_ok=True)
        for leftover in self._root.glob(f"step-*{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        probe = self._root / f".probe-{uuid.uuid4().hex[:12]}"
        probe.write_bytes(b"lyceum")
        probe.unlink()


class BucketTarget:
    """Objects of a bucket under `prefix`; credentials and AWS_ENDPOINT_URL as every AWS tool."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Upload a file, and read it back."""
        if source.stat().st_size > _PART_BYTES:
            raise CopyFailed(f"{source.name} is larger than the 5 GiB that one request may put")
        key = f"{self._prefix}/{name}"
        with source.open("rb") as file:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=file)
        digest = hashlib.sha256()
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        while block := body.read(_BLOCK_BYTES):
            digest.update(block)
        if digest.hexdigest() != sha256:
            raise CopyFailed(f"{S3}{self._bucket}/{key} is not what was sent (its sha256 differs)")

    def finish(self, checkpoint: str) -> None:
        """Nothing: the manifest was put last."""

    def give_up(self, checkpoint: str) -> None:
        """Nothing: without a manifest it is none, and another try takes the same names."""

    def write_beside(self, name: str, content: bytes) -> None:
        """Put an object beside the checkpoints."""
        self._client.put_object(Bucket=self._bucket, Key=self._beside(name), Body=content)

    def read_beside(self, name: str) -> bytes | None:
        """Get it."""
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._beside(name))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        content: bytes = found["Body"].read()
        return content

    def _beside(self, name: str) -> str:
        return f"{self._prefix.removesuffix('checkpoints')}{name}"

    def try_out(self) -> None:
        """Put and delete a small object."""
        key = f"{self._prefix}/.probe-{uuid.uuid4().hex[:12]}"
        self._client.put_object(Bucket=self._bucket, Key=key, Body=b"lyceum")
        self._client.delete_object(Bucket=self._bucket, Key=key)

    @property
    def _client(self) -> Any:
        return s3_client(os.getpid(), _TIMEOUT_SECONDS, anonymous=False)


def target_of(copy_to: str, run: Path) -> CopyTarget:
    """Where the copies of a run's checkpoints go: TARGET/NAME-OF-RUN/checkpoints."""
    if copy_to.startswith(S3):
        bucket, _, prefix = copy_to.removeprefix(S3).partition("/")
        named = f"{prefix.strip('/')}/{run.resolve().name}/checkpoints".lstrip("/")
        return BucketTarget(bucket, named)
    return FolderTarget(Path(copy_to) / run.resolve().name / "checkpoints")


def require_target(copy_to: str, run: Path) -> None:
    """Raise RecipeError where copies could not be written; on one rank, before the first step."""
    if not copy_to.startswith(S3) and "://" in copy_to:
        raise RecipeError(
            f"checkpoint.copy_to: {copy_to.partition('://')[0]}:// cannot be written; give a "
            "folder, or s3://BUCKET/PREFIX"
        )
    if copy_to.startswith(S3) and not copy_to.removeprefix(S3).partition("/")[0]:
        raise RecipeError(f"checkpoint.copy_to: {copy_to} names no bucket; give s3://BUCKET/PREFIX")
    if not copy_to.startswith(S3):
        copies = (Path(copy_to) / run.resolve().name).resolve()
        if copies.is_relative_to(run.resolve()):
            raise RecipeError(
                f"checkpoint.copy_to: {copies} lies in the run itself, which a copy is to outlive; "
                "name another folder"
            )
    try:
        target = target_of(copy_to, run)
        target.try_out()
        _claim(target, copy_to, run)
    except RecipeError:
        raise
    except Exception as error:
        mend = "make it writable, or name another"
        if copy_to.startswith(S3):
            mend = "look at bucket, credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and endpoint"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"checkpoint.copy_to: {copy_to}: {reason}; {mend}") from None


def run_id(run: Path) -> str:
    """What tells a run from all others, wherever its directory is moved: 32 hexadecimal digits that
    are written to it when this is first asked. On one rank.
    """
    known = run / OWNER
    if not known.exists():
        write_whole(known, uuid.uuid4().hex + "\n")
    return known.read_text(encoding="utf-8").strip()


def _claim(target: CopyTarget, copy_to: str, run: Path) -> None:
    """Let copies be this run's; raises RecipeError where they are another's of the same name."""
    ours, theirs = f"{run_id(run)}\n".encode(), target.read_beside(OWNER)
    if theirs is None:
        target.write_beside(OWNER, ours)
    elif theirs != ours:
        raise RecipeError(
            f"checkpoint.copy_to: {copy_to} holds the copies of another run named "
            f"{run.resolve().name}; name another, or move them away"
        )


@dataclass(frozen=True)
class FinishedCopy:
    """A copy that is over; `error`: why there is none, None where there is one."""

    step: int
    seconds: float
    nbytes: int
    error: str | None = None


class CheckpointCopier:
    """Copies the checkpoints that it is offered, on one rank; `close` ends its thread."""

    def __init__(self, copy_to: str, run: Path) -> None:
        self._shown, self._target, self._run_folder = copy_to, target_of(copy_to, run), run
        self._changed = threading.Condition()
        self._next: Path | None = None
        self._working, self._closed = False, False
        self._files_done = 0
        self._finished: list[FinishedCopy] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name="copier")
        self._thread.start()

    def offer(self, checkpoint: Path) -> None:
        """Copy a checkpoint as soon as the one before is; in the place of one that waits."""
        with self._changed:
            if self._next is not None:
                _log.warning(
                    "%s is not copied to %s, which is behind: %s is",
                    *(self._next.name, self._shown, checkpoint.name),
                )
            self._next = checkpoint
            self._changed.notify_all()

    def ended(self) -> list[FinishedCopy]:
        """The copies that have ended since this was asked last."""
        with self._changed:
            ended, self._finished = self._finished, []
        return ended

    def wait(self, alive: Callable[[], None]) -> None:
        """Wait until all that was offered is copied; `alive` is called while there is progress."""
        seen = -1
        with self._changed:
            while self._next is not None or self._working:
                if seen != self._files_done:
                    seen = self._files_done
                    alive()
                self._changed.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Leave what waits; what is being copied ends with the process."""
        with self._changed:
            self._closed, self._next = True, None
            self._changed.notify_all()

    def _run(self) -> None:
        while (checkpoint := self._taken()) is not None:
            finished = self._copied(checkpoint)
            with self._changed:
                self._working = False
                self._finished.append(finished)
                self._changed.notify_all()

    def _taken(self) -> Path | None:
        with self._changed:
            while self._next is None and not self._closed:
                self._changed.wait()
            taken, self._next = self._next, None
            self._working = taken is not None
            return taken

    def _copied(self, checkpoint: Path) -> FinishedCopy:
        began, step = time.perf_counter(), int(checkpoint.name.removeprefix("step-"))
        for seconds in (*RETRIES_SECONDS, None):
            try:
                nbytes = self._copy(checkpoint)
                return FinishedCopy(step, time.perf_counter() - began, nbytes)
            except Exception as error:  # of a storage, which has errors of its own
                self._target.give_up(checkpoint.name)
                reason = " ".join(str(error).split()) or type(error).__name__
                line = f"{checkpoint.name} could not be copied to {self._shown}: {reason}"
            if seconds is None or self._closed:
                break
            _log.warning("%s; it is tried again in %.0f s", line, seconds)
            with self._changed:
                self._changed.wait(seconds)
        return FinishedCopy(step, time.perf_counter() - began, 0, line)

    def _copy(self, checkpoint: Path) -> int:
        """Copy the files, a few at once, and the manifest behind them; their bytes, 0 where they
        are there.
        """
        # What the run leaves out behind it, should this copy be gone on with.
        with suppress(FileNotFoundError):
            self._target.write_beside(ROLLBACKS, (self._run_folder / ROLLBACKS).read_bytes())
        files = read_manifest(checkpoint).files
        there = self._target.read_beside(f"checkpoints/{checkpoint.name}/{MANIFEST}")
        if there == (checkpoint / MANIFEST).read_bytes():
            return 0  # of an earlier start, or it was good twice

        def put(name: str) -> None:
            stored = files[name]
            self._target.put(f"{checkpoint.name}/{name}", checkpoint / name, stored.sha256)
            self._files_done += 1

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            for _ in pool.map(put, files):
                pass
        manifest = checkpoint / MANIFEST
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        self._target.put(f"{checkpoint.name}/{MANIFEST}", manifest, digest)
        self._target.finish(checkpoint.name)
        return sum(stored.bytes for stored in files.values())
