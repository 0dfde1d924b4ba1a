"""The back ends of attention: which of them can run a call, and how each of them is called."""

import importlib
from types import ModuleType
from typing import Literal, cast

import torch
from torch import Tensor

from kernels.attention.operator import triton_attention
from kernels.attention.reference import reference
from kernels.attention.visible import Visible
from kernels.language import AVAILABLE

Backend = Literal["flash", "triton", "sdpa", "reference"]

BACKENDS: tuple[Backend, ...] = ("flash", "triton", "sdpa", "reference")


def _installed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


FLASH = _installed("flash_attn")
"""FlashAttention 2, where it is installed; imported here, since torch.compile cannot import."""


def available(
    query: Tensor, key: Tensor, visible: Visible, deterministic: bool = False
) -> list[Backend]:
    """The back ends that can run this call: `query` and `key` as in `attention`."""
    return [name for name in BACKENDS if not why_not(name, query, key, visible, deterministic)]


def why_not(
    backend: Backend, query: Tensor, key: Tensor, visible: Visible, deterministic: bool = False
) -> str:
    """Why the back end cannot run this call, as "it takes ..."; empty where it can.

    `query`: [queries, batch, heads, head_size]; `key`: [keys, batch, kv_heads, head_size].
    """
    head_size = query.shape[3]
    if backend == "triton" and not AVAILABLE:
        return "the package triton is not installed"
    if backend == "triton" and visible.kind == "any":
        return "it takes an interval of keys a query, not any mask"
    if backend == "triton" and (head_size % 8 != 0 or head_size > 256):
        return f"it takes heads of 8 to 256 channels in steps of 8, not {head_size}"
    if backend == "flash":
        return _why_not_flash(query, key, visible)
    if backend == "sdpa" and deterministic and query.is_cuda and torch.is_grad_enabled():
        return "its backward pass on CUDA adds in any order, and the call is to be deterministic"
    return ""


def _why_not_flash(query: Tensor, key: Tensor, visible: Visible) -> str:
    head_size = query.shape[3]
    if FLASH is None:
        return "the package flash-attn is not installed"
    if not _flash_runs_on(query.device):
        return f"it needs a GPU of compute capability 8.0 or newer, not {query.device}"
    if query.dtype != torch.bfloat16:
        return f"it takes bfloat16, not {str(query.dtype).removeprefix('torch.')}"
    if head_size % 8 != 0 or head_size > 256:
        return f"it takes heads of 8 to 256 channels in steps of 8, not {head_size}"
    if visible.kind in ("intervals", "any"):
        return "it knows whole sequences only, not a share of their queries"
    if visible.may_see_nothing or 0 in (*query.shape, *key.shape):
        return "it takes no queries that see nothing"
    return ""


def _flash_runs_on(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def run(
    backend: Backend,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visible,
    scale: float,
    deterministic: bool,
) -> Tensor:
    """Attention by that back end, which must support the call; arguments as in `attention`.

    Returns [queries, batch, heads, head_size] in the query's dtype.
    """
    if backend == "triton":
        sides = (visible.low, visible.high, visible.first, visible.last)
        return triton_attention(query, key, value, sides, scale, deterministic)[0]
    if backend == "flash":
        return _flash(query, key, value, visible, scale, deterministic)
    if backend == "sdpa":
        return _sdpa(query, key, value, visible, scale)
    return reference(query, key, value, visible, scale)[0]


def _sdpa(query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
    if visible.keys == 0:  # not every kernel behind it can
        return reference(query, key, value, visible, scale)[0]
    queries, batch, heads, _ = query.shape
    grouped = key.shape[2] != heads
    query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
    together = grouped and queries == 1
    if together:
        # The heads of a group read the same keys: as if they were its queries, they read them once.
        query, grouped = query.reshape(batch, key.shape[1], -1, query.shape[3]), False
    mask = None
    if not visible.is_causal and visible.kind != "full":
        mask = visible.mask(query.dtype)
    unseeing = None
    if mask is not None and visible.may_see_nothing:
        # A row of -inf alone would be NaN: let it see all, and drop what it saw.
        unseeing = ~visible.sees_something()[:, None, :, None]
        mask = mask.masked_fill(unseeing, 0.0)
    output = torch.nn.functional.scaled_dot_product_attention(
        *(query, key, value, mask),
        is_causal=visible.is_causal,
        scale=scale,
        enable_gqa=grouped,
    )
    if unseeing is not None:
        output = output.masked_fill(unseeing, 0.0)
    if together:
        output = output.reshape(batch, heads, 1, -1)
    return output.permute(2, 0, 1, 3)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float, deterministic: bool
) -> Tensor:
    assert FLASH is not None
    options = {
        "softmax_scale": scale,
        "causal": visible.kind != "full",
        "window_size": (-1, -1) if visible.window is None else (visible.window - 1, 0),
        "deterministic": deterministic,
    }
    query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
    if visible.kind != "documents":
        return cast(Tensor, FLASH.flash_attn_func(query, key, value, **options)).transpose(0, 1)
    bounds, longest = visible.cu_seqlens()
    output: Tensor = FLASH.flash_attn_varlen_func(
        *(tensor.flatten(0, 1) for tensor in (query, key, value)),
        *(bounds, bounds, longest, longest),
        **options,
    )
    return output.unflatten(0, query.shape[:2]).transpose(0, 1)
