"""`kernels`: which implementation of an operator runs, and what `compile` cannot go with."""

from typing import TYPE_CHECKING, Literal

from trainer.errors import RecipeError
from trainer.recipe.section import Section
from trainer.recipe.shape import HEAD

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

FUSED_FROM = 16_384
"""Ids a rank from which `kernels.loss: auto` is the fused one."""

_MEND = "or kernels.compile=none"


class KernelsSection(Section):
    """Which implementation of an operator runs."""

    attention: Literal["auto", "reference", "sdpa", "triton", "flash"] = "auto"
    """`auto`: on a GPU the one measured fastest for the model's shapes, on the CPU sdpa; `flash`
    needs the package flash-attn."""
    deterministic: bool = True
    """Whether attention's backward pass may not use atomics; without it, a resumed run is not
    bitwise the same."""
    loss: Literal["auto", "fused", "logits"] = "auto"
    """`fused`: the output projection and the loss a chunk of tokens at a time, without the logits
    of all; `logits`: with them; `auto`: fused from 16,384 ids a rank on."""
    compile: Literal["none", "layer"] = "none"
    """`layer`: training passes run each transformer layer through torch.compile, our kernels inside
    it; compiled once a shape and cached. What it compiles is as repeatable as `deterministic` says,
    and `attention: auto` is then never flash. The default waits for a GPU to show which of the two
    is faster: on none has it been measured yet."""


def fused_loss(recipe: "Recipe", rows: float) -> bool:
    """Whether an output layer of `rows` ids a rank never makes the logits of all tokens.

    An adapter beside it adds to logits, and padding rows are taken out of them: they are then
    there.
    """
    wanted = recipe.kernels.loss
    adapted = recipe.lora is not None and recipe.lora.adapts(HEAD)
    if adapted or recipe.model.padding_rows:
        return False
    return wanted == "fused" or (wanted == "auto" and rows >= FUSED_FROM)


def check_compile(recipe: "Recipe") -> None:
    """Raise RecipeError where a layer could not be traced whole, whatever the world size."""
    if recipe.kernels.compile == "none":
        return
    if recipe.zero.stage == 3:
        raise RecipeError(
            "kernels.compile: layer cannot trace zero.stage 3, which gathers weights inside the "
            f"layer; use zero.stage=2 {_MEND}"
        )
    if recipe.kernels.attention == "flash":
        raise RecipeError(
            "kernels.compile: layer cannot trace kernels.attention flash, which reads documents' "
            f"boundaries on the host; use kernels.attention=auto {_MEND}"
        )
    if recipe.recompute not in ("none", "full"):
        raise RecipeError(
            "kernels.compile: layer leaves to torch.compile what of a layer is kept; use "
            f"recompute=none, recompute=full {_MEND}"
        )
    if recipe.offload != "none":
        raise RecipeError(
            "kernels.compile: layer does not show what backward keeps, so that offload cannot move "
            f"it; use offload=none {_MEND}"
        )
