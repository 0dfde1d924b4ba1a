"""A whole set: every example of its files that can be used, marked, with an account of the rest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal, ParamSpec, TypeVar

import numpy as np

from trainer.conversations.columns import SetNames
from trainer.conversations.forms import NAMES, conversation_of
from trainer.conversations.marking import (
    ExampleCounts,
    FlaggedTokens,
    Marked,
    Marker,
    count_targets,
    fits,
    shorten,
)
from trainer.conversations.pairs import Judged, judged_of, pair_of
from trainer.conversations.preferences import mark_judged, mark_pair
from trainer.conversations.records import Example, read_examples
from trainer.conversations.spans import Written
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import ID_MASK
from trainer.errors import DataError
from trainer.recipe.fine_tuning import ConversationsSection

Arguments = ParamSpec("Arguments")
_Tokens = TypeVar("_Tokens")
ENCODED_AT_ONCE = 64


def marked_examples(
    patterns: Sequence[str],
    kind: Literal["conversations", "pairs", "judged"],
    template: ChatTemplate,
    section: ConversationsSection,
    sequence_length: int,
    counts: ExampleCounts,
    anonymous: bool = False,
    names: SetNames = NAMES,
    rows: int | None = None,
) -> Iterator[Marked]:
    """The sequences of the files' examples, in their order; `counts` is updated as they are read.

    `names`: what the set calls its columns and roles; `rows`: those of the embedding, where its
    tokenizer has more tokens.

    Of `pairs`, tokens are those of `mark_pair`; of `judged`, those of `mark_judged`, the second
    answer being that of the example before which answers another prompt (the first ones, which have
    none before them, come last, with the set's last answer). Raises DataError in one line for an
    example that cannot be used, naming its file and number, unless `section.malformed` drops it;
    for one too long where `section.too_long` says so; where none is left; and for files that cannot
    be read.
    """
    reading = _Reading(template, section, sequence_length, counts, names, rows)
    examples = reading.examples(patterns, anonymous)
    readers: dict[str, Callable[[Iterable[Example]], Iterator[Marked]]] = {
        "conversations": reading.conversations,
        "pairs": reading.pairs,
        "judged": reading.judged,
    }
    for marked in readers[kind](examples):
        counts.sequences += 1
        counts.tokens += len(marked.tokens)
        counts.targets += marked.targets
        yield marked
    if not counts.used:
        raise _nothing_left(", ".join(patterns), counts)


def with_others(
    judged: Iterable[tuple[Judged, FlaggedTokens]],
) -> Iterator[tuple[Judged, FlaggedTokens, tuple[Message, ...]]]:
    """Each with the last answer before it to another prompt; those that have none come last.

    Raises DataError where all have one prompt.
    """
    waiting: list[tuple[Judged, FlaggedTokens]] = []
    last: Judged | None = None
    other: Judged | None = None
    for one, own in judged:
        if last is not None and one.side.prompt != last.side.prompt:
            other = last
        last = one
        if other is None:
            waiting.append((one, own))
        else:
            yield one, own, other.side.answer
    if last is None:
        return
    if other is None:
        raise DataError(
            f"{last.side.conversation.place}: is the last of answers to one prompt only: kto needs"
            " those to another, to compare with"
        )
    if last.side.prompt != waiting[0][0].side.prompt:
        other = last
    for one, own in waiting:
        yield one, own, other.side.answer


@dataclass(frozen=True)
class _Reading:
    """How one set is read, and the account of it."""

    template: ChatTemplate
    section: ConversationsSection
    sequence_length: int
    counts: ExampleCounts
    names: SetNames
    rows: int | None

    @cached_property
    def marker(self) -> Marker:
        """Marks the set's conversations."""
        return Marker(self.template, self.section)

    def examples(self, patterns: Sequence[str], anonymous: bool) -> Iterator[Example]:
        """The objects of the files, counted."""

        def refuse(fault: DataError) -> None:
            self.counts.read += 1
            self._set_aside(fault)

        columns = self.names.columns
        lacking = {theirs for ours, theirs in columns.items() if ours not in ("role", "content")}
        for example in read_examples(patterns, refuse, anonymous):
            self.counts.read += 1
            lacking -= example.record.keys()
            yield example
        if lacking and self.counts.read:
            raise DataError(
                f"{', '.join(patterns)}: none of {self.counts.read} examples has the column"
                f" {', '.join(sorted(lacking))}, which `columns` of the mixture's entry names: mend"
                " its name"
            )

    def conversations(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Those of stage sft, encoded some at once."""
        texts = self._written(examples)
        while some := list(islice(texts, ENCODED_AT_ONCE)):
            encoded = self.marker.tokens([text for _, text in some])
            for (conversation, _), sequences in zip(some, encoded, strict=True):
                if all(self._has_rows(tokens, conversation.place) for tokens in sequences):
                    yield from self._fitting(conversation, sequences)

    def _written(self, examples: Iterable[Example]) -> Iterator[tuple[Conversation, Written]]:
        for example in examples:
            conversation = self._attempt(conversation_of, example, self.names)
            text = None if conversation is None else self._write(conversation)
            if conversation is not None and text is not None:
                yield conversation, text

    def _fitting(
        self, conversation: Conversation, sequences: Sequence[FlaggedTokens]
    ) -> Iterator[Marked]:
        """Those of a conversation's sequences that are not too long."""
        place, too_long = conversation.place, self.section.too_long
        left = lost = 0
        for tokens in sequences:
            fitting = shorten(tokens, self.sequence_length, too_long, place)
            if fitting is None:
                lost += 1
                continue
            left += 1
            self.counts.cut += len(fitting) < len(tokens)
            targets, characters = count_targets(fitting), conversation.characters
            yield Marked(fitting, place, conversation.identity, targets, characters)
        self.counts.used += left > 0
        self.counts.dropped_long += left == 0
        self.counts.sequences_long += lost if left else 0

    def pairs(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Chosen and rejected answers."""
        for example in examples:
            pair = self._attempt(pair_of, example, self.names)
            if pair is None:
                continue
            texts = self._write_both(pair.chosen.conversation, pair.rejected.conversation)
            tokens = None if texts is None else self._attempt(mark_pair, pair, self.marker, texts)
            if tokens is not None and self._fits(tokens, example.place):
                self.counts.used += 1
                targets = count_targets(tokens)
                yield Marked(tokens, example.place, pair.identity, targets, pair.characters)

    def judged(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Answers judged good or bad, each beside one to another prompt."""
        for one, own, other in with_others(self._judged_alone(examples)):
            tokens = self._attempt(mark_judged, one, own, other, self.marker)
            conversation = one.side.conversation
            if tokens is not None and self._fits(tokens, conversation.place):
                self.counts.used += 1
                targets, characters = count_targets(tokens), conversation.characters
                yield Marked(tokens, conversation.place, one.identity, targets, characters)

    def _judged_alone(self, examples: Iterable[Example]) -> Iterator[tuple[Judged, FlaggedTokens]]:
        for example in examples:
            found = self._attempt(judged_of, example, self.names) or []
            # A pair is two judged answers.
            self.counts.read += max(len(found) - 1, 0)
            for judged in found:
                conversation = judged.side.conversation
                text = self._write(conversation)
                if text is None:
                    continue
                own = self._attempt(self.marker.mark_answer, conversation, text)
                if own is not None and self._has_rows(own, conversation.place):
                    yield judged, own

    def _write(self, conversation: Conversation) -> Written | None:
        """The conversation's text, what was done to it and what nothing reads counted."""
        text = self._attempt(self.marker.write, conversation)
        if text is not None:
            self._count((conversation, text))
        return text

    def _write_both(
        self, chosen: Conversation, rejected: Conversation
    ) -> tuple[Written, Written] | None:
        first = self._attempt(self.marker.write, chosen)
        second = None if first is None else self._attempt(self.marker.write, rejected)
        if first is None or second is None:
            return None
        self._count((chosen, first), (rejected, second))
        return first, second

    def _count(self, *written: tuple[Conversation, Written]) -> None:
        """Count what was done to one example and what nothing reads of it, once each."""
        for counts, found in (
            (self.counts.unread, {key for one, text in written for key in one.unread}),
            (self.counts.unread, {key for one, text in written for key in text.unread}),
            (self.counts.changes, {key for one, text in written for key in one.changes}),
            (self.counts.flattened, {key for one, text in written for key in text.flattened}),
        ):
            for key in sorted(found):
                counts[key] = counts.get(key, 0) + 1

    def _attempt(
        self,
        function: Callable[Arguments, _Tokens],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> _Tokens | None:
        """What the function gives; None where the example at hand is set aside."""
        try:
            return function(*args, **kwargs)
        except DataError as fault:
            self._set_aside(fault)
            return None

    def _set_aside(self, fault: DataError) -> None:
        if self.section.malformed == "stop":
            raise DataError(f"{fault}; or set conversations.malformed=drop") from None
        self.counts.malformed += 1
        self.counts.first_malformed = self.counts.first_malformed or str(fault)

    def _has_rows(self, tokens: FlaggedTokens, place: RecordLocation) -> bool:
        """Whether the embedding has a row for each token; where not, the example is set aside."""
        largest = 0 if self.rows is None else int((tokens & np.uint32(ID_MASK)).max())
        if self.rows is None or largest < self.rows:
            return True
        name = self.template.tokenizer.decode([largest])
        fault = (
            f"{place}: holds {name} (token {largest}), and the model's embedding has {self.rows}"
            " rows: leave that text out, or take a base with a row for it"
        )
        self._set_aside(DataError(fault))
        return False

    def _fits(self, tokens: FlaggedTokens, place: RecordLocation) -> bool:
        if not self._has_rows(tokens, place):
            return False
        fit = fits(tokens, self.sequence_length, self.section.too_long, place)
        self.counts.dropped_long += not fit
        return fit


def _nothing_left(patterns: str, counts: ExampleCounts) -> DataError:
    if not counts.read:
        return DataError(f"{patterns}: holds no example: give a file that does")
    first = f"; the first malformed: {counts.first_malformed}" if counts.malformed else ""
    return DataError(
        f"{patterns}: none of {counts.read} examples can be used ({counts.dropped_long} too long,"
        f" {counts.malformed} malformed){first}: mend them, or raise sequence_length"
    )
