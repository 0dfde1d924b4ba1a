"""Rotary frequencies of every type that transformers has for these families, computed alike."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import kernels
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection
from trainer.recipe.rope import RopeScaling


@dataclass(frozen=True, eq=False)
class RotaryEmbedding:
    """How fast the channel pairs of each token turn, and what their rotation is multiplied by.

    `frequencies`: radians a position of each pair, fp32 [head_size / 2], in documents of up to
    `original_context` tokens; `longer`: those of longer documents, where there is one set of them;
    `growing`: where they follow from the length, (theta, factor, exponents): the dynamic type's;
    `exact`: as in `kernels.rope_table`.
    """

    frequencies: Tensor
    scale: float = 1.0
    original_context: int = 0
    longer: Tensor | None = None
    growing: tuple[float, float, Tensor] | None = None
    exact: bool = True

    @property
    def by_length(self) -> bool:
        """Whether a document's frequencies follow from its length."""
        return self.longer is not None or self.growing is not None

    def to(self, device: torch.device) -> "RotaryEmbedding":
        """The same on `device`."""
        longer = None if self.longer is None else self.longer.to(device)
        growing = self.growing and (*self.growing[:2], self.growing[2].to(device))
        moved = self.frequencies.to(device)
        return replace(self, frequencies=moved, longer=longer, growing=growing)

    def table(self, position_ids: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cos and sin, fp32 [batch, sequence, head_size / 2], as `kernels.rope_table`'s.

        `position_ids`: int64 [batch, sequence]; `lengths`: the same shape, of each token's document
        (only read where `by_length`).
        """
        frequencies = self.frequencies
        if self.by_length:
            assert lengths is not None, "these frequencies follow from the lengths"
            frequencies = self._of_lengths(lengths)
        return kernels.rope_table(position_ids, frequencies, scale=self.scale, exact=self.exact)

    def _of_lengths(self, lengths: Tensor) -> Tensor:
        if self.longer is not None:
            longer = self.longer
        else:
            assert self.growing is not None
            # In fp32, as transformers has it; but torch takes the power of a single number, as
            # theirs is, in fp64: an ulp of the base is 0.004 rad at position 70,000.
            theta, factor, exponents = self.growing
            grown = (factor * lengths / self.original_context - (factor - 1)).clamp(min=1.0)
            pairs = len(exponents)
            base = theta * (grown.double() ** (2 * pairs / (2 * pairs - 2))).float()
            longer = 1.0 / base.unsqueeze(-1) ** exponents
        beyond = (lengths > self.original_context).unsqueeze(-1)
        return torch.where(beyond, longer, self.frequencies)


def rotary_embedding(recipe: Recipe) -> RotaryEmbedding:
    """The rotation of a recipe's model, on the CPU. Source: transformers' `modeling_rope_utils`."""
    return replace(_rotary(recipe.model), exact=recipe.model.rope_angles == "exact")


def _rotary(model: ModelSection) -> RotaryEmbedding:
    head, theta, scaling = model.head_width, model.rope_theta, model.rope_scaling
    plain = kernels.rope_frequencies(head, theta)
    if scaling is None:
        return RotaryEmbedding(plain)
    scale, exponents = scaling.rotation_scale, torch.arange(0, head, 2).float() / head
    if scaling.type == "linear":
        return RotaryEmbedding(plain / scaling.factor)
    if scaling.type == "yarn":
        return RotaryEmbedding(_yarn(theta, exponents, scaling), scale)
    context = scaling.original_context
    if scaling.type == "dynamic":
        growing = (theta, scaling.factor, exponents)
        return RotaryEmbedding(plain, original_context=context, growing=growing)
    if scaling.type == "longrope":
        short, long = (
            1.0 / (torch.tensor(factors, dtype=torch.float32) * theta**exponents)
            for factors in (scaling.short_factors, scaling.long_factors)
        )
        return RotaryEmbedding(short, scale, context, longer=long)
    stretched = kernels.rope_frequencies(
        head,
        theta,
        factor=scaling.factor,
        low_frequency_factor=scaling.low_frequency_factor,
        high_frequency_factor=scaling.high_frequency_factor,
        original_context=context,
    )
    return RotaryEmbedding(stretched)


def _yarn(theta: float, exponents: Tensor, scaling: RopeScaling) -> Tensor:
    """YaRN (arXiv:2309.00071, section 3.2): slow channels stretched, fast ones not, fp32."""
    head = 2 * len(exponents)

    def channel(turns: float) -> float:
        """The channel pair that turns so often in the original context."""
        wavelength = scaling.original_context / (turns * 2 * math.pi)
        return head * math.log(wavelength) / (2 * math.log(theta))

    first, last = channel(scaling.beta_fast), channel(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head - 1)
    if first == last:
        last += 0.001  # as transformers avoids the division by zero
    pairs = torch.arange(len(exponents), dtype=torch.float32)
    alone = 1.0 - ((pairs - first) / (last - first)).clamp(0.0, 1.0)
    turning = theta**exponents
    return 1.0 / (scaling.factor * turning) * (1.0 - alone) + 1.0 / turning * alone
