"""The kernel of the keys' and values' gradients; it can sum the queries' atomically too."""

from kernels.attention.blocks import at, load_rows, store_rows, visited, visits
from kernels.language import tl, triton


@triton.jit
def _sweep_queries(
    key_total,
    value_total,
    block,
    values,
    query,
    gradient,
    lse,
    delta,
    query_result,
    queries,
    group,
    query_row,
    query_head,
    gradient_row,
    gradient_head,
    result_row,
    result_head,
    first,
    last,
    scale,
    product_scale,
    count,
    left,
    begin,
    resume,
    EDGE: tl.constexpr,
    ATOMIC: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """The gradients of keys and values over `count` blocks of queries of each head in the group.

    Scores are transposed, [keys, queries], so that they enter the sums from registers.
    """
    for index in range(group * count):
        head = index // count
        start = begin + (index - head * count) * QUERIES
        if EDGE:
            start = visited(index - head * count, left, begin, resume, QUERIES)
        row = start + tl.arange(0, QUERIES)
        rows = load_rows(
            at(at(query, head, query_head), start, query_row),
            query_row,
            queries - start,
            HEAD,
            WIDTH,
            QUERIES,
            EDGE,
        )
        gradients = load_rows(
            at(at(gradient, head, gradient_head), start, gradient_row),
            gradient_row,
            queries - start,
            HEAD,
            WIDTH,
            QUERIES,
            EDGE,
        )
        if EDGE:
            rows_lse = tl.load(at(lse, head, queries) + row, mask=row < queries, other=0.0)
            rows_delta = tl.load(at(delta, head, queries) + row, mask=row < queries, other=0.0)
        else:
            rows_lse = tl.load(at(lse, head, queries) + row)
            rows_delta = tl.load(at(delta, head, queries) + row)
        scores = tl.dot(block, tl.trans(rows), input_precision="ieee")
        # 1 / ln 2: the saved logarithm is natural.
        exponents = scores * scale - (rows_lse * 1.4426950408889634)[None, :]
        if EDGE:
            seen = (row[None, :] >= first[:, None]) & (row[None, :] <= last[:, None])
            exponents = tl.where(seen, exponents, float("-inf"))
        weights = tl.exp2(exponents)
        value_total = tl.dot(
            weights.to(gradients.dtype), gradients, value_total, input_precision="ieee"
        )
        slopes = tl.dot(values, tl.trans(gradients), input_precision="ieee")
        slopes = (weights * (slopes - rows_delta[None, :])).to(rows.dtype)
        key_total = tl.dot(slopes, rows, key_total, input_precision="ieee")
        if ATOMIC:
            share = tl.dot(tl.trans(slopes), block, input_precision="ieee") * product_scale
            channel = tl.arange(0, WIDTH)[None, :]
            address = at(at(query_result, head, result_head), start, result_row)
            address = address + tl.arange(0, QUERIES)[:, None] * result_row + channel
            inside = (row[:, None] < queries) & (channel < HEAD)
            tl.atomic_add(address, share, mask=inside, sem="relaxed")
    return key_total, value_total


@triton.jit
def _key_gradient(
    query,
    key,
    value,
    gradient,
    first,
    last,
    lse,
    delta,
    query_result,
    key_result,
    value_result,
    queries,
    keys,
    kv_heads,
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
    gradient_row,
    gradient_batch,
    gradient_head,
    side_batch,
    query_result_row,
    query_result_batch,
    query_result_head,
    key_result_row,
    key_result_batch,
    key_result_head,
    scale,
    product_scale,
    ATOMIC: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """KEYS keys and values of one head a program, over all queries of its group that see them.

    With ATOMIC it adds the queries' gradient to fp32 zeros on the way. First keys come first: under
    a causal mask they take longest.
    """
    slot, start = tl.program_id(0), tl.program_id(1) * KEYS
    batch, head = slot // kv_heads, slot % kv_heads
    query = at(at(query, batch, query_batch), head * group, query_head)
    gradient = at(at(gradient, batch, gradient_batch), head * group, gradient_head)
    query_result = at(at(query_result, batch, query_result_batch), head * group, query_result_head)
    lse = at(lse, slot * group, queries)
    delta = at(delta, slot * group, queries)
    key = at(at(at(key, batch, key_batch), head, key_head), start, key_row)
    value = at(at(at(value, batch, value_batch), head, value_head), start, value_row)
    first = at(first, batch, side_batch)
    last = at(last, batch, side_batch)
    stop = tl.minimum(start + KEYS, keys)
    middle_begin, middle, edges, left, begin, resume = visits(first, last, start, stop, QUERIES)
    place = start + tl.arange(0, KEYS)
    if start + KEYS > keys:
        # Keys that do not exist need the mask everywhere: their weights could overflow.
        edges = tl.where(middle > 0, middle + edges, edges)
        left = tl.where(middle > 0, edges, left)
        middle = 0
    places_first = tl.load(first + place, mask=place < keys, other=0)
    places_last = tl.load(last + place, mask=place < keys, other=-1)
    block = load_rows(key, key_row, keys - start, HEAD, WIDTH, KEYS, True)
    values = load_rows(value, value_row, keys - start, HEAD, WIDTH, KEYS, True)
    key_total = tl.zeros((KEYS, WIDTH), tl.float32)
    value_total = tl.zeros((KEYS, WIDTH), tl.float32)
    key_total, value_total = _sweep_queries(
        key_total,
        value_total,
        block,
        values,
        query,
        gradient,
        lse,
        delta,
        query_result,
        queries,
        group,
        query_row,
        query_head,
        gradient_row,
        gradient_head,
        query_result_row,
        query_result_head,
        places_first,
        places_last,
        scale,
        product_scale,
        middle,
        middle,
        middle_begin,
        resume,
        False,
        ATOMIC,
        HEAD,
        WIDTH,
        QUERIES,
    )
    key_total, value_total = _sweep_queries(
        key_total,
        value_total,
        block,
        values,
        query,
        gradient,
        lse,
        delta,
        query_result,
        queries,
        group,
        query_row,
        query_head,
        gradient_row,
        gradient_head,
        query_result_row,
        query_result_head,
        places_first,
        places_last,
        scale,
        product_scale,
        edges,
        left,
        begin,
        resume,
        True,
        ATOMIC,
        HEAD,
        WIDTH,
        QUERIES,
    )
    key_result = at(at(key_result, batch, key_result_batch), head, key_result_head)
    value_result = at(at(value_result, batch, key_result_batch), head, key_result_head)
    key_result = at(key_result, start, key_result_row)
    value_result = at(value_result, start, key_result_row)
    key_total *= product_scale
    store_rows(key_result, key_result_row, keys - start, key_total, HEAD, WIDTH, KEYS)
    store_rows(value_result, key_result_row, keys - start, value_total, HEAD, WIDTH, KEYS)
