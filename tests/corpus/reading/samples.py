"""Small input files, and reading them whole."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

from tests.resident import fresh_process
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import RawDocument, ReadOptions
from trainer.recipe.curation import Limits

PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def options(**limits: Any) -> ReadOptions:
    return ReadOptions(limits=Limits(**limits))


def read(
    path: Path | str, chosen: ReadOptions | None = None
) -> tuple[list[RawDocument], Quarantine]:
    """All documents of one file, and its quarantine."""
    quarantine = Quarantine()
    (file,) = list_files([str(path)])
    return list(read_file(file, chosen or ReadOptions(), quarantine)), quarantine


def lines(*records: Any) -> bytes:
    """JSONL; bytes stand for themselves."""
    return b"".join(
        (record if isinstance(record, bytes) else json.dumps(record).encode()) + b"\n"
        for record in records
    )


def write(path: Path, content: bytes | Iterable[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
    return path


def peak_mib(path: Path, code: str = "") -> tuple[float, str]:
    """How much the resident memory of a fresh process grows at most by reading a file, and what it
    found: how many documents, how many malformed records, and what was wrong with the file.

    `code`: limits.
    """
    script = f"""
import gzip, orjson, pyarrow.parquet, pyarrow.compute, pyarrow.types
from tests.resident import growth_mib
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import DataError
from trainer.recipe.curation import Limits
(file,), options = list_files([{str(path)!r}]), ReadOptions(limits=Limits({code}))
quarantine, told, count = Quarantine(), "", 0
def read():
    global told, count
    try:
        for _ in read_file(file, options, quarantine):
            count += 1
    except DataError as error:
        count, told = -1, str(error)
print(growth_mib(read), count, quarantine.tally.malformed, told)
"""
    peak, _, told = fresh_process(script).partition(" ")
    return float(peak), told
