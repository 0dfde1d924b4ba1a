"""From a conversation to tokens, with a flag on those that the model learns to predict."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainer.conversations.template import ChatTemplate, continued
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError

FlaggedTokens = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Marked:
    """An example as it is stored.

    `tokens` are ids with the bits of trainer.data.token_flags; `identity` is the SHA-256 of its
    content in hex; `targets` counts the tokens to predict, `characters` those of its messages.
    """

    tokens: FlaggedTokens
    place: RecordLocation
    identity: str
    targets: int
    characters: int


@dataclass
class ExampleCounts:
    """What became of a set's examples; `first_malformed` is the line that the first one gives."""

    read: int = 0
    used: int = 0
    dropped_long: int = 0
    cut: int = 0
    malformed: int = 0
    first_malformed: str | None = None
    tokens: int = 0
    targets: int = 0


def mark(conversation: Conversation, template: ChatTemplate) -> FlaggedTokens:
    """The tokens of a conversation, uint32 [n], each one to predict with TARGET.

    Each span of text (the prompt up to an answer; the answer) is encoded by itself, as at
    inference. The targets are what the assistant says up to and including the special token that
    ends its turn, and not what the template puts after it. Where a template ends an answer with no
    special token, the whole answer is a target, and after the last answer an end of text too, so
    that the model learns to stop; none after earlier ones, since the template has none there.

    A plain completion is the bare text of prompt and completion, the latter with an end of text.

    Raises DataError, naming the place, where the template fails, or changes what it has written
    once, and where a message spells a special token, which would forge a turn.
    """
    if conversation.plain:
        tokens = _plain(conversation, template.tokenizer)
    else:
        tokens = _rendered(conversation, template)
    return np.array(tokens, dtype=np.uint32)


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


def _plain(conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
    prompt, completion = conversation.messages[0].content, conversation.messages[-1].content
    # Some sets write the end of text out; it is one, not its letters.
    completion = completion.removesuffix(tokenizer.decode([tokenizer.end_of_text]))
    answer = [*continued(tokenizer.encode, completion), tokenizer.end_of_text]
    return [*tokenizer.start, *tokenizer.encode(prompt), *(token | TARGET for token in answer)]


def _rendered(conversation: Conversation, template: ChatTemplate) -> list[int]:
    _refuse_forged(conversation, template)
    messages = template.with_system(conversation.messages)
    learnt = [n for n, one in enumerate(messages) if one.role == "assistant" and one.supervised]
    tokens: list[int] = []
    text = ""
    for number in learnt:
        prompt, whole = _stretch(messages, number, conversation, template)
        last = number == learnt[-1]
        if not last:
            whole = whole.removesuffix(template.closing)
        _check_kept(messages, number, (text, prompt, whole), conversation.place)
        encode = template.tokenizer.encode_rendered
        rest = prompt[len(text) :]
        tokens += continued(encode, rest) if text else encode(rest)
        answer = continued(encode, whole[len(prompt) :])
        tokens += _supervised(answer, template, last)
        text = whole
    assert all(token & ID_MASK < template.tokenizer.size for token in tokens)
    return tokens


def _stretch(
    messages: tuple[Message, ...], number: int, conversation: Conversation, template: ChatTemplate
) -> tuple[str, str]:
    """The rendered prompt for the answer at message `number`, and the text with that answer."""
    tools, place = conversation.tools, conversation.place
    prompt = template.render(
        messages[:number], add_generation_prompt=True, tools=tools, place=place
    )
    return prompt, template.render(messages[: number + 1], tools=tools, place=place)


def _check_kept(
    messages: tuple[Message, ...], number: int, texts: tuple[str, str, str], place: RecordLocation
) -> None:
    """Raise DataError unless each rendered text is a prefix of the next."""
    before, prompt, whole = texts
    answer = sum(message.role == "assistant" for message in messages[: number + 1])
    if not prompt.startswith(before):
        raise DataError(
            f"{place}: the template changes the text of earlier turns when it asks for answer"
            f" {answer}: name another in conversations.template, or give the earlier answers"
            ' "weight": 0'
        )
    if not whole.startswith(prompt):
        raise DataError(
            f"{place}: the template changes the text of earlier turns when it writes answer"
            f" {answer}, or begins it otherwise than it asks for it: name another in"
            " conversations.template"
        )


def _supervised(answer: list[int], template: ChatTemplate, last: bool) -> list[int]:
    """An answer's tokens, marked up to the end of its turn."""
    if template.turn_end in answer:
        end = answer.index(template.turn_end) + 1
    else:
        answer = [*answer, template.tokenizer.end_of_text] if last else answer
        end = len(answer)
    return [token | TARGET for token in answer[:end]] + answer[end:]


def _refuse_forged(conversation: Conversation, template: ChatTemplate) -> None:
    """Raise DataError where rendering would turn a message's own text into a special token."""
    written = [(one.role, one.content) for one in conversation.messages]
    written += [(f"{one.role} name", one.name) for one in conversation.messages if one.name]
    written += [("tools", text) for tool in conversation.tools for text in _strings(tool)]
    for number, (what, text) in enumerate(written, start=1):
        if forged := template.forged(text):
            where = f"message {number} ({what})" if number <= len(conversation.messages) else what
            raise DataError(
                f"{conversation.place}: {where} spells {forged}, which would forge a turn: take it"
                " out"
            )


def _strings(value: object) -> list[str]:
    """All the strings in JSON values."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for held in pair for text in _strings(held)]
    return [text for held in value for text in _strings(held)] if isinstance(value, list) else []
