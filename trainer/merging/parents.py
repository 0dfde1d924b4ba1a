"""The checkpoints that are merged: opened as whole models, and held against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import (
    MergedReader,
    Reader,
    read_merged,
    saved_recipe,
    saved_tokenizer,
)
from trainer.checkpoint.fitted import (
    MASTERS,
    WEIGHTS,
    FittedReader,
    new_rows,
    used_rows,
    without_padding,
)
from trainer.checkpoint.folders import say_what_is_passed_over
from trainer.checkpoint.lora_base import LoraBase
from trainer.checkpoint.merge_record import MergedParent
from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError
from trainer.evaluate.converted import readable_checkpoint
from trainer.hub.names import as_written
from trainer.merging.vocabularies import vocabulary_difference
from trainer.recipe import ModelSection, Recipe

_NOT_THE_MODEL = {
    *("vocab", "padding_rows", "tied_embeddings"),  # these are fitted
    *("init_std", "padding_token", "padding_gradient"),  # these are of its training
    "rope_angles",  # to the last place or as others round them: no weight is another by it
}


@dataclass(frozen=True)
class Parent:
    """A checkpoint to be merged, as a whole model: adapters are merged into their base.

    `named`: as it was written; `model`: without the rows of its embedding that take no part.
    """

    named: str
    reader: Reader
    model: ModelSection
    recipe: Recipe
    tokenizer: Tokenizer

    @classmethod
    def open(cls, path: Path) -> "Parent":
        """Open a checkpoint, a run's newest, or another program's model, which is converted.

        Raises as `readable_checkpoint` and `resolve_checkpoint` do.
        """
        readable = readable_checkpoint(path)
        folder = resolve_checkpoint(readable)
        say_what_is_passed_over(readable, folder)
        reader = read_merged(CheckpointReader(folder))
        model = ModelSection(**reader.model)
        model = model.model_copy(update={"vocab": used_rows(model), "padding_rows": 0})
        return cls(as_written(path), reader, model, saved_recipe(reader), saved_tokenizer(reader))

    @property
    def adapted(self) -> bool:
        """Whether it holds adapters, which are merged into their base as they are read."""
        return isinstance(self.reader, MergedReader)

    def fitted(self, lead: "Parent", model: ModelSection) -> Reader | FittedReader:
        """Its weights in the shapes of `model`, which has a row for each of the lead's tokens.

        A token that it lacks has the row that a run would start it from: the mean of its rows.
        """
        known = self.tokenizer.size
        new = new_rows(self.tokenizer, lead.tokenizer, self.model)
        return FittedReader(without_padding(self.reader), model, known, new)

    def recorded(self, weight: float) -> MergedParent:
        """What a merged checkpoint records of it."""
        folder = self.reader.folder.absolute()
        step, seal = self.reader.step, LoraBase.of(folder).seal
        base = self.reader.named if isinstance(self.reader, MergedReader) else None
        of_base = (None, None) if base is None else (str(base.folder.absolute()), base.seal)
        return MergedParent(self.named, str(folder), step, seal, weight, *of_base)


def leading(parents: Sequence[Parent]) -> Parent:
    """The parent whose tokenizer, chat template and recipe a merged checkpoint has.

    The one with the most tokens; of several the first that was trained on conversations, and of
    several of these, or none, the first.
    """
    return max(parents, key=lambda one: (one.tokenizer.size, one.recipe.stage_traits.reads_sets))


def require_alike(lead: Parent, parents: Sequence[Parent]) -> None:
    """Raise CheckpointError naming the first thing by which models or tokenizers differ."""
    for other in parents:
        if other is lead:
            continue
        both = f"{lead.named} and {other.named}"
        for name, ours in lead.model:
            theirs = getattr(other.model, name)
            if ours != theirs and name not in _NOT_THE_MODEL:
                raise CheckpointError(
                    f"{both} are different models: model.{name} is {ours} in the first and {theirs}"
                    " in the second; merge checkpoints of one model"
                )
        fault = vocabulary_difference(other.tokenizer, lead.tokenizer)
        if fault is not None:
            raise CheckpointError(
                f"{both} have different tokenizers: {fault}; merge checkpoints of one tokenizer"
            )
        rows = [parent.model.vocab or 0 for parent in (lead, other)]
        grown = lead.tokenizer.size > other.tokenizer.size
        if rows[0] != rows[1] and not (grown and rows[0] > rows[1]):
            raise CheckpointError(
                f"{both} have different vocabularies: the embedding has {rows[0]} rows in the first"
                f" and {rows[1]} in the second; merge checkpoints of one model"
            )


def best_key(reader: Reader | FittedReader, key: str) -> str:
    """Where the values of a weight are as exact as they were saved: its fp32 master, if any."""
    master = MASTERS + key.removeprefix(WEIGHTS)
    return master if master in reader else key
