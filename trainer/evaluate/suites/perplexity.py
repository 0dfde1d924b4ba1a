"""How well held-out text is predicted: bits a byte, by source and by position.

Measured: the log-probability of each token behind those before it in its piece, over the run's own
validation sequences exactly as its validation loss reads them (pieces of documents as packing cuts
them; of conversations the answers alone, of preference pairs the chosen ones), or over the
validation documents of other text, `text_pieces.WindowsOfText`. Bits a byte compare models of
different tokenizers, as nats and perplexity a token do not: the sum of the bits of all tokens, the
end of a text included, over the bytes of UTF-8 text that they stand for. By position: the bits and
the bytes of the tokens that have so many before them in the piece; a model that uses what it has
read needs fewer bits the further on.

Not measured: whether what is likely is true or fair; text that the model has seen in training looks
easier than it is, which the overlap beside the figures shows.

Source: bits a byte as in Gao and others, "The Pile", 2020, arXiv 2101.00027, section 3.1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from trainer.corpus.rules.word_runs import word_spans
from trainer.evaluate.respondent import Likelihood, Response, TokensQuery
from trainer.evaluate.suites.suite import (
    FigureKind,
    Item,
    ItemRecord,
    Suite,
    SuiteContext,
    SuiteUnavailable,
    ratio,
)
from trainer.evaluate.text_pieces import LONGEST_WINDOW, TOKENS_READ, TextPiece

POSITIONS = (("1-32", 32), ("33-128", 128), ("129-512", 512), ("513-2048", 2048))
"""Names of ranges of positions, and their last; a token that has n before it is at position n."""
BEYOND = "2049-"
SHOWN_CHARACTERS = 200
PASSAGE_WORDS, FEWEST_WORDS = 13, 5
"""Words of a piece, from its middle, by which another text would hold it (GPT-3's choice: Brown and
others, 2020, arXiv 2005.14165, appendix C); of a shorter piece all, if it has so many."""


_Row = Callable[[ItemRecord], Sequence[float] | None]


def _items(context: SuiteContext) -> list[Item]:
    if context.held_out is None:
        raise SuiteUnavailable(
            "perplexity: there is no text to measure; name some with --corpus DIR or --text FILE"
        )
    pieces = [piece for piece in context.held_out if any(piece.counted)]
    if not pieces:
        raise SuiteUnavailable("perplexity: the text holds no token to predict; name other text")
    if context.limit is not None:
        pieces = _spread(pieces, context.limit)
    return [_item(piece) for piece in pieces]


def _spread(pieces: Sequence[TextPiece], limit: int) -> list[TextPiece]:
    """The first `limit` pieces, each source's in turn."""
    numbers: dict[str, int] = {}
    turns = []
    for index, piece in enumerate(pieces):
        turns.append((numbers.setdefault(piece.source, 0), index))
        numbers[piece.source] += 1
    return [pieces[index] for index in sorted(index for _, index in sorted(turns)[:limit])]


def _item(piece: TextPiece) -> Item:
    words = word_spans(piece.text)
    first = max(len(words) - PASSAGE_WORDS, 0) // 2
    held = words[first : first + PASSAGE_WORDS]
    passages = (piece.text[held[0][0] : held[-1][1]],) if len(held) >= FEWEST_WORDS else ()
    sizes: dict[str, int] = {}
    for index, size in enumerate(piece.sizes):
        if piece.counted[index]:
            sizes[_range_of(index)] = sizes.get(_range_of(index), 0) + size
    shown = {
        "source": piece.source,
        "document": piece.document,
        "text": piece.text[:SHOWN_CHARACTERS],
        "bytes_by_position": sizes,
        "counted": _spans(piece.counted),
    }
    return Item(piece.id, (TokensQuery(piece.tokens),), shown, passages)


def _judge(item: Item, responses: Sequence[Response]) -> ItemRecord:
    (answer,) = responses
    assert isinstance(answer, Likelihood)
    nats: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for first, last in item.shown["counted"]:
        for index in range(first, last):
            name = _range_of(index)
            nats[name] = nats.get(name, 0.0) - answer.nats[index]
            tokens[name] = tokens.get(name, 0) + 1
    return {
        "nats": sum(nats.values()),
        "tokens": sum(tokens.values()),
        "bytes": sum(item.shown["bytes_by_position"].values()),
        "by_position": {
            name: [nats[name], tokens[name], item.shown["bytes_by_position"][name]] for name in nats
        },
        "source": item.shown["source"],
    }


def _spans(counted: Sequence[bool]) -> list[list[int]]:
    """The runs of true values, each as its first index and the index behind its last."""
    edges = np.flatnonzero(np.diff(np.array([False, *counted, False]).astype(np.int8)))
    spans: list[list[int]] = edges.reshape(-1, 2).tolist()
    return spans


def _range_of(index: int) -> str:
    """The range of the position of the answer's token `index`, which has one more before it."""
    return next((name for name, last in POSITIONS if index + 1 <= last), BEYOND)


def _total(rows: np.ndarray) -> float:
    return float(rows[:, 0].sum())


def _perplexity(rows: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # infinite where it is beyond the largest float
        return float(np.exp(ratio(rows)))


def _bits(record: ItemRecord) -> Sequence[float]:
    return record["nats"] / math.log(2), record["bytes"]


def _bits_a_byte(rows: np.ndarray) -> float:
    """The sum of bits over the sum of bytes, or over 1 where no token stands for a byte."""
    return float(rows[:, 0].sum() / max(rows[:, 1].sum(), 1.0))


def _row_of_source(name: str) -> _Row:
    return lambda record: _bits(record) if record["source"] == name else None


def _row_of_range(name: str) -> _Row:
    def row(record: ItemRecord) -> Sequence[float] | None:
        if name not in record["by_position"]:
            return None
        nats, _, text_bytes = record["by_position"][name]
        return nats / math.log(2), text_bytes

    return row


def _figures(context: SuiteContext) -> dict[str, FigureKind]:
    def nats(record: ItemRecord) -> Sequence[float]:
        return record["nats"], record["tokens"]

    def bits(means: str, row: _Row) -> FigureKind:
        return FigureKind(means, row, _bits_a_byte, "lower")

    figures = {
        "bits_per_byte": bits("bits that a byte of text takes", _bits),
        "nats": FigureKind("nats that a token takes", nats, ratio, "lower"),
        "perplexity": FigureKind("e to the nats that a token takes", nats, _perplexity, "lower"),
        "tokens": FigureKind("tokens predicted", lambda one: (one["tokens"],), _total),
        "bytes": FigureKind("UTF-8 bytes of those tokens", lambda one: (one["bytes"],), _total),
    }
    for name in () if context.held_out is None else context.held_out.names:
        figures[f"bits_per_byte/{name}"] = bits(f"bits a byte of {name}", _row_of_source(name))
    for name in (*(name for name, _ in POSITIONS), BEYOND):
        means = f"bits a byte of tokens at positions {name} of their pieces"
        figures[f"bits_per_byte_at/{name}"] = bits(means, _row_of_range(name))
    return figures


SUITE = Suite(
    name="perplexity",
    measures="how many bits a byte of held-out text takes, by source and by position",
    leaves_out="whether what is likely is true; text that was trained on looks easier than it is",
    source="Gao and others, The Pile, 2020 (arXiv 2101.00027), section 3.1, for bits a byte",
    rules=2,
    items=_items,
    judge=_judge,
    figures=_figures,
    figures_by_text=("bits_per_byte/*",),
    options={"tokens": TOKENS_READ, "window": LONGEST_WINDOW},
)
