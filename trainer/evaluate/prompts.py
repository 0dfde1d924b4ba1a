"""A Prompt as token ids, in the form that the model knows: its chat template's, or plain text."""

from collections.abc import Sequence

from trainer.conversations.encoding import SpanEncoder
from trainer.conversations.spans import TextSpan, asked
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.respondent import Prompt
from trainer.recipe import Recipe

QUESTION, ANSWER = "Question:", "Answer:"
THINKS = "enable_thinking"
"""The template variable by which a model thinks before it answers."""
PROMPT = "the prompt"
"""Where errors about a prompt begin by saying that they are."""
_PLACE = RecordLocation(PROMPT, "file", 1)


class PromptEncoder:
    """Writes prompts for one model.

    A model with a chat template, or fine-tuned by the default one, is asked through it, with the
    recipe's template variables; where its template can ask for an answer without thoughts before
    it (Qwen3's), it does, unless the recipe says otherwise: an answer of few tokens would hold
    nothing else. The system prompt is the Prompt's alone: the recipe's own
    `conversations.system` is not added, so that two models are asked the same. Other models get a
    question as "Question: ..." and "Answer:" on lines of their own, behind the system prompt and
    the shots in that form, a blank line between two. Raises RecipeError for a template that cannot
    be used.
    """

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe) -> None:
        self._tokenizer = tokenizer
        self._template: ChatTemplate | None = None
        if tokenizer.chat_template is not None or recipe.stage_traits.reads_sets:
            variables = recipe.conversations.template_variables
            template = ChatTemplate(tokenizer, variables=variables)
            if THINKS not in variables and not template.unread_variables([THINKS]):
                template = ChatTemplate(tokenizer, variables={**variables, THINKS: False})
            self._template = template
            self._spans = SpanEncoder(tokenizer)

    @property
    def chats(self) -> bool:
        """Whether questions pass through a chat template."""
        return self._template is not None

    @property
    def speaking(self) -> Tokenizer:
        """The tokenizer, which knows how an answer ends."""
        return self._tokenizer if self._template is None else self._template.tokenizer

    def ids(self, prompt: Prompt) -> list[int]:
        """The ids that ask for an answer.

        Raises DataError or RecipeError where the template refuses the prompt or leaves some of it
        out, and where the prompt spells a special token, which would forge a turn.
        """
        if self._template is None or prompt.plain:
            return self._begun(self._tokenizer.encode(_written(prompt)))
        return self._tokenizer.encode_rendered(asked(_conversation(prompt), self._template).prompt)

    def pair(self, prompt: Prompt, text: str) -> tuple[list[int], list[int]]:
        """The ids that ask, and those of the answer's text behind them. Raises as `ids`.

        Behind plain text both are encoded as one and parted where the prompt's own ids end, spaces
        at the prompt's end being the text's, as lm-eval does. Behind a chat template the text is
        encoded as in training.
        """
        if self._template is None or prompt.plain:
            before = _written(prompt)
            if not prompt.plain and text and not text[0].isspace():
                text = f" {text}"
            bare = before.rstrip()
            whole = self._tokenizer.encode(before + text)
            border = len(self._tokenizer.encode(bare))
            return self._begun(whole[:border]), whole[border:]
        rendered = asked(_conversation(prompt), self._template).prompt
        spans = [TextSpan("", rendered), TextSpan(rendered, text, special=False)]
        ((before_ids, text_ids),) = self._spans.encode([spans])
        return before_ids, text_ids

    def text(self, prompt: Prompt, ids: Sequence[int], tokens: Sequence[int]) -> str:
        """What tokens say that were written behind the prompt's `ids`."""
        if self._template is not None and not prompt.plain:
            return self._tokenizer.decode(tokens)
        written = self._tokenizer.decode_behind(ids, tokens)
        return written if prompt.plain else written.removeprefix(" ")

    def stops(self, prompt: Prompt) -> tuple[str, ...]:
        """Texts that end an answer in this form, which has no end of its own: the next question."""
        return () if self._template is not None or prompt.plain else (f"\n{QUESTION}",)

    def _begun(self, ids: list[int]) -> list[int]:
        """The ids behind what a text begins with; a text that would be empty gets the blank one."""
        return [*self._tokenizer.start, *ids] or [self._tokenizer.end_of_text]


def _written(prompt: Prompt) -> str:
    """A plain prompt's text, or the question in the form for models without a template."""
    if prompt.plain:
        return prompt.text
    parts = [prompt.system] if prompt.system else []
    parts += [f"{QUESTION} {asks}\n{ANSWER} {answer}" for asks, answer in prompt.shots]
    return "\n\n".join([*parts, f"{QUESTION} {prompt.text}\n{ANSWER}"])


def _conversation(prompt: Prompt) -> Conversation:
    messages = [Message("system", prompt.system)] if prompt.system else []
    for question, answer in prompt.shots:
        messages += [Message("user", question), Message("assistant", answer, supervised=False)]
    return Conversation((*messages, Message("user", prompt.text)), _PLACE)
