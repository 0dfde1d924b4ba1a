"""RoPE of queries and keys: 8192 tokens of a packed projection, head sizes 64 to 256, bf16."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase, on_meta
from kernels.bench.checks.rope import check_cases as check_cases
from kernels.bench.peers import backward_of, compiled, liger
from kernels.rope import _launch_out_of_place, reference, rope
from kernels.rope_angles import rope_frequencies, rope_table

TOKENS = 8192
GROUPS, REPEAT = 8, 4
HEAD_SIZES = (64, 128, 256)
MODEL_HEAD_SIZES = (128,)

Rope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def traffic(tokens: int, heads: int, head_size: int, size: int = 2) -> int:
    """Bytes: `heads` of queries and keys are read and written; the fp32 tables are read."""
    return tokens * (2 * heads * head_size * size + head_size * 4)


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Query and key are read and written, and so are their gradients; the tables are read."""
    for head_size in HEAD_SIZES if sizes == "sweep" else MODEL_HEAD_SIZES:
        heads = GROUPS * (REPEAT + 1)
        moved = traffic(TOKENS, heads, head_size)
        size = f"{TOKENS} x {GROUPS * REPEAT}+{GROUPS} heads of {head_size} bf16"
        for name, prepare in (
            ("forward", _forward),
            ("in place", _in_place),
            ("backward", _backward),
        ):
            yield BenchCase(name, size, head_size, moved, 0, partial(prepare, head_size))


def compile_cases() -> Iterator[CompileCase]:
    """Both layouts of pairs and both directions, and a head size that is no power of two."""
    for head_size in (*HEAD_SIZES, 80):
        for interleaved in (False, True):
            name = f"{'interleaved ' if interleaved else ''}{head_size} bf16"
            run = on_meta(_launched, head_size, interleaved, False)
            yield CompileCase(f"forward {name}", run)
    yield CompileCase("inverse 128 bf16", on_meta(_launched, 128, False, True))


def tune_cases() -> Iterator[TuneCase]:
    """Pairs of channels a block, the heads among them, and warps."""
    for head_size in HEAD_SIZES:
        candidates = [
            {"PAIRS": pairs, "HEADS": heads, "num_warps": warps}
            for pairs in (1024, 2048, 4096, 8192)
            for heads in (4, 8, 16, 32)
            for warps in (4, 8)
            if heads * head_size // 2 <= pairs and 4 <= pairs // (32 * warps) <= 32
        ]
        yield TuneCase(
            "rope.turn", head_size, candidates, partial(_launched, head_size, False, False)
        )


def _tensors(head_size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query and key as slices of a packed projection; cos and sin."""
    width = (REPEAT + 2) * head_size
    packed = torch.randn(TOKENS, 1, GROUPS, width, dtype=torch.bfloat16, device=device)
    query, key, _ = packed.split((REPEAT * head_size, head_size, head_size), dim=3)
    positions = torch.arange(TOKENS, device=device).unsqueeze(0)
    table = rope_table(positions, rope_frequencies(head_size, 500_000.0).to(device))
    return query.unflatten(-1, (REPEAT, head_size)), key, *table


def _ropes(cos: Tensor, sin: Tensor) -> dict[str, Rope]:
    ropes: dict[str, Rope] = {
        "lyceum": partial(rope, cos=cos, sin=sin),
        "eager": partial(reference, cos=cos, sin=sin),
        "compile": partial(compiled(reference), cos=cos, sin=sin),
    }
    if (ops := liger()) is not None:
        tables = [torch.cat((table, table), dim=-1) for table in (cos, sin)]

        def turned(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
            both = (x.permute(1, 2, 0, 3) for x in (query.flatten(2, 3), key))
            found: tuple[Tensor, Tensor] = ops.LigerRopeFunction.apply(*both, *tables)
            return found

        ropes["liger"] = turned
    return ropes


def _forward(head_size: int, device: torch.device) -> Implementations:
    query, key, cos, sin = _tensors(head_size, device)
    return {name: partial(one, query, key) for name, one in _ropes(cos, sin).items()}


def _in_place(head_size: int, device: torch.device) -> Implementations:
    return {"lyceum": partial(rope, *_tensors(head_size, device), inplace=True)}


def _backward(head_size: int, device: torch.device) -> Implementations:
    query, key, cos, sin = _tensors(head_size, device)
    leaves = query.contiguous().requires_grad_(), key.contiguous().requires_grad_()
    found: Implementations = {}
    for name, one in _ropes(cos, sin).items():
        turned = one(*leaves)
        found[name] = backward_of(turned, [torch.randn_like(x) for x in turned], leaves)
    return found


def _launched(
    head_size: int, interleaved: bool, inverse: bool, device: torch.device
) -> Callable[[], object]:
    return partial(_launch_out_of_place, *_tensors(head_size, device), interleaved, inverse)
