"""Small input files, and reading them whole."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

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
    """How much the resident memory of a fresh process grows by reading a file, and what it
    printed.
    """
    script = f"""
import resource
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.recipe.curation import Limits
from trainer.errors import DataError
import gzip, orjson, pyarrow.parquet, pyarrow.compute, pyarrow.types
quarantine = Quarantine()
options = ReadOptions(limits=Limits({code}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = ""
try:
    count = sum(1 for _ in read_file(list_files([{str(path)!r}])[0], options, quarantine))
except DataError as error:
    count, told = -1, str(error)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024, count, quarantine.tally.malformed, told)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak, _, told = done.stdout.strip().partition(" ")
    return float(peak), told
