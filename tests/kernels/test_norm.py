"""RMSNorm's and LayerNorm's kernels, alone and after a residual add, against fp64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import add_layer_norm, add_rms_norm, layer_norm, rms_norm, tiles
from kernels.norm.operator import norm, norm_backward
from kernels.norm.reference import layer_norm_reference, rms_norm_reference
from tests.kernels.oracle import DTYPES, ODD_WIDTHS, assert_close, tolerance, wide

SHAPES = [(1, 1), (3, 3), (2, 3, 127), (5, 128), (127, 129), (2, 1000), (3, 4100)]
LAYER = [False, True]
BACKWARD = {False: "norm.backward", True: "norm.backward_bias"}


def random(*shape: int, dtype: torch.dtype = torch.float32, device: torch.device) -> Tensor:
    return torch.randn(shape, device=device).to(dtype).requires_grad_()


def vectors(
    width: int, layer: bool, device: torch.device, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """A weight, and for LayerNorm a bias."""
    return [random(width, dtype=dtype, device=device) for _ in range(1 + layer)]


def ours(x: Tensor, vectors: list[Tensor], layer: bool, **options: Any) -> Tensor:
    return (layer_norm if layer else rms_norm)(x, *vectors, **options)


def added(
    x: Tensor, residual: Tensor, vectors: list[Tensor], layer: bool, **options: Any
) -> tuple[Tensor, Tensor]:
    return (add_layer_norm if layer else add_rms_norm)(x, residual, *vectors, **options)


def right(x: Tensor, vectors: list[Tensor], layer: bool, **options: Any) -> Tensor:
    if not layer:
        return rms_norm_reference(x, vectors[0] if vectors else None, **options)
    padded = [*vectors, None, None][:2]
    return layer_norm_reference(x, *padded, **options)


def hold(
    x: Tensor,
    vectors: list[Tensor],
    layer: bool,
    *,
    dy: Tensor | None = None,
    **options: Any,
) -> None:
    """Our y and gradients are right.

    y and dx are rounded once, from fp32 sums over the width; dweight and dbias sum over the rows.
    dx is a difference that may cancel (at width 1 it is 0), so its error is held against its terms,
    dy * weight / deviation.
    """
    dy = torch.randn_like(x) if dy is None else dy
    y = ours(x, vectors, layer, **options)
    found = torch.autograd.grad(y, [x, *vectors], dy)
    x64, *vectors64 = wide(x, *vectors)
    y64 = right(x64, vectors64, layer, **options)
    grads = torch.autograd.grad(y64, [x64, *vectors64], dy.double())
    width, rows = x.shape[-1], x[..., 0].numel()
    largest = dy.abs().max().item() if dy.numel() else 0.0
    centered = x64 - x64.mean(-1, keepdim=True) if layer else x64
    inverse = (centered.square().mean(-1, keepdim=True) + options.get("eps", 1e-5)).rsqrt()
    factor = vectors64[0] + options.get("zero_centered", False) if vectors64 else 1.0
    # A mean far from 0 costs LayerNorm digits before the sums begin.
    lost = ((x64.abs() * inverse).max() if layer and x.numel() else torch.tensor(0.0)).item()
    allowed = tolerance(x.dtype, width) + 2 * torch.finfo(torch.float32).eps * lost
    terms = (dy.double() * factor * inverse).abs().max().item() if x.numel() else 0.0
    assert_close("y", y, y64, allowed)
    assert_close("dx", found[0], grads[0], allowed, scale=terms)
    for name, vector, one, other in zip(
        ("dweight", "dbias"), vectors, found[1:], grads[1:], strict=False
    ):
        assert one.dtype == vector.dtype
        reduced = tolerance(vector.dtype, rows * width) + allowed
        assert_close(name, one, other, reduced, scale=largest)
    assert y.dtype == found[0].dtype == x.dtype


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes_are_right(
    shape: tuple[int, ...], dtype: torch.dtype, layer: bool, device: torch.device
) -> None:
    """Catches a mask that is off by one, and a sum that takes in what lies beyond the row."""
    hold(random(*shape, dtype=dtype, device=device), vectors(shape[-1], layer, device), layer)


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("width", ODD_WIDTHS)
def test_rows_wider_than_a_block_are_right(width: int, layer: bool, device: torch.device) -> None:
    """Catches a later pass over a wide row reading or writing in the wrong place."""
    x, residual = (random(5, width, device=device) for _ in range(2))
    scales = vectors(width, layer, device)
    dy, dtotal = torch.randn_like(x), torch.randn_like(x)
    small = {"ROWS": 2, "BLOCK": 32, "num_warps": 1}
    with tiles.trying("norm.forward", small):
        y, total = added(x, residual, scales, layer, zero_centered=True)
    with tiles.trying(BACKWARD[layer], small | {"PROGRAMS": 1, "RELOAD": 0}):
        found = torch.autograd.grad([y, total], [x, *scales], [dy, dtotal])
    total64, *scales64 = wide(total.detach().requires_grad_(), *scales)
    y64 = right(total64, scales64, layer, zero_centered=True)
    grads = torch.autograd.grad(
        [y64, total64], [total64, *scales64], [dy.double(), dtotal.double()]
    )
    assert torch.equal(total, x + residual)
    spread = total64 - total64.mean(-1, keepdim=True) if layer else total64
    inverse = (spread.square().mean(-1) + 1e-5).rsqrt()
    # The mean is taken from terms of y as large as these: where a row's few values are nearly one,
    # they cancel, and what is left of them is small and keeps their rounding errors.
    terms = (total64.abs().amax(-1) * inverse).max() * (1 + scales64[0]).abs().max()
    assert_close("y", y, y64, tolerance(torch.float32, width), scale=terms.item() if layer else 0.0)
    # Terms of dx are about as large as these; at width 1 they cancel to 0.
    terms = ((1 + scales64[0]) * dy.double()).abs().max()
    terms = terms * inverse.max() + dtotal.abs().max()
    assert_close("dx", found[0], grads[0], tolerance(torch.float32, width), scale=terms.item())
    largest = dy.abs().max().item()
    for one, other in zip(found[1:], grads[1:], strict=True):
        reduced = tolerance(torch.float32, 5 * width)
        assert_close("dweight or dbias", one, other, reduced, scale=largest)


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector_dtype", [torch.float32, torch.bfloat16, None])
@pytest.mark.parametrize("zero_centered", [False, True])
def test_weights_of_each_kind(
    vector_dtype: torch.dtype | None,
    dtype: torch.dtype,
    zero_centered: bool,
    layer: bool,
    device: torch.device,
) -> None:
    """Catches a weight read in x's dtype, a forgotten 1 + weight, and its gradient's dtype."""
    x = random(6, 48, dtype=dtype, device=device)
    scales = vectors(48, layer, device, vector_dtype) if vector_dtype else []
    hold(x, scales, layer, zero_centered=zero_centered)


def test_a_weight_without_a_bias_and_a_bias_without_a_weight(device: torch.device) -> None:
    """Catches one vector's presence deciding over the other."""
    x, vector = random(6, 48, device=device), random(48, device=device)
    hold(x, [vector], True)
    y = layer_norm(x, None, vector)
    (found,) = torch.autograd.grad(y.sum(), [vector])
    assert_close("dbias", found, torch.full((48,), 6.0), tolerance(torch.float32))
    assert_close("y", y, layer_norm_reference(x.double(), None, vector), 1e-6)


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_with_the_residual_is_fused(
    dtype: torch.dtype, layer: bool, device: torch.device
) -> None:
    """Catches a gradient that takes only one of the two ways through the residual stream."""
    x, residual = (random(2, 5, 96, dtype=dtype, device=device) for _ in range(2))
    scales = vectors(96, layer, device)
    dy, dtotal = torch.randn_like(x), torch.randn_like(x)
    y, total = added(x, residual, scales, layer)
    assert torch.equal(total, (x + residual).detach()), "the rounded sum, as torch adds"
    found = torch.autograd.grad([y, total], [x, residual, *scales], [dy, dtotal])
    assert torch.equal(found[0], found[1])
    # From the rounded sum on, in fp64: rounding the sum itself is not the kernel's error.
    total64, *scales64 = wide(total.detach().requires_grad_(), *scales)
    y64 = right(total64, scales64, layer)
    grads = torch.autograd.grad(
        [y64, total64], [total64, *scales64], [dy.double(), dtotal.double()]
    )
    for name, one, other in zip(("y", "dx"), (y, found[0]), (y64, grads[0]), strict=True):
        assert_close(name, one, other, tolerance(dtype, 96))
    for one, other in zip(found[2:], grads[1:], strict=True):
        assert_close("dweight or dbias", one, other, tolerance(torch.float32, 960))


@pytest.mark.parametrize("layer", LAYER)
def test_only_the_sum_is_used(layer: bool, device: torch.device) -> None:
    """Catches a backward pass that needs a gradient of the norm that nobody sent."""
    x, residual = (random(3, 32, device=device) for _ in range(2))
    _, total = added(x, residual, vectors(32, layer, device), layer)
    dx, dresidual = torch.autograd.grad(total.sum(), [x, residual])
    assert torch.equal(dx, torch.ones_like(x)) and torch.equal(dresidual, dx)


@pytest.mark.parametrize("layer", LAYER)
def test_strided_inputs_are_right(layer: bool, device: torch.device) -> None:
    """Catches a kernel that takes rows to lie one behind the other."""
    packed = random(7, 3, 80, device=device)
    scales = vectors(80, layer, device)
    assert not packed[:, 1].is_contiguous()
    dy = torch.randn(80, 7, device=device).t()
    y = ours(packed[:, 1], scales, layer)
    (found,) = torch.autograd.grad(y, [packed], dy)
    (packed64,) = wide(packed)
    y64 = right(packed64[:, 1], [scale.double() for scale in scales], layer)
    (grad,) = torch.autograd.grad(y64, [packed64], dy.double())
    assert_close("y", y, y64, tolerance(torch.float32, 80))
    assert_close("dpacked", found, grad, tolerance(torch.float32, 80))


@pytest.mark.parametrize("layer", LAYER)
def test_every_split_of_the_rows_gives_the_gradient(layer: bool, device: torch.device) -> None:
    """Catches rows lost between the programs that share out the weight's gradient."""
    x, scales = random(37, 24, device=device), vectors(24, layer, device)
    for rows, programs in ((1, 1), (2, 2), (4, 1), (16, 4)):
        chosen = {"ROWS": rows, "BLOCK": 32, "num_warps": 1, "PROGRAMS": programs}
        with tiles.trying(BACKWARD[layer], chosen | {"RELOAD": rows % 2}):
            hold(x, scales, layer)


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("magnitude", [1e4, 1e18, 1e-18])
def test_magnitudes_do_not_matter(magnitude: float, layer: bool, device: torch.device) -> None:
    """Catches an overflowing or vanishing square that fp32 still holds."""
    x = (torch.randn(4, 64, device=device) * magnitude).requires_grad_()
    hold(x, vectors(64, layer, device), layer, eps=0.0)


def test_a_mean_far_from_zero_does_not_matter(device: torch.device) -> None:
    """Catches a variance taken as mean(x^2) - mean(x)^2, of which nothing would be left here."""
    x = (torch.randn(4, 64, device=device) + 1e4).requires_grad_()
    hold(x, vectors(64, True, device), True)


@pytest.mark.parametrize("layer", LAYER)
def test_infinity_and_nan_stay_in_their_row(layer: bool, device: torch.device) -> None:
    """Catches a bad value that is hidden, or that spreads to other rows."""
    x = torch.randn(4, 40, device=device)
    x[1, 3], x[2, 5] = torch.inf, torch.nan
    y = ours(x, [], layer)
    assert_close("y", y, right(x.double(), [], layer), tolerance(torch.float32, 40))
    assert y[0].isfinite().all() and y[1, 3].isnan() and y[2].isnan().all()


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("shape", [(0, 16), (3, 0, 16)], ids=str)
def test_no_rows_give_no_rows(shape: tuple[int, ...], layer: bool, device: torch.device) -> None:
    """Catches an empty grid, and a weight gradient that nobody wrote."""
    x, scales = random(*shape, device=device), vectors(16, layer, device)
    y = ours(x, scales, layer)
    dx, *found = torch.autograd.grad(y.sum(), [x, *scales])
    assert y.shape == dx.shape == shape
    assert all(torch.equal(one, torch.zeros_like(one)) for one in found)


@pytest.mark.parametrize("layer", LAYER)
def test_reference_gradients_are_right(layer: bool) -> None:
    """Catches an error in the oracle itself."""
    x, *scales = wide(random(3, 5, device="cpu"), *vectors(5, layer, "cpu"))
    assert torch.autograd.gradcheck(
        lambda x, *scales: right(x, scales, layer, zero_centered=True), (x, *scales)
    )


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize("layer", LAYER)
def test_the_reference_rounds_once(layer: bool, zero_centered: bool) -> None:
    """Catches a CPU that computes in bf16, or that gives fp32 where it was given bf16."""
    x, *scales = random(64, 96, device="cpu", dtype=torch.bfloat16), *vectors(96, layer, "cpu")
    # As models hold them: in the dtype of the activations.
    scales = [one.detach().bfloat16() for one in scales]
    y = right(x, scales, layer, zero_centered=zero_centered)
    y64 = right(x.double(), [one.double() for one in scales], layer, zero_centered=zero_centered)
    assert y.dtype == torch.bfloat16
    # Half a place in the last, and fp32's sums where a bias cancels them.
    torch.testing.assert_close(y.double(), y64, rtol=2**-8 * 1.001, atol=1e-5)


@pytest.mark.parametrize("layer", LAYER)
def test_operators_are_registered_whole(layer: bool, device: torch.device) -> None:
    """Catches a fake that promises another shape, dtype or stride than the kernel gives."""
    x, residual, weight, bias = (random(3, 8, device=device) for _ in range(4))
    weight, bias = random(8, device=device), random(8, device=device) if layer else None
    for more in (None, residual):
        torch.library.opcheck(norm, (x, more, weight, bias, 1e-5, False, layer))
    rows = [tensor.detach() for tensor in (x, residual, x)]
    statistics = [torch.rand(3 if layer else 0, device=device), torch.rand(3, device=device)]
    scales = [weight.detach(), bias.detach() if bias is not None else None]
    torch.library.opcheck(norm_backward, (*rows, *scales, *statistics, True, layer))


@pytest.mark.parametrize("layer", LAYER)
def test_compile_sees_through(layer: bool, device: torch.device) -> None:
    """Catches a graph break around the operator."""
    x, residual = (random(4, 32, device=device) for _ in range(2))
    scales = vectors(32, layer, device)

    def block(x: Tensor, residual: Tensor) -> Tensor:
        y, total = added(x, residual, scales, layer)
        return ours(y + total, scales, layer)

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x, residual).sum(), [x, residual, *scales])
    same = torch.autograd.grad(block(x, residual).sum(), [x, residual, *scales])
    for one, other in zip(found, same, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(
    mode: str, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """Catches an argument that reaches a kernel and reads what isn't there."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    x, weight = torch.randn(3, 8, device=device), torch.ones(8, device=device)
    with pytest.raises(ValueError, match=r"^x: dtype float16 .* use float32 or bfloat16$"):
        rms_norm(x.half(), weight)
    with pytest.raises(ValueError, match=r"^weight: shape \[7\] should be \[hidden\] = \[8\]$"):
        rms_norm(x, weight[:7])
    with pytest.raises(ValueError, match=r"^weight: dtype int64"):
        rms_norm(x, weight.long())
    with pytest.raises(ValueError, match=r"^bias: shape \[7\] should be"):
        layer_norm(x, weight, weight[:7])
    with pytest.raises(ValueError, match=r"^weight: is on meta, but x on"):
        layer_norm(x, weight.to("meta"))
    with pytest.raises(ValueError, match=r"^x: shape \[3, 0\] has no channels"):
        rms_norm(x[:, :0], weight[:0])
    with pytest.raises(ValueError, match=r"^residual: shape \[2, 8\] should be x's shape"):
        add_rms_norm(x, x[:2], weight)
    with pytest.raises(ValueError, match=r"^residual: dtype bfloat16"):
        add_layer_norm(x, x.bfloat16(), weight)


def test_a_kernel_that_leaves_a_column_out_would_be_found(device: torch.device) -> None:
    """Negative control: memory that no kernel wrote is NaN, and the comparison sees it."""
    y = torch.empty(4, 4, device=device)
    y[:, :3] = 1.0
    with pytest.raises(AssertionError, match="finite in other places"):
        assert_close("y", y, torch.ones(4, 4, device=device), 1.0)
