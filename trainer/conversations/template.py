"""The chat template: how a conversation is written as one text."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.conversations.turns import Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.data.tokenizer import CONFIG_FILE, TURN_END, TURN_START, Tokenizer
from trainer.errors import DataError, LyceumError, RecipeError

Encode = Callable[[str], list[int]]


def continued(encode: Encode, text: str) -> list[int]:
    """The ids of a text that continues another one, which is encoded separately, as a prompt is.

    A SentencePiece tokenizer puts a space before every text, wrong in the middle of one. There the
    text is encoded after a line break, and the line break's ids are removed again.
    """
    if not text or not _puts_space(encode):
        return encode(text)
    line_break = encode("\n")
    ids = encode("\n" + text)
    return ids[len(line_break) :] if ids[: len(line_break)] == line_break else encode(text)


def _puts_space(encode: Encode) -> bool:
    line_break, behind = encode("\n"), encode("\nx")
    return behind[: len(line_break)] == line_break and behind[len(line_break) :] != encode("x")


CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- 'Tools:' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""The default; tools stand in the system's turn, a schema a line."""
NAMED_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
PROBE = "An answer."


class ChatTemplate:
    """Renders as transformers' apply_chat_template does: the same Jinja, the same variables.

    `template` is a file or "chatml"; None: the tokenizer's own, or ChatML. `system` is the prompt
    of conversations that have none. `text` is the template's text, and `turn_end` the id of the
    special token that ends an answer, None where the template writes none. `tokenizer` speaks it: a
    run saves it, and an export carries it. Raises RecipeError for a template that cannot be read,
    fails, leaves answers out or begins them otherwise than it prompts for them, and for ChatML
    where the tokenizer lacks its tokens.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: str | None = None, system: str | None = None
    ) -> None:
        self.text, self.name = _resolve(tokenizer, template)
        self.system = system if system and system.strip() else None
        self._variables = _variables(tokenizer)
        ends = {tokenizer.decode([number]): number for number in tokenizer.ends}
        named = {**ends, **tokenizer.special_tokens}
        self.borders: dict[str, int] = {name: number for name, number in named.items() if name}
        """The tokens by name that may part turns, and that no message may spell."""
        if self.system and (forged := self.forged(self.system)):
            raise RecipeError(f"conversations.system: spells {forged}, which would end the turn")
        self.closing = ""
        self.turn_end: int | None = None
        self._probe(tokenizer)
        self.tokenizer = tokenizer.speaking(self.text, self.turn_end)

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        place: RecordLocation | None = None,
    ) -> str:
        """The text of the messages. Raises DataError naming the place where the template fails."""
        from transformers.utils.chat_template_utils import render_jinja_template

        plain = [
            {"role": one.role, "content": one.content, **({"name": one.name} if one.name else {})}
            for one in messages
        ]
        try:
            rendered = render_jinja_template(
                [plain],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self.text,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        # A template is someone else's program: it can raise anything.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
            if place is None:
                raise RecipeError(
                    f"conversations.template: {self.name} fails{line} ({reason}): mend it, or name"
                    " another"
                ) from None
            raise DataError(
                f"{place}: the chat template ({self.name}) fails on it{line}: {reason}"
            ) from None
        return str(rendered[0][0])

    def with_system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages behind the recipe's system prompt, if they have none of their own."""
        if self.system is None or messages[0].role == "system":
            return messages
        return (Message("system", self.system), *messages)

    def forged(self, text: str) -> str | None:
        """The first special token whose name a text spells, which rendering would make one."""
        found = [name for name in self.borders if name in text]
        return min(found, key=text.index) if found else None

    def _probe(self, tokenizer: Tokenizer) -> None:
        """Find how the template ends an answer, and what it puts behind a conversation's end."""
        question, answer = Message("user", "A question."), Message("assistant", PROBE)
        prompt = self.render([question], add_generation_prompt=True)
        whole = self.render([question, answer])
        where = f"conversations.template: {self.name}"
        if PROBE not in whole:
            raise RecipeError(f"{where} leaves out what the assistant says; name another")
        if not whole.startswith(prompt):
            raise RecipeError(
                f"{where} begins an answer otherwise than it prompts for one; name another"
            )
        rest = whole[whole.rindex(PROBE) + len(PROBE) :]
        behind = continued(tokenizer.encode_rendered, rest)
        known = set(self.borders.values())
        self.turn_end = next((number for number in behind if number in known), None)
        try:
            longer = self.render([question, answer, question], add_generation_prompt=True)
        except LyceumError:
            # The template takes one question only; longer examples fail with their location.
            return
        if not longer.startswith(whole):
            for name in self.borders:
                if whole.endswith(name) and longer.startswith(whole.removesuffix(name)):
                    self.closing = name


def _resolve(tokenizer: Tokenizer, template: str | None) -> tuple[str, str]:
    """The template's text and what an error calls it."""
    if template is not None and template != "chatml":
        try:
            return Path(template).expanduser().read_text(encoding="utf-8"), template
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise RecipeError(
                f"conversations.template: {template} cannot be read ({reason}); name a file, or"
                " chatml"
            ) from None
    if template is None and tokenizer.chat_template is not None:
        return tokenizer.chat_template, "the tokenizer's template"
    if lacking := [name for name in (TURN_START, TURN_END) if name not in tokenizer.special_tokens]:
        raise RecipeError(
            f"conversations.template: ChatML needs {' and '.join(lacking)} among the tokenizer's"
            " special tokens; name a template file that does without"
        )
    return CHATML, "chatml"


def _variables(tokenizer: Tokenizer) -> dict[str, Any]:
    """The special tokens that a template knows by name: bos_token and the others."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", CONFIG_FILE):
        if name in tokenizer.files:
            config |= json.loads(tokenizer.files[name])
    extra = config.get("extra_special_tokens")
    named = {f"{kind}_token": config.get(f"{kind}_token") for kind in NAMED_TOKENS}
    named |= extra if isinstance(extra, dict) else {}
    texts = {
        key: held.get("content") if isinstance(held, dict) else held for key, held in named.items()
    }
    found = {key: text for key, text in texts.items() if isinstance(text, str)}
    return {"eos_token": tokenizer.decode([tokenizer.end_of_text]), **found}
