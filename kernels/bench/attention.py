"""Causal attention, bf16: 32 query and 8 key heads of 128; 16k tokens in sequences of 1k to 16k."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kernels.attention import Visible, attention
from kernels.attention.backward import launch_backward, launch_fused, launch_split
from kernels.attention.forward import launch_forward
from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase
from kernels.bench.checks.attention import check_cases as check_cases
from kernels.bench.peers import backward_of, flash_attention
from kernels.tiles import tile

SHAPES = tuple((16384 // sequence, sequence) for sequence in (1024, 2048, 4096, 8192, 16384))
MODEL_SHAPES = ((1, 8192),)
"""(batch, sequence)."""
HEADS, KV_HEADS, HEAD_SIZE = 32, 8, 128

SDPA = {
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
}

Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def forward_work(batch: int, sequence: int, heads: int, head_size: int) -> int:
    """Operations of the two products of the forward pass, the causal half counted once."""
    return 2 * 2 * (sequence * sequence // 2) * head_size * heads * batch


def backward_work(forward: int) -> int:
    """Five products to the forward pass's two; one of them makes the scores again."""
    return forward * 5 // 2


def forward_traffic(tokens: int, heads: int, kv_heads: int, head_size: int, size: int = 2) -> int:
    """Bytes: reads Q, K, V; writes O. `size`: bytes an element."""
    return tokens * head_size * size * 2 * (heads + kv_heads)


def backward_traffic(tokens: int, heads: int, kv_heads: int, head_size: int, size: int = 2) -> int:
    """Bytes: reads Q, K, V, O, dO; writes dQ, dK, dV."""
    return tokens * head_size * size * 4 * (heads + kv_heads)


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """Work counts the causal half once; backward is five products to forward's two."""
    for batch, sequence in SHAPES if sizes == "sweep" else MODEL_SHAPES:
        work = forward_work(batch, sequence, HEADS, HEAD_SIZE)
        forward = forward_traffic(batch * sequence, HEADS, KV_HEADS, HEAD_SIZE)
        backward = backward_traffic(batch * sequence, HEADS, KV_HEADS, HEAD_SIZE)
        size = f"{batch} x {sequence}, {HEADS}/{KV_HEADS} heads of {HEAD_SIZE} bf16"
        yield BenchCase(
            "forward", size, sequence, forward, work, partial(_forward, batch, sequence)
        )
        yield BenchCase(
            *("backward", size, sequence, backward, backward_work(work)),
            partial(_backward, batch, sequence),
        )


_SPILLED: dict[tuple[str, int], int | None] = {
    # On an H100 these tiles took 7% less time for the whole backward than those without a spill.
    ("backward", 128): 24,
    # Five products of heads of 256 are more than sm_90's registers hold without a spill.
    ("atomic backward", 256): None,
}


def compile_cases() -> Iterator[CompileCase]:
    """The head sizes of production models; in fp32, whose products are no tensor core's, one."""
    for head_size in (64, 96, 128, 256):
        for name, run in _LAUNCHES.items():
            compile_one = partial(_compile, run, head_size, torch.bfloat16)
            spilled = _SPILLED.get((name, head_size), 0)
            yield CompileCase(
                f"{name} {head_size} bf16", compile_one, products=True, spill_bytes=spilled
            )
    with_lse = partial(_Saved.split, lse_gradient=True)
    with_lse_128 = partial(_compile, with_lse, 128, torch.bfloat16)
    spilled = _SPILLED["backward", 128]
    yield CompileCase(
        "backward with lse 128 bf16", with_lse_128, products=True, spill_bytes=spilled
    )
    for name, run in _LAUNCHES.items():
        compile_one = partial(_compile, run, 128, torch.float32)
        yield CompileCase(f"{name} 128 fp32", compile_one)


def tune_cases() -> Iterator[TuneCase]:
    """Blocks, warps and stages; the last kernel's cases also say whether it is the faster way."""
    for width in (64, 128, 256):
        for kernel, run in _TUNED.items():
            shapes = [
                {"QUERIES": queries, "KEYS": keys, "num_warps": warps, "num_stages": stages}
                for queries in (16, 32, 64, 128)
                for keys in (32, 64, 128)
                for warps in (4, 8)
                for stages in (1, 2, 3)
                if 2**11 <= queries * keys * (width // 64) <= 2**15
                and _holds(kernel, width, queries, keys, warps)
            ]
            if kernel == "fused_gradient":
                device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
                own = tile(f"attention.{kernel}", width, device) | {"ATOMIC": 0}
                shapes = [{"ATOMIC": 1} | shape for shape in shapes] + [own]
            yield TuneCase(f"attention.{kernel}", width, shapes, partial(_tuned, run, width))


def _holds(kernel: str, width: int, queries: int, keys: int, warps: int) -> bool:
    """Whether each warp has rows to work on, and its sums take at most half of its registers."""
    of_keys = kernel in ("key_gradient", "fused_gradient")
    rows, sums = (keys, 2) if of_keys else (queries, 1)
    return rows >= 8 * warps and sums * rows * width <= 128 * 32 * warps


def _tensors(
    batch: int, sequence: int, device: torch.device, *, learned: bool = False
) -> list[Tensor]:
    """[query, key, value]."""
    return [
        torch.randn(
            *(sequence, batch, heads, HEAD_SIZE),
            dtype=torch.bfloat16,
            device=device,
            requires_grad=learned,
        )
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def _functions(batch: int, sequence: int, device: torch.device) -> dict[str, Function]:
    """Each from and to [sequence, batch, heads, head_size]; those that this machine can run."""
    visible = Visible.causal(batch, sequence, device=device)
    functions: dict[str, Function] = {
        "lyceum": lambda query, key, value: attention(
            query, key, value, visible, backend="triton"
        ).view(query.shape)
    }
    for name, backend in SDPA.items():
        if _runs(partial(_sdpa, backend), device):
            functions[name] = partial(_sdpa, backend)
    if (flash := flash_attention()) is not None:
        functions["flash-attn"] = lambda *tensors: flash.flash_attn_func(
            *(tensor.transpose(0, 1) for tensor in tensors), causal=True
        ).transpose(0, 1)
    return functions


def _sdpa(backend: SDPBackend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
    grouped = backend != SDPBackend.EFFICIENT_ATTENTION
    if not grouped:  # it knows no groups: a model would have to repeat the keys each time
        key, value = (tensor.repeat_interleave(HEADS // KV_HEADS, dim=1) for tensor in (key, value))
    with sdpa_kernel(backend):
        output = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    return output.permute(2, 0, 1, 3)


def _runs(function: Function, device: torch.device) -> bool:
    try:
        function(*_tensors(1, 128, device))
    except RuntimeError:
        return False
    return True


def _forward(batch: int, sequence: int, device: torch.device) -> Implementations:
    tensors = _tensors(batch, sequence, device)
    functions = _functions(batch, sequence, device)
    return {name: partial(function, *tensors) for name, function in functions.items()}


def _backward(batch: int, sequence: int, device: torch.device) -> Implementations:
    tensors = _tensors(batch, sequence, device, learned=True)
    gradient = torch.randn_like(tensors[0])
    return {
        name: backward_of(function(*tensors), [gradient], tensors)
        for name, function in _functions(batch, sequence, device).items()
    }


class _Saved:
    """What the backward pass starts from, at one head size: a packed projection and its result."""

    def __init__(self, head_size: int, dtype: torch.dtype, device: torch.device) -> None:
        length = 8192
        projection = torch.randn(
            *(length, 1, KV_HEADS, HEADS // KV_HEADS + 2, head_size), dtype=dtype, device=device
        )
        self.key, self.value = projection[:, :, :, -2], projection[:, :, :, -1]
        self.query = torch.randn(length, 1, HEADS, head_size, dtype=dtype, device=device)
        visible = Visible.causal(1, length, device=device)
        self.sides = (visible.low, visible.high, visible.first, visible.last)
        self.scale = head_size**-0.5
        self.output = torch.empty_like(self.query)
        self.lse = torch.empty((1, HEADS, length), dtype=torch.float32, device=device)

    def forward(self) -> tuple[Tensor, Tensor]:
        low, high, _, _ = self.sides
        return launch_forward(self.query, self.key, self.value, low, high, self.scale)

    def split(self, *, lse_gradient: bool = False) -> object:
        given = self.lse if lse_gradient else None
        return launch_split(self.output, given, *self._tensors(), self.sides, self.scale)

    def fused(self) -> object:
        return launch_fused(self.output, None, *self._tensors(), self.sides, self.scale)

    def either(self) -> object:
        tensors = self._tensors()
        return launch_backward(self.output, None, *tensors, self.sides, self.scale, False)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value, self.output, self.lse


_LAUNCHES: dict[str, Callable[[_Saved], object]] = {
    "forward": _Saved.forward,
    "backward": _Saved.split,
    "atomic backward": _Saved.fused,
}

_TUNED: dict[str, Callable[[_Saved], object]] = {
    "forward": _Saved.forward,
    "query_gradient": _Saved.split,
    "key_gradient": _Saved.split,
    "fused_gradient": _Saved.either,
}


def _compile(run: Callable[[_Saved], object], head_size: int, dtype: torch.dtype) -> object:
    return run(_Saved(head_size, dtype, torch.device("meta")))


def _tuned(
    run: Callable[[_Saved], object], width: int, device: torch.device
) -> Callable[[], object]:
    saved = _Saved(width, torch.bfloat16, device)
    saved.output, saved.lse = saved.forward()
    return partial(run, saved)
