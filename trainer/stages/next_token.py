"""Pre-training: the packed stream of documents, every token of which is a label."""

from typing import Any

from torch import Tensor

from trainer.data.batch import Batch
from trainer.data.loader import Loader
from trainer.evaluate.perplexity import validation_loss
from trainer.model.passes import NextToken
from trainer.parallel.schedule import Losses
from trainer.stages.example import show_first_example
from trainer.stages.noise import EmbeddingNoise
from trainer.stages.stage import StageParts, open_loader


class Pretraining:
    """Next-token prediction; the loss is a mean over targets."""

    def __init__(self, parts: StageParts) -> None:
        self.parts = parts
        self._passes = NextToken(parts.chunks, parts.recipe, parts.layout)

    def stream_arguments(self) -> dict[str, Any]:
        """What `Stream` is made with."""
        return self.parts.sources.stream_arguments(self.parts.recipe)

    def open_stream(self, state: dict[str, Any] | None) -> Loader:
        """This rank's rows of the global batches, from the saved `state` on."""
        return open_loader(self.parts, self.stream_arguments(), state)

    def kept(self, state: dict[str, Any] | None) -> dict[str, bytes]:
        """Nothing: the stream's state says all."""
        return {}

    def weight_of(self, batch: Batch) -> int:
        """Supervised tokens in these rows."""
        return batch.supervised

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward; `weight`: supervised tokens of the global batch, fp32 []."""
        return self._passes.run(batch, weight)

    def validate(self) -> dict[str, float]:
        """`loss`: nats a supervised token over the held-out rows, the same at every layout."""
        parts = self.parts
        measured = validation_loss(parts.chunks, parts.recipe, parts.layout, parts.sources)
        return {"loss": measured.nats}


class FineTuning(Pretraining):
    """As pre-training; targets are the answers alone, and embeddings may be noisy (NEFTune)."""

    def __init__(self, parts: StageParts) -> None:
        super().__init__(parts)
        recipe, layout = parts.recipe, parts.layout
        if recipe.conversations.neftune_alpha:
            noise = EmbeddingNoise(parts.chunks, recipe, layout)
            self._passes = NextToken(parts.chunks, recipe, layout, noise.prepare)
        if parts.step == 0 and layout.reports:
            show_first_example(parts, self.stream_arguments())
