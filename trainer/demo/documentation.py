"""This machine's documentation as JSON lines, a folder a package: `corpus.source: embedded`.

A folder is written once, to the user's cache, under a key of the versions of package and Python. A
line has `id`, `package`, `heading` and `text`; docstrings left out are rows of left-out.jsonl.
"""

import glob
import hashlib
import json
import logging
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.corpus.build.provenance import Input
from trainer.corpus.build.staged import Staged
from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.record import ReadOptions
from trainer.demo.docstrings import LeftOut, read_docstrings
from trainer.demo.packages import package_versions, resolve_packages, source_files
from trainer.errors import DataError
from trainer.files import build_lock, cache_folder, write_whole
from trainer.recipe import CorpusSection

log = logging.getLogger(__name__)

FORM = 1
"""Version of the format: raised whenever the same sources would give other lines."""
LEFT_OUT = "left-out.jsonl"
PART_BYTES = 1 << 20
"""Input of one task of a build: a few seconds of filtering."""


def documentation(section: CorpusSection) -> Input:
    """The input of a build from the section's packages; files are written when first listed.

    Raises RecipeError for a package that is not installed.
    """
    versions = package_versions(resolve_packages(section.packages))
    folders = {package: _folder(package, version) for package, version in versions.items()}
    return Input(
        settings={"files": [], "packages": list(section.packages)},
        versions={"packages": versions},
        options=ReadOptions(source_key="package", heading_key="heading"),
        files=lambda: _written(folders),
        left_out=tuple(str(folder / LEFT_OUT) for folder in folders.values()),
        task_bytes=PART_BYTES,
    )


def _folder(package: str, version: str) -> Path:
    about = json.dumps([FORM, version, platform.python_version()])
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    return cache_folder("documentation") / f"{package}-{key}"


def _written(folders: Mapping[str, Path]) -> list[InputFile]:
    for package, folder in folders.items():
        try:
            with build_lock(folder):
                if not folder.is_dir():
                    _write(package, folder)
        except OSError as error:
            raise DataError(
                f"cannot write {folder}: {error.strerror or error}; free space there, or point"
                " LYCEUM_CACHE elsewhere"
            ) from error
    patterns = [f"{glob.escape(str(folder))}/part-*.jsonl" for folder in folders.values()]
    return [file for pattern in patterns for file in list_files([pattern])]


def _write(package: str, folder: Path) -> None:
    """Write a package's documents, in the order of its modules, and the rows of those left out."""
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    left_out: list[LeftOut] = []
    lines = map(_documented, read_docstrings(source_files([package]), left_out))
    for number, part in enumerate(_parts(lines)):
        write_whole(partial / f"part-{number:05d}.jsonl", part)
    write_whole(partial / LEFT_OUT, b"".join(_line(asdict(row)) for row in left_out))
    partial.rename(folder)
    reasons = Counter(row.reason for row in left_out).most_common()
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons) or "nothing"
    log.info("%s: documentation of %s; left out: %s", folder, package, summary)


def _documented(document: Staged) -> bytes:
    about = {"id": document.id, "package": document.source, "heading": document.heading}
    return _line({**about, "text": document.text})


def _parts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines joined into parts of about PART_BYTES, at least one (which may be empty)."""
    waiting, size = [], 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"
