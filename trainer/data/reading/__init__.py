"""Raw documents: files in every format, compression and place that a corpus is read from."""

from trainer.data.reading.files import InputFile, list_files
from trainer.data.reading.quarantine import Place, Quarantine, Tally
from trainer.data.reading.read import read_file
from trainer.data.reading.record import RawDocument, ReadOptions

__all__ = [
    "InputFile",
    "Place",
    "Quarantine",
    "RawDocument",
    "ReadOptions",
    "Tally",
    "list_files",
    "read_file",
]
