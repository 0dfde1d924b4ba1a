"""The perplexity suite: the run's own validation pieces, or the windows of other text."""

import itertools
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch

from tests.training.runs import recipe_of, write_text
from tests.training.sets import tuning_recipe, write_sets
from trainer.data.batch import IGNORE
from trainer.data.loader import validation_batches
from trainer.data.tokenizer import Tokenizer, train_tokenizer
from trainer.evaluate.corpora import SearchedDocument
from trainer.evaluate.respondent import Likelihood, Query, Response, TokensQuery
from trainer.evaluate.suites.perplexity import SUITE
from trainer.evaluate.suites.suite import ItemRecord, SuiteContext, SuiteUnavailable
from trainer.evaluate.text_pieces import HeldOutText, TextPiece, ValidationPieces, WindowsOfText
from trainer.evaluate.token_sizes import TokenSizes
from trainer.recipe import Recipe
from trainer.sources import Sources, open_sources

VOCABULARY = 384
MIXED = "naïve café, 東京の天気は晴れ。 🙂👩‍🔬 Привет, мир! "


class Uniform:
    """Every token of the vocabulary is as likely, whatever stands before it."""

    chats = False
    longest = 10_000

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        for index, query in enumerate(queries):
            assert isinstance(query, TokensQuery) and query.given == 1
            nats = (-math.log(VOCABULARY),) * (len(query.tokens) - 1)
            yield index, Likelihood(nats, False)


class FurtherOn(Uniform):
    """The nats that a token takes are 1 up to position 32, and 2 behind it."""

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        for index, query in enumerate(queries):
            assert isinstance(query, TokensQuery)
            count = len(query.tokens) - 1
            yield index, Likelihood((-1.0,) * min(count, 32) + (-2.0,) * (count - 32), False)


class Named:
    """Documents that were named in place of a run's corpora."""

    fingerprint = "0"

    def __init__(self, *documents: tuple[str, str]) -> None:
        self._documents = documents
        self.names = tuple(dict.fromkeys(source for source, _ in documents))

    def documents(self, split: str) -> Iterator[SearchedDocument]:
        assert split == "validation"
        for number, (source, text) in enumerate(self._documents):
            yield SearchedDocument(f"d{number}", source, split, text)

    def occurrences(self, passages: Sequence[str]) -> list[int]:
        raise NotImplementedError

    def holding(self, passages: Sequence[str], limit: int = 5) -> list[list[str]]:
        raise NotImplementedError


def records_of(model: Uniform, context: SuiteContext) -> list[ItemRecord]:
    items = SUITE.items(context)
    queries = [query for item in items for query in item.queries]
    answers = dict(model.responses(queries))
    return [
        {**item.shown, **SUITE.judge(item, [answers[number]])} for number, item in enumerate(items)
    ]


def figures_of(records: list[ItemRecord], context: SuiteContext) -> dict[str, float]:
    figures = {}
    for name, kind in SUITE.figures(context).items():
        rows = [row for row in map(kind.row, records) if row is not None]
        if rows:
            figures[name] = kind.reduce(np.array(rows, dtype=np.float64))
    return figures


def measured(model: Uniform, text: HeldOutText, limit: int | None = None) -> dict[str, float]:
    context = SuiteContext(model, limit=limit, held_out=text)
    return figures_of(records_of(model, context), context)


def validation_bytes(recipe: Recipe, sources: Sources) -> int:
    """UTF-8 bytes of the text that the validation loss predicts.

    In a byte-level vocabulary each character of a token's name is one of them.
    """
    count, tokenizer = 0, sources.tokenizer
    arguments = sources.stream_arguments(recipe)
    for batch in validation_batches(arguments, recipe.evaluate.sequences, 1, range(1)):
        batch = batch.first_answers()
        labels, positions = batch.labels[0], batch.position_ids[0]
        starts = torch.nonzero(positions == 0).flatten().tolist()
        for first, last in zip(starts, [*starts[1:], len(labels)], strict=True):
            piece = labels[first:last]
            predicted = piece[(piece != IGNORE) & (piece != tokenizer.end_of_text)]
            count += sum(len(tokenizer.name_of(number) or "") for number in predicted.tolist())
    return count


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Sources]:
    """A recipe whose documents are cut into pieces, some of them within a character."""
    folder = tmp_path_factory.mktemp("own")
    path = write_text(folder)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["text"] += MIXED * (number % 4) + chr(0x1F600 + number % 64) * 40
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    recipe = recipe_of(folder / "run", folder, evaluate__sequences=40)
    return recipe, open_sources(recipe)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the model reads a text and learns which word comes next"] * 9, 300)


def test_pieces_are_what_the_validation_loss_reads(own: tuple[Recipe, Sources]) -> None:
    """Catches pieces in another order, of other rows, or without their last label."""
    recipe, sources = own
    expected = []
    for batch in validation_batches(sources.stream_arguments(recipe), 40, 1, range(1)):
        labels, positions = batch.labels[0], batch.position_ids[0]
        starts = torch.nonzero(positions == 0).flatten().tolist()
        for first, last in zip(starts, [*starts[1:], len(labels)], strict=True):
            if int(labels[first]) != IGNORE:
                begin = batch.tokens[0, first : first + 1].tolist()
                expected.append([*begin, *labels[first:last].tolist()])
    pieces = list(ValidationPieces(recipe, sources))
    assert [list(piece.tokens) for piece in pieces] == expected
    assert len({piece.id for piece in pieces}) == len(pieces) > 40
    assert all(all(piece.counted) for piece in pieces)
    assert any(piece.text.endswith("\ufffd") for piece in pieces)  # the border cuts a character


@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
def test_of_sets_the_tokens_count_that_the_loss_counts(
    own: tuple[Recipe, Sources], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches questions and rejected answers in the figures, and a shifted mask."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    stage = "sft" if kind == "sft" else "preference"
    keys = {"tokenizer": str(own[1].folders[0] / "tokenizer")}
    if kind == "kto":
        keys["preference__loss"] = "kto"
    recipe = tuning_recipe(tmp_path, tmp_path, write_sets(tmp_path), stage, **keys)
    sources = open_sources(recipe)
    labels = [
        batch.first_answers().labels[0]
        for batch in validation_batches(sources.stream_arguments(recipe), 4, 1, range(1))
    ]
    expected = [number for row in labels for number in row.tolist() if number != IGNORE]
    pieces = list(ValidationPieces(recipe, sources))
    counted = [
        number
        for piece in pieces
        for number, counts in zip(piece.tokens[1:], piece.counted, strict=True)
        if counts
    ]
    assert counted == expected
    assert 0 < len(expected) < sum(len(piece.counted) for piece in pieces)
    found = measured(Uniform(), ValidationPieces(recipe, sources))
    assert (found["tokens"], found["bytes"]) == (
        len(expected),
        validation_bytes(recipe, sources),
    )


def test_a_uniform_model_takes_the_logarithm_of_its_vocabulary(own: tuple[Recipe, Sources]) -> None:
    """Catches nats for bits, other bytes than the text's, and sums over other tokens."""
    recipe, sources = own
    found = measured(Uniform(), ValidationPieces(recipe, sources))
    assert found["bytes"] == validation_bytes(recipe, sources)
    expected = math.log2(VOCABULARY) * found["tokens"] / found["bytes"]
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-12)
    assert found["bits_per_byte/corpus"] == found["bits_per_byte"]
    assert found["nats"] == pytest.approx(math.log(VOCABULARY), rel=1e-12)
    assert found["perplexity"] == pytest.approx(VOCABULARY, rel=1e-9)


def test_bits_are_attributed_to_their_sources_and_positions(tokenizer: Tokenizer) -> None:
    """Catches a position counted from 0, and a source that gets another's bytes."""
    texts = ("the model reads " * 40, "東京の天気は晴れ。" * 9)
    text = WindowsOfText(Named(("plain", texts[0]), ("mixed", texts[1])), tokenizer, 10_000)
    found = measured(FurtherOn(), text)
    lengths = [len(tokenizer.encode(one)) for one in texts]
    assert found["tokens"] == sum(lengths)
    for name, one, length in zip(("plain", "mixed"), texts, lengths, strict=True):
        bits = (32 + 2 * (length - 32)) / math.log(2)
        expected = bits / len(one.encode())
        assert found[f"bits_per_byte/{name}"] == pytest.approx(expected, rel=1e-12)
    early = 0
    for one in texts:
        ids = tokenizer.encode(one)[:32]
        # Whole characters and the bytes of the one that the 32nd token cuts, if it cuts one.
        early += sum(len(tokenizer.name_of(number) or "") for number in ids)
    assert found["bits_per_byte_at/1-32"] == pytest.approx(64 / math.log(2) / early, rel=1e-12)
    assert "bits_per_byte_at/2049-" not in found


@pytest.mark.parametrize("text", [MIXED * 3, "plain words only", "�� 東� kept", "", " a  b\n\n"])
def test_the_bytes_of_tokens_are_those_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    """Catches characters of several tokens that count for none, for each of them, or for more where
    a border of two windows cuts them.
    """
    ids = tokenizer.encode(text)
    sizes = TokenSizes(tokenizer).of(ids)
    assert sizes == [len(tokenizer.name_of(number) or "") for number in ids]
    assert sum(sizes) == len(text.encode())
    for first in range(len(ids)):
        for last in range(first, min(first + 6, len(ids))):
            assert TokenSizes(tokenizer).of(ids[first:last]) == sizes[first:last]


def fallback() -> Tokenizer:
    """Of SentencePiece's kind: a space before a text, and bytes for letters that it lacks."""
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581thec."]
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Prepend("\u2581"),
            tokenizers.normalizers.Replace(" ", "\u2581"),
        ]
    )
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("\u2581", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["</s>"])
    files = {"tokenizer.json": backend.to_str().encode()}
    return Tokenizer(files | {"tokenizer_config.json": b'{"eos_token": "</s>"}'}, "here")


def test_the_bytes_of_a_vocabulary_with_a_fallback_are_those_of_the_text() -> None:
    """Catches names such as <0xE6> that count for six bytes, and a first word's space."""
    found = fallback()
    text = "the \u6771\u4eac, th\u00e9!"
    ids = found.encode(text)
    # Each token is one byte, but for the space before the text, which is none.
    assert TokenSizes(found).of(ids) == [0] + [1] * len(text.encode())
    for first in range(5, len(ids)):
        part = ids[first : first + 3]
        assert TokenSizes(found).of(part)[1:] == [1] * (len(part) - 1)
    assert len(ids) == 1 + len(text.encode())


def test_long_documents_are_cut_and_every_token_counts_once(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches tokens at the border of two windows that are lost or counted twice."""
    text = MIXED * 5
    documents = Named(("a", text), ("a", "short"), ("a", ""))
    with caplog.at_level(logging.WARNING):
        pieces = list(WindowsOfText(documents, tokenizer, 16))
    assert "1 of 2 documents are longer than 16 tokens, and cut into windows" in caplog.text
    first = [piece for piece in pieces if piece.document == "d0"]
    assert max(len(piece.tokens) for piece in first) == 16
    assert [n for piece in first for n in piece.tokens[1:]] == tokenizer.encode(text)
    for before, after in itertools.pairwise(first):
        assert before.tokens[-1] == after.tokens[0]
    assert first[0].tokens[0] == tokenizer.end_of_text
    assert sum(map(len, (p.counted for p in pieces))) == len(tokenizer.encode(text)) + len(
        tokenizer.encode("short")
    )


@pytest.mark.parametrize("longest", [5, 16])
def test_windows_have_the_bytes_of_the_text(tokenizer: Tokenizer, longest: int) -> None:
    """Catches characters that the border of two windows cuts counted as U+FFFD, twice, and the
    space before a word that begins a window taken for that before a text.
    """
    for one in (tokenizer, fallback()):
        pieces = list(WindowsOfText(Named(("a", MIXED * 5), ("a", "the the")), one, longest))
        assert sum(sum(piece.sizes) for piece in pieces) == len((MIXED * 5 + "the the").encode())


def test_each_source_gives_as_many_tokens(tokenizer: Tokenizer) -> None:
    """Catches a first source that leaves no room for the second, and one that is never enough."""
    documents = Named(*[("long", "the model reads " * 20)] * 50, ("short", "a text " * 200))
    pieces = list(WindowsOfText(documents, tokenizer, 1000, tokens=400))
    counts = {name: 0 for name in documents.names}
    for piece in pieces:
        counts[piece.source] += sum(piece.counted)
    assert counts == {"long": 200, "short": 200}


def test_only_what_is_learnt_of_a_conversation_counts() -> None:
    """Catches the user's turns in an answer's figures, and positions counted without them."""
    piece = TextPiece(
        "one", "set", "d", tuple(range(50)), (False,) * 40 + (True,) * 9, (0,) * 40 + (2,) * 9, ""
    )

    class Conversations:
        names = ("set",)

        def __iter__(self) -> Iterator[TextPiece]:
            return iter([piece])

    found = measured(FurtherOn(), Conversations())
    assert (found["tokens"], found["bytes"], found["nats"]) == (9, 18, 2.0)
    assert "bits_per_byte_at/1-32" not in found and "bits_per_byte_at/33-128" in found


def test_a_limit_takes_pieces_of_every_source(tokenizer: Tokenizer) -> None:
    """Catches a limit that measures the first source alone."""
    documents = Named(*[("a", "the model")] * 9, ("b", "a text"))
    text = WindowsOfText(documents, tokenizer, 100)
    found = measured(Uniform(), text, limit=4)
    assert found["tokens"] == 3 * len(tokenizer.encode("the model")) + len(
        tokenizer.encode("a text")
    )


def test_without_text_it_says_what_it_needs(tokenizer: Tokenizer) -> None:
    """Catches a figure over nothing."""
    with pytest.raises(SuiteUnavailable, match="--corpus DIR or --text FILE"):
        SUITE.items(SuiteContext(Uniform()))
    with pytest.raises(SuiteUnavailable, match="holds no token"):
        text = WindowsOfText(Named(("a", "")), tokenizer, 100)
        SUITE.items(SuiteContext(Uniform(), held_out=text))


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("It rains on the old roof.", "It rains on the old roof"),
        ("東京の天気は晴れ。明日は雨が降る。", "京の天気は晴れ。明日は雨が降"),
        (" ".join(f"w{n}" for n in range(15)), " ".join(f"w{n}" for n in range(1, 14))),
        ("Too few words.", ""),
    ],
)
def test_a_piece_is_looked_for_by_words_of_any_script(
    tokenizer: Tokenizer, text: str, passage: str
) -> None:
    """Catches short texts, and those without spaces, that no other text could ever hold."""
    windows = WindowsOfText(Named(("a", text)), tokenizer, 1000)
    (item,) = SUITE.items(SuiteContext(Uniform(), held_out=windows))
    assert item.passages == ((passage,) if passage else ())
