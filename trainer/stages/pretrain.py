"""Pre-training: the packed stream of documents, every token of which is a label."""

from typing import Any

from trainer.data.batch import Batch
from trainer.data.build import ensure_corpus
from trainer.data.loader import Loader
from trainer.data.remote.place import Place, place
from trainer.data.stream import stream_arguments
from trainer.model.next_token import supervised_in
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe


def corpus_folders(recipe: Recipe, progress: bool) -> list[Place]:
    """The folders of the recipe's mixture; its own corpus, built first where it is missing."""
    if recipe.data.mixture:
        return [place(source.corpus) for source in recipe.data.mixture]
    return [ensure_corpus(recipe, progress=progress)]


def rows_of(recipe: Recipe, layout: Layout) -> range:
    """The rows of each global batch that this data rank trains on."""
    share = recipe.batch.sequences // layout.data.size
    return range(layout.data.rank * share, (layout.data.rank + 1) * share)


def open_stream(
    recipe: Recipe, folders: list[Place], layout: Layout, state: dict[str, Any] | None
) -> Loader:
    """This rank's rows of the global batches, from the saved `state` on (None: the beginning)."""
    return Loader(
        stream_arguments(recipe, folders),
        global_batch=recipe.batch.sequences,
        rows=rows_of(recipe, layout),
        workers=recipe.data.workers,
        prefetch=recipe.data.prefetch,
        state=state,
        sequences=recipe.steps * recipe.batch.sequences,
    )


def tokens_in(batch: Batch) -> int:
    """Tokens of these rows without padding; in pre-training each one of them is supervised."""
    return supervised_in(batch)
