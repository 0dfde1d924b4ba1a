"""A prompt and its completion as bare text, which no template renders."""

from trainer.conversations.spans import TextSpan, Written
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation
from trainer.errors import DataError


def plain(conversation: Conversation, template: ChatTemplate, parsed: bool) -> Written:
    """A prompt and its completion as bare text; special tokens in it are letters unless `parsed`.

    The completion ends with an end of text, which some sets write out, unless it goes on.
    """
    end = template.raw_tokenizer.decode([template.raw_tokenizer.end_of_text])
    prompt, completion = (conversation.messages[n].content for n in (0, -1))
    first = TextSpan("", prompt, special=parsed, starts=True)
    answer = TextSpan(prompt, completion.removesuffix(end), learnt=True, special=parsed)
    return Written(((first, answer._replace(ends=not conversation.goes_on)),))


def refuse_spelled(conversation: Conversation, template: ChatTemplate) -> None:
    """Raise DataError where bare text spells a special token."""
    end = template.raw_tokenizer.decode([template.raw_tokenizer.end_of_text])
    fields = (
        ("prompt", conversation.messages[0].content),
        (
            "completion",
            conversation.messages[-1].content.removesuffix(end),
        ),
    )
    for name, text in fields:
        if forged := template.forged(text):
            raise DataError(
                f"{conversation.place}: the {name} spells {forged}: set"
                " conversations.special_tokens=token to read special tokens in bare text, =text"
                " to take them as letters, or give messages instead"
            )
