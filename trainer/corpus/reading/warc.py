"""WARC archives: the web pages of a crawl.

Nothing in an archive is written to disk: a record's address, whatever it says ("../..",
"file:///etc/passwd"), is text and never used as a path.

Not warcio, which reports no error for truncated files: of one that ends inside its second record it
returns two records, of a gzip file cut in half the first of three (warcio 1.8; its issue 138). Here
damage raises an error that names file and record.
"""

import hashlib
import io
import re
from collections.abc import Iterator

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.html import PageReader
from trainer.corpus.reading.http_body import BadBodyError, read_body
from trainer.corpus.reading.opening import PlainStream, open_plain
from trainer.corpus.reading.quarantine import PREVIEW_BYTES, Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, document_id, set_aside_oversize
from trainer.corpus.reading.warc_headers import (
    HEADER_BYTES,
    BadHeadersError,
    Headers,
    read_headers,
)
from trainer.errors import DataError

MIB = 2**20
PAGES = ("text/html", "application/xhtml+xml")
# A conversion is text where it does not say that it is one of these: many writers name no type.
OTHER_CONVERSIONS = ("image/", "audio/", "video/", "application/pdf", *PAGES)
# The text of an error page (404, 500) is the server's, not an author's.
GOOD_STATUS = range(200, 300)
INTERIM_STATUS = range(100, 200)
CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)")


def read_warc(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The prose of a .warc file's HTML pages with status 2xx, and the texts of a .wet file
    (`conversion` records); memory: one record.

    The id is WARC-Record-ID; `url` and `date` are metadata. Records of other types, and what holds
    no page or text, are skipped and counted; oversize ones are quarantined, and pages that the
    crawler (WARC-Truncated, or segments) or the connection cut short. An answer without
    Content-Type is what WARC-Identified-Payload-Type says. Raises DataError where the archive's own
    structure is damaged or truncated (later records cannot be found), and as `open_plain` does.
    """
    with (
        open_plain(file, options.limits, options.access) as stream,
        PageReader(quarantine) as pages,
    ):
        number = 0
        while (headers := _next_record(file.path, number + 1, stream)) is not None:
            number += 1
            location = RecordLocation(file.shown, "record", number)
            length = _length(headers, location)
            kind = headers.fields.get("warc-type", "").lower()
            if kind not in ("response", "conversion"):
                _skip(stream, length, location, b"")
                quarantine.tally.passed_over[f"WARC record: {kind or 'no type'}"] += 1
                continue
            # Of an oversize record the beginning says whether a page is lost.
            block = stream.read(length if length <= options.record_bytes else HEADER_BYTES)
            if no_text := _no_text(headers, block):
                _skip(stream, length, location, block)
                quarantine.tally.passed_over[no_text] += 1
                continue
            if length > options.record_bytes:
                oversize = _skip(stream, length, location, block)
                set_aside_oversize(oversize, location, options, quarantine)
                continue
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
    if headers.fields["warc-type"].lower() == "conversion":
        return _converted(headers, block, location, quarantine)
    try:
        answer, start = _answer(block)
        _refuse_part(headers)
        body = read_body(block[start:], answer.fields, options.record_bytes)
    except BadHeadersError as error:
        quarantine.tally.records += 1
        quarantine.set_aside(location, "not HTTP", block, f"no HTTP answer: {error}")
        return None
    except BadBodyError as error:
        quarantine.tally.records += 1
        quarantine.set_aside(location, error.reason, block, str(error))
        return None
    return pages.read(body, _page_type(headers, answer)[1], location)


def _no_text(headers: Headers, block: bytes) -> str | None:
    """What a record is that holds no page and no text, by the beginning of its block."""
    content, _ = _content_type(headers.fields.get("content-type", ""))
    if headers.fields["warc-type"].lower() == "conversion":
        other = content.startswith(OTHER_CONVERSIONS)
        return f"WARC record: conversion to {content[:40]}" if other else None
    if content not in ("", "application/http") and not block.startswith(b"HTTP/"):
        # What Heritrix keeps of name servers, and files by FTP.
        return f"WARC record: response of {content[:40]}"
    try:
        answer, _ = _answer(block)
    except BadHeadersError:
        return None
    if _status(answer) not in GOOD_STATUS:
        return "answer without success"
    return None if _page_type(headers, answer)[0] in PAGES else "not a web page"


def _answer(block: bytes) -> tuple[Headers, int]:
    """The headers of an answer, and where its body begins; interim answers are read past."""
    stream = io.BytesIO(block)
    answer = read_headers(stream)
    while _status(answer) in INTERIM_STATUS and block.startswith(b"HTTP/", stream.tell()):
        answer = read_headers(stream)
    return answer, stream.tell()


def _converted(
    headers: Headers, block: bytes, location: RecordLocation, quarantine: Quarantine
) -> str | None:
    """The text that another tool made of a page."""
    quarantine.tally.records += 1
    try:
        _refuse_part(headers)
        text = block.decode("utf-8-sig")
    except BadBodyError as error:
        quarantine.set_aside(location, error.reason, block, str(error))
        return None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        at = error.start + len(block) - len(error.object)
        detail = f"byte 0x{byte:02x} at offset {at} is not UTF-8"
        quarantine.set_aside(location, "not UTF-8", block, detail)
        return None
    if not text:
        quarantine.tally.passed_over["page without prose"] += 1
    return text


def _status(answer: Headers) -> int:
    """The status of an answer; 0 without one."""
    found = re.match(r"\S+\s+([0-9]{3})(?!\S)", answer.first)
    return int(found[1]) if found else 0


def _page_type(headers: Headers, answer: Headers) -> tuple[str, str | None]:
    """As the server says, or else the crawler."""
    identified = headers.fields.get("warc-identified-payload-type", "")
    return _content_type(answer.fields.get("content-type") or identified)


def _content_type(value: str) -> tuple[str, str | None]:
    """The media type and the charset that a Content-Type names; of a list the first."""
    charset = CHARSET.search(value.lower())
    return re.split("[;,]", value)[0].strip().lower(), charset and charset[1]


def _refuse_part(headers: Headers) -> None:
    """Raise BadBodyError where a record says of itself that it is not whole."""
    fields = headers.fields
    if "warc-truncated" in fields:
        why = fields["warc-truncated"][:40]
        raise BadBodyError("cut short", f"the crawler cut it (WARC-Truncated: {why})")
    if "warc-segment-number" in fields:
        detail = "the first segment of several, which are not put together"
        raise BadBodyError("cut short", detail)


def _next_record(path: str, number: int, stream: PlainStream) -> Headers | None:
    """The headers of the next record; None at the end of the file."""
    while stream.peek(1)[:1] in (b"\r", b"\n"):
        stream.read(1)
    if not stream.peek(1):
        return None
    location = RecordLocation(path, "record", number)
    try:
        headers = read_headers(stream)
    except BadHeadersError as error:
        raise DataError(
            f"{location}: damaged or cut short ({error}): fetch the file again, or leave it out"
        ) from None
    if not headers.first.startswith("WARC/"):
        raise DataError(
            f"{location}: no WARC record begins there, but {headers.first[:40]!r}: fetch the file"
            " again, or leave it out"
        )
    return headers


def _length(headers: Headers, location: RecordLocation) -> int:
    size = headers.fields.get("content-length", "")
    if not (size.isascii() and size.isdigit()):
        raise DataError(
            f"{location}: Content-Length {size[:40]!r} is no length: fetch the file again, or leave"
            " it out"
        )
    return int(size)


def _skip(stream: PlainStream, length: int, location: RecordLocation, start: bytes) -> Oversize:
    """Skip the block that begins with `start`; only its size, hash and beginning are returned.

    DataError where it is truncated.
    """
    digest, left = hashlib.sha256(start), length - len(start)
    while left:
        piece = stream.read(min(left, MIB))
        if not piece:
            raise _cut_short(location)
        digest.update(piece)
        left -= len(piece)
    return Oversize(length, digest.hexdigest(), start[:PREVIEW_BYTES])


def _cut_short(location: RecordLocation) -> DataError:
    return DataError(f"{location}: the file is cut short there: fetch it again, or leave it out")
