"""What the sections of a recipe owe each other; each rule is one line with its mend."""

import importlib.util
from typing import TYPE_CHECKING

from trainer.errors import RecipeError
from trainer.recipe.checkpoint import check_average, check_recovery, check_spikes
from trainer.recipe.corpus import SOURCE_KEYS
from trainer.recipe.data import check_mixture
from trainer.recipe.evaluate import check_evaluation
from trainer.recipe.fine_tuning import check_fine_tuning
from trainer.recipe.kernels import check_compile
from trainer.recipe.lora import TABLES
from trainer.recipe.rope import check_rope_scaling
from trainer.recipe.shape import EMBEDDING
from trainer.recipe.text_member import text_members

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

VOCABULARY_MULTIPLE = 128
"""A vocabulary taken from the tokenizer is rounded up to a multiple of this."""


def rounded_vocabulary(tokens: int) -> int:
    """Rows of an embedding for so many tokens, where the recipe leaves them open."""
    return _round_up(tokens, VOCABULARY_MULTIPLE)


def check_recipe(recipe: "Recipe") -> None:
    """Raise RecipeError where sections contradict each other, whatever the world size."""
    _check_run(recipe)
    _check_added_tokens(recipe)
    check_fine_tuning(recipe)
    _check_heads(recipe)
    _check_window(recipe)
    _check_padding(recipe)
    _check_division(recipe)
    _check_sequence(recipe)
    _check_zero(recipe)
    _check_schedule(recipe)
    _check_profile(recipe)
    _check_corpus(recipe)
    check_mixture(recipe.data)
    _check_kernels(recipe)
    check_compile(recipe)
    check_evaluation(recipe)
    check_average(recipe)
    check_recovery(recipe)
    check_spikes(recipe)


def check_world(recipe: "Recipe", world_size: int, device: str) -> None:
    """Raise RecipeError unless `world_size` ranks of `device` ("cpu" or "cuda") fit the recipe."""
    sizes, batch = recipe.parallel, recipe.batch
    if world_size < 1 or world_size % sizes.model_ranks:
        raise RecipeError(
            f"parallel: tensor {sizes.tensor} x pipeline {sizes.pipeline} x context {sizes.context}"
            f" = {sizes.model_ranks} ranks a replica does not divide {world_size} ranks; start a "
            f"multiple of {sizes.model_ranks} (--nproc) or change parallel"
        )
    replicas = recipe.data_parallel(world_size)
    if batch.sequences % (replicas * batch.micro):
        raise RecipeError(
            f"batch.sequences: {batch.sequences} is not a multiple of {replicas} data-parallel "
            f"replicas x batch.micro {batch.micro}; try batch.sequences="
            f"{_round_up(batch.sequences, replicas * batch.micro)}"
        )
    micro_batches = recipe.micro_batches(world_size)
    if sizes.virtual > 1 and micro_batches % sizes.pipeline:
        raise RecipeError(
            f"parallel.virtual: the interleaved schedule needs micro-batches in multiples of "
            f"parallel.pipeline {sizes.pipeline}, but {world_size} ranks make {micro_batches}; try "
            f"batch.sequences={_round_up(micro_batches, sizes.pipeline) * replicas * batch.micro}"
        )
    kernels = recipe.kernels
    if device == "cuda" and kernels.attention == "sdpa" and kernels.deterministic:
        raise RecipeError(
            "kernels.attention: sdpa is not bitwise repeatable on a GPU; use "
            "kernels.attention=auto or kernels.deterministic=false"
        )
    if device == "cpu" and recipe.zero.offload != "none":
        raise RecipeError(
            "zero.offload: moves optimizer state from a GPU's memory to the machine's, where on "
            "device=cpu it is already; use zero.offload=none"
        )


def fitting_world(recipe: "Recipe", available: int, device: str) -> int:
    """How many of `available` ranks of `device` train: all, or with `recovery.minimum_replicas` the
    most that fit the recipe.

    Raises RecipeError where no allowed number fits.
    """
    least, ranks = recipe.recovery.minimum_replicas, recipe.parallel.model_ranks
    if least is None:
        check_world(recipe, available, device)
        return available
    if available < least * ranks:
        raise RecipeError(
            f"recovery.minimum_replicas: {least} replicas x {ranks} ranks are {least * ranks}, and "
            f"there are {available}; start more, or lower it"
        )
    faults: list[RecipeError] = []
    for replicas in range(available // ranks, least - 1, -1):
        try:
            check_world(recipe, replicas * ranks, device)
        except RecipeError as fault:
            faults.append(fault)
        else:
            return replicas * ranks
    raise faults[0]


def _check_run(recipe: "Recipe") -> None:
    if not recipe.run.strip():
        raise RecipeError(
            "run: is empty, which would be the working directory; name a run directory, as runs/a"
        )
    scheme, separator, _ = recipe.run.partition("://")
    if separator:
        raise RecipeError(
            f"run: {scheme}:// is no folder, which a run directory is; name one that all ranks "
            "share, and checkpoint.copy_to for copies behind s3://"
        )


def _check_added_tokens(recipe: "Recipe") -> None:
    named = (*recipe.added_tokens, *recipe.added_special_tokens)
    if not named:
        return
    if recipe.init_from is None:
        raise RecipeError(
            "added_tokens: are added to the tokenizer of init_from, which names none; set it, or"
            " leave them out"
        )
    for number, token in enumerate(named):
        if not token or token in named[:number]:
            fault = "is empty" if not token else f"names {token!r} twice"
            raise RecipeError(f"added_tokens: a token {fault}; leave it out")
    lora = recipe.lora
    if lora is not None and not all(lora.saves(name) for name in TABLES):
        if recipe.model.tied_embeddings and lora.ensure_weight_tying and lora.saves(EMBEDDING):
            return
        raise RecipeError(
            "added_tokens: under lora their rows would never learn; add [embed_tokens, lm_head] to"
            " lora.modules_to_save"
        )


def _check_heads(recipe: "Recipe") -> None:
    model = recipe.model
    if model.head_size is None:
        _divides("model.hidden", model.hidden, "model.heads", model.heads)
    if model.head_width % 2:
        raise RecipeError(
            f"model: a head of {model.head_width} cannot be rotated by pairs; make "
            "model.hidden / model.heads (or model.head_size) even"
        )
    _divides("model.heads", model.heads, "model.kv_heads", model.query_groups)
    check_rope_scaling(model.rope_scaling, model.head_width)


def _check_window(recipe: "Recipe") -> None:
    model, pattern = recipe.model, recipe.model.window_pattern
    if pattern is None:
        return
    if model.window is None:
        raise RecipeError(
            "model.window_pattern: is set, and model.window is none; set model.window,"
            " or leave the pattern out"
        )
    if "local" not in pattern:
        raise RecipeError(
            "model.window_pattern: names no local layer, so that model.window means nothing; name"
            " one, or leave both out"
        )
    if len(pattern) > model.layers:
        raise RecipeError(
            f"model.window_pattern: {len(pattern)} layers, and model.layers is {model.layers};"
            " shorten it"
        )


def _check_padding(recipe: "Recipe") -> None:
    token, rows = recipe.model.padding_token, recipe.model.vocab
    padding = recipe.model.padding_rows
    if padding and rows is not None and padding >= rows:
        raise RecipeError(f"model.padding_rows: {padding} are all rows of {rows}; lower it")
    if padding and recipe.loss.label_smoothing:
        raise RecipeError(
            "loss.label_smoothing: gives every row a share, which model.padding_rows cannot have;"
            " set it to 0, or parallel.tensor to what divides the embedding's rows"
        )
    if padding and recipe.kernels.loss == "fused":
        raise RecipeError(
            "kernels.loss: fused makes no logits, out of which model.padding_rows are taken; use"
            " kernels.loss=auto, or a parallel.tensor that divides the embedding's rows"
        )
    if token is not None and rows is not None and token >= rows:
        raise RecipeError(
            f"model.padding_token: {token} has no row in an embedding of {rows}; name a token's id,"
            " or leave it out"
        )


def _check_division(recipe: "Recipe") -> None:
    model, sizes = recipe.model, recipe.parallel
    if sizes.virtual > 1 and sizes.pipeline == 1:
        raise RecipeError(
            f"parallel.virtual: {sizes.virtual} needs parallel.pipeline above 1; "
            "use parallel.virtual=1"
        )
    stretches = sizes.pipeline * sizes.virtual
    _divides("model.layers", model.layers, "parallel.pipeline x parallel.virtual", stretches)
    tensor = ("parallel.tensor", sizes.tensor)
    _divides("model.heads", model.heads, *tensor)
    _divides("model.kv_heads", model.query_groups, *tensor)
    _divides("model.ffn", model.ffn, *tensor)
    if recipe.init_from is not None and not _adapts_tables(recipe):
        return  # a base's embedding is padded to what the ranks divide
    if model.vocab is not None:
        _divides("model.vocab", model.vocab, *tensor)
    elif VOCABULARY_MULTIPLE % sizes.tensor:
        raise RecipeError(
            f"parallel.tensor: {sizes.tensor} does not divide a vocabulary rounded up to a "
            f"multiple of {VOCABULARY_MULTIPLE}; set model.vocab"
        )


def _adapts_tables(recipe: "Recipe") -> bool:
    return recipe.lora is not None and any(map(recipe.lora.adapts, TABLES))


def _check_sequence(recipe: "Recipe") -> None:
    sizes, length = recipe.parallel, recipe.sequence_length
    if sizes.context > 1:
        # Each context rank takes two chunks, one early and one late, so that work is even.
        _divides("sequence_length", length, "2 x parallel.context", 2 * sizes.context)
    if not sizes.sequence:
        return
    if sizes.tensor == 1:
        raise RecipeError(
            "parallel.sequence: shares activations among tensor ranks, so it needs parallel.tensor "
            "above 1; use parallel.sequence=false"
        )
    _divides(
        "sequence_length / parallel.context",
        length // sizes.context,
        "parallel.tensor",
        sizes.tensor,
    )


def _check_zero(recipe: "Recipe") -> None:
    zero = recipe.zero
    model = recipe.model if recipe.lora is None else recipe.lora.model_of(recipe.model)
    if zero.stage == 3 and model.tied_embeddings:
        raise RecipeError(
            "zero.stage: 3 cannot share a tied embedding; use zero.stage=2 or "
            "model.tied_embeddings=false"
        )
    if zero.offload == "optimizer" and zero.stage == 0:
        raise RecipeError("zero.offload: optimizer needs zero.stage 1, 2 or 3")


def _check_schedule(recipe: "Recipe") -> None:
    schedule = recipe.schedule
    length = schedule.length or recipe.steps
    if schedule.decay is None:
        return
    if schedule.name != "wsd":
        raise RecipeError(f"schedule.decay: belongs to wsd, not {schedule.name}; leave it out")
    if schedule.warmup + schedule.decay > length:
        raise RecipeError(
            f"schedule.decay: {schedule.decay} steps after {schedule.warmup} of warmup do not fit "
            f"in {length} steps; lower one of them"
        )


def _check_profile(recipe: "Recipe") -> None:
    window = recipe.profile.steps
    if window and window[0] > window[1]:
        raise RecipeError(f"profile.steps: first {window[0]} comes after last {window[1]}")


_EMPTY = {
    "files": "sources text and webdataset need paths of files, as .jsonl, .txt or .tar",
    "packages": 'empty; name some, for example ["stdlib"]',
}


def _check_corpus(recipe: "Recipe") -> None:
    corpus = recipe.corpus
    if corpus is None:
        return
    key = SOURCE_KEYS[corpus.source]
    if key != "files" and corpus.files:
        raise RecipeError(
            "corpus.files: belongs to source text (or webdataset); set corpus.source=text"
        )
    if corpus.source == "webdataset":
        text_members(corpus.text_key, "corpus.text_key")
    if not getattr(corpus, key):
        raise RecipeError(f"corpus.{key}: {_EMPTY[key]}")


def _check_kernels(recipe: "Recipe") -> None:
    """What the implementations asked for by name can do; `auto` takes one that can."""
    attention, size = recipe.kernels.attention, recipe.model.head_width
    if recipe.model.softmax == "off_by_one" and attention in ("sdpa", "flash"):
        raise RecipeError(
            f"kernels.attention: {attention} knows no other softmax than the plain one, and"
            " model.softmax is off_by_one; use kernels.attention=auto"
        )
    if attention == "triton" and (size % 8 or size > 256):
        raise RecipeError(
            f"kernels.attention: triton takes heads of 8 to 256 channels in steps of 8, and these "
            f"have {size}; use kernels.attention=auto"
        )
    if attention == "flash":
        if importlib.util.find_spec("flash_attn") is None:
            raise RecipeError(
                "kernels.attention: flash needs the package flash-attn, which is not installed; "
                "install it or use kernels.attention=auto"
            )
        if recipe.parallel.context > 1:
            raise RecipeError(
                "kernels.attention: flash knows whole sequences only, and parallel.context shares "
                "them out; use kernels.attention=auto"
            )
        if recipe.precision != "bf16":
            raise RecipeError(
                f"kernels.attention: flash takes bf16 only, and precision is {recipe.precision}; "
                "use precision=bf16 or kernels.attention=auto"
            )


def _divides(name: str, value: int, by: str, divisor: int) -> None:
    if value % divisor:
        raise RecipeError(f"{name}: {value} is not a multiple of {by} ({divisor}); change one")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
