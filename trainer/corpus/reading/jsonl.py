"""JSONL: one document a line."""

import hashlib
from collections.abc import Iterator

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, read_record
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, refuse_wide_unicode

MIB = 2**20


def read_jsonl(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of a .jsonl or .ndjson file; memory: one record.

    A line without a valid record is quarantined under its number; blank lines are skipped. Raises
    DataError for UTF-16 and as `open_plain` does.
    """
    for raw, location, offset in raw_lines(file, options):
        document = read_record(raw, location, offset, options, quarantine)
        if document is not None:
            yield document


def raw_lines(
    file: InputFile, options: ReadOptions
) -> Iterator[tuple[bytes | Oversize, RecordLocation, int]]:
    """(line, location, byte offset in the unpacked file) of each line that is not blank.

    Raises DataError for UTF-16 and as `open_plain` does.
    """
    limit, shown = options.record_bytes, file.shown
    with open_plain(file, options.limits, options.access) as stream:
        refuse_wide_unicode(file.path, stream.peek(MIB))
        offset = len(stream.read(3)) if stream.peek(3).startswith(BYTE_ORDER_MARK) else 0
        number = 0
        while line := stream.readline(limit + 1):
            number += 1
            location = RecordLocation(shown, "line", number)
            if len(line) > limit and line[-1:] != b"\n":
                oversize = skip_line(line, stream)
                yield oversize, location, offset
                offset += oversize.size
                continue
            if not line.isspace():
                yield line, location, offset
            offset += len(line)


def skip_line(start: bytes, stream: PlainStream) -> Oversize:
    """Read to the end of an oversize line that began with `start`, without storing the rest."""
    digest, size = hashlib.sha256(start), len(start)
    preview = start[:PREVIEW_BYTES]
    del start
    while piece := stream.readline(MIB):
        digest.update(piece)
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return Oversize(size, digest.hexdigest(), preview)
