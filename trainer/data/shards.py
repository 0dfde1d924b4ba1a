"""One shard: a WebDataset tar read at byte offsets from the index beside it, never unpacked.

Nobody needs us to read a corpus. A plain reader has its documents one after the other:

    import json
    from pathlib import Path

    import numpy as np
    import webdataset

    folder = Path("corpora/web")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    token_type = np.dtype(manifest["token_dtype"]).newbyteorder("<")
    shards = [str(folder / shard["name"]) for shard in manifest["splits"]["train"]["shards"]]
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        tokens = np.frombuffer(sample["tokens"], token_type)
        about = json.loads(sample["json"])

`tokens` begin and end with the end of text, `manifest["tokenizer"]["end_of_text"]`; `tokenizer/`
in the folder is a Hugging Face tokenizer that decodes them; `about` has the document's `id` and
`source`, and how many `characters` its text has. In a set for fine-tuning, the ids are in the lower
bits, `tokens & 0x1fffffff`, and the upper ones say what is learned: see trainer.data.token_flags.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from trainer.data.manifest import TOKEN_DTYPES, Shard
from trainer.data.remote.location import place
from trainer.data.tar import plain_members
from trainer.errors import DataError
from trainer.files import whole_file
from trainer.parsing import read_json

MEND = "copy it again from its source, or build the corpus again"
READ_CHUNK_BYTES = 1 << 17


class Files(Protocol):
    """The local copies of a shard and its index, where it is remote; they stay until `close`."""

    @property
    def data(self) -> Path:
        """The path of the tar."""

    @property
    def index(self) -> Path:
        """The path of the index."""

    def close(self) -> None:
        """Release both."""


class ShardReader:
    """Random access to the documents of one shard.

    `folder`: the corpus; `shard`: its entry in the manifest; `token_dtype`: "uint16" or "uint32",
    as stored; `files`: local copies of a remote shard, which the reader closes. Opening checks the
    sizes, the index's checksum and that index and shard can belong together; the shard's own sha256
    is checked once a process, before its first token is returned (`verify="size"` skips that).
    Raises DataError naming the shard when it is missing, truncated, altered, or at odds with its
    index.
    """

    def __init__(
        self,
        folder: str | Path,
        shard: Shard,
        token_dtype: str,
        verify: Literal["hash", "size"] = "hash",
        files: Files | None = None,
    ):
        self.shard = shard
        self.path = place(folder) / shard.name
        self._files = files
        self._data = files.data if files else Path(folder) / shard.name
        self._dtype = np.dtype(token_dtype).newbyteorder("<")
        self._token_bytes = TOKEN_DTYPES[token_dtype]
        self._verified = verify == "size"
        self._file = -1
        self._index = self._read_index(files.index if files else Path(folder) / shard.index_name)
        # A memoryview: its items are plain integers, read several times faster than numpy's.
        self._offsets = np.ascontiguousarray(self._index[:, 0]).data
        self._file = self._open()

    @property
    def lengths(self) -> np.ndarray:
        """Stored tokens of each document, int64 [documents]."""
        return self._index[:, 1]

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        """Tokens `start:stop` of document `index`, [stop - start] in the stored type."""
        if not self._verified:
            self._verify()
        size = (stop - start) * self._token_bytes
        offset = self._offsets[index] + start * self._token_bytes
        return np.frombuffer(self._read(size, offset), dtype=self._dtype)

    def metadata(self, index: int) -> dict[str, Any]:
        """The builder's JSON for document `index`: id, source, characters."""
        if not self._verified:
            self._verify()
        offset, size = (int(value) for value in self._index[index, 2:])
        try:
            content = read_json(self._read(size, offset))
        except ValueError as error:
            raise self._bad(
                f"and its index disagree: document {index} is not JSON ({error})"
            ) from None
        return dict(content)

    def close(self) -> None:
        """Close the file; a closed reader must not be used again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._files is not None:
            self._files.close()

    def __del__(self) -> None:
        self.close()

    def _read(self, size: int, offset: int) -> bytes:
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise self._bad(f"ends early: it has no byte {offset + len(data)}")
        return data

    def _open(self) -> int:
        try:
            file = os.open(self._data, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._bad("is missing") from None
        except OSError as error:
            raise self._bad(f"cannot be opened ({error.strerror})") from None
        size = os.fstat(file).st_size
        if size != self.shard.bytes:
            os.close(file)
            state = "is truncated" if size < self.shard.bytes else "was altered"
            raise self._bad(f"{state}: {size} bytes, the manifest says {self.shard.bytes}")
        return file

    def _verify(self) -> None:
        status = os.fstat(self._file)
        found = file_sha256(str(self._data), status.st_size, status.st_mtime_ns)
        if found != self.shard.sha256:
            raise self._bad(
                f"was altered: sha256 {found[:12]}, the manifest says {self.shard.sha256[:12]}"
            )
        self._verified = True

    def _read_index(self, path: Path) -> np.ndarray:
        try:
            status = path.stat()
            found = file_sha256(str(path), status.st_size, status.st_mtime_ns)
            if found != self.shard.index_sha256:
                raise self._bad("has an index that was altered or belongs to another shard")
            index = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise self._bad("has lost its index") from None
        except (OSError, ValueError) as error:
            raise self._bad(f"has an index that cannot be read ({error})") from None
        problem = _index_problem(index, self.shard, self._token_bytes)
        if problem:
            raise self._bad(f"and its index disagree: {problem}")
        return index

    def _bad(self, what: str) -> DataError:
        return DataError(f"shard {self.path} {what}; {MEND}")


def _index_problem(index: np.ndarray, shard: Shard, token_bytes: int) -> str | None:
    if index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 4:
        return f"the index holds {index.dtype} {list(index.shape)}, not int64 [documents, 4]"
    if len(index) != shard.documents:
        return f"the index lists {len(index)} documents, the manifest {shard.documents}"
    if int(index[:, 1].sum()) != shard.tokens:
        return f"the index counts {int(index[:, 1].sum())} tokens, the manifest {shard.tokens}"
    if len(index) == 0:
        return None
    if int(index[:, 1].min()) < 2:
        return f"document {int(index[:, 1].argmin())} has fewer than 2 tokens"
    ends = np.maximum(index[:, 0] + index[:, 1] * token_bytes, index[:, 2] + index[:, 3])
    if int(index.min()) < 0 or int(ends.max()) > shard.bytes:
        return f"document {int(ends.argmax())} lies outside the shard's {shard.bytes} bytes"
    return None


@lru_cache(maxsize=1 << 18)
def file_sha256(path: str, size: int, modified_ns: int) -> str:
    """sha256 of a file, in hex; cached in the process by path, size and modification time."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(READ_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def index_tar(path: str | Path, token_dtype: str) -> np.ndarray:
    """Index the samples KEY.json + KEY.tokens of a tar.

    Returns int64 [documents, 4]: offset of the token bytes, number of tokens, offset and size of
    the json bytes.
    Raises DataError naming the tar when a sample is incomplete.
    """
    token_bytes = TOKEN_DTYPES[token_dtype]
    rows: list[tuple[int, int, int, int]] = []
    waiting: dict[str, dict[str, tuple[int, int]]] = {}
    for name, offset, size in plain_members(path) or _members(path):
        folder, _, base = name.rpartition("/")
        stem, _, kind = base.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        sample = waiting.setdefault(key, {})
        sample[kind] = (offset, size)
        if "json" in sample and "tokens" in sample:
            tokens, metadata = sample["tokens"], sample["json"]
            if tokens[1] % token_bytes:
                raise DataError(
                    f"{path}: sample {key} is not a whole number of {token_dtype} tokens"
                )
            rows.append((tokens[0], tokens[1] // token_bytes, *metadata))
            del waiting[key]
    if waiting:
        raise DataError(f"{path}: sample {next(iter(waiting))} has no .json or no .tokens")
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _members(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the content of each member of any tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                _refuse_place(path, member)
                yield member.name, member.offset_data, member.size
                # tarfile would keep the header of every member.
                tar.members = []  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a readable tar ({error})") from None


def _refuse_place(path: str | Path, member: tarfile.TarInfo) -> None:
    """Raise DataError for a member that would leave the folder it is unpacked into.

    We never unpack one, but someone who is given the shard may.
    """
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or not member.isfile():
        raise DataError(
            f"{path}: member {member.name!r} is no plain file below the shard's own folder: the tar"
            " is not one of ours, or was made to harm; build the corpus again"
        )


def seal_shard(folder: str | Path, name: str, token_dtype: str) -> Shard:
    """Index a finished tar, write the index beside it, and return its entry for the manifest.

    The files are flushed to disk; the index appears under its name only when whole.
    """
    path = Path(folder) / name
    index = index_tar(path, token_dtype)
    index_path = Path(folder) / (name.removesuffix(".tar") + ".index.npy")
    with whole_file(index_path) as file:
        np.save(file, index, allow_pickle=False)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    status, index_status = path.stat(), index_path.stat()
    return Shard(
        name=name,
        bytes=status.st_size,
        sha256=file_sha256(str(path), status.st_size, status.st_mtime_ns),
        index_sha256=file_sha256(str(index_path), index_status.st_size, index_status.st_mtime_ns),
        documents=len(index),
        tokens=int(index[:, 1].sum()),
    )
