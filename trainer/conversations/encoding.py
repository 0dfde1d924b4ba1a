"""Spans of text to token ids, as one text has them and as a server meets them.

A prompt is encoded whole. What follows it is encoded by itself, as the model writes it; but behind
the token that really precedes it, because a tokenizer may put a space before every text
(SentencePiece), also behind special tokens, or strip the white space around some of those.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from trainer.conversations.spans import TextSpan
from trainer.data.tokenizer import Tokenizer

_CONTEXT_CHARACTERS = 256
_SHORT = 24


class _Piece(NamedTuple):
    """A span's part of an encoded text: behind `context`; up to `end`, or what stands `behind`."""

    span: TextSpan
    text: int
    context: str
    end: int | None = None
    behind: int | None = None


class SpanEncoder:
    """Encodes spans, those of many sequences at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = sorted(tokenizer.added_tokens, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added)) or r"(?!)")
        self._ending = tuple(added)
        self._independent = tokenizer.strips_nothing and not self._puts_space(added)
        self._joins_short = lru_cache(maxsize=4096)(self._same_together)

    def joins(self, left: str, text: str) -> bool:
        """Whether both have, one after the other, the tokens that they have as one text."""
        if not left or not text:
            return True
        if self._independent and (left.endswith(self._ending) or text.startswith(self._ending)):
            return True
        if left[-1] == "\n":
            # No token reaches from a line break into a word: what begins the text decides.
            start = text[: len(text) - len(text.lstrip()) + 1]
            if self._added.search(left, max(len(left) - _SHORT, 0)):
                return self._joins_short(left[-_SHORT:], start)
            text = start
        return self._same_together(left, text[:_CONTEXT_CHARACTERS])

    def encode(self, sequences: Sequence[Sequence[TextSpan]]) -> list[list[list[int]]]:
        """The ids of each span of each sequence."""
        texts: dict[bool, list[str]] = {True: [], False: []}
        pieces: list[list[_Piece]] = []
        for sequence in sequences:
            cut: list[_Piece] = []
            end: int | None = None
            for span in sequence:
                held = texts[span.special]
                if end is not None and span.special:
                    # An answer and what follows it are encoded as one, and parted at its end.
                    held[-1] += span.text
                    cut.append(_Piece(span, len(held) - 1, "", None, end))
                    end = None
                    continue
                context = "" if self._independent or not span.left else self._context(span.left)
                held.append(context + span.text)
                end = self._end(span) if span.learnt else None
                cut.append(_Piece(span, len(held) - 1, context, end))
            pieces.append(cut)
        found = {
            True: self._tokenizer.encode_rendered_batch(texts[True]) if texts[True] else [],
            False: self._tokenizer.encode_batch(texts[False]) if texts[False] else [],
        }
        return [[self._ids(piece, found[piece.span.special]) for piece in cut] for cut in pieces]

    def _end(self, span: TextSpan) -> int | None:
        """The id of the one special token with which an answer ends; None for any other span."""
        if not (span.special and self._independent and span.text.endswith(self._ending)):
            return None
        name = next(name for name in self._ending if span.text.endswith(name))
        if span.text.find(name) != len(span.text) - len(name):
            return None
        return self._tokenizer.added_tokens[name]

    def _ids(self, piece: "_Piece", encoded: list[list[int]]) -> list[int]:
        ids = encoded[piece.text]
        if piece.behind is not None:
            return ids[ids.index(piece.behind) + 1 :]
        if piece.end is not None:
            return ids[: ids.index(piece.end) + 1]
        return self._without(piece.context, piece.span.text, ids, piece.span.special)

    def _context(self, left: str) -> str:
        """The end of a text, from its last added token on, that decides what follows."""
        tail = left[-_CONTEXT_CHARACTERS:]
        found = list(self._added.finditer(tail))
        return tail[found[-1].start() :] if found else tail

    def _without(self, context: str, text: str, ids: list[int], special: bool) -> list[int]:
        """The ids of the text, of those of context and text."""
        if not context:
            return ids
        encode = self._tokenizer.encode_rendered if special else self._tokenizer.encode
        before = encode(context)
        if ids[: len(before)] == before:
            return ids[len(before) :]
        # A token reaches over the border, which no prompt has: the text goes on as behind a line.
        line = encode("\n")
        behind = encode("\n" + text)
        return behind[len(line) :] if behind[: len(line)] == line else encode(text)

    def _same_together(self, left: str, text: str) -> bool:
        encode, context = self._tokenizer.encode_rendered, self._context(left)
        before, together = encode(context), encode(context + text)
        if self._independent:
            return together == before + encode(text)
        return together[: len(before)] == before

    def _puts_space(self, added: Sequence[str]) -> bool:
        """Whether a text has other ids behind another text than alone."""
        encode = self._tokenizer.encode_rendered
        for before in ("\n", *added[:1]):
            ids = encode(before)
            together = encode(f"{before}x")
            if together[: len(ids)] != ids or together[len(ids) :] != encode("x"):
                return True
        return False
