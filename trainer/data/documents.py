"""Documents: the texts a corpus is made of, and the ledger of what was read and what was
dropped.
"""

import glob
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import DataError

EXAMPLES_KEPT = 20
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `id` is its qualified name or path, `source` the package or file it came from.

    `body_start` is where the text proper begins, behind a heading that names it: duplicates are
    judged by what stands from there on, so that one docstring under two names counts as one.
    """

    id: str
    source: str
    text: str
    body_start: int = 0

    @property
    def body(self) -> str:
        """The text without its heading."""
        return self.text[self.body_start :]


@dataclass
class Ledger:
    """How much was read from each source, and what each rule dropped, with the first few
    examples.
    """

    read: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    content_sha256: str | None = None

    def drop(self, rule: str, **what: Any) -> None:
        """Count one drop by `rule`; `what` (JSON values) is kept as an example if it is among
        the first.
        """
        self.dropped[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES_KEPT:
            examples.append(what)

    def absorb(self, other: "Ledger") -> None:
        """Add the counts of a ledger that a worker kept."""
        self.read.update(other.read)
        self.files.update(other.files)
        self.dropped.update(other.dropped)
        for rule, found in other.examples.items():
            examples = self.examples.setdefault(rule, [])
            examples.extend(found[: EXAMPLES_KEPT - len(examples)])

    def summary(self) -> dict[str, Any]:
        """The ledger as JSON values, in a fixed order."""
        summary: dict[str, Any] = {
            "files": dict(sorted(self.files.items())),
            "documents_read": dict(sorted(self.read.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "dropped_examples": dict(sorted(self.examples.items())),
        }
        if self.content_sha256 is not None:
            summary["content_sha256"] = self.content_sha256
        return summary


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and globs name, each once, in the order of the patterns, sorted within
    each.

    Raises DataError for a pattern that names nothing, a folder, or a kind of file that is not read.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        expanded = Path(pattern).expanduser()
        names = [str(expanded)] if expanded.exists() else glob.glob(str(expanded), recursive=True)
        paths = sorted(Path(name) for name in names)
        if not paths:
            raise DataError(f"corpus.files: {pattern} names no file: mend the path or the glob")
        for path in paths:
            if path.is_dir():
                if len(paths) == 1:
                    raise DataError(
                        f"corpus.files: {path} is a folder: give files, or a glob such as"
                        f" {path}/**/*.txt"
                    )
                continue
            if not path.is_file():
                raise DataError(f"corpus.files: {path} leads to no file: mend or remove it")
            if path.suffix not in TEXT_SUFFIXES:
                raise DataError(
                    f"corpus.files: {path} is not one of {', '.join(TEXT_SUFFIXES)}: convert it or"
                    " leave it out"
                )
            found[path] = None
    return list(found)


def read_text_files(
    paths: Sequence[Path],
    minimum_characters: int,
    ledger: Ledger,
    advance: Callable[[int], None] = lambda size: None,
) -> Iterator[Document]:
    """Read .txt and .md (a document a file) and .jsonl (a document a line: `text`, perhaps `id`).

    `advance` is told the bytes of each file read. Raises DataError with file and byte offset for
    what is not UTF-8, with file and line for a bad record.
    """
    content = hashlib.sha256()
    for path in paths:
        ledger.files["text"] += 1
        records = _jsonl(path, content) if path.suffix == ".jsonl" else _whole(path, content)
        for document in records:
            ledger.read["text"] += 1
            characters = len(document.text.strip())
            if characters < max(minimum_characters, 1):
                ledger.drop("too short", id=document.id, characters=characters)
                continue
            yield document
        advance(path.stat().st_size)
    ledger.content_sha256 = content.hexdigest()


def _whole(path: Path, content: Any) -> Iterator[Document]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    content.update(data)
    yield Document(str(path), str(path), _decode(path, data, 0))


def _jsonl(path: Path, content: Any) -> Iterator[Document]:
    offset = 0
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    with file:
        for number, line in enumerate(file, start=1):
            content.update(line)
            text = _decode(path, line, offset)
            offset += len(line)
            if not text.strip():
                continue
            yield _record(path, number, text)


def _record(path: Path, number: int, line: str) -> Document:
    where = f"{path} line {number}"
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from None
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise DataError(f'{where} has no "text" string: each line must be an object that holds one')
    if not is_unicode(text):
        raise DataError(f"{where} holds a lone surrogate, which is not Unicode text: remove it")
    name = str(record.get("id", ""))
    return Document(name if name and is_unicode(name) else f"{path}:{number}", str(path), text)


def _decode(path: Path, data: bytes, offset: int) -> str:
    start = 3 if offset == 0 and data.startswith(b"\xef\xbb\xbf") else 0
    try:
        return data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[at]:02x} at offset {offset + at}; convert it"
            " to UTF-8"
        ) from None
