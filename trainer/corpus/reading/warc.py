"""WARC archives: the web pages of a crawl.

Nothing in an archive is written to disk: a record's address, whatever it says ("../..",
"file:///etc/passwd"), is text and never used as a path.

Not warcio, which reports no error for truncated files: of one that ends inside its second record it
returns two records, of a gzip file cut in half the first of three (warcio 1.8; its issue 138). Here
damage raises an error that names file and record.
"""

import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.html import PageReader
from trainer.corpus.reading.opening import PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, document_id, set_aside_oversize
from trainer.errors import DataError

MIB = 2**20
HEADER_BYTES = 64 * 1024
HEADER_LINES = 500
PAGES = ("text/html", "application/xhtml+xml")
# The text of an error page (404, 500) is the server's, not an author's.
GOOD_STATUS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a WARC record or HTTP response: first line, and fields by lower-case name."""

    first: str
    fields: Mapping[str, str]


class _BadHeaders(ValueError):
    pass


def read_warc(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The prose of a .warc file's HTML pages with status 2xx, and the texts of a .wet file
    (`conversion` records); memory: one record.

    The id is WARC-Record-ID; `url` and `date` are metadata. Records of other types are skipped and
    counted; oversize ones are quarantined. Raises DataError where the archive's own structure is
    damaged or truncated (later records cannot be found), and as `open_plain` does.
    """
    with (
        open_plain(file, options.limits, options.anonymous) as stream,
        PageReader(quarantine) as pages,
    ):
        number = 0
        while (headers := _next_record(file.path, number + 1, stream)) is not None:
            number += 1
            location = RecordLocation(file.path, "record", number)
            length = _length(headers, location)
            kind = headers.fields.get("warc-type", "").lower()
            if kind not in ("response", "conversion"):
                _skip(stream, length, location)
                quarantine.tally.passed_over[f"WARC record: {kind or 'no type'}"] += 1
                continue
            if length > options.record_bytes:
                oversize = _skip(stream, length, location)
                set_aside_oversize(oversize, location, options, quarantine)
                continue
            block = stream.read(length)
            if len(block) < length:
                raise _cut_short(location)
            text = _text(kind, block, location, pages, options, quarantine)
            if text:
                yield _document(text, headers, location)


def _document(text: str, headers: Headers, location: RecordLocation) -> RawDocument:
    fields = headers.fields
    known = {"url": fields.get("warc-target-uri"), "date": fields.get("warc-date")}
    metadata = {name: value for name, value in known.items() if value}
    return RawDocument(
        document_id(fields.get("warc-record-id"), location), location.file, text, metadata
    )


def _text(
    kind: str,
    block: bytes,
    location: RecordLocation,
    pages: PageReader,
    options: ReadOptions,
    quarantine: Quarantine,
) -> str | None:
    """The text of a record's block; None where it has none or is quarantined."""
    if kind == "conversion":
        quarantine.tally.records += 1
        try:
            return block.decode("utf-8")
        except UnicodeDecodeError as error:
            detail = f"byte 0x{block[error.start]:02x} at offset {error.start} is not UTF-8"
            quarantine.set_aside(location, "not UTF-8", block, detail)
            return None
    stream = io.BytesIO(block)
    try:
        answer = _headers(stream)
    except _BadHeaders as error:
        quarantine.tally.records += 1
        quarantine.set_aside(location, "not HTTP", block, f"no HTTP answer: {error}")
        return None
    status = answer.first.split(" ")[1:2]
    if not (status and status[0].isdigit() and int(status[0]) in GOOD_STATUS):
        quarantine.tally.passed_over["answer without success"] += 1
        return None
    content, _, charset = answer.fields.get("content-type", "").partition(";")
    if content.strip().lower() not in PAGES:
        quarantine.tally.passed_over["not a web page"] += 1
        return None
    body = _decoded(stream.read(), answer.fields, options.record_bytes)
    if body is None:
        quarantine.tally.records += 1
        detail = "its content cannot be unpacked within corpus.limits.record_mib"
        quarantine.set_aside(location, "not unpacked", block, detail)
        return None
    charset = charset.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    return pages.read(body, charset or None, location)


def _decoded(body: bytes, fields: Mapping[str, str], limit: int) -> bytes | None:
    """The body of an HTTP response without its transfer and content encodings.

    Crawlers store bodies encoded or decoded but leave the headers as they were, so that a body that
    is not encoded as its header says is returned unchanged. None for more than `limit` bytes, and
    for an unsupported encoding.
    """
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = _without_chunks(body)
    encoding = fields.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        # Unpacked by the crawler, if the page can be seen.
        return body if body.lstrip()[:1] == b"<" else None
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        unpacker = zlib.decompressobj(window)
        try:
            plain = unpacker.decompress(body, limit + 1)
        except zlib.error:
            continue
        return plain if len(plain) <= limit else None
    return body


def _without_chunks(body: bytes) -> bytes:
    """The body with its chunks joined; unchanged where it is not chunked."""
    pieces: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at, at + 100)) >= 0:
        try:
            size = int(body[at:end].partition(b";")[0].strip(), 16)
        except ValueError:
            break
        if size <= 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    # A crawler that cut the answer off leaves chunks without an end.
    return b"".join(pieces) if pieces and at >= len(body) else body


def _next_record(path: str, number: int, stream: PlainStream) -> Headers | None:
    """The headers of the next record; None at the end of the file."""
    while stream.peek(1)[:1] in (b"\r", b"\n"):
        stream.read(1)
    if not stream.peek(1):
        return None
    location = RecordLocation(path, "record", number)
    try:
        headers = _headers(stream)
    except _BadHeaders as error:
        raise DataError(
            f"{location}: damaged or cut short ({error}): fetch the file again, or leave it out"
        ) from None
    if not headers.first.startswith("WARC/"):
        raise DataError(
            f"{location}: no WARC record begins there, but {headers.first[:40]!r}: fetch the file"
            " again, or leave it out"
        )
    return headers


def _headers(stream: BinaryIO) -> Headers:
    """Read headers up to and including the blank line that ends them."""
    lines: list[str] = []
    while True:
        line = stream.readline(HEADER_BYTES)
        if not line.endswith(b"\n"):
            raise _BadHeaders("its headers have no end")
        if not line.strip():
            break
        lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        if len(lines) > HEADER_LINES:
            raise _BadHeaders("its headers have no end")
    if not lines:
        raise _BadHeaders("no headers")
    fields: dict[str, str] = {}
    for field in lines[1:]:
        name, _, value = field.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    return Headers(lines[0], fields)


def _length(headers: Headers, location: RecordLocation) -> int:
    size = headers.fields.get("content-length", "")
    if not (size.isascii() and size.isdigit()):
        raise DataError(
            f"{location}: Content-Length {size[:40]!r} is no length: fetch the file again, or leave"
            " it out"
        )
    return int(size)


def _skip(stream: PlainStream, length: int, location: RecordLocation) -> Oversize:
    """Skip a block; only its size, hash and start are returned. DataError where it is truncated."""
    digest, left, start = hashlib.sha256(), length, b""
    while left:
        piece = stream.read(min(left, MIB))
        if not piece:
            raise _cut_short(location)
        digest.update(piece)
        start = start or piece[:PREVIEW_BYTES]
        left -= len(piece)
    return Oversize(length, digest.hexdigest(), start)


def _cut_short(location: RecordLocation) -> DataError:
    return DataError(f"{location}: the file is cut short there: fetch it again, or leave it out")
