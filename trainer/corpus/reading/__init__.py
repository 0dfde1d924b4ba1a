"""Reading raw documents from files of every format and compression, local or remote."""

from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.quarantine import Quarantine, RecordLocation, Tally
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import RawDocument, ReadOptions

__all__ = [
    "InputFile",
    "Quarantine",
    "RawDocument",
    "ReadOptions",
    "RecordLocation",
    "Tally",
    "list_files",
    "read_file",
]
