"""Where an answer begins in what a template writes, when it asks for it and when it shows it.

A server renders the prompt, and the model goes on from there. What is learnt is therefore the
prompt as it is rendered for an answer, and behind it what is missing to the whole. Most templates
write the whole as the prompt and more. Others do not:

- the prompt opens a reasoning block, which the whole leaves out (DeepSeek-R1 and its distillates,
  QwQ) or closes at once (Nemotron 3): behind the prompt the model writes its reasoning, or nothing,
  closes the block, and answers;
- the prompt writes an empty block, which the whole leaves out;
- what stands in front of the last question changes once it is answered (Mistral v2, v3 and Nemo
  write the system prompt into the last turn if that is the user's): the answer is what follows the
  prompt's last words.
"""

import re
from typing import NamedTuple

from trainer.conversations.turns import Message

_CLOSING = {
    "<think>": "</think>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
}
_TAGS = "|".join(map(re.escape, _CLOSING))
_CLOSINGS = "|".join(map(re.escape, _CLOSING.values()))
_OPENED = re.compile(rf"({_TAGS})\s*\Z")
_EMPTY = re.compile(rf"({_TAGS})\s*({_CLOSINGS})\s*\Z")
_LAST_WORDS = (64, 32, 16, 8)
_FEWEST_WORDS = 2
"""Characters of a prompt's end that mark where the answer begins, its own text being there."""


class Exchange(NamedTuple):
    """The prompt that asks for an answer; the answer to the end of its turn; what follows that."""

    prompt: str
    answer: str
    rest: str


class Contradiction(Exception):
    """Why an answer cannot follow its prompt."""


def answer_behind(prompt: str, whole: str, message: Message) -> str:
    """What follows `prompt` so that the answer `message` is given; `whole`: the text with it.

    Raises Contradiction where the template begins it otherwise than it asks for it.
    """
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    if opened := _OPENED.search(prompt):
        before = prompt[: opened.start()]
        if (rest := _behind(before, whole)) is not None:
            return _reasoned(rest, opened[1], message)
    empty = _EMPTY.search(prompt)
    if empty is not None:
        rest = _behind(prompt[: empty.start()], whole)
        if rest is not None:
            if rest.lstrip().startswith(empty[1]) or thoughts(message).reasoning:
                raise Contradiction(
                    "the prompt closes the reasoning that the answer has: set"
                    " conversations.template_variables={enable_thinking: true}, or leave it out"
                )
            return rest
    if (rest := _said_behind(prompt, whole, message) or _behind(prompt, whole)) is None:
        raise Contradiction(
            "the template begins the answer otherwise than it asks for it: name another in"
            " conversations.template"
        )
    return rest


class Thoughts(NamedTuple):
    """The parts of an answer: what stands before its reasoning, the reasoning, what it says."""

    before: str
    reasoning: str
    said: str


def has_reasoning(text: str) -> bool:
    """Whether a text holds a tag of reasoning."""
    return any(closing in text or opening in text for opening, closing in _CLOSING.items())


def thoughts(message: Message) -> Thoughts:
    """An answer's reasoning, of its own key or in its text."""
    content = message.content
    if message.reasoning is not None:
        return Thoughts("", message.reasoning.strip(), content)
    for opening, closing in _CLOSING.items():
        if closing in content:
            thought, _, said = content.rpartition(closing)
            before, opened, inside = thought.partition(opening)
            return Thoughts(before, inside.strip(), said) if opened else Thoughts("", thought, said)
        if content.lstrip().startswith(opening):
            return Thoughts("", content.lstrip().removeprefix(opening).strip(), "")
    return Thoughts("", "", content)


def _behind(prompt: str, whole: str) -> str | None:
    """What follows the prompt's last words, where they stand last; None where they do not."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    for size in _LAST_WORDS:
        last = prompt[-size:]
        if len(last) == size and (at := whole.rfind(last)) >= 0:
            return whole[at + size :]
    return None


def _said_behind(prompt: str, whole: str, message: Message) -> str | None:
    """The answer from what it says on, where the prompt's last words stand in front of that."""
    said = message.content.strip()
    at = whole.rfind(said) if said and not message.calls else -1
    if at < 0:
        return None
    found = (0, 0)
    for gap in range(3):
        before = whole[: at - gap]
        if gap and not whole[at - gap : at].isspace():
            break
        same = 0
        while same < min(len(prompt), len(before)) and prompt[-1 - same] == before[-1 - same]:
            same += 1
        found = max(found, (same, gap))
    return whole[at - found[1] :] if found[0] >= _FEWEST_WORDS else None


def _reasoned(rest: str, opening: str, message: Message) -> str:
    """The answer behind a prompt that opens a reasoning block; `rest`: as the whole shows it."""
    closing = _CLOSING[opening]
    if rest.startswith(opening):
        return rest.removeprefix(opening).removeprefix("\n")
    thought = thoughts(message).reasoning.strip()
    own = re.compile(rf"\s*({_TAGS})\s*{re.escape(thought)}\s*({_CLOSINGS})\s*")
    if rest.lstrip().startswith(closing):
        # The template closes the block itself, and what is said follows at once (DeepSeek V3.1).
        said = rest.lstrip().removeprefix(closing)
        block = own.match(said) if thought else None
        written = message.reasoning is not None and said.startswith("\n\n")
        said = said[block.end() :] if block else said[2:] if written else said
        return f"{thought}{closing}{said}"
    if thought and (block := own.match(rest)):
        rest = rest[block.end() :]
    if thought and closing in rest and rest.lstrip().startswith(thought):
        return rest  # The answer's own text begins with the reasoning.
    gap = "" if rest.startswith("\n") else "\n\n"
    return f"{thought}\n{closing}{gap}{rest}"
