"""Sampling the next token from logits: temperature, top-k and top-p."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.errors import RecipeError

LIKELIEST = 512
"""Candidates that are put in order first; the others only where a draw may be of them."""
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
    uniform = _uniform(len(scaled), generator, scaled.device).to(scaled)
    if top_k or scaled.shape[-1] <= LIKELIEST:
        return _drawn_of_all(scaled, uniform, top_k, top_p)
    return _drawn_of_the_likeliest(scaled, uniform, top_p)


def _drawn_of_all(
    scaled: torch.Tensor, uniform: torch.Tensor, top_k: int, top_p: float
) -> torch.Tensor:
    """The id of each row, int64 [batch], where all candidates are put in order."""
    candidates = top_k if 0 < top_k < scaled.shape[-1] else scaled.shape[-1]
    ordered, ids = torch.topk(scaled, candidates, dim=-1)  # descending
    probability = torch.softmax(ordered, dim=-1)
    cumulative = probability.cumsum(dim=-1)
    if top_p < 1:
        probability = _nucleus(probability, cumulative, top_p)
        cumulative = probability.cumsum(dim=-1)
    return _drawn(ids, probability, cumulative, uniform * cumulative[:, -1:])


def _drawn_of_the_likeliest(
    scaled: torch.Tensor, uniform: torch.Tensor, top_p: float
) -> torch.Tensor:
    """The same, where the `LIKELIEST` alone are put in order, and the others where one is drawn.

    Most draws are of them: to sort the whole vocabulary took a third of all the time of sampling.
    """
    ordered, ids = torch.topk(scaled, LIKELIEST, dim=-1)
    probability = (ordered - scaled.logsumexp(dim=-1, keepdim=True)).exp()
    cumulative = probability.cumsum(dim=-1)
    reached = cumulative[:, -1:]
    if top_p < 1:
        probability = _nucleus(probability, cumulative, top_p)
        cumulative = probability.cumsum(dim=-1)
        drawn = _drawn(ids, probability, cumulative, uniform * cumulative[:, -1:])
        wider = reached[:, 0] < top_p
        if wider.any():
            drawn[wider] = _drawn_of_all(scaled[wider], uniform[wider], 0, top_p)
        return drawn
    drawn = _drawn(ids, probability, cumulative, uniform)
    # Of what is left, whichever of equal logits that is: another order would draw some twice.
    left = scaled.scatter(-1, ids, -torch.inf)
    beyond = (uniform >= reached)[:, 0] & left.isfinite().any(dim=-1)
    if beyond.any():
        rest = ((uniform - reached) / (1 - reached))[beyond]
        drawn[beyond] = _drawn_of_all(left[beyond], rest, 0, 1.0)
    return drawn


def _nucleus(probability: torch.Tensor, cumulative: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probabilities of what stays; a token stays while those before it do not reach p yet.

    So the first always stays.
    """
    return probability.masked_fill(cumulative - probability >= top_p, 0.0)


def _drawn(
    ids: torch.Tensor, probability: torch.Tensor, cumulative: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """The id at which each row's cumulative probability passes what is wanted, [batch, 1]."""
    drawn = torch.searchsorted(cumulative, wanted, right=True)
    # Rounding may put the draw on the total itself: the last token with any probability takes it.
    last = ((probability > 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # 0 where all are NaN
    return ids.gather(-1, torch.minimum(drawn, last)).squeeze(-1)


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
