"""Trace a batch back to the documents that it was packed from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.addresses import without_secrets
from trainer.data.remote.location import Url
from trainer.data.source import Source
from trainer.data.stream import Stream
from trainer.data.token_flags import ID_MASK
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import RecipeError
from trainer.parsing import read_json
from trainer.recipe import Recipe
from trainer.recipe.own_sets import own_set_of
from trainer.recovery.rollbacks import batches_left_out, left_out_between, read_rollbacks
from trainer.sources import Sources, open_sources
from trainer.stages.traced_answers import trace_answers
from trainer.stages.traced_samples import question_lines

FIRST_WORDS_TOKENS = 16


@dataclass(frozen=True)
class TraceEntry:
    """One piece of a document in a row: it fills positions start .. start + length - 1.

    `row`: in the global batch; `document_id` and `source`: as the corpus builder wrote them (of a
    WebDataset, the sample's key and its tar); `corpus`: its number in the mixture; the document is
    at `index` of `shard`, and its tokens piece_start .. piece_start + length were inputs and
    labels; `first_tokens`: token ids the piece begins with.
    """

    row: int
    start: int
    length: int
    document_id: str
    source: str
    corpus: int
    shard: str
    index: int
    piece_start: int
    first_tokens: tuple[int, ...]


def trace(
    arguments: dict[str, Any],
    global_batch: int,
    step: int,
    row: int | None = None,
    state: dict[str, Any] | None = None,
    state_step: int = 0,
    left_out: Mapping[int, int] | None = None,
) -> list[TraceEntry]:
    """The documents in the batch of `step` (from 1), or in one `row` (from 0) of it.

    `arguments`: of `Stream`; `global_batch`: sequences a step, which a skipped step consumes too;
    `state`: the stream's state after `state_step`, to start from (None: from the beginning);
    `left_out`: batches that were not read before a step.
    """
    assert state_step < step, "a trace starts before the step that it looks at"
    stream = Stream(**arguments)
    if state is not None:
        stream.load_state(state)
    entries: list[TraceEntry] = []
    try:
        passed = step - 1 - state_step + left_out_between(left_out or {}, state_step, step)
        stream.skip(passed * global_batch)
        for number in range(global_batch):
            source, place = stream.advance()
            if row is not None and number != row:
                continue
            entries.extend(_row_entries(number, source, place))
    finally:
        stream.close()
    return entries


def _row_entries(row: int, source: Source, place: int) -> Iterator[TraceEntry]:
    start = 0
    pieces = source.read(place)
    origins = source.origins(place)
    # An example of two answers is two pieces of one origin.
    origins = [one for one in origins for _ in range(len(pieces) // len(origins))]
    for origin, tokens in zip(origins, pieces, strict=True):
        yield TraceEntry(
            row=row,
            start=start,
            length=len(tokens) - 1,
            document_id=str(origin.metadata.get("id", "")),
            source=str(origin.metadata.get("source", "")),
            corpus=source.number,
            shard=str(source.folder / origin.shard),
            index=origin.index,
            piece_start=origin.start,
            first_tokens=tuple(_ids(tokens[:FIRST_WORDS_TOKENS], source.marked)),
        )
        start += len(tokens) - 1


def _ids(tokens: np.ndarray, marked: bool) -> list[int]:
    ids: list[int] = (tokens & ID_MASK if marked else tokens).tolist()
    return ids


def trace_steps(
    arguments: dict[str, Any],
    global_batch: int,
    steps: range,
    state: dict[str, Any] | None,
    left_out: Mapping[int, int],
) -> Iterator[tuple[int, TraceEntry]]:
    """(step, piece of a document) for the batches of consecutive steps, in order.

    `state`: the stream's before the first of them (None: the beginning); else as `trace`.
    """
    stream = Stream(**arguments)
    try:
        if state is not None:
            stream.load_state(state)
        for step in steps:
            stream.skip(left_out.get(step, 0) * global_batch)
            for number in range(global_batch):
                for entry in _row_entries(number, *stream.advance()):
                    yield step, entry
    finally:
        stream.close()


def position_behind(
    arguments: dict[str, Any], state: dict[str, Any] | None, sequences: int
) -> dict[str, Any]:
    """The state of a stream so many sequences behind another (None: the beginning)."""
    stream = Stream(**arguments)
    try:
        if state is not None:
            stream.load_state(state)
        stream.skip(sequences)
        return stream.state()
    finally:
        stream.close()


def consumed_rows(
    arguments: dict[str, Any], global_batch: int, steps: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The rows of steps 1 .. `steps`: (tokens, labels, position_ids), int64 [sequence] each."""
    stream = Stream(**arguments)
    try:
        for _ in range(steps):
            batch = stream.next(global_batch, range(global_batch))
            yield from zip(batch.tokens, batch.labels, batch.position_ids, strict=True)
    finally:
        stream.close()


def nearest_state(run_dir: Path, step: int) -> tuple[dict[str, Any] | None, int]:
    """The stream state of the last checkpoint before `step`, and that checkpoint's step.

    (None, 0) where there is none. A damaged checkpoint is skipped: any other serves.
    """
    best: tuple[dict[str, Any] | None, int] = (None, 0)
    for path in (run_dir / "checkpoints").glob("step-*/checkpoint.json"):
        try:
            content = read_json(path.read_text(encoding="utf-8"))
            saved_step, state = int(content["step"]), content["counters"]["stream"]
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
            continue
        if isinstance(state, dict) and best[1] < saved_step < step:
            best = (state, saved_step)
    return best


def trace_command(run_dir: Path, step: int, row: int | None = None) -> None:
    """Print which documents made the batch of a step (from 1) of a run, or one row (from 0) of it,
    and below where each corpus lies, and which questions the run's own samples are of. Of a stage
    that asks: which answers, to which questions.

    Raises RecipeError when the run, step or row does not exist, DataError when its data is gone.
    """
    run_dir = Path(run_dir)
    try:
        path = run_dir / "recipe.yaml"
        recipe = Recipe.from_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError:
        raise RecipeError(f"{run_dir} is not a run: it has no readable recipe.yaml") from None
    # It may lie elsewhere now, and its own sets lie in it.
    recipe = recipe.model_copy(update={"run": str(run_dir)})
    sequences = recipe.batch.sequences
    if not 1 <= step <= recipe.steps:
        raise RecipeError(f"no step {step} in {run_dir}: its steps are 1 .. {recipe.steps}")
    if recipe.stage_traits.asks:
        trace_answers(run_dir, recipe, step, row)
        return
    if row is not None and not 0 <= row < sequences:
        raise RecipeError(f"no row {row} in a batch of {run_dir}: rows are 0 .. {sequences - 1}")
    tokenizers = sorted(run_dir.glob("checkpoints/step-*/tokenizer"))
    if tokenizers and (recipe.stage_traits.reads_sets or recipe.tokenizer is not None):
        # The named one may be gone; the run's own copy rendered its sets and tokenised its tars.
        recipe = recipe.model_copy(update={"tokenizer": str(tokenizers[-1])})
    tokenizer = load_tokenizer(tokenizers[-1]) if tokenizers else None
    sources = open_sources(recipe, tokenizer=tokenizer, run=run_dir)
    state, state_step = nearest_state(run_dir, step)
    left_out = batches_left_out(recipe.recovery.leave_out, read_rollbacks(run_dir))
    arguments = sources.stream_arguments(recipe)
    entries = trace(arguments, sequences, step, row, state, state_step, left_out)
    table = Table(title=f"{run_dir}, step {step}", title_justify="left")
    corpora = _corpora(recipe, sources)
    columns = ("row", "positions", "document", "source", "corpus", "shard", "tokens", "begins")
    for name in columns:
        table.add_column(name, justify="right" if name == "row" else "left", overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry.row),
            f"{entry.start}-{entry.start + entry.length - 1}",
            escape(entry.document_id),
            escape(entry.source),
            escape(corpora[entry.corpus][0]),
            f"{'/'.join(Path(entry.shard).parts[-2:])} #{entry.index}",
            f"{entry.piece_start}-{entry.piece_start + entry.length}",
            # A printed table has no room for line breaks, and brackets in a text are not markup.
            escape(" ".join(sources.tokenizer.decode(list(entry.first_tokens)).split())),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # A file or a pipe has no edge to fold at.
    console.print(table)
    for number in sorted({entry.corpus for entry in entries}):
        name, where = corpora[number]
        console.print(f"{name}: {where}", markup=False, highlight=False, soft_wrap=True)
    for number, part in enumerate(recipe.data.mixture):
        if (own := own_set_of(part.corpus)) is not None:
            documents = [entry.document_id for entry in entries if entry.corpus == number]
            for line in question_lines(run_dir, own, documents):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def _corpora(recipe: Recipe, sources: Sources) -> list[tuple[str, str]]:
    """The name of each corpus in the mixture, and where it lies; of one that was made of files or
    tars also what it was made of.
    """
    folders = [
        folder.shown if isinstance(folder, Url) else str(folder) for folder in sources.folders
    ]
    if not recipe.data.mixture:
        return [(Path(folder).name, folder) for folder in folders]
    given = [without_secrets(part.corpus) for part in recipe.data.mixture]
    return [
        (name, folder if Path(made_of) == Path(folder) else f"{made_of}, in {folder}")
        for name, folder, made_of in zip(recipe.data.names(), folders, given, strict=True)
    ]
