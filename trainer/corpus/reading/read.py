"""Reading an input file of any format."""

from collections.abc import Callable, Iterator

from trainer.corpus.reading.array import read_array
from trainer.corpus.reading.files import InputFile, kind_of
from trainer.corpus.reading.html import read_html
from trainer.corpus.reading.jsonl import read_jsonl
from trainer.corpus.reading.parquet import read_parquet
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.record import RawDocument, ReadOptions
from trainer.corpus.reading.tar_texts import read_tar
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
    """Yield the documents of one file, in order.

    Malformed records are quarantined and reading continues; an empty file is counted and logged.
    Raises DataError where the file as a whole cannot be trusted: missing, refused, changed,
    damaged, truncated, a zip bomb, misnamed, or without the text column. The documents yielded
    before are then not the whole file.
    """
    tally = quarantine.tally
    before = (tally.records, tally.passed_over.total())
    reader = read_tar if options.text_members else READERS[kind_of(file.path)[0]]
    yield from reader(file, options, quarantine)
    tally.files += 1
    if (tally.records, tally.passed_over.total()) == before:
        quarantine.empty_file(file.shown)
