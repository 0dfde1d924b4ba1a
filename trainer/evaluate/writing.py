"""`lyceum generate`: a checkpoint's continuations of prompts, and answers to messages."""

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.conversations.turns import Message
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError, RecipeError
from trainer.evaluate.chat import Speaker
from trainer.evaluate.generate import Continuation, Generator, Vocabulary
from trainer.evaluate.opened import OpenedModel, open_model
from trainer.evaluate.requests import (
    GENERATED,
    REASON,
    Request,
    content_of,
    is_read_once,
    prompts_in,
    records_in,
)
from trainer.evaluate.sampling import Sampling, check_sampling
from trainer.parallel.agreement import Ranks, on_first_rank

_log = logging.getLogger(__name__)

LOST_SHOWN = 12
"""Kinds of what is lost of records that a line names."""

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
    file or a prompt that is too long, DataError for a bad line and for a record that the chat
    template would cut, CheckpointError for a checkpoint that is missing or damaged; all before
    anything is printed.
    """
    check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    file = prompts_file or jsonl_file
    requests_in = prompts_in if jsonl_file is None else records_in
    requests = [Request(prompt or "")] if file is None else []
    # Several ranks cannot each read a pipe: the first does, once they are together.
    shared = file is not None and world > 1 and is_read_once(file)
    if file is not None and not shared:
        requests = requests_in(content_of(file), file)
    with open_model(checkpoint, world) as model:
        if file is not None and shared:
            requests = requests_in(_content_for_all(file), file)
        show = _show_record if jsonl_file is not None else _shower()
        if model.layout.reports:
            _note_plain_text(requests, model.tokenizer)
        cut = 0
        for request, written in _written(model, requests, sampling, together):
            cut += not written.ended and len(written.tokens) < sampling.tokens
            if model.layout.reports:
                show(request, _text_of(written, request, model.tokenizer), written.ended)
        if cut and model.layout.reports:
            _log.warning(
                "%d of %d texts end before --tokens %d, at the %d tokens, prompt included, that the"
                " model is meant to read",
                *(cut, len(requests), sampling.tokens, model.longest),
            )


def _content_for_all(file: Path) -> bytes:
    """What the first rank reads of a file, on every rank; collective."""
    return on_first_rank(Ranks(), lambda: content_of(file).decode("latin-1")).encode("latin-1")


def _text_of(written: Continuation, request: Request, tokenizer: Tokenizer) -> str:
    """What was written; behind a text as it goes on with it."""
    if request.text is None:
        return tokenizer.decode(written.tokens)
    return tokenizer.decode_behind(tokenizer.encode(request.text), written.tokens)


def _written(
    model: OpenedModel, requests: Sequence[Request], sampling: Sampling, together: int
) -> Iterator[tuple[Request, Continuation]]:
    """The requests in order, each with what the model writes."""
    vocabulary = Vocabulary.of(model.tokenizer)
    write = Generator(model.chunks, model.recipe, model.layout, vocabulary, model.longest)
    speaker = Speaker(model) if any(request.text is None for request in requests) else None
    texts: list[list[int]] = []
    answers: list[list[int]] = []
    lost: Counter[str] = Counter(f'unread "{key}"' for one in requests for key in one.unread)
    for request in requests:
        if request.text is not None:
            texts.append(write.started(model.tokenizer.encode(request.text)))
            _check(request, texts[-1], write, model.tokenizer)
        elif speaker is not None and request.conversation is not None:
            messages = _with_system(
                request.conversation.messages, model.recipe.conversations.system
            )
            ids, asked = speaker.asked(replace(request.conversation, messages=tuple(messages)))
            answers.append(ids)
            lost.update({*asked.flattened, *(f"unread {key}" for key in asked.unread)})
            _check(request, ids, speaker.write, model.tokenizer)
    if lost and model.layout.reports:
        _log.warning("of %d records: %s", len(requests), _counted(lost))
    continued = write.continued(texts, sampling, together)
    answered = speaker.write.continued(answers, sampling, together) if speaker else iter(())
    for request in requests:
        yield request, next(answered if request.text is None else continued)


def _counted(lost: Counter[str]) -> str:
    """What is lost of how many records, the most first."""
    shown = [f"{number:,} with {what}" for what, number in lost.most_common(LOST_SHOWN)]
    more = f" and {len(lost) - LOST_SHOWN} more kinds" if len(lost) > LOST_SHOWN else ""
    return ", ".join(shown) + more


def _with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The messages as in training: behind the recipe's system prompt, unless they have their own.

    An empty one is none.
    """
    if messages[0].role != "system":
        return [Message("system", system), *messages] if system else list(messages)
    return list(messages) if messages[0].content.strip() else list(messages[1:])


def _check(request: Request, prompt: Sequence[int], write: Generator, tokenizer: Tokenizer) -> None:
    """Raise DataError, or without a line RecipeError, for a prompt that the model cannot read."""
    if len(prompt) > write.longest:
        problem = (
            f"the prompt has {len(prompt)} tokens, its start included, and this model reads"
            f" {write.longest} at most; shorten the prompt"
        )
    elif (largest := max(prompt, default=0)) >= write.rows:
        problem = (
            f"the prompt holds {tokenizer.decode([largest])} (token {largest}), and the model's"
            f" embedding has {write.rows} rows; leave it out"
        )
    else:
        return
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
