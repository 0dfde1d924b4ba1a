"""The manifest of a corpus folder: its shards, their checksums and counts, and its tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from trainer.collector import without_collector
from trainer.data.remote.location import Place, Url, place
from trainer.errors import DataError
from trainer.files import write_whole
from trainer.hub.names import set_meant
from trainer.parsing import read_json
from trainer.recipe.data import RemoteSection

FORMAT = "lyceum-corpus/1"
MANIFEST_NAME = "manifest.json"
KINDS = {"documents": 1, "conversations": 1, "pairs": 2, "judged": 2}
"""The kinds of corpus, and how many segments of a row one example takes: `pairs` are a chosen and a
rejected answer, `judged` an answer and the answer to another prompt (KTO). All but `documents` are
sets for fine-tuning, whose tokens carry the flags of trainer.data.token_flags.
"""
TOKEN_DTYPES = {"uint16": 2, "uint32": 4}
"""Stored token types and their size in bytes."""
_NPY_HEADER_BYTES = 4096
_INDEX_ROW_BYTES = 32


class Shard(NamedTuple):
    """One tar of tokenized documents; `name` is relative to the corpus folder.

    `sha256` and `index_sha256` are hexadecimal. A tuple, because a corpus of billions of documents
    has 100,000 shards, and resuming has to parse them all.
    """

    name: str
    bytes: int
    sha256: str
    index_sha256: str
    documents: int
    tokens: int

    @property
    def index_name(self) -> str:
        """Name of the index file, relative to the corpus folder."""
        return self.name.removesuffix(".tar") + ".index.npy"

    @property
    def index_bytes(self) -> int:
        """The most that the index takes up."""
        return _NPY_HEADER_BYTES + _INDEX_ROW_BYTES * self.documents


@dataclass(frozen=True, slots=True)
class Split:
    """The shards of `train` or `validation` with their totals."""

    documents: int
    tokens: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Manifest:
    """What must be known of a corpus before one of its documents is read.

    `tokenizer_fingerprint`: the sha256 of its tokenizer.json, in hex; `tokenizer_size`: the largest
    id + 1; `end_of_text`: the id that ends a document; `token_dtype`: a key of TOKEN_DTYPES;
    `splits`: by name, `train` and `validation`; `provenance`: the settings and the versions of the
    sources that it was built from; `kind`: a key of KINDS; `tokenizer_files`: the sha256 of each
    file of the tokenizer's folder, its templates too, by name (empty for an older corpus).
    """

    tokenizer_fingerprint: str
    tokenizer_size: int
    end_of_text: int
    token_dtype: str
    splits: dict[str, Split]
    provenance: dict[str, Any] = field(default_factory=dict)
    kind: str = "documents"
    tokenizer_files: dict[str, str] = field(default_factory=dict)

    @property
    def marked(self) -> bool:
        """Whether the tokens carry the flags of trainer.data.token_flags."""
        return self.kind != "documents"

    @property
    def made_of(self) -> str | None:
        """The set of examples or the tars that were made into these shards in the cache; None for
        a corpus that has a name of its own.
        """
        settings = self.provenance.get("settings", {})
        return settings.get("source") if self.marked or "text" in settings else None

    @cached_property
    def stored_bytes(self) -> dict[str, Sequence[int]]:
        """Of each split, by name: the bytes of its shards with their indexes, largest first.

        Computed once: every evaluation asks for them, and a large corpus has 300,000 shards.
        """
        return {
            name: sorted((one.bytes + one.index_bytes for one in part.shards), reverse=True)
            for name, part in self.splits.items()
        }


def total_split(shards: list[Shard]) -> Split:
    """A split over these shards, with the totals added up."""
    return Split(
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        shards=tuple(shards),
    )


def token_dtype_for(tokenizer_size: int) -> str:
    """The smallest stored type that holds every id of a tokenizer of this size."""
    return "uint16" if tokenizer_size <= 2**16 else "uint32"


def load_manifest(folder: str | Path, remote: RemoteSection | None = None) -> Manifest:
    """Read and check the manifest of a corpus folder, or of a corpus at a URL.

    `remote`: the retries and timeouts for a URL. Raises DataError, naming the folder, when the
    manifest is missing, half-built, of another format, or cannot be fetched.
    """
    with without_collector():
        return _load(place(folder), remote or RemoteSection())


def _load(folder: Place, remote: RemoteSection) -> Manifest:
    path: Place | str = folder / MANIFEST_NAME
    try:
        if isinstance(path, Url):
            content = read_json(_fetched(path, remote))
            path = path.shown
        else:
            content = read_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(_why_missing(Path(folder))) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): build the corpus again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} has format {found!r}, this version reads {FORMAT!r}")
    try:
        manifest = _parse(content)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is damaged ({detail}): build the corpus again") from None
    return manifest


def _fetched(url: Url, remote: RemoteSection) -> bytes:
    from trainer.data.remote.transfer import Attempts, read_whole

    return read_whole(url, Attempts(remote))


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write the manifest so that it appears whole or not at all."""
    content = {
        "format": FORMAT,
        "tokenizer": {
            "fingerprint": manifest.tokenizer_fingerprint,
            "size": manifest.tokenizer_size,
            "end_of_text": manifest.end_of_text,
            "files": manifest.tokenizer_files,
        },
        "token_dtype": manifest.token_dtype,
        "kind": manifest.kind,
        "splits": {name: _split_content(split) for name, split in manifest.splits.items()},
        "provenance": manifest.provenance,
    }
    # Indented for human readers while it is short; indenting costs seconds at 100,000 shards.
    shards = sum(len(split.shards) for split in manifest.splits.values())
    text = json.dumps(content, indent=1 if shards < 1000 else None, ensure_ascii=False)
    write_whole(Path(folder) / MANIFEST_NAME, text)


def check_tokenizer(
    manifest: Manifest, fingerprint: str, corpus: str | Path = "the corpus"
) -> None:
    """Raise DataError unless the shards were made with the tokenizer of this fingerprint.

    `fingerprint` is the sha256 of tokenizer.json, in hex.
    """
    if manifest.tokenizer_fingerprint != fingerprint:
        raise DataError(
            f"{corpus} was tokenized with tokenizer {manifest.tokenizer_fingerprint[:12]}, not with"
            f" {fingerprint[:12]}: use the corpus's own tokenizer/ folder or build the corpus again"
        )


def check_tokenizer_files(manifest: Manifest, found: Mapping[str, str], corpus: Place) -> None:
    """Raise DataError where a file of a corpus's own tokenizer is not what was built with it.

    `found`: the sha256 of each file that was read, by name; behind an address not all are asked
    for.
    """
    for name, sha256 in manifest.tokenizer_files.items():
        if found.get(name) != sha256 and not (isinstance(corpus, Url) and name not in found):
            fault = "was altered (its sha256 differs)" if name in found else "is missing"
            raise DataError(
                f"{corpus}/tokenizer/{name} {fault}: put it back, or build the corpus again"
            )
    if manifest.tokenizer_files and (more := sorted(set(found) - set(manifest.tokenizer_files))):
        raise DataError(
            f"{corpus}/tokenizer/{more[0]} was not there when the corpus was built: remove it, or"
            " build the corpus again"
        )


def _why_missing(folder: Path) -> str:
    partial = folder if folder.suffix == ".partial" else folder.with_name(folder.name + ".partial")
    if partial.is_dir():
        return f"the corpus {folder} is half-built: finish it with `lyceum corpus build`"
    if not folder.is_dir():
        meant = set_meant(str(folder))
        return f"no corpus at {folder}: build one with `lyceum corpus build`{meant}"
    return f"{folder} is not a corpus: it has no {MANIFEST_NAME}"


def _split_content(split: Split) -> dict[str, Any]:
    shards = [shard._asdict() for shard in split.shards]
    return {"documents": split.documents, "tokens": split.tokens, "shards": shards}


def _parse(content: dict[str, Any]) -> Manifest:
    tokenizer = content["tokenizer"]
    if content["token_dtype"] not in TOKEN_DTYPES:
        raise ValueError(
            f"token_dtype {content['token_dtype']!r} is not one of {list(TOKEN_DTYPES)}"
        )
    kind = content.get("kind", "documents")
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not one of {list(KINDS)}")
    provenance = content.get("provenance", {})
    if not isinstance(provenance, dict) or not isinstance(provenance.get("settings", {}), dict):
        raise ValueError("its provenance is no object")
    return Manifest(
        kind=kind,
        tokenizer_fingerprint=str(tokenizer["fingerprint"]),
        tokenizer_size=int(tokenizer["size"]),
        end_of_text=int(tokenizer["end_of_text"]),
        token_dtype=content["token_dtype"],
        splits={name: _parse_split(name, split) for name, split in content["splits"].items()},
        provenance=provenance,
        tokenizer_files={str(name): str(sha) for name, sha in tokenizer.get("files", {}).items()},
    )


def _parse_split(name: str, content: dict[str, Any]) -> Split:
    read_shard = itemgetter(*Shard._fields)
    shards = [Shard._make(read_shard(shard)) for shard in content["shards"]]
    for shard in shards:
        if ".." in shard.name or shard.name.startswith("/"):
            raise ValueError(f"shard name {shard.name!r} leads out of the corpus")
    split = total_split(shards)
    if (split.documents, split.tokens) != (content["documents"], content["tokens"]):
        raise ValueError(f"the totals of split {name!r} are not those of its shards")
    return split
