"""No kernel and no reference reads memory that nobody wrote: fresh memory here is NaN, or 7."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from tests.kernels.fresh_memory import FreshMemory

ROWS = 66
"""More than 64, the fewest rows at which torch's bf16 product was seen to read padding."""


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def differentiated(outputs: Tensor | tuple[Tensor, ...], *inputs: Tensor) -> list[Tensor]:
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    upstream = [torch.ones_like(output) for output in outputs]
    return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]


def fused_loss(vocab: int, reduction: str, hidden: Tensor) -> list[Tensor]:
    labels = torch.arange(ROWS) % vocab
    weight = draw(vocab, hidden.shape[-1])
    losses = kernels.linear_cross_entropy(
        hidden, weight, labels, reduction=reduction, chunk=64, label_smoothing=0.1, z_loss=1e-2
    )
    return differentiated(losses, hidden, weight)


def loss_of_logits(inplace: bool) -> list[Tensor]:
    logits = draw(ROWS, 40)
    copied = logits * 1
    losses = kernels.cross_entropy(copied, torch.arange(ROWS) % 40, inplace=inplace)
    return differentiated(losses, logits)


def attention(backend: str) -> list[Tensor]:
    query, key, value = draw(ROWS, 1, 2, 24), draw(ROWS, 1, 1, 24), draw(ROWS, 1, 1, 24)
    visible = kernels.Visible.causal(1, ROWS, window=9)
    output = kernels.attention(query, key, value, visible, backend=backend)
    return differentiated(output, query, key, value)


def norm(ours: Callable[..., Any], *more: int) -> list[Tensor]:
    inputs = [draw(ROWS, 40), *([draw(ROWS, 40)] if more else [])]
    weight = draw(40, dtype=torch.float32)
    bias = [draw(40, dtype=torch.float32)] if "layer" in ours.__name__ else []
    return differentiated(ours(*inputs, weight, *bias), *inputs, weight, *bias)


def rope() -> list[Tensor]:
    query, key = draw(ROWS, 1, 2, 24), draw(ROWS, 1, 1, 24)
    places = torch.arange(ROWS)[None]
    table = kernels.rope_table(places, kernels.rope_frequencies(24, 1e4))
    return differentiated(kernels.rope(query, key, *table), query, key)


def gated(ours: Callable[..., Tensor]) -> list[Tensor]:
    both = draw(ROWS, 80)
    return differentiated(ours(both), both)


def update() -> list[Tensor]:
    masters = [torch.randn(ROWS, 40) for _ in range(3)]
    parameters = [master.bfloat16() for master in masters]
    # The transposed gradient is copied to the parameter's strides.
    gradients = [torch.randn(40, ROWS).t().bfloat16() for _ in masters]
    moments = [[torch.zeros_like(master) for master in masters] for _ in range(2)]
    norm = kernels.grad_norm(gradients)
    kernels.adamw_step(
        *(parameters, gradients, *moments),
        masters=masters,
        step=1,
        lr=1e-3,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
        clip_coefficient=kernels.clip_coefficient(norm, 1.0),
    )
    return [norm, *parameters, *masters, *moments[0], *moments[1]]


FAMILIES: dict[str, Callable[[], list[Tensor]]] = {
    "fused loss, summed": lambda: fused_loss(40, "sum", draw(ROWS, 24)),
    "fused loss a token": lambda: fused_loss(40, "none", draw(ROWS, 24)),
    "loss of logits": lambda: loss_of_logits(False),
    "loss in place": lambda: loss_of_logits(True),
    "attention": lambda: attention("auto"),
    "attention by SDPA": lambda: attention("sdpa"),
    "rms_norm": lambda: norm(kernels.rms_norm),
    "add_rms_norm": lambda: norm(kernels.add_rms_norm, 1),
    "layer_norm": lambda: norm(kernels.layer_norm),
    "add_layer_norm": lambda: norm(kernels.add_layer_norm, 1),
    "rope": rope,
    "swiglu": lambda: gated(kernels.swiglu),
    "geglu": lambda: gated(kernels.geglu),
    "norm and AdamW": update,
}


@pytest.mark.parametrize("mode", ["reference", "triton"])
@pytest.mark.parametrize("family", FAMILIES)
def test_results_do_not_depend_on_fresh_memory(
    family: str, mode: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches padding that a product reads, and a result that is not written whole."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    found = []
    for filling in (math.nan, 7.0):
        torch.manual_seed(seed)
        with FreshMemory(filling) as memory:
            found.append(FAMILIES[family]())
        assert memory.products or "fused" not in family
    for name, (poisoned, other) in enumerate(zip(*found, strict=True)):
        assert poisoned.isfinite().all(), f"result {name}: NaN from fresh memory"
        assert torch.equal(poisoned, other), f"result {name}: depends on fresh memory"


@pytest.mark.parametrize("mode", ["reference", "triton"])
def test_gaps_between_the_rows_of_a_view_are_not_read(
    mode: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a caller's padded hidden states, handed to a product as they are."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    results = []
    for gaps in (math.nan, 0.0):
        torch.manual_seed(seed)
        padded = torch.full((ROWS, 64), gaps, dtype=torch.bfloat16)
        padded[:, :24].normal_()
        with FreshMemory(math.nan):
            results.append(fused_loss(40, "sum", padded[:, :24].requires_grad_()))
    for poisoned, other in zip(*results, strict=True):
        assert torch.equal(poisoned, other)


def test_a_product_that_is_handed_padding_is_seen() -> None:
    """The negative control: the check above must fail for a buffer as the fused loss had it."""
    with FreshMemory(math.nan), pytest.raises(AssertionError, match="reads padding"):
        logits = torch.empty(ROWS, 64, dtype=torch.bfloat16)[:, :40].fill_(1.0)
        torch.mm(logits, torch.ones(40, 8, dtype=torch.bfloat16))
