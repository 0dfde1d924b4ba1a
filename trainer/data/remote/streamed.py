"""A remote file read once from its beginning, without a copy on disk, across broken connections."""

import io
import logging
from collections.abc import Iterator
from typing import Any

from trainer.data.remote.location import Url
from trainer.data.remote.storage import Answer, Interrupted, OtherFile, read_range
from trainer.data.remote.transfer import PROGRESS_BYTES, Attempts
from trainer.errors import DataError

log = logging.getLogger(__name__)


class StreamedFile(io.RawIOBase):
    """The bytes of the file at a URL, in order; where a connection breaks, another continues.

    Reading raises DataError, naming the URL, once `attempts.remote.attempts` in a row have failed,
    where the file changed its size meanwhile, and at once for what a retry would not mend.
    """

    def __init__(self, url: Url, attempts: Attempts) -> None:
        super().__init__()
        self._url, self._attempts = url, attempts
        self._position, self._total = 0, -1
        self._answer: Answer | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._known = 0
        self._waiting = memoryview(b"")
        self._failures, self._reached = 0, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of the buffer; 0 at the end of the file."""
        while not self._waiting:
            if self._position == self._total:
                return 0
            try:
                if not self._receive():
                    return 0
            except Interrupted as error:
                self._fail(error)
            except OtherFile as error:
                raise DataError(
                    f"{self._url.shown} changed while it was read: {error}; start again"
                ) from None
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def close(self) -> None:
        """End the connection."""
        self._hang_up()
        super().close()

    def _receive(self) -> bool:
        """Wait for the next bytes, asking for them where no connection is open; False at the end
        of a file whose size no server states. Raises Interrupted and OtherFile.
        """
        if self._answer is None:
            answer = read_range(self._url, self._position, self._attempts.remote)
            self._answer = answer
            if answer.total is not None:
                if self._total not in (-1, answer.total):
                    raise OtherFile(f"it had {self._total} bytes, and now {answer.total}")
                self._total = answer.total
            self._known = self._position - answer.start
            self._pieces = self._attempts.arriving(answer.pieces)
        piece = next(self._pieces, None)
        if piece is None:
            self._hang_up()
            if self._total == -1:
                return False
            raise Interrupted(f"the connection ended after {self._position} of {self._total} bytes")
        added = memoryview(piece)[self._known :]
        self._known -= len(piece) - len(added)
        self._waiting = added
        self._position += len(added)
        return True

    def _fail(self, error: Interrupted) -> None:
        self._hang_up()
        progress = self._position - self._reached >= PROGRESS_BYTES
        self._failures, self._reached = 1 if progress else self._failures + 1, self._position
        if self._failures >= self._attempts.remote.attempts:
            raise DataError(
                f"{self._url.shown} did not come in {self._failures} attempts: {error}; check the"
                " network and the server, or raise data.remote.attempts, and start again"
            ) from None
        log.info("%s: %s; trying again", self._url.shown, error)
        self._attempts.pause(self._failures, error.wait_seconds)

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
