"""Check a corpus folder against its manifest, independently of the code that reads or writes it."""

import hashlib
from pathlib import Path

import numpy as np

from trainer.data.manifest import MANIFEST_NAME, Manifest, Shard, load_manifest
from trainer.data.remote.location import local_folder
from trainer.data.shards import index_tar
from trainer.data.token_flags import ID_MASK
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError

TOKENIZER = "tokenizer"
MADE_FROM_OTHERS = ("DATA_CARD.md", "timings.json")
"""Files for human readers, which no hash covers."""
CHUNK_BYTES = 1 << 20


def verify_corpus(folder: str | Path) -> list[str]:
    """All problems found, one line each, naming the file; an empty list for a sound corpus.

    Raises DataError when there is no manifest to check against.
    """
    folder = local_folder(folder)
    manifest = load_manifest(folder)
    problems = _tokenizer_problems(folder, manifest)
    for split in manifest.splits.values():
        for shard in split.shards:
            problems.extend(_shard_problems(folder, shard, manifest))
    problems.extend(_trail_problems(folder, manifest))
    return problems + _extra_files(folder, manifest)


def _tokenizer_problems(folder: Path, manifest: Manifest) -> list[str]:
    try:
        tokenizer = load_tokenizer(folder / TOKENIZER)
    except DataError as error:
        return [str(error)]
    problems = []
    if tokenizer.fingerprint != manifest.tokenizer_fingerprint:
        problems.append(
            f"{TOKENIZER}: is not the one that made the shards: its sha256"
            f" {tokenizer.fingerprint[:12]}, the manifest's {manifest.tokenizer_fingerprint[:12]}"
        )
    if tokenizer.end_of_text != manifest.end_of_text:
        problems.append(
            f"{TOKENIZER}: ends documents with {tokenizer.end_of_text}, the manifest says"
            f" {manifest.end_of_text}"
        )
    return problems


def _shard_problems(folder: Path, shard: Shard, manifest: Manifest) -> list[str]:
    problems = []
    path, index_path = folder / shard.name, folder / shard.index_name
    if not path.is_file():
        problems.append(f"{shard.name}: missing")
    elif (size := path.stat().st_size) < shard.bytes:
        problems.append(f"{shard.name}: truncated: {size} of {shard.bytes} bytes")
    elif size > shard.bytes:
        problems.append(f"{shard.name}: altered: {size} bytes, the manifest says {shard.bytes}")
    elif _sha256(path) != shard.sha256:
        problems.append(f"{shard.name}: altered: its sha256 is not the manifest's")
    if not index_path.is_file():
        problems.append(f"{shard.name}: its index {shard.index_name} is missing")
    elif _sha256(index_path) != shard.index_sha256:
        problems.append(f"{shard.name}: its index {shard.index_name} was altered")
    # What a damaged file contains says nothing more.
    return problems or _content_problems(path, index_path, shard, manifest)


def _content_problems(path: Path, index_path: Path, shard: Shard, manifest: Manifest) -> list[str]:
    try:
        index = np.load(index_path, allow_pickle=False)
        found = index_tar(path, manifest.token_dtype)
    except (DataError, ValueError, OSError) as error:
        return [f"{shard.name}: cannot be read: {error}"]
    if not np.array_equal(index, found):
        return [f"{shard.name}: shard and index disagree: the tar's samples are not the index's"]
    problems = []
    counts = (len(index), int(index[:, 1].sum()))
    if counts != (shard.documents, shard.tokens):
        problems.append(
            f"{shard.name}: holds {counts[0]} documents, {counts[1]} tokens, the manifest says"
            f" {shard.documents} and {shard.tokens}"
        )
    dtype = np.dtype(manifest.token_dtype).newbyteorder("<")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for number, (offset, length) in enumerate(index[:, :2].tolist()):
        tokens = data[offset : offset + length * dtype.itemsize].view(dtype)
        end = manifest.end_of_text
        if manifest.marked:
            tokens = tokens & np.uint32(ID_MASK)
        elif length < 2 or tokens[0] != end or tokens[-1] != end:
            problems.append(f"{shard.name}: document {number} does not begin and end with {end}")
        if length and int(tokens.max()) >= manifest.tokenizer_size:
            problems.append(f"{shard.name}: document {number} has a token beyond the tokenizer's")
    return problems


def _trail_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Problems of the files that record the curation: curation.json, audit/, quarantine/."""
    problems = []
    for name, digest in manifest.provenance.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif _sha256(path) != digest:
            problems.append(f"{name}: altered: its sha256 is not the manifest's")
    return problems


def _extra_files(folder: Path, manifest: Manifest) -> list[str]:
    expected = {MANIFEST_NAME, *MADE_FROM_OTHERS, *manifest.provenance.get("files", {})}
    for split in manifest.splits.values():
        for shard in split.shards:
            expected |= {shard.name, shard.index_name}
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    own = (TOKENIZER, "references")
    names = sorted(str(path) for path in found if path.parts[0] not in own)
    return [f"{name}: not in the manifest" for name in names if name not in expected]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
