"""One verified transfer: retried after failures, resumed where it broke off, checksummed."""

import hashlib
import io
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from trainer.data.remote.location import Url
from trainer.data.remote.storage import Interrupted, OtherFile, read_range
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
SLOWEST_BYTES_PER_SECOND = 1024
PROGRESS_BYTES = 1 << 20
"""An attempt that brings this much does not count as failed: only failures in a row do."""
LARGEST_WHOLE_BYTES = 1 << 31
READ_BYTES = 1 << 20


class Cancelled(Exception):
    """The transfer is no longer needed."""


def never() -> bool:
    """The `cancelled` of a transfer that is never cancelled."""
    return False


@dataclass(frozen=True)
class Wanted:
    """A remote file, as the manifest describes it.

    Its size is `bytes`, or at most that where it is not `exact`.
    """

    url: Url
    sha256: str
    bytes: int
    exact: bool = True


@dataclass(frozen=True)
class Attempts:
    """The retries and timeouts of a transfer.

    `wait` sleeps for a number of seconds; `cancelled` is polled after each chunk received.
    """

    remote: RemoteSection
    wait: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    cancelled: Callable[[], bool] = never

    def pause(self, failures: int, asked_seconds: float) -> None:
        """Wait before the next attempt: exponential backoff with full jitter, at least
        `asked_seconds`.

        A thousand readers that lost the same server do not come back to it at the same moment.
        Only this randomness is not derived from the seed: it changes when bytes come, never which.
        Source: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
        """
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures, 30))
        seconds = max(random.SystemRandom().uniform(0, longest), min(asked_seconds, 60.0))
        self.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise Cancelled where the transfer is no longer needed."""
        if self.cancelled():
            raise Cancelled

    def arriving(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks; raises Interrupted when the rate is too low, which no socket timeout notices.

        The limit is SLOWEST_BYTES_PER_SECOND over `remote.timeout_seconds`.
        """
        started, count = self.clock(), 0
        for piece in pieces:
            self.check()
            yield piece
            count += len(piece)
            seconds = self.clock() - started
            if seconds >= self.remote.timeout_seconds:
                if count < SLOWEST_BYTES_PER_SECOND * seconds:
                    raise Interrupted(f"only {count} bytes came in {seconds:.1f} seconds")
                started, count = self.clock(), 0


def download(wanted: Wanted, file: BinaryIO, attempts: Attempts) -> None:
    """Download into `file`, which may hold the beginning from an interrupted transfer.

    Where the checksum is wrong, the file is downloaded once more from the beginning. Raises
    DataError naming the URL: with the attempts and the last reason when they are used up, with both
    checksums when it is another file, and at once for what a retry would not mend;
    OSError where `file` cannot be written; Cancelled.
    """
    kept = _Kept(file)
    for _ in range(2):
        try:
            if kept.sha256 == wanted.sha256:
                return
            _complete(wanted, kept, attempts)
            if kept.sha256 == wanted.sha256:
                return
            found = f"its sha256 is {kept.sha256[:12]}"
        except OtherFile as error:
            found = str(error)
        log.info("%s is not what the manifest says: %s", wanted.url.shown, found)
        kept.clear()
    size = f"{wanted.bytes} bytes and " if wanted.exact else ""
    raise DataError(
        f"shard {wanted.url.shown} was altered: {found}, the manifest says {size}sha256"
        f" {wanted.sha256[:12]}; upload it again, or build the corpus again"
    )


def read_whole(url: Url, attempts: Attempts) -> bytes:
    """The content of a small file that no manifest describes, with the retries of a transfer.

    Raises DataError as `download` does, Absent where there is none.
    """
    file = io.BytesIO()
    try:
        _complete(Wanted(url, "", LARGEST_WHOLE_BYTES, exact=False), _Kept(file), attempts)
    except OtherFile as error:
        raise DataError(f"cannot read {url.shown}: {error}; upload it again") from None
    return file.getvalue()


class _Kept:
    """The part of a file that has been received, and the checksum over it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self.position = 0
        file.seek(0)
        while chunk := file.read(READ_BYTES):
            self._digest.update(chunk)
            self.position += len(chunk)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.position += len(piece)

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.position = 0


def _complete(wanted: Wanted, kept: _Kept, attempts: Attempts) -> None:
    failures = 0
    while True:
        before = kept.position
        try:
            _receive(wanted, kept, attempts)
            return
        except Interrupted as error:
            failures = 1 if kept.position - before >= PROGRESS_BYTES else failures + 1
            if failures >= attempts.remote.attempts:
                raise DataError(
                    f"{wanted.url.shown} did not come in {failures} attempts: {error}; check the"
                    " network and the server, or raise data.remote.attempts, and start again"
                ) from None
            log.info("%s: %s; trying again", wanted.url.shown, error)
            attempts.pause(failures, error.wait_seconds)


def _receive(wanted: Wanted, kept: _Kept, attempts: Attempts) -> None:
    """Make one request for the missing bytes."""
    if wanted.exact and kept.position == wanted.bytes:
        return
    if kept.position > wanted.bytes:
        raise OtherFile(f"it has more than {wanted.bytes} bytes")
    answer = read_range(wanted.url, kept.position, attempts.remote)
    try:
        total = answer.total
        if total is not None and (total != wanted.bytes if wanted.exact else total > wanted.bytes):
            raise OtherFile(f"it has {total} bytes")
        known = kept.position - answer.start
        for piece in attempts.arriving(answer.pieces):
            added = piece[known:]
            known -= len(piece) - len(added)
            if kept.position + len(added) > wanted.bytes:
                raise OtherFile(f"it has more than {wanted.bytes} bytes")
            kept.add(added)
    finally:
        answer.close()
    end = wanted.bytes if wanted.exact else total
    if end is not None and kept.position < end:
        raise Interrupted(f"the connection ended after {kept.position} of {end} bytes")
