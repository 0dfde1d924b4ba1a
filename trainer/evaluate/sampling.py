"""Sampling the next token from logits: temperature, top-k and top-p."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.errors import RecipeError

_GREEDY_BELOW = 1e-30
"""Temperatures at which logits that are divided may be more than fp32 holds."""


@dataclass(frozen=True)
class Sampling:
    """At most `tokens` new tokens; temperature 0 is greedy, top-k 0 and top-p 1 off.

    A text's draws follow from the seed and from how many prompts like its own stand before it: what
    stands beside a prompt does not change them, and the same prompt twice gives two texts.
    """

    tokens: int = 64
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raise RecipeError for an impossible temperature, top-k or top-p."""
    if not 0 <= temperature < float("inf"):
        raise RecipeError(f"temperature is {temperature}: give 0 (greedy) or a positive number")
    if top_k < 0:
        raise RecipeError(f"top_k is {top_k}: give 0 (off) or how many tokens to keep")
    if not 0 < top_p <= 1:
        raise RecipeError(f"top_p is {top_p}: give a share above 0 and at most 1 (off)")


def sample(
    logits: torch.Tensor,
    temperature: float,
    top_k: int,
    top_p: float,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> torch.Tensor:
    """Draw one id a row, int64 [batch], from logits [batch, vocabulary], in fp32.

    Temperature 0, or next to it, takes the largest. Top-k (0: off) limits the draw to the k
    largest, and top-p (1: off) to the smallest set of these whose probability reaches p (Holtzman
    et al., "The Curious Case of Neural Text Degeneration", 2019). The draw inverts the cumulative
    distribution at one uniform number a row, so that it depends on the logits and the generator
    alone (one for all rows, or one for each). Logits that are no numbers give any id.
    """
    if temperature < _GREEDY_BELOW:
        return logits.argmax(dim=-1)
    scaled = logits.float() / temperature
    if top_p == 1 and not 0 < top_k < logits.shape[-1]:
        return _drawn_of_all(torch.softmax(scaled, dim=-1), generator)
    candidates = top_k if 0 < top_k < logits.shape[-1] else logits.shape[-1]
    ordered, ids = torch.topk(scaled, candidates, dim=-1)  # descending
    probability = torch.softmax(ordered, dim=-1)
    cumulative = probability.cumsum(dim=-1)
    if top_p < 1:
        # A token stays while the tokens before it do not reach p yet: the first always stays.
        probability = probability.masked_fill(cumulative - probability >= top_p, 0.0)
        cumulative = probability.cumsum(dim=-1)
    total = cumulative[:, -1:]
    uniform = _uniform(len(logits), generator, logits.device).to(total) * total
    drawn = torch.searchsorted(cumulative, uniform, right=True)
    # Rounding may put the draw on the total itself: the last token with any probability takes it.
    last = ((probability > 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # 0 where all are NaN
    return ids.gather(-1, torch.minimum(drawn, last)).squeeze(-1)


def _drawn_of_all(
    probability: torch.Tensor, generator: torch.Generator | Sequence[torch.Generator] | None
) -> torch.Tensor:
    """Draw one id a row, int64 [batch], in the vocabulary's own order: sorting it costs more.

    In fp64 a uniform number below 1 times the total is below the total, so that what is drawn has a
    probability.
    """
    cumulative = probability.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    uniform = _uniform(len(probability), generator, probability.device).to(total) * total
    drawn = torch.searchsorted(cumulative, uniform, right=True).squeeze(-1)
    return drawn.clamp(max=probability.shape[-1] - 1)  # behind the last where all are NaN


def _uniform(
    rows: int,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    device: torch.device,
) -> torch.Tensor:
    """[rows, 1], drawn where the generator lives: a seed means the same on every device."""
    if generator is None:
        return torch.rand(rows, 1, device=device)
    if isinstance(generator, torch.Generator):
        return torch.rand(rows, 1, generator=generator, device=generator.device)
    return torch.cat([torch.rand(1, 1, generator=one, device=one.device) for one in generator])


def draws_of(seed: int, copy: int) -> torch.Generator:
    """What a prompt's text is drawn with; `copy`: how many prompts like it stand before it."""
    if copy:
        digest = hashlib.sha256(f"{seed} {copy}".encode()).digest()
        seed = int.from_bytes(digest[:7], "little")
    return torch.Generator().manual_seed(seed)
