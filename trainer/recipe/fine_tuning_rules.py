"""What the sections for fine-tuning owe each other; each rule is one line with its mend."""

import difflib
import fnmatch
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.errors import RecipeError
from trainer.recipe.fine_tuning import LINEARS

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe


def check_fine_tuning(recipe: "Recipe") -> None:
    """Raise RecipeError where stage, conversations, preference and lora contradict the rest."""
    if recipe.stage != "pretrain" and not recipe.data.mixture:
        raise RecipeError(
            f"data.mixture: is empty, and stage {recipe.stage} reads sets; name their files, as in"
            " data.mixture=[{corpus: questions.jsonl}]"
        )
    if recipe.stage == "preference":
        _check_preference(recipe)
    if recipe.lora is not None:
        _check_lora(recipe)


def _check_preference(recipe: "Recipe") -> None:
    section = recipe.preference
    if section.label_smoothing and section.loss not in ("dpo", "simpo"):
        raise RecipeError(
            f"preference.label_smoothing: belongs to dpo and simpo, not {section.loss}; set it to 0"
        )
    if section.length_normalised and section.loss not in ("dpo", "ipo"):
        raise RecipeError(
            f"preference.length_normalised: belongs to dpo and ipo; {section.loss} is fixed in"
            " this; leave it out"
        )
    if section.nll_weight and section.loss in ("kto", "orpo"):
        raise RecipeError(
            f"preference.nll_weight: {section.loss} has no chosen answer's loss to weigh; set it"
            " to 0"
            if section.loss == "kto"
            else "preference.nll_weight: orpo holds the chosen answers' loss already; set it to 0"
        )
    if section.reference == "base" and recipe.lora is None:
        raise RecipeError(
            "preference.reference: base needs lora, whose base stays frozen; use"
            " preference.reference=stored"
        )


def linear_names(layers: int) -> Iterator[str]:
    """The full Hugging Face names of all linear layers of so many blocks."""
    for layer in range(layers):
        for name in LINEARS:
            part = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            yield f"model.layers.{layer}.{part}.{name}"


def matches(target: str, name: str) -> bool:
    """Whether a target of `lora.targets` means the linear layer of this full name."""
    return target == name.rpartition(".")[2] or fnmatch.fnmatchcase(name, target)


def _check_lora(recipe: "Recipe") -> None:
    assert recipe.lora is not None
    if recipe.init_from is None:
        raise RecipeError(
            "lora: adapts the weights of a base, and init_from names none; set init_from to a"
            " checkpoint"
        )
    if recipe.stage == "pretrain":
        raise RecipeError("lora: belongs to stage sft and preference; leave it out")
    names = list(linear_names(recipe.model.layers))
    if not recipe.lora.targets:
        raise RecipeError("lora.targets: is empty; name linear layers, such as q_proj")
    for target in recipe.lora.targets:
        if not any(matches(target, name) for name in names):
            close = difflib.get_close_matches(target, LINEARS, n=1)
            mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(LINEARS)}"
            raise RecipeError(f"lora.targets: {target} matches no linear layer; {mend}")
