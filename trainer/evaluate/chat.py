"""`lyceum chat`: a conversation with a checkpoint, by its own chat template."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from trainer.conversations.spans import RenderedPrompt, asked
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation, Message
from trainer.data.tokenizer import Tokenizer
from trainer.errors import LyceumError, RecipeError
from trainer.evaluate.generate import Generator, Vocabulary
from trainer.evaluate.opened import OpenedModel, open_model
from trainer.evaluate.sampling import Sampling, check_sampling
from trainer.parallel.agreement import Ranks

HELP = """\
/reset            forget what was said
/system TEXT      another system prompt (none: without), and forget what was said
/seed N           the next answers are drawn from this seed, each anew
/temperature T    0: always the likeliest token
/help             this
/quit             leave, as does the end of input"""
_SEEDS = 2**63


class Speaker:
    """Answers messages with a model and its chat template; collective over its layout's ranks."""

    def __init__(self, model: OpenedModel) -> None:
        section = model.recipe.conversations
        self._template = ChatTemplate(model.tokenizer, variables=section.template_variables)
        self._tokenizer = model.tokenizer
        # The tokenizer of an imported or a pre-trained model need not know how its turns end.
        vocabulary = Vocabulary.of(self._template.tokenizer)
        self.write = Generator(model.chunks, model.recipe, model.layout, vocabulary, model.longest)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield the answer to the last message, in pieces of whole characters, as it is generated.

        Raises RecipeError for a message that spells a special token, for a conversation longer
        than the model's sequence length, and where the template refuses it.
        """
        prompt = self.prompt(messages)
        if len(prompt) > self.write.longest:
            raise RecipeError(
                f"the conversation has {len(prompt)} tokens, and this model reads "
                f"{self.write.longest} at most; /reset begins anew"
            )
        yield from pieces(self._tokenizer, self.write.stream(prompt, sampling))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask the model to answer the last message.

        Raises RecipeError for a message that spells a special token and where the template fails.
        """
        for message in messages:
            if message.role != "assistant":
                self._check(message.content)
        text = self._template.render(messages, add_generation_prompt=True)
        return self._tokenizer.encode_rendered(text)

    def asked(self, conversation: Conversation) -> tuple[list[int], RenderedPrompt]:
        """The ids that ask for the answer to a conversation, with what else `asked` says of it.

        Raises as that does.
        """
        found = asked(conversation, self._template)
        return self._tokenizer.encode_rendered(found.prompt), found

    def check_system(self, text: str) -> None:
        """Raise RecipeError for a system prompt that spells a special token or is never written."""
        self._check(text)
        if text.strip() and not self._template.abilities.system:
            raise RecipeError(
                f"the chat template ({self._template.name}) writes no system prompt: the model"
                " would not read it; leave it out"
            )

    def _check(self, text: str) -> None:
        if forged := self._template.forged(text):
            raise RecipeError(f"a message spells {forged}, which would forge a turn; reword it")


def pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Yield the text of tokens as they arrive, without incomplete characters until the end."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}") and text.startswith(shown):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(ids)
    if rest.startswith(shown) and rest != shown:
        yield rest[len(shown) :]


@dataclass
class Chat:
    """The state of a conversation: system prompt, messages so far, and sampling settings."""

    system: str | None
    sampling: Sampling
    check: Callable[[str], None]
    """Raises RecipeError for a text that a system prompt must not have."""
    said: list[Message] = field(default_factory=list)

    def messages(self, question: str) -> list[Message]:
        """The conversation, with a new question appended."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, *self.said, Message("user", question)]

    def obey(self, line: str) -> str:
        """Carry out a command; returns the line to print. Raises RecipeError for an unknown one."""
        name, *rest = line.split(maxsplit=1)
        argument = "".join(rest).strip()
        if name == "/help":
            return HELP
        if name == "/reset":
            self.said.clear()
            return "forgotten"
        if name == "/system":
            self.check(argument)
            self.system = argument or None
            self.said.clear()
            return f"system prompt: {self.system or 'none'}"
        if name == "/seed":
            known = argument.isdecimal() and len(argument) <= len(str(_SEEDS))
            if not known or int(argument) >= _SEEDS:
                raise RecipeError(f"/seed: {argument!r} is not a whole number from 0 to 2^63 - 1")
            self.sampling = replace(self.sampling, seed=int(argument))
            return f"seed {self.sampling.seed}"
        if name == "/temperature":
            try:
                temperature = float(argument)
            except ValueError:
                raise RecipeError(f"/temperature: {argument!r} is not a number") from None
            check_sampling(temperature, self.sampling.top_k, self.sampling.top_p)
            self.sampling = replace(self.sampling, temperature=temperature)
            return f"temperature {temperature:g}"
        raise RecipeError(f"{name}: no such command; /help lists them")


def chat_command(
    checkpoint: Path, system: str | None, sampling: Sampling, world_size: int = 1
) -> None:
    """Chat with a checkpoint: a question a line from standard input, answers printed as generated.

    `system`: the system prompt, "" for none; None: that of the checkpoint's recipe. Under torchrun
    rank 0 reads and writes, and all ranks compute. Raises what `open_model` raises, and RecipeError
    where the tokenizer has no usable chat template.
    """
    check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
    with open_model(checkpoint, world_size) as model:
        speaker, ranks, speaks = Speaker(model), Ranks(), model.layout.reports
        if system is None:
            system = model.recipe.conversations.system
        speaker.check_system(system or "")
        chat = Chat(system or None, sampling, speaker.check_system)
        console = Console(highlight=False, markup=False, soft_wrap=True)
        if speaks:
            _greet(console, model, chat)
        read = _reader() if speaks else None
        while (line := ranks.share(read() if read else None)) is not None:
            if line.startswith("/"):
                if line.split()[0] in ("/quit", "/exit"):
                    return
                _command(console, speaks, chat, line)
            elif line.strip():
                _exchange(console, speaks, chat, speaker, line)


def _greet(console: Console, model: OpenedModel, chat: Chat) -> None:
    console.print(f"{model.folder}, step {model.step}; /help lists the commands", style="dim")
    if chat.system:
        console.print(f"system prompt: {chat.system}", style="dim")
    # An imported model may have been taught before, which its template tells.
    traits = model.recipe.stage_traits
    if not (traits.reads_sets or traits.asks) and model.tokenizer.chat_template is None:
        warning = "its last stage was pre-training: it was never taught to answer"
        console.print(warning, style="yellow")


def _command(console: Console, speaks: bool, chat: Chat, line: str) -> None:
    try:
        message, style = chat.obey(line), "dim"
    except LyceumError as error:
        message, style = str(error), "yellow"
    if speaks:
        console.print(message, style=style)


def _exchange(console: Console, speaks: bool, chat: Chat, speaker: Speaker, line: str) -> None:
    """Print the answer to a question; both join the conversation only once it is complete."""
    answer = ""
    try:
        for piece in speaker.answer(chat.messages(line), chat.sampling):
            answer += piece
            if speaks:
                sys.stdout.write(piece)
                sys.stdout.flush()
    except LyceumError as error:
        if speaks:
            console.print(str(error), style="yellow")
        return
    if speaks:
        print(flush=True)
    chat.said += [Message("user", line), Message("assistant", answer)]


def _reader() -> Callable[[], str | None]:
    """A function that reads a line (None at the end), with history and editing at a terminal."""
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401 (its import is what gives input() a history)
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")

    def read() -> str | None:
        try:
            return input("> " if terminal else "")
        except EOFError:
            if terminal:
                print()
            return None

    return read
