"""Verifying a corpus: each kind of damage is found, and the shard is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.inspect.verify import verify_corpus
from trainer.data.manifest import load_manifest
from trainer.data.shards import file_sha256
from trainer.errors import DataError
from trainer.recipe import CorpusSection

SHARD = "train/shard-00000-00001.tar"
INDEX = "train/shard-00000-00001.index.npy"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    lines = [json.dumps({"text": f"number {n} " + f"word{n} " * 30}) for n in range(60)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    section = CorpusSection(
        source="text",
        files=(str(folder / "texts.jsonl"),),
        vocab=300,
        shard_tokens=500,
        rules=None,
    )  # type: ignore[call-arg]
    build_corpus(section, None, folder / "corpus", progress=False)
    return folder / "corpus"


@pytest.fixture
def corpus(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "corpus"))


def truncate(corpus: Path) -> None:
    (corpus / SHARD).write_bytes((corpus / SHARD).read_bytes()[:-100])


def lengthen(corpus: Path) -> None:
    (corpus / SHARD).write_bytes((corpus / SHARD).read_bytes() + b"\0")


def flip_a_bit(corpus: Path) -> None:
    data = bytearray((corpus / SHARD).read_bytes())
    data[700] ^= 1
    (corpus / SHARD).write_bytes(data)


def shift_the_index(corpus: Path) -> None:
    index = np.load(corpus / INDEX)
    index[0, 0] += 2
    np.save(corpus / INDEX, index)
    trust(corpus)


def forget_a_document(corpus: Path) -> None:
    np.save(corpus / INDEX, np.load(corpus / INDEX)[1:])
    trust(corpus)


def break_an_end(corpus: Path) -> None:
    offset = int(np.load(corpus / INDEX)[2, 0])
    data = bytearray((corpus / SHARD).read_bytes())
    data[offset : offset + 2] = b"\x05\x00"
    (corpus / SHARD).write_bytes(data)
    trust(corpus)


def exceed_the_tokenizer(corpus: Path) -> None:
    offset = int(np.load(corpus / INDEX)[2, 0])
    data = bytearray((corpus / SHARD).read_bytes())
    data[offset + 2 : offset + 4] = b"\xff\xff"
    (corpus / SHARD).write_bytes(data)
    trust(corpus)


def miscount(corpus: Path) -> None:
    edit_manifest(corpus, lambda split, shard: shard.update(tokens=shard["tokens"] + 1))
    edit_manifest(corpus, lambda split, shard: split.update(tokens=split["tokens"] + 1))


def trust(corpus: Path) -> None:
    """Damage that even the checksums agree with, as a faulty writer would leave it."""

    def checksums(split: dict, shard: dict) -> None:
        for name, key in ((SHARD, "sha256"), (INDEX, "index_sha256")):
            path = corpus / name
            shard[key] = file_sha256(str(path), path.stat().st_size, path.stat().st_mtime_ns)

    edit_manifest(corpus, checksums)


def edit_manifest(corpus: Path, change: Callable[[dict, dict], object]) -> None:
    content = json.loads((corpus / "manifest.json").read_text())
    split = content["splits"]["train"]
    change(split, next(shard for shard in split["shards"] if shard["name"] == SHARD))
    (corpus / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated"),
        (lengthen, "altered"),
        (flip_a_bit, "altered"),
        (lambda corpus: (corpus / SHARD).unlink(), "missing"),
        (lambda corpus: (corpus / INDEX).unlink(), "its index"),
        (lambda corpus: (corpus / INDEX).write_bytes(b"x"), "its index"),
        (shift_the_index, "shard and index disagree"),
        (forget_a_document, "shard and index disagree"),
        (break_an_end, "document 2 does not begin and end"),
        (exceed_the_tokenizer, "document 2 has a token beyond"),
        (miscount, "the manifest says"),
    ],
)
def test_damage_to_a_shard_is_found_and_the_shard_is_named(
    corpus: Path, damage: Callable[[Path], object], message: str
) -> None:
    """Would catch each kind of damage passing unseen, or blamed on another shard."""
    damage(corpus)
    (problem,) = verify_corpus(corpus)
    assert problem.startswith(SHARD) and message in problem and "\n" not in problem


def test_a_sound_corpus_has_no_problems(corpus: Path) -> None:
    """The negative control: without it a check that always complains would pass."""
    assert len(load_manifest(corpus).splits["train"].shards) > 2
    assert verify_corpus(corpus) == []


def test_extra_files_are_named(corpus: Path) -> None:
    """Would catch a shard left from another build, which a glob would read."""
    shutil.copy(corpus / SHARD, corpus / "train" / "shard-99999.tar")
    assert verify_corpus(corpus) == ["train/shard-99999.tar: not in the manifest"]


def test_another_tokenizer_is_found(corpus: Path) -> None:
    """Would catch ids that are decoded by a tokenizer that did not make them."""
    path = corpus / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    (problem,) = verify_corpus(corpus)
    assert problem.startswith("tokenizer: is not the one that made the shards")
    path.unlink()
    (problem,) = verify_corpus(corpus)
    assert "no tokenizer.json" in problem


def test_without_a_manifest_there_is_nothing_to_verify(corpus: Path) -> None:
    """Would catch a folder called sound because it lists no shards."""
    (corpus / "manifest.json").unlink()
    with pytest.raises(DataError, match="manifest"):
        verify_corpus(corpus)
