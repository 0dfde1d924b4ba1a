"""Web pages, alone and in crawls' archives."""

import gzip
import hashlib
import io
import signal
import zlib
from pathlib import Path

import pyarrow
import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tests.corpus.reading.samples import PACKERS, options, peak_mib, read, write
from trainer.corpus.reading import html
from trainer.corpus.reading.html import decode_page
from trainer.errors import DataError

PROSE = "The heron stood in the shallow water and waited for a fish. " * 6
PAGE = (
    f"<html><head><title>Heron</title></head><body><nav><a href='/'>Home</a></nav><article>"
    f"<h1>Heron</h1><p>{PROSE}</p><p>{PROSE}</p></article><footer>Cookies</footer></body></html>"
)


def archive(*records: tuple[str, str, bytes, list[tuple[str, str]]], packed: bool = False) -> bytes:
    """A WARC file written by warcio: kind, address, body, headers of the answer."""
    target = io.BytesIO()
    writer = WARCWriter(target, gzip=packed)
    for number, (kind, address, body, fields) in enumerate(records):
        answer = StatusAndHeaders("200 OK", fields, protocol="HTTP/1.1") if fields else None
        record = writer.create_warc_record(
            address,
            kind,
            payload=io.BytesIO(body),
            http_headers=answer,
            warc_headers_dict={
                "WARC-Record-ID": f"<urn:uuid:{number}>",
                "WARC-Date": "2024-05-01T00:00:00Z",
            },
        )
        writer.write_record(record)
    return target.getvalue()


HTML = [("Content-Type", "text/html; charset=UTF-8")]
RESPONSE = ("response", "http://bird.example/heron", PAGE.encode(), HTML)


@pytest.mark.parametrize("packed", [True, False])
def test_a_page_gives_its_prose_with_address_and_date(tmp_path: Path, packed: bool) -> None:
    """Would catch menus and notices kept, or records lost between gzip's members."""
    name = "x.warc.gz" if packed else "x.warc"
    content = archive(
        ("warcinfo", "x.warc", b"software: test\r\n", []),
        ("request", "http://bird.example/", b"", [("Host", "bird.example")]),
        RESPONSE,
        ("response", "http://bird.example/x.png", b"\x89PNG", [("Content-Type", "image/png")]),
        ("metadata", "http://bird.example/", b"x: y\r\n", []),
        RESPONSE,
        packed=packed,
    )
    documents, quarantine = read(write(tmp_path / name, content))
    assert [document.id for document in documents] == ["<urn:uuid:2>", "<urn:uuid:5>"]
    first = documents[0]
    assert PROSE.strip() in first.text
    assert "Home" not in first.text and "Cookies" not in first.text and "<" not in first.text
    assert first.metadata == {"url": "http://bird.example/heron", "date": "2024-05-01T00:00:00Z"}
    # The second page is word for word the first: what one process has seen changes nothing.
    assert documents[1].text == first.text
    assert quarantine.tally.records == 2
    assert quarantine.tally.passed_over == {
        "WARC record: warcinfo": 1,
        "WARC record: request": 1,
        "WARC record: metadata": 1,
        "not a web page": 1,
    }


def test_texts_of_a_wet_file_are_taken_as_they_are(tmp_path: Path) -> None:
    """Would catch plain text sent through a parser of HTML."""
    content = archive(("conversion", "http://bird.example/", "1 < 2, é".encode(), []))
    documents, _ = read(write(tmp_path / "x.warc.zst", PACKERS[".zst"](content)))
    assert [document.text for document in documents] == ["1 < 2, é"]


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (gzip.compress(PAGE.encode()), [("Content-Encoding", "gzip")]),
        (
            gzip.compress(PAGE[:300].encode()) + gzip.compress(PAGE[300:].encode()),
            [("Content-Encoding", "gzip")],
        ),
        (
            pyarrow.Codec("brotli").compress(PAGE.encode(), asbytes=True),
            [("content-encoding", "br")],
        ),
        (
            zstandard.compress(PAGE[:300].encode()) + zstandard.compress(PAGE[300:].encode()),
            [("Content-Encoding", "zstd")],
        ),
        (
            zstandard.compress(gzip.compress(PAGE.encode())),
            [("Content-Encoding", "GZIP"), ("Content-Encoding", "zstd")],
        ),
        (zlib.compress(PAGE.encode()), [("Content-Encoding", "deflate")]),
        (deflated(PAGE.encode()), [("Content-Encoding", "deflate")]),
        (chunked(PAGE.encode()), [("Transfer-Encoding", "chunked")]),
        (
            chunked(gzip.compress(PAGE.encode())),
            [("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip")],
        ),
        # Crawlers that unpack and keep the header.
        (PAGE.encode(), [("Content-Encoding", "gzip")]),
        (PAGE.encode(), [("Content-Encoding", "br")]),
        (PAGE.encode(), [("Transfer-Encoding", "chunked")]),
    ],
)
def test_an_answer_is_unpacked_whether_or_not_it_is_packed(
    tmp_path: Path, body: bytes, fields: list[tuple[str, str]]
) -> None:
    """Would catch pages lost to an encoding that their header tells, rightly or wrongly."""
    content = archive(("response", "http://bird.example/", body, HTML + fields))
    documents, _ = read(write(tmp_path / "x.warc", content))
    assert [PROSE.strip() in document.text for document in documents] == [True]


@pytest.mark.parametrize(
    ("body", "fields", "reason"),
    [
        (b"x" * (2**20 + 1), [], "too large"),
        (gzip.compress(b" " * 2**24), [("Content-Encoding", "gzip")], "not unpacked"),
        (b"\x01\x02", [("Content-Encoding", "br")], "not unpacked"),
        (gzip.compress(PAGE.encode())[:-9], [("Content-Encoding", "gzip")], "cut short"),
        (PAGE.encode()[:-9], [("Content-Length", str(len(PAGE.encode())))], "cut short"),
        (chunked(PAGE.encode())[:-9], [("Transfer-Encoding", "chunked")], "cut short"),
    ],
)
def test_a_record_beyond_the_limit_is_set_aside(
    tmp_path: Path, body: bytes, fields: list[tuple[str, str]], reason: str
) -> None:
    """Would catch a giant member, or a bomb inside an answer, and what follows it being lost."""
    content = archive(("response", "http://bird.example/", body, HTML + fields), RESPONSE)
    documents, quarantine = read(write(tmp_path / "x.warc", content), options(record_mib=1))
    assert len(documents) == 1
    assert [(row["record"], row["reason"]) for row in quarantine.rows] == [(1, reason)]
    assert (quarantine.tally.records, quarantine.tally.malformed) == (2, 1)


@pytest.mark.parametrize("kind", ["response", "conversion"])
def test_a_page_that_its_crawler_cut_is_set_aside(tmp_path: Path, kind: str) -> None:
    """Would catch the first MiB of a page, at which a crawler stopped, taken for the page; what is
    no page is not counted among those.
    """
    image = ("response", "http://bird.example/x.png", b"\x89PNG", [("Content-Type", "image/png")])
    page = (kind, "http://bird.example/", PAGE.encode(), HTML if kind == "response" else [])
    content = archive(image, page, page)
    head, cut = b"WARC-Record-ID: <urn:uuid:%d>\r\n", b"WARC-Truncated: length\r\n"
    for number in (0, 1):
        content = content.replace(head % number, head % number + cut)
    documents, quarantine = read(write(tmp_path / "x.warc", content))
    assert [document.id for document in documents] == ["<urn:uuid:2>"]
    (row,) = quarantine.rows
    assert (row["record"], row["reason"]) == (2, "cut short")
    assert row["detail"] == "the crawler cut it (WARC-Truncated: length)"
    assert (quarantine.tally.records, quarantine.tally.malformed) == (2, 1)


def record(block: bytes, kind: bytes = b"response", *fields: bytes) -> bytes:
    """A record as it stands in an archive, with no other headers than these."""
    head = [b"WARC/1.1", b"WARC-Type: " + kind, *fields, b"Content-Length: %d" % len(block)]
    return b"\r\n".join([*head, b"", block, b"", b""])


def answer(*fields: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *fields, b"", PAGE.encode()])


TYPED = b"Content-Type: text/html"
PART = [b"WARC-Segment-Number: 1", b"Content-Type: application/http; msgtype=response"]


@pytest.mark.parametrize(
    ("content", "passed_over"),
    [
        # As Heritrix writes them.
        (
            record(
                b"20240501000000\nbird.example. 300 IN A 1.2.3.4\n",
                b"response",
                b"Content-Type: text/dns",
            ),
            "WARC record: response of text/dns",
        ),
        (
            record(b"\x89PNG", b"conversion", b"Content-Type: image/png"),
            "WARC record: conversion to image/png",
        ),
        (
            record(PAGE.encode(), b"conversion", b"Content-Type: text/html"),
            "WARC record: conversion to text/html",
        ),
        (record(b"", b"conversion"), "page without prose"),
        (record(answer(first=b"HTTP/1.1 101 Switching Protocols")), "answer without success"),
        (
            record(answer(TYPED, first="HTTP/1.1 \N{SUPERSCRIPT TWO}00".encode())),
            "answer without success",
        ),
        (record(answer()), "not a web page"),
    ],
)
def test_records_that_are_no_pages_are_passed_over(
    tmp_path: Path, content: bytes, passed_over: str
) -> None:
    """Would catch answers of name servers that stop a build as malformed, markup or an image taken
    for a text, a status that ends the program, and an empty text that is counted nowhere.
    """
    documents, quarantine = read(write(tmp_path / "x.warc", content + record(answer(TYPED))))
    assert [PROSE.strip() in document.text for document in documents] == [True]
    assert (quarantine.tally.malformed, quarantine.tally.passed_over) == (0, {passed_over: 1})


@pytest.mark.parametrize(
    "content",
    [
        record(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(TYPED)),
        record(answer(TYPED, first=b"HTTP/1.1  200  OK")),
        record(answer(b"Content-Type: text/html, text/html; charset=utf-8")),
        record(answer(b"Content-Type: text/html,charset=utf-8")),
        record(answer(), b"response", b"WARC-Identified-Payload-Type: text/html"),
        record(answer(b"Content-Type:"), b"response", b"WARC-Identified-Payload-Type: text/html"),
        record(answer(TYPED), b"response", b"Content-Type: text/html"),
        record(b"\xef\xbb\xbf" + PROSE.encode(), b"conversion", b"Content-Type: text/plain"),
    ],
)
def test_pages_are_known_by_what_servers_and_crawlers_write(tmp_path: Path, content: bytes) -> None:
    """Would catch pages passed over for a header in a form that browsers understand."""
    documents, quarantine = read(write(tmp_path / "x.warc", content))
    assert [PROSE.strip() in document.text for document in documents] == [True]
    assert not documents[0].text.startswith("\ufeff")
    assert not quarantine.tally.passed_over


def test_a_giant_that_is_no_page_is_no_page_lost(tmp_path: Path) -> None:
    """Would catch films that count as malformed, and stop a build."""
    film, lost = b"Content-Type: video/mp4", b"\0" * (2**20 + 1)
    head = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n"
    content = record(head % film + lost) + record(head % TYPED + lost) + record(answer(TYPED))
    documents, quarantine = read(write(tmp_path / "x.warc", content), options(record_mib=1))
    assert [PROSE.strip() in document.text for document in documents] == [True]
    assert [(row["record"], row["reason"]) for row in quarantine.rows] == [(2, "too large")]
    whole = head % TYPED + lost
    assert quarantine.rows[0]["sha256"] == hashlib.sha256(whole).hexdigest()
    assert quarantine.tally.passed_over == {"not a web page": 1}
    with pytest.raises(DataError, match="record 1: the file is cut short there"):
        read(write(tmp_path / "y.warc", content[: 2**19]), options(record_mib=1))


def test_a_segment_of_a_page_is_not_the_page(tmp_path: Path) -> None:
    """Would catch the first half of a record that goes on in another one, taken for the whole."""
    whole = answer(TYPED)
    rest = record(whole[700:], b"continuation", b"WARC-Segment-Number: 2")
    content = record(whole[:700], b"response", *PART) + rest + record(whole)
    documents, quarantine = read(write(tmp_path / "x.warc", content))
    assert [PROSE.strip() in document.text for document in documents] == [True]
    assert [(row["record"], row["reason"]) for row in quarantine.rows] == [(1, "cut short")]
    assert quarantine.tally.passed_over == {"WARC record: continuation": 1}


def test_a_giant_member_is_skipped_in_little_memory(tmp_path: Path) -> None:
    """Would catch a member held before its size is judged."""
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n"
    size = 60 * 2**20
    path = write(tmp_path / "x.warc", [head % size, *[b"x" * 2**20] * 60, b"\r\n\r\n"])
    # The parser's own imports are not what is measured: trafilatura is loaded by a first, tiny one.
    tiny = write(tmp_path / "y.warc", head % 0)
    base, _ = peak_mib(tiny, "record_mib=1")
    peak, told = peak_mib(path, "record_mib=1")
    assert told == "0 1"
    # A MiB at a time, and slack.
    assert peak - base < 16
    held = peak_mib(path, "record_mib=64")[0] - base
    assert held > 48, "a member that is held is seen: 60 MiB, less what the first one left free"


WHOLE = archive(RESPONSE, RESPONSE)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (WHOLE[:-200], "x.warc record 2: the file is cut short there"),
        (WHOLE[: len(WHOLE) // 2 + 100], "x.warc record 2: damaged or cut short"),
        (WHOLE.replace(b"Content-Length: ", b"Content-Length: -", 1), "'-.*' is no length"),
        (WHOLE + b"<html>no record</html>\r\n\r\n", "record 3: no WARC record begins there"),
        (b"W" * 100_000, "record 1: damaged or cut short"),
        (b"WARC/1.0\r\n" + b"a: b\r\n" * 10_000, "record 1: damaged or cut short"),
    ],
)
def test_a_damaged_archive_is_an_error(tmp_path: Path, content: bytes, told: str) -> None:
    """Would catch the records behind the damage lost in silence, as warcio loses them."""
    with pytest.raises(DataError, match=told):
        read(write(tmp_path / "x.warc", content))


@pytest.mark.parametrize("address", ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd"])
def test_an_address_is_never_a_path(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a member that reads or writes where its address points."""
    monkeypatch.chdir(tmp_path)
    content = archive(("response", address, PAGE.encode(), HTML))
    (document,), _ = read(write(tmp_path / "x.warc", content))
    assert document.metadata["url"] == address
    assert [path.name for path in tmp_path.iterdir()] == ["x.warc"]


def test_answers_without_success_are_passed_over(tmp_path: Path) -> None:
    """Would catch thousands of "404 not found" pages read as prose."""
    content = archive(RESPONSE).replace(b"200 OK", b"404 NO")
    documents, quarantine = read(write(tmp_path / "x.warc", content))
    assert (documents, quarantine.tally.passed_over["answer without success"]) == ([], 1)


@pytest.mark.parametrize("packing", PACKERS)
def test_a_page_in_a_file_gives_its_prose(tmp_path: Path, packing: str) -> None:
    """Would catch .html read as plain text."""
    path = write(tmp_path / f"x.html{packing}", PACKERS[packing](PAGE.encode()))
    (document,), _ = read(path)
    assert document.id == str(path) and PROSE.strip() in document.text
    assert "<p>" not in document.text


def test_a_page_without_prose_is_passed_over_not_malformed(tmp_path: Path) -> None:
    """Would catch empty pages filling the quarantine until the build stops."""
    documents, quarantine = read(write(tmp_path / "x.htm", b"<html><body></body></html>"))
    assert (documents, quarantine.tally.malformed) == ([], 0)
    assert quarantine.tally.passed_over == {"page without prose": 1}
    assert quarantine.tally.empty_files == 0


@pytest.mark.parametrize(
    ("raw", "charset"),
    [
        ("<p>é</p>".encode(), "latin-1"),
        ("<p>é</p>".encode("latin-1"), "ISO-8859-1"),
        (b'<meta charset="windows-1252"><p>\xe9</p>', None),
        (b'<meta http-equiv=x content="text/html; charset=latin1"><p>\xe9</p>', "no-such-charset"),
        ("<p>é</p>".encode("utf-16"), None),
        ("<p>é</p>".encode("utf-8-sig"), None),
    ],
)
def test_a_page_is_decoded_as_it_says(raw: bytes, charset: str | None) -> None:
    """Would catch mojibake, or a wrong header believed against the bytes."""
    page = decode_page(raw, charset)
    assert page is not None and page.endswith("<p>é</p>") and not page.startswith("\ufeff")


@pytest.mark.parametrize(
    ("text", "written", "declared"),
    [
        ("“so”", "cp1252", "ISO-8859-1"),
        ("“so”", "cp1252", "us-ascii"),
        ("“ış”", "cp1254", "iso-8859-9"),
        ("“ไทย”", "cp874", "tis-620"),
        ("朱镕基", "gb18030", "gb2312"),
        ("똠방각하", "cp949", "euc-kr"),
        ("①髙", "cp932", "Shift_JIS"),
        ("日本語", "iso2022_jp", "ISO-2022-JP"),
        ("中文", "hz", "hz-gb-2312"),
        ("wide", "utf-16-le", "utf-16le"),
    ],
)
def test_an_encodings_name_means_what_browsers_take_it_for(
    text: str, written: str, declared: str
) -> None:
    """Would catch quotes that become control characters, names that no narrow charset has, and
    escape sequences taken for UTF-8, which they are.
    """
    assert decode_page(f"<p>{text}</p>".encode(written), declared) == f"<p>{text}</p>"
    # A name that does not fit the bytes is not believed.
    assert decode_page("<p>“so” é</p>".encode(), declared) == "<p>“so” é</p>"


@pytest.mark.parametrize("charset", ["hex", "zlib", "rot13", "undefined", "\0", "idna"])
def test_a_declared_charset_runs_no_codec_that_is_none(charset: str) -> None:
    """Would catch a page that has itself unpacked by naming Python's zlib codec."""
    raw = zlib.compress(b"x" * 1000)
    page = decode_page(raw, charset)
    assert page is None or "xxx" not in page


def hang(page: str) -> str | None:
    if "hang" in page:
        signal.pause()  # for ever: the reader is to end this process
    if "die" in page:
        raise SystemExit(1)
    return page or None


def test_a_page_on_which_the_parser_hangs_or_dies_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a build that stands still, or falls, over one page."""
    monkeypatch.setattr(html, "extract", hang)
    monkeypatch.setattr(html, "EXTRACTION_SECONDS", 1)
    address = "http://bird.example/"
    pages = [("response", address, body, HTML) for body in (b"one", b"hang", b"die", b"two")]
    documents, quarantine = read(write(tmp_path / "x.warc", archive(*pages)))
    assert [document.text for document in documents] == ["one", "two"]
    assert [(row["record"], row["detail"]) for row in quarantine.rows] == [
        (2, "its text was not extracted within 1 seconds"),
        (3, "the parser died of it"),
    ]
