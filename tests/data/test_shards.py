"""A shard gives exactly the stored tokens, or an error that names it."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from tests.data.corpora import random_documents, write_corpus
from trainer.data import shards
from trainer.data.manifest import Shard, load_manifest
from trainer.data.shards import ShardReader, file_sha256, index_tar, seal_shard
from trainer.data.token_flags import ID_MASK
from trainer.errors import DataError

DOCUMENTS = random_documents([2, 3, 700, 41, 5000], seed=3)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of one shard."""
    return write_corpus(tmp_path / "corpus", [DOCUMENTS])


def open_only_shard(corpus: Path, **changes) -> ShardReader:
    manifest = load_manifest(corpus)
    shard = manifest.splits["train"].shards[0]._replace(**changes)
    return ShardReader(corpus, shard, manifest.token_dtype)


def read_all(reader: ShardReader) -> list[list[int]]:
    return [reader.tokens(i, 0, int(n)).tolist() for i, n in enumerate(reader.lengths)]


@pytest.mark.parametrize("token_dtype", ["uint16", "uint32"])
def test_the_plain_reader_of_the_documentation_reads_them(tmp_path: Path, token_dtype: str) -> None:
    """Catches a documented snippet that does not run, or gives other tokens than ours."""
    documentation = shards.__doc__ or ""
    lines = [line[4:] for line in documentation.splitlines() if line[:4] == "    " or not line]
    (loop,) = [number for number, line in enumerate(lines) if line.startswith("    about")]
    snippet = "\n".join([*lines[: loop + 1], "    read.append((tokens.tolist(), about))"])
    corpus = write_corpus(
        tmp_path / "corpus", [DOCUMENTS[:3], DOCUMENTS[3:]], token_dtype=token_dtype
    )
    read: list[tuple[list[int], dict[str, str]]] = []
    exec(snippet.replace("corpora/web", str(corpus)), {"read": read})
    assert [tokens for tokens, _ in read] == DOCUMENTS
    assert [about["id"] for _, about in read[2:4]] == ["train.0.2", "train.1.0"]
    assert f"{ID_MASK:#x}" in documentation


@pytest.mark.parametrize("token_dtype", ["uint16", "uint32"])
def test_documents_read_back_as_written(tmp_path: Path, token_dtype: str) -> None:
    """Catches a wrong offset, element size or byte order."""
    corpus = write_corpus(tmp_path / "corpus", [DOCUMENTS], token_dtype=token_dtype)
    reader = open_only_shard(corpus)
    assert read_all(reader) == DOCUMENTS
    assert reader.tokens(2, 100, 200).tolist() == DOCUMENTS[2][100:200]
    assert reader.metadata(3)["id"] == "train.0.3"


def test_a_shard_is_an_ordinary_webdataset(corpus: Path) -> None:
    """Catches a shard that only our reader understands."""
    samples = webdataset.WebDataset(str(corpus / "train/shard-00000.tar"), shardshuffle=False)
    read = [np.frombuffer(sample["tokens"], dtype="<u2").tolist() for sample in samples]
    assert read == DOCUMENTS


def test_a_truncated_shard_is_found_on_opening(corpus: Path) -> None:
    """Catches a shard cut short by an interrupted copy."""
    path = corpus / "train/shard-00000.tar"
    os.truncate(path, path.stat().st_size - 512)
    with pytest.raises(DataError, match=r"shard-00000\.tar is truncated: \d+ bytes"):
        open_only_shard(corpus)


def test_a_missing_shard_or_index_is_found_on_opening(corpus: Path) -> None:
    """Catches a lost file that would be passed over."""
    (corpus / "train/shard-00000.tar").rename(corpus / "elsewhere")
    with pytest.raises(DataError, match=r"shard-00000\.tar is missing"):
        open_only_shard(corpus)
    (corpus / "elsewhere").rename(corpus / "train/shard-00000.tar")
    (corpus / "train/shard-00000.index.npy").unlink()
    with pytest.raises(DataError, match=r"shard-00000\.tar has lost its index"):
        open_only_shard(corpus)


def test_one_altered_byte_is_found_before_the_first_token(corpus: Path) -> None:
    """Catches a bit that flipped on disk; the size alone says nothing."""
    reader = open_only_shard(corpus)
    assert reader.tokens(0, 0, 2).tolist() == DOCUMENTS[0], "the check passes an intact shard"
    offset = reader._offsets[4]
    path = corpus / "train/shard-00000.tar"
    with path.open("r+b") as file:
        file.seek(offset + 100)
        byte = file.read(1)
        file.seek(offset + 100)
        file.write(bytes([byte[0] ^ 1]))
    altered = open_only_shard(corpus)
    with pytest.raises(DataError, match=r"shard-00000\.tar was altered: sha256"):
        altered.tokens(0, 0, 2)
    with pytest.raises(DataError, match="was altered"):
        altered.metadata(0)


def test_a_shard_cut_while_it_is_open_is_an_error_not_zeros(corpus: Path) -> None:
    """Catches a short read taken for a short document (and, with mmap, a dead process)."""
    reader = open_only_shard(corpus)
    reader.tokens(0, 0, 2)
    os.truncate(corpus / "train/shard-00000.tar", 4096)
    with pytest.raises(DataError, match=r"shard-00000\.tar ends early: it has no byte \d+"):
        reader.tokens(4, 0, 5000)


def test_an_altered_index_is_found_on_opening(corpus: Path) -> None:
    """Catches an index that was copied from another shard or edited."""
    path = corpus / "train/shard-00000.index.npy"
    index = np.load(path)
    index[0, 0] += 2
    np.save(path, index)
    with pytest.raises(DataError, match=r"shard-00000\.tar has an index that was altered"):
        open_only_shard(corpus)


def move_one_token_from_the_first_document(index: np.ndarray) -> np.ndarray:
    index[0, 1] -= 1
    index[1, 1] += 1
    return index


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index[:-1], "lists 4 documents, the manifest 5"),
        (lambda index: index + np.array([0, 1, 0, 0]), "tokens, the manifest"),
        (lambda index: index + np.array([10**7, 0, 0, 0]), "lies outside the shard"),
        (lambda index: index - np.array([10**7, 0, 0, 0]), "lies outside the shard"),
        (lambda index: index[:, :3], "not int64"),
        (lambda index: index.astype(np.float64), "not int64"),
        (move_one_token_from_the_first_document, "document 0 has fewer than 2 tokens"),
    ],
)
def test_an_index_at_odds_with_its_shard_is_found(corpus: Path, change, words: str) -> None:
    """Catches an index that is intact and wrong: made for another build of the shard."""
    path = corpus / "train/shard-00000.index.npy"
    np.save(path, change(np.load(path)))
    status = path.stat()
    fresh = file_sha256(str(path), status.st_size, status.st_mtime_ns)
    with pytest.raises(DataError, match=rf"shard-00000\.tar and its index disagree: .*{words}"):
        open_only_shard(corpus, index_sha256=fresh)


def test_an_index_cannot_run_code(corpus: Path) -> None:
    """Catches an index loaded with pickle allowed."""
    path = corpus / "train/shard-00000.index.npy"
    np.save(path, np.array([{"planted": print}], dtype=object), allow_pickle=True)
    status = path.stat()
    fresh = file_sha256(str(path), status.st_size, status.st_mtime_ns)
    with pytest.raises(DataError, match="an index that cannot be read"):
        open_only_shard(corpus, index_sha256=fresh)


def test_a_shard_is_hashed_once_a_process(corpus: Path) -> None:
    """Catches a checksum paid again for each block that the shard is in."""
    read_all(open_only_shard(corpus))
    before = file_sha256.cache_info().misses
    read_all(open_only_shard(corpus))
    assert file_sha256.cache_info().misses == before


def test_an_incomplete_sample_is_refused(tmp_path: Path) -> None:
    """Catches a tar of a build that stopped between a document's two files."""
    path = tmp_path / "shard-00000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        writer.write({"__key__": "a", "json": b"{}", "tokens": b"\0\0\0\0"})
        writer.write({"__key__": "b", "tokens": b"\0\0\0\0"})
    with pytest.raises(DataError, match=r"shard-00000\.tar: sample b has no"):
        index_tar(path, "uint16")
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "a.tokens.json")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"shard-00000\.tar"):
        index_tar(path, "uint16")


def test_sealing_twice_gives_the_same_entry(corpus: Path) -> None:
    """Catches an index that depends on when it was made: continued builds would differ."""
    written = load_manifest(corpus).splits["train"].shards[0]
    again: Shard = seal_shard(corpus, written.name, "uint16")
    assert again == written


@pytest.mark.parametrize("name", ["/etc/000.tokens", "../000.tokens", "a/../../000.tokens"])
def test_a_tar_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    """Would catch a shard made to write elsewhere when somebody unpacks it, sealed or verified."""
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for member in (name, name.replace(".tokens", ".json")):
            about = tarfile.TarInfo(member)
            about.size = 4
            tar.addfile(about, io.BytesIO(b"\0" * 4))
    with pytest.raises(DataError, match=r"no plain file below the shard's own folder"):
        index_tar(path, "uint16")


def test_a_tar_with_a_link_is_refused(tmp_path: Path) -> None:
    """Would catch the other way out: a member that points elsewhere."""
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("000.tokens")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"no plain file below the shard's own folder"):
        index_tar(path, "uint16")
