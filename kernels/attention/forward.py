"""The forward kernel: FlashAttention-2 (Dao 2023, algorithm 1) on intervals of visible keys.

Compute-bound: 4 x head_size FLOPs a visible (query, key) pair, so the key blocks that a query block
sees whole, nearly all of a long sequence, are visited without any mask arithmetic.
"""

import math

import torch
from torch import Tensor

from kernels.attention.blocks import at, load_rows, store_rows, visited, visits
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import tile

LOG2_E = math.log2(math.e)

RESIDENT = 16 * 2**20
"""Bytes of keys and values that programs running together should share in the L2 cache."""


@triton.jit
def _sweep(
    total,
    peak,
    mass,
    queries,
    key,
    value,
    keys,
    key_row,
    value_row,
    low,
    high,
    scale,
    count,
    left,
    begin,
    resume,
    EDGE: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Online softmax over `count` blocks of keys; peak and mass are in powers of 2."""
    for index in range(count):
        start = begin + index * KEYS
        if EDGE:
            start = visited(index, left, begin, resume, KEYS)
        block = load_rows(at(key, start, key_row), key_row, keys - start, HEAD, WIDTH, KEYS, EDGE)
        scores = tl.dot(queries, tl.trans(block), input_precision="ieee")
        if EDGE:
            place = start + tl.arange(0, KEYS)[None, :]
            seen = (place >= low[:, None]) & (place <= high[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1) * scale)
        shift = higher
        if EDGE:  # a row that has seen nothing yet: -inf minus -inf would be NaN
            shift = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores * scale - shift[:, None])
        fade = tl.exp2(peak - shift)
        mass = mass * fade + tl.sum(weights, axis=1)
        peak = higher
        values = load_rows(
            at(value, start, value_row), value_row, keys - start, HEAD, WIDTH, KEYS, EDGE
        )
        total = tl.dot(
            weights.to(values.dtype), values, total * fade[:, None], input_precision="ieee"
        )
    return total, peak, mass


@triton.jit
def _forward(
    query,
    key,
    value,
    low,
    high,
    output,
    lse,
    queries,
    keys,
    heads,
    group,
    blocks,
    section,
    query_row,
    query_batch,
    query_head,
    key_row,
    key_batch,
    key_head,
    value_row,
    value_batch,
    value_head,
    side_batch,
    output_row,
    output_batch,
    output_head,
    scale,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """QUERIES queries of one head a program.

    `section` heads are worked on together, so that their keys and values stay in the L2 cache; in
    it, the last queries come first: under a causal mask they take longest.
    """
    program = tl.program_id(0)
    place = program % (section * blocks)
    slot = program // (section * blocks) * section + place % section
    start = (blocks - 1 - place // section) * QUERIES
    batch, head = slot // heads, slot % heads
    query = at(at(at(query, batch, query_batch), head, query_head), start, query_row)
    key = at(at(key, batch, key_batch), head // group, key_head)
    value = at(at(value, batch, value_batch), head // group, value_head)
    output = at(at(at(output, batch, output_batch), head, output_head), start, output_row)
    low = at(low, batch, side_batch)
    high = at(high, batch, side_batch)
    stop = tl.minimum(start + QUERIES, queries)
    middle_begin, middle, edges, left, begin, resume = visits(low, high, start, stop, KEYS)
    row = start + tl.arange(0, QUERIES)
    rows_low = tl.load(low + row, mask=row < queries, other=0)
    rows_high = tl.load(high + row, mask=row < queries, other=-1)
    rows = load_rows(query, query_row, queries - start, HEAD, WIDTH, QUERIES, True)
    total = tl.zeros((QUERIES, WIDTH), tl.float32)
    peak = tl.full((QUERIES,), float("-inf"), tl.float32)
    mass = tl.zeros((QUERIES,), tl.float32)
    total, peak, mass = _sweep(
        total,
        peak,
        mass,
        rows,
        key,
        value,
        keys,
        key_row,
        value_row,
        rows_low,
        rows_high,
        scale,
        middle,
        middle,
        middle_begin,
        resume,
        False,
        HEAD,
        WIDTH,
        KEYS,
    )
    total, peak, mass = _sweep(
        total,
        peak,
        mass,
        rows,
        key,
        value,
        keys,
        key_row,
        value_row,
        rows_low,
        rows_high,
        scale,
        edges,
        left,
        begin,
        resume,
        True,
        HEAD,
        WIDTH,
        KEYS,
    )
    mass = tl.where(mass == 0.0, 1.0, mass)  # a row that saw nothing, whose peak is -inf
    total = total * (1.0 / mass)[:, None]
    store_rows(output, output_row, queries - start, total, HEAD, WIDTH, QUERIES)
    natural = (peak + tl.log2(mass)) * 0.6931471805599453  # ln 2
    tl.store(at(lse, slot, queries) + row, natural, mask=row < queries)


def launch_forward(
    query: Tensor, key: Tensor, value: Tensor, low: Tensor, high: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """(output [queries, batch, heads, head_size], lse fp32 [batch, heads, queries]).

    `query`: fp32 or bf16 [queries, batch, heads, head_size]; `key`, `value`: [keys, batch,
    kv_heads, head_size], last stride 1; `low`, `high`: int32 [batch, queries] (Visible).
    """
    queries, batch, heads, head_size = query.shape
    keys, _, kv_heads, _ = key.shape
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    lse = torch.empty((batch, heads, queries), dtype=torch.float32, device=query.device)
    chosen = tile(kernel_name("forward", query), head_size, query.device)
    blocks = triton.cdiv(queries, chosen["QUERIES"])
    launch(
        _forward,
        (batch * heads * blocks,),
        query,
        key,
        value,
        low,
        high,
        output,
        lse,
        queries,
        keys,
        heads,
        heads // max(kv_heads, 1),
        blocks,
        _section(key, batch * heads, heads // kv_heads),
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        low.stride(0),
        *output.stride()[:3],
        scale * LOG2_E,
        HEAD=head_size,
        WIDTH=width(head_size),
        **chosen,
    )
    return output, lse


def kernel_name(kernel: str, like: Tensor) -> str:
    """The kernel's name in the table of tiles: fp32 has no tensor cores, and its own rows."""
    return f"attention.{kernel}{'_fp32' if like.dtype == torch.float32 else ''}"


def width(head_size: int) -> int:
    """The columns of a block: a power of 2, and at least a tensor core's 16."""
    return max(16, triton.next_power_of_2(head_size))


def _section(key: Tensor, slots: int, group: int) -> int:
    """How many (batch, head) pairs run together: a divisor of all of them, whole groups."""
    pair = 2 * key.shape[0] * key.shape[3] * key.element_size()
    fit = max(1, RESIDENT // max(pair, 1))
    pairs = slots // group
    return group * max((n for n in range(1, pairs + 1) if pairs % n == 0 and n <= fit), default=1)
