"""Supervised fine-tuning: next-token prediction on what the assistant says."""

from trainer.model.next_token import NextToken
from trainer.stages.example import tell_examples
from trainer.stages.noise import EmbeddingNoise
from trainer.stages.pretrain import Pretraining
from trainer.stages.stage import Setting


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
