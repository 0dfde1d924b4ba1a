"""From a conversation to tokens, with a flag on those that the model learns to predict."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainer.conversations.bare_text import plain, refuse_spelled
from trainer.conversations.encoding import SpanEncoder
from trainer.conversations.spans import TextSpan, Written, written
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import TARGET
from trainer.errors import DataError
from trainer.recipe.fine_tuning import ConversationsSection

FlaggedTokens = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Marked:
    """A sequence as it is stored: an example, or one answer of an example.

    `tokens` are ids with the bits of trainer.data.token_flags; `identity` is the SHA-256 of the
    example's content in hex; `targets` counts the tokens to predict, `characters` those of its
    messages. `counterfactual`: its gendered terms are swapped, those of the example with this
    identity, beside which it may stand (`beside`).
    """

    tokens: FlaggedTokens
    place: RecordLocation
    identity: str
    targets: int
    characters: int
    counterfactual: bool = False
    beside: bool = False


@dataclass
class ExampleCounts:
    """What became of a set's examples.

    `sequences` are what the used ones became; `first_malformed` is the line that the first one
    gives. `dropped_long` examples were too long; `sequences_long` are those of the used ones that
    were. `added` are the counterfactuals beside the used ones. `flattened`, `changes` and `unread`
    count examples by what was written as text, by what was done to their turns, and by the keys
    that nothing read.
    """

    read: int = 0
    used: int = 0
    dropped_long: int = 0
    cut: int = 0
    malformed: int = 0
    first_malformed: str | None = None
    tokens: int = 0
    targets: int = 0
    sequences: int = 0
    sequences_long: int = 0
    held_out: int = 0
    added: int = 0
    flattened: dict[str, int] = field(default_factory=Counter)
    changes: dict[str, int] = field(default_factory=Counter)
    unread: dict[str, int] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values."""
        # dataclasses.asdict copies a Counter wrongly before Python 3.12: its pairs become its keys.
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
        }


class Marker:
    """Marks conversations for one template and one section of the recipe.

    Each answer follows the prompt that asks for it, as at inference. The targets are what the
    assistant says up to and including the special token that ends its turn, and not what the
    template puts after it. Where a template ends an answer with no special token, the whole answer
    is a target, and after a sequence's last answer an end of text too, so that the model learns to
    stop; none after earlier ones, since the template has none there. A plain completion is the bare
    text of prompt and completion, the latter with an end of text.
    """

    def __init__(self, template: ChatTemplate, section: ConversationsSection) -> None:
        self.template, self._section = template, section
        self._tokenizer = template.tokenizer
        self._encoder = SpanEncoder(template.tokenizer)

    def write(self, conversation: Conversation) -> Written:
        """The conversation as text.

        Raises DataError, naming the place, as `trainer.conversations.spans.written` does, and for
        bare text that spells a special token, unless `special_tokens` says what it means.
        """
        if not conversation.plain:
            joins, rewriting = self._encoder.joins, self._section.rewriting
            return written(conversation, self.template, joins, rewriting)
        if self._section.special_tokens == "refuse":
            refuse_spelled(conversation, self.template)
        parsed = self._section.special_tokens == "token"
        return plain(conversation, self.template, parsed)

    def tokens(self, texts: Sequence[Written]) -> list[list[FlaggedTokens]]:
        """The tokens of each one's sequences, uint32 [n], each one to predict with TARGET."""
        sequences = [spans for text in texts for spans in text.sequences]
        encoded = iter(self._encoder.encode(sequences))
        return [[self._joined(spans, next(encoded)) for spans in text.sequences] for text in texts]

    def mark(self, conversation: Conversation) -> list[FlaggedTokens]:
        """The sequences of one conversation. Raises as `write` does."""
        return self.tokens([self.write(conversation)])[0]

    def mark_answer(self, conversation: Conversation, text: Written | None = None) -> FlaggedTokens:
        """The one sequence of a prompt and its answer. Raises as `write` does.

        Also where the template rewrites an answer of several turns: half an answer is not the one
        that was judged.
        """
        text = text or self.write(conversation)
        if len(text.sequences) > 1:
            raise DataError(
                f"{conversation.place}: the template changes the answer's earlier turns when it"
                " asks for the last: only a single sequence can be judged; name another template"
                " in conversations.template, or give the earlier answers in the prompt"
            )
        return self.tokens([text])[0][0]

    def _joined(self, spans: Sequence[TextSpan], encoded: Sequence[list[int]]) -> FlaggedTokens:
        start = list(self._tokenizer.start)
        ids: list[int] = []
        learnt: list[tuple[int, int]] = []
        for span, found in zip(spans, encoded, strict=True):
            # A text that spells its start needs no second one.
            if span.starts and found[: len(start)] != start:
                ids += start
            begin = len(ids)
            ids += found
            if span.ends:
                ids.append(self._tokenizer.end_of_text)
            if span.learnt:
                learnt.append((begin, len(ids)))
        # A copy of an array of the same type takes half the time of one made of a list.
        tokens = np.array(array("I", ids), dtype=np.uint32)
        assert tokens.max(initial=0) < self._tokenizer.size
        for begin, end in learnt:
            tokens[begin:end] |= np.uint32(TARGET)
        return tokens


def shorten(
    tokens: FlaggedTokens,
    sequence_length: int,
    too_long: Literal["drop", "cut", "stop"],
    place: RecordLocation,
) -> FlaggedTokens | None:
    """The tokens, cut where they take more positions than a sequence has; None: drop them.

    n tokens take n - 1 positions, since the last one is a label alone. What has no token to predict
    once it is cut is dropped. Raises DataError for `stop`.
    """
    positions = len(tokens) - 1
    if positions <= sequence_length:
        return tokens
    if too_long == "stop":
        raise _too_long(place, positions, sequence_length)
    kept = tokens[: sequence_length + 1]
    return kept if too_long == "cut" and count_targets(kept) else None


def fits(
    tokens: FlaggedTokens,
    sequence_length: int,
    too_long: Literal["drop", "cut", "stop"],
    place: RecordLocation,
) -> bool:
    """Whether two segments take no more positions than a sequence has, (a - 1) + (b - 1).

    They are never cut: half an answer is not the one that was judged. Raises DataError for `stop`.
    """
    positions = len(tokens) - 2
    if positions > sequence_length and too_long == "stop":
        raise _too_long(place, positions, sequence_length)
    return positions <= sequence_length


def count_targets(tokens: FlaggedTokens) -> int:
    """The number of tokens with TARGET."""
    return int(np.count_nonzero(tokens & np.uint32(TARGET)))


def _too_long(place: RecordLocation, positions: int, sequence_length: int) -> DataError:
    return DataError(
        f"{place}: takes {positions} positions, more than sequence_length {sequence_length}: raise"
        " it, or set conversations.too_long=drop"
    )
