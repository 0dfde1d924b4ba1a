"""What `kernels.compile: layer` cannot be together with; each rule is one line with its mend."""

from typing import TYPE_CHECKING

from trainer.errors import RecipeError

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

_MEND = "or kernels.compile=none"


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
