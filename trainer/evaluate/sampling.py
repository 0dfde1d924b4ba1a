"""Sampling the next token from logits: temperature, top-k and top-p."""

from __future__ import annotations

import torch

from trainer.errors import RecipeError


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
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw one id a row, int64 [batch], from logits [batch, vocabulary], in fp32.

    Temperature 0 takes the largest. Top-k (0: off) limits the draw to the k largest, and top-p (1:
    off) to the smallest set of these whose probability reaches p (Holtzman et al., "The Curious
    Case of Neural Text Degeneration", 2019). The draw inverts the cumulative distribution at one
    uniform number a row, so that it depends on the logits and the generator alone.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    candidates = top_k if 0 < top_k < logits.shape[-1] else logits.shape[-1]
    ordered, ids = torch.topk(logits.float() / temperature, candidates, dim=-1)  # descending
    probability = torch.softmax(ordered, dim=-1)
    cumulative = probability.cumsum(dim=-1)
    if top_p < 1:
        # A token stays while the tokens before it do not reach p yet: the first always stays.
        probability = probability.masked_fill(cumulative - probability >= top_p, 0.0)
        cumulative = probability.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Drawn where the generator lives, so that a seed means the same on every device.
    source = logits.device if generator is None else generator.device
    uniform = torch.rand(len(logits), 1, generator=generator, device=source).to(total) * total
    drawn = torch.searchsorted(cumulative, uniform, right=True)
    # Rounding may put the draw on the total itself: the last token with any probability takes it.
    last = (probability > 0).sum(dim=-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(drawn, last)).squeeze(-1)
