"""Plain text: one document a file, in UTF-8."""

import hashlib
from collections.abc import Iterator

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, set_aside_oversize
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, wide_unicode

MIB = 2**20


def read_text(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The document of a .txt or .md file, whose id is the path.

    A text that is not UTF-8, or too large, is quarantined. Raises DataError as `open_plain` does.
    """
    location = RecordLocation(file.shown, "file", 1)
    with open_plain(file, options.limits, options.access) as stream:
        raw = read_whole(stream, options.record_bytes)
    if isinstance(raw, Oversize):
        set_aside_oversize(raw, location, options, quarantine)
        return
    if not raw:
        return
    quarantine.tally.records += 1
    if wide := wide_unicode(raw):
        quarantine.set_aside(location, "not UTF-8", raw, f"{wide}, not UTF-8: convert it")
        return
    start = len(BYTE_ORDER_MARK) if raw.startswith(BYTE_ORDER_MARK) else 0
    try:
        text = raw[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        detail = f"byte 0x{raw[at]:02x} at offset {at} is not UTF-8"
        quarantine.set_aside(location, "not UTF-8", raw, detail)
        return
    yield RawDocument(file.shown, file.shown, text)


def read_whole(stream: PlainStream, limit: int) -> bytes | Oversize:
    """The rest of the stream, or a summary of it where it is more than `limit` bytes."""
    raw = stream.read(limit + 1)
    if len(raw) <= limit:
        return raw
    digest, size, preview = hashlib.sha256(raw), len(raw), raw[:PREVIEW_BYTES]
    del raw
    while piece := stream.read(MIB):
        digest.update(piece)
        size += len(piece)
    return Oversize(size, digest.hexdigest(), preview)
