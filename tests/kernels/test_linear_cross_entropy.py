"""The fused output projection and cross entropy against fp64, and the memory that it takes."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kernels.cross_entropy import IGNORE, cross_entropy
from kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_nats
from tests.kernels.oracle import DTYPES, assert_close, tolerance, wide
from tests.kernels.test_cross_entropy import right
from tests.kernels.vocabulary_ranks import compute
from tests.parity.ranks import on_ranks

MODULE: Any = importlib.import_module("kernels.linear_cross_entropy")
BOTH = {"label_smoothing": 0.1, "z_loss": 1e-2}
MODES = ["triton", "reference"]


@pytest.fixture(params=MODES)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels, and with PyTorch's operators instead."""
    monkeypatch.setattr("kernels.dispatch.MODE", request.param)


def inputs(
    *leading: int,
    vocab: int,
    width: int = 24,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, weight, labels); logits of a few units."""
    hidden = torch.randn(*leading, width, device=device).to(dtype).requires_grad_()
    weight = (torch.randn(vocab, width, device=device) / 2).to(dtype).requires_grad_()
    labels = torch.randint(vocab, leading, device=device)
    if labels.numel() > 1:
        labels.view(-1)[-1] = IGNORE
    return hidden, weight, labels


def rounded(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits in fp64 that have been rounded to the dtype, as a linear layer does."""
    logits = hidden @ weight.t()
    return logits + (logits.detach().to(dtype).double() - logits.detach())


def hold(hidden: Tensor, weight: Tensor, labels: Tensor, upstream: Tensor, **options: Any) -> None:
    """Our losses and gradients are right.

    Logits are rounded before the loss, which the oracle does too; one may fall to the other side of
    a rounding, a unit in the last place. The logits' gradient is rounded, then sums are in fp32.
    """
    plain = {k: v for k, v in options.items() if k in (*BOTH, "ignore_index")}
    losses = linear_cross_entropy(hidden, weight, labels, **options)
    found = torch.autograd.grad(losses, [hidden, weight], upstream)
    hidden64, weight64 = wide(hidden, weight)
    logits64 = rounded(hidden64, weight64, hidden.dtype)
    losses64 = right(logits64, labels, **plain)
    losses64 = losses64.sum() if losses.dim() == 0 else losses64
    gradients = torch.autograd.grad(losses64, [hidden64, weight64], upstream.double())
    terms = hidden.shape[-1] + weight.shape[0]
    largest = logits64.detach().abs().max().item()
    rows = labels.numel() if losses.dim() == 0 else 1
    unit = tolerance(hidden.dtype, terms, roundings=2)
    assert_close("losses", losses, losses64, unit, scale=largest * rows)
    slope = upstream.abs().max().item() * (1 + 2 * plain.get("z_loss", 0.0) * largest)
    allowed = tolerance(hidden.dtype, terms + labels.numel(), roundings=4)
    for name, one, other, factor in zip(
        ("dhidden", "dweight"), found, gradients, (weight64, hidden64), strict=True
    ):
        # A row of the logits' gradient sums to 2 at most; each is multiplied with this.
        assert_close(name, one, other, allowed, scale=2 * slope * factor.abs().max().item())
    assert losses.dtype == torch.float32 and found[0].dtype == hidden.dtype


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("options", [{}, BOTH], ids=str)
def test_the_plain_cross_entropy_comes_along(
    options: dict[str, Any], reduction: str, device: torch.device
) -> None:
    """Catches a reported loss that holds a term, or a chunk's place taken by another's."""
    hidden, weight, labels = inputs(7, vocab=65, device=device)
    arguments: dict[str, Any] = {"reduction": reduction, "chunk": 3, **options}
    losses, nats = linear_cross_entropy_with_nats(hidden, weight, labels, **arguments)
    expected = linear_cross_entropy(hidden, weight, labels, **arguments)
    torch.testing.assert_close(losses, expected, rtol=0, atol=0)
    assert not nats.requires_grad
    plain = right(hidden.detach().double() @ weight.detach().double().t(), labels)
    plain = plain.sum() if reduction == "sum" else plain
    torch.testing.assert_close(nats.double(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("vocab", [1, 3, 64, 129])
def test_losses_and_gradients_are_right(
    vocab: int, reduction: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a chunk left out or counted twice, also the last and smaller one."""
    hidden, weight, labels = inputs(5, vocab=vocab, dtype=dtype, device=device)
    upstream = torch.randn(() if reduction == "sum" else 5, device=device)
    hold(hidden, weight, labels, upstream, reduction=reduction, chunk=2, **BOTH)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("chunk", [1, 6, 7, None])
def test_every_chunk_gives_the_same(
    chunk: int | None, reduction: str, device: torch.device
) -> None:
    """Catches a chunk that ends beyond the tokens, and the first one added to what isn't there."""
    hidden, weight, labels = inputs(2, 3, vocab=40, device=device)
    upstream = torch.randn(() if reduction == "sum" else (2, 3), device=device)
    hold(hidden, weight, labels, upstream, reduction=reduction, chunk=chunk)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_strided_inputs_are_right(reduction: str, device: torch.device) -> None:
    """Catches hidden states and labels read in memory's order, as of [sequence, batch]."""
    hidden, weight, labels = inputs(3, 2, vocab=40, width=48, device=device)
    hidden = hidden.detach().transpose(0, 1)[..., ::2].requires_grad_()
    weight = weight.detach()[:, :24].requires_grad_()
    upstream = torch.randn(() if reduction == "sum" else (3, 2), device=device).t()
    hold(hidden, weight, labels.t(), upstream, reduction=reduction, chunk=4)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("upstream", "expected"), [(0.3, 0.3), (2.0, None), (0.1, 4.0), (0.0, 1.0)]
)
def test_any_expectation_gives_the_gradient(
    upstream: float, expected: float | None, dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a gradient that is off by the factor between hope and truth, or corrected twice."""
    hidden, weight, labels = inputs(5, vocab=33, dtype=dtype, device=device)
    hint = torch.tensor(expected, device=device) if expected is not None else None
    hold(
        *(hidden, weight, labels, torch.tensor(upstream, device=device)),
        expected_gradient=hint,
        chunk=3,
    )


def test_a_right_expectation_makes_the_backward_pass_free(device: torch.device) -> None:
    """Catches gradients that are touched again."""
    hidden, weight, labels = inputs(5, vocab=33, device=device)
    hint = torch.tensor(0.3, device=device)
    terms = ("", IGNORE, 0.0, 0.0, 2, True, True, False)
    _, *made = MODULE._linear_cross_entropy_summed(hidden, weight, labels, hint, *terms)
    loss = linear_cross_entropy(hidden, weight, labels, chunk=2, expected_gradient=hint)
    found = torch.autograd.grad(loss, [hidden, weight], hint)
    assert all(torch.equal(one, other) for one, other in zip(found, made, strict=True))


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_only_what_is_needed_has_a_gradient(reduction: str, device: torch.device) -> None:
    """Catches a frozen weight or frozen hidden states that break the backward pass."""
    hidden, weight, labels = inputs(5, vocab=20, device=device)
    both = linear_cross_entropy(hidden, weight, labels, reduction=reduction, chunk=2).sum()
    right_ones = torch.autograd.grad(both, [hidden, weight])
    for frozen in (0, 1):
        pair = [hidden, weight]
        pair[frozen] = pair[frozen].detach()
        loss = linear_cross_entropy(*pair, labels, reduction=reduction, chunk=2).sum()
        (found,) = torch.autograd.grad(loss, [pair[1 - frozen]])
        assert torch.equal(found, right_ones[1 - frozen])
        assert_close("loss", loss, both, 1e-6)
    frozen_loss = linear_cross_entropy(hidden.detach(), weight.detach(), labels, chunk=2)
    assert not frozen_loss.requires_grad
    with torch.no_grad():
        assert_close("loss", linear_cross_entropy(hidden, weight, labels), both, 1e-6)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_the_weight_gradient_is_summed_in_fp32(reduction: str, device: torch.device) -> None:
    """Catches chunks added in bf16, which loses what is small beside the sum."""
    tokens = 24
    hidden, weight, labels = inputs(tokens, vocab=3, dtype=torch.bfloat16, device=device)
    hidden.data.copy_(hidden[:1].expand_as(hidden))
    labels.zero_()
    weight.data.zero_()  # every logit is 0, and every token's gradient the same
    weight.grad_dtype = torch.float32
    losses = linear_cross_entropy(hidden, weight, labels, reduction=reduction, chunk=1)
    losses.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    once = torch.tensor([1 / 3 - 1, 1 / 3, 1 / 3]).bfloat16().double()[:, None]
    once = once * hidden[0].detach().double().cpu()
    allowed = tolerance(torch.float32, tokens)
    assert_close("dweight", weight.grad, tokens * once, allowed)
    added = torch.zeros_like(once, dtype=torch.bfloat16)
    for _ in range(tokens):
        added += once.bfloat16()
    with pytest.raises(AssertionError, match="off by"):  # negative control
        assert_close("dweight added in bf16", added, tokens * once, allowed)


def test_a_second_backward_pass_is_refused(device: torch.device) -> None:
    """Catches gradients that are corrected twice, silently."""
    hidden, weight, labels = inputs(5, vocab=20, device=device)
    loss = linear_cross_entropy(hidden, weight, labels, chunk=2)
    loss.backward(torch.tensor(2.0, device=device), retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_no_tokens_give_no_loss(reduction: str, device: torch.device) -> None:
    """Catches a weight gradient that nobody wrote."""
    hidden, weight, labels = inputs(0, 3, vocab=20, device=device)
    losses = linear_cross_entropy(hidden, weight, labels, reduction=reduction)
    dhidden, dweight = torch.autograd.grad(losses.sum(), [hidden, weight])
    assert dhidden.shape == hidden.shape and (dweight == 0).all() and losses.sum() == 0


@pytest.mark.usefixtures("either")
def test_large_logits_stay_finite(device: torch.device) -> None:
    """Catches an exponential that overflows."""
    hidden, weight, labels = inputs(5, vocab=20, device=device)
    hidden = (hidden.detach() * 1e15).requires_grad_()
    weight = (weight.detach() * 1e15).requires_grad_()
    hold(hidden, weight, labels, torch.randn(5, device=device), reduction="none", chunk=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="two ranks over gloo, on the CPU")
def test_ranks_that_share_the_vocabulary_are_right() -> None:
    """Catches a slice's offset, and a gradient of the hidden states that is not a partial sum."""
    cases = []
    for mode in MODES:
        for dtype, reduction in ((torch.float32, "sum"), (torch.bfloat16, "none")):
            hidden, weight, labels = inputs(2, 3, vocab=66, dtype=dtype, device=torch.device("cpu"))
            upstream = torch.randn(() if reduction == "sum" else (2, 3))
            options = {"reduction": reduction, "chunk": 4, **BOTH}
            cases.append((mode, hidden.detach(), weight.detach(), labels, upstream, options))
    first, second = on_ranks(2, compute, cases)
    for case, (collectives, *one), (_, *other) in zip(cases, first, second, strict=True):
        assert collectives == 2, "one a chunk"
        _, hidden, weight, labels, upstream, options = case
        hidden64, weight64 = wide(hidden.requires_grad_(), weight.requires_grad_())
        losses64 = right(rounded(hidden64, weight64, hidden.dtype), labels, **BOTH)
        losses64 = losses64.sum() if options["reduction"] == "sum" else losses64
        grads = torch.autograd.grad(losses64, [hidden64, weight64], upstream.double())
        allowed = tolerance(hidden.dtype, 96, roundings=4)
        assert torch.equal(one[0], other[0]), "equal on all ranks, to the last bit"
        assert_close("losses", one[0], losses64, allowed, scale=60.0)
        scale = 3 * upstream.abs().max().item() * 4
        assert_close("dhidden", one[1].double() + other[1].double(), grads[0], allowed, scale)
        assert_close("dweight", torch.cat((one[2], other[2])), grads[1], allowed, scale)


def peak_bytes(run: Callable[[], object], device: torch.device, folder: Path) -> int:
    """The most that is allocated at one time beyond what was before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    profiled.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    total = most = 0
    for _, change in changes:
        total += change
        most = max(most, total)
    return most


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_memory_is_a_tenth_for_many_tokens(
    reduction: str, monkeypatch: pytest.MonkeyPatch, device: torch.device, tmp_path: Path
) -> None:
    """Catches logits, or their gradient, that exist for all tokens at one time."""
    if device.type == "cpu":
        monkeypatch.setattr("kernels.dispatch.MODE", "reference")
    hidden, weight, labels = inputs(2048, vocab=2000, width=8, device=device)
    gradients = 4 * (hidden.numel() + weight.numel())

    def extra(loss: Callable[[], Tensor]) -> int:
        def run() -> object:
            return torch.autograd.grad(loss().sum(), [hidden, weight])

        return peak_bytes(run, device, tmp_path) - gradients

    def with_chunk(chunk: int) -> Callable[[], Tensor]:
        return lambda: linear_cross_entropy(
            hidden, weight, labels, reduction=reduction, chunk=chunk
        )

    unfused = extra(lambda: cross_entropy(hidden @ weight.t(), labels, reduction=reduction))
    assert unfused >= 4 * 2048 * 2000, "the logits at least"
    assert extra(with_chunk(32)) <= unfused / 10
    assert extra(with_chunk(2048)) > unfused / 10, "negative control: one chunk of everything"


def test_the_default_chunk_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a chunk that grows with the vocabulary, or that vanishes."""
    seen = []
    monkeypatch.setattr(MODULE, "_chunks", lambda hidden, weight, chunk: seen.append(chunk) or [])
    for vocab, tokens in ((128_256, 2048), (1_000_000, 256), (10_000_000, 128)):
        weight = torch.empty((vocab, 2), dtype=torch.bfloat16)
        hidden = torch.empty((1, 2), dtype=torch.bfloat16)
        linear_cross_entropy(hidden, weight, torch.zeros(1, dtype=torch.int64))
        assert seen.pop() == tokens


def test_operators_are_registered_whole(device: torch.device) -> None:
    """Catches a fake that promises another shape, dtype or stride than the operator gives."""
    hidden, weight, labels = inputs(5, vocab=20, device=device)
    tensors = hidden.detach(), weight.detach(), labels
    terms = ("", IGNORE, 0.1, 1e-3, 2)
    torch.library.opcheck(MODULE._linear_cross_entropy, (*tensors, *terms))
    hint = torch.ones((), device=device)
    upstream, statistics = torch.randn(5, device=device), torch.rand(2, 5, device=device)
    summed, backward = MODULE._linear_cross_entropy_summed, MODULE._linear_cross_entropy_backward
    torch.library.opcheck(summed, (*tensors, hint, *terms, True, True, False))
    known = (upstream, *tensors, statistics)
    torch.library.opcheck(backward, (*known, *terms, False, True, True))


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_compile_sees_through(reduction: str, device: torch.device) -> None:
    """Catches a graph break around the operator."""
    hidden, weight, labels = inputs(5, vocab=20, device=device)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return linear_cross_entropy(2 * hidden, weight, labels, reduction=reduction, chunk=2).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(hidden, weight), [hidden, weight])
    same = torch.autograd.grad(loss(hidden, weight), [hidden, weight])
    assert all(torch.equal(one, other) for one, other in zip(found, same, strict=True))


@pytest.mark.usefixtures("either")
def test_bad_arguments_are_named(device: torch.device) -> None:
    """Catches an argument that reaches a product and fails there, or reads what isn't there."""
    hidden, weight = torch.randn(3, 8, device=device), torch.randn(20, 8, device=device)
    labels = torch.zeros(3, dtype=torch.int64, device=device)
    for match, arguments, options in (
        (r"^hidden: dtype float64", (hidden.double(), weight, labels), {}),
        (r"^hidden: shape \[3, 0\] has no channels", (hidden[:, :0], weight[:, :0], labels), {}),
        (r"^weight: dtype bfloat16 .* use float32$", (hidden, weight.bfloat16(), labels), {}),
        (
            r"^weight: shape \[20, 7\] should be \[vocab, hidden\]",
            (hidden, weight[:, :7], labels),
            {},
        ),
        (r"^weight: shape \[8\] should be \[vocab, hidden\]$", (hidden, weight[0], labels), {}),
        (r"^weight: is on meta, but hidden on", (hidden, weight.to("meta"), labels), {}),
        (r"^labels: shape \[2\] should be that of hidden", (hidden, weight, labels[:2]), {}),
        (r"^labels: dtype int32", (hidden, weight, labels.int()), {}),
        (r"^chunk: 0 tokens; use 1 or more", (hidden, weight, labels), {"chunk": 0}),
        (r"^reduction: 'mean' is unknown", (hidden, weight, labels), {"reduction": "mean"}),
        (r"^label_smoothing: -0.1 is not", (hidden, weight, labels), {"label_smoothing": -0.1}),
        (r"^z_loss: -1 is negative", (hidden, weight, labels), {"z_loss": -1}),
    ):
        with pytest.raises(ValueError, match=match):
            linear_cross_entropy(*arguments, **options)
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"^labels: \[20\] is neither an id of the vocab"):
            linear_cross_entropy(hidden, weight, labels + 20)
