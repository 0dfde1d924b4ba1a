"""A whole set: every example of its files that can be used, marked, with an account of the rest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np

from trainer.conversations.columns import SetNames
from trainer.conversations.counterfactual import Counterfactuals, Version
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
from trainer.conversations.records import Example, ExampleFilter, read_examples
from trainer.conversations.spans import Written
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.reading.files import PLAINLY
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import ID_MASK
from trainer.errors import DataError
from trainer.recipe.data import Access
from trainer.recipe.fine_tuning import ConversationsSection

Arguments = ParamSpec("Arguments")
_Tokens = TypeVar("_Tokens")
_Kept = TypeVar("_Kept")
ENCODED_AT_ONCE = 64


def marked_examples(
    patterns: Sequence[str],
    kind: Literal["conversations", "pairs", "judged"],
    template: ChatTemplate,
    section: ConversationsSection,
    sequence_length: int,
    counts: ExampleCounts,
    access: Access = PLAINLY,
    names: SetNames = NAMES,
    rows: int | None = None,
) -> Iterator[Marked]:
    """The sequences of the files' examples, in their order; `counts` is updated as they are read.

    `names`: what the set calls its columns and roles; `rows`: those of the embedding, where its
    tokenizer has more tokens.

    Of `pairs`, tokens are those of `mark_pair`; of `judged`, those of `mark_judged`, the second
    answer being that of the example before which answers another prompt (the first ones, which have
    none before them, come last, with the set's last answer). A counterfactual follows its example.
    Raises DataError in one line for an example that cannot be used, naming its file and number,
    unless `section.malformed` drops it; for one too long where `section.too_long` says so; where
    none is left; and for files that cannot be read.
    """
    reading = _Reading(template, section, sequence_length, counts, names, rows)
    examples = reading.examples(patterns, access)
    readers: dict[str, Callable[[Iterable[Example]], Iterator[Marked]]] = {
        "conversations": reading.conversations,
        "pairs": reading.pairs,
        "judged": reading.judged,
    }
    for marked in readers[kind](examples):
        counts.sequences += not marked.beside
        counts.tokens += len(marked.tokens)
        counts.targets += marked.targets
        yield marked
    if not counts.used:
        raise _nothing_left(", ".join(patterns), counts)


def usable_by(
    kind: Literal["conversations", "pairs"],
    template: ChatTemplate,
    section: ConversationsSection,
    sequence_length: int,
    rows: int | None = None,
) -> ExampleFilter:
    """Whether `marked_examples` would use an example of this kind, asked of one at a time.

    Where it would stop instead, as `section` says, the example counts as used.
    """
    reading = _Reading(template, section, sequence_length, ExampleCounts(), NAMES, rows)
    marked = reading.pairs if kind == "pairs" else reading.conversations
    place = RecordLocation("example", "number", 1)

    def used(example: Mapping[str, Any]) -> bool:
        try:
            return next(marked([Example(dict(example), place)]), None) is not None
        except DataError:
            return True

    return used


def with_others(
    judged: Iterable[tuple[Judged, _Kept]],
) -> Iterator[tuple[_Kept, tuple[Message, ...]]]:
    """What is kept of each, and the last answer before it to another prompt; those that have none
    come last.

    Raises DataError where all have one prompt.
    """
    waiting: list[tuple[Judged, _Kept]] = []
    last: Judged | None = None
    other: Judged | None = None
    for one, kept in judged:
        if last is not None and one.side.prompt != last.side.prompt:
            other = last
        last = one
        if other is None:
            waiting.append((one, kept))
        else:
            yield kept, other.side.answer
    if last is None:
        return
    if other is None:
        raise DataError(
            f"{last.side.conversation.place}: is the last of answers to one prompt only: kto needs"
            " those to another, to compare with"
        )
    if last.side.prompt != waiting[0][0].side.prompt:
        other = last
    for _, kept in waiting:
        yield kept, other.side.answer


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

    def examples(self, patterns: Sequence[str], access: Access) -> Iterator[Example]:
        """The objects of the files, counted."""

        def refuse(fault: DataError) -> None:
            self.counts.read += 1
            self._set_aside(fault)

        columns = self.names.columns
        lacking = {theirs for ours, theirs in columns.items() if ours not in ("role", "content")}
        for example in read_examples(patterns, refuse, access):
            self.counts.read += 1
            lacking -= example.record.keys()
            yield example
        if lacking and self.counts.read:
            raise DataError(
                f"{', '.join(patterns)}: none of {self.counts.read} examples has the column"
                f" {', '.join(sorted(lacking))}, which `columns` of the mixture's entry names: mend"
                " its name"
            )

    @cached_property
    def counterfactuals(self) -> Counterfactuals:
        """Makes the versions of each example."""
        return Counterfactuals(self.section.balance, self.counts)

    def conversations(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Those of stage sft, encoded some at once."""
        texts = self._written(examples)
        left = True
        while some := list(islice(texts, ENCODED_AT_ONCE)):
            encoded = self.marker.tokens([text for _, text in some])
            for (version, _), sequences in zip(some, encoded, strict=True):
                # A counterfactual stands beside what is used.
                if version.beside and not left:
                    continue
                found = self._fitting(version, sequences)
                left = bool(found)
                yield from found

    def _written(
        self, examples: Iterable[Example]
    ) -> Iterator[tuple[Version[Conversation], Written]]:
        for example in examples:
            conversation = self._attempt(conversation_of, example, self.names)
            if conversation is None:
                continue
            for version in self.counterfactuals.of_conversation(conversation):
                text = self._write(version.held, counted=not version.beside)
                if text is None:
                    break
                yield version, text

    def _fitting(
        self, version: Version[Conversation], sequences: Sequence[FlaggedTokens]
    ) -> list[Marked]:
        """Those of a conversation's sequences that are not too long."""
        place, characters = version.held.place, version.held.characters
        if not all(self._has_rows(tokens, place) for tokens in sequences):
            return []
        found, cut = list[Marked](), 0
        for tokens in sequences:
            fitting = shorten(tokens, self.sequence_length, self._too_long(version), place)
            if fitting is not None:
                cut += len(fitting) < len(tokens)
                found.append(_marked(fitting, version, place, characters))
        self._count_use(version, bool(found))
        if not version.beside:
            self.counts.cut += cut
            self.counts.sequences_long += len(sequences) - len(found) if found else 0
        return found

    def pairs(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Chosen and rejected answers."""
        for example in examples:
            pair = self._attempt(pair_of, example, self.names)
            for version in [] if pair is None else self.counterfactuals.of_pair(pair):
                both, counted = version.held, not version.beside
                texts = self._write_both(
                    both.chosen.conversation, both.rejected.conversation, counted
                )
                if texts is None:
                    break
                tokens = self._attempt(mark_pair, both, self.marker, texts)
                if tokens is None or not self._fits(tokens, version, example.place):
                    break
                yield _marked(tokens, version, example.place, both.characters)

    def judged(self, examples: Iterable[Example]) -> Iterator[Marked]:
        """Answers judged good or bad, each beside one to another prompt.

        A counterfactual stands beside the same one as its example.
        """
        for versions, other in with_others(self._judged_alone(examples)):
            for version, own in versions:
                tokens = self._attempt(mark_judged, version.held, own, other, self.marker)
                conversation = version.held.side.conversation
                if tokens is None or not self._fits(tokens, version, conversation.place):
                    break
                yield _marked(tokens, version, conversation.place, conversation.characters)

    def _judged_alone(
        self, examples: Iterable[Example]
    ) -> Iterator[tuple[Judged, list[tuple[Version[Judged], FlaggedTokens]]]]:
        for example in examples:
            found = self._attempt(judged_of, example, self.names) or []
            # A pair is two judged answers.
            self.counts.read += max(len(found) - 1, 0)
            for versions in self.counterfactuals.of_judged(found):
                marked = []
                for version in versions:
                    conversation = version.held.side.conversation
                    text = self._write(conversation, counted=not version.beside)
                    if text is None:
                        break
                    own = self._attempt(self.marker.mark_answer, conversation, text)
                    if own is None or not self._has_rows(own, conversation.place):
                        break
                    marked.append((version, own))
                if marked:
                    yield marked[0][0].held, marked

    def _write(self, conversation: Conversation, counted: bool = True) -> Written | None:
        """The conversation's text, what was done to it and what nothing reads counted."""
        text = self._attempt(self.marker.write, conversation)
        if text is not None and counted:
            self._count((conversation, text))
        return text

    def _write_both(
        self, chosen: Conversation, rejected: Conversation, counted: bool
    ) -> tuple[Written, Written] | None:
        first = self._attempt(self.marker.write, chosen)
        second = None if first is None else self._attempt(self.marker.write, rejected)
        if first is None or second is None:
            return None
        if counted:
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

    def _fits(self, tokens: FlaggedTokens, version: Version[Any], place: RecordLocation) -> bool:
        if not self._has_rows(tokens, place):
            return False
        fit = fits(tokens, self.sequence_length, self._too_long(version), place)
        self._count_use(version, fit)
        return fit

    def _too_long(self, version: Version[Any]) -> Literal["drop", "cut", "stop"]:
        """What becomes of it where it is too long; nobody can mend a counterfactual."""
        stops = self.section.too_long == "stop" and version.beside
        return "drop" if stops else self.section.too_long

    def _count_use(self, version: Version[Any], used: bool) -> None:
        """Count an example that is used or too long, or a counterfactual beside one."""
        if not version.beside:
            self.counts.used += used
            self.counts.dropped_long += not used
        elif used:
            self.counts.added += 1
        else:
            self.counterfactuals.too_long()


def _marked(
    tokens: FlaggedTokens, version: Version[Any], place: RecordLocation, characters: int
) -> Marked:
    targets = count_targets(tokens)
    kind = version.counterfactual, version.beside
    return Marked(tokens, place, version.identity, targets, characters, *kind)


def _nothing_left(patterns: str, counts: ExampleCounts) -> DataError:
    if not counts.read:
        return DataError(f"{patterns}: holds no example: give a file that does")
    first = f"; the first malformed: {counts.first_malformed}" if counts.malformed else ""
    return DataError(
        f"{patterns}: none of {counts.read} examples can be used ({counts.dropped_long} too long,"
        f" {counts.malformed} malformed){first}: mend them, or raise sequence_length"
    )
