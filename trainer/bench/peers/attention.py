"""Which implementation of SDPA a peer gets: the fastest here, by measuring at its own shapes."""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.bench.clock import StepClock
from trainer.recipe import Recipe

_CALLS = 10


def fastest_sdpa(recipe: Recipe, device: torch.device) -> tuple[list[SDPBackend], str]:
    """The order in which SDPA is to try its implementations, and what was chosen, in words.

    Of cuDNN's and FlashAttention-2 the faster forward and backward on one micro-batch's causal
    attention, then whatever else runs.
    """
    others = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    if device.type != "cuda":
        return [SDPBackend.FLASH_ATTENTION, *others], "SDPA, causal"
    seconds = {
        backend: _seconds(backend, recipe, device)
        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)
    }
    order = sorted(seconds, key=lambda backend: seconds[backend])
    chosen = order[0].name.removesuffix("_ATTENTION").lower()
    return [*order, *others], f"SDPA, causal, {chosen} (of cudnn and flash the faster here)"


def _seconds(backend: SDPBackend, recipe: Recipe, device: torch.device) -> float:
    """One forward and backward at its best; infinite where it cannot run these shapes."""
    model = recipe.model
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    query, key, value = (
        torch.randn(
            *(recipe.batch.micro, heads, recipe.sequence_length, model.head_width),
            device=device,
            dtype=dtype,
            requires_grad=True,
        )
        for heads in (model.heads, model.query_groups, model.query_groups)
    )
    clock = StepClock(device)
    grouped = model.heads != model.query_groups
    try:
        with sdpa_kernel(backend):
            for _ in range(_CALLS):
                clock.mark()
                mixed = F.scaled_dot_product_attention(
                    query, key, value, is_causal=True, enable_gqa=grouped
                )
                mixed.sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # "No available kernel", or cuDNN's own words
        return float("inf")
    clock.mark()
    return min(clock.seconds())
