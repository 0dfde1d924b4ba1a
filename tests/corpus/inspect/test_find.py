"""A passage leads back to exactly the documents that hold it, whatever its spacing and case."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tests.data.corpora import write_corpus
from tests.traced import traced
from trainer.cli import main
from trainer.corpus.inspect import decoded_shards, search
from trainer.corpus.inspect.find import find_command
from trainer.corpus.inspect.passages import (
    LEAST_RUN_WORDS,
    Decoded,
    bulk_decoder,
    fold,
    longest_runs,
    whole,
)
from trainer.corpus.inspect.search import find_passage
from trainer.data.tokenizer import MAIN_FILE, Tokenizer, train_tokenizer
from trainer.errors import DataError, RecipeError

FOX = "The quick  brown\nfox jumps over the lazy dog, while nobody in the house is looking."
TEXTS = [
    [
        FOX,
        "Nothing of the kind [bold] stands here.",
        "Grüße an die Welt 世界, ΟΔΟΣ, \u212aelvin",
    ],
    ["a dog that is lazy", f"Before it: {FOX} {FOX}", "ends with the quick", "brown fox begins"],
]
TOKENIZER = train_tokenizer([text for shard in TEXTS for text in shard] * 3, 320)


def corpus(folder: Path, shards: Sequence[Sequence[str]], tokenizer: Tokenizer = TOKENIZER) -> Path:
    """A corpus of these texts, a list a shard, all of them in the training split but the last."""
    end = tokenizer.end_of_text
    stored = [[[end, *tokenizer.encode(text), end] for text in shard] for shard in shards]
    made = write_corpus(folder, stored[:-1], stored[-1:], tokenizer=tokenizer.fingerprint)
    tokenizer.save(made / "tokenizer")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return corpus(tmp_path / "corpus", TEXTS)


def places(found: search.Search) -> list[tuple[str, int]]:
    return [(match.split, match.document) for match in found.whole]


def decoded(texts: Sequence[str]) -> Decoded:
    data = [text.encode() for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(text) for text in data])]).astype(np.int64)
    return Decoded(b"".join(data), starts)


@given(st.lists(st.lists(st.integers(0, TOKENIZER.size - 1), max_size=20), min_size=1, max_size=5))
def test_bulk_decoding_is_what_the_tokenizer_decodes(documents: list[list[int]]) -> None:
    """Would catch a table that differs for one byte, for the special token, or for bytes that are
    not UTF-8.
    """
    found = bulk_decoder(TOKENIZER.files)([np.array(ids, np.uint16) for ids in documents])
    for number, ids in enumerate(documents):
        assert found.text(number) == TOKENIZER.decode(ids)


def test_a_tokenizer_of_another_kind_is_decoded_by_itself() -> None:
    """Would catch the byte table used for a tokenizer whose texts are more than their tokens."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<|endoftext|>": 0, "▁a": 1}))
    backend.decoder = tokenizers.decoders.Metaspace()
    files = {MAIN_FILE: backend.to_str().encode()}
    found = bulk_decoder(files)([np.array([1, 1]), np.array([1])])
    assert [found.text(0), found.text(1)] == ["a a", "a"]


def test_white_space_and_case_do_not_count(folder: Path) -> None:
    """Would catch a document missed for a line break or a capital, or reported at another place."""
    found = find_passage(folder, "QUICK brown\t fox")
    assert places(found) == [("train", 0), ("validation", 1)]
    first, second = found.whole
    assert (first.shard, first.id, first.source) == ("train/shard-00000.tar", "train.0.0", "test")
    assert (first.position, first.occurrences) == (FOX.index("quick"), 1)
    assert (second.position, second.occurrences) == (TEXTS[1][1].index("quick"), 2)
    assert "quick brown fox jumps" in first.context
    assert found.complete and found.documents == 7
    assert found.bytes == sum(len(text.encode()) for shard in TEXTS for text in shard)


def test_exact_compares_every_character(folder: Path) -> None:
    """Would catch --exact that folds, or that takes two documents' ends for one text."""
    assert places(find_passage(folder, "quick  brown\nfox", exact=True)) == [
        ("train", 0),
        ("validation", 1),
    ]
    assert find_passage(folder, "quick brown fox", exact=True).whole == ()
    assert find_passage(folder, "quickbrown", exact=True).whole == (), "two documents' ends"
    assert find_passage(folder, "QUICKBROWN").whole == ()


@pytest.mark.parametrize(
    "passage", ["GRÜSSE"[:3], "kelvin", "οδος", "ΟΔΟ", "世界", ", KEL", "ße an DIE"]
)
def test_letters_beyond_ascii_are_folded(folder: Path, passage: str) -> None:
    """Would catch a search by bytes that knows capitals of ASCII alone, or the Kelvin sign lost."""
    assert places(find_passage(folder, passage)) == [("train", 2)]


WORDS = st.sampled_from(["ab", "AB", "b", "ß", "İ", "\u212a", "k", "Σ", "ς", "a\u00a0b"])
SPACES = st.sampled_from([" ", "  ", "\n", "\u3000"])
TEXT = st.lists(st.tuples(WORDS, SPACES), max_size=12).map(lambda t: "".join(map("".join, t)))


@given(st.lists(TEXT, min_size=1, max_size=4), TEXT.filter(str.strip))
def test_a_search_finds_what_comparing_every_text_finds(texts: list[str], passage: str) -> None:
    """Would catch a filter that loses a document, a false find, or a position that is off."""
    joined = " ".join(fold(passage).split())
    squeezed = [" ".join(fold(text).split()) for text in texts]
    found = list(whole(decoded(texts), passage, exact=False))
    assert [(place.document, place.occurrences) for place in found] == [
        (number, text.count(joined)) for number, text in enumerate(squeezed) if joined in text
    ]
    for place in found:
        rest = " ".join(fold(texts[place.document][place.position :]).split())
        # An I with a dot has two characters in lower case, and a find may begin at the second.
        assert rest.startswith(joined) or rest[1:].startswith(joined)
    exact = [place.document for place in whole(decoded(texts), passage, exact=True)]
    assert exact == [number for number, text in enumerate(texts) if passage in text]


def naive_run(text: str, passage: str) -> int:
    """The longest run of words common to both, by trying all."""
    words, wanted = fold(text).split(), fold(passage).split()
    runs = {tuple(wanted[i:j]) for i in range(len(wanted)) for j in range(i + 1, len(wanted) + 1)}
    return max(
        (len(run) for run in runs for i in range(len(words)) if words[i : i + len(run)] == [*run]),
        default=0,
    )


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=24).map(" ".join), min_size=1, max_size=3),
    st.lists(st.sampled_from("abcd"), min_size=8, max_size=14).map(" ".join),
)
def test_the_longest_run_is_the_longest(texts: list[str], passage: str) -> None:
    """Would catch a run missed, cut short, or counted over the border of two documents."""
    found = {place.document: place.run_words for place in longest_runs(decoded(texts), passage)}
    runs = {number: naive_run(text, passage) for number, text in enumerate(texts)}
    assert found == {number: run for number, run in runs.items() if run >= LEAST_RUN_WORDS}


def test_a_passage_nowhere_whole_leads_to_its_longest_runs(tmp_path: Path) -> None:
    """Would catch a nearly verbatim generation that leads nowhere, or short runs as finds."""
    words = [f"word{number}" for number in range(20)]
    texts = [
        "x " + " ".join(words[:9]) + " y",
        "it says: " + "\n".join(words[3:15]).upper(),
        " ".join(words[:7]) + " gap " + " ".join(words[8:15]),
    ]
    folder = corpus(tmp_path / "corpus", [texts, ["other"]], train_tokenizer(texts, 300))
    found = find_passage(folder, " ".join(words))
    assert found.whole == ()
    assert [(match.document, match.run_words) for match in found.partial] == [(1, 12), (0, 9)]
    assert [match.position for match in found.partial] == [9, 2]
    assert find_passage(folder, " ".join(words), limit=1).partial == found.partial[:1]
    assert find_passage(folder, " ".join(words[:9])).partial == (), "whole somewhere"
    assert find_passage(folder, " ".join([*words[:6], "no"])).partial == (), "too few words"


@pytest.mark.parametrize("passage", ["the", "dog that is nowhere found in quite this order"])
def test_processes_and_batches_change_nothing(folder: Path, monkeypatch, passage: str) -> None:
    """Would catch finds lost or renumbered at the border of a batch, or in a process's answer."""
    alone = find_passage(folder, passage)
    monkeypatch.setattr(decoded_shards, "BATCH_TOKENS", 1)
    batched = find_passage(folder, passage)
    monkeypatch.setattr(decoded_shards, "ALONE_BELOW_TOKENS", 0)
    together = find_passage(folder, passage, workers=2)
    assert alone.whole == batched.whole == together.whole
    assert (alone.documents, alone.bytes) == (together.documents, together.bytes)
    assert len(alone.whole) == (4 if passage == "the" else 0)


def test_the_limit_ends_the_search_and_is_told(folder: Path) -> None:
    """Would catch a cut list that looks like all there is, and a full one that looks cut."""
    found = find_passage(folder, "the", limit=2)
    assert len(found.whole) == 2 and not found.complete
    assert find_passage(folder, "the", limit=4).complete


def test_progress_counts_every_token(folder: Path) -> None:
    """Would catch a bar that stops early, or says nothing of the second reading."""
    told: list[tuple[str, int, int]] = []
    find_passage(folder, " ".join("abcdefgh"), advance=lambda *done: told.append(done))
    total = told[0][2]
    assert [(what, tokens) for what, tokens, _ in told if tokens == total] == [
        ("passage", total),
        ("its words", total),
    ]


@pytest.mark.parametrize("passage", ["", " \n"])
def test_an_empty_passage_is_one_line(folder: Path, passage: str) -> None:
    """Would catch a search for nothing, which every document holds."""
    with pytest.raises(RecipeError, match="empty"):
        find_passage(folder, passage)


def test_another_corpus_tokenizer_is_one_line(folder: Path) -> None:
    """Would catch a search through nonsense, or a stack trace, where tokenizers were mixed up."""
    train_tokenizer(["a"], 259).save(folder / "tokenizer")
    with pytest.raises(DataError, match="was tokenized with tokenizer"):
        find_passage(folder, "the")


def test_tokens_that_the_tokenizer_lacks_are_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace for a shard with tokens beyond the vocabulary."""
    documents = [[[0, TOKENIZER.size, 0]]]
    folder = write_corpus(tmp_path / "bad", documents, tokenizer=TOKENIZER.fingerprint)
    TOKENIZER.save(folder / "tokenizer")
    with pytest.raises(DataError, match="does not know"):
        find_passage(folder, "the")


def test_the_command_shows_and_writes_what_it_found(folder: Path, tmp_path: Path, capsys) -> None:
    """Would catch brackets of a text taken for markup, or JSON that says less than the table."""
    written = tmp_path / "found.json"
    words = ["corpus", "find", str(folder), "[BOLD] stands", "--json", str(written)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "kind [bold] stands here." in printed
    assert "1 document of" in printed and "MB/s" in printed
    content = json.loads(written.read_text())
    assert content["whole"][0]["id"] == "train.0.1" and content["complete"] is True


def test_nothing_found_is_said_and_is_no_failure(folder: Path, capsys) -> None:
    """Would catch a silent end, which looks like a search that did not take place."""
    assert main(["corpus", "find", str(folder), "nowhere"]) == 0
    assert "no document of" in capsys.readouterr().out
    find_command(folder, "a b c d e f g h i", exact=False, limit=5)
    assert "nor 8 of its words in a row" in capsys.readouterr().out


def test_a_wrong_call_is_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    """Would catch a stack trace for a folder, a number or a file that cannot be."""
    assert main(["corpus", "find", str(tmp_path / "none"), "x"]) == 3
    assert main(["corpus", "find", str(folder), "x", "--limit", "0"]) == 2
    assert main(["corpus", "find", str(folder), "x", "--json", str(tmp_path / "no/file")]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_memory_does_not_grow_with_the_shard(tmp_path: Path, monkeypatch) -> None:
    """Would catch a shard decoded as a whole."""
    text = "word " * 5000
    tokenizer = train_tokenizer([text], 300)
    document = [tokenizer.end_of_text, *tokenizer.encode(text), tokenizer.end_of_text]
    folder = write_corpus(tmp_path / "corpus", [[document] * 100], tokenizer=tokenizer.fingerprint)
    tokenizer.save(folder / "tokenizer")

    def peak_mib(batch_tokens: int) -> float:
        monkeypatch.setattr(decoded_shards, "BATCH_TOKENS", batch_tokens)
        return traced(lambda: find_passage(folder, "nowhere", workers=1)).most / 2**20

    whole_shard = 100 * len(document)
    batched, at_once = peak_mib(whole_shard // 10), peak_mib(whole_shard)
    # A tenth of the text, and what is held beside it.
    assert batched < at_once / 5
