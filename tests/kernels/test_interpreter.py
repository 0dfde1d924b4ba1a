"""Triton's interpreter as we mend it, and how kernels start."""

# ruff: noqa: N803  (a Triton kernel's constexpr arguments are in capitals)

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import interpreter
from kernels.gate.driver import compile_launches
from kernels.launch import compiling, launch
from tests.kernels.oracle import assert_close, tolerance


@triton.jit
def _dot(a, b, c, SIZE: tl.constexpr):
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    at = row * SIZE + column
    tl.store(c + at, tl.dot(tl.load(a + at), tl.load(b + at)))


@triton.jit
def _plus_one(values):
    return values + 1.0


@triton.jit
def _add_one(x, y, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, _plus_one(tl.load(x + at).to(tl.float32)).to(y.dtype.element_ty))


@triton.jit
def _copy(x, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < count, other=0.0)
    tl.store(y + at, values.to(y.dtype.element_ty), mask=at < count)


@triton.jit
def _square(x, y, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    values = tl.load(x + at)
    tl.store(y + at, values * values)


def squared(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    launch(_square, (1,), x, y, BLOCK=x.numel())
    return y


def product() -> tuple[Tensor, Tensor]:
    """(the interpreter's product of bf16 matrices, the right one)."""
    a, b = (torch.randn(16, 16, dtype=torch.bfloat16) for _ in range(2))
    c = torch.empty(16, 16)
    launch(_dot, (1,), a, b, c, SIZE=16)
    return c, a.double() @ b.double()


def copied(x: Tensor, dtype: torch.dtype) -> Tensor:
    y = torch.empty(x.shape, dtype=dtype)
    launch(_copy, (triton.cdiv(x.numel(), 1024),), x, y, x.numel(), BLOCK=1024)
    return y


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int16 if x.element_size() == 2 else torch.int32)


def test_bf16_products_are_right() -> None:
    """Catches the shipped interpreter's product of bit patterns, which raises no error."""
    found, right = product()
    assert_close("c", found, right, tolerance(torch.float32, terms=16))


def test_bf16_products_are_wrong_without_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: as shipped, the product is far off; else the mend is no longer needed."""
    monkeypatch.setattr(interpreter, "_widened", lambda handle: handle)
    found, right = product()
    with pytest.raises(AssertionError):
        assert_close("c", found, right, 0.1)


def test_bf16_widens_exactly() -> None:
    """Catches any of the 65536 values of bf16 changing on its way to fp32."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    found = copied(every, torch.float32)
    finite = ~every.isnan()
    assert torch.equal(bits(found[finite]), bits(every.float()[finite]))
    assert found[~finite].isnan().all()


def test_bf16_is_rounded_as_pytorch_rounds_it() -> None:
    """Catches bits cut off, ties not to even, and NaN or infinity out of a carry."""
    random = torch.randint(-(2**31), 2**31, (4096,)).to(torch.int32).view(torch.float32)
    ties = (torch.randint(-(2**15), 2**15, (512,)).to(torch.int32) << 16 | 0x8000).view(
        torch.float32
    )
    edges = torch.tensor([0.0, -0.0, 1e-45, 3.4028235e38, float("inf"), float("-inf")])
    x = torch.cat([random, ties, edges])
    found, right = copied(x, torch.bfloat16), x.bfloat16()
    assert torch.equal(found.isnan(), x.isnan())
    known = ~x.isnan()
    assert torch.equal(bits(found[known]), bits(right[known]))
    # Negative control: bits cut off would have been seen.
    cut = (bits(x) >> 16).to(torch.int16)
    assert not torch.equal(cut[known], bits(right[known]))


def test_interpreting_and_compiling_take_turns() -> None:
    """Catches what an interpreted launch does making a compilation fail, and the reverse."""
    x = torch.randn(64, dtype=torch.bfloat16)
    meta = torch.empty(64, dtype=torch.bfloat16, device="meta")
    for _ in range(2):
        y = torch.empty_like(x)
        launch(_add_one, (2,), x, y, BLOCK=32)
        assert torch.equal(y, x + 1)
        ((name, built),) = compile_launches(
            lambda: launch(_add_one, (2,), meta, torch.empty_like(meta), BLOCK=32), "sm_90"
        )
        assert name == "_add_one"
        assert built.asm["cubin"]


def test_an_error_in_an_interpreted_call_leaves_compilation_working() -> None:
    """Catches a patch that is taken back only where all goes well."""

    @triton.jit
    def fails(x, y, BLOCK: tl.constexpr):
        tl.store(y + tl.arange(0, BLOCK), _plus_one(tl.load(x + tl.arange(0, BLOCK), mask=1 / 0)))

    x = torch.zeros(8)
    with pytest.raises(Exception, match="division"):
        launch(fails, (1,), x, torch.empty_like(x), BLOCK=8)
    test_interpreting_and_compiling_take_turns()


def test_a_helper_called_by_itself_leaves_compilation_working() -> None:
    """Catches a call that leaves triton.language patched, so that nothing compiles afterwards."""
    load = tl.load
    test_interpreting_and_compiling_take_turns()  # mends, whichever test comes first
    assert _plus_one(1.0) == 2.0
    assert tl.load is load
    test_interpreting_and_compiling_take_turns()


def test_an_empty_grid_launches_nothing() -> None:
    """Catches an empty batch: CUDA refuses a grid of no programs."""
    y = torch.full((8,), 7.0)
    launch(_add_one, (0,), torch.zeros(8), y, BLOCK=8)
    launch(_add_one, (3, 0), torch.zeros(8), y, BLOCK=8)
    assert y.eq(7).all()


def test_launches_are_handed_over_where_only_compiled() -> None:
    """Catches the gate running a kernel, or a launch outside it not running any more."""
    x, y = torch.zeros(8), torch.full((8,), 7.0)
    found: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    with compiling(lambda *launched: found.append(launched)):
        launch(_add_one, (1,), x, y, BLOCK=8)
        launch(_add_one, (0,), x, y, BLOCK=8)
    assert [(kernel, constants) for kernel, _, constants in found] == [
        (_add_one, {"BLOCK": 8}),
        (_add_one, {"BLOCK": 8}),
    ]
    assert y.eq(7).all()
    launch(_add_one, (1,), x, y, BLOCK=8)
    assert y.eq(1).all()


@pytest.mark.parametrize(("dtype", "largest"), [(torch.int16, 181), (torch.int32, 46340)])
def test_an_integer_that_overflows_is_an_error(dtype: torch.dtype, largest: int) -> None:
    """Catches offsets that wrap, which the shipped interpreter computes and never looks at."""
    x = torch.tensor([-largest, 0, 3, largest], dtype=dtype)
    assert torch.equal(squared(x), x * x)
    with pytest.raises(Exception, match=f"mul leaves {str(dtype).removeprefix('torch.')}"):
        squared(x + 1)
    assert torch.equal(squared((x + 1).long()), (x + 1).long() ** 2)
