"""The text that an evaluation reads and searches: what is named, or else the run's own corpora."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from trainer.corpus.build.canaries import Canary
from trainer.errors import LyceumError
from trainer.evaluate.corpora import HELD, SearchableText, SearchedDocument
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.opened import OpenedModel
from trainer.evaluate.stored_text import StoredText
from trainer.evaluate.text_pieces import HeldOutText, ValidationPieces, WindowsOfText
from trainer.recipe import Recipe
from trainer.recipe.own_sets import own_sections
from trainer.sources import Sources, open_sources


@dataclass(frozen=True)
class EvaluationText:
    """What suites search and read; None where there is none.

    `own`: what facts and memories are taken from; `held_out`: what perplexity is over;
    `trained_on`: corpora with a training split, in which any suite's items are looked for; `error`:
    why the run's own corpora could not be opened, where that was tried.
    """

    own: SearchableText | None = None
    held_out: HeldOutText | None = None
    trained_on: SearchableText | None = None
    error: LyceumError | None = None


class JoinedText:
    """Several texts one behind the other."""

    def __init__(self, parts: Sequence[SearchableText]) -> None:
        self._parts = parts

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all their sources."""
        return tuple(chain.from_iterable(part.names for part in self._parts))

    @property
    def fingerprint(self) -> str:
        """24 hex digits that follow from theirs."""
        whole = "\n".join(part.fingerprint for part in self._parts)
        return hashlib.sha256(whole.encode()).hexdigest()[:24]

    def documents(self, split: str) -> Iterator[SearchedDocument]:
        """Their documents of "train" or "validation", in order."""
        return chain.from_iterable(part.documents(split) for part in self._parts)

    def occurrences(self, passages: Sequence[str]) -> list[int]:
        """How many training documents of all hold each passage."""
        return [
            sum(each) for each in zip(*(p.occurrences(passages) for p in self._parts), strict=True)
        ]

    def holding(self, passages: Sequence[str], limit: int = HELD) -> list[list[str]]:
        """For each passage, ids of the first training documents that hold it."""
        found = zip(*(part.holding(passages, limit) for part in self._parts), strict=True)
        return [[*chain.from_iterable(each)][:limit] for each in found]

    def together(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """In how many sentences of training documents of all each pair stands."""
        return [sum(each) for each in zip(*(p.together(pairs) for p in self._parts), strict=True)]

    def canaries(self) -> list[tuple[str, Canary]]:
        """What was planted in them on purpose."""
        return [planted for part in self._parts for planted in part.canaries()]


def text_of(model: OpenedModel, corpora: Sequence[str], texts: Sequence[str]) -> EvaluationText:
    """What an evaluation of this model reads; raises DataError for a corpus or file named badly."""
    if corpora or texts:
        built: list[SearchableText] = [StoredText.at(*corpora)] if corpora else []
        named = _joined([*built, GivenText(texts)] if texts else built)
        held_out = WindowsOfText(named, model.tokenizer, model.longest)
        # Nobody knows whether a model has seen a file: that it holds itself says nothing.
        return EvaluationText(named, held_out, built[0] if built else None)
    recipe = _reopened(model.recipe, model.folder)
    if recipe.corpus is None and not recipe.data.mixture:
        return EvaluationText()  # an import: each suite says what it needs
    try:
        sources = open_sources(recipe, tokenizer=model.tokenizer, run=_run_of(model.folder))
    except LyceumError as error:
        return EvaluationText(error=type(error)(f"{error}; or name text by --corpus or --text"))
    return text_of_run(recipe, sources)


def _run_of(folder: Path) -> Path | None:
    """The run of a checkpoint; None of one that lies elsewhere."""
    return folder.parents[1] if folder.parent.name == "checkpoints" else None


def _joined(parts: Sequence[SearchableText]) -> SearchableText:
    return parts[0] if len(parts) == 1 else JoinedText(parts)


def text_of_run(recipe: Recipe, sources: Sources) -> EvaluationText:
    """What an evaluation of a run reads: its own corpora, which are open."""
    own = StoredText.of_run(recipe, sources)
    return EvaluationText(own, ValidationPieces(recipe, sources), own)


def _reopened(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of a checkpoint's run as its corpora are opened again, by its own tokenizer."""
    own = str(folder / "tokenizer")
    if own_sections(recipe) and folder.parent.name == "checkpoints":
        # Its run may lie elsewhere now than when it was trained.
        recipe = recipe.model_copy(update={"run": str(folder.parents[1])})
    if recipe.stage_traits.reads_sets:
        # A set may have to be rendered again: the checkpoint's own tokenizer has the template.
        conversations = recipe.conversations.model_copy(update={"template": None})
        return recipe.model_copy(update={"tokenizer": own, "conversations": conversations})
    if recipe.tokenizer is not None:
        # The named one may be gone, and tars may have to be tokenised again.
        return recipe.model_copy(update={"tokenizer": own})
    return recipe
