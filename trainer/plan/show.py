"""`lyceum train --show`: what a recipe means, without training anything."""

from rich.console import Console
from rich.table import Table

from trainer.plan.estimate import estimate
from trainer.plan.size import adapter_count, parameter_count, trained_count
from trainer.recipe import Recipe
from trainer.recipe.rules import rounded_vocabulary

SHOWN_RANKS = 64
"""Ranks beyond these are counted, not listed."""

Coordinate = dict[str, int]


def show(recipe: Recipe, world_size: int | None = None) -> None:
    """Print the resolved recipe, the layout, the sizes, what a run needs, and what the mixture will
    give.

    `world_size` None: the smallest world that fits; of more ranks than may train, those that do are
    shown. Raises RecipeError where the recipe does not fit the world size.
    """
    world, device = recipe.parallel.model_ranks, recipe.device
    device = "cuda" if device == "auto" else device
    if world_size is None:
        recipe.validate_world(world, device)
    else:
        world = recipe.fitting_world(world_size, device)
    console = Console(highlight=False, markup=False)
    console.print(recipe.to_yaml(), soft_wrap=True)
    if recipe.lora is not None:
        recipe = recipe.model_copy(update={"model": recipe.lora.model_of(recipe.model)})
    console.print(_layout_table(recipe, world))
    if world > SHOWN_RANKS:
        console.print(f"... and {world - SHOWN_RANKS} more ranks")
    console.print(_batch_line(recipe, world), soft_wrap=True)
    console.print(_parameter_table(recipe))
    rows = vocabulary(recipe)
    if rows:
        needed = estimate(recipe, world, rows)
        for line in needed.lines():
            console.print(line, soft_wrap=True)
        each = needed.flops / needed.tokens
        console.print(f"operations: {each:.3g} a token, {needed.flops:.3g} in all", soft_wrap=True)
    if recipe.data.mixture:
        from trainer.plan.mixture import mixture_report

        table, lines = mixture_report(recipe)
        console.print(table)
        for line in lines:
            console.print(line, soft_wrap=True)


def coordinate(recipe: Recipe, rank: int, world_size: int) -> Coordinate:
    """The coordinate of `rank` on each axis of the layout, from 0.

    megatron-core's order (tp-cp-ep-dp-pp): tensor varies fastest, then context, data, pipeline.
    """
    sizes = recipe.parallel
    axes = {
        "tensor": sizes.tensor,
        "context": sizes.context,
        "data": recipe.data_parallel(world_size),
        "pipeline": sizes.pipeline,
    }
    found: Coordinate = {}
    for name, size in axes.items():
        rank, found[name] = divmod(rank, size)
    return found


def layers_of(recipe: Recipe, stage: int) -> str:
    """The layers, from 0, of pipeline stage `stage`: one range a virtual stage."""
    sizes = recipe.parallel
    length = recipe.model.layers // (sizes.pipeline * sizes.virtual)
    starts = ((turn * sizes.pipeline + stage) * length for turn in range(sizes.virtual))
    return ", ".join(f"{start}-{start + length - 1}" for start in starts)


def vocabulary(recipe: Recipe) -> int | None:
    """Rows of the embedding, where the recipe alone decides them; None: the tokenizer does."""
    if recipe.model.vocab is not None:
        return recipe.model.vocab
    if recipe.tokenizer is None and not recipe.data.mixture and recipe.corpus is not None:
        return rounded_vocabulary(recipe.corpus.vocab)
    return None


def _layout_table(recipe: Recipe, world: int) -> Table:
    axes = ("tensor", "context", "data", "pipeline")
    table = Table("rank", *axes, "layers", title=f"layout of {world} ranks", title_justify="left")
    for rank in range(min(world, SHOWN_RANKS)):
        place = coordinate(recipe, rank, world)
        layers = layers_of(recipe, place["pipeline"])
        table.add_row(str(rank), *(str(place[axis]) for axis in axes), layers)
    return table


def _batch_line(recipe: Recipe, world: int) -> str:
    if recipe.stage_traits.asks:
        return _asking_line(recipe)
    tokens = recipe.batch.sequences * recipe.sequence_length
    replicas, micro_batches = recipe.data_parallel(world), recipe.micro_batches(world)
    return (
        f"a step: {recipe.batch.sequences} sequences of {recipe.sequence_length} = {tokens:,} "
        f"tokens; each of {replicas} replicas takes {micro_batches} "
        f"micro-batches of {recipe.batch.micro}; {recipe.steps:,} steps = "
        f"{recipe.steps * tokens:,} tokens"
    )


def _asking_line(recipe: Recipe) -> str:
    section, answers = recipe.reinforce, recipe.batch.sequences
    steps = section.lag + 1
    return (
        f"a step: {section.group} answers to each of {answers // section.group} questions, packed"
        f" into at most {answers} rows of {recipe.sequence_length}; a sampling of"
        f" {answers * section.updates} answers serves {steps} step{'s' * (steps > 1)}; the figures"
        " below are upper bounds of the updates, without the writing of answers"
    )


def _parameter_table(recipe: Recipe) -> Table:
    rows = vocabulary(recipe)
    counts = parameter_count(recipe.model, rows or 0)
    known = (
        f"vocabulary {rows:,}" if rows else "without the vocabulary, which the tokenizer decides"
    )
    adapters = adapter_count(recipe.model, rows or 0, recipe.lora)
    learns = trained_count(recipe.model, rows or 0, recipe.lora)
    columns = ("part", "parameters", *(("learn",) if recipe.lora is not None else ()))
    table = Table(*columns, title=f"model ({known})", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for part, count in counts.items():
        if rows or part not in ("embedding", "head"):
            added = sum(adapters.values()) if part == "total" else adapters.get(part, 0.0)
            numbers = (count + added, learns[part])
            table.add_row(part, *(f"{int(number):,}" for number in numbers[: len(columns) - 1]))
    return table
