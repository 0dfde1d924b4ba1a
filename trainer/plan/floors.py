"""The FLOPs and bytes of one rank's step, part by part, from the recipe alone.

Operators are fused as this trainer fuses them; what another fusion would save is a part's `spare`.
The formulas are those of the kernel benchmarks. Left out: communication between ranks, the
pipeline's bubble, and all that is smaller by the model's width (row statistics, tables, counters).
"""

from collections.abc import Iterator
from dataclasses import replace

from kernels.bench import adamw, attention, cross_entropy, glu, rms_norm, rope
from trainer.plan.part import Product, StepPart
from trainer.plan.share import RankShare
from trainer.recipe.shape import block_linears

_ADDING = "a product adds to the fp32 gradient itself"
_RECOMPUTED = {
    "attention": ("rope forward", "attention forward"),
    "swiglu": ("swiglu forward", "geglu forward"),
    "mlp": (
        *("gate and up projection forward", "swiglu forward", "geglu forward"),
        "down projection forward",
    ),
}
"""The forward parts of a layer that run again for each part of trainer.recipe.recompute."""


def step_parts(share: RankShare) -> tuple[StepPart, ...]:
    """Every part of a step, in the order in which it is first met."""
    found = [_copied(share)]
    layer = [*_attention_block(share), *_mlp_block(share), _input_gradients(share)]
    if share.first:
        found += _embedding(share)
    found += [*layer, *_recomputed_parts(share, layer)]
    if share.last:
        found += _output(share)
    found += [*_accumulation(share), *_update(share)]
    return (*found, _launches(found))


def _copied(share: RankShare) -> StepPart:
    count = 3 * share.micro_batches * share.recipe.batch.micro * share.recipe.sequence_length
    shape = f"{count} int64: tokens, labels, positions"
    return StepPart("batch to the device", "data", shape, 1, traffic=8 * count)


_LINEARS = {
    "qkv projection": "self_attention.linear_qkv",
    "attention output projection": "self_attention.linear_proj",
    "gate and up projection": "mlp.linear_fc1",
    "down projection": "mlp.linear_fc2",
}
"""How the table calls the linear layers of a block."""


def _linear(share: RankShare, name: str) -> Iterator[StepPart]:
    """The products of a linear layer that stands in every block."""
    linears = {linear.name: linear for linear in block_linears(share.recipe.model)}
    held = linears[_LINEARS[name]].of_rank(share.tensor)
    yield from _products(share, name, held.rows, held.columns, share.layers * share.micro_batches)


def _products(
    share: RankShare, name: str, columns: int, inner: int, times: int
) -> Iterator[StepPart]:
    """A linear layer's product forward and the two of its backward pass."""
    rows, size = share.tokens, share.size
    for kind, phase, product in (
        ("forward", "forward", Product(rows, inner, columns)),
        ("input gradient", "backward", Product(rows, columns, inner)),
        ("weight gradient", "backward", Product(columns, rows, inner)),
    ):
        yield StepPart(
            *(f"{name} {kind}", phase, str(product), times),
            flops=product.work,
            traffic=product.traffic(size),
            product=product,
        )


def _moved(
    name: str, phase: str, shape: str, times: int, traffic: float, spare: str = ""
) -> StepPart:
    """A memory-bound part; `spare`: the fusion that would remove it ("": none)."""
    unneeded = traffic if spare else 0.0
    return StepPart(name, phase, shape, times, traffic=traffic, spare=unneeded, mend=spare)


def _norm(
    share: RankShare, name: str, kind: str, rows: int, width: int, times: int
) -> list[StepPart]:
    tensor, shape = rows * width * share.size, f"{rows} x {width}"
    return [
        _moved(f"{name} {way}", way, shape, times, rms_norm.MOVED[kind + way] * tensor)
        for way in ("forward", "backward")
    ]


def _attention_block(share: RankShare) -> list[StepPart]:
    model, size, times = share.recipe.model, share.size, share.layers * share.micro_batches
    heads, groups = model.heads // share.tensor, model.query_groups // share.tensor
    width, tokens = model.head_width, share.tokens
    packed = (heads + 2 * groups) * width
    found = _norm(share, "input norm", "", share.rows, model.hidden, times)
    found += _linear(share, "qkv projection")
    shape = f"{tokens} x {packed}"
    if model.qkv_bias:
        bias = 2 * tokens * packed * size
        into = "the product adds it"
        found.append(_moved("qkv bias forward", "forward", shape, times, bias, into))
        found.append(_moved("qkv bias backward", "backward", shape, times, bias / 2))
    if model.qk_norm:
        found += _norm(share, "head norms", "", tokens * (heads + groups), width, times)
    turned = rope.traffic(tokens, heads + groups, width, size)
    words = f"{tokens} x {heads}+{groups} heads of {width}"
    for way in ("forward", "backward"):
        into = "attention turns queries and keys as it reads them"
        found.append(_moved(f"rope {way}", way, words, times, turned, into))
    if not (model.qk_norm or "attention" in share.recipe.recomputed or share.context > 1):
        copied, words = 2 * tokens * groups * width * size, f"{tokens} x {groups} heads of {width}"
        into = "backward of attention keeps the whole projection"
        found.append(_moved("values copied", "forward", words, times, copied, into))
    found += _core_attention(share, heads, groups, times)
    if model.softmax == "off_by_one":
        output, shape = tokens * heads * width * size, f"{tokens} x {heads} heads of {width}"
        into = "attention adds to the denominator itself"
        for way, moves in (("forward", 2), ("backward", 3)):
            found.append(_moved(f"off by one {way}", way, shape, times, moves * output, into))
    joined = 2 * tokens * packed * size
    into = "backward of rope and attention write into the packed gradient"
    found.append(_moved("qkv gradient joined", "backward", shape, times, joined, into))
    found += _linear(share, "attention output projection")
    return found


def _core_attention(share: RankShare, heads: int, groups: int, times: int) -> Iterator[StepPart]:
    recipe, width = share.recipe, share.recipe.model.head_width
    batch, length, context = recipe.batch.micro, recipe.sequence_length, share.context
    # Context ranks share the causal half evenly, and each reads all keys.
    work = attention.forward_work(batch, length, heads, width) / context * share.attended
    whole = attention.backward_work(int(work))
    shape = f"{batch} x {length}, {heads}/{groups} heads of {width}"
    tokens, size = share.tokens, share.size
    forward = attention.forward_traffic(tokens, heads, groups * context, width, size)
    backward = attention.backward_traffic(tokens, heads, groups * context, width, size)
    yield StepPart("attention forward", "forward", shape, times, flops=work, traffic=forward)
    yield StepPart(
        *("attention backward", "backward", shape, times),
        flops=2 * work,
        repeated=whole - 2 * work,
        traffic=backward,
    )


def _mlp_block(share: RankShare) -> list[StepPart]:
    model, size, times = share.recipe.model, share.size, share.layers * share.micro_batches
    ffn = model.ffn // share.tensor
    found = _norm(share, "add + norm", "add ", share.rows, model.hidden, times)
    found += _linear(share, "gate and up projection")
    half, shape = share.tokens * ffn * size, f"{share.tokens} x {ffn}"
    for way in ("forward", "backward"):
        gate = model.activation.removesuffix("_tanh")
        found.append(_moved(f"{gate} {way}", way, shape, times, glu.MOVED[way] * half))
    found += _linear(share, "down projection")
    tensor, shape = share.rows * model.hidden * size, f"{share.rows} x {model.hidden}"
    # The next norm reads the sum anyway: of three tensors that move, it saves reading one.
    into = "the next layer's norm adds"
    added = StepPart("residual add", "forward", shape, times, 0, 0, 3 * tensor, tensor, into)
    return [*found, added]


def _input_gradients(share: RankShare) -> StepPart:
    """A layer's input goes into its norm and its residual: autograd adds the two gradients."""
    hidden, times = share.recipe.model.hidden, share.layers * share.micro_batches
    tensor, shape = share.rows * hidden * share.size, f"{share.rows} x {hidden}"
    into = "backward of the norm adds the other gradient as it writes its own"
    name = "gradients of the residual stream added"
    return StepPart(name, "backward", shape, times, 0, 0, 3 * tensor, 2 * tensor, into)


def _recomputed_parts(share: RankShare, layer: list[StepPart]) -> Iterator[StepPart]:
    """The forward parts of a layer that backward recomputes."""
    recomputed = share.recipe.recomputed
    names = {name for part in recomputed for name in _RECOMPUTED.get(part, ())}
    for part in layer:
        if part.phase == "forward" and ("full" in recomputed or part.name in names):
            name = f"{part.name} again"
            yield replace(part, name=name, phase="recompute", flops=0.0, repeated=part.flops)
    if "norms" in recomputed:
        rows, hidden = share.rows, share.recipe.model.hidden
        moved = 2 * rms_norm.MOVED["forward"] * rows * hidden * share.size
        times = share.layers * share.micro_batches
        yield _moved("norms forward again", "recompute", f"2 x {rows} x {hidden}", times, moved)


def _embedding(share: RankShare) -> list[StepPart]:
    hidden, size, times = share.recipe.model.hidden, share.size, share.micro_batches
    tensor, table = share.tokens * hidden * size, share.vocab * hidden * size
    shape = f"{share.tokens} of {share.vocab} x {hidden}"
    into = "rows are looked up in the order [sequence, batch]"
    found = [
        _moved("embedding forward", "forward", shape, times, 2 * tensor),
        # A dense gradient: zeros everywhere, then the rows that were read.
        _moved("embedding backward", "backward", shape, times, tensor + table),
    ]
    if share.recipe.batch.micro > 1:  # of one sequence, both orders are the same in memory
        for name, way in (("embedding", "forward"), ("embedding gradient", "backward")):
            found.append(_moved(f"{name} transposed", way, shape, times, 2 * tensor, into))
    return found


def _output(share: RankShare) -> list[StepPart]:
    hidden, times = share.recipe.model.hidden, share.micro_batches
    found = _norm(share, "final norm", "", share.rows, hidden, times)
    name = "output layer"
    products = list(_products(share, name, share.vocab, hidden, times))
    found += [replace(part, phase="loss") for part in products]
    logits = cross_entropy.traffic(share.tokens, share.vocab, share.size)
    shape = f"{share.tokens} x {share.vocab}" + (", in chunks" if share.fused else "")
    return [*found, _moved("cross entropy", "loss", shape, times, logits)]


def _accumulation(share: RankShare) -> list[StepPart]:
    """The traffic of fp32 gradient accumulation: a bf16 gradient is cast to fp32, then added.

    The first micro-batch's gradient is stored as it is. The fused loss returns its weight's
    gradient in fp32 already; a tied embedding's two are added before they are stored.
    """
    table = share.vocab * share.recipe.model.hidden
    tied = share.recipe.model.tied_embeddings and share.first and share.last
    widened = share.weights - (table if share.last and share.fused and not tied else 0)
    shape, times = f"{share.weights} weights", share.micro_batches
    found = []
    if share.size == 2:
        words = f"{widened} of {share.weights} weights, bf16 to fp32"
        name = "gradients widened"
        found.append(_moved(name, "accumulation", words, times, 6.0 * widened, _ADDING))
    if times > 1:
        # A product that adds would read and write the sum: of 12 bytes it saves reading the other.
        spare = 4.0 * share.weights
        found.append(
            StepPart(
                *("gradients added", "accumulation", shape, times - 1, 0, 0),
                *(12.0 * share.weights, spare, _ADDING),
            )
        )
    if tied:
        words, into = f"{share.vocab} x {share.recipe.model.hidden}", "one adds to the other's sum"
        name = "tied embedding's gradients added"
        found.append(_moved(name, "accumulation", words, times, 12.0 * table, into))
    return found


def _update(share: RankShare) -> list[StepPart]:
    """The update of the weights whose optimizer state is on this rank: all, or its ZeRO shard."""
    kept = share.weights // (share.replicas if share.recipe.zero.stage else 1)
    step = adamw.MOVED["step with bf16 copy" if share.size == 2 else "step"]
    shape = f"{kept} weights"
    return [
        _moved("gradient norm", "clipping", shape, 1, adamw.MOVED["norm"] * kept),
        _moved("adamw", "optimizer", shape, 1, step * kept),
    ]


def _launches(parts: list[StepPart]) -> StepPart:
    count = sum(part.times for part in parts)
    return StepPart("launch gaps", "host", f"at least {count} launches, all of them ahead", 1)
