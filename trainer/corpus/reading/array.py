"""JSON files that are an array of objects, or a sequence of objects, parsed as a stream."""

import hashlib
import re
from collections.abc import Iterator

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import CHUNK, PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, read_record
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, refuse_wide_unicode
from trainer.errors import DataError

MIB = 2**20
STRING_END = re.compile(rb'["\\]')
STRUCTURE = re.compile(rb'["\[\]{},]')
WHITESPACE = b" \t\r\n"


def read_array(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of a .json file, one an element; memory: one record.

    The end of an element is found by its brackets alone, so that invalid JSON or an oversize record
    is quarantined under its number and reading continues. Raises DataError where brackets do not
    match (later records cannot be separated), for UTF-16, and as `open_plain` does.
    """
    for raw, location, offset in raw_elements(file, options):
        document = read_record(raw, location, offset, options, quarantine)
        if document is not None:
            yield document


def raw_elements(
    file: InputFile, options: ReadOptions
) -> Iterator[tuple[bytes | Oversize, RecordLocation, int]]:
    """(bytes, location, byte offset in the unpacked file) of each element.

    Raises DataError as `read_array` does.
    """
    shown = file.shown
    with open_plain(file, options.limits, options.access) as stream:
        refuse_wide_unicode(file.path, stream.peek(MIB))
        mark = len(stream.read(3)) if stream.peek(3).startswith(BYTE_ORDER_MARK) else 0
        elements = _Elements(file.path, stream, mark, options.record_bytes)
        for number, (raw, offset) in enumerate(elements.read(), start=1):
            yield raw, RecordLocation(shown, "record", number), offset


class _Element:
    """The bytes of one element; beyond `limit` bytes only their size, hash and start."""

    def __init__(self, limit: int, offset: int) -> None:
        self.offset, self._limit, self._size = offset, limit, 0
        self._pieces: list[bytes] = []
        self._start = b""
        self._digest = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        if self._size <= self._limit:
            self._pieces.append(piece)
            self._start = self._start or piece[:PREVIEW_BYTES]
        self._size += len(piece)
        if self._size > self._limit:
            for held in self._pieces:
                self._digest.update(held)
            if not self._pieces:
                self._digest.update(piece)
            self._pieces = []

    def end(self) -> bytes | Oversize:
        if self._size > self._limit:
            return Oversize(self._size, self._digest.hexdigest(), self._start)
        return b"".join(self._pieces)


class _Elements:
    """Splits a stream into the elements of its array, or its top-level values, from `offset` on."""

    def __init__(self, path: str, stream: PlainStream, offset: int, limit: int) -> None:
        self._path, self._stream, self._limit = path, stream, limit
        self._chunk_at = offset
        self._depth, self._in_string, self._in_array, self._closed = 0, False, False, False
        self._element = _Element(limit, offset)
        self._elements = 0

    def read(self) -> Iterator[tuple[bytes | Oversize, int]]:
        """(bytes, byte offset) of each element. Raises DataError for unmatched brackets."""
        first = True
        while chunk := self._stream.read(CHUNK):
            if chunk.endswith(b"\\"):
                chunk += self._stream.read(1)
            at = 0
            if first and (blank := len(chunk) - len(chunk.lstrip(WHITESPACE))) < len(chunk):
                first = False
                self._in_array = chunk[blank : blank + 1] == b"["
                at = blank + self._in_array
                self._element.offset = self._chunk_at + at
            yield from self._split(chunk, at)
            self._chunk_at += len(chunk)
        rest = self._element.end()
        if not self._closed and (self._in_array or (self._depth and self._elements)):
            raise DataError(
                f"{self._path}: ends after {self._chunk_at} bytes in the middle of a record: it"
                " was cut short, or a bracket is missing; mend it, or convert it to JSONL"
            )
        if isinstance(rest, Oversize) or rest.strip(WHITESPACE):
            yield rest, self._element.offset

    def _split(self, chunk: bytes, start: int) -> Iterator[tuple[bytes | Oversize, int]]:
        """The elements that end in this chunk; `start`: where the current element's bytes begin."""
        at = start
        while match := (STRING_END if self._in_string else STRUCTURE).search(chunk, at):
            sign, at = match.group(), match.end()
            if self._closed:
                break
            if sign == b"\\":
                # Skip the escaped character, so that an escaped quote ends no string.
                at += 1
            elif sign == b'"':
                self._in_string = not self._in_string
            elif sign in b"[{":
                self._depth += 1
            elif sign in b"]}":
                self._depth -= 1
            if self._depth < 0:
                if not self._in_array:
                    raise self._unmatched(at)
                self._closed = True
            ends_value = not self._in_array and self._depth == 0 and sign in b"]}"
            separates = self._in_array and self._depth == 0 and sign == b","
            if not (self._closed or ends_value or separates):
                continue
            self._element.add(chunk[start : at if ends_value else at - 1])
            element, offset = self._element.end(), self._element.offset
            self._element, start = _Element(self._limit, self._chunk_at + at), at
            # The last element of an array may be nothing: [] and, generously, [1, ].
            if isinstance(element, Oversize) or element.strip(WHITESPACE) or separates:
                self._elements += 1
                yield element, offset
        if self._closed and chunk[start:].strip(WHITESPACE):
            raise self._unmatched(start)
        self._element.add(chunk[start:])

    def _unmatched(self, at: int) -> DataError:
        return DataError(
            f"{self._path}: byte {self._chunk_at + at} is a bracket too many, or stands"
            " behind the end of the array: mend it, or convert it to JSONL"
        )
