"""The check at the end of a conversion: both models give the same logits for the same tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.hugging_face.config import ModelDescription, conversion_recipe
from trainer.hugging_face.quiet import quiet_transformers
from trainer.hugging_face.short_models import NEW, borders, largest_difference
from trainer.hugging_face.streamed import our_logits, their_logits
from trainer.recipe.model import ModelSection

LARGEST_DIFFERENCE = 1e-4
"""Limit for the difference of any logit in fp32, where logits have a standard deviation of 1 or
less; of larger ones, for that fraction of it. The order of additions makes less."""

_ROWS, _LENGTH = 2, 64
_AFFORDABLE_FLOPS, _AFFORDABLE_NUMBERS = 2e10, 1 << 23
"""How much the real weights may cost on their way past every border of `short_models`: operations,
and numbers in one matrix of scores or logits."""


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


class FolderTensors(Protocol):
    """Read access to tensors by Hugging Face's names: a model folder, or what stands for one."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""

    def names(self) -> list[str]:
        """The names of the tensors."""

    def read(self, name: str, rows: tuple[int, int]) -> Tensor:
        """Rows [first, last) of a tensor, on the CPU."""


@dataclass(frozen=True)
class Parity:
    """The largest difference of two models' logits over `positions` tokens, and the fraction of
    positions at which their likeliest tokens agree, those within the limit of each other alike.

    `reach`: how many tokens a compared text had; `beyond`: the largest difference of short models
    of the same configuration, past every length beyond which the two may differ, with
    `beyond_reach` the longest of them; `deviation`: the standard deviation of the logits.
    """

    positions: int
    largest_difference: float
    same_choice: float
    reach: int = 0
    beyond: float = 0.0
    beyond_reach: int = 0
    deviation: float = 1.0

    @property
    def limit(self) -> float:
        """How much a logit may differ."""
        return _limit(self.deviation)

    @property
    def holds(self) -> bool:
        """Whether the two models compute the same function."""
        # NaN is no smaller than anything.
        within = self.largest_difference < self.limit and self.beyond < LARGEST_DIFFERENCE
        return within and self.same_choice == 1.0


def _limit(deviation: float) -> float:
    """fp32 rounds in proportion: a published model's logits are several times a random one's."""
    return LARGEST_DIFFERENCE * (deviation if deviation > 1.0 else 1.0)


def rows_of(weights: CheckpointTensors, key: str, first: int, last: int) -> Tensor:
    """Rows [first, last) of a tensor."""
    whole = weights.shape(key)
    return weights.read(key, (first,) + (0,) * (len(whole) - 1), (last - first, *whole[1:]))


def measure(
    described: ModelDescription,
    model: ModelSection,
    weights: CheckpointTensors,
    folder: FolderTensors,
    cast: Callable[[str], torch.dtype | None] = lambda name: None,
    trained: int = 0,
) -> Parity:
    """Compare our `model` of `weights` with transformers' of `folder`, both in fp32.

    Each reads its own files under its own names, which exposes a wrong name or row; `model`: as it
    was trained, `described`: the folder's config.json. Short models of the two compare windows and
    rotations past every length beyond which they may differ, where weights may be so small that
    attention hardly depends on positions, or too many to get there. `cast`: the dtype to which one
    of our tensors is rounded first, where the folder stores another than ours; `trained`: tokens of
    the longest text that the model was trained on, if that is more than `described` says.
    """

    def read_ours(name: str, first: int, last: int) -> Tensor:
        rows, dtype = rows_of(weights, f"model/{name}", first, last), cast(name)
        return rows if dtype is None else rows.to(dtype)

    def read_theirs(name: str, first: int, last: int) -> Tensor:
        return folder.read(name, (first, last))

    assert model.vocab is not None
    furthest = length = max(borders(described, model, trained).values()) + NEW // 2
    if not _affordable(model, weights, length):
        length = min(_LENGTH, described.sequence_length)
    recipe = conversion_recipe(model, length, "fp32", "unused")
    recipe = recipe.model_copy(update={"device": "cpu"})
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocab, (_ROWS, length), generator=generator)
    with quiet_transformers():
        beyond = largest_difference(described, model, trained)
        ours = our_logits(recipe, read_ours, tokens)
        theirs = their_logits(
            *(described.keys, described.family, read_theirs, tokens),
            exact_angles=model.rope_angles == "exact",
        )
    deviation = theirs.std().item()
    chosen = theirs.gather(-1, ours.argmax(-1, keepdim=True)).squeeze(-1)
    same = (theirs.amax(-1) - chosen <= 2 * _limit(deviation)).float().mean().item()
    difference = ours.sub_(theirs).abs_().max().item()
    return Parity(tokens.numel(), difference, same, length, beyond, furthest, deviation)


def _affordable(model: ModelSection, weights: CheckpointTensors, length: int) -> bool:
    """Whether texts of so many tokens can be run through the real weights in a few seconds."""
    assert model.vocab is not None
    numbers = sum(prod(weights.shape(key)) for key in weights.keys())  # noqa: SIM118 (no mapping)
    scores = _ROWS * length * max(model.heads * length, model.vocab)
    return 4 * numbers * _ROWS * length < _AFFORDABLE_FLOPS and scores < _AFFORDABLE_NUMBERS


def report(parity: Parity, what: str, family: str, folder: FolderTensors) -> None:
    """Print a table of the conversion `what` and its parity."""
    table = Table(title=what, title_justify="left", show_header=False)
    rows = [
        ("family", family),
        ("tensors", f"{len(folder.names()):,}"),
        ("bytes", f"{folder.nbytes:,}"),
        ("positions compared", f"{parity.positions:,} of texts of {parity.reach:,} tokens"),
        (
            "largest difference of logits",
            f"{parity.largest_difference:.2e} (limit {parity.limit:.1e})",
        ),
        ("same most likely token", f"{parity.same_choice:.2%}"),
        (
            f"short model of the same shape, to {parity.beyond_reach:,} tokens",
            f"{parity.beyond:.2e}",
        ),
        ("parity (fp32)", "holds" if parity.holds else "FAILS"),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def require(parity: Parity, given: Path, left_in: Path | None) -> None:
    """Raise CheckpointError unless parity holds.

    `given`: what was converted; `left_in`: where the result stays, if it does.
    """
    if parity.holds:
        return
    left = f"is left in {left_in}: do not use it" if left_in is not None else "is removed"
    if not math.isfinite(parity.deviation):
        raise CheckpointError(
            f"{given}: its logits are not finite, in transformers too, so that its weights hold NaN"
            f" or infinity, or overflow: choose another; what was converted {left}"
        )
    raise CheckpointError(
        f"parity fails: logits differ by {parity.largest_difference:.2e} (limit"
        f" {parity.limit:.1e}), those of a short model by {parity.beyond:.2e} (limit"
        f" {LARGEST_DIFFERENCE:.0e}), and {parity.same_choice:.2%} of the most likely tokens"
        f" agree; what was converted {left}"
    )
