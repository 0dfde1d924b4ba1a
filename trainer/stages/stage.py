"""The interface of a stage to the loop, and the objects that a stage is built from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from trainer.data.batch import Batch
from trainer.data.loader import Loader
from trainer.model.transformer import LanguageModel
from trainer.parallel.device import runs_ahead
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import Losses
from trainer.recipe import Recipe
from trainer.sources import Sources


@dataclass(frozen=True)
class StageParts:
    """The parts of a run that a stage works with.

    `recipe`: resolved; `layout`: this rank's groups; `sources`: the opened corpora; `chunks`: this
    rank's model chunks; `step`: optimizer steps done before, 0 for a new run.
    """

    recipe: Recipe
    layout: Layout
    sources: Sources
    chunks: list[LanguageModel]
    step: int

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.recipe.run)


class Stage(Protocol):
    """A batch stream, and a loss on the model's output."""

    def stream_arguments(self) -> dict[str, Any]:
        """The arguments of `Stream`."""

    def open_stream(self, state: dict[str, Any] | None) -> Loader:
        """This rank's rows of the global batches, from the saved `state` on (None: the first)."""

    def weight_of(self, batch: Batch) -> int:
        """These rows' part of the loss's denominator: supervised tokens, or pairs."""

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward of this rank's rows, int64 [rows, sequence] of tokens and labels.

        `weight`: `weight_of` the whole global batch, fp32 [] on this rank's device. Gradients are
        accumulated on this rank, not reduced yet; the losses are means over the global batch.
        """

    def validate(self) -> dict[str, float]:
        """Metrics over the held-out rows, by name, equal on all ranks; collective."""


def rows_of(recipe: Recipe, layout: Layout) -> range:
    """The row indices in each global batch that this data rank trains on."""
    share = recipe.batch.sequences // layout.data.size
    return range(layout.data.rank * share, (layout.data.rank + 1) * share)


def open_loader(
    parts: StageParts, arguments: dict[str, Any], state: dict[str, Any] | None
) -> Loader:
    """This rank's batches of a stream; `arguments`: of `Stream`; `state`: where to continue."""
    recipe = parts.recipe
    return Loader(
        arguments,
        global_batch=recipe.batch.sequences,
        rows=rows_of(recipe, parts.layout),
        workers=recipe.data.workers,
        prefetch=recipe.data.prefetch,
        state=state,
        sequences=recipe.steps * recipe.batch.sequences,
        pinned=runs_ahead(parts.layout.device),
    )
