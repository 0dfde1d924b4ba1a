"""`model.rope_scaling`: how the rotary frequencies are changed for contexts beyond the first."""

import math
from typing import Annotated, Literal

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.section import FrozenSequence, Positive, Section

RopeType = Literal["llama3", "linear", "dynamic", "yarn", "longrope"]
Factor = Annotated[float, Field(gt=0.0)]
Factors = Annotated[tuple[Factor, ...], FrozenSequence]

_KEYS: dict[str, frozenset[str]] = {
    "llama3": frozenset(("low_frequency_factor", "high_frequency_factor", "original_context")),
    "linear": frozenset(),
    "dynamic": frozenset(("original_context",)),
    "yarn": frozenset(
        (
            *("original_context", "attention_factor", "beta_fast", "beta_slow"),
            *("mscale", "mscale_all_dim", "truncate"),
        )
    ),
    "longrope": frozenset(
        ("original_context", "attention_factor", "short_factors", "long_factors")
    ),
}
"""The keys that each type reads, besides `type` and `factor`."""

BY_LENGTH = ("dynamic", "longrope")
"""The types whose frequencies follow from a document's length."""


class RopeScaling(Section):
    """Rotary frequencies for longer contexts, as transformers computes each type.

    For `dynamic` and `longrope` they follow from how long a document is. In training that is the
    document's own length in its row, the token predicted last included, wherever it is packed: a
    document of up to `original_context` tokens is read as before, a longer one by the frequencies
    of its length, as transformers reads it alone. In generation it is the length so far: keys that
    are cached stay as they were turned.
    """

    type: RopeType = "llama3"
    """llama3: long wavelengths stretched (arXiv:2407.21783); linear: all of them; dynamic: a base
    that grows with the document beyond original_context (NTK); yarn: arXiv:2309.00071; longrope:
    a list of factors each for short and long documents (arXiv:2402.13753)."""
    factor: Factor
    """How many times longer the context becomes."""
    low_frequency_factor: Factor = 1.0
    """llama3: wavelengths above original_context / this are stretched by the whole factor."""
    high_frequency_factor: Factor = 4.0
    """llama3: wavelengths below original_context / this are left alone; between, interpolated."""
    original_context: Positive = 8192
    """The context length, in tokens, that the frequencies were made for (all types but linear).
    Left out over a base (`init_from`): that of a scaling of the same type there, else the longest
    sequence that the base was trained on, as transformers takes its max_position_embeddings."""
    attention_factor: Factor | None = None
    """yarn, longrope: what rotated queries and keys are multiplied by; none: yarn: 0.1 ln(factor)
    + 1, or what mscale and mscale_all_dim make of it; longrope: sqrt(1 + ln(factor) /
    ln(original_context))."""
    beta_fast: Factor = 32.0
    """yarn: channels that turn more often than this in the original context are left alone."""
    beta_slow: Factor = 1.0
    """yarn: channels that turn less often than this are stretched by the whole factor."""
    mscale: float | None = None
    """yarn: weight of ln(factor) in the attention factor's numerator; with mscale_all_dim."""
    mscale_all_dim: float | None = None
    """yarn: weight of ln(factor) in the attention factor's denominator; with mscale."""
    truncate: bool = True
    """yarn: whether the first and last interpolated channel are rounded outwards."""
    short_factors: Factors | None = None
    """longrope: what each channel pair's wavelength is multiplied by in documents of up to
    original_context tokens; head size / 2 numbers."""
    long_factors: Factors | None = None
    """longrope: the same for longer documents."""

    @property
    def rotation_scale(self) -> float:
        """What rotated queries and keys are multiplied by, the default resolved."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.type == "yarn":
            if self.mscale and self.mscale_all_dim:
                return self._log_scale(self.mscale) / self._log_scale(self.mscale_all_dim)
            return self._log_scale(1.0)
        if self.type == "longrope" and self.factor > 1.0:
            return math.sqrt(1.0 + math.log(self.factor) / math.log(self.original_context))
        return 1.0

    def _log_scale(self, weight: float) -> float:
        return 1.0 if self.factor <= 1.0 else 0.1 * weight * math.log(self.factor) + 1.0


def readable_length(scaling: RopeScaling | None, positions: int) -> int:
    """The longest text, in tokens, that a model of so many `positions` is meant to read.

    YaRN, dynamic scaling and LongRoPE stretch the original context, whatever
    `max_position_embeddings` says.
    """
    if scaling is None or scaling.type not in ("yarn", "dynamic", "longrope"):
        return positions
    return max(positions, int(scaling.factor * scaling.original_context))


def reads_original_context(kind: object) -> bool:
    """Whether a type's frequencies follow from `original_context`."""
    return isinstance(kind, str) and "original_context" in _KEYS.get(kind, ())


def check_rope_scaling(scaling: RopeScaling | None, head_size: int) -> None:
    """Raise RecipeError where the keys do not fit the type or the head."""
    if scaling is None:
        return
    where, fields = "model.rope_scaling", RopeScaling.model_fields
    strange = [
        name
        for name in fields
        if name not in ("type", "factor", *_KEYS[scaling.type])
        and getattr(scaling, name) != fields[name].default
    ]
    if strange:
        raise RecipeError(
            f"{where}.{strange[0]}: type {scaling.type} reads no such key; leave it out"
        )
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        raise RecipeError(f"{where}: high_frequency_factor must be above low_frequency_factor")
    if scaling.beta_fast <= scaling.beta_slow:
        raise RecipeError(f"{where}: beta_fast must be above beta_slow")
    if scaling.type == "dynamic" and (head_size <= 2 or scaling.factor < 1.0):
        raise RecipeError(f"{where}: dynamic needs heads above 2 channels and a factor from 1 on")
    for name in ("short_factors", "long_factors") if scaling.type == "longrope" else ():
        found = getattr(scaling, name)
        if found is None or len(found) != head_size // 2:
            said = "none" if found is None else f"{len(found)} numbers"
            raise RecipeError(
                f"{where}.{name}: {said}, and longrope needs one each of {head_size // 2} channel"
                " pairs (head size / 2)"
            )
