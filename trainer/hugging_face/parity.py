"""The proof at the end of a conversion: both models give the same logits for the same tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.hugging_face.config import ModelDescription, conversion_recipe
from trainer.hugging_face.reading import ModelFolder
from trainer.hugging_face.streamed import our_logits, quiet_transformers, their_logits

LARGEST_DIFFERENCE = 1e-4
"""Of any logit, both models in fp32; below it is what another order of additions may make."""

_ROWS, _LENGTH = 2, 64


class CheckpointTensors(Protocol):
    """Global tensors under their names in a checkpoint ("model/..."), whoever keeps them.

    A CheckpointReader is one, and so is whatever adds adapters to its tensors.
    """

    def keys(self) -> list[str]:
        """The names of the tensors."""

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's global shape."""

    def dtype(self, key: str) -> torch.dtype:
        """The dtype that `read` gives."""

    def read(
        self, key: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A tensor, or the box of this shape at `offset`, on the CPU."""


@dataclass(frozen=True)
class Parity:
    """How far two models' logits are apart, and at what share of places they choose the same."""

    positions: int
    largest_difference: float
    same_choice: float

    @property
    def holds(self) -> bool:
        """Whether they compute the same."""
        # NaN is no smaller than anything.
        return self.largest_difference < LARGEST_DIFFERENCE and self.same_choice == 1.0


def rows_of(weights: CheckpointTensors, key: str, first: int, last: int) -> Tensor:
    """Rows of a tensor, from and up to."""
    whole = weights.shape(key)
    return weights.read(key, (first,) + (0,) * (len(whole) - 1), (last - first, *whole[1:]))


def measure(
    described: ModelDescription,
    weights: CheckpointTensors,
    folder: ModelFolder,
    cast: Callable[[str], torch.dtype | None] = lambda name: None,
) -> Parity:
    """Compare our model of `weights` with transformers' model of `folder`, both in fp32.

    Each reads its own files under its own names, so that a wrong name or a wrong row shows. `cast`:
    the dtype through which one of our tensors goes, where the folder does not hold it as we do.
    """

    def read_ours(name: str, first: int, last: int) -> Tensor:
        rows, dtype = rows_of(weights, f"model/{name}", first, last), cast(name)
        return rows if dtype is None else rows.to(dtype)

    def read_theirs(name: str, first: int, last: int) -> Tensor:
        return folder.read(name, (first, last))

    model, length = described.model, min(_LENGTH, described.sequence_length)
    assert model.vocab is not None
    recipe = conversion_recipe(model, length, "fp32", "unused")
    recipe = recipe.model_copy(update={"device": "cpu"})
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocab, (_ROWS, length), generator=generator)
    with quiet_transformers():
        ours = our_logits(recipe, read_ours, tokens)
        theirs = their_logits(described.keys, described.family, read_theirs, tokens)
    same = (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
    return Parity(tokens.numel(), ours.sub_(theirs).abs_().max().item(), same)


def report(parity: Parity, what: str, family: str, folder: ModelFolder) -> None:
    """Print what was converted, and what the comparison found."""
    table = Table(title=what, title_justify="left", show_header=False)
    rows = [
        ("family", family),
        ("tensors", f"{len(folder.names()):,}"),
        ("bytes", f"{folder.nbytes:,}"),
        ("positions compared", f"{parity.positions:,}"),
        ("largest difference of logits", f"{parity.largest_difference:.2e}"),
        ("same most likely token", f"{parity.same_choice:.2%}"),
        ("parity (fp32)", "holds" if parity.holds else "FAILS"),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def require(parity: Parity, partial: Path) -> None:
    """Raise CheckpointError unless the models compute the same; `partial`: where the result is."""
    if not parity.holds:
        raise CheckpointError(
            f"parity fails: logits differ by {parity.largest_difference:.2e} (limit"
            f" {LARGEST_DIFFERENCE:.0e}) and {parity.same_choice:.2%} of the most likely tokens"
            f" agree; what was converted is left in {partial}: do not use it"
        )
