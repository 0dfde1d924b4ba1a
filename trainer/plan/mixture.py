"""A mixture's forecast from its manifests alone: shares, sequences an epoch, where sources end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from trainer.addresses import without_secrets
from trainer.conversations.sets import is_set
from trainer.corpus.build.tars import tars_folder
from trainer.corpus.reading.webdataset import is_webdataset
from trainer.data.manifest import MANIFEST_NAME, Split, load_manifest
from trainer.data.mixture import Phase, phase_at, phases_of_recipe
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.recipe.data import MixtureSource
from trainer.recipe.own_sets import own_set_of


@dataclass(frozen=True)
class Forecast:
    """`ends`: the sequence at which each source ends, None where it does not within the run.

    `taken`: sequences that each source gives in the run. `over`: the sequence at which all have
    ended, if that is within the run. All are estimates: see `epoch_sequences`.
    """

    ends: list[int | None]
    taken: list[int]
    over: int | None


def epoch_sequences(split: Split, sequence_length: int, packing: str) -> int:
    """Sequences of an epoch if packing leaves no padding; real ones are a few percent more.

    Unpacked, there is at least one a document, and more where documents are longer than that.
    """
    full = -(-(split.tokens - split.documents) // sequence_length)
    return full if packing == "best_fit" else max(full, split.documents)


def forecast(stages: Sequence[Phase], available: Sequence[int | None], sequences: int) -> Forecast:
    """Simulate the shares through phases and ends of sources over the `sequences` of a run.

    `available`: the sequences of each source in all its epochs, None: unlimited.
    """
    ends: list[int | None] = [None] * len(available)
    taken = [0.0] * len(available)
    place = 0.0
    while place < sequences:
        number = phase_at(stages, math.floor(place))
        shares = stages[number].shares([end is not None for end in ends])
        if not any(shares):
            return Forecast(ends, [round(count) for count in taken], math.ceil(place))
        later = [stage.first for stage in stages[number + 1 : number + 2]]
        length = min([sequences, *later]) - place
        for share, most, count in zip(shares, available, taken, strict=True):
            if share and most is not None:
                length = min(length, (most - count) / share)
        place += length
        for source, share in enumerate(shares):
            taken[source] += share * length
            most = available[source]
            # What is left after rounding is far less than a sequence.
            if share and most is not None and most - taken[source] < 1e-3:
                ends[source] = round(place)
        place = round(place) if abs(place - round(place)) < 1e-3 else place
    return Forecast(ends, [round(count) for count in taken], None)


def mixture_report(recipe: Recipe) -> tuple[Table, list[str]]:
    """For each source its declared share, what it has, and what the run will take of it.

    The lines tell of the stages after the first, of corpora that cannot be read, and of data that
    ends before the run does.
    """
    names, stages = recipe.data.names(), phases_of_recipe(recipe)
    sizes, lines = _sizes(recipe)
    available = [
        None if size is None or source.epochs is None else size * source.epochs
        for size, source in zip(sizes, recipe.data.mixture, strict=True)
    ]
    step = recipe.batch.sequences
    expected = forecast(stages, available, recipe.steps * step)
    title = "mixture (sequences are estimates, without padding)"
    table = Table("source", title=title, title_justify="left")
    for column in ("share", "an epoch has", "the run takes", "epochs", "ends in step"):
        table.add_column(column, justify="right")
    shares = [stage.shares([False] * len(names)) for stage in stages]
    for stage, own in zip(stages[1:], shares[1:], strict=True):
        listed = ", ".join(f"{name} {share:.2%}" for name, share in zip(names, own, strict=True))
        lines.append(f"after step {stage.first // step:,} the shares are {listed}")
    for number, source in enumerate(recipe.data.mixture):
        size, taken, end = sizes[number], expected.taken[number], expected.ends[number]
        most = "" if source.epochs is None else f" of {source.epochs}"
        table.add_row(
            names[number],
            f"{shares[0][number]:.2%}",
            "unknown" if size is None else f"{size:,}",
            f"{taken:,}",
            most if size is None else f"{taken / size:.2f}{most}",
            "-" if end is None else f"{-(-end // step):,}",
        )
    if expected.over is not None:
        lines.append(
            f"warning: the data ends in about step {expected.over // step + 1:,} of "
            f"{recipe.steps:,}: raise data.mixture's epochs, add a corpus, or lower steps"
        )
    return table, lines


def _sizes(recipe: Recipe) -> tuple[list[int | None], list[str]]:
    """Sequences an epoch of each source; where it cannot be read, None, and a line that says so."""
    sizes: list[int | None] = []
    lines = []
    for number, source in enumerate(recipe.data.mixture):
        if (name := own_set_of(source.corpus)) is not None:
            sizes.append(None)
            lines.append(f"{name}: its examples are made before the first step, of what is asked")
            continue
        shown = without_secrets(source.corpus)
        if recipe.stage_traits.reads_sets and is_set(source.corpus):
            sizes.append(None)
            lines.append(f"{shown}: its examples are counted when the run renders them")
            continue
        key = f"data.mixture.{number}.corpus"
        try:
            tars = is_webdataset(source.corpus)
            folder = _tokenised(recipe, key, source) if tars else source.corpus
            if folder is None:
                sizes.append(None)
                lines.append(f"{shown}: its texts are counted when a run tokenises them")
                continue
            split = load_manifest(folder).splits.get("train", Split(0, 0, ()))
        except DataError as error:
            sizes.append(None)
            said = str(error)
            lines.append(f"warning: {said if said.startswith(key) else f'{key}: {said}'}")
        else:
            sizes.append(epoch_sequences(split, recipe.sequence_length, recipe.data.packing))
    return sizes, lines


def _tokenised(recipe: Recipe, key: str, source: MixtureSource) -> Path | None:
    """The shards that were made of a source's tars; None where no run has made them yet."""
    if recipe.tokenizer is None:
        return None
    folder = tars_folder(source, key, recipe.tokenizer, recipe.data.remote)
    return folder if (folder / MANIFEST_NAME).is_file() else None
