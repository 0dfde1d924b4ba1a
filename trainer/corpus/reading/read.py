"""Read an input file of any kind."""

from collections.abc import Callable, Iterator

from trainer.corpus.reading.array import read_array
from trainer.corpus.reading.files import InputFile, kind_of
from trainer.corpus.reading.html import read_html
from trainer.corpus.reading.jsonl import read_jsonl
from trainer.corpus.reading.parquet import read_parquet
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.record import RawDocument, ReadOptions
from trainer.corpus.reading.text import read_text
from trainer.corpus.reading.warc import read_warc

FormatReader = Callable[[InputFile, ReadOptions, Quarantine], Iterator[RawDocument]]
READERS: dict[str, FormatReader] = {
    "jsonl": read_jsonl,
    "json": read_array,
    "parquet": read_parquet,
    "text": read_text,
    "html": read_html,
    "warc": read_warc,
}


def read_file(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of one file, in its order, as a stream.

    Bad records are set aside and reading goes on; an empty file is counted, with a warning. Raises
    DataError where a file as a whole cannot be trusted: absent, refused, changed, damaged, cut
    short, a zip bomb, named for what it is not, or without the text column. What was yielded before
    the error must then not be used as if it were the file.
    """
    tally = quarantine.tally
    before = (tally.records, tally.passed_over.total())
    yield from READERS[kind_of(file.path)[0]](file, options, quarantine)
    tally.files += 1
    if (tally.records, tally.passed_over.total()) == before:
        quarantine.empty_file(file.path)
