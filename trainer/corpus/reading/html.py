"""Web pages: the main text of a page, without menus and notices, by trafilatura."""

import codecs
import logging
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import open_plain
from trainer.corpus.reading.quarantine import Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, set_aside_oversize
from trainer.corpus.reading.text import read_whole
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, WIDE_MARKS, unicode_fault
from trainer.errors import DataError

EXTRACTION_SECONDS = 20
DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.I)
DECLARED_WITHIN = 4096
# Encodings of which any text is UTF-8 too, and what stands in their texts.
SIGNS = {"utf-16": b"\0", "utf-32": b"\0", "iso2022": b"\x1b", "hz": b"~{"}
# What browsers take these names for. Source: the Encoding Standard (encoding.spec.whatwg.org), 4.2.
SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
}


def read_html(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The document of a .html file, whose id is the path; none where the page has no prose.

    Raises DataError as `open_plain` does.
    """
    location = RecordLocation(file.shown, "file", 1)
    with open_plain(file, options.limits, options.access) as stream:
        raw = read_whole(stream, options.record_bytes)
    if isinstance(raw, Oversize):
        set_aside_oversize(raw, location, options, quarantine)
    elif raw:
        with PageReader(quarantine) as pages:
            if text := pages.read(raw, None, location):
                yield RawDocument(file.shown, file.shown, text)


class PageReader:
    """Extracts the text of pages; a context manager.

    The parser runs in a child process, so that a page on which it hangs or crashes costs that page
    alone. Raises DataError, on entry, where a package is not installed.
    """

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._sandbox: Any = None

    def __enter__(self) -> Self:
        try:
            import trafilatura  # noqa: F401  (loaded once, before processes are forked)
            from datatrove.pipeline.extractors.base import ExtractorSandbox
            from loguru import logger
        except ImportError as error:
            message = " ".join(str(error).split())
            raise DataError(
                f"reading web pages needs more packages ({message}): install the extra lyceum[data]"
            ) from None
        # It logs the end of its process for every file; trafilatura every page without prose, which
        # is counted here.
        logger.disable("datatrove.pipeline.extractors.base")
        logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
        self._sandbox = ExtractorSandbox(timeout=EXTRACTION_SECONDS, warmup_text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sandbox.__exit__(kind, error, traceback)

    def read(self, raw: bytes, charset: str | None, location: RecordLocation) -> str | None:
        """The prose of a page; None if it has none or is quarantined.

        `charset`: the one that the server declared, or None. The page counts as a record read.
        """
        self._quarantine.tally.records += 1
        page = decode_page(raw, charset)
        if page is None:
            detail = "its encoding is unknown"
            self._quarantine.set_aside(location, "unknown encoding", raw, detail)
            return None
        try:
            text = self._sandbox.process_document(page, extract)
        except TimeoutError:
            detail = f"its text was not extracted within {EXTRACTION_SECONDS} seconds"
            self._quarantine.set_aside(location, "not extracted", raw, detail)
            return None
        except (EOFError, OSError):
            self._quarantine.set_aside(location, "not extracted", raw, "the parser died of it")
            return None
        if not text:
            self._quarantine.tally.passed_over["page without prose"] += 1
        return text or None


def extract(page: str) -> str | None:
    """The prose of a page by trafilatura, favouring precision as datatrove's extractor does.

    Without its `deduplicate`, which remembers earlier pages, so that a page's text would depend on
    which pages one process happened to read. Runs in the child process.
    """
    import trafilatura

    text = trafilatura.extract(
        page, favor_precision=True, include_comments=False, deduplicate=False
    )
    return text if text is None or unicode_fault(text) is None else None


def decode_page(raw: bytes, charset: str | None) -> str | None:
    """Decode a page by the first encoding that fits: that of its byte order mark, UTF-8, that which
    the server (`charset`) or the page declares, or cchardet's guess; None if none fits.

    A declared encoding whose bytes are UTF-8 as well comes before it where they are there.
    """
    if raw.startswith(BYTE_ORDER_MARK):
        raw = raw[len(BYTE_ORDER_MARK) :]
    marked = next((name for mark, name in WIDE_MARKS.items() if raw.startswith(mark)), None)
    found = DECLARED.search(raw[:DECLARED_WITHIN])
    names = [name for name in (charset, found and found[1].decode("ascii")) if name]
    declared = [codec for codec in map(_codec, names) if codec]
    like_utf8 = [
        codec
        for codec in declared
        if any(codec.startswith(kind) and sign in raw for kind, sign in SIGNS.items())
    ]
    wider = [name for codec in declared for name in (SUPERSETS.get(codec), codec)]
    for name in filter(None, [marked, *like_utf8, "utf-8", *wider]):
        try:
            return raw.decode(name)
        except (LookupError, ValueError):
            continue
    try:
        import cchardet
    except ImportError:
        return None
    guess = cchardet.detect(raw)["encoding"]
    try:
        return raw.decode(guess) if guess else None
    except (LookupError, ValueError):
        return None


def _codec(name: str) -> str | None:
    """Python's name of a text encoding; None for what is none."""
    try:
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
