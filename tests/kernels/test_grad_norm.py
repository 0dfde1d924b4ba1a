"""The norm over many gradients, and clipping by it."""

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels.grad_norm import _square_sums, clip_coefficient, grad_norm, grad_square_sum, reference
from kernels.tensor_list import CHUNK, Chunks, TensorPlans
from tests.kernels.oracle import assert_close, tolerance

SIZES = [(1,), (0,), (3, 5), (127,), (CHUNK,), (2, CHUNK), (CHUNK + 1,), ()]


def drawn(device: torch.device, mixed: bool = True) -> list[Tensor]:
    """Gradients of odd shapes; every other one bf16 where `mixed`."""
    return [
        torch.randn(shape, device=device).to(torch.bfloat16 if mixed and i % 2 else torch.float32)
        for i, shape in enumerate(SIZES)
    ]


def misaligned(x: Tensor) -> Tensor:
    """The same values one element beyond an aligned address, as a view into a flat buffer."""
    flat = torch.zeros(x.numel() + 1, dtype=x.dtype, device=x.device)
    return flat[1:].view(x.shape).copy_(x)


def exact(gradients: list[Tensor]) -> Tensor:
    return reference([x.double() for x in gradients])


def test_all_elements_of_all_tensors_are_counted_once(device: torch.device) -> None:
    """Catches chunks left out or read beyond an end, dtypes mixed up, and wrong addresses."""
    gradients = drawn(device)
    for arranged in (gradients, [misaligned(x) for x in gradients]):
        found = grad_square_sum(arranged)
        assert found.dtype == torch.float64 and found.dim() == 0
        # Each chunk is summed in fp32; their errors are random and average out.
        assert_close("sum", found, exact(gradients), tolerance(torch.float32, terms=CHUNK))
    norm = grad_norm(gradients)
    assert norm.dtype == torch.float32 and norm.dim() == 0
    assert_close("norm", norm, exact(gradients).sqrt(), tolerance(torch.float32, terms=CHUNK))


def test_what_lies_beside_a_gradient_does_not_count(device: torch.device) -> None:
    """Catches a mask that lets a neighbour in: around the gradients, everything is NaN."""
    flat = torch.full((300,), float("nan"), device=device)
    parts = [flat[7:12].view(5), flat[100:228], flat[251:252]]
    for part in parts:
        part.copy_(torch.randn_like(part))
    assert_close("norm", grad_norm(parts), exact(parts).sqrt(), tolerance(torch.float32, terms=200))


def test_layouts_in_memory_do_not_matter(device: torch.device) -> None:
    """Catches strided and expanded gradients read as if they were dense."""
    gradients = [
        torch.randn(5, 6, device=device).t(),
        torch.randn(8, 8, device=device)[:, ::3],
        torch.randn(1, 4, device=device).expand(7, 4),
    ]
    right = exact(gradients).sqrt()
    assert_close("norm", grad_norm(gradients), right, tolerance(torch.float32, terms=30))


def test_the_same_gradients_give_the_same_bits(device: torch.device) -> None:
    """Catches sums whose order is left to chance, which a resumed run cannot repeat."""
    gradients = drawn(device)
    plans = TensorPlans()
    norms = {
        grad_norm(gradients, plans=plans).item(),
        grad_norm([x.clone() for x in gradients], plans=plans).item(),
        grad_norm(gradients).item(),
    }
    assert len(norms) == 1


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_infinity_and_nan_reach_the_norm(
    device: torch.device, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a norm that hides what must make a step be skipped."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    gradients = drawn(device)
    assert grad_norm(gradients).isfinite()
    gradients[5].view(-1)[-1] = float("-inf")
    assert grad_norm(gradients).isposinf()
    gradients[0][0] = float("nan")
    assert grad_norm(gradients).isnan()
    assert grad_norm([torch.full((3,), 1e25, device=device)]).isposinf()


def test_norms_near_the_largest_number_do_not_overflow(device: torch.device) -> None:
    """Catches chunks' sums added up in fp32: 1e19 squared is 1e38, of which fp32 holds three."""
    gradients = [torch.full((1,), 1e19, device=device) for _ in range(9)]
    norm = grad_norm(gradients)
    assert_close("norm", norm, torch.tensor(3e19), 2 * tolerance(torch.float32))


def test_nothing_but_empty_tensors_has_norm_zero(device: torch.device) -> None:
    """Catches a launch on an empty grid, and its unwritten sums."""
    assert grad_norm([torch.empty(0, device=device), torch.empty(3, 0, device=device)]).item() == 0


def test_clipping_is_that_of_torch(device: torch.device) -> None:
    """Catches a clip above the norm that makes gradients larger, and 0 taken for a bound."""
    for clip in (0.5, 1e4):
        weights = [torch.nn.Parameter(torch.zeros(5, device=device)) for _ in range(3)]
        for weight in weights:
            weight.grad = torch.randn(5, device=device)
        gradients = [weight.grad.clone() for weight in weights if weight.grad is not None]
        norm = grad_norm(gradients)
        factor = clip_coefficient(norm, clip)
        assert factor.dtype == torch.float32 and factor.dim() == 0
        torch.nn.utils.clip_grad_norm_(weights, clip)
        for weight, gradient in zip(weights, gradients, strict=True):
            assert weight.grad is not None
            allowed = 4 * tolerance(torch.float32, terms=15)
            assert_close("clipped", gradient * factor, weight.grad, allowed)
        assert (factor.item() == 1.0) == (clip == 1e4)
    assert clip_coefficient(norm, 0.0).item() == 1.0
    assert math.isnan(clip_coefficient(torch.tensor(float("nan")), 1.0).item())


def test_operator_keeps_its_contract(device: torch.device) -> None:
    """Catches a fake or a schema that says other than the kernel does."""
    gradients = [torch.randn(5, device=device), torch.randn(130, device=device)]
    chunks = Chunks.of([5, 130], device)
    torch.library.opcheck(_square_sums, (gradients, chunks.owner, chunks.first, chunks.sizes))


def test_norm_is_seen_through_without_running(device: torch.device) -> None:
    """Catches addresses taken while tracing, when there are none."""
    gradients = drawn(device)
    plans = TensorPlans()
    compiled = torch.compile(
        lambda x: grad_norm(x, plans=plans), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(gradients), grad_norm(gradients))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert grad_norm([mode.from_tensor(x) for x in gradients]).shape == ()


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches mistakes that would read at a wrong address, on either path."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    with pytest.raises(ValueError, match="gradients: there are none"):
        grad_norm([])
    with pytest.raises(ValueError, match=r"gradients\[1\]: dtype float64"):
        grad_norm([torch.zeros(3), torch.zeros(3).double()])
    with pytest.raises(ValueError, match=r"gradients\[1\]: is on meta"):
        grad_norm([torch.zeros(3), torch.zeros(3, device="meta")])
    with pytest.raises(ValueError, match=r"clip: -1\.0 is negative"):
        clip_coefficient(torch.tensor(1.0), -1.0)
