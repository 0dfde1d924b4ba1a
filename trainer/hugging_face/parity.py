"""The check at the end of a conversion: both models give the same logits for the same tokens."""

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
"""Limit for the difference of any logit in fp32; the order of additions makes less."""

_ROWS, _LENGTH = 2, 64


class CheckpointTensors(Protocol):
    """Read access to global tensors by their names in a checkpoint ("model/...").

    Implemented by CheckpointReader, and by classes that merge adapters into its tensors.
    """

    def keys(self) -> list[str]:
        """The names of the tensors."""

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's global shape."""

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of the tensors that `read` returns."""

    def read(
        self, key: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A tensor, or its block of this shape at `offset`, on the CPU."""


@dataclass(frozen=True)
class Parity:
    """The largest difference of two models' logits over `positions` tokens, and the fraction of
    positions at which their likeliest tokens agree.
    """

    positions: int
    largest_difference: float
    same_choice: float

    @property
    def holds(self) -> bool:
        """Whether the two models compute the same function."""
        # NaN is no smaller than anything.
        return self.largest_difference < LARGEST_DIFFERENCE and self.same_choice == 1.0


def rows_of(weights: CheckpointTensors, key: str, first: int, last: int) -> Tensor:
    """Rows [first, last) of a tensor."""
    whole = weights.shape(key)
    return weights.read(key, (first,) + (0,) * (len(whole) - 1), (last - first, *whole[1:]))


def measure(
    described: ModelDescription,
    weights: CheckpointTensors,
    folder: ModelFolder,
    cast: Callable[[str], torch.dtype | None] = lambda name: None,
) -> Parity:
    """Compare our model of `weights` with transformers' model of `folder`, both in fp32.

    Each reads its own files under its own names, which exposes a wrong name or row. `cast`: the
    dtype to which one of our tensors is rounded first, where the folder stores another than ours.
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
    """Print a table of the conversion `what` and its parity."""
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
    """Raise CheckpointError unless parity holds; `partial`: the folder of the result."""
    if not parity.holds:
        raise CheckpointError(
            f"parity fails: logits differ by {parity.largest_difference:.2e} (limit"
            f" {LARGEST_DIFFERENCE:.0e}) and {parity.same_choice:.2%} of the most likely tokens"
            f" agree; what was converted is left in {partial}: do not use it"
        )
