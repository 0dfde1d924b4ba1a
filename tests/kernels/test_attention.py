"""The attention kernels, forward and backward, against fp64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.attention import Visible, attention, attention_with_lse, backward, forward
from kernels.attention.operator import _attention, _attention_backward
from kernels.attention.reference import reference
from kernels.bench.checks.attention import sizes_of_terms
from tests.kernels.oracle import DTYPES, assert_close, tolerance, wide

Tiles = Callable[[int, int], None]

DOCUMENTS = ((14, 21, 13), (40, 8))
POSITIONS = torch.tensor([[place for size in row for place in range(size)] for row in DOCUMENTS])
# What the first of three context-parallel ranks holds: the first and the last sixth.
ZIGZAG = torch.cat((torch.arange(0, 8), torch.arange(40, 48)))

PATTERNS: dict[str, Callable[[torch.device], Visible]] = {
    "causal": lambda device: Visible.causal(2, 48, device=device),
    "causal window": lambda device: Visible.causal(2, 48, window=17, device=device),
    "fewer queries than keys": lambda device: Visible.causal(2, 11, 48, device=device),
    "more queries than keys": lambda device: Visible.causal(2, 48, 20, device=device),
    "full": lambda device: Visible.full(2, 20, 45, device),
    "documents": lambda device: Visible.documents(POSITIONS.to(device)),
    "documents window": lambda device: Visible.documents(POSITIONS.to(device), window=9),
    "zigzag": lambda device: Visible.documents(POSITIONS.to(device), ZIGZAG.to(device)),
    "last token": lambda device: Visible.documents(
        POSITIONS.to(device), torch.tensor([47], device=device)
    ),
    "boundaries": lambda device: Visible.from_cu_seqlens(
        torch.tensor([0, 5, 37], dtype=torch.int32, device=device), 43
    ),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Tiles:
    """Sets the blocks of all kernels, and makes atomic sums the way when repeating isn't asked."""

    def use(queries: int, keys: int) -> None:
        def tile(kernel: str, width: int, device: torch.device) -> dict[str, int]:
            both = {"QUERIES": queries, "KEYS": keys, "num_warps": 4, "num_stages": 2}
            if kernel == "attention.delta":
                return {"QUERIES": queries, "num_warps": 4}
            return both | ({"ATOMIC": 1} if "fused" in kernel else {})

        monkeypatch.setattr(forward, "tile", tile)
        monkeypatch.setattr(backward, "tile", tile)

    use(32, 16)
    return use


def drawn(
    visible: Visible,
    heads: int,
    kv_heads: int,
    head_size: int,
    dtype: torch.dtype,
    scale: float = 1,
) -> list[Tensor]:
    """[query, key, value]."""
    shapes = (visible.queries, heads), (visible.keys, kv_heads), (visible.keys, kv_heads)
    return [
        (scale * torch.randn(length, visible.batch, count, head_size, device=visible.low.device))
        .to(dtype)
        .requires_grad_()
        for length, count in shapes
    ]


def hold(tensors: list[Tensor], visible: Visible, extra: float = 0.0, **options: Any) -> None:
    """Output, log-sum-exp and gradients are right, by both ways through the backward pass.

    The output is rounded once and so are, in bf16, the weights; the gradients sum products whose
    two factors were rounded. Scores are sums over the channels, all else sums over keys or queries.
    """
    query, key, _ = tensors
    dtype, terms = query.dtype, query.shape[3] + max(query.shape[0], key.shape[0])
    tensors64 = wide(*tensors)
    output64, lse64 = reference(*tensors64, visible, **options)
    gradient, lse_gradient = torch.randn_like(query), torch.randn_like(lse64.float())
    right = torch.autograd.grad(
        (output64, lse64), tensors64, (gradient.double(), lse_gradient.double())
    )
    sizes = sizes_of_terms(tensors64, visible, gradient, lse_gradient, **options)
    for deterministic in (True, False):
        output, lse = attention_with_lse(*tensors, visible, deterministic=deterministic, **options)
        found = torch.autograd.grad((output, lse), tensors, (gradient, lse_gradient))
        assert_close("output", output, output64, tolerance(dtype, terms, 2) + extra)
        assert_close("lse", lse, lse64, tolerance(torch.float32, terms) + extra, scale=1.0)
        names = ("query", "key", "value")
        for name, one, other, size in zip(names, found, right, sizes, strict=True):
            allowed = tolerance(dtype, terms, 3) + extra
            assert_close(f"gradient of {name}", one, other, allowed, scale=size)
        assert output.dtype == found[0].dtype == dtype and lse.dtype == torch.float32


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_right(pattern: str, small: Tiles, device: torch.device) -> None:
    """Catches a block that is skipped though seen, or left unmasked though hidden in part."""
    visible = PATTERNS[pattern](device)
    hold(drawn(visible, 1, 1, 16, torch.float32), visible)


@pytest.mark.parametrize("length", [1, 3, 127, 128, 129])
def test_odd_lengths_are_right(length: int, small: Tiles, device: torch.device) -> None:
    """Catches a last block that is off by one, with blocks of keys longer than of queries."""
    small(32, 64)
    visible = Visible.causal(1, length, device=device)
    hold(drawn(visible, 1, 1, 16, torch.bfloat16), visible)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_size", [8, 24, 64, 96, 128, 256])
def test_head_sizes_are_right(
    head_size: int, dtype: torch.dtype, small: Tiles, device: torch.device
) -> None:
    """Catches channels beyond the head that enter a sum, and a wrong default scale."""
    visible = Visible.causal(1, 37, device=device)
    hold(drawn(visible, 2, 2, head_size, dtype), visible)


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (4, 1), (3, 3)])
def test_groups_share_their_key(
    heads: int, kv_heads: int, small: Tiles, device: torch.device
) -> None:
    """Catches a head paired with another group's key, or a gradient that misses part of a group."""
    visible = Visible.documents(POSITIONS[:, :20].to(device))
    hold(drawn(visible, heads, kv_heads, 16, torch.float32), visible, scale=0.3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_production_tiles_are_right(dtype: torch.dtype, device: torch.device) -> None:
    """Catches a row of the table that a kernel cannot take."""
    visible = Visible.causal(1, 150, device=device)
    hold(drawn(visible, 1, 1, 64, dtype), visible)


def test_strided_inputs_are_right(small: Tiles, device: torch.device) -> None:
    """Catches a kernel that assumes a layout: here, views of one packed projection."""
    visible = Visible.documents(POSITIONS[:, :40].to(device))
    packed = torch.randn(2, 40, 2, 4 * 16, device=device, requires_grad=True)

    def pieces(whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = whole.transpose(0, 1).split([32, 16, 16], dim=-1)
        return query.unflatten(-1, (2, 16)).flatten(2, 3), key, value

    (packed64,) = wide(packed)
    query, key, value = pieces(packed)
    assert key.data_ptr() == packed.data_ptr() + 32 * 4, "the test is to pass views"
    found = attention(query, key, value, visible)
    right = reference(*pieces(packed64), visible)[0].flatten(2, 3)
    # Gradients whose rows, or whose channels too, are not one behind the other.
    for gradient in (torch.randn(2, 40, 64, device=device).transpose(0, 1), None):
        given = torch.ones_like(right) if gradient is None else gradient.double()
        (dright,) = torch.autograd.grad(right, packed64, given, retain_graph=True)
        if gradient is None:
            (dfound,) = torch.autograd.grad(found.sum(), packed)
        else:
            (dfound,) = torch.autograd.grad(found, packed, gradient, retain_graph=True)
        assert_close("gradient", dfound, dright, tolerance(torch.float32, 56), scale=1.0)
    assert_close("output", found, right, tolerance(torch.float32, 56))


def test_packed_documents_equal_each_alone(small: Tiles, device: torch.device) -> None:
    """Catches documents that see each other; attention over all as one text must differ."""
    sizes = DOCUMENTS[0]
    visible = Visible.documents(POSITIONS[:1].to(device))
    tensors = drawn(visible, 2, 1, 16, torch.float32)
    packed = attention(*tensors, visible)
    pieces = zip(*(tensor.split(sizes) for tensor in tensors), strict=True)
    alone = torch.cat(
        [attention(*piece, Visible.causal(1, len(piece[0]), device=device)) for piece in pieces]
    )
    gradient = torch.randn_like(packed)
    found, right = (torch.autograd.grad(one, tensors, gradient) for one in (packed, alone))
    assert_close("output", packed, alone, tolerance(torch.float32, 64))
    for one, other in zip(found, right, strict=True):
        assert_close("gradient", one, other, tolerance(torch.float32, 64))
    joined = attention(*tensors, Visible.causal(1, 48, device=device))
    assert (joined - packed).abs().max() > 0.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_queries_that_see_nothing_give_nothing(
    dtype: torch.dtype, small: Tiles, device: torch.device
) -> None:
    """Catches 0 / 0 and -inf minus -inf, forward and backward."""
    visible = Visible.causal(1, 40, 7, device=device)
    tensors = drawn(visible, 2, 1, 16, dtype)
    for deterministic in (True, False):
        output, lse = attention_with_lse(*tensors, visible, deterministic=deterministic)
        assert not output[:33].any() and (lse[..., :33] == -torch.inf).all()
        assert lse[..., 33:].isfinite().all()
        sums = (torch.ones_like(output), torch.ones_like(lse))
        found = torch.autograd.grad((output, lse), tensors, sums)
        assert all(gradient.isfinite().all() for gradient in found)
        assert not found[0][:33].any()


def test_large_scores_do_not_overflow(small: Tiles, device: torch.device) -> None:
    """Catches an exponential of more than the difference to the largest score.

    A score of 1e4 is known to eps * 1e4 only, and so is the exponent of each weight.
    """
    visible = Visible.documents(POSITIONS[:1].to(device))
    tensors = drawn(visible, 1, 1, 16, torch.float32)
    query, key, value = (tensor.detach() for tensor in tensors)
    query *= 1e4 / (query @ key[..., 0, :].transpose(-1, -2)).abs().max()
    scaled = [tensor.requires_grad_() for tensor in (query, key, value)]
    lost = 8 * torch.finfo(torch.float32).eps * 1e4
    # The gradients of keys are as large as the queries.
    hold(scaled, visible, extra=lost, scale=1.0)


@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_large_values_do_not_overflow(magnitude: float, small: Tiles, device: torch.device) -> None:
    """Catches a sum of values before they are divided by the sum of weights."""
    visible = Visible.causal(1, 33, device=device)
    query, key, value = drawn(visible, 1, 1, 16, torch.float32)
    value = (value.detach() * magnitude).requires_grad_()
    output = attention(query, key, value, visible)
    tensors64 = wide(query, key, value)
    right = reference(*tensors64, visible)[0].flatten(2, 3)
    found = torch.autograd.grad(output, (query, key, value), torch.ones_like(output))
    rights = torch.autograd.grad(right, tensors64, torch.ones_like(right))
    assert_close("output", output, right, tolerance(torch.float32, 49))
    for one, other, scale in zip(found, rights, (magnitude, magnitude, 1.0), strict=True):
        assert_close("gradient", one, other, tolerance(torch.float32, 49), scale=scale)


def test_nan_reaches_those_who_see_it(small: Tiles, device: torch.device) -> None:
    """Catches a NaN that is hidden, or that crosses the mask."""
    visible = Visible.documents(POSITIONS[:1].to(device))
    query, key, value = drawn(visible, 1, 1, 16, torch.float32)
    with torch.no_grad():
        key[25, 0, 0, 3] = torch.nan
    wrong = attention(query, key, value, visible)[:, 0].isnan().any(dim=1)
    assert wrong.nonzero().flatten().tolist() == list(range(25, 35))


@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (5, 0), (0, 0)])
def test_empty_sequences_give_zeros(
    queries: int, keys: int, small: Tiles, device: torch.device
) -> None:
    """Catches an empty grid that leaves memory as it was."""
    visible = Visible.full(2, queries, keys, device)
    tensors = drawn(visible, 2, 1, 16, torch.float32)
    for deterministic in (True, False):
        output = attention(*tensors, visible, deterministic=deterministic)
        found = torch.autograd.grad(output.sum(), tensors)
        assert output.shape == (queries, 2, 32) and not output.any()
        assert not any(gradient.any() for gradient in found)


def test_deterministic_gradients_repeat(device: torch.device) -> None:
    """Catches a sum whose order depends on which program is done first."""
    visible = Visible.documents(POSITIONS[:, :40].to(device))
    tensors = drawn(visible, 4, 1, 16, torch.bfloat16)
    output = attention(*tensors, visible, deterministic=True)
    gradient = torch.randn_like(output)
    first, second = (
        torch.autograd.grad(output, tensors, gradient, retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_deterministic_calls_add_nothing_atomically(
    small: Tiles, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a flag that is dropped on the way; without it the table decides."""
    called = []
    for name in ("launch_split", "launch_fused"):
        launcher = getattr(backward, name)
        monkeypatch.setattr(
            backward, name, lambda *a, n=name, f=launcher: called.append(n) or f(*a)
        )
    visible = Visible.causal(1, 4, device=device)
    tensors = drawn(visible, 1, 1, 16, torch.float32)
    for deterministic in (True, False):
        attention(*tensors, visible, deterministic=deterministic).sum().backward()
    assert called == ["launch_split", "launch_fused"]


def test_one_result_alone_takes_a_gradient(small: Tiles, device: torch.device) -> None:
    """Catches a gradient that is taken to be there: of the output, or of the log-sum-exp."""
    visible = Visible.causal(1, 9, device=device)
    tensors = drawn(visible, 1, 1, 16, torch.float32)
    tensors64 = wide(*tensors)
    results = attention_with_lse(*tensors, visible)
    for found, right in zip(results, reference(*tensors64, visible), strict=True):
        one = torch.autograd.grad(found.sum(), tensors, retain_graph=True)
        other = torch.autograd.grad(right.sum(), tensors64, retain_graph=True, allow_unused=True)
        for name, a, b in zip(("query", "key", "value"), one, other, strict=True):
            b = torch.zeros_like(a) if b is None else b
            assert_close(name, a, b, tolerance(torch.float32, 25), scale=1.0)


def test_reference_gradients_are_right() -> None:
    """Catches an error in the oracle itself."""
    visible = Visible.documents(torch.tensor([[0, 1, 2, 0, 1]]))
    tensors = [
        torch.randn(5, 1, heads, 3, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)
    ]
    assert torch.autograd.gradcheck(lambda *t: reference(*t, visible), tensors)


def test_operators_are_registered_whole(small: Tiles, device: torch.device) -> None:
    """Catches a fake that promises another shape, dtype or stride than the kernels give."""
    visible = Visible.causal(1, 5, device=device)
    query, key, value = drawn(visible, 2, 1, 16, torch.float32)
    sides = (visible.low, visible.high, visible.first, visible.last)
    torch.library.opcheck(_attention, (query, key, value, *sides, 0.25, True))
    saved = [tensor.detach() for tensor in (query, key, value)]
    output, lse = _attention(*saved, *sides, 0.25, True)
    for lse_gradient in (None, lse):
        arguments = (output, lse_gradient, *saved, output, lse, *sides, 0.25, True)
        torch.library.opcheck(_attention_backward, arguments)


@pytest.mark.parametrize("mode", ["triton", ""])
def test_compile_sees_through(
    mode: str, small: Tiles, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a graph break around the operator, in our kernels and in SDPA."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]], device=device)
    visible = Visible.documents(positions)
    tensors = drawn(visible, 2, 1, 16, torch.float32)

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention(2 * query, key, value, visible) * 3

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    output, right = compiled(*tensors), layer(*tensors)
    gradient = torch.randn_like(right)
    found = torch.autograd.grad(output, tensors, gradient)
    rights = torch.autograd.grad(right, tensors, gradient)
    assert_close("output", output, right, tolerance(torch.float32, 23))
    for one, other in zip(found, rights, strict=True):
        assert_close("gradient", one, other, tolerance(torch.float32, 23), scale=1.0)
