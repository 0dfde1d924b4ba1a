"""What one rank holds of the model and of the batch."""

from dataclasses import dataclass

from trainer.errors import RecipeError
from trainer.plan.size import keys_seen, norm_parameters, parameter_count
from trainer.recipe import Recipe
from trainer.recipe.kernels import fused_loss


@dataclass(frozen=True)
class RankShare:
    """The shard of the model and of the batch on one rank.

    `micro_batches`: a step, on each replica; `replicas`: data-parallel ranks.
    """

    recipe: Recipe
    micro_batches: int
    stage: int
    """Pipeline rank, from 0."""
    replicas: int

    @property
    def size(self) -> int:
        """Bytes of a weight and of an activation."""
        return 2 if self.recipe.precision == "bf16" else 4

    @property
    def tensor(self) -> int:
        """Ranks that share each matrix."""
        return self.recipe.parallel.tensor

    @property
    def context(self) -> int:
        """Ranks that share each sequence."""
        return self.recipe.parallel.context

    @property
    def first(self) -> bool:
        """Whether it holds the embedding."""
        return self.stage == 0

    @property
    def last(self) -> bool:
        """Whether it holds the output layer."""
        return self.stage == self.recipe.parallel.pipeline - 1

    @property
    def layers(self) -> int:
        """Layers that it holds."""
        return self.recipe.model.layers // self.recipe.parallel.pipeline

    @property
    def attended(self) -> float:
        """The fraction of causal attention's pairs that remain under its layers' windows."""
        sizes, length = self.recipe.parallel, self.recipe.sequence_length
        windows, each = self.recipe.model.windows, self.layers // sizes.virtual
        firsts = ((turn * sizes.pipeline + self.stage) * each for turn in range(sizes.virtual))
        seen = [keys_seen(length, w) for first in firsts for w in windows[first : first + each]]
        return sum(seen) / (len(seen) * keys_seen(length, None))

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch in the matrix products."""
        return self.recipe.batch.micro * self.recipe.sequence_length // self.context

    @property
    def rows(self) -> int:
        """Tokens of a micro-batch in the residual stream, which sequence parallelism shards."""
        return self.tokens // self.tensor if self.recipe.parallel.sequence else self.tokens

    @property
    def vocab(self) -> int:
        """Rows of the embedding and of the output layer that it holds."""
        assert self.recipe.model.vocab is not None
        return self.recipe.model.vocab // self.tensor

    @property
    def fused(self) -> bool:
        """Whether the loss is fused, so that the full logits never exist (trainer.model.output)."""
        return fused_loss(self.recipe, self.vocab)

    @property
    def weights(self) -> int:
        """Parameters that it holds."""
        model = self.recipe.model
        count = parameter_count(model, self.vocab * self.tensor)
        layer = count["layers"] // model.layers
        norms = norm_parameters(model)
        held = self.layers * ((layer - norms) // self.tensor + norms)
        table = self.vocab * model.hidden
        copies = int(self.first) + int(self.last)
        if model.tied_embeddings and self.first and self.last:
            copies = 1
        return held + copies * table + (count["norm"] if self.last else 0)


def share_of(recipe: Recipe, world_size: int, stage: int) -> RankShare:
    """What a rank of pipeline stage `stage` holds.

    Raises RecipeError for what is not predicted: another stage, adapters, an unknown vocabulary,
    a recomputation that is not decided.
    """
    if recipe.stage_traits.reads_sets or recipe.stage_traits.asks:
        raise RecipeError(f"stage: {recipe.stage}; bench step predicts and measures pretrain only")
    if recipe.lora is not None:
        raise RecipeError("lora: bench step predicts and measures the training of all weights")
    if recipe.model.vocab is None:
        raise RecipeError("model.vocab: none; bench step needs the number, as model.vocab=50304")
    if recipe.recompute == "auto":
        raise RecipeError("recompute: auto is decided as a run starts; give bench step a choice")
    return RankShare(
        recipe, recipe.micro_batches(world_size), stage, recipe.data_parallel(world_size)
    )
