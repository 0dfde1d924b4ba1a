"""WARC archives: the web pages of a crawl.

Nothing in an archive is written to disk: a record's address, whatever it says ("../..",
"file:///etc/passwd"), is text and never used as a path.

Not warcio, which reports no error for truncated files: of one that ends inside its second record it
returns two records, of a gzip file cut in half the first of three (warcio 1.8; its issue 138). Here
damage raises an error that names file and record.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.html import PageReader
from trainer.corpus.reading.http_body import BadBodyError, read_body
from trainer.corpus.reading.opening import PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, document_id, set_aside_oversize
from trainer.errors import DataError

MIB = 2**20
HEADER_BYTES = 64 * 1024
HEADER_LINES = 500
PAGES = ("text/html", "application/xhtml+xml")
# Headers that may stand there several times, for one list.
LISTS = ("content-encoding", "transfer-encoding")
# The text of an error page (404, 500) is the server's, not an author's.
GOOD_STATUS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a WARC record or HTTP response: first line, and fields by lower-case name
    (of one that is repeated the first, of a list of codings all, joined by commas).
    """

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
    counted; oversize ones are quarantined, and pages that the crawler (WARC-Truncated) or the
    connection cut short. Raises DataError where the archive's own structure is
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
            text = _text(headers, block, location, pages, options, quarantine)
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
    headers: Headers,
    block: bytes,
    location: RecordLocation,
    pages: PageReader,
    options: ReadOptions,
    quarantine: Quarantine,
) -> str | None:
    """The text of a record's block; None where it has none or is quarantined."""
    truncated = headers.fields.get("warc-truncated")
    if headers.fields["warc-type"].lower() == "conversion":
        quarantine.tally.records += 1
        if truncated:
            _set_aside_truncated(truncated, block, location, quarantine)
            return None
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
    if truncated:
        quarantine.tally.records += 1
        _set_aside_truncated(truncated, block, location, quarantine)
        return None
    try:
        body = read_body(stream.read(), answer.fields, options.record_bytes)
    except BadBodyError as error:
        quarantine.tally.records += 1
        quarantine.set_aside(location, error.reason, block, str(error))
        return None
    charset = charset.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    return pages.read(body, charset or None, location)


def _set_aside_truncated(
    why: str, block: bytes, location: RecordLocation, quarantine: Quarantine
) -> None:
    detail = f"the crawler cut it (WARC-Truncated: {why[:40]})"
    quarantine.set_aside(location, "cut short", block, detail)


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
        name, _, value = (part.strip() for part in field.partition(":"))
        name = name.lower()
        if name in fields and name in LISTS:
            fields[name] += f", {value}"
        fields.setdefault(name, value)
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
