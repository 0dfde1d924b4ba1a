"""Show the first training example before a run's first step."""

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

from trainer.conversations.marking import ExampleCounts
from trainer.conversations.sets import counts_line
from trainer.data.stream import Stream
from trainer.data.token_flags import ID_MASK, TARGET
from trainer.data.tokenizer import Tokenizer
from trainer.stages.stage import StageParts

log = logging.getLogger(__name__)

HEAD, BEFORE, ANSWER, END = 160, 32, 192, 128
SHOWN_TOKENS = HEAD + BEFORE + ANSWER + END
"""An example of more tokens is shown in parts: its head, its first supervised tokens with what
stands before them, and its end.
"""


def show_first_example(parts: StageParts, arguments: dict[str, Any]) -> None:
    """Log how many examples of each set remain and are supervised, and print the first one.

    Its supervised tokens are coloured, or without a terminal put between [[ and ]]. `arguments`:
    those of `Stream`.
    """
    for manifest in parts.sources.manifests:
        provenance = manifest.provenance
        if "examples" in provenance:
            source = provenance["settings"]["source"]
            log.info("%s", counts_line(source, ExampleCounts(**provenance["examples"])))
    stream = Stream(**{**arguments, "references": None})
    try:
        source, row = stream.advance()
        name = source.origins(row)[0].metadata.get("id")
        segments = source.read(row)[: 2 if source.kind in ("pairs", "judged") else 1]
    finally:
        stream.close()
    console, tokenizer = Console(stderr=True, highlight=False), parts.sources.tokenizer
    console.print(f"the first example, {name}:", style="bold", markup=False, soft_wrap=True)
    for tokens in segments:
        shown = shown_parts(tokens.tolist(), source.marked, tokenizer)
        text = _highlighted(shown) if console.is_terminal else _bracketed(shown)
        console.print(text, soft_wrap=True)


def shown_parts(tokens: list[int], marked: bool, tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """As `shown_tokens`, of a long example only the parts that `SHOWN_TOKENS` names."""
    if len(tokens) <= SHOWN_TOKENS:
        return shown_tokens(tokens, marked, tokenizer)
    targets = (number for number, token in enumerate(tokens) if not marked or token & TARGET)
    first = next(targets, 0)
    last = len(tokens) - END
    answer = (max(first - BEFORE, HEAD), min(first + ANSWER, last))
    ranges: list[tuple[int, int]] = []
    for start, stop in ((0, HEAD), answer, (last, len(tokens))):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
        elif start < stop:
            ranges.append((start, stop))
    runs: list[tuple[bool, str]] = []
    before = 0
    for start, stop in ranges:
        if start > before:
            runs.append((False, f" ... {start - before:,} tokens ... "))
        runs += shown_tokens(tokens[start:stop], marked, tokenizer)
        before = stop
    return runs


def shown_tokens(tokens: list[int], marked: bool, tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """(supervised?, text) of each run of tokens; all are supervised where none are `marked`."""
    runs: list[tuple[bool, list[int]]] = []
    for token in tokens:
        target = bool(token & TARGET) if marked else True
        if not runs or runs[-1][0] != target:
            runs.append((target, []))
        runs[-1][1].append(token & ID_MASK if marked else token)
    left: list[int] = []
    shown = []
    for target, ids in runs:
        shown.append((target, tokenizer.decode_behind(left, ids)))
        left += ids
    return shown


def _highlighted(shown: list[tuple[bool, str]]) -> Text:
    return Text.assemble(*((text, "bold green" if target else "dim") for target, text in shown))


def _bracketed(shown: list[tuple[bool, str]]) -> Text:
    return Text("".join(f"[[{text}]]" if target else text for target, text in shown))
