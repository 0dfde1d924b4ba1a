"""The manifest says what a corpus is, or says in one line why it cannot be used."""

import json
from pathlib import Path

import pytest

from tests.data.corpora import random_documents, write_corpus
from trainer.data.manifest import (
    Manifest,
    Shard,
    check_tokenizer,
    load_manifest,
    total_split,
    write_manifest,
)
from trainer.errors import DataError

SHARD = Shard("train/shard-00000.tar", 10240, "a" * 64, "b" * 64, 3, 70)
MANIFEST = Manifest("c" * 64, 300, 0, "uint16", {"train": total_split([SHARD])}, {"rules": ["é"]})


def test_a_manifest_reads_back_as_written(tmp_path: Path) -> None:
    """Catches a field that is lost or changes type on its way through JSON."""
    write_manifest(tmp_path, MANIFEST)
    assert load_manifest(tmp_path) == MANIFEST
    assert SHARD.index_name == "train/shard-00000.index.npy"


def test_an_interrupted_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch) -> None:
    """Catches a manifest written in place, which a crash leaves half there."""
    write_manifest(tmp_path, MANIFEST)

    def full_disk(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("trainer.files.os.fsync", full_disk)
    other = Manifest("d" * 64, 300, 0, "uint16", {})
    with pytest.raises(OSError, match="disk full"):
        write_manifest(tmp_path, other)
    assert load_manifest(tmp_path) == MANIFEST


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    """Catches a stack trace, or the same words for a missing, a half-built and a foreign folder."""
    with pytest.raises(DataError, match=r"no corpus at .*absent: build one"):
        load_manifest(tmp_path / "absent")
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        load_manifest(tmp_path)
    (tmp_path / "corpus.partial").mkdir()
    for name in ("corpus", "corpus.partial"):
        with pytest.raises(DataError, match="half-built: finish it with `lyceum corpus build`"):
            load_manifest(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(format="lyceum-corpus/9"), "lyceum-corpus/9"),
        (lambda content: content.pop("tokenizer"), "'tokenizer' is missing"),
        (lambda content: content.update(token_dtype="int8"), "int8"),
        (lambda content: content["splits"]["train"].update(tokens=71), "totals of split 'train'"),
        (lambda content: content["splits"]["train"]["shards"][0].pop("sha256"), "sha256"),
        (
            lambda content: content["splits"]["train"]["shards"][0].update(name="../x.tar"),
            "leads out of the corpus",
        ),
    ],
)
def test_a_damaged_manifest_is_one_clear_line(tmp_path: Path, change, words: str) -> None:
    """Catches a manifest that is trusted where it contradicts itself or the format."""
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        load_manifest(tmp_path)
    message = str(caught.value)
    assert words in message and str(path) in message and "\n" not in message


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_manifest_that_is_not_one_is_a_data_error(tmp_path: Path, text: str) -> None:
    """Catches an exception of the JSON reader that escapes."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        load_manifest(tmp_path)


def test_a_tokenizer_that_does_not_match_is_refused(tmp_path: Path) -> None:
    """Catches ids of one tokenizer read as those of another: training would look normal."""
    corpus = write_corpus(tmp_path / "corpus", [random_documents([5])])
    manifest = load_manifest(corpus)
    check_tokenizer(manifest, manifest.tokenizer_fingerprint)
    with pytest.raises(DataError, match="was tokenized with tokenizer ffffffffffff"):
        check_tokenizer(manifest, "0" * 64, corpus)
