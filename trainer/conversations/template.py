"""The chat template: how a conversation is written as one text."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trainer.conversations.abilities import REASONING_LEFT, Abilities
from trainer.conversations.exchange import Contradiction, Exchange, answer_behind
from trainer.conversations.given import Given, ReadTurn, Turn
from trainer.conversations.growth import TemplateBound
from trainer.conversations.named_tokens import named_tokens
from trainer.conversations.one_pass import OnePass, Passed
from trainer.conversations.turn_ends import PROBE, QUESTION, TurnEnds
from trainer.conversations.turns import Conversation, Message
from trainer.data.tokenizer import TURN_END, TURN_START, Tokenizer
from trainer.errors import DataError, LyceumError, RecipeError

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
_TOOL = {
    "type": "function",
    "function": {
        "name": "tool",
        "description": "A tool.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}
RESERVED = {"messages", "tools", "documents", "add_generation_prompt", "chat_template"}
"""Names that a template gets of a conversation, which no variable may take."""
TOOL_USE = "tool_use"
REASON = 500
"""Characters of what a template says of its failure that are shown."""
MARKUP = ("<think>", "</think>", "[THINK]", "[/THINK]")
"""Tokens, special in some tokenizers, that an answer's own text has around its reasoning."""


class ChatTemplate:
    """Renders as transformers' apply_chat_template does: the same Jinja, the same variables.

    `template` is a file, "chatml", or one of the tokenizer's named templates; None: the tokenizer's
    own (with tools the one named tool_use, where there is one), or ChatML. `system` is the prompt
    of conversations that have none, `variables` what the template gets by name, as
    enable_thinking. `text` is the template's text, and `turn_end` the id of the special token that
    ends an answer, None where the template writes none or refuses a plain question and answer.
    `tokenizer` speaks it: a run saves it, and an export carries it. Raises RecipeError for a
    template that cannot be read, and for ChatML where the tokenizer lacks its tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str | None = None,
        system: str | None = None,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.text, self.name = _resolve(tokenizer, template)
        if reserved := RESERVED & variables.keys():
            raise RecipeError(
                f"conversations.template_variables: {', '.join(sorted(reserved))} is what a"
                " conversation itself gives; leave it out"
            )
        self.system = system if system and system.strip() else None
        self._variables = {**named_tokens(tokenizer), **variables}
        self._recipe_variables = tuple(variables)
        self.raw_tokenizer = tokenizer
        ends = {tokenizer.decode([number]): number for number in tokenizer.ends}
        named = {**ends, **tokenizer.special_tokens}
        self.borders: dict[str, int] = {
            name: number for name, number in named.items() if name and name not in MARKUP
        }
        """The tokens by name that may part turns, and that no message may spell."""
        self.ends = tuple(name for name in ends if name)
        self._turn_ends = TurnEnds(self.borders)
        if self.system and (forged := self.forged(self.system)):
            raise RecipeError(f"conversations.system: spells {forged}, which would end the turn")
        self.abilities = Abilities(self._attempted, self.text)
        self._opening: str | None = None
        self._probe()
        self.turn_end = self._turn_ends.token
        self.tokenizer = tokenizer
        if (
            template is not None
            or tokenizer.chat_template != self.text
            or self.turn_end is not None
        ):
            self.tokenizer = tokenizer.speaking(self.text, self.turn_end)
        self._tool_use: ChatTemplate | None = None
        if template is None and TOOL_USE in tokenizer.named_templates:
            self._tool_use = ChatTemplate(tokenizer, TOOL_USE, system, variables)

    def of(self, conversation: Conversation) -> "ChatTemplate":
        """The template for it: the one named tool_use where it has tools."""
        return self._tool_use if self._tool_use is not None and conversation.tools else self

    def given(self, conversation: Conversation, system: bool = True) -> Given:
        """What the template gets of a conversation; `system`: the recipe's is filled in."""
        flattened: list[str] = []
        messages = conversation.messages
        if not self.abilities.reasoning_is_read(messages):
            flattened.append(REASONING_LEFT)
        if system:
            messages = self.with_system(messages)
        try:
            learnt = {
                number: self._turn(message, flattened, learnt=True)
                for number, message in enumerate(messages)
                if message.reasoning is not None and message.supervised
            }
            turns = [self._turn(message, flattened) for message in messages]
        except Contradiction as why:
            raise DataError(f"{conversation.place}: {why}") from None
        return Given(
            turns,
            conversation.place,
            [dict(tool) for tool in conversation.tools] or None,
            [ReadTurn(document) for document in conversation.documents] or None,
            conversation.variables,
            tuple(flattened),
            learnt,
        )

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The text of the messages. Raises RecipeError where the template fails."""
        try:
            given = Given([self._turn(message, []) for message in messages])
        except Contradiction as why:
            raise RecipeError(f"conversations.template: {self.name}: {why}") from None
        return self.written(given, len(messages), add_generation_prompt)

    def written(self, given: Given, length: int, add_generation_prompt: bool = False) -> str:
        """The text of the first `length` turns. Raises as `render` does."""
        turns = given.turns[:length]
        if not add_generation_prompt and length - 1 in given.learnt:
            turns[-1] = given.learnt[length - 1]
        try:
            return self._rendered(given, turns, add_generation_prompt)
        # A template is someone else's program: it can raise anything.
        except Exception as error:
            failed = error
        if any("content" not in turn for turn in turns):
            # Some templates take no turn without a content, others none with an empty one.
            for turn in (*given.turns, *given.learnt.values()):
                turn.setdefault("content", "")
            return self.written(given, length, add_generation_prompt)
        reason = " ".join(str(failed)[:REASON].split()) or type(failed).__name__
        line = f", line {failed.lineno}" if hasattr(failed, "lineno") else ""
        if given.place is None:
            raise RecipeError(
                f"conversations.template: {self.name} fails{line} ({reason}): mend it, or name"
                " another"
            ) from None
        raise DataError(
            f"{given.place}: the chat template ({self.name}) fails on it{line}: {reason}"
        ) from None

    def with_system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages behind the recipe's system prompt, if they have none of their own."""
        if self.system is None or messages[0].role == "system":
            return messages
        return (Message("system", self.system), *messages)

    def forged(self, text: str) -> str | None:
        """The first special token whose name a text spells, which rendering would make one."""
        return self._turn_ends.first_in(text)

    def end_of(self, text: str) -> str:
        """The special token that an answer's rendered text ends with; "" where it has none."""
        return max((name for name in self.borders if text.endswith(name)), key=len, default="")

    def _rendered(self, given: Given, turns: list[Turn], add_generation_prompt: bool) -> str:
        beside = self._beside(given)
        asks = add_generation_prompt
        return str(self._compiled.render(messages=turns, add_generation_prompt=asks, **beside))

    def _beside(self, given: Given) -> dict[str, Any]:
        """What the template gets beside the turns."""
        beside = {"tools": given.tools, "documents": given.documents}
        return {**beside, **self._variables, **given.variables}

    @cached_property
    def _compiled(self) -> Any:
        from trainer.conversations.bounded import bounded_template

        return bounded_template(self.text)

    def _turn(self, message: Message, flattened: list[str], learnt: bool = False) -> Turn:
        """The message as the template reads it; what it is flattened to is added to the list."""
        simple = not (message.extras or message.calls or message.name or message.parts)
        if simple and message.reasoning is None and not self.abilities.parts_alone:
            turn: Turn = {"role": message.role}
            return turn if message.absent else turn | {"content": message.content}
        return ReadTurn(self.abilities.turn(message, flattened, learnt))

    def _attempted(self, turns: list[Turn], add_generation_prompt: bool, **beside: Any) -> str:
        """What the template makes of turns that try it out; "" where it fails."""
        try:
            return self._rendered(
                Given([], **{**self._needs, **beside}), turns, add_generation_prompt
            )
        except TemplateBound as error:
            raise self._endless(error) from None
        except Exception:  # somebody else's program: that it fails is what was to be found out
            return ""

    def _endless(self, error: TemplateBound) -> RecipeError:
        """A template that a question alone is too much for."""
        return RecipeError(
            f"conversations.template: {self.name} is refused: {error}; mend it, or name another"
        )

    @cached_property
    def _needs(self) -> dict[str, Any]:
        """What must stand beside a question for this template to write it: nothing, tools,
        documents or both.
        """
        tools = {"tools": [_TOOL]}
        documents = {"documents": [dict.fromkeys(("title", "text", "content"), "A document.")]}
        for needs in ({}, tools, documents, {**tools, **documents}):
            try:
                self._rendered(Given([], **needs), [{"role": "user", "content": QUESTION}], True)
            except TemplateBound as error:
                raise self._endless(error) from None
            # Somebody else's program can raise anything; `written` says of a set what failed.
            except Exception:
                continue
            return needs
        return {}

    def exchanges(
        self, given: Given, numbers: Sequence[int], messages: Sequence[Message]
    ) -> list[Exchange]:
        """The exchange of each answer at these turns; all turns rendered once, if they can.

        Raises DataError where the template fails, or an answer cannot follow its prompt.
        """
        passed = None if given.learnt else self._once.render(given.turns, self._beside(given))
        opening = None if passed is None else self._opened(given, passed, numbers[0])
        if passed is None or opening is None:
            return [self._asked(given, number, messages) for number in numbers]
        found, text, end = [], passed.text, passed.text[passed.starts[-1] :]
        for number in numbers:
            start = passed.starts[number]
            if text.startswith(opening, start):
                begin = start + len(opening)
                behind = text[begin : passed.starts[number + 1]] + end
                found.append(self._exchange(given, number, text[:begin], behind))
            else:
                found.append(self._asked(given, number, messages))
        return found

    def _asked(self, given: Given, number: int, messages: Sequence[Message]) -> Exchange:
        try:
            return self.exchange(given, number, messages[number])
        except Contradiction as why:
            answer = sum(message.role == "assistant" for message in messages[: number + 1])
            raise DataError(f"{given.place}: answer {answer}: {why}") from None

    def exchange(self, given: Given, number: int, message: Message) -> Exchange:
        """The exchange of the answer at turn `number`.

        Raises DataError where the template fails, Contradiction where the answer cannot follow.
        """
        prompt = self.written(given, number, add_generation_prompt=True)
        behind = answer_behind(prompt, self.written(given, number + 1), message)
        return self._exchange(given, number, prompt, behind)

    def _exchange(self, given: Given, number: int, prompt: str, behind: str) -> Exchange:
        """`behind`: what follows the prompt of the answer at turn `number`, to the text's end."""
        beside = given.tools or given.documents or given.variables
        asked = (lambda: self.written(given, number)) if beside else None
        return Exchange(prompt, *self._turn_ends.parted(behind, asked))

    def _opened(self, given: Given, passed: Passed, number: int) -> str | None:
        """What the template writes to ask for an answer; None where that is not what it adds."""
        plain = not (given.tools or given.documents or given.variables)
        if plain and self._opening is not None:
            return self._opening
        prompt = self.written(given, number, add_generation_prompt=True)
        before = passed.text[: passed.starts[number]]
        opening = prompt.removeprefix(before) if prompt.startswith(before) else None
        if plain:
            self._opening = opening
        return opening

    @property
    def environment(self) -> Any:
        """The Jinja environment that the template is compiled in: transformers' own, bounded."""
        return self._compiled.environment

    @cached_property
    def _once(self) -> OnePass:
        return OnePass(self.environment, self.text)

    def unread_variables(self, names: Iterable[str]) -> list[str]:
        """Those of these names that neither this template nor the one for tools reads."""
        other = self._tool_use._read_names if self._tool_use is not None else set()
        return sorted(set(names) - self._read_names - other)

    @cached_property
    def _read_names(self) -> set[str]:
        from jinja2 import TemplateError, meta

        try:
            return set(meta.find_undeclared_variables(self.environment.parse(self.text)))
        except TemplateError:  # that it cannot be compiled is said of what it has to write
            return set()

    def check(self) -> None:
        """Raise RecipeError for a template that cannot write a question and its answer."""
        question, answer = Message("user", QUESTION), Message("assistant", PROBE)
        given = Given([self._turn(one, []) for one in (question, answer)], **self._needs)
        where = f"conversations.template: {self.name}"
        try:
            exchange = self.exchange(given, 1, answer)
        except Contradiction:
            raise RecipeError(
                f"{where} begins an answer otherwise than it prompts for one; name another"
            ) from None
        if PROBE not in exchange.prompt + exchange.answer:
            raise RecipeError(f"{where} leaves out what the assistant says; name another")
        if unread := self.unread_variables(self._recipe_variables):
            raise RecipeError(
                f"conversations.template_variables: {self.name} reads no {', '.join(unread)}; leave"
                " it out"
            )
        if self.system is not None and not self.abilities.system:
            raise RecipeError(f"conversations.system: {self.name} leaves it out; name another")

    def _probe(self) -> None:
        """Find how the template ends an answer, and what it puts behind a conversation's end."""
        question, answer = Message("user", QUESTION), Message("assistant", PROBE)
        turns = [self._turn(one, []) for one in (question, answer, question)]
        given = Given(turns, **self._needs)
        try:
            whole = self.written(given, 2)
            self._turn_ends.find_closing(
                whole,
                self._attempted(turns, True),
                asked=self._attempted(turns[:1], False),
                prompt=self._attempted(turns[:1], True),
            )
            said = self.exchange(given, 1, answer).answer
        except (Contradiction, LyceumError):
            # A prompt may be all that is asked of it; `check` says what is wrong.
            return
        self._turn_ends.learn(said)


def _resolve(tokenizer: Tokenizer, template: str | None) -> tuple[str, str]:
    """The template's text and what an error calls it."""
    if template in tokenizer.named_templates:
        return tokenizer.named_templates[template], f"the tokenizer's template {template}"
    if template == "default" and tokenizer.chat_template is not None:
        return tokenizer.chat_template, "the tokenizer's template"
    if template is not None and template != "chatml":
        try:
            return Path(template).expanduser().read_text(encoding="utf-8"), template
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise RecipeError(
                f"conversations.template: {template} cannot be read ({reason}); name a file, or"
                f" {' or '.join(['chatml', *tokenizer.named_templates])}"
            ) from None
    if template is None and tokenizer.chat_template is not None:
        return tokenizer.chat_template, "the tokenizer's template"
    if lacking := [name for name in (TURN_START, TURN_END) if name not in tokenizer.special_tokens]:
        raise RecipeError(
            f"conversations.template: ChatML needs {' and '.join(lacking)} among the tokenizer's"
            " special tokens; name a template file that does without"
        )
    return CHATML, "chatml"
