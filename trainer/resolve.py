"""Resolve a recipe: fill in the keys that it leaves open, and validate the whole once."""

import json
import logging
from functools import partial
from pathlib import Path

from kernels.attention import CHOICES
from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError, RecipeError
from trainer.files import write_whole
from trainer.hugging_face.config_writing import family_of
from trainer.model.backend import choose_backend, read_choices
from trainer.own_sets import are_made, content_keys
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.layout import Layout
from trainer.plan.recompute_choice import choose_recompute
from trainer.recipe import ModelSection, Recipe
from trainer.recipe.own_sets import with_keys, without_own_entries
from trainer.recipe.rules import rounded_vocabulary
from trainer.resume import rows_to_resume, starting_keys
from trainer.sources import Sources, open_sources

_log = logging.getLogger(__name__)


def resolve(recipe: Recipe, layout: Layout, ranks: Ranks) -> tuple[Recipe, Sources]:
    """The recipe with every key that a run needs, and the sources that it reads.

    Filled in: the checkpoint that `init_from` resolves to and its tokenizer, the vocabulary size,
    and the choice of `recompute: auto` on this device. Sets of the run's own samples that are not
    made yet are left out of the sources. The choice of `kernels.attention: auto` is
    written to RUN/kernels.json. Collective. Raises RecipeError and DataError on all ranks.
    """
    # Drafts are not validated: the complete recipe is, at the end.
    draft = recipe.model_copy(update=on_first_rank(ranks, lambda: starting_keys(recipe)))
    draft = with_keys(draft, on_first_rank(ranks, lambda: content_keys(draft)))
    made = on_first_rank(ranks, lambda: are_made(draft))
    sources = open_sources(
        draft if made else without_own_entries(draft), partial(on_first_rank, ranks)
    )
    changed = dict(on_first_rank(ranks, lambda: _vocabulary(draft, sources.tokenizer)))
    if draft.lora is not None and draft.lora.unties(draft.model):
        changed["tied_embeddings"] = False
        _log.info(
            "lora: the base's tied embedding becomes two matrices, as in PEFT, since one of them is"
            " adapted or trained (lora.ensure_weight_tying)"
        )
    draft = draft.model_copy(update={"model": draft.model.model_copy(update=changed)})
    _check_padding(draft)
    _tell_unwritten(draft)
    _choose_kernels(draft, layout, ranks)
    keys = draft.model_dump(mode="json")
    if draft.recompute == "auto":
        keys["recompute"] = on_first_rank(ranks, lambda: choose_recompute(draft, layout))
    return Recipe.from_keys(keys), sources


def _vocabulary(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, int]:
    """`vocab` and `padding_rows` of the model: the recipe's, or the tokens rounded up.

    Raises RecipeError if there are too few.

    With added tokens the recipe's are the base's, which grow. Without, a base may lack rows for
    tokens that were added to its tokenizer: the stream refuses texts that hold them.
    """
    vocab, tokens = recipe.model.vocab, tokenizer.size
    if vocab is None:
        return {"vocab": rounded_vocabulary(tokens)}
    if recipe.added_tokens or recipe.added_special_tokens:
        return _grown(recipe, tokens)
    if vocab < tokens and not (recipe.init_from and tokenizer.lacks_only_added(vocab)):
        raise RecipeError(
            f"model.vocab: {vocab} has no row for some of the tokenizer's {tokens} tokens; "
            f"set it to {tokens} or more, or leave it out"
        )
    return _padded(recipe.model, recipe.parallel.tensor)


def _grown(recipe: Recipe, tokens: int) -> dict[str, int]:
    """Rows for a base's tokens and the added ones, or those that the run has already; and the
    padding rows among them, as many as tensor ranks need to divide them.
    """
    model, cut = recipe.model, recipe.parallel.tensor
    assert model.vocab is not None
    used = rows_to_resume(recipe) or max(model.vocab - model.padding_rows, tokens)
    rows = -(-used // cut) * cut
    if rows != model.vocab:
        _log.info("added tokens: the embedding grows from %d to %d rows", model.vocab, used)
    return {"vocab": rows, "padding_rows": rows - used}


def _padded(model: ModelSection, cut: int) -> dict[str, int]:
    """A base's rows, and the padding rows that `cut` tensor ranks need to divide them."""
    assert model.vocab is not None
    used = model.vocab - model.padding_rows
    if model.vocab % cut == 0:
        return {"vocab": model.vocab}
    rows = -(-used // cut) * cut
    _log.info(
        "the embedding's %d rows are padded to %d, which parallel.tensor=%d divides; the padding"
        " takes no part",
        *(used, rows, cut),
    )
    return {"vocab": rows, "padding_rows": rows - used}


def _check_padding(recipe: Recipe) -> None:
    if not recipe.model.padding_gradient and recipe.model.padding_token is None:
        _log.warning(
            "model.padding_gradient: is false, and no padding token is known (config.json of the"
            " base has no pad_token_id), so that every row learns, as in transformers; to leave one"
            " out set model.padding_token to its id"
        )


def _tell_unwritten(recipe: Recipe) -> None:
    """Warn before the training, not behind it, of a model that an export will refuse."""
    try:
        family_of(recipe.model)
    except CheckpointError as error:
        _log.warning("lyceum export will not write this model: %s", error)


def _choose_kernels(recipe: Recipe, layout: Layout, ranks: Ranks) -> None:
    """Choose the back ends of `kernels.attention: auto` on rank 0, and write RUN/kernels.json.

    A resumed run reads them from there: another back end would round differently.
    """
    if recipe.kernels.attention != "auto" or layout.device.type != "cuda":
        return
    path = Path(recipe.run) / "kernels.json"

    def measured() -> dict[str, str]:
        known = read_choices(path)
        chosen = choose_backend(recipe, layout, known)
        if chosen != known:
            write_whole(path, json.dumps({"attention": chosen}, indent=2) + "\n")
        return chosen

    CHOICES.restore(on_first_rank(ranks, measured))
