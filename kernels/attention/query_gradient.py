"""The kernel of the queries' gradient, and delta, which the keys' gradients need too."""

from kernels.attention.blocks import at, load_rows, store_rows, visited, visits
from kernels.language import tl, triton


@triton.jit
def _row_gradient(
    output, gradient, lse, lse_gradient, row, queries, HAS_LSE_GRADIENT: tl.constexpr
):
    """(lse in powers of 2, delta): the scores' gradient is p * (dO V^T - delta).

    delta = sum(dO * O) - dlse; 0 in rows that saw nothing. Both are 0 in rows that do not exist.
    """
    logarithm = tl.load(lse + row, mask=row < queries, other=0.0)
    delta = tl.sum(output.to(tl.float32) * gradient.to(tl.float32), axis=1)
    if HAS_LSE_GRADIENT:
        delta -= tl.load(lse_gradient + row, mask=row < queries, other=0.0)
    delta = tl.where(logarithm == float("-inf"), 0.0, delta)
    return logarithm * 1.4426950408889634, delta


@triton.jit
def _delta(
    output,
    gradient,
    lse,
    lse_gradient,
    delta,
    queries,
    heads,
    output_row,
    output_batch,
    output_head,
    gradient_row,
    gradient_batch,
    gradient_head,
    HAS_LSE_GRADIENT: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """QUERIES queries of one head a program: delta alone, before the kernel with atomic sums."""
    slot, start = tl.program_id(0), tl.program_id(1) * QUERIES
    batch, head = slot // heads, slot % heads
    output = at(at(at(output, batch, output_batch), head, output_head), start, output_row)
    gradient = at(at(at(gradient, batch, gradient_batch), head, gradient_head), start, gradient_row)
    row = start + tl.arange(0, QUERIES)
    _, result = _row_gradient(
        load_rows(output, output_row, queries - start, HEAD, WIDTH, QUERIES, True),
        load_rows(gradient, gradient_row, queries - start, HEAD, WIDTH, QUERIES, True),
        at(lse, slot, queries),
        at(lse_gradient, slot, queries),
        row,
        queries,
        HAS_LSE_GRADIENT,
    )
    tl.store(at(delta, slot, queries) + row, result, mask=row < queries)


@triton.jit
def _sweep_keys(
    total,
    queries,
    gradients,
    lse,
    delta,
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
    """The queries' gradient over `count` blocks of keys."""
    for index in range(count):
        start = begin + index * KEYS
        if EDGE:
            start = visited(index, left, begin, resume, KEYS)
        block = load_rows(at(key, start, key_row), key_row, keys - start, HEAD, WIDTH, KEYS, EDGE)
        values = load_rows(
            at(value, start, value_row), value_row, keys - start, HEAD, WIDTH, KEYS, EDGE
        )
        scores = tl.dot(queries, tl.trans(block), input_precision="ieee")
        exponents = scores * scale - lse[:, None]
        if EDGE:
            place = start + tl.arange(0, KEYS)[None, :]
            seen = (place >= low[:, None]) & (place <= high[:, None])
            exponents = tl.where(seen, exponents, float("-inf"))
        weights = tl.exp2(exponents)
        slopes = tl.dot(gradients, tl.trans(values), input_precision="ieee")
        slopes = weights * (slopes - delta[:, None])
        total = tl.dot(slopes.to(block.dtype), block, total, input_precision="ieee")
    return total


@triton.jit
def _query_gradient(
    query,
    key,
    value,
    output,
    gradient,
    low,
    high,
    lse,
    lse_gradient,
    delta,
    result,
    queries,
    keys,
    heads,
    group,
    query_row,
    query_batch,
    query_head,
    key_row,
    key_batch,
    key_head,
    value_row,
    value_batch,
    value_head,
    output_row,
    output_batch,
    output_head,
    gradient_row,
    gradient_batch,
    gradient_head,
    side_batch,
    result_row,
    result_batch,
    result_head,
    scale,
    product_scale,
    HAS_LSE_GRADIENT: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """QUERIES queries of one head a program; also writes their delta, for the keys' gradients."""
    slot = tl.program_id(0)
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * QUERIES
    batch, head = slot // heads, slot % heads
    query = at(at(at(query, batch, query_batch), head, query_head), start, query_row)
    key = at(at(key, batch, key_batch), head // group, key_head)
    value = at(at(value, batch, value_batch), head // group, value_head)
    output = at(at(at(output, batch, output_batch), head, output_head), start, output_row)
    gradient = at(at(at(gradient, batch, gradient_batch), head, gradient_head), start, gradient_row)
    result = at(at(at(result, batch, result_batch), head, result_head), start, result_row)
    low = at(low, batch, side_batch)
    high = at(high, batch, side_batch)
    stop = tl.minimum(start + QUERIES, queries)
    middle_begin, middle, edges, left, begin, resume = visits(low, high, start, stop, KEYS)
    row = start + tl.arange(0, QUERIES)
    rows_low = tl.load(low + row, mask=row < queries, other=0)
    rows_high = tl.load(high + row, mask=row < queries, other=-1)
    gradients = load_rows(gradient, gradient_row, queries - start, HEAD, WIDTH, QUERIES, True)
    rows_lse, rows_delta = _row_gradient(
        load_rows(output, output_row, queries - start, HEAD, WIDTH, QUERIES, True),
        gradients,
        at(lse, slot, queries),
        at(lse_gradient, slot, queries),
        row,
        queries,
        HAS_LSE_GRADIENT,
    )
    tl.store(at(delta, slot, queries) + row, rows_delta, mask=row < queries)
    rows = load_rows(query, query_row, queries - start, HEAD, WIDTH, QUERIES, True)
    total = tl.zeros((QUERIES, WIDTH), tl.float32)
    total = _sweep_keys(
        total,
        rows,
        gradients,
        rows_lse,
        rows_delta,
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
    total = _sweep_keys(
        total,
        rows,
        gradients,
        rows_lse,
        rows_delta,
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
    store_rows(result, result_row, queries - start, total * product_scale, HEAD, WIDTH, QUERIES)
