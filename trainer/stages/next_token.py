"""Pre-training: the packed stream of documents, every token of which is a label."""

from typing import Any

from torch import Tensor

from trainer.data.batch import Batch
from trainer.data.loader import Loader
from trainer.evaluate.perplexity import validation_loss
from trainer.model.passes import NextToken, supervised_in
from trainer.parallel.schedule import Losses
from trainer.stages.example import tell_examples
from trainer.stages.noise import EmbeddingNoise
from trainer.stages.stage import Setting, open_loader


class Pretraining:
    """Next-token prediction; the loss is a mean over targets."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._passes = NextToken(setting.chunks, setting.recipe, setting.layout)

    def stream_arguments(self) -> dict[str, Any]:
        """What `Stream` is made with."""
        return self.setting.sources.stream_arguments(self.setting.recipe)

    def open_stream(self, state: dict[str, Any] | None) -> Loader:
        """This rank's rows of the global batches, from the saved `state` on."""
        return open_loader(self.setting, self.stream_arguments(), state)

    def weight_of(self, batch: Batch) -> int:
        """Targets in these rows."""
        return supervised_in(batch)

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward; `weight`: targets of the global batch, fp32 []."""
        return self._passes.run(batch, weight)

    def validate(self) -> dict[str, float]:
        """`loss`: nats a target over the held-out rows, the same at every layout."""
        setting = self.setting
        measured = validation_loss(setting.chunks, setting.recipe, setting.layout, setting.sources)
        return {"loss": measured.nats}


class FineTuning(Pretraining):
    """As pre-training; targets are the answers alone, and embeddings may be noisy (NEFTune)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        recipe, layout = setting.recipe, setting.layout
        if recipe.conversations.neftune_alpha:
            noise = EmbeddingNoise(setting.chunks, recipe, layout)
            self._passes = NextToken(setting.chunks, recipe, layout, noise.prepare)
        if setting.step == 0 and layout.reports:
            tell_examples(setting, self.stream_arguments())
