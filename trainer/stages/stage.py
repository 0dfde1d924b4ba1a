"""The interface of a stage to the loop, and the objects that a stage is built from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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

KEPT_BY_STAGE = "stage/"
"""What the attachments of a checkpoint that a stage goes on from begin with."""


@dataclass(frozen=True)
class FrozenCopy:
    """This rank's chunks of the weights that a run started from, and their checkpoint's folder and
    seal (`LoraBase`).
    """

    chunks: list[LanguageModel]
    folder: Path
    seal: str


@dataclass(frozen=True)
class StageParts:
    """The parts of a run that a stage works with.

    `recipe`: resolved; `layout`: this rank's groups; `sources`: the opened corpora; `chunks`: this
    rank's model chunks; `step`: optimizer steps done before, 0 for a new run; `kept`: what the
    stage gave to the checkpoint that the run resumes from, by name; `frozen`: a second copy of the
    first weights, where the recipe keeps one.
    """

    recipe: Recipe
    layout: Layout
    sources: Sources
    chunks: list[LanguageModel]
    step: int
    kept: Mapping[str, bytes] = field(default_factory=dict)
    frozen: FrozenCopy | None = None

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.recipe.run)


class BatchStream(Protocol):
    """An endless iterator over this rank's rows of the global batches."""

    def __next__(self) -> Batch:
        """The next batch, int64 [rows, sequence] on the host; on all ranks at the same point."""

    def close(self) -> None:
        """Stop whatever works for it."""


class Stage(Protocol):
    """A batch stream, and a loss on the model's output."""

    def stream_arguments(self) -> dict[str, Any]:
        """The arguments of `Stream`."""

    def open_stream(self, state: dict[str, Any] | None) -> BatchStream:
        """This rank's rows of the global batches, from the saved `state` on (None: the first)."""

    def kept(self, state: dict[str, Any] | None) -> dict[str, bytes]:
        """What a checkpoint must hold, beside the stream's `state`, for the step after it; by name,
        each of which begins with `KEPT_BY_STAGE`.
        """

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
