"""Bodies of HTTP answers: chunked, packed, packed again, stored unpacked, cut at any byte."""

import gzip
import io
import random
import zlib
from collections.abc import Callable

import pyarrow
import pytest
import urllib3
import zstandard

from trainer.corpus.reading.http_body import BadBodyError, read_body

DICE = random.Random(0)
WORDS = ["".join(DICE.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(300)]
PAGE = f"<html><p>{' '.join(DICE.choices(WORDS, k=700))} é</p></html>".encode()
LIMIT = 2**20


def chunked(body: bytes, size: int = 100) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def brotli(body: bytes) -> bytes:
    return pyarrow.Codec("brotli").compress(body, asbytes=True)


def parts(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The body packed in three, one after the other."""
    return lambda body: pack(body[:1000]) + pack(body[1000:1001]) + pack(body[1001:])


PACKINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip members": ("gzip", parts(gzip.compress)),
    "x-gzip": ("X-GZip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("Deflate", raw_deflate),
    "brotli": ("br", brotli),
    "zstd": ("zstd", zstandard.compress),
    "zstd frames": ("zstd", parts(zstandard.compress)),
    "gzip, br": ("gzip, br", lambda body: brotli(gzip.compress(body))),
    "zstd, gzip": ("zstd ,GZIP", lambda body: gzip.compress(zstandard.compress(body))),
}


def read(body: bytes, limit: int = LIMIT, **fields: str) -> bytes:
    return read_body(body, {name.replace("_", "-"): said for name, said in fields.items()}, limit)


def refusal(body: bytes, limit: int = LIMIT, **fields: str) -> tuple[str, str]:
    with pytest.raises(BadBodyError) as caught:
        read(body, limit, **fields)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_body_is_read_to_its_end(packing: str) -> None:
    """Would catch the first member or frame taken for all, and a coding or its spelling unknown."""
    coding, pack = PACKINGS[packing]
    packed = pack(PAGE)
    assert read(packed, content_encoding=coding) == PAGE
    assert read(packed, content_encoding=coding, content_length=str(len(packed))) == PAGE
    assert read(chunked(packed), content_encoding=coding, transfer_encoding="Chunked") == PAGE
    assert read(chunked(packed), transfer_encoding=f"{coding}, chunked") == PAGE


@pytest.mark.parametrize("packing", ["gzip", "gzip members", "x-gzip", "zlib", "raw"])
def test_what_urllib3_unpacks_is_the_same(packing: str) -> None:
    """Would catch a reading of our own of what a coding means; urllib3 reads these by itself."""
    coding, pack = PACKINGS[packing]
    for tail in (b"", b"\0\0\0", b"behind the end") if "gzip" in packing else (b"",):
        packed = pack(PAGE) + tail
        answer = urllib3.HTTPResponse(
            io.BytesIO(packed), {"content-encoding": coding.lower()}, preload_content=False
        )
        assert read(packed, content_encoding=coding) == answer.read(decode_content=True) == PAGE


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_body_that_is_cut_anywhere_is_refused(packing: str) -> None:
    """Would catch a part of a page taken for the page."""
    coding, pack = PACKINGS[packing]
    packed = pack(PAGE)
    for end in [0, 1, 2, 3, 10, *range(20, len(packed), 37), len(packed) - 1]:
        refusal(packed[:end], content_encoding=coding, content_length=str(len(packed)))
    refusal(gzip.compress(PAGE) + b"\x1f", content_encoding="gzip")
    # Without a length what is between members, and nothing at all, cannot be known for cut.
    for end in range(20, len(packed), 37):
        try:
            assert read(packed[:end], content_encoding=coding) in (PAGE[:1000], PAGE[:1001])
        except BadBodyError:
            continue
        assert packing.endswith(("members", "frames"))


def test_zeros_between_members_end_no_body() -> None:
    """Would catch the first member taken for all where a server pads its blocks, as Python's own
    reader of gzip does not.
    """
    for zeros in (1, 512, 40_000):
        body = gzip.compress(PAGE[:1000]) + bytes(zeros) + gzip.compress(PAGE[1000:]) + bytes(zeros)
        assert read(body, content_encoding="gzip") == gzip.decompress(body) == PAGE
        assert refusal(body[: -zeros - 9], content_encoding="gzip")[0] == "cut short"


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_empty_line_or_zeros_behind_a_packed_body_are_nothing(packing: str) -> None:
    """Would catch a page lost to the line end behind its stream, which browsers pass over."""
    coding, pack = PACKINGS[packing]
    packed = pack(PAGE)
    for tail in (b"\r\n", b"\n", b"\0\0\0"):
        assert read(packed + tail, content_encoding=coding) == PAGE
        assert refusal(packed[:-400] + tail, content_encoding=coding)[0] in (
            "cut short",
            "not unpacked",
        )


def test_a_cut_is_said_to_be_one() -> None:
    """Would catch a count of cut pages among the damaged ones."""
    for coding, pack in PACKINGS.values():
        assert refusal(pack(PAGE)[:-400], content_encoding=coding)[0] == "cut short", coding
    assert refusal(PAGE, content_length=str(len(PAGE) + 1)) == (
        "cut short",
        f"{len(PAGE)} bytes of the {len(PAGE) + 1} that were sent",
    )
    part = f"bytes 0-{len(PAGE) - 1}/{len(PAGE)}"
    assert read(PAGE, content_length=str(len(PAGE)), content_range=part) == PAGE
    assert refusal(PAGE, content_range=f"{part}0") == ("cut short", f"{part}0: a part of the page")


@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
def test_chunks_are_joined(line: bytes) -> None:
    """Would catch a chunk's extension, a trailer, capitals or bare line feeds misread."""
    first, second = PAGE[:0x2AB], PAGE[0x2AB:]
    head, tail = b"2AB;name=value" + line, b"%X" % len(second) + line
    body = head + first + line + tail + second + line + b"000" + line + b"Expires: 0" + line * 2
    assert read(body, transfer_encoding="chunked") == PAGE
    assert read(body, transfer_encoding="chunked", content_length="5") == PAGE


def test_chunks_that_are_cut_or_broken_are_refused() -> None:
    """Would catch the chunks up to there taken for the page, or their sizes for its text."""
    body = chunked(PAGE)
    for end in range(1, len(body) - 4):
        reason, _ = refusal(body[:end], transfer_encoding="chunked")
        assert reason == "cut short", end
    broken = body.replace(b"64\r\n", b"63\r\n", 2)
    assert refusal(broken, transfer_encoding="chunked")[0] == "cut short"


@pytest.mark.parametrize("text", [PAGE, b"\n " + PAGE, "<p>Wide page</p>".encode("utf-16")])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br", "utf-8", "none"])
def test_a_body_stored_unpacked_is_taken_as_it_is(text: bytes, coding: str) -> None:
    """Would catch pages lost whose crawler unpacked them and kept the headers."""
    assert read(text, content_encoding=coding, transfer_encoding="chunked") == text
    assert read(text, content_encoding=coding, content_length=str(len(text))) == text
    if coding in ("utf-8", "none"):  # no packing at all: the length is the text's
        refusal(text, content_encoding=coding, content_length="70000")
    else:
        assert read(text, content_encoding=coding, content_length="70000") == text


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "compress", "dcb"])
def test_bytes_that_are_neither_packed_nor_text_are_refused(coding: str) -> None:
    """Would catch what nobody can read handed on as a page."""
    for size in (3, 50, 5000):
        reason, _ = refusal(b"\x02\x9d" + DICE.randbytes(size), content_encoding=coding)
        assert reason in ("not unpacked", "cut short")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_body_unpacks_to_the_limit_and_no_further(packing: str) -> None:
    """Would catch a bomb unpacked, in one layer or the next, or a page at the limit refused."""
    coding, pack = PACKINGS[packing]
    packed = pack(PAGE)
    assert read(packed, max(len(PAGE), len(packed)), content_encoding=coding) == PAGE
    reason, detail = refusal(packed, len(PAGE) - 1, content_encoding=coding)
    assert reason == "not unpacked" and "record_mib" in detail
    bomb = pack(b" " * 2**24)
    assert "record_mib" in refusal(bomb, 2**20, content_encoding=coding)[1]
    assert "6 codings" in refusal(bomb, content_encoding=", ".join(["gzip"] * 6))[1]


@pytest.mark.parametrize("content", [b"\x1f\x8b" * 20_000, b"\x8b\x1f" * 20_000])
def test_the_limit_ends_the_reading_of_members(content: bytes) -> None:
    """Would catch a reader that, past the limit, waits for ever on what looks like a member: one of
    these has a member's first bytes just where a piece of the packed body begins.
    """
    packed = gzip.compress(content, compresslevel=0)
    assert "record_mib" in refusal(packed, 1000, content_encoding="gzip")[1]
    assert read(packed, content_encoding="gzip") == content
