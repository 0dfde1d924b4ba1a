"""Held-out text as a model reads it: pieces of documents, each beside the bytes of its tokens."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainer.data.source import Origin
from trainer.data.stream import Stream
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.corpora import SearchableText
from trainer.evaluate.token_sizes import TokenSizes
from trainer.recipe import Recipe
from trainer.sources import Sources

_log = logging.getLogger(__name__)

TOKENS_READ = 16_384
"""Tokens of other text than a run's own that are measured, the same number of each source."""
LONGEST_WINDOW = 4096
"""Tokens that a model reads of a document at a time, where it reads as many."""
_CHARACTERS_A_TOKEN = 64
"""More than tokens have on average in any text: what is encoded of a document."""


@dataclass(frozen=True)
class TextPiece:
    """A document, or a part of one, that a model reads from its first token on.

    `id`: of the piece, one of its kind; `source`: the name of its corpus; `document`: the
    document's id; `tokens`: their ids, [n + 1]; `counted`: whether each token but the first counts
    [n]; `sizes`: the bytes of text of each token that counts [n], 0 of others and of those that end
    a text; `text`: what it says.
    """

    id: str
    source: str
    document: str
    tokens: tuple[int, ...]
    counted: tuple[bool, ...]
    sizes: tuple[int, ...]
    text: str


class HeldOutText(Protocol):
    """Pieces of held-out text, the same whenever they are read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources, those that have no piece included."""

    def __iter__(self) -> Iterator[TextPiece]:
        """The pieces in order. Raises DataError where the text is missing or damaged."""


class ValidationPieces:
    """The pieces in the recipe's first `evaluate.sequences` packed validation sequences.

    The same tokens as `validation_loss` reads, and the same ones of them count: of conversations
    the answers, of preference pairs the chosen answers.
    """

    def __init__(self, recipe: Recipe, sources: Sources) -> None:
        self._recipe, self._sources = recipe, sources
        self.names: tuple[str, ...] = recipe.data.names() if recipe.data.mixture else ("corpus",)

    def __iter__(self) -> Iterator[TextPiece]:
        """The pieces in the order of the sequences."""
        arguments = self._sources.stream_arguments(self._recipe)
        unlike_training = {"split": "validation", "seed": 0, "epochs": None, "curriculum": ()}
        maker = _PieceMaker(self._sources.tokenizer)
        stream = Stream(**{**arguments, **unlike_training})
        try:
            for _ in range(self._recipe.evaluate.sequences):
                if stream.ends_epoch():
                    return
                source, row = stream.advance()
                name, pieces = self.names[source.number], source.read(row)
                origins = source.origins(row)
                # Of two answers side by side the first alone counts, as in `Batch.first_answers`.
                every = len(pieces) // len(origins)
                for origin, piece in zip(origins, pieces[::every], strict=True):
                    yield maker.of_origin(name, origin, piece, source.marked)
        finally:
            stream.close()


class WindowsOfText:
    """The validation documents of other text, encoded by the model's tokenizer.

    Of each source the first documents up to an equal part of `tokens`. A text begins with what the
    tokenizer puts before one, or with the end-of-text token, as in a corpus. One of more than
    `longest` tokens, or LONGEST_WINDOW, is cut into windows, each of which begins with the last
    token of the one before it, so that every token of the text counts once. How many documents were
    cut, and that more was left unread, is logged when the pieces have been read.
    """

    def __init__(
        self,
        text: SearchableText,
        tokenizer: Tokenizer,
        longest: int,
        tokens: int = TOKENS_READ,
    ) -> None:
        self._text, self._tokenizer, self._tokens = text, tokenizer, tokens
        self._window = min(longest, LONGEST_WINDOW)
        self.names = text.names

    def __iter__(self) -> Iterator[TextPiece]:
        """The windows in the order of the documents."""
        maker = _PieceMaker(self._tokenizer)
        start = self._tokenizer.start or (self._tokenizer.end_of_text,)
        sources = set(self.names)
        left = dict.fromkeys(sources, -(-self._tokens // max(len(sources), 1)))
        read = cut = unread = 0
        for number, document in enumerate(self._text.documents("validation")):
            room = left[document.source]
            if not any(left.values()):
                unread += 1
                break
            encoded = self._tokenizer.encode(document.text[: _CHARACTERS_A_TOKEN * room])
            ids = [*start, *encoded[:room]]
            left[document.source] = max(room - len(encoded), 0)
            unread += len(encoded) > room or not room
            read += len(ids) > len(start)
            cut += len(ids) > self._window
            for begin in range(0, len(ids) - 1, self._window - 1):
                window = ids[begin : begin + self._window]
                counted = [begin + index >= len(start) for index in range(1, len(window))]
                where = f"{document.source}#{number}@{begin}"
                yield maker.piece(where, document.source, document.id, window, counted)
        if cut:
            _log.warning(
                "perplexity: %d of %d documents are longer than %s tokens, and cut into windows",
                *(cut, read, f"{self._window:,}"),
            )
        if unread:
            _log.info("perplexity: the first %s tokens of the text are read", f"{self._tokens:,}")


class _PieceMaker:
    """Makes pieces of ids, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._sizes = tokenizer, TokenSizes(tokenizer)
        self._special = set(tokenizer.special_tokens.values())

    def of_origin(self, source: str, origin: Origin, stored: np.ndarray, marked: bool) -> TextPiece:
        """The piece that a corpus stores so: [n + 1], with its flags where `marked`."""
        ids: list[int] = (stored & ID_MASK if marked else stored).tolist()
        counted: list[bool] = [True] * (len(ids) - 1)
        if marked:
            counted = (stored[1:] & np.uint32(TARGET) != 0).tolist()
        where = f"{source}/{origin.shard}#{origin.index}@{origin.start}"
        return self.piece(where, source, str(origin.metadata.get("id", "")), ids, counted)

    def piece(
        self, where: str, source: str, document: str, ids: Sequence[int], counted: Sequence[bool]
    ) -> TextPiece:
        """A piece of these ids; `counted`: of each but the first whether it counts."""
        end = self._tokenizer.end_of_text
        sized = [
            index
            for index, (number, counts) in enumerate(zip(ids[1:], counted, strict=True))
            if counts and number != end
        ]
        sizes = [0] * len(counted)
        # What begins a text is not of it: a piece from the middle goes on behind a word instead.
        left = [ids[index] for index in sized[:1] if ids[index] not in self._special]
        found = self._sizes.of([ids[index + 1] for index in sized], left)
        for index, size in zip(sized, found, strict=True):
            sizes[index] = size
        text = self._tokenizer.decode([number for number in ids if number != end])
        parts = (tuple(ids), tuple(counted), tuple(sizes), text)
        return TextPiece(where, source, document, *parts)
