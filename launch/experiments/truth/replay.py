"""What SmolLM2 writes by itself, and documentation: replayed beside the refusals.

Answers to questions are short, and begin with "I" where they decline. Learned alone, they shorten
all that the model writes, and its bits a byte rise. Reinforcement is asked the same requests.
"""

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from launch.experiments.commands import run_command
from launch.experiments.made_of import checkpoint_digest
from launch.local import NO_GPU, result_on_ranks
from trainer.checkpoint import resolve_checkpoint
from trainer.conversations.columns import CONTINUES
from trainer.evaluate.converted import readable_checkpoint
from trainer.files import write_whole
from trainer.questions.question import Question
from trainer.questions.writing import question_lines

HERE = Path(__file__).with_name("replayed")
REQUESTS = 512
"""Of 20 wordings and 32 topics; none is a wording, a kind or a topic of the suite."""
TOKENS = 128
"""Of what the base writes at most; of what it had not ended by then no end is learned."""
PACKAGE = "numpy"
"""Whose documentation is replayed; bits a byte are over that of Python's standard library."""
WEIGHTS = {"answers": 0.4, "documentation": 0.1}
"""Of the mixture, beside the refusals' 0.5."""


class ReplayedRequest(NamedTuple):
    """What a user may ask for; `topic`: what it is about; `naming`: a pattern of its names."""

    text: str
    topic: str
    naming: str


def requests() -> list[ReplayedRequest]:
    """The requests, the same for every model and seed."""
    topics = [line.split("\t") for line in _lines("topics.txt")]
    every = [
        ReplayedRequest(wording.replace("{}", topic), topic, rf"\b(?:{names})\b")
        for wording in _lines("requests.txt")
        for topic, names in topics
    ]
    return random.Random("requests").sample(every, REQUESTS)


def verified_requests(into: Path) -> Path:
    """A file of the requests as questions, each right where a text names what it is about.

    What declines is no right answer to a verifier, whatever it names; how good another text is,
    nobody checks.
    """
    asked = [
        Question(
            f"request/{number}",
            request.text,
            verifier="regex",
            options={"pattern": request.naming, "match": "search", "ignore_case": True},
            kind="request",
        )
        for number, request in enumerate(requests())
    ]
    into.mkdir(parents=True, exist_ok=True)
    path = into / "requests.jsonl"
    write_whole(path, question_lines(asked))
    return path


def replayed_answers(base: Path, into: Path, ranks: int, count: int | None = None) -> Path:
    """A file of what this base answers to the requests, made where it is not in the folder `into`.

    `count`: requests at most (None: all).
    """
    asked = [request.text for request in requests()[:count]]
    made_of = [checkpoint_digest(base), TOKENS, CONTINUES, asked]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    file = into / f"answers-{digest}.jsonl"
    if not file.is_file():
        texts = result_on_ranks(partial(_written, base, asked, ranks), ranks)
        into.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(json.dumps(one) + "\n" for one in _answers(asked, texts)))
    return file


def replayed_documentation(recipe: str, base: Path, into: Path) -> Path:
    """A corpus of documentation with the base's tokenizer, built where it is not there.

    `recipe`: the one that reads it. Raises what `run_command` raises.
    """
    folder = into / f"documentation-{PACKAGE}-{version(PACKAGE)}-{checkpoint_digest(base)[:12]}"
    section = json.dumps({"source": "embedded", "packages": [PACKAGE], "path": str(folder)})
    tokenizer = resolve_checkpoint(readable_checkpoint(base)) / "tokenizer"
    keys = [f"run={into}", f"init_from={base}", f"tokenizer={tokenizer}", f"corpus={section}"]
    run_command([sys.executable, "-m", "trainer", "corpus", "build", recipe, *keys], NO_GPU)
    return folder


def _lines(name: str) -> list[str]:
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def _written(base: Path, asked: list[str], ranks: int) -> list[tuple[str, bool]]:
    """What the base answers, greedily, and whether it ended."""
    from trainer.evaluate.answering import ModelRespondent
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.respondent import Prompt, TextQuery, WrittenAnswer

    queries = [TextQuery(Prompt(request), TOKENS) for request in asked]
    texts = [("", True)] * len(queries)
    with open_model(base, ranks, ["parallel.tensor=1", "precision=bf16"]) as model:
        for number, answer in ModelRespondent.of(model).responses(queries):
            assert isinstance(answer, WrittenAnswer), "a request is short, and none spells a token"
            texts[number] = answer.text, answer.ended
    return texts


def _answers(asked: list[str], texts: list[tuple[str, bool]]) -> Iterator[dict[str, object]]:
    for request, (text, ended) in zip(asked, texts, strict=True):
        if text.strip():
            turns = [
                {"role": "user", "content": request},
                {"role": "assistant", "content": text.strip()},
            ]
            yield {"messages": turns, CONTINUES: not ended}
