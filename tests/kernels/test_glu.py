"""SwiGLU's and GeGLU's kernels against fp64."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from kernels import geglu, swiglu, tiles
from kernels.glu import ACTIVATIONS, Activation, _glu, _glu_backward, reference
from tests.kernels.oracle import DTYPES, ODD_WIDTHS, assert_close, tolerance, wide

UNITS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": swiglu,
    "gelu": partial(geglu, approximate=False),
    "gelu_tanh": geglu,
}


def hold(unit: Activation, gate_up: Tensor, dy: Tensor) -> None:
    """Each element is a product of a few fp32 operations, rounded once: no sums."""
    y = UNITS[unit](gate_up)
    (found,) = torch.autograd.grad(y, [gate_up], dy)
    (gate_up64,) = wide(gate_up)
    y64 = reference(gate_up64, unit)
    (right,) = torch.autograd.grad(y64, [gate_up64], dy.double())
    # Activation and slope take about ten fp32 operations, each off by half a unit at most.
    allowed = tolerance(gate_up.dtype, terms=1) + 10 * torch.finfo(torch.float32).eps
    assert_close("y", y, y64, allowed)
    assert_close("dgate_up", found, right, allowed)
    assert y.dtype == found.dtype == gate_up.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", ACTIVATIONS)
@pytest.mark.parametrize("ffn", [*ODD_WIDTHS, 300])
def test_odd_widths_are_right(
    ffn: int, unit: Activation, dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a gate paired with the wrong up, and masks that are off by one."""
    gate_up = torch.randn(3, 3, 2 * ffn, device=device).to(dtype).requires_grad_()
    hold(unit, gate_up, torch.randn(3, 3, ffn, device=device).to(dtype))


@pytest.mark.parametrize(("rows", "ffn"), [(1, 40), (127, 3), (5, 129)])
def test_many_blocks_are_right(rows: int, ffn: int, device: torch.device) -> None:
    """Catches programs that share out rows and columns wrongly."""
    small = {"ROWS": 4, "BLOCK": 16, "num_warps": 1}
    gate_up = torch.randn(rows, 2 * ffn, device=device, requires_grad=True)
    with tiles.trying("glu.forward", small):
        y = swiglu(gate_up)
    with tiles.trying("glu.backward", small):
        (found,) = torch.autograd.grad(y.sum(), [gate_up])
    (gate_up64,) = wide(gate_up)
    y64 = reference(gate_up64)
    assert_close("y", y, y64, tolerance(torch.float32))
    (right,) = torch.autograd.grad(y64.sum(), [gate_up64])
    assert_close("dgate_up", found, right, tolerance(torch.float32))


def test_strided_inputs_are_right(device: torch.device) -> None:
    """Catches a kernel that takes rows to lie one behind the other."""
    packed = torch.randn(6, 3, 80, device=device, requires_grad=True)
    y = swiglu(packed[:, 1, :64])
    (found,) = torch.autograd.grad(y, [packed], torch.ones(32, 6, device=device).t())
    (packed64,) = wide(packed)
    (right,) = torch.autograd.grad(reference(packed64[:, 1, :64]).sum(), [packed64])
    assert_close("dpacked", found, right, tolerance(torch.float32))


@pytest.mark.parametrize("unit", ACTIVATIONS)
def test_large_gates_saturate(unit: Activation, device: torch.device) -> None:
    """Catches an exponential that overflows where the activation is 0 or the identity."""
    gate = torch.tensor([-1e30, -1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, 1e18], device=device)
    gate_up = torch.cat((gate, torch.full_like(gate, 2.0)))[None].requires_grad_()
    y = UNITS[unit](gate_up)
    (found,) = torch.autograd.grad(y.sum(), [gate_up])
    (gate_up64,) = wide(gate_up)
    right = reference(gate_up64, unit)
    # One by one: the largest would hide the others. Below -100 both are 0 or all but 0.
    assert torch.allclose(y.double(), right, rtol=1e-5, atol=1e-30)
    (dright,) = torch.autograd.grad(right.sum(), [gate_up64])
    assert torch.allclose(found.double(), dright, rtol=1e-5, atol=1e-30)


def test_nan_stays_in_its_place(device: torch.device) -> None:
    """Catches a NaN that is hidden or spreads."""
    gate_up = torch.randn(2, 8, device=device)
    gate_up[0, 1], gate_up[1, 6] = torch.nan, torch.nan
    wrong = swiglu(gate_up).isnan()
    assert wrong.sum() == 2 and wrong[0, 1] and wrong[1, 2]


@pytest.mark.parametrize("shape", [(0, 16), (3, 0, 16)], ids=str)
def test_no_rows_give_no_rows(shape: tuple[int, ...], device: torch.device) -> None:
    """Catches an empty grid."""
    gate_up = torch.randn(shape, device=device, requires_grad=True)
    y = swiglu(gate_up)
    (found,) = torch.autograd.grad(y.sum(), [gate_up])
    assert y.shape == (*shape[:-1], 8) and found.shape == shape


@pytest.mark.parametrize("unit", ACTIVATIONS)
def test_reference_gradients_are_right(unit: Activation) -> None:
    """Catches an error in the oracle itself."""
    gate_up = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: reference(x, unit), (gate_up,))


@pytest.mark.parametrize("unit", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_needs_no_gradient_is_the_same(unit: Activation, dtype: torch.dtype) -> None:
    """Catches a product that overwrites its argument, or that is rounded otherwise or twice."""
    gate_up = torch.randn(64, 96).to(dtype)
    before, expected = gate_up.clone(), reference(gate_up, unit)
    with torch.no_grad():
        assert torch.equal(reference(gate_up, unit), expected)
    assert torch.equal(gate_up, before) and expected.dtype == dtype
    # Half a place in the last, and of fp32 some: the tail of GELU is a small difference.
    half = 1.001 * torch.finfo(dtype).eps / 2
    right = reference(gate_up.double(), unit)
    torch.testing.assert_close(expected.double(), right, rtol=max(half, 1e-5), atol=1e-6)


def test_operators_are_registered_whole(device: torch.device) -> None:
    """Catches a fake that promises another shape, dtype or stride than the kernel gives."""
    gate_up = torch.randn(3, 8, device=device, requires_grad=True)
    torch.library.opcheck(_glu, (gate_up, "silu"))
    dy = torch.randn(3, 4, device=device)
    torch.library.opcheck(_glu_backward, (dy, gate_up.detach(), "gelu"))


def test_compile_sees_through(device: torch.device) -> None:
    """Catches a graph break around the operator."""
    gate_up = torch.randn(4, 32, device=device, requires_grad=True)
    compiled = torch.compile(lambda x: swiglu(geglu(2 * x)), fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(gate_up).sum(), [gate_up])
    (right,) = torch.autograd.grad(swiglu(geglu(2 * gate_up)).sum(), [gate_up])
    assert torch.equal(found, right)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an argument that reaches a kernel and reads what isn't there."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    with pytest.raises(ValueError, match=r"^gate_up: dtype float64 .* use float32 or bfloat16$"):
        swiglu(torch.randn(3, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"^gate_up: shape \[3, 7\] should end in 2 \* ffn"):
        geglu(torch.randn(3, 7))
    with pytest.raises(ValueError, match=r"^gate_up: shape \[0\] should end in 2 \* ffn"):
        swiglu(torch.randn(0))
