"""What the loop asks of a stage, and what a stage is made of."""

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

    `recipe` is resolved; `chunks` are the model's parts on this rank; `step`: how many optimizer
    steps were made before, 0 of a run that begins.
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
    """A batch stream, and a loss over what the model makes of it."""

    def stream_arguments(self) -> dict[str, Any]:
        """What `Stream` is made with."""

    def open_stream(self, state: dict[str, Any] | None) -> Loader:
        """This rank's rows of the global batches, from the saved `state` on (None: the first)."""

    def weight_of(self, batch: Batch) -> int:
        """How much of what the loss is a mean over these rows hold: targets, or pairs."""

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward of this rank's rows, int64 [rows, sequence] of tokens and labels.

        `weight`: `weight_of` the whole global batch, fp32 [] on this rank's device. Gradients are
        left as this rank's passes made them; the losses are means over the global batch.
        """

    def validate(self) -> dict[str, float]:
        """Figures over the held-out rows, equal on all ranks; collective."""


def rows_of(recipe: Recipe, layout: Layout) -> range:
    """The rows of each global batch that this data rank trains on."""
    share = recipe.batch.sequences // layout.data.size
    return range(layout.data.rank * share, (layout.data.rank + 1) * share)


def open_loader(
    parts: StageParts, arguments: dict[str, Any], state: dict[str, Any] | None
) -> Loader:
    """The batches of a stream for this rank."""
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
