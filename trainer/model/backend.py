"""Which attention back end a run's GPUs use: measured once, and remembered with the run."""

import json
from pathlib import Path

import torch

from kernels.attention import CHOICES, Choices
from trainer.errors import RecipeError
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe


def choose_backend(
    recipe: Recipe, layout: Layout, known: dict[str, str], choices: Choices = CHOICES
) -> dict[str, str]:
    """The back ends that `kernels.attention: auto` uses, by class of shapes; measured if need be.

    `known`: choices of an earlier start, which are not measured again; `choices`: where they are
    registered, by default the process's own. Measured once a run, so that every rank and every
    resumed run computes the same. Needs a GPU; raises ValueError where `known` names no back end.
    """
    choices.restore(known)
    if recipe.model.softmax != "plain":
        return choices.exported()  # one back end can on a GPU
    model, tensor = recipe.model, layout.tensor.size
    places = torch.zeros((recipe.batch.micro, recipe.sequence_length), dtype=torch.int64)
    context = layout.context
    sequence = SequenceLayout.whole(
        places.to(layout.device), rotary_embedding(recipe), context.rank, context.size
    )
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    query, key = (
        torch.empty(
            (length, recipe.batch.micro, heads // tensor, model.head_width),
            dtype=dtype,
            device=layout.device,
        )
        for length, heads in (
            (sequence.length, model.heads),
            (recipe.sequence_length, model.query_groups),
        )
    )
    for window in dict.fromkeys(model.windows):
        visible = sequence.visible_through(window)
        choices.choose(query, key, visible, recipe.kernels.deterministic)
    return choices.exported()


def read_choices(path: Path) -> dict[str, str]:
    """The choices that an earlier start of the run wrote to kernels.json; {} without the file.

    Raises RecipeError where the file cannot be read or names an unknown back end.
    """
    if not path.exists():
        return {}
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))["attention"]
        Choices().restore(chosen)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecipeError(
            f"{path}: cannot be read ({error}); remove it, and kernels are chosen anew"
        ) from error
    return dict(chosen)
