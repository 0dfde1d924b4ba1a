"""Rotary position embedding (Su et al. 2021, eq. 34) of queries and keys, in one launch.

Memory-bound: query and key are read once, in the projection's layout, and written once. Angles
come from a table, fp32 [batch, sequence, head_size / 2], computed once a micro-batch and read once
a token for all its heads: 2% of the traffic at 32 + 8 heads of 128 in bf16. Sines inside
the kernel would cost more than they save: exact ones spill registers into local memory on every
chip, approximate ones are wrong beyond a few turns, and an fp32 angle is off by 0.03 rad at
position 1,000,000 however good its sine. The table's angles are fp64.
"""

from typing import Any

import torch
from torch import Tensor

from kernels.arguments import check, check_device, check_dtype, check_last_stride, check_shape
from kernels.dispatch import use_triton
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import tile


def reference(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """`rope` in PyTorch, out of place: computed in fp32 (fp64 for fp64), rounded once.

    Returns [sequence, batch, heads, head_size] each; arguments as in `rope`.
    """
    if query.dtype == torch.float64:
        cos, sin = cos.double(), sin.double()
    cos, sin = cos.transpose(0, 1).unsqueeze(2), sin.transpose(0, 1).unsqueeze(2)
    if query.dim() == 4:
        return _turned(query, cos, sin, interleaved), _turned(key, cos, sin, interleaved)
    tables = cos.unsqueeze(2), sin.unsqueeze(2)
    both = _together(query, key) if len(query) == 1 else None
    if both is not None:
        turned = _turned(both, *tables, interleaved)
        return turned[..., :-1, :].flatten(2, 3).contiguous(), turned[..., -1, :].contiguous()
    turned_query = _turned(query, *tables, interleaved).flatten(2, 3)
    return turned_query, _turned(key, cos, sin, interleaved)


def _together(query: Tensor, key: Tensor) -> Tensor | None:
    """[sequence, batch, kv_heads, heads / kv_heads + 1, head_size], where each key stands in memory
    behind its queries, as in a projection: half the operators for a token alone. Else None.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    *rows, repeat, head_size = query.shape
    behind = query.data_ptr() + repeat * query.stride(3) * query.element_size()
    strides = query.stride()
    if key.data_ptr() != behind or key.stride() != (*strides[:3], strides[4]):
        return None
    if key.untyped_storage().data_ptr() != query.untyped_storage().data_ptr():
        return None
    return query.as_strided((*rows, repeat + 1, head_size), strides)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """x, contiguous; `cos`, `sin`: as x, with one head and half a head's size, in a dtype to
    compute in.
    """
    wide = x if x.dtype == cos.dtype else x.to(cos.dtype)
    if not (interleaved or torch.is_grad_enabled() or torch.compiler.is_compiling()):
        # Each half is written where it stands: fewer passes over memory. Rounded as below (addcmul_
        # would not): a recomputation goes there after a forward pass that went here.
        first, second = wide.chunk(2, dim=-1)
        result = torch.empty(wide.shape, dtype=wide.dtype, device=wide.device)
        upper, lower = result.chunk(2, dim=-1)
        torch.mul(first, cos, out=upper).sub_(second * sin)
        torch.mul(second, cos, out=lower).add_(first * sin)
        return result if result.dtype == x.dtype else result.to(x.dtype)
    pairs = wide.unflatten(-1, (-1, 2) if interleaved else (2, -1))
    first, second = pairs.unbind(-1 if interleaved else -2)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(turned, dim=-1 if interleaved else -2).flatten(-2).to(x.dtype)


@triton.jit
def _turn_heads(
    source,
    target,
    cos,
    sin,
    known,
    heads,
    source_group,
    source_head,
    target_group,
    target_head,
    REPEAT: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All heads of some tokens; `source` and `target` point to each token's first, [TOKENS]."""
    for start in range(0, heads, HEADS):
        head = start + tl.arange(0, HEADS)
        group, member = (head // REPEAT).to(tl.int64), (head % REPEAT).to(tl.int64)
        read = source[:, None] + (group * source_group + member * source_head)[None, :]
        write = target[:, None] + (group * target_group + member * target_head)[None, :]
        rows = (known[:, None] & (head < heads)[None, :])[:, :, None]
        if INTERLEAVED:
            channel = tl.arange(0, 2 * BLOCK)[None, None, :]
            inside = rows & (channel < 2 * HALF)
            both = tl.load(read[:, :, None] + channel, mask=inside, other=0.0).to(tl.float32)
            pairs = tl.reshape(both, (both.shape[0], HEADS, BLOCK, 2))
            first, second = tl.split(pairs)
            turned = tl.join(first * cos - second * sin, second * cos + first * sin)
            result = tl.reshape(turned, (both.shape[0], HEADS, 2 * BLOCK))
            tl.store(write[:, :, None] + channel, result.to(target.dtype.element_ty), mask=inside)
        else:
            channel = tl.arange(0, BLOCK)[None, None, :]
            inside = rows & (channel < HALF)
            read = read[:, :, None] + channel
            write = write[:, :, None] + channel
            first = tl.load(read, mask=inside, other=0.0).to(tl.float32)
            second = tl.load(read + HALF, mask=inside, other=0.0).to(tl.float32)
            result = first * cos - second * sin
            tl.store(write, result.to(target.dtype.element_ty), mask=inside)
            result = second * cos + first * sin
            tl.store(write + HALF, result.to(target.dtype.element_ty), mask=inside)


@triton.jit
def _turn(
    query,
    key,
    turned_query,
    turned_key,
    cos,
    sin,
    sequence,
    batch,
    query_heads,
    key_heads,
    query_sequence,
    query_batch,
    query_group,
    query_head,
    key_sequence,
    key_batch,
    key_head,
    turned_query_sequence,
    turned_query_batch,
    turned_query_group,
    turned_query_head,
    turned_key_sequence,
    turned_key_batch,
    turned_key_head,
    REPEAT: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    INVERSE: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """TOKENS tokens a program, all their heads; a token's neighbour is the next of the batch."""
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    place, row = token // batch, token % batch
    known = place < sequence
    channel = tl.arange(0, BLOCK)[None, :]
    angle = ((row * sequence + place) * HALF)[:, None] + channel
    inside = known[:, None] & (channel < HALF)
    cosine = tl.load(cos + angle, mask=inside, other=0.0)[:, None, :]
    sine = tl.load(sin + angle, mask=inside, other=0.0)[:, None, :]
    if INVERSE:
        sine = -sine
    _turn_heads(
        query + place * query_sequence + row * query_batch,
        turned_query + place * turned_query_sequence + row * turned_query_batch,
        cosine,
        sine,
        known,
        query_heads,
        query_group,
        query_head,
        turned_query_group,
        turned_query_head,
        REPEAT,
        HALF,
        INTERLEAVED,
        HEADS,
        BLOCK,
    )
    _turn_heads(
        key + place * key_sequence + row * key_batch,
        turned_key + place * turned_key_sequence + row * turned_key_batch,
        cosine,
        sine,
        known,
        key_heads,
        key_head,
        0,
        turned_key_head,
        0,
        1,
        HALF,
        INTERLEAVED,
        HEADS,
        BLOCK,
    )


def _launch(
    query: Tensor,
    key: Tensor,
    cos: Tensor,
    sin: Tensor,
    turned_query: Tensor,
    turned_key: Tensor,
    interleaved: bool,
    inverse: bool,
) -> None:
    """Rotate into `turned_query`, `turned_key`; `inverse` rotates by the negative angle.

    Queries are [sequence, batch, kv_heads, heads / kv_heads, head_size], keys [sequence, batch,
    kv_heads, head_size]; `cos`, `sin`: fp32 [batch, sequence, head_size / 2], contiguous.
    """
    sequence, batch, groups, repeat, head_size = query.shape
    key_heads = key.shape[2]
    half = head_size // 2
    block = triton.next_power_of_2(half)
    chosen = tile("rope.turn", head_size, query.device)
    pairs = chosen.pop("PAIRS")
    heads = min(chosen.pop("HEADS"), triton.next_power_of_2(max(key_heads, 1)))
    tokens = max(1, pairs // (heads * block))
    launch(
        _turn,
        (triton.cdiv(sequence * batch, tokens),),
        *(query, key, turned_query, turned_key, cos, sin),
        *(sequence, batch, groups * repeat, key_heads),
        *(*query.stride()[:4], *key.stride()[:3]),
        *(*turned_query.stride()[:4], *turned_key.stride()[:3]),
        REPEAT=repeat,
        HALF=half,
        INTERLEAVED=interleaved,
        INVERSE=inverse,
        TOKENS=tokens,
        HEADS=heads,
        BLOCK=block,
        **chosen,
    )


def _launch_out_of_place(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Query and key rotated, in new contiguous tensors of their shapes and dtypes."""
    turned_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    turned_key = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    _launch(query, key, cos, sin, turned_query, turned_key, interleaved, inverse)
    return turned_query, turned_key


@torch.library.custom_op("lyceum::rope", mutates_args=())
def _rope(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool
) -> tuple[Tensor, Tensor]:
    return _launch_out_of_place(query, key, cos, sin, interleaved, inverse)


@_rope.register_fake
def _(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool
) -> tuple[Tensor, Tensor]:
    turned_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    return turned_query, torch.empty(key.shape, dtype=key.dtype, device=key.device)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, cos, sin, ctx.interleaved, ctx.inverse = inputs
    ctx.save_for_backward(cos, sin)


def _differentiate(ctx: Any, dquery: Tensor, dkey: Tensor) -> tuple[Tensor | None, ...]:
    # The transpose of a rotation is its inverse. Out of place: autograd may pass the same incoming
    # gradient to other nodes too.
    turned = _rope(
        _dense(dquery), _dense(dkey), *ctx.saved_tensors, ctx.interleaved, not ctx.inverse
    )
    return *turned, None, None, None, None


_rope.register_autograd(_differentiate, setup_context=_setup)


@torch.library.custom_op("lyceum::rope_in_place", mutates_args=("query", "key"))
def _rope_in_place(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> None:
    _launch(query, key, cos, sin, query, key, interleaved, False)


@_rope_in_place.register_fake
def _(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> None:
    return None


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, interleaved: bool
    ) -> tuple[Tensor, Tensor]:
        _rope_in_place(_grouped(query), key, cos, sin, interleaved)
        ctx.mark_dirty(query, key)
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return query, key

    @staticmethod
    def backward(ctx: Any, dquery: Tensor, dkey: Tensor) -> tuple[Tensor | None, ...]:
        turned_query, turned_key = _rope(
            _grouped(_dense(dquery)), _dense(dkey), *ctx.saved_tensors, ctx.interleaved, True
        )
        return turned_query.view(dquery.shape), turned_key, None, None, None


def _dense(x: Tensor) -> Tensor:
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 else x.contiguous()


def _grouped(query: Tensor) -> Tensor:
    return query if query.dim() == 5 else query.unsqueeze(3)


def rope(
    query: Tensor,
    key: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    interleaved: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor]:
    """Rotate each head's channel pairs by the angle of its token's position.

    `query`: [sequence, batch, heads, head_size], or [sequence, batch, kv_heads, heads / kv_heads,
    head_size] as a packed projection's split leaves it; `key`: [sequence, batch, kv_heads,
    head_size]; fp32 or bf16, last stride 1, other strides free: slices of a projection are read
    without a copy. `cos`, `sin`: fp32 [batch, sequence, head_size / 2], from
    `rope_table`. Pairs are channels (i, i + head_size / 2), or (2i, 2i + 1) where `interleaved`.
    Computed in fp32, rounded once.

    Returns contiguous tensors, [sequence, batch, heads, head_size] each. `inplace` overwrites the
    arguments instead and returns them: less memory, the same traffic. Autograd cannot track two
    views of one tensor that are overwritten together: with `inplace` the arguments must be
    untracked, or neither leaves nor views. Raises ValueError for a wrong shape, dtype, stride or
    device.
    """
    _check(query, key, cos, sin)
    if inplace:
        _check_in_place("query", query)
        _check_in_place("key", key)
        if not use_triton(query):
            turned = reference(query, key, cos, sin, interleaved)
            return query.copy_(turned[0].view(query.shape)), key.copy_(turned[1])
        changed: tuple[Tensor, Tensor] = _InPlace.apply(
            query, key, cos.contiguous(), sin.contiguous(), interleaved
        )
        return changed
    if not use_triton(query):
        return reference(query, key, cos, sin, interleaved)
    turned_query, turned_key = _rope(
        _grouped(query), key, cos.contiguous(), sin.contiguous(), interleaved, False
    )
    return turned_query.flatten(2, 3), turned_key


def _check(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> None:
    check_dtype("query", query)
    check_dtype("key", key, (query.dtype,))
    check(
        query.dim() in (4, 5),
        "query: shape {}, not [sequence, batch, (groups,) heads, head_size]",
        query.shape,
    )
    sequence, batch, head_size = *query.shape[:2], query.shape[-1]
    check(head_size > 0 and head_size % 2 == 0, "query: head_size {} is not even", head_size)
    check(
        key.dim() == 4 and (*key.shape[:2], key.shape[-1]) == (sequence, batch, head_size),
        "key: shape {}, not [{}, {}, kv_heads, {}]",
        *(key.shape, sequence, batch, head_size),
    )
    for name, table in (("cos", cos), ("sin", sin)):
        check_dtype(name, table, (torch.float32,))
        words = "[batch, sequence, head_size / 2]"
        check_shape(name, table, (batch, sequence, head_size // 2), words)
        check_device(name, table, "query", query)
    check_device("key", key, "query", query)
    check_last_stride("query", query)
    check_last_stride("key", key)


def _check_in_place(name: str, x: Tensor) -> None:
    check(
        all(stride > 0 for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1),
        f"{name}: overlaps itself and cannot be turned in place",
    )
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        check(
            not (x.is_leaf or x._is_view()),
            f"{name}: is a leaf or a view that autograd tracks; leave inplace out",
        )
