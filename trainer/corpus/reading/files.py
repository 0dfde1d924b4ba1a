"""The files that a corpus is read from: paths and globs, local, on S3 or over HTTP."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trainer.addresses import without_named_secrets, without_secrets
from trainer.corpus.reading.remote import filesystem, named_errors, scheme_of
from trainer.corpus.reading.unicode import unicode_fault
from trainer.errors import DataError
from trainer.hub.names import is_address, page_of, set_meant, set_name
from trainer.hub.snapshots import fetch
from trainer.hub.splits import files_of
from trainer.recipe.data import Access

PLAINLY = Access()
"""With credentials, and redirects to public hosts alone."""
COMPRESSIONS = (".gz", ".zst")
KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".warc": "warc",
    ".wet": "warc",
}
UNKNOWN_BYTES = -1
FILES_KEY = "corpus.files"
"""The recipe's key that errors name, unless another one holds the patterns."""


@dataclass(frozen=True, slots=True, order=True)
class InputFile:
    """A file to read.

    `path`: a path or URL; `bytes`: its size as stored, -1 where a web server reports none;
    `version`: changes with its content: size and modification time of a local file, size and ETag
    (else Last-Modified) of a remote one, empty where a server reports neither; `pattern`: the entry
    of `corpus.files` that names it; `copy_of`: the address on the hub of a tar from there.
    """

    path: str
    bytes: int
    version: str
    pattern: str = ""
    copy_of: str = ""

    @property
    def shown(self) -> str:
        """The path for messages and shards: without a URL's query, which may hold a signature; of a
        copy from the hub, its address there.
        """
        return self.copy_of or without_secrets(self.path)

    @property
    def identity(self) -> list[Any]:
        """JSON values that change with the file's content, and not with a signature."""
        path = self.shown if self.version else without_named_secrets(self.path)
        return [path, self.bytes, self.version]


def kind_of(path: str, key: str = FILES_KEY) -> tuple[str, str]:
    """The format ("jsonl", "json", "parquet", "text", "html", "warc") and the compression (".gz",
    ".zst" or "") by a file's name.

    Raises DataError, beginning with `key`, for any other name.
    """
    name = urlsplit(path).path if scheme_of(path) in ("http", "https") else path
    stem, suffix = os.path.splitext(name.lower())
    compression = suffix if suffix in COMPRESSIONS else ""
    if compression:
        suffix = os.path.splitext(stem)[1]
    if suffix not in KINDS:
        raise DataError(
            f"{key}: {path} is not one of {', '.join(KINDS)}, each also with"
            f" {' or '.join(COMPRESSIONS)}: convert it or leave it out"
        )
    if compression and KINDS[suffix] == "parquet":
        raise DataError(
            f"{key}: {path}: Parquet is compressed inside and read by jumps: unpack it to .parquet"
        )
    return KINDS[suffix], compression


def list_files(
    patterns: Sequence[str], access: Access = PLAINLY, key: str = FILES_KEY
) -> list[InputFile]:
    """The files that paths and globs name (local, s3://, https://, http://), sorted, each once.

    hf://org/set names the files of a set's training split: `trainer.hub.names.set_name`.

    `access`: how remote files are asked for; `key`: the recipe's key that holds the patterns, with
    which errors begin. Raises DataError for a pattern that matches nothing, a
    folder, an unknown format, and for a server that cannot be reached or refuses access.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        matches = find_files(pattern, access, key)
        if not matches:
            raise DataError(
                f"{key}: {pattern} names no file: mend the path or the glob{set_meant(pattern)}"
            )
        for file in matches:
            kind_of(file.path, key)
            if unicode_fault(file.path):
                raise DataError(f"{key}: {file.path!r}: its name is not Unicode: rename it")
            # One file under two names (a link, ./) is one file; but in the hub's cache two files of
            # one content are links to one.
            named = is_address(pattern) or scheme_of(file.path)
            identity = file.path if named else os.path.realpath(file.path)
            known = found.get(identity, file)
            found[identity] = min(file, known, key=_nearest)
    return sorted(found.values())


def find_files(pattern: str, access: Access = PLAINLY, key: str = FILES_KEY) -> list[InputFile]:
    """The files of one path or glob, of any format; raises DataError, beginning with `key`, for a
    folder, and as a server does.
    """
    if is_address(pattern):
        return list(_fetched(pattern))
    if (page := page_of(pattern)) is not None:
        raise DataError(f"{key}: {pattern} is a page of the hub; write {page}")
    return list(_remote(pattern, access, key) if scheme_of(pattern) else _local(pattern, key))


def _nearest(file: InputFile) -> tuple[int, str, int, str]:
    """By its shortest name, and the longest of the entries that name it so."""
    return len(file.path), file.path, -len(file.pattern), file.pattern


def local_version(status: os.stat_result) -> str:
    """The `version` of a local file: size and modification time in ns."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _local(pattern: str, key: str) -> Iterator[InputFile]:
    expanded = os.path.expanduser(pattern)
    named = os.path.lexists(expanded)
    for path in [expanded] if named else glob.iglob(expanded, recursive=True):
        if os.path.isdir(path):
            if named:
                raise _folder(path, key)
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(
                f"{key}: {path} cannot be read ({error.strerror}): mend or remove it"
            ) from None
        yield InputFile(path, status.st_size, local_version(status), pattern)


def _fetched(address: str) -> Iterator[InputFile]:
    """The files of a set's split, fetched from the Hugging Face hub into its cache."""
    name = set_name(address)
    folder, files = fetch(name, lambda names, read: files_of(name, names, read))
    for file in files:
        path = os.path.join(folder, file)
        status = os.stat(path)
        yield InputFile(path, status.st_size, local_version(status))


def _remote(pattern: str, access: Access, key: str) -> Iterator[InputFile]:
    files = filesystem(pattern, access)
    s3 = scheme_of(pattern) == "s3"
    # In a web address, a question mark begins the query.
    is_glob = any(sign in pattern for sign in ("*?[" if s3 else "*"))
    with named_errors(pattern):
        if not is_glob:
            found = {pattern: files.info(pattern)}
        elif s3:
            listed = files.glob(pattern, detail=True)
            found = {f"s3://{name}": details for name, details in listed.items()}
        else:
            # The page's listing knows names only; each file is asked for its size and version.
            found = {name: files.info(name) for name in _linked(files, pattern, key)}
    for path, details in found.items():
        if details.get("type") == "directory":
            if not is_glob:
                raise _folder(path, key)
            continue
        size = details.get("size")
        size = UNKNOWN_BYTES if size is None else int(size)
        tags = map(details.get, ("ETag", "Last-Modified", "LastModified"))
        tag = next(filter(None, tags), "")
        yield InputFile(path, size, f"{size}-{tag}" if tag else "", pattern)


def _linked(files: Any, pattern: str, key: str) -> list[str]:
    """The URLs in a web server's listing that match. Raises DataError where none do."""
    try:
        names = sorted(name for name in files.glob(pattern) if not name.endswith("/"))
    except FileNotFoundError:
        names = []
    if not names:
        raise DataError(
            f"{key}: {pattern} names no file: a glob over http works only where the server"
            " lists the folder; give each file's address"
        )
    return names


def _folder(path: str, key: str) -> DataError:
    return DataError(
        f"{key}: {path} is a folder: give files, or a glob such as {path.rstrip('/')}/**/*.jsonl"
    )
