"""A recipe in the bare loop's terms."""

from trainer.bench.bare import BareConfig, BareTraining, RopeScaling
from trainer.recipe import Recipe


def bare_config(recipe: Recipe, vocab: int) -> BareConfig:
    """The recipe's architecture in the bare model's terms."""
    model = recipe.model
    scaling = model.rope_scaling
    return BareConfig(
        layers=model.layers,
        hidden=model.hidden,
        heads=model.heads,
        kv_heads=model.kv_heads or model.heads,
        ffn=model.ffn,
        vocab=vocab,
        head_size=model.head_size or model.hidden // model.heads,
        tied_embeddings=model.tied_embeddings,
        qk_norm=model.qk_norm,
        qkv_bias=model.qkv_bias,
        rope_theta=model.rope_theta,
        rope_scaling=RopeScaling(**scaling.model_dump()) if scaling else None,
        norm_eps=model.norm_eps,
        init_std=model.init_std,
    )


def bare_training(recipe: Recipe) -> BareTraining:
    """The recipe's batch and optimizer in the bare loop's terms."""
    optimizer = recipe.optimizer
    return BareTraining(
        micro=recipe.batch.micro,
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        decay_norms=optimizer.decay_norms,
        decay_biases=optimizer.decay_biases,
        decay_embeddings=optimizer.decay_embeddings,
        clip=optimizer.clip,
        bf16=recipe.precision == "bf16",
    )
