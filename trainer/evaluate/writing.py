"""`lyceum generate`: a checkpoint's continuations of prompts, and answers to messages."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trainer.conversations.turns import Message
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError, RecipeError
from trainer.evaluate.chat import Speaker
from trainer.evaluate.generate import Continuation, Generator, Vocabulary
from trainer.evaluate.opened import OpenedModel, open_model
from trainer.evaluate.requests import GENERATED, REASON, Request, read_prompts, read_records
from trainer.evaluate.sampling import Sampling, check_sampling

_log = logging.getLogger(__name__)

Show = Callable[[Request, str, bool], None]
"""Prints the text of a request; the flag: whether the model ended it."""


def generate_command(
    checkpoint: Path,
    prompt: str | None,
    prompts_file: Path | None,
    jsonl_file: Path | None,
    sampling: Sampling,
    together: int = 1,
) -> None:
    """Print each prompt with the model's continuation, or each record with its answer as JSON.

    `prompt`: one prompt (None: empty); `prompts_file`: a file with one a line instead, or
    `jsonl_file`, one with an object a line: `requests`; `together`: as in `Generator.continued`.
    Collective over all started ranks. Raises RecipeError for impossible sampling, an unreadable
    file or a prompt that is too long, DataError for a bad line, CheckpointError for a checkpoint
    that is missing or damaged; all before anything is printed.
    """
    check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
    if jsonl_file is not None:
        requests = read_records(jsonl_file)
    else:
        requests = [Request(prompt or "")] if prompts_file is None else read_prompts(prompts_file)
    with open_model(checkpoint, int(os.environ.get("WORLD_SIZE", "1"))) as model:
        show = _show_record if jsonl_file is not None else _shower()
        if model.layout.reports:
            _note_plain_text(requests, model.tokenizer)
        cut = 0
        for request, written in _written(model, requests, sampling, together):
            cut += not written.ended and len(written.tokens) < sampling.tokens
            if model.layout.reports:
                show(request, model.tokenizer.decode(written.tokens), written.ended)
        if cut and model.layout.reports:
            _log.warning(
                "%d of %d texts end before --tokens %d, at the %d tokens, prompt included, that the"
                " model was trained to read",
                *(cut, len(requests), sampling.tokens, model.longest),
            )


def _written(
    model: OpenedModel, requests: Sequence[Request], sampling: Sampling, together: int
) -> Iterator[tuple[Request, Continuation]]:
    """The requests in order, each with what the model writes."""
    vocabulary = Vocabulary.of(model.tokenizer)
    write = Generator(model.chunks, model.recipe, model.layout, vocabulary, model.longest)
    speaker = Speaker(model) if any(request.text is None for request in requests) else None
    texts: list[list[int]] = []
    answers: list[list[int]] = []
    for request in requests:
        if request.text is not None:
            texts.append(write.started(model.tokenizer.encode(request.text)))
            _check_room(request, texts[-1], write)
        elif speaker is not None and request.conversation is not None:
            asked = request.conversation
            messages = _with_system(asked.messages, model.recipe.conversations.system)
            answers.append(speaker.prompt(messages, asked))
            _check_room(request, answers[-1], speaker.write)
    continued = write.continued(texts, sampling, together)
    answered = speaker.write.continued(answers, sampling, together) if speaker else iter(())
    for request in requests:
        yield request, next(answered if request.text is None else continued)


def _with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The messages as in training: behind the recipe's system prompt, unless they have their own.

    An empty one is none.
    """
    if messages[0].role != "system":
        return [Message("system", system), *messages] if system else list(messages)
    return list(messages) if messages[0].content.strip() else list(messages[1:])


def _check_room(request: Request, prompt: Sequence[int], write: Generator) -> None:
    if len(prompt) <= write.longest:
        return
    problem = (
        f"the prompt has {len(prompt)} tokens, its start included, and this model reads"
        f" {write.longest} at most; shorten the prompt"
    )
    raise DataError(f"{request.place}: {problem}") if request.place else RecipeError(problem)


def _note_plain_text(requests: Sequence[Request], tokenizer: Tokenizer) -> None:
    """Say what prompts hold that is read as plain text, and may have been meant otherwise."""
    texts = [request.text for request in requests if request.text is not None]
    spelled = [text for text in texts if any(name in text for name in tokenizer.special_tokens)]
    if spelled:
        _log.warning(
            "%d of %d prompts spell special tokens, which are read as plain text: "
            "--jsonl takes messages, for the chat template to write",
            *(len(spelled), len(texts)),
        )
    objects = sum(text.lstrip().startswith('{"') for text in texts)
    if objects == len(texts) and requests[0].record is None and requests[0].place is not None:
        _log.warning("the prompts are JSON objects, read as plain text: --jsonl reads their fields")


def _shower() -> Show:
    """Prints texts behind their prompts, a blank line between two, each once it is complete."""
    between = ""

    def show(request: Request, text: str, ended: bool) -> None:
        nonlocal between
        print(f"{between}{request.text}{text}", flush=True)
        between = "\n"

    return show


def _show_record(request: Request, text: str, ended: bool) -> None:
    """Prints a record with its answer, and why that ended, as a line of JSON."""
    answer = {GENERATED: text, REASON: "stop" if ended else "length"}
    sys.stdout.write(json.dumps({**(request.record or {}), **answer}, ensure_ascii=False) + "\n")
    sys.stdout.flush()
