"""Suites find in a corpus, or in files, exactly the documents that hold a passage."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.corpora import write_corpus
from trainer.corpus.inspect import decoded_shards
from trainer.corpus.inspect.passage_index import PassageIndex
from trainer.corpus.rules.word_runs import words_of
from trainer.data.manifest import load_manifest
from trainer.data.token_flags import TARGET
from trainer.data.tokenizer import train_tokenizer
from trainer.errors import DataError
from trainer.evaluate import stored_text
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.overlap import RUN_WORDS, overlapping
from trainer.evaluate.stored_text import StoredCorpus, StoredText
from trainer.evaluate.suites.suite import Item

TEXTS = [
    [
        "The capital of Freedonia is\n  Glockenspiel.",
        "Nothing of the kind; Ümlaut 世界.",
    ],
    ["THE CAPITAL OF FREEDONIA is Glockenspiel, they say.", "A capitalist of Freedonia is rich."],
]
HELD_OUT = ["the capital of Freedonia is Glockenspiel"]
TOKENIZER = train_tokenizer([text for shard in TEXTS for text in shard] * 3, 320)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))


def corpus(folder: Path, flag: int = 0, kind: str = "documents") -> Path:
    """A corpus of TEXTS, a list a shard, with HELD_OUT as validation."""
    end = TOKENIZER.end_of_text
    shards = [
        [[token | flag for token in [end, *TOKENIZER.encode(text), end]] for text in shard]
        for shard in [*TEXTS, HELD_OUT]
    ]
    dtype = "uint32" if flag else "uint16"
    made = write_corpus(folder, shards[:-1], shards[-1:], dtype, TOKENIZER.fingerprint)
    TOKENIZER.save(made / "tokenizer")
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps(manifest | {"kind": kind}))
    return made


WORDS = st.lists(st.sampled_from(list("abcd")), max_size=24)


@given(st.lists(WORDS, max_size=6), WORDS)
def test_an_index_finds_the_passages_that_a_plain_search_finds(
    passages: list[list[str]], text: list[str]
) -> None:
    """Would catch a length, an opening or a repeated passage that the hashes lose."""
    found = PassageIndex([" ".join(words) for words in passages]).found_in(", ".join(text).upper())
    plain = [
        number
        for number, words in enumerate(passages)
        if words and f" {' '.join(words)} " in f" {' '.join(text)} "
    ]
    assert sorted(found) == plain


PASSAGES = ["capital of  freedonia is GLOCKENSPIEL", "capital", "世", "zwieback", "?!"]


@pytest.mark.parametrize("flag", [0, TARGET])
def test_a_corpus_counts_its_training_documents_by_passage(tmp_path: Path, flag: int) -> None:
    """Would catch validation documents counted, words found inside words, and flags decoded."""
    text = StoredText.at(corpus(tmp_path / "web", flag, "conversations" if flag else "documents"))
    assert text.names == ("web",)
    assert text.occurrences(PASSAGES) == [2, 2, 1, 0, 0]
    assert text.holding(PASSAGES)[:3] == [["train.0.0", "train.1.0"]] * 2 + [["train.0.1"]]
    assert text.holding(PASSAGES, limit=1)[0] == ["train.0.0"]
    assert [document.text for document in text.documents("validation")] == HELD_OUT
    assert [document.id for document in text.documents("train")] == [
        f"train.{shard}.{number}" for shard in range(2) for number in range(2)
    ]


def test_examples_of_a_set_are_whole_without_end_tokens(tmp_path: Path) -> None:
    """Would catch an example's first and last token taken for those that part documents."""
    texts = [[token | TARGET for token in TOKENIZER.encode(text)] for text in TEXTS[0]]
    made = write_corpus(tmp_path / "set", [texts], [], "uint32", TOKENIZER.fingerprint)
    TOKENIZER.save(made / "tokenizer")
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps(manifest | {"kind": "conversations"}))
    assert [one.text for one in StoredText.at(made).documents("train")] == TEXTS[0]


def test_many_processes_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch shards put together in another order, or a task lost."""
    text = StoredText.at(corpus(tmp_path / "web"))
    alone = text._searched(tuple(PASSAGES), 1)
    monkeypatch.setattr(decoded_shards, "ALONE_BELOW_TOKENS", 0)
    monkeypatch.setattr(stored_text, "TASK_TOKENS", 1)
    monkeypatch.setattr(stored_text, "workers_for", lambda tokens: 2)
    assert text._searched(tuple(PASSAGES), 1) == alone
    assert alone["holders"][0] == ["train.0.0"]


def test_a_search_is_made_once_and_again_when_the_corpus_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an evaluation inside a run that searches anew, or an answer of another corpus."""
    folder = corpus(tmp_path / "web")
    text = StoredText.at(folder)
    first = text.occurrences(PASSAGES)
    monkeypatch.setattr(stored_text, "_search_shards", lambda *task: pytest.fail("searched anew"))
    assert StoredText.at(folder).occurrences(PASSAGES) == first
    assert text.holding(PASSAGES)[2] == ["train.0.1"]
    other = StoredText([StoredCorpus("other", folder, load_manifest(folder))])
    with pytest.raises(pytest.fail.Exception, match="searched anew"):
        other.occurrences(PASSAGES)


def write_parquet(path: Path, texts: Sequence[str]) -> None:
    pq.write_table(pa.table({"text": list(texts)}), path)


def test_given_files_of_every_format_are_read(tmp_path: Path) -> None:
    """Would catch a format that --text refuses although a corpus is built from it."""
    (tmp_path / "one.txt").write_text(TEXTS[0][0])
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[1])
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write_parquet(tmp_path / "three.parquet", TEXTS[0])
    (tmp_path / "four.html").write_text(f"<html><body><p>{TEXTS[0][0]}</p></body></html>")
    files = sorted(tmp_path.glob("*.*"))
    text = GivenText([str(path) for path in files])
    assert text.names == tuple(path.name for path in files)
    assert text.occurrences(["the capital of Freedonia"]) == [4]
    held_out = list(text.documents("validation"))
    assert [document.split for document in held_out] == ["validation"] * 6
    assert [document.text for document in held_out] == [
        document.text for document in text.documents("train")
    ]


def test_bad_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Would catch lost records that nobody is told of, and a file without any text taken."""
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "A word."}\n{"words": "B"}\n{"text": " "}\n')
    (tmp_path / "bytes.txt").write_bytes(b"Bytes \xff of another encoding.")
    (tmp_path / "empty.txt").write_text("\n")
    text = GivenText([str(tmp_path / name) for name in ("set.jsonl", "bytes.txt", "empty.txt")])
    assert len(list(text.documents("train"))) == len(list(text.documents("train"))) == 1
    assert caplog.text.count("2 of 5 records have no text") == 1
    assert caplog.text.count("the text of 2 of 5 records is blank") == 1
    assert caplog.text.count("nothing is read of bytes.txt, empty.txt: no text in it") == 1
    (tmp_path / "none.jsonl").write_text('{"words": "B"}\n')
    with pytest.raises(DataError, match=r"^--text: none.jsonl: holds no text: .* line 1"):
        list(GivenText([str(tmp_path / "none.jsonl")]).documents("train"))
    with pytest.raises(DataError, match=r"^--text: .*absent\.txt names no file"):
        GivenText([str(tmp_path / "absent.txt")])


def test_items_are_said_to_overlap_by_whole_passages_or_long_runs(tmp_path: Path) -> None:
    """Would catch a half of a short passage counted, and a long one missed for one other word."""
    generator = np.random.default_rng(0)
    long = [f"w{number}" for number in generator.integers(0, 50, 40)]
    (tmp_path / "own.txt").write_text(f"Ab cd ef. {' '.join(long)}")
    changed = ["other", *long[1 : RUN_WORDS + 1], "words"]
    items = [
        Item("short", (), {}, ("cd, EF",)),
        Item("half", (), {}, ("cd ef gh",)),
        Item("long", (), {}, (" ".join(changed),)),
        Item("too short a run", (), {}, (" ".join(["x", *changed[:RUN_WORDS]]),)),
        Item("nothing", (), {}),
    ]
    document = str(tmp_path / "own.txt")
    found = overlapping(items, GivenText([document]))
    assert found == {"short": [document], "long": [document]}
    assert words_of(" ".join(changed)) == changed


def test_pairs_are_counted_by_the_sentences_that_hold_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a pair that stands in two sentences of one text, or is found inside words."""
    pairs = [("capital", "GLOCKENSPIEL"), ("capitalist", "rich"), ("nothing", "stands"), ("x", "y")]
    text = StoredText.at(corpus(tmp_path / "web"))
    assert text.together(pairs) == [2, 1, 0, 0]
    monkeypatch.setattr(stored_text, "TASK_TOKENS", 1)
    assert text._counted(tuple(pairs)) == [2, 1, 0, 0]
    (tmp_path / "own.txt").write_text("Ab is cd. Cd is ab.\n\nAb is e.g. not Cd. Ab. Cd.")
    assert GivenText([str(tmp_path / "own.txt")]).together([("ab", "cd")]) == [3]


def test_a_large_corpus_is_searched_in_part_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch hours of searching before the first answer, and counts that pass for whole."""
    text = StoredText.at(corpus(tmp_path / "web"))
    assert text.occurrences(["capital"]) == [2]
    assert not caplog.records
    tokens = load_manifest(tmp_path / "web").splits["train"].tokens
    monkeypatch.setattr(stored_text, "SEARCHED_TOKENS", tokens - 1)
    assert text.occurrences(["capital"]) == text.together([("capital", "Freedonia")]) == [1]
    assert caplog.text.count("count and search") == 1


def test_the_first_documents_are_of_all_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch facts taken from the first corpus of a mixture alone."""
    monkeypatch.setattr(stored_text, "DOCUMENTS_A_TURN", 1)
    text = StoredText.at(corpus(tmp_path / "one"), corpus(tmp_path / "two"))
    assert [document.source for document in text.documents("train")] == ["one", "two"] * 4
    assert [document.source for document in text.documents("validation")] == ["one", "two"]
    corpus(tmp_path / "other" / "one")
    same = StoredText.at(tmp_path / "one", tmp_path / "other" / "one", tmp_path / "one")
    assert same.names == (str(tmp_path / "one"), str(tmp_path / "other" / "one"))


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_text_in_another_column_is_refused_with_a_way_that_there_is(
    format: str, tmp_path: Path
) -> None:
    """Would catch a mend by a recipe's key, which an evaluation does not take."""
    path = tmp_path / f"other.{format}"
    if format == "parquet":
        pq.write_table(pa.table({"body": ["a"]}), path)
    else:
        path.write_text('{"body": "a"}\n')
    with pytest.raises(DataError) as refused:
        list(GivenText([str(path)]).documents("train"))
    line = str(refused.value)
    assert line.startswith("--text: ") and "other." in line and "body" in line
    assert "corpus.text_key" in line and "`lyceum corpus build`" in line and "as --corpus" in line
