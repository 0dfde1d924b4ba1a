"""AdamW's parameter groups: which weights decay."""

from typing import Any

from torch.nn import Parameter

from trainer.recipe import Recipe


def parameter_groups(chunks: list[Any], recipe: Recipe) -> list[dict[str, Any]]:
    """Up to two groups, with `weight_decay` as the recipe says and without; empty ones left out.

    Frozen parameters are in none.
    """
    decayed: list[Parameter] = []
    free: list[Parameter] = []
    for chunk in chunks:
        for name, parameter in chunk.named_parameters():
            if not parameter.requires_grad:
                continue
            (decayed if _decays(name, parameter, chunk, recipe) else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.optimizer.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decays(name: str, parameter: Parameter, chunk: Any, recipe: Recipe) -> bool:
    tied = chunk.share_embeddings_and_output_weights
    if "word_embeddings" in name or (tied and name == "output_layer.weight"):
        return recipe.optimizer.decay_embeddings
    if name.endswith(".bias"):
        return recipe.optimizer.decay_biases
    return parameter.dim() > 1 or recipe.optimizer.decay_norms


def adamw_options(recipe: Recipe) -> dict[str, Any]:
    """AdamW's options (Loshchilov & Hutter 2019), decoupled decay set a group."""
    section = recipe.optimizer
    return {"lr": section.lr, "betas": tuple(section.betas), "eps": section.eps}
