"""The body of an HTTP answer as it stands in an archive: put together, and unpacked within a limit.

Crawlers store bodies encoded or decoded but leave the headers as they were, so that a body that is
plainly not encoded as a header says is taken as it is. One that is cut is refused: by the server's
own length, in its chunks, or in its packing.
"""

import re
import zlib
from collections.abc import Callable, Mapping

from trainer.corpus.reading.unicode import WIDE_MARKS

CHUNK = 16 * 1024
SIZE_LINE = 1024
# More would be no server's doing: every one may unpack to the limit.
CODINGS_AT_MOST = 5
GZIP = b"\x1f\x8b"
ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
ZEROS = re.compile(rb"\0+")
# What servers and crawlers leave behind a stream.
PADDING = b"\0\r\n"
MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?/A-Za-z]")
# What no text holds: control characters but white space. Packed bytes without one, or other bytes
# that begin as packed ones do, are short.
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
JUDGED_FROM, JUDGED_WITHIN = 100, 1000


class BadBodyError(ValueError):
    """A body that cannot be had whole; `reason`: the category it is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_body(body: bytes, fields: Mapping[str, str], limit: int) -> bytes:
    """The body of an answer without its transfer and content codings.

    `fields`: the answer's headers by lower-case name, repeated ones joined by commas; `limit`: in
    bytes, before and after each coding. Read are chunks, gzip (any number of members, as RFC 1952
    has them), deflate (zlib's, or raw as some servers send it), br and zstd (any number of
    frames). Raises BadBodyError for a body that is cut short, damaged, packed in another way or
    beyond the limit.
    """
    transfer = _codings(fields.get("transfer-encoding", ""))
    layers = [*_codings(fields.get("content-encoding", "")), *transfer]
    chunked = "chunked" in layers
    layers = [coding for coding in layers if coding != "chunked"]
    if len(layers) > CODINGS_AT_MOST:
        raise BadBodyError("not unpacked", f"{len(layers)} codings are said to lie on it")
    stored = body
    if chunked:
        body = _without_chunks(body)
    for coding in reversed(layers):
        body = _unpacked(body, coding, limit)
    # The server's length is of the packed body: of one stored unpacked it says nothing.
    unpacked_before = stored and body is stored and not UNPACKERS.keys().isdisjoint(layers)
    if not (chunked or unpacked_before):
        _check_length(stored, fields)
    return body


def _codings(value: str) -> list[str]:
    names = (name.partition(";")[0].strip().lower() for name in value.split(","))
    return [name.removeprefix("x-") for name in names if name not in ("", "identity")]


def _check_length(body: bytes, fields: Mapping[str, str]) -> None:
    said = re.fullmatch(r"[0-9]{1,18}", fields.get("content-length", ""))
    if said and len(body) < int(said[0]):
        raise BadBodyError("cut short", f"{len(body)} bytes of the {int(said[0])} that were sent")
    part = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", fields.get("content-range", ""))
    if part and (int(part[1]) > 0 or int(part[2]) + 1 < int(part[3])):
        raise BadBodyError("cut short", f"{part[0]}: a part of the page")


def _without_chunks(body: bytes) -> bytes:
    """The body with its chunks joined; unchanged where it does not begin with one.

    Raises BadBodyError where they end, or break off, before the last one, which has no bytes.
    """
    pieces: list[bytes] = []
    at = 0
    while True:
        size, start = _chunk_size(body, at)
        if size is None:
            if at == 0 and not re.fullmatch(rb"[0-9A-Fa-f]{1,16}\r?", body):
                return body
            raise BadBodyError("cut short", f"after {at} bytes no chunk begins")
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[start : start + size])
        at = start + size
        if len(body) < at:
            raise BadBodyError("cut short", f"a chunk of {size} bytes has {len(body) - start}")
        at += 2 if body.startswith(b"\r\n", at) else body.startswith(b"\n", at)


def _chunk_size(body: bytes, at: int) -> tuple[int | None, int]:
    """The size of the chunk at an offset, None where there is none, and where its bytes begin."""
    end = body.find(b"\n", at, at + SIZE_LINE)
    size = body[at:end].partition(b";")[0].strip() if end >= 0 else b""
    # int() by itself takes signs, blanks and underscores too.
    return (int(size, 16), end + 1) if re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size) else (None, at)


def _unpacked(body: bytes, coding: str, limit: int) -> bytes:
    unpack = UNPACKERS.get(coding)
    if not body or (unpack is None and _is_text(body)):
        return body
    if unpack is None:
        raise BadBodyError("not unpacked", f"its coding {coding[:40]!r} is not read")
    try:
        plain = unpack(body, limit)
    except (BadBodyError, zlib.error, OSError, NotImplementedError) as error:
        if _is_text(body):
            return body
        if isinstance(error, BadBodyError):
            raise
        raise BadBodyError("not unpacked", f"it is no {coding}, or damaged: {error}") from None
    if len(plain) > limit:
        detail = "its content cannot be unpacked within corpus.limits.record_mib"
        raise BadBodyError("not unpacked", detail)
    return plain


def _is_text(body: bytes) -> bool:
    """Whether a body is text as it stands, to judge by its beginning."""
    if body.startswith(GZIP) or ZSTD.match(body):
        return False
    if MARKUP.match(body) or body.startswith(tuple(WIDE_MARKS)):
        return True
    return len(body) >= JUDGED_FROM and not CONTROL.search(body, 0, JUDGED_WITHIN)


def _gunzip(body: bytes, limit: int) -> bytes:
    """All members, zeros between them passed over as gzip does; other bytes behind the last one
    are ignored, as browsers do.
    """
    pieces: list[bytes] = []
    size = at = 0
    while size <= limit and body.startswith(GZIP, at):
        piece, at = _inflate(body, at, zlib.MAX_WBITS | 16, limit - size)
        pieces.append(piece)
        size += len(piece)
        if padding := ZEROS.match(body, at):
            at = padding.end()
    if not pieces:
        raise zlib.error("it does not begin as gzip does")
    if size <= limit and body[at:] == GZIP[:1]:
        raise BadBodyError("cut short", "its packed content has no end")
    return b"".join(pieces)


def _undeflate(body: bytes, limit: int) -> bytes:
    """A zlib stream (RFC 1950), which is what HTTP calls deflate, or a raw one (RFC 1951)."""
    if body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0:
        try:
            return _inflate(body, 0, zlib.MAX_WBITS, limit)[0]
        except zlib.error:
            pass
    plain, end = _inflate(body, 0, -zlib.MAX_WBITS, limit)
    # It has no checksum: what goes on behind its end was none.
    if len(plain) <= limit and body[end:].strip(PADDING):
        raise zlib.error("bytes behind its end")
    return plain


def _inflate(body: bytes, at: int, window: int, limit: int) -> tuple[bytes, int]:
    """One stream at an offset, or its first limit + 1 bytes, and the offset behind what was read.

    Raises BadBodyError for a stream without an end, zlib.error for a damaged one.
    """
    unpacker = zlib.decompressobj(window)
    pieces: list[bytes] = []
    left = limit + 1
    # In pieces, as zlib copies what stands behind a member's end: of many small ones all the rest.
    while not unpacker.eof and left and at < len(body):
        packed = body[at : at + CHUNK]
        piece = unpacker.decompress(packed, left)
        pieces.append(piece)
        left -= len(piece)
        at += len(packed) - len(unpacker.unused_data)
    if left and not unpacker.eof:
        raise BadBodyError("cut short", "its packed content has no end")
    return b"".join(pieces), at


def _unstream(codec: str) -> Callable[[bytes, int], bytes]:
    """By pyarrow's codecs, which say of a stream that it has no end, and read several frames.

    Not zstandard's stream_reader, which takes a cut frame for a whole one.
    """

    def unpack(body: bytes, limit: int) -> bytes:
        try:
            return unpack_all(body, limit)
        except (BadBodyError, OSError):
            # They read on behind the end; only there can a stream be had without its last bytes.
            unpadded = body.rstrip(PADDING)
            if len(unpadded) == len(body):
                raise
            return unpack_all(unpadded, limit)

    def unpack_all(body: bytes, limit: int) -> bytes:
        import pyarrow

        if codec == "zstd" and not ZSTD.match(body):
            raise OSError("it does not begin as zstd does")
        pieces: list[bytes] = []
        left = limit + 1
        try:
            with pyarrow.CompressedInputStream(pyarrow.BufferReader(body), codec) as stream:
                while left and (piece := stream.read(min(left, CHUNK))):
                    pieces.append(piece)
                    left -= len(piece)
        except OSError as error:
            # A few bytes of anything may be the beginning of a stream.
            if len(body) >= JUDGED_FROM and "Truncated" in str(error):
                raise BadBodyError("cut short", "its packed content has no end") from None
            raise
        return b"".join(pieces)

    return unpack


UNPACKERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unstream("brotli"),
    "zstd": _unstream("zstd"),
}
