"""The forms of preferences, told apart by their fields: pairs of answers, and judged answers.

| fields | form |
|---|---|
| `prompt`, `chosen`, `rejected` | strings: bare text; or lists of messages |
| `question` or `input`, `chosen`, `rejected` | strings (orca_dpo_pairs, distilabel): conversations |
| `instruction`, `chosen`, `rejected` | strings, with `input` as Alpaca has it: conversations |
| `conversations`, `chosen`, `rejected` | LLaMA-Factory: the turns before, and a turn each |
| `chosen`, `rejected` | two whole conversations, whose shared beginning is the prompt: lists, or HH-RLHF's strings of "Human:" and "Assistant:" |
| `prompt`, `response_0`, `response_1`, `better_response_id` | PKU-SafeRLHF |
| `instruction`, `completions` | UltraFeedback: the best and the worst by `overall_score` |
| `prompt`, `completion`, `label` | one answer, and whether it is good |
| a conversation's form and `kto_tag` or `label` | LLaMA-Factory: its last answer, judged |

Where sides are whole conversations, a `prompt` beside them must be what they begin with. Only the
answers are learnt, not those that stand in a prompt.
"""  # noqa: E501 (a table's row is one line)

import itertools
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from trainer.conversations.columns import Fields, SetNames, fields_of
from trainer.conversations.forms import (
    BESIDE,
    FORMS,
    NAMES,
    beside,
    framed,
    instructed,
    prompt_and_answer,
    with_system,
)
from trainer.conversations.messages import message_of, messages_of
from trainer.conversations.records import Example
from trainer.conversations.turns import Conversation, Message, content_hash, ordered
from trainer.errors import DataError

FIELDS = frozenset({name for fields, _ in FORMS for name in fields}).union(
    BESIDE,
    ("chosen", "rejected", "label", "kto_tag", "completions"),
    ("response_0", "response_1", "better_response_id"),
)
"""Every name of ours that a set's columns can map to."""
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_QUESTIONS = ("question", "instruction", "input")
_SCORED = {"response", "overall_score"}


@dataclass(frozen=True)
class Answered:
    """A prompt and one answer to it."""

    conversation: Conversation
    answer: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the answer."""
        return self.conversation.messages[: -len(self.answer)]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which the first is preferred."""

    chosen: Answered
    rejected: Answered

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the content, in hex."""
        return content_hash([side.conversation.identity for side in (self.chosen, self.rejected)])

    @property
    def characters(self) -> int:
        """Of the prompt and both answers."""
        answer = sum(len(message.content) for message in self.rejected.answer)
        return self.chosen.conversation.characters + answer


@dataclass(frozen=True)
class Judged:
    """An answer, whether it is good, and the identity of the example it comes from."""

    side: Answered
    good: bool
    identity: str


def pair_of(example: Example, names: SetNames = NAMES) -> Pair:
    """The pair that an object holds. Raises DataError, naming its place, if none."""
    return _pair(names.fields(example))


def judged_of(example: Example, names: SetNames = NAMES) -> list[Judged]:
    """The judged answers of an object: one, or the two of a pair. Raises DataError if none."""
    fields = names.fields(example)
    place = fields.place
    if _holds_pair(fields):
        pair = _pair(fields)
        return [
            Judged(pair.chosen, True, pair.identity),
            Judged(pair.rejected, False, pair.identity),
        ]
    labels = [name for name in ("label", "kto_tag") if name in fields]
    form = next((f for f in FORMS if all(name in fields for name in f[0])), None)
    if not labels or form is None:
        raise DataError(
            f"{place}: unknown form, with {fields_of(fields)}: known are prompt + completion +"
            " label, chosen + rejected, and a conversation with label or kto_tag"
        )
    label = fields[labels[0]]
    if label not in (0, 1):
        raise DataError(f"{place}: {labels[0]} {label!r} is neither true nor false")
    side = _judged_side(fields, form)
    identity = content_hash([side.conversation.identity, bool(label)])
    return [Judged(side, bool(label), identity)]


def _judged_side(fields: Fields, form: Any) -> Answered:
    if {"prompt", "completion"} == set(form[0]):
        before, after, plain = prompt_and_answer(fields, "prompt", "completion")
        if not plain:
            before = with_system(fields, before)
        return _answered(before, after, str(fields.place), beside(fields), plain, fields)
    conversation = form[1](fields)
    *before, answer = conversation.messages
    before = [message._replace(supervised=False) for message in before]
    messages = (*before, answer._replace(supervised=True))
    conversation = replace(conversation, messages=messages, unread=fields.unread)
    return Answered(conversation, (messages[-1],))


def _holds_pair(fields: Fields) -> bool:
    return (
        {"chosen", "rejected"} <= fields.keys()
        or {"prompt", "response_0", "response_1"} <= fields.keys()
        or {"instruction", "completions"} <= fields.keys()
    )


def _pair(fields: Fields) -> Pair:
    place = fields.place
    if not _holds_pair(fields):
        raise DataError(
            f"{place}: unknown form, with {fields_of(fields)}: a pair has chosen and rejected; map"
            " other names by `columns` in the mixture's entry"
            + ("; judged answers are for preference.loss=kto" if "label" in fields else "")
        )
    prompt, chosen, rejected, plain = _parts(fields)
    if _said(chosen) == _said(rejected):
        raise DataError(f"{place}: chosen and rejected are equal: there is nothing to prefer")
    if not plain:
        prompt = with_system(fields, prompt)
    bare = beside(fields)
    sides = [
        _answered(prompt, answer, f"{place}: {name}", bare, plain, fields)
        for name, answer in (("chosen", chosen), ("rejected", rejected))
    ]
    return Pair(*sides)


def _answered(
    prompt: list[Message],
    answer: list[Message],
    where: str,
    bare: Conversation,
    plain: bool,
    fields: Fields,
) -> Answered:
    """The two joined into `bare`, their order checked; `where` is what an error begins with."""
    join = fields.names.same_role
    messages, changes = ordered([*prompt, *answer], where, join)
    if answer[0].role != "assistant":
        raise DataError(f"{where}: begins with the {answer[0].role}'s turn, not with an answer")
    # Turns that are joined make the prompt shorter; the answer begins with a turn of its own.
    joined = sum(one.role == other.role != "tool" for one, other in itertools.pairwise(prompt)) * (
        join == "join"
    )
    changes = (*fields.changes, *changes)
    made = replace(bare, messages=messages, plain=plain, changes=changes, unread=fields.unread)
    return Answered(made, messages[len(prompt) - joined :])


def _said(answer: list[Message]) -> list[tuple[object, ...]]:
    # Templates strip what messages begin and end with.
    return [(one.role, one.content.strip(), one.reasoning, one.calls) for one in answer]


def _same(one: Message, other: Message) -> bool:
    # Their own ids and times make no other question.
    return one._replace(extras={}) == other._replace(extras={})


Parts = tuple[list[Message], list[Message], list[Message], bool]


def _parts(fields: Fields) -> Parts:
    """Prompt, chosen and rejected answer as messages; last, whether they are bare text."""
    if "chosen" not in fields:
        return _compared(fields) if "completions" not in fields else _scored(fields)
    place = fields.place
    chosen, rejected = fields["chosen"], fields["rejected"]
    if isinstance(chosen, dict) and isinstance(rejected, dict):
        return _one_turn_each(fields)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise DataError(f"{place}: of chosen and rejected one is a string and one is not")
    if isinstance(chosen, str):
        return _two_strings(fields, chosen, str(rejected))
    sides = messages_of(fields, "chosen"), messages_of(fields, "rejected")
    asked = _asked(fields)
    if asked is not None and all(side[0].role == "assistant" for side in sides):
        return _prompt(fields, asked), *sides, False
    return (*_shared(fields, asked, sides), False)


def _asked(fields: Fields) -> str | None:
    """The field that holds the prompt."""
    return next((name for name in ("prompt", *_QUESTIONS) if name in fields), None)


def _prompt(fields: Fields, field: str) -> list[Message]:
    """The prompt's messages, whose answers are not learnt."""
    if isinstance(fields[field], str):
        return [Message("user", fields[field])]
    return [message._replace(supervised=False) for message in messages_of(fields, field)]


def _two_strings(fields: Fields, chosen: str, rejected: str) -> Parts:
    """Two answers to a prompt, or two whole conversations as HH-RLHF writes them."""
    answers = [Message("assistant", chosen)], [Message("assistant", rejected)]
    asked = _asked(fields)
    if "conversations" in fields:
        return _prompt(fields, "conversations"), *answers, False
    if asked is None:
        sides = _transcript(chosen), _transcript(rejected)
        if sides[0] is None or sides[1] is None:
            raise DataError(
                f"{fields.place}: has no prompt: give one, or chosen and rejected as lists of"
                " messages"
            )
        return (*_shared(fields, None, (sides[0], sides[1])), False)
    if asked == "prompt":
        plain = isinstance(fields[asked], str) and not framed(fields)
        return _prompt(fields, asked), *answers, plain
    if asked == "instruction":
        prompt = [message._replace(supervised=False) for message in instructed(fields)]
        return prompt, *answers, False
    return [Message("user", fields.text(asked))], *answers, False


def _transcript(text: str) -> list[Message] | None:
    """The turns of an HH-RLHF transcript; None for other text."""
    if not text.startswith("\n\nHuman:"):
        return None
    _, *parts = _HH_TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [Message(roles[who], said.strip()) for who, said in pairs]


def _one_turn_each(fields: Fields) -> Parts:
    """LLaMA-Factory: the turns before, and one turn chosen and one rejected."""
    field = next((name for name in ("conversations", "messages") if name in fields), _asked(fields))
    if field is None:
        raise DataError(f"{fields.place}: has no turns that chosen and rejected answer")
    prompt = _prompt(fields, field)
    chosen, rejected = (
        [message_of(fields[name], len(prompt) + 1, fields.names, fields.place)]
        for name in ("chosen", "rejected")
    )
    return prompt, chosen, rejected, False


def _compared(fields: Fields) -> Parts:
    """PKU-SafeRLHF: the response that is better, which need not be the safer one."""
    if "better_response_id" not in fields or fields["better_response_id"] not in (0, 1):
        raise DataError(f'{fields.place}: "better_response_id" is neither 0 nor 1')
    better = int(fields["better_response_id"])
    chosen, rejected = (
        [Message("assistant", fields.text(f"response_{n}"))] for n in (better, 1 - better)
    )
    return [Message("user", fields.text("prompt"))], chosen, rejected, False


def _scored(fields: Fields) -> Parts:
    """UltraFeedback: of several completions the best and the worst."""
    place, scored = fields.place, []
    completions = fields["completions"]
    further = set[str]()
    for number, one in enumerate(completions if isinstance(completions, list) else [], start=1):
        score = one.get("overall_score") if isinstance(one, dict) else None
        if not isinstance(score, int | float) or not isinstance(one.get("response"), str):
            raise DataError(f"{place}: completion {number} has no response or no overall_score")
        scored.append((float(score), one["response"]))
        further |= one.keys() - _SCORED
    fields.unread_within += [f"completions' {key}" for key in sorted(further)]
    scores = [score for score, _ in scored]
    if len(set(scores)) < 2:
        raise DataError(f"{place}: no completion has a better overall_score than another")
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    question = [Message("user", fields.text("instruction"))]
    chosen, rejected = ([Message("assistant", scored[n][1])] for n in (best, worst))
    return question, chosen, rejected, False


def _shared(
    fields: Fields, asked: str | None, sides: tuple[list[Message], list[Message]]
) -> tuple[list[Message], list[Message], list[Message]]:
    """The beginning that two conversations share, and what each goes on with."""
    place = fields.place
    if _said(sides[0]) == _said(sides[1]):
        raise DataError(f"{place}: chosen and rejected are equal: there is nothing to prefer")
    length = 0
    while length < min(map(len, sides)) and _same(sides[0][length], sides[1][length]):
        length += 1
    shared = sides[0][:length]
    prompt = fields[asked] if asked is not None else None
    if isinstance(prompt, str):
        begins = any(prompt.strip() == one.content.strip() for one in shared if one.role == "user")
    else:
        given = messages_of(fields, asked) if asked is not None else shared
        begins = _said(given) == _said(shared)
    if not begins or length == 0:
        raise DataError(
            f"{place}: chosen and rejected do not begin with"
            + (" the same prompt" if prompt is None else f' "{asked}"')
        )
    if shared[-1].role not in ("user", "tool") or length == min(map(len, sides)):
        raise DataError(
            f"{place}: chosen and rejected differ behind turn {length}, which is no question: only"
            " their answers to one prompt may differ"
        )
    before = [message._replace(supervised=False) for message in shared]
    return before, sides[0][length:], sides[1][length:]
