"""From a conversation to spans of text: what is read, and what is learnt, sequence by sequence."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from trainer.conversations.exchange import Exchange, has_reasoning, thoughts
from trainer.conversations.given import Given
from trainer.conversations.messages import ReadArguments
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message
from trainer.errors import DataError

_SWITCH = re.compile(r"(?<!\S)/\w+")
_DOCUMENT_TEXTS = {"text", "content", "contents", "snippet"}
Rewriting = Literal["split", "last", "refuse"]
Joins = Callable[[str, str], bool]
"""Whether two texts have the tokens, one after the other, that they have as one text."""


class TextSpan(NamedTuple):
    """A piece of a sequence that is encoded by itself, behind the text `left`.

    `learnt`: its tokens are targets; `special`: special tokens in it are parsed; `ends`: an end of
    text follows, a target too; `starts`: the tokenizer's own start goes before.
    """

    left: str
    text: str
    learnt: bool = False
    special: bool = True
    ends: bool = False
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as spans, one tuple of them a sequence.

    `flattened`: what the template does not read, written as text; `unread`: the keys of turns that
    it does not read at all.
    """

    sequences: tuple[tuple[TextSpan, ...], ...]
    flattened: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


def written(
    conversation: Conversation, template: ChatTemplate, joins: Joins, rewriting: Rewriting
) -> Written:
    """The conversation's sequences. In each, an answer follows the very prompt that asks for it.

    Where the template leaves earlier turns as they were, that is one sequence. Where it rewrites
    them (Qwen 3 drops earlier reasoning), or where the tokens of a prompt are others than those of
    its pieces, a further sequence begins with the next answer's prompt (`split`), only the last
    answer is learnt (`last`), or DataError is raised (`refuse`), as it is, naming the place, where
    the template fails, begins an answer otherwise than it asks for it, or leaves a message out, and
    where a message spells a special token, which would forge a turn.
    """
    template = template.of(conversation)
    _refuse_forged(conversation, template)
    messages = template.with_system(conversation.messages)
    given = template.given(conversation)
    asked = [n for n, one in enumerate(messages) if one.role == "assistant" and one.supervised]
    runs: list[_Run] = []
    last = -1
    for number, found in zip(asked, template.exchanges(given, asked, messages), strict=True):
        goes_on = bool(runs) and runs[-1].goes_on(found, joins, template)
        since = (last, len(runs[-1].before)) if goes_on else (-1, 0)
        last = number
        _check_whole(messages[: number + 1], since, found, template, conversation)
        if goes_on:
            runs[-1].before = found.prompt
            continue
        if runs and rewriting == "refuse":
            raise DataError(
                f"{conversation.place}: the template changes the text of earlier turns when it asks"
                f" for answer {_ordinal(messages, number)}: set conversations.rewriting=split, name"
                ' another template in conversations.template, or give the earlier answers "weight":'
                " 0"
            )
        runs.append(_Run.of(found))
    _check_read(messages, template, conversation)
    if rewriting == "last" and len(runs) > 1:
        runs = [_Run.of(found)]
    if conversation.tools or conversation.documents:
        _check_beside(runs[-1].before, template, conversation, given)
    goes_on = conversation.goes_on and asked[-1] == len(messages) - 1
    sequences = tuple(tuple(run.spans(template, goes_on and run is runs[-1])) for run in runs)
    return Written(sequences, given.flattened, _unread(given, template))


class RenderedPrompt(NamedTuple):
    """The text that asks for a conversation's answer; the others as in `Written`."""

    prompt: str
    flattened: tuple[str, ...]
    unread: frozenset[str]


def asked(conversation: Conversation, template: ChatTemplate) -> RenderedPrompt:
    """What asks for the answer to a conversation's last turn, a user's or a tool's.

    No system prompt is filled in. Raises DataError as `written` does for what a message spells and
    for what the template leaves out.
    """
    template = template.of(conversation)
    _refuse_forged(conversation, template)
    seen = tuple(one._replace(supervised=False) for one in conversation.messages)
    given = template.given(replace(conversation, messages=seen), system=False)
    prompt = template.written(given, len(seen), add_generation_prompt=True)
    unanswered = Exchange(prompt, "", "")
    _check_whole((*seen, Message("assistant", "")), (-1, 0), unanswered, template, conversation)
    _check_read(seen, template, conversation)
    _check_beside(prompt, template, conversation, given)
    return RenderedPrompt(prompt, given.flattened, _unread(given, template))


@dataclass
class _Run:
    """A sequence while it grows: its spans, what the template puts behind its last answer, and
    that answer's prompt.
    """

    parts: list[TextSpan]
    rest: str
    before: str

    @classmethod
    def of(cls, found: Exchange) -> "_Run":
        """The sequence of one answer."""
        answer = TextSpan(found.prompt, found.answer, learnt=True)
        return cls([TextSpan("", found.prompt), answer], found.rest, found.prompt)

    def goes_on(self, found: Exchange, joins: Joins, template: ChatTemplate) -> bool:
        """Add an answer whose prompt begins with all that is here; false where it does not."""
        prompt = found.prompt
        text = self.parts[-1].left + self.parts[-1].text
        if not prompt.startswith(text):
            return False
        between = prompt[len(text) :]
        if not (joins(self.parts[-1].left, self.parts[-1].text) and joins(text, between)):
            return False
        # Where an answer has no end of its own (GLM), a server stops at what begins the next turn.
        end = next((name for name in template.ends if between.startswith(name)), "")
        if end and not template.end_of(text):
            self.parts.append(TextSpan(text, end, learnt=True))
            text, between = text + end, between.removeprefix(end)
        self.parts += [TextSpan(text, between), TextSpan(prompt, found.answer, learnt=True)]
        self.rest = found.rest
        return True

    def spans(self, template: ChatTemplate, goes_on: bool) -> Iterator[TextSpan]:
        """The sequence's spans; without an end of its own turn, the last answer ends the text.

        Of one that `goes_on` nothing is an end.
        """
        *parts, last = self.parts
        yield from (span for span in parts if span.text)
        end = template.end_of(last.text)
        if goes_on:
            yield last._replace(text=last.text.removesuffix(end))
            return
        yield last if end else last._replace(ends=True)
        if self.rest:
            yield TextSpan(last.left + last.text, self.rest)


def _unread(given: Given, template: ChatTemplate) -> frozenset[str]:
    unread = {f"chat_template_kwargs' {n}" for n in template.unread_variables(given.variables)}
    return frozenset(given.unread | unread)


def _ordinal(messages: tuple[Message, ...], number: int) -> int:
    return sum(message.role == "assistant" for message in messages[: number + 1])


def _check_whole(
    messages: tuple[Message, ...],
    since: tuple[int, int],
    found: Exchange,
    template: ChatTemplate,
    conversation: Conversation,
) -> None:
    """Raise DataError where a message's text does not stand in what is rendered.

    The last message is the answer. `since`: the message up to which that is known of this very
    text, and where it ends. Reasoning of earlier turns, and what was said while calling tools, may
    be left out there: they are checked with their own answer.
    """
    first, at = since
    last = len(messages) - 1
    for number in range(first + 1, len(messages)):
        message = messages[number]
        text, start = (found.answer, 0) if number == last else (found.prompt, at)
        for piece in _pieces(message, own=number == last):
            where = _find(text, piece, 0 if message.role == "system" else start)
            if where < 0 and message.role == "system":
                where = _find(text, _without_switches(piece, template), 0)
            if where < 0:
                raise _left_out(message, number, piece, template, conversation)
            if message.role in ("user", "tool"):
                at = where


def _check_read(
    messages: tuple[Message, ...], template: ChatTemplate, conversation: Conversation
) -> None:
    """Raise DataError for a system prompt or a tool's result that the template never reads."""
    results = [n for n, one in enumerate(messages) if one.role == "tool" and one.content.strip()]
    if results and not template.abilities.results:
        number = results[0]
        content = messages[number].content
        raise _left_out(messages[number], number, content, template, conversation)
    system = messages[0] if messages[0].role == "system" and messages[0].content.strip() else None
    if system is not None and not template.abilities.system:
        raise _left_out(system, 0, system.content, template, conversation)


def _check_beside(
    prompt: str, template: ChatTemplate, conversation: Conversation, given: Given
) -> None:
    """Raise DataError where tools or documents do not stand in a prompt."""
    named = [tool.get("function", tool).get("name") for tool in conversation.tools]
    shown = template.abilities.tools and all(str(name) in prompt for name in named)
    if conversation.tools and not shown:
        raise DataError(
            f"{conversation.place}: the chat template ({template.name}) leaves its tools out: name"
            " one that reads them in conversations.template"
        )
    for document in given.documents or []:
        read = document.keys() & document.seen
        held = [dict.get(document, key) for key in read | (document.keys() & _DOCUMENT_TEXTS)]
        # A number may only have been compared; keys of inner objects may have been passed over.
        texts = [text for text in held if isinstance(text, str)]
        if not read or not all(_find(prompt, text.strip(), 0) >= 0 for text in texts):
            raise DataError(
                f"{conversation.place}: the chat template ({template.name}) leaves its documents"
                " out: name one that reads them in conversations.template"
            )


def _pieces(message: Message, own: bool) -> Iterable[str]:
    """The texts of a message that must stand in what is rendered."""
    if message.structured is not None:
        return _leaves(message.structured)
    if message.thinking and message.parts:
        own = own or message.role != "assistant"
        parts = [part for part in message.parts if own or part not in message.thinking]
        held = [str(part.get("thinking") or part.get("text") or "").strip() for part in parts]
        return filter(None, held)
    plain = message.role != "assistant" or not (message.reasoning or message.calls)
    if plain and (message.role != "assistant" or not has_reasoning(message.content)):
        piece = message.content.strip()
        return (piece,) if piece else ()
    return _pieces_of_answer(message, own)


def _pieces_of_answer(message: Message, own: bool) -> Iterator[str]:
    before, thought, said = thoughts(message)
    if before.strip():
        yield before.strip()
    if own and thought.strip():
        yield thought.strip()
    for call in message.calls:
        yield call["function"]["name"]
        if own:
            yield from _leaves(call["function"]["arguments"])
    if said.strip() and (own or not message.calls):
        yield said.strip()


def _leaves(value: object) -> Iterator[str]:
    """The strings of a call's arguments."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield str(key)
            yield from _leaves(held)
    elif isinstance(value, list):
        for held in value:
            yield from _leaves(held)
    elif isinstance(value, str) and value.strip():
        yield value.strip()


def _find(text: str, piece: str, start: int) -> int:
    """Where the piece stands, as it is or as JSON or Python writes it; -1: nowhere."""
    if (found := text.find(piece, start)) >= 0:
        return found
    for spelled in (json.dumps(piece, ensure_ascii=False), json.dumps(piece), repr(piece)):
        escaped = spelled[1:-1]
        if (found := text.find(escaped, start)) >= 0:
            return found
    # A template may trim lines, or join parts by other white space.
    return " ".join(text[start:].split()).find(" ".join(piece.split()))


def _without_switches(text: str, template: ChatTemplate) -> str:
    """The text without the words by which it sets the template itself (SmolLM 3's /no_think)."""
    kept = _SWITCH.sub(lambda found: "" if found[0] in template.text else found[0], text)
    return kept.strip()


def _left_out(
    message: Message, number: int, piece: str, template: ChatTemplate, conversation: Conversation
) -> DataError:
    begin = " ".join(piece.split())
    shown = begin if len(begin) <= 40 else f"{begin[:40]}..."
    return DataError(
        f"{conversation.place}: message {number + 1} ({message.role}): the chat template"
        f" ({template.name}) leaves out {shown!r}: name one that writes it in"
        " conversations.template, or take it out"
    )


def _refuse_forged(conversation: Conversation, template: ChatTemplate) -> None:
    """Raise DataError where rendering would turn a message's own text into a special token."""
    beside = conversation.tools or conversation.documents or conversation.variables
    simple = not beside and not any(
        one.extras or one.calls or one.reasoning or one.name or one.thinking or one.structured
        for one in conversation.messages
    )
    # No token holds a null character, so that none stands across two texts.
    if simple and not template.forged("\0".join([one.content for one in conversation.messages])):
        return
    for number, message in enumerate(conversation.messages, start=1):
        for what, text in _texts(message):
            if forged := template.forged(text):
                where = f"message {number} ({message.role}{what})"
                raise DataError(
                    f"{conversation.place}: {where} spells {forged}, which would forge a turn: take"
                    " it out"
                )
    for name, held in (
        ("tools", conversation.tools),
        ("documents", conversation.documents),
        ("chat_template_kwargs", conversation.variables),
    ):
        for text in _strings(held):
            if forged := template.forged(text):
                raise DataError(
                    f"{conversation.place}: {name} spells {forged}, which would forge a turn: take"
                    " it out"
                )


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    yield "", message.content
    if message.name is not None:
        yield " name", message.name
    if message.reasoning is not None:
        yield " reasoning", message.reasoning
    beside = [message.calls, message.extras, message.thinking, message.structured]
    for text in _strings(beside) if any(beside) else ():
        yield "", text


def _strings(value: object) -> Iterator[str]:
    """All the strings in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        if isinstance(value, ReadArguments):
            yield value.text
        for key, held in value.items():
            yield str(key)
            yield from _strings(held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from _strings(held)
