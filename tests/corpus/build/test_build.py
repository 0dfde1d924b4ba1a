"""Building a corpus: whole or not there, the same bytes each time, continued where it stopped."""

import json
import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from trainer.corpus.build import corpus as build
from trainer.corpus.build import finish, record, shuffle, sketches, writer
from trainer.corpus.build import unfinished as partial
from trainer.corpus.build.corpus import (
    build_corpus,
    corpus_folder,
)
from trainer.corpus.inspect.curation import load_curation
from trainer.corpus.inspect.verify import verify_corpus
from trainer.data.manifest import Manifest, load_manifest
from trainer.data.shards import ShardReader
from trainer.data.tokenizer import END_OF_TEXT, load_tokenizer
from trainer.errors import DataError, RecipeError
from trainer.recipe import CorpusSection, Recipe
from trainer.sources import build_from_recipe, ensure_corpus

DOCUMENTS = 120
WORDS = [f"{a}{b}" for a in ("lo", "mi", "ka", "tu", "re") for b in ("nar", "sel", "vim", "dor")]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A file of documents of random words, one of which spells the special token."""
    dice = random.Random(1)
    texts = [" ".join(dice.choices(WORDS, k=dice.randint(5, 60))) for _ in range(DOCUMENTS)]
    texts[7] = f"before {END_OF_TEXT} after, Grüße 世界"
    path = tmp_path / "texts.jsonl"
    records = [{"id": f"document {n}", "text": text} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def section(texts: Path, **changes: object) -> CorpusSection:
    settings: dict[str, object] = {
        "source": "text",
        "files": [str(texts)],
        "vocab": 300,
        "validation": 0.2,
        "shard_tokens": 500,
        "minimum_characters": 10,
        "workers": 1,
        "rules": None,
    }
    return CorpusSection(**{**settings, **changes})  # type: ignore[arg-type]


def make(section: CorpusSection, out: Path) -> Manifest:
    return build_corpus(section, None, out, progress=False)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the one that holds measured times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timings.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stored(folder: Path, split: str) -> dict[str, str]:
    """The decoded text of every document by id; the stored tokens are checked for their ends."""
    manifest, tokenizer = load_manifest(folder), load_tokenizer(folder / "tokenizer")
    texts = {}
    for shard in manifest.splits[split].shards:
        reader = ShardReader(folder, shard, manifest.token_dtype)
        for index, length in enumerate(reader.lengths.tolist()):
            tokens = reader.tokens(index, 0, length).tolist()
            assert tokens[0] == tokens[-1] == tokenizer.end_of_text
            assert tokenizer.end_of_text not in tokens[1:-1]
            texts[reader.metadata(index)["id"]] = tokenizer.decode(tokens[1:-1])
    return texts


def test_every_document_is_in_one_split_and_comes_back_exactly(texts: Path, tmp_path: Path) -> None:
    """Would catch lost, doubled or altered documents, or one cut at a special token it spells."""
    manifest = make(section(texts), tmp_path / "corpus")
    train, validation = (stored(tmp_path / "corpus", split) for split in ("train", "validation"))
    originals = {record["id"]: record["text"] for record in map(json.loads, texts.open())}
    assert train | validation == originals
    assert not train.keys() & validation.keys()
    assert 0.1 < len(validation) / DOCUMENTS < 0.3
    assert len(manifest.splits["train"].shards) > 3
    assert verify_corpus(tmp_path / "corpus") == []
    curation = load_curation(tmp_path / "corpus")
    assert curation is not None
    lengths = curation.lengths
    for label, read, kept in lengths.filled():
        low, _, high = label.replace(",", "").partition("-")
        within = [text for text in originals.values() if int(low) <= len(text) <= int(high or low)]
        assert read == kept == len(within), label


def test_the_split_of_a_document_does_not_depend_on_the_others(texts: Path, tmp_path: Path) -> None:
    """Would catch validation documents that move into training when the corpus grows."""
    half = tmp_path / "half.jsonl"
    half.write_text("".join(line for line in texts.read_text().splitlines(True)[::2]))
    for name, file in {"all": texts, "half": half}.items():
        make(section(file), tmp_path / name)
    for split in ("train", "validation"):
        assert stored(tmp_path / "half", split).items() <= stored(tmp_path / "all", split).items()


def test_shards_are_plain_webdataset_files(texts: Path, tmp_path: Path) -> None:
    """Would catch samples or names that the webdataset library itself cannot read."""
    manifest = make(section(texts), tmp_path / "corpus")
    shard = manifest.splits["train"].shards[0]
    path = tmp_path / "corpus" / shard.name
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    index = np.load(tmp_path / "corpus" / shard.index_name, allow_pickle=False)
    assert [len(sample["tokens"]) // 2 for sample in samples] == index[:, 1].tolist()
    assert set(json.loads(samples[0]["json"])) == {"id", "source", "characters"}
    with tarfile.open(path) as tar:
        owners = {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar.getmembers()}
    assert owners == {(0, 0, 0, "lyceum", "lyceum")}


def test_building_twice_gives_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    """Would catch a time, a process id or a random order in any file of the corpus."""
    for name in ("one", "two"):
        make(section(texts), tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    make(section(texts, seed=5), tmp_path / "other")
    assert content(tmp_path / "other") != content(tmp_path / "one")


def test_books_are_encoded_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch 256 books in memory at once, at some 40 bytes a token; and documents lost or
    changed between two lists.
    """
    monkeypatch.setattr(writer, "ENCODED_CHARACTERS", 100)
    monkeypatch.setattr(writer, "ENCODED_AT_ONCE", 5)
    texts = ["x" * (1 + n * 37 % 90) for n in range(60)] + ["y"] * 30
    batches = list(writer._batches({"text": text} for text in texts))
    assert [document["text"] for batch in batches for document in batch] == texts
    assert {len(batch) for batch in batches} >= {2, 3, 5}
    before_last = [sum(len(document["text"]) for document in batch[:-1]) for batch in batches]
    assert max(before_last) < 100


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def stop_at_call(function: Callable, number: int) -> Callable:
    calls = iter(range(1, 10**6))

    def stopping(*arguments: object, **named: object) -> object:
        if next(calls) == number:
            raise Killed
        return function(*arguments, **named)

    return stopping


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (record, "write_whole", 1),
        (record, "write_whole", 2),
        (sketches, "save_array", 1),
        (sketches, "growing_array", 2),
        (shuffle, "save_array", 1),
        (finish, "train_tokenizer", 1),
        (writer, "_write_shard", 1),
        (writer, "seal_shard", 3),
        (writer, "_write_shard", 4),
        (finish, "write_manifest", 1),
        (finish, "write_whole", 4),
        (build, "publish", 1),
        (partial.Path, "unlink", 1),
        (partial.Path, "unlink", 3),
        (partial.Path, "rename", 1),
    ],
)
def test_a_build_stopped_anywhere_looks_incomplete_and_continues_to_the_same_bytes(
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    number: int,
) -> None:
    """Would catch a half-built folder taken for a corpus, or a rest unlike a whole build's."""
    make(section(texts), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, name, stop_at_call(getattr(module, name), number))
        make(section(texts), tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    with pytest.raises(DataError, match="half-built"):
        load_manifest(tmp_path / "stopped")
    make(section(texts), tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert not (tmp_path / "stopped.partial").exists()


KILLED_IN_THE_FOURTH_SHARD = """
import json, os, signal, sys
from pathlib import Path
from trainer.corpus.build import writer
from trainer.corpus.build.corpus import build_corpus
from trainer.recipe import CorpusSection

seal, calls = writer.seal_shard, []
def seal_or_die(*arguments):
    calls.append(arguments)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return seal(*arguments)

writer.seal_shard = seal_or_die
build_corpus(CorpusSection(**json.loads(sys.argv[1])), None, Path(sys.argv[2]), progress=False)
"""


def test_a_killed_process_leaves_finished_shards_that_are_not_written_again(
    texts: Path, tmp_path: Path
) -> None:
    """Would catch what exceptions hide: unflushed files, a lock left behind, work done twice."""
    out = tmp_path / "killed"
    settings = json.dumps(section(texts).model_dump(mode="json"))
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", KILLED_IN_THE_FOURTH_SHARD, settings, str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not out.exists()
    finished = {path: path.stat().st_ino for path in tmp_path.glob("killed.partial/*/*.tar")}
    assert len(finished) == 4
    make(section(texts), out)
    now = {tmp_path / "killed.partial" / path.relative_to(out): path for path in out.rglob("*.tar")}
    assert {path: now[path].stat().st_ino for path in finished} == finished
    make(section(texts), tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_what_another_build_left_is_not_mixed_into_this_one(texts: Path, tmp_path: Path) -> None:
    """Would catch shards of other settings or of an older text that end up in the corpus."""
    for changed in (section(texts, seed=9), section(texts)):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(finish, "write_manifest", stop_at_call(finish.write_manifest, 1))
            make(changed, tmp_path / "corpus")
    with texts.open("a") as file:
        file.write(json.dumps({"id": "late", "text": "A text that was added late."}) + "\n")
    make(section(texts), tmp_path / "corpus")
    make(section(texts), tmp_path / "whole")
    assert content(tmp_path / "corpus") == content(tmp_path / "whole")


def test_two_builds_of_one_corpus_make_it_once(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch two builders in one folder; a flock is of the opening, so threads will do."""
    stages: list[int] = []
    original = build._run
    monkeypatch.setattr(build, "_run", lambda *given: (stages.append(1), original(*given))[1])
    results: list[Manifest] = []
    threads = [
        threading.Thread(target=lambda: results.append(make(section(texts), tmp_path / "corpus")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stages) == 1 and results[0] == results[1]


def test_a_corpus_that_is_there_is_used_and_never_overwritten(texts: Path, tmp_path: Path) -> None:
    """Would catch a corpus rebuilt in vain, or replaced because the recipe changed."""
    out = tmp_path / "corpus"
    first = make(section(texts), out)
    before = content(out)
    assert make(section(texts), out) == first
    with pytest.raises(DataError, match="was built with shard_tokens 500, the recipe says 501"):
        make(section(texts, shard_tokens=501), out)
    assert content(out) == before


def test_a_folder_of_something_else_is_left_alone(texts: Path, tmp_path: Path) -> None:
    """Would catch a corpus.path typed wrong that costs someone a folder."""
    for name in ("out", "mine.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not a corpus"):
        make(section(texts), tmp_path / "out")
    with pytest.raises(DataError, match="is not a half-built corpus"):
        make(section(texts), tmp_path / "mine")
    for name in ("out", "mine.partial"):
        assert content(tmp_path / name) == {"thesis.txt": b"years of work"}


def test_an_empty_corpus_says_which_rules_emptied_it(texts: Path, tmp_path: Path) -> None:
    """Would catch a corpus of nothing, found only when training starts."""
    with pytest.raises(DataError, match=r"is empty: 120 documents read.*too short.*120"):
        make(section(texts, minimum_characters=10**6), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_full_disk_is_one_line_and_the_build_continues(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a stack trace, or finished shards thrown away when the disk is full."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "shard")

    out = tmp_path / "corpus"
    monkeypatch.setattr(writer, "seal_shard", full)
    with pytest.raises(DataError, match="No space left on device") as caught:
        make(section(texts), out)
    assert "\n" not in str(caught.value) and not out.exists()
    monkeypatch.undo()
    make(section(texts), out)
    assert verify_corpus(out) == []


def test_a_tiny_corpus_has_something_to_train_on_and_to_validate(tmp_path: Path) -> None:
    """Would catch an empty split where the share rounds to nothing."""
    for number, expected in [(1, (1, 0)), (2, (1, 1)), (3, (2, 1))]:
        file = tmp_path / f"{number}.jsonl"
        lines = [
            json.dumps({"text": f"document number {n} of a tiny corpus"}) for n in range(number)
        ]
        file.write_text("\n".join(lines))
        settings = section(file, validation=1e-9, near_duplicates=None)
        splits = make(settings, tmp_path / str(number)).splits
        assert (splits["train"].documents, splits["validation"].documents) == expected


def test_a_given_tokenizer_is_used_and_kept_as_it_is(texts: Path, tmp_path: Path) -> None:
    """Would catch a tokenizer trained anew, or one altered on its way into the corpus."""
    make(section(texts, vocab=280), tmp_path / "first")
    folder = tmp_path / "first" / "tokenizer"
    manifest = build_corpus(section(texts), str(folder), tmp_path / "second", progress=False)
    assert content(tmp_path / "second" / "tokenizer") == content(folder)
    assert manifest.tokenizer_fingerprint == load_tokenizer(folder).fingerprint
    assert manifest.tokenizer_size == 280


def test_the_cache_folder_follows_settings_texts_and_tokenizer(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a stale corpus from the cache, or a new build for the same content."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    folder = corpus_folder(section(texts))
    assert folder.parent == tmp_path / "cache" / "corpora"
    assert corpus_folder(section(texts, workers=2)) == folder
    assert corpus_folder(section(texts, seed=3)) != folder
    make(section(texts), tmp_path / "built")
    assert corpus_folder(section(texts), str(tmp_path / "built" / "tokenizer")) != folder
    texts.write_text(texts.read_text() + "\n")
    assert corpus_folder(section(texts)) != folder
    assert corpus_folder(section(texts, path="somewhere")) == Path("somewhere")


def test_a_recipe_gets_its_corpus_once(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Would catch a second build, or a recipe without a corpus that fails with a stack trace."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.model_construct(corpus=section(texts), tokenizer=None)
    folder = build_from_recipe(recipe, progress=False)
    assert capsys.readouterr().out.startswith(f"{folder}: train ")
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    assert ensure_corpus(recipe, progress=False) == (folder, load_manifest(folder))
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    with pytest.raises(RecipeError, match="no corpus section"):
        ensure_corpus(Recipe.model_construct(corpus=None, tokenizer=None), progress=False)
