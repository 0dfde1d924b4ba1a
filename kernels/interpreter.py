"""Triton's interpreter, patched: our kernels on CPU tensors, beside compiled ones in one process.

As shipped (Triton 3.6 and 3.7) it has five defects: fp32 is truncated to bf16, not rounded;
`tl.dot` multiplies the bit patterns of bf16 operands; a function compiled with `triton.jit` cannot
be called by an interpreted one; its patches of `triton.language` for such a call are not undone, so
that nothing compiles afterwards; and Triton 3.6 relies on a conversion that numpy 2.4 removed. A
sixth stays: arithmetic on bf16 itself works on bit patterns; our kernels compute in fp32.

Two thirds of its time went to what need not be repeated: patching the language for each function
that a kernel calls, a table of types for each block, and a check of integer overflow, ten blocks an
operation, whose result nothing reads. Here numpy makes that check, and it raises.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter as shipped
from triton.runtime.jit import JITFunction

_EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def interpreted(kernel: Any) -> Any:
    """The same kernel, run by numpy on CPU tensors: `interpreted(kernel)[grid](...)`."""
    _mend()
    return _interpreted(kernel.fn)


@cache
def _interpreted(function: Any) -> Any:
    return shipped.InterpretedFunction(function)


@cache
def _mend() -> None:
    multiply = shipped.InterpreterBuilder.create_dot

    def dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        return multiply(self, _widened(a), _widened(b), d, precision, imprecise)

    shipped.InterpreterBuilder.create_dot = dot
    convert = shipped.InterpreterBuilder.cast_impl

    def cast(self: Any, source: Any, kind: Any) -> Any:
        source = _widened(source)
        if kind.scalar != tl.bfloat16:
            return convert(self, source, kind)
        return shipped.TensorHandle(_rounded(source.data.astype(np.float32)), tl.bfloat16)

    shipped.InterpreterBuilder.cast_impl = cast
    JITFunction.__call__ = _call_from_interpreted
    patch_language = shipped._patch_lang
    # All that a kernel, or a function that it calls, may have among its globals.
    both = SimpleNamespace(__globals__={"language": tl, "core": tl.core})
    shipped._patch_lang = lambda kernel: patch_language(both)
    scalar_type = cache(shipped._get_np_dtype)
    address = np.dtype(np.uint64)
    shipped._get_np_dtype = lambda kind: (
        address if isinstance(kind.scalar, tl.pointer_type) else scalar_type(kind.scalar)
    )
    shipped.interpreter_semantic.binary_op_sanitize_overflow_impl = _refuse_overflow
    if _version(triton) < (3, 7) and _version(np) >= (2, 4):
        patch = shipped._patch_lang_tensor

        def with_index(tensor: Any, scope: Any) -> None:
            patch(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

        shipped._patch_lang_tensor = with_index


def _call_from_interpreted(function: Any, *arguments: Any, **options: Any) -> Any:
    return _interpreted(function.fn).rewrite()(*arguments, **options)


def _refuse_overflow(left: Any, right: Any, operation: Any) -> None:
    """Raise OverflowError where a sum, difference or product leaves its integer type.

    As in Triton's debug mode on a GPU, masked lanes and unsigned types count.
    """
    kind = left.type.scalar
    if kind.int_bitwidth >= 64:
        return
    exact = _EXACT[operation.__name__](*(one.handle.data.astype(np.int64) for one in (left, right)))
    if exact.max() > kind.get_int_max_value() or exact.min() < kind.get_int_min_value():
        name = operation.__name__
        raise OverflowError(
            f"{name} leaves {kind} (masked lanes count): widen its operands, or where it may wrap"
            f" use tl.{name}(..., sanitize_overflow=False)"
        )


def _widened(handle: Any) -> Any:
    """A bf16 block, which numpy holds as 16-bit patterns, as fp32."""
    if handle.dtype.scalar != tl.bfloat16:
        return handle
    bits = handle.data.astype(np.uint32) << 16
    return shipped.TensorHandle(bits.view(np.float32), tl.float32)


def _rounded(values: Any) -> Any:
    """Fp32 as the bit patterns of bf16, to the nearest and of two nearest to the even one."""
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _version(module: Any) -> tuple[int, int]:
    major, minor = module.__version__.split(".")[:2]
    return int(major), int(minor)
