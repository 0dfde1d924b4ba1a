"""Web pages: the prose of a page, without its menus and notices."""

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


def read_html(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The one document of a .html file, if it holds prose; its id is the path.

    Raises DataError as `open_plain` does.
    """
    place = RecordLocation(file.path, "file", 1)
    with open_plain(file, options.limits, options.anonymous) as stream:
        raw = read_whole(stream, options.record_bytes)
    if isinstance(raw, Oversize):
        set_aside_oversize(raw, place, options, quarantine)
    elif raw:
        with PageReader(quarantine) as pages:
            if text := pages.read(raw, None, place):
                yield RawDocument(file.path, file.path, text)


class PageReader:
    """Extracts the text of pages in a process of its own, so that a page on which the parser hangs
    or dies costs that page alone; a context manager.
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
            told = " ".join(str(error).split())
            raise DataError(
                f"reading web pages needs more packages ({told}): install the extra lyceum[data]"
            ) from None
        # It says with each file that it ends its process.
        logger.disable("datatrove.pipeline.extractors.base")
        self._sandbox = ExtractorSandbox(timeout=EXTRACTION_SECONDS, warmup_text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sandbox.__exit__(kind, error, traceback)

    def read(self, raw: bytes, charset: str | None, place: RecordLocation) -> str | None:
        """The prose of a page, None if it has none or is set aside.

        `charset` is what the server declared. The page counts as a record read.
        """
        self._quarantine.tally.records += 1
        page = decode_page(raw, charset)
        if page is None:
            detail = "its encoding cannot be told"
            self._quarantine.set_aside(place, "unknown encoding", raw, detail)
            return None
        try:
            text = self._sandbox.process_document(page, extract)
        except TimeoutError:
            detail = f"its text was not extracted within {EXTRACTION_SECONDS} seconds"
            self._quarantine.set_aside(place, "not extracted", raw, detail)
            return None
        except (EOFError, OSError):
            self._quarantine.set_aside(place, "not extracted", raw, "the parser died of it")
            return None
        if not text:
            self._quarantine.tally.passed_over["page without prose"] += 1
        return text or None


def extract(page: str) -> str | None:
    """The prose of a page by trafilatura, set to precision as datatrove's extractor sets it.

    Without its `deduplicate`: that remembers the pages before, so that a page's text would depend
    on which pages one process happened to read. Runs in the sandbox.
    """
    import trafilatura

    text = trafilatura.extract(
        page, favor_precision=True, include_comments=False, deduplicate=False
    )
    return text if text is None or unicode_fault(text) is None else None


def decode_page(raw: bytes, charset: str | None) -> str | None:
    """A page as text: by its byte order mark, as UTF-8, as the server or the page declares, or by
    what cchardet takes it for; None if none of these fits.
    """
    if raw.startswith(BYTE_ORDER_MARK):
        raw = raw[len(BYTE_ORDER_MARK) :]
    marked = next((name for mark, name in WIDE_MARKS.items() if raw.startswith(mark)), None)
    declared = DECLARED.search(raw[:DECLARED_WITHIN])
    told = [marked, "utf-8", charset, declared and declared.group(1).decode("ascii")]
    for name in filter(None, told):
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
